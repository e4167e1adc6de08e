//! The listening sockets, one for all addresses or one for each IP family, and how to stop them.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::address::{canonical, reachable};
#[cfg(unix)]
use crate::limits::BACKLOG;
#[cfg(unix)]
use crate::sys;

/// The sockets that listen on one address.
///
/// The acceptors own the sockets, so a socket is closed when its last acceptor ends.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) sockets: Vec<Arc<TcpListener>>,
    pub(crate) address: SocketAddr,
}

/// Ends the acceptors of some [`Listeners`] from outside.
#[derive(Debug)]
pub(crate) struct Stopper {
    /// Second handles on the sockets where those can be shut down. They exist from the start, since shutdown may find
    /// no free descriptor.
    sockets: Vec<(SocketAddr, Option<TcpStream>)>,
}

/// What an error of `accept` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The connection was gone before it could be accepted.
    Gone,
    /// The machine is short of descriptors or memory.
    Exhausted,
    /// The socket does not listen any more.
    Failed,
    /// Any other error, which may pass.
    Unknown,
}

/// Whether shutting down a listening socket ends every `accept` on it. Elsewhere the server connects to itself
/// once for each acceptor; tests choose that way with `--cfg baton_portable_shutdown`.
#[cfg(unix)]
const CAN_SHUT_DOWN: bool = cfg!(any(target_os = "linux", target_os = "android")) && !cfg!(baton_portable_shutdown);

impl Listeners {
    /// Listens on `address`. An unspecified address means all addresses of both IP families, or of IPv4
    /// where there is no IPv6.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Listeners> {
        let sockets = if address.ip().is_unspecified() {
            bind_all(address.port(), bind, |socket| port_if_v6_only(socket))?
        } else {
            vec![bind(canonical(address))?]
        };
        let address = sockets.first().ok_or(ErrorKind::AddrNotAvailable)?.local_addr()?;
        #[cfg(unix)]
        sockets.iter().for_each(|socket| sys::tune_listener(socket, BACKLOG, CAN_SHUT_DOWN));
        Ok(Listeners { sockets, address })
    }

    pub(crate) fn stopper(&self) -> io::Result<Stopper> {
        let mut sockets = Vec::new();
        for socket in &self.sockets {
            sockets.push((socket.local_addr()?, handle(socket)?));
        }
        Ok(Stopper { sockets })
    }
}

fn bind(address: SocketAddr) -> io::Result<Arc<TcpListener>> {
    TcpListener::bind(address).map(Arc::new)
}

/// A second handle on a socket that can be shut down. In std only a stream can be, so this wraps the descriptor in one.
fn handle(socket: &TcpListener) -> io::Result<Option<TcpStream>> {
    #[cfg(unix)]
    if CAN_SHUT_DOWN {
        return Ok(Some(TcpStream::from(std::os::fd::OwnedFd::from(socket.try_clone()?))));
    }
    #[cfg(not(unix))]
    let _ = socket;
    Ok(None)
}

/// One socket for both IP families where the system allows that, otherwise one for each family. `v6_only` returns the
/// port of an IPv6 socket that takes no IPv4 connections.
fn bind_all<S>(
    port: u16,
    bind: impl Fn(SocketAddr) -> io::Result<S>,
    v6_only: impl Fn(&S) -> io::Result<Option<u16>>,
) -> io::Result<Vec<S>> {
    const TRIES: usize = 16;
    let v4 = |port| bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let mut tries = 0;
    loop {
        tries += 1;
        let both = match bind(v6) {
            Ok(both) => both,
            // Another program may have the port only in IPv6, and binding IPv4 would succeed.
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(error),
            Err(_) => return Ok(vec![v4(port)?]),
        };
        let Some(same_port) = v6_only(&both)? else { return Ok(vec![both]) };
        match v4(same_port) {
            Ok(other) => return Ok(vec![both, other]),
            // Port 0 means any port, so try another one.
            Err(error) if error.kind() == ErrorKind::AddrInUse && port == 0 && tries < TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

/// Std deprecates the option `only_v6` because it cannot be set on a bound socket, but reading it works.
#[allow(deprecated)]
fn port_if_v6_only(socket: &TcpListener) -> io::Result<Option<u16>> {
    if socket.only_v6().unwrap_or(true) { socket.local_addr().map(|address| Some(address.port())) } else { Ok(None) }
}

impl Stopper {
    /// Ends every `accept`, and makes the system refuse new connections. Returns false where the system cannot
    /// shut down a listening socket.
    pub(crate) fn shut_down(&self) -> bool {
        let shut = |handle: &TcpStream| handle.shutdown(Shutdown::Both).is_ok();
        self.sockets.iter().all(|(_, handle)| handle.as_ref().is_some_and(shut))
    }

    /// Ends one `accept` on each socket by connecting to it.
    pub(crate) fn poke(&self, timeout: Duration) {
        for (address, _) in &self.sockets {
            // This fails once the last acceptor has closed the socket.
            let _ = TcpStream::connect_timeout(&reachable(*address), timeout);
        }
    }
}

impl Meaning {
    pub(crate) fn of(error: &io::Error) -> Meaning {
        // Most numbers are the same on every Unix. Windows has its own for descriptors and buffers.
        const EBADF: i32 = 9;
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        const ENOBUFS: i32 = if cfg!(any(target_os = "linux", target_os = "android")) { 105 } else { 55 };
        const WSAEMFILE: i32 = 10024;
        const WSAENOBUFS: i32 = 10055;
        match (error.kind(), error.raw_os_error()) {
            (ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted, _) => Meaning::Gone,
            // Another acceptor was faster: Wine ends all of them for one connection.
            (ErrorKind::WouldBlock, _) => Meaning::Gone,
            (ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown, _) => Meaning::Gone,
            // Without a number the error is std's own: some systems return no address for a peer that has gone.
            (ErrorKind::InvalidInput, None) => Meaning::Gone,
            (ErrorKind::InvalidInput, Some(_)) | (_, Some(EBADF)) => Meaning::Failed,
            (ErrorKind::OutOfMemory, _) | (_, Some(ENFILE | EMFILE | ENOBUFS | WSAEMFILE | WSAENOBUFS)) => Meaning::Exhausted,
            _ => Meaning::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

    fn listeners(address: &str) -> Listeners {
        Listeners::bind(address.parse().unwrap()).unwrap()
    }

    #[test]
    #[cfg(all(target_os = "linux", not(baton_portable_shutdown)))]
    #[cfg_attr(miri, ignore = "sockets")]
    fn shutting_down_ends_every_accept_and_refuses_new_connections() {
        let listeners = listeners("127.0.0.1:0");
        let stopper = listeners.stopper().unwrap();
        let accepting: Vec<_> = (0..3)
            .map(|_| {
                let socket = Arc::clone(&listeners.sockets[0]);
                thread::spawn(move || socket.accept().map(drop))
            })
            .collect();
        // One connection ends one `accept`. Shutting down must end the other two, even if they begin later.
        drop(TcpStream::connect(listeners.address).unwrap());
        assert!(stopper.shut_down());
        let results: Vec<_> = accepting.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(results.iter().filter(|result| result.is_err()).count() >= 2);
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(Meaning::of(error), Meaning::Failed);
        }
        assert!(TcpStream::connect_timeout(&listeners.address, CONNECT_TIMEOUT).is_err());
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn each_socket_is_connected_to_by_a_poke() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listeners = listeners(address);
            let stopper = listeners.stopper().unwrap();
            assert_eq!(stopper.sockets[0].0, listeners.address);
            let socket = Arc::clone(&listeners.sockets[0]);
            let accepting = thread::spawn(move || socket.accept().unwrap().1);
            while !accepting.is_finished() {
                stopper.poke(CONNECT_TIMEOUT);
            }
            assert!(accepting.join().unwrap().ip().to_canonical().is_loopback());
        }
    }

    #[test]
    #[cfg(not(all(target_os = "linux", not(baton_portable_shutdown))))]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_poke_ends_one_accept_and_the_last_acceptor_closes_the_socket() {
        let mut listeners = listeners("127.0.0.1:0");
        let stopper = listeners.stopper().unwrap();
        let socket = listeners.sockets.pop().unwrap();
        let accepting = thread::spawn(move || socket.accept().map(drop));
        assert!(!stopper.shut_down());
        stopper.poke(CONNECT_TIMEOUT);
        accepting.join().unwrap().unwrap();
        assert!(TcpStream::connect_timeout(&listeners.address, CONNECT_TIMEOUT).is_err());
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn an_unspecified_address_listens_on_both_families() {
        let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
        for address in ["0.0.0.0:0", "[::]:0"] {
            let listeners = listeners(address);
            let port = listeners.address.port();
            for (client, reached) in [("127.0.0.1", true), ("[::1]", has_ipv6)] {
                let connected = TcpStream::connect(format!("{client}:{port}"));
                assert_eq!(connected.is_ok(), reached, "{client} to {address}: {connected:?}");
            }
            assert_eq!(listeners.address.is_ipv6(), has_ipv6, "{}", listeners.address);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn an_ipv4_mapped_address_listens_on_ipv4() {
        let listeners = listeners("[::ffff:127.0.0.1]:0");
        assert_eq!(listeners.address.ip(), Ipv4Addr::LOCALHOST);
        TcpStream::connect(listeners.address).unwrap();
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn an_address_that_is_taken_is_an_error() {
        for address in ["127.0.0.1", "0.0.0.0", "[::]"] {
            let first = listeners(&format!("{address}:0"));
            let second = Listeners::bind(format!("{address}:{}", first.address.port()).parse().unwrap());
            assert_eq!(second.unwrap_err().kind(), ErrorKind::AddrInUse, "{address}");
        }
    }

    #[test]
    fn each_ip_family_has_a_socket_where_one_does_not_take_both() {
        use ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
        type Outcome = Result<(), ErrorKind>;
        const TAKEN: Outcome = Err(AddrInUse);
        let sixteen_times = [Ok(()), TAKEN].repeat(16);
        let seventeen_times = [&[Ok(()), TAKEN].repeat(15)[..], &[Ok(()), Ok(())]].concat();
        // The port, whether IPv6 sockets take IPv4 as well, what each bind returns, and how many sockets there are.
        type Row<'a> = (u16, bool, &'a [Outcome], Result<usize, ErrorKind>);
        let rows: [Row<'_>; 10] = [
            (80, true, &[Ok(())], Ok(1)),
            (80, false, &[Ok(()), Ok(())], Ok(2)),
            (80, true, &[TAKEN], Err(AddrInUse)),
            (80, true, &[Err(AddrNotAvailable), Ok(())], Ok(1)),
            (80, true, &[Err(AddrNotAvailable), TAKEN], Err(AddrInUse)),
            (80, false, &[Ok(()), TAKEN], Err(AddrInUse)),
            (0, false, &[Ok(()), TAKEN, Ok(()), Ok(())], Ok(2)),
            (0, false, &[Ok(()), Err(PermissionDenied)], Err(PermissionDenied)),
            (0, false, &seventeen_times, Ok(2)),
            (0, false, &sixteen_times, Err(AddrInUse)),
        ];
        for (port, takes_both, results, expected) in rows {
            let bound = std::cell::RefCell::new(Vec::new());
            let bind = |address: SocketAddr| {
                bound.borrow_mut().push(address);
                results[bound.borrow().len() - 1].map(|()| address).map_err(io::Error::from)
            };
            let sockets = bind_all(port, bind, |_| Ok((!takes_both).then_some(8000)));
            assert_eq!(sockets.map(|sockets| sockets.len()).map_err(|error| error.kind()), expected, "{results:?}");
            let bound = bound.into_inner();
            assert_eq!(bound.len(), results.len(), "{results:?}");
            let same_port = if takes_both { port } else { 8000 };
            for address in bound {
                let expected = if address.is_ipv6() { port } else { same_port };
                assert!(address.ip().is_unspecified() && address.port() == expected, "{address}");
            }
        }
    }

    #[test]
    fn errors_of_accept_are_classified() {
        #[cfg(unix)]
        const NUMBERS: [(i32, Meaning); 3] = [(1, Meaning::Unknown), (22, Meaning::Failed), (24, Meaning::Exhausted)];
        #[cfg(windows)]
        const NUMBERS: [(i32, Meaning); 3] = [(10013, Meaning::Unknown), (10022, Meaning::Failed), (10024, Meaning::Exhausted)];
        for (error, meaning) in [
            (io::Error::from(ErrorKind::ConnectionAborted), Meaning::Gone),
            (io::Error::from(ErrorKind::ConnectionReset), Meaning::Gone),
            (io::Error::from(ErrorKind::HostUnreachable), Meaning::Gone),
            (io::Error::from(ErrorKind::NetworkUnreachable), Meaning::Gone),
            (io::Error::from(ErrorKind::NetworkDown), Meaning::Gone),
            #[cfg(unix)]
            (io::Error::from_raw_os_error(9), Meaning::Failed),
            #[cfg(unix)]
            (io::Error::from_raw_os_error(23), Meaning::Exhausted),
            #[cfg(target_os = "linux")]
            (io::Error::from_raw_os_error(105), Meaning::Exhausted),
            (io::Error::from(ErrorKind::Interrupted), Meaning::Gone),
            (io::Error::from(ErrorKind::WouldBlock), Meaning::Gone),
            (io::Error::from(ErrorKind::InvalidInput), Meaning::Gone),
            (io::Error::from(ErrorKind::OutOfMemory), Meaning::Exhausted),
        ] {
            assert_eq!(Meaning::of(&error), meaning, "{error}");
        }
        // Not permitted, invalid, too many open.
        for (number, meaning) in NUMBERS {
            let error = io::Error::from_raw_os_error(number);
            assert_eq!(Meaning::of(&error), meaning, "{error}");
        }
    }
}
