//! How a server shuts down, and what stops one from starting.

use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use baton_health::{Config, Endpoint, HealthServer, Probe, ProbeErrorKind};

use crate::alone::{in_own_process, threads_named};
use crate::client::{Client, get, get_request};
use crate::scripted::{Gate, Scripted, Server};
use crate::wait::{TEST_TIMEOUT, until};

const HALF_A_HEAD: &str = "GET /live HTTP/1.1\r\nHo";

#[track_caller]
fn is_refused(address: SocketAddr) {
    let failure = Probe::new(address).endpoint(Endpoint::Live).run().unwrap_err();
    assert!(matches!(failure.kind(), ProbeErrorKind::Connect(error) if error.kind() == ErrorKind::ConnectionRefused), "{failure}");
}

/// Waits until new connections are refused. Some systems must first end every `accept`, and until then may
/// still accept a connection or leave it in the backlog.
#[track_caller]
fn until_refused(address: SocketAddr) {
    let mut last = None;
    let deadline = Instant::now() + TEST_TIMEOUT;
    while last != Some(ErrorKind::ConnectionRefused) {
        assert!(Instant::now() < deadline, "connections are not refused: the last one ended in {last:?}");
        last = TcpStream::connect_timeout(&address, TEST_TIMEOUT / 60).err().map(|error| error.kind());
        thread::yield_now();
    }
}

/// Longer than anything here should take, and short enough to end a failing test.
const LONG: Duration = TEST_TIMEOUT.saturating_mul(2);

/// Drains the server, and fails if that takes as long as one of the configured timeouts.
#[track_caller]
fn drain_soon(server: &HealthServer) {
    let start = Instant::now();
    server.drain();
    assert!(start.elapsed() < TEST_TIMEOUT, "drain took {:?}", start.elapsed());
}

fn gated(gate: &Arc<Gate>) -> Arc<Scripted> {
    let gate = Arc::clone(gate);
    Scripted::validate(move || {
        gate.pass();
        Ok(())
    })
}

#[test]
fn a_drained_server_leaves_no_threads() {
    if !in_own_process("shutdown::a_drained_server_leaves_no_threads") {
        return;
    }
    for _ in 0..20 {
        let server = Server::with(Scripted::validate(|| Ok(())), |config| config.drain_timeout = LONG);
        assert_eq!(get(server.address(), "/health").status, 200);
        drain_soon(&server.server);
        is_refused(server.address());
        server.server.drain();
    }
    // The server uncounts a thread shortly before the thread ends.
    until("the threads to end", || threads_named("health").is_none_or(|count| count == 0));
}

#[test]
fn dropping_a_server_drains_it() {
    let server = Server::with(Scripted::validate(|| Ok(())), |_| {});
    let address = server.address();
    assert_eq!(get(address, "/live").status, 200);
    drop(server);
    is_refused(address);
    let mut config = Config::default();
    config.address = address;
    let again = HealthServer::bind(config).expect("the address is free again");
    assert_eq!(get(again.local_addr(), "/live").status, 200);
}

#[test]
fn answers_under_way_are_delivered() {
    let gate = Gate::new();
    let server = Server::with(gated(&gate), |config| config.drain_timeout = LONG);
    let address = server.address();
    let waiting: Vec<_> = (0..10).map(|_| Client::that_sent(address, get_request("/health"))).collect();
    gate.wait_for(1);
    // The answer to a newer connection shows that the server has read the head of every waiting one.
    assert_eq!(get(address, "/live").status, 200);
    thread::scope(|scope| {
        let draining = scope.spawn(|| drain_soon(&server.server));
        until_refused(address);
        assert!(!draining.is_finished(), "drain returned while ten clients still waited");
        gate.open();
        draining.join().unwrap();
    });
    for client in waiting {
        assert_eq!(client.answer().status, 200);
    }
}

#[test]
fn stalled_clients_do_not_delay_the_end() {
    let server = Server::with(Scripted::validate(|| Ok(())), |config| config.drain_timeout = LONG);
    let silent: Vec<_> = (0..20).map(|_| Client::connect(server.address())).collect();
    let stalled: Vec<_> = (0..20).map(|_| Client::that_sent(server.address(), HALF_A_HEAD)).collect();
    let lingering: Vec<_> =
        (0..20).map(|_| Client::that_sent(server.address(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")).collect();
    assert_eq!(get(server.address(), "/live").status, 200);
    drain_soon(&server.server);
    for client in silent {
        // The system may have dropped the connection of a silent client without telling the client.
        let _ = client.send(HALF_A_HEAD);
        client.closed();
    }
    for client in stalled {
        client.closed();
    }
    for client in lingering {
        assert_eq!(client.answer().status, 405);
    }
}

/// A drain gives idle clients a moment. If this machine takes that moment away, the next attempt may succeed.
#[test]
fn clients_that_are_still_sending_when_the_drain_begins_are_answered() {
    until("all answers", || {
        let server = Server::with(Scripted::validate(|| Ok(())), |config| config.drain_timeout = LONG);
        let address = server.address();
        // An acceptor waits for a head when few clients are idle, so the first of so many is in the waiting room.
        let clients: Vec<_> = (0..8).map(|_| Client::that_sent(address, HALF_A_HEAD)).collect();
        assert_eq!(get(address, "/live").status, 200);
        thread::scope(|scope| {
            scope.spawn(|| drain_soon(&server.server));
            until_refused(address);
            let first = &clients[0].0;
            first.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let is_open = matches!((&*first).read(&mut [0]), Err(error) if error.kind() != ErrorKind::ConnectionReset);
            first.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
            is_open
                && clients.iter().all(|client| client.send("st: a\r\n\r\n").is_ok())
                && clients.into_iter().all(|client| client.text().is_ok_and(|text| text.starts_with("HTTP/1.1 200 ")))
        })
    });
}

#[test]
fn a_client_that_does_not_close_after_a_late_answer_does_not_delay_the_end() {
    let gate = Gate::new();
    let server = Server::with(gated(&gate), |config| config.drain_timeout = LONG);
    let address = server.address();
    let client = Client::that_sent(address, "GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    gate.wait_for(1);
    thread::scope(|scope| {
        let draining = scope.spawn(|| drain_soon(&server.server));
        until_refused(address);
        // Wait longer than the drain waits for connections that are idle when it begins.
        assert!(client.0.set_read_timeout(Some(Duration::from_secs(1))).is_ok());
        let error = (&client.0).read(&mut [0]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        client.0.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        gate.open();
        draining.join().unwrap();
    });
    assert_eq!(client.answer().status, 200);
}

#[test]
fn clients_of_a_validate_that_hangs_are_answered_before_the_drain_ends() {
    let gate = Gate::new();
    let server = Server::with(gated(&gate), |config| config.drain_timeout = Duration::from_secs(1));
    let waiting: Vec<_> = (0..10).map(|_| Client::that_sent(server.address(), get_request("/health"))).collect();
    gate.wait_for(1);
    assert_eq!(get(server.address(), "/live").status, 200);
    drain_soon(&server.server);
    for client in waiting {
        let answer = client.answer();
        let reason = answer.at("details.validation_error").expect("a reason");
        assert!(answer.status == 503 && reason.starts_with("the connector is shutting down"), "{answer:?}");
    }
    gate.open();
}

#[test]
fn a_ready_that_hangs_does_not_delay_the_end() {
    let gate = Gate::new();
    let connector = Scripted::ready({
        let gate = Arc::clone(&gate);
        move || {
            gate.pass();
            Ok(())
        }
    });
    let server = Server::with(connector, |config| config.drain_timeout = Duration::from_millis(500));
    let _waiting = Client::that_sent(server.address(), get_request("/ready"));
    gate.wait_for(1);
    drain_soon(&server.server);
    is_refused(server.address());
    gate.open();
}

#[test]
fn under_load_every_answer_is_whole_or_not_begun() {
    let server = Server::with(Scripted::validate(|| Ok(())), |config| config.drain_timeout = LONG);
    let address = server.address();
    let (answered, drained) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let late = drained.load(Ordering::SeqCst);
                    match exchange(address) {
                        Ok(text) if text.is_empty() => {}
                        Ok(text) => {
                            assert!(!late, "answered after the drain");
                            assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("}\n"), "{text:?}");
                            answered.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
                        // The connection was in the backlog when the listener closed.
                        Err(error) => {
                            assert!(
                                matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
                                "neither answered nor refused: {error}"
                            )
                        }
                    }
                }
            });
        }
        until("load", || answered.load(Ordering::SeqCst) > 500);
        drain_soon(&server.server);
        drained.store(true, Ordering::SeqCst);
    });
}

fn exchange(address: SocketAddr) -> io::Result<String> {
    let client = Client(TcpStream::connect(address)?);
    client.0.set_read_timeout(Some(TEST_TIMEOUT))?;
    client.send(get_request("/live"))?;
    client.text()
}

#[test]
fn an_address_in_use_is_an_error() {
    let server = Server::start(|_| {});
    let mut config = Config::default();
    config.address = server.address();
    assert_eq!(HealthServer::bind(config.clone()).unwrap_err().kind(), ErrorKind::AddrInUse);
    config.address = "192.0.2.1:0".parse().unwrap();
    assert_eq!(HealthServer::bind(config).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn a_limit_that_makes_no_sense_is_an_error_that_names_it() {
    type Change = fn(&mut Config);
    let changes: [(Change, &str); 4] = [
        (|config| config.max_connections = 0, "max_connections must be at least 2"),
        (|config| config.max_connections = 1, "max_connections must be at least 2"),
        (|config| config.request_timeout = Duration::ZERO, "request_timeout must not be zero"),
        (|config| config.validate_timeout = Duration::ZERO, "validate_timeout must not be zero"),
    ];
    for (change, text) in changes {
        let mut config = Config::default();
        config.address.set_port(0);
        change(&mut config);
        let error = HealthServer::bind(config).unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::InvalidInput, text));
    }
}

#[test]
fn every_limit_may_have_its_largest_value() {
    let server = Server::with(Scripted::validate(|| Ok(())), |config| {
        config.max_connections = usize::MAX / 2;
        config.request_timeout = Duration::MAX;
        config.validate_timeout = Duration::MAX;
        config.validate_ttl = Duration::MAX;
        config.drain_timeout = Duration::MAX;
    });
    for path in ["/health", "/ready", "/live"] {
        assert_eq!(get(server.address(), path).status, 200);
    }
    drain_soon(&server.server);
}
