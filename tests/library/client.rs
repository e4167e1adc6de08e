//! A client that sends any bytes at any time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::json::{self, Json};
use crate::wait::TEST_TIMEOUT;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the fields, without the empty line after them.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    fn parse(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
        let code = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
        let status = code.unwrap_or_else(|| panic!("no status: {text:?}"));
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// The only field of that name, in this spelling.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values =
            self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(": ")).filter(|(other, _)| *other == name);
        let value = values.next().map(|(_, value)| value);
        assert!(values.next().is_none(), "{name} twice: {self:?}");
        value
    }

    /// A member of the body by its path, such as `details.error`.
    pub(crate) fn at(&self, path: &str) -> Option<String> {
        self.json().at(path).map(str::to_owned)
    }

    fn json(&self) -> Json {
        let line = self.body.strip_suffix('\n').unwrap_or_else(|| panic!("no newline at the end: {self:?}"));
        json::parse(line).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&address, TEST_TIMEOUT).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("not zero");
        stream.set_write_timeout(Some(TEST_TIMEOUT)).expect("not zero");
        stream.set_nodelay(true).expect("a socket");
        Client(stream)
    }

    /// A client that has connected and sent these bytes.
    pub(crate) fn that_sent(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Client {
        let client = Client::connect(address);
        client.send(bytes).expect("the server takes it");
        client
    }

    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        (&self.0).write_all(bytes.as_ref())
    }

    pub(crate) fn half_close(&self) {
        self.0.shutdown(Shutdown::Write).expect("a connected socket");
    }

    /// Everything that the server sends until it closes its side.
    pub(crate) fn text(mut self) -> io::Result<String> {
        let mut text = String::new();
        self.0.read_to_string(&mut text).map(|_| text)
    }

    /// The answer. Panics if the connection ends in a reset.
    #[track_caller]
    pub(crate) fn answer(self) -> Answer {
        Answer::parse(&self.text().expect("an answer to its end"))
    }

    /// Waits until the server closes without an answer. It may also reset the connection.
    #[track_caller]
    pub(crate) fn closed(self) {
        match self.text() {
            Ok(text) => assert_eq!(text, ""),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }
}

/// An ordinary request.
pub(crate) fn get_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

pub(crate) fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    Client::that_sent(address, request).answer()
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, get_request(path))
}
