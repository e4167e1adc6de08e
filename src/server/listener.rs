//! A listener that many threads stand in `accept` on, and that can be stopped from outside.

use std::io::{self, ErrorKind};
#[cfg(unix)]
use std::net::Shutdown;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::address::reachable;

#[derive(Debug)]
pub(crate) struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    /// A second handle on the same socket, made when there still are descriptors to be had.
    #[cfg(unix)]
    handle: TcpStream,
}

/// What an error of `accept` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The connection was gone before it could be taken: the next one.
    Gone,
    /// The machine is short of something: later.
    Short,
    /// This is no listening socket any more, and no waiting will make it one.
    Dead,
}

impl Listener {
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Listener> {
        let listener = TcpListener::bind(address)?;
        Ok(Listener {
            address: listener.local_addr()?,
            // Shutting down a socket is a method of streams only; the descriptor does not mind.
            #[cfg(unix)]
            handle: TcpStream::from(std::os::fd::OwnedFd::from(listener.try_clone()?)),
            listener,
        })
    }

    /// The address with the real port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.listener.accept()
    }

    /// Ends every `accept`, and has new connections refused. False where the system does not do
    /// that for a socket that listens: Linux does.
    pub(crate) fn stop(&self) -> bool {
        #[cfg(unix)]
        return cfg!(any(target_os = "linux", target_os = "android")) && self.handle.shutdown(Shutdown::Both).is_ok();
        #[cfg(not(unix))]
        return false;
    }

    /// Ends one `accept`, by a connection; false if none could be made in time.
    pub(crate) fn poke(&self, timeout: Duration) -> bool {
        TcpStream::connect_timeout(&reachable(self.address), timeout).is_ok()
    }
}

impl Meaning {
    pub(crate) fn of(error: &io::Error) -> Meaning {
        // EBADF has the same number wherever there are numbers; EINVAL comes as `InvalidInput`.
        const EBADF: i32 = 9;
        const ENOTSOCK: i32 = if cfg!(any(target_os = "linux", target_os = "android")) { 88 } else { 38 };
        match (error.kind(), error.raw_os_error()) {
            (ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted, _) => Meaning::Gone,
            (ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown, _) => Meaning::Gone,
            // Without a number it is std's own: some systems have no address for a peer that has gone.
            (ErrorKind::InvalidInput, None) => Meaning::Gone,
            (ErrorKind::InvalidInput, Some(_)) | (_, Some(EBADF | ENOTSOCK)) => Meaning::Dead,
            _ => Meaning::Short,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    fn listener() -> Arc<Listener> {
        Arc::new(Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap())
    }

    #[test]
    #[cfg(target_os = "linux")]
    #[cfg_attr(miri, ignore = "sockets")]
    fn stopping_ends_every_accept_and_refuses_what_comes() {
        let listener = listener();
        let standing: Vec<_> = (0..3)
            .map(|_| {
                let listener = Arc::clone(&listener);
                thread::spawn(move || listener.accept().map(drop))
            })
            .collect();
        // A connection that is accepted shows that somebody stood there; the others do or will.
        assert!(listener.poke(Duration::from_secs(30)));
        assert!(listener.stop());
        let results: Vec<_> = standing.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(results.iter().filter(|result| result.is_err()).count() >= 2);
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(Meaning::of(error), Meaning::Dead);
        }
        assert!(!listener.poke(Duration::from_secs(30)));
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_poke_ends_one_accept() {
        let listener = listener();
        let standing = thread::spawn({
            let listener = Arc::clone(&listener);
            move || listener.accept().map(drop)
        });
        assert!(listener.poke(Duration::from_secs(30)));
        standing.join().unwrap().unwrap();
    }

    #[test]
    fn errors_of_accept_mean_what_the_system_says_of_them() {
        const EMFILE: i32 = 24;
        const EINVAL: i32 = 22;
        for (error, meaning) in [
            (io::Error::from(ErrorKind::ConnectionAborted), Meaning::Gone),
            (io::Error::from(ErrorKind::Interrupted), Meaning::Gone),
            (io::Error::from_raw_os_error(EMFILE), Meaning::Short),
            (io::Error::from(ErrorKind::OutOfMemory), Meaning::Short),
            (io::Error::from(ErrorKind::PermissionDenied), Meaning::Short),
            (io::Error::from(ErrorKind::InvalidInput), Meaning::Gone),
            (io::Error::from_raw_os_error(EINVAL), Meaning::Dead),
        ] {
            assert_eq!(Meaning::of(&error), meaning, "{error}");
        }
    }
}
