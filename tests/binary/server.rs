//! Servers that are not ours: what a probe may meet where it expects a connector.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use crate::program::PATIENCE;

/// A server that has one conversation.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Receiver<String>,
}

impl Server {
    /// Reads a request and does with the connection what `script` says.
    pub(crate) fn new(script: impl FnOnce(&mut TcpStream) + Send + 'static) -> Server {
        let listener = listener();
        let address = listener.local_addr().expect("it is bound");
        let (sender, requests) = mpsc::channel();
        // It ends with its conversation, or with the process.
        thread::spawn(move || {
            let Ok((mut stream, _)) = listener.accept() else { return };
            stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
            stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
            let _ = sender.send(read_head(&mut stream));
            script(&mut stream);
        });
        Server { address, requests }
    }

    /// Sends those bytes and ends its side of the connection.
    pub(crate) fn says(bytes: impl Into<Vec<u8>>) -> Server {
        let bytes = bytes.into();
        Server::new(move |stream| {
            // The client may have read enough before all of it is sent.
            let _ = stream.write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
            wait_for_close(stream);
        })
    }

    /// Sends some bytes, and then others again and again, until the client has gone.
    pub(crate) fn says_for_ever(first: impl Into<Vec<u8>>, again: impl Into<Vec<u8>>, pace: Pace) -> Server {
        let (first, again) = (first.into(), again.into());
        Server::new(move |stream| {
            let mut bytes = &first;
            while stream.write_all(bytes).is_ok() {
                bytes = &again;
                if pace == Pace::Drip && gone_meanwhile(stream) {
                    return;
                }
            }
        })
    }

    /// Keeps the connection, and says no more than this.
    pub(crate) fn stalls_after(bytes: impl Into<Vec<u8>>) -> Server {
        let bytes = bytes.into();
        Server::new(move |stream| {
            stream.write_all(&bytes).expect("the client waits");
            wait_for_close(stream);
        })
    }

    /// The request it was sent.
    pub(crate) fn request(&self) -> String {
        self.requests.recv_timeout(PATIENCE).expect("a request")
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// As fast as the client takes it.
    Flood,
    /// A little several times a second.
    Drip,
}

pub(crate) fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("loopback has a free port")
}

/// Whether nobody has ever connected.
pub(crate) fn untouched(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).expect("a socket can be made not to wait");
    listener.accept().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// An address where nobody listens, for as long as what comes with it is kept: a connection, whose
/// client's side it is. A port that was merely free a moment ago could be somebody else's by now.
pub(crate) fn nobody() -> (SocketAddr, [TcpStream; 2]) {
    let listener = listener();
    let client = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("somebody listens");
    let (accepted, address) = listener.accept().expect("somebody has connected");
    (address, [client, accepted])
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        head.extend(byte);
    }
    String::from_utf8(head).expect("a request is ASCII")
}

fn wait_for_close(stream: &mut TcpStream) {
    let _ = io::copy(stream, &mut io::sink());
}

/// Waits for a moment, which the end of the connection cuts short; and so may a machine that stands still
/// for a while, since it interrupts what waits with a timeout.
fn gone_meanwhile(stream: &mut TcpStream) -> bool {
    const STILL_THERE: [ErrorKind; 3] = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted];
    stream.set_read_timeout(Some(std::time::Duration::from_millis(100))).expect("not zero");
    !stream.read(&mut [0]).is_err_and(|error| STILL_THERE.contains(&error.kind()))
}
