//! Clients that are slow, stall, never read, close halfway or reset.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use baton_health::{Endpoint, Probe};

use crate::alone::{in_own_process, resident_bytes, threads_named, until_all_sleep};
use crate::client::{Client, get, get_request};
use crate::scripted::{Gate, Scripted, Server};
use crate::wait::{FOREVER, TEST_TIMEOUT, times, until};

pub(crate) const HALF_A_HEAD: &str = "GET /live HTTP/1.1\r\nHo";

fn healthy() -> Arc<Scripted> {
    Scripted::validate(|| Ok(()))
}

const CAP: usize = 64;
const STALLED: usize = 500;

/// Runs `probe` so many times while 500 stalled clients keep reconnecting. Checks that threads and memory do
/// not grow.
fn with_stalled_clients(probes: usize, mut probe: impl FnMut(SocketAddr, Endpoint)) {
    // During one probe fewer clients reconnect than there are places, so they cannot evict the probe.
    const PACE: usize = CAP / 2;
    const ACCEPTORS: usize = 2;
    // Measured: 0.3 MB for any number of connections. A leak of 100 bytes for each would exceed this.
    const GROWTH: usize = 4 << 20;

    let server = Server::with(healthy(), |config| config.max_connections = CAP);
    let address = server.address();
    let (done, probed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (all_stall, wait_for_all) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut clients: Vec<_> = (0..STALLED).map(|_| Client::that_sent(address, HALF_A_HEAD)).collect();
            let _ = all_stall.send(());
            let (mut probe, mut renewed) = (0, 0);
            for client in (0..STALLED).cycle() {
                while probe == probed.load(Ordering::SeqCst) && renewed == PACE && !done.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                if done.load(Ordering::SeqCst) {
                    return;
                }
                if probe != probed.load(Ordering::SeqCst) {
                    (probe, renewed) = (probed.load(Ordering::SeqCst), 0);
                }
                clients[client] = Client::that_sent(address, HALF_A_HEAD);
                renewed += 1;
            }
        });
        // A panic must set it too, or the other thread goes on for ever.
        let _done = SetOnDrop(&done);
        wait_for_all.recv().expect("all clients stall");
        let before = resident_bytes();
        let deadline = Instant::now() + 2 * TEST_TIMEOUT;
        for number in 1..=probes {
            assert!(Instant::now() < deadline, "{number} of {probes} probes, and the time is up");
            probed.store(number, Ordering::SeqCst);
            probe(address, Endpoint::ALL[number % Endpoint::ALL.len()]);
            // The system may still count a thread that has just ended.
            while let Some(threads) = threads_named("health").filter(|threads| *threads > CAP + ACCEPTORS) {
                assert!(Instant::now() < deadline, "{threads} threads");
            }
        }
        if let (Some(before), Some(after)) = (before, resident_bytes()) {
            assert!(after < before + GROWTH, "{before} bytes, then {after}");
        }
    });
    assert_eq!(server.wait_for_events(1), ["healthy"], "stalled clients cause no event");
}

#[test]
fn every_probe_is_answered_while_500_stalled_clients_keep_reconnecting() {
    if in_own_process("stalls::every_probe_is_answered_while_500_stalled_clients_keep_reconnecting") {
        with_stalled_clients(times(2000), |address, endpoint| {
            Probe::new(address).endpoint(endpoint).timeout(TEST_TIMEOUT).run().unwrap_or_else(|error| panic!("{error}"));
        });
    }
}

pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn no_connection_outlives_its_deadline() {
    let server = Server::with(healthy(), |config| config.request_timeout = Duration::from_millis(300));
    let address = server.address();
    // What the client sends before it stalls, the byte it keeps sending afterwards, and the answer.
    for (sent, dripped, status) in [
        ("", "", None),
        ("", "\n", Some(408)),
        (HALF_A_HEAD, "", Some(408)),
        (HALF_A_HEAD, "x", Some(408)),
        // The server has answered, but the client does not stop sending, or does not close.
        ("POST /live HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n", "x", Some(405)),
        ("POST /live HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "", Some(405)),
        ("\0", "x", Some(400)),
    ] {
        let client = Client::that_sent(address, sent);
        let (ended, end) = mpsc::channel::<()>();
        let dripping = thread::spawn({
            let stream = Client(client.0.try_clone().unwrap());
            let time_for_more = move || end.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout);
            move || while time_for_more() && stream.send(dripped).is_ok() {}
        });
        match status {
            None => client.closed(),
            Some(status) => {
                // A byte that crosses with the close resets the connection, but the answer has arrived.
                let mut text = Vec::new();
                let _ = std::io::Read::read_to_end(&mut &client.0, &mut text);
                let text = String::from_utf8(text).unwrap();
                assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{sent:?}: {text:?}");
                // Once the server has closed, a write fails.
                until("the server to close", || dripped.is_empty() || client.send(dripped).is_err());
            }
        }
        drop(ended);
        dripping.join().unwrap();
    }
    assert_eq!(get(address, "/live").status, 200);
}

#[test]
fn the_oldest_idle_connection_is_evicted_first() {
    const ACCEPTORS: usize = 2;
    if !in_own_process("stalls::the_oldest_idle_connection_is_evicted_first") {
        return;
    }
    let server = Server::with(healthy(), |config| {
        config.max_connections = 8;
        // No connection ends by its deadline.
        config.request_timeout = FOREVER;
    });
    let address = server.address();
    let mut oldest_first: Vec<_> = (0..24)
        .map(|number| {
            let client = Client::that_sent(address, HALF_A_HEAD);
            // The first ones get time for their head before they get a place, and a thread with it.
            let threads = ACCEPTORS + 8.min(number + 1);
            until("a thread for the stalled client", || threads_named("health").is_none_or(|count| count >= threads));
            until_all_sleep();
            assert_eq!(get(address, "/live").status, 200);
            client
        })
        .collect();
    // The connections in the middle may have a place or not, depending on how soon the answered ones have left.
    for kept in oldest_first.split_off(24 - 3) {
        kept.send("st: a\r\n\r\n").unwrap();
        assert_eq!(kept.answer().status, 200);
    }
    oldest_first.truncate(24 - 9);
    oldest_first.into_iter().for_each(Client::closed);
}

#[test]
fn clients_that_do_not_close_are_evicted_and_keep_their_answer() {
    let server = Server::with(healthy(), |config| config.max_connections = 8);
    let address = server.address();
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
    let lingering: Vec<_> = (0..100).map(|_| Client::that_sent(address, request)).collect();
    for _ in 0..10 {
        assert_eq!(get(address, "/live").status, 200);
    }
    for (number, client) in lingering.into_iter().enumerate() {
        let text = client.text();
        assert!(text.as_ref().is_ok_and(|text| text.starts_with("HTTP/1.1 405 ")), "client {number} of 100: {text:?}");
    }
}

#[test]
fn a_connection_that_waits_for_the_connector_is_not_evicted() {
    let gate = Gate::new();
    let connector = Scripted::validate({
        let gate = Arc::clone(&gate);
        move || {
            gate.pass();
            Ok(())
        }
    });
    let server = Server::with(connector, |config| config.max_connections = 16);
    let waiting: Vec<_> = (0..2).map(|_| Client::that_sent(server.address(), get_request("/health"))).collect();
    gate.wait_for(1);
    let stalled: Vec<_> = (0..100).map(|_| Client::that_sent(server.address(), HALF_A_HEAD)).collect();
    assert_eq!(get(server.address(), "/live").status, 200);
    gate.open();
    for client in waiting {
        assert_eq!(client.answer().status, 200);
    }
    drop(stalled);
}

#[test]
fn clients_that_do_not_read_their_answer_do_not_delay_others() {
    let server = Server::with(healthy(), |config| config.max_connections = 8);
    let idle: Vec<_> = (0..100).map(|_| Client::that_sent(server.address(), get_request("/live"))).collect();
    for _ in 0..10 {
        assert_eq!(get(server.address(), "/live").status, 200);
    }
    for client in idle {
        assert_eq!(client.answer().status, 200, "a client that reads late still gets its answer");
    }
}

#[test]
fn a_client_that_closes_its_half_gets_its_answer() {
    let server = Server::with(healthy(), |_| {});
    for (sent, status) in [(get_request("/health"), 200), (get_request("/nothing"), 404), (HALF_A_HEAD.into(), 400)] {
        let client = Client::that_sent(server.address(), sent);
        client.half_close();
        assert_eq!(client.answer().status, status);
    }
    let client = Client::connect(server.address());
    client.half_close();
    client.closed();
}

#[test]
fn clients_that_reset_or_vanish_cost_nothing() {
    let server = Server::with(healthy(), |_| {});
    let address = server.address();
    for _ in 0..200 {
        // Closing with an unread answer resets the connection.
        let client = Client::that_sent(address, get_request("/live"));
        assert!(client.0.peek(&mut [0]).unwrap() == 1);
        drop(client);
        let client = Client::that_sent(address, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
        assert!(client.0.peek(&mut [0]).unwrap() == 1);
        drop(client);
        drop(Client::that_sent(address, HALF_A_HEAD));
        drop(Client::connect(address));
    }
    assert_eq!(get(address, "/health").status, 200);
    assert_eq!(server.wait_for_events(1), ["healthy"]);
}
