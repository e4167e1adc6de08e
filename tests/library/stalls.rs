//! Clients that are slow, stall, never read, close halfway or reset.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use baton_health::{Endpoint, Probe};

use crate::alone::{is_alone, resident_bytes, threads_named};
use crate::client::{Client, get, get_request};
use crate::scripted::{Gate, Scripted, Server};
use crate::wait::{PATIENCE, until};

pub(crate) const HALF_A_HEAD: &str = "GET /live HTTP/1.1\r\nHo";

fn healthy() -> Arc<Scripted> {
    Scripted::validate(|| Ok(()))
}

const CAP: usize = 64;
const STALLED: usize = 500;

/// Runs `probe` so many times beside 500 stalled clients that come again and again; meanwhile neither
/// threads nor memory grow.
fn beside_stalled_clients(probes: usize, mut probe: impl FnMut(SocketAddr, Endpoint)) {
    // Fewer come while one probe is on its way than there are places: none of them takes the probe's.
    const PACE: usize = CAP / 2;
    const STANDING: usize = 2;
    // Measured: 0.3 MB, whatever the number of connections. A leak of 100 bytes for each would show.
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
        // Set when this ends by a panic too: otherwise the other thread goes on for ever.
        let _done = SetOnDrop(&done);
        wait_for_all.recv().expect("all of them stall");
        let before = resident_bytes();
        let deadline = Instant::now() + 2 * PATIENCE;
        for number in 1..=probes {
            assert!(Instant::now() < deadline, "{number} of {probes} probes, and the time is up");
            probed.store(number, Ordering::SeqCst);
            probe(address, Endpoint::ALL[number % 3]);
            // The system may count one for a moment that is done already.
            while let Some(threads) = threads_named("health").filter(|threads| *threads > CAP + STANDING) {
                assert!(Instant::now() < deadline, "{threads} threads");
            }
        }
        if let (Some(before), Some(after)) = (before, resident_bytes()) {
            assert!(after < before + GROWTH, "{before} bytes, then {after}");
        }
    });
    assert_eq!(server.events(), ["healthy"], "stalled clients are no news");
}

#[test]
fn every_probe_is_answered_beside_500_stalled_clients_that_come_again_and_again() {
    if is_alone("stalls::every_probe_is_answered_beside_500_stalled_clients_that_come_again_and_again") {
        beside_stalled_clients(2000, |address, endpoint| {
            Probe::new(address).endpoint(endpoint).timeout(PATIENCE).run().unwrap_or_else(|error| panic!("{error}"));
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
    // What was sent before it stalled, what it goes on sending a byte at a time, and the answer.
    for (sent, dripped, status) in [
        ("", "", None),
        ("", "\n", Some(408)),
        (HALF_A_HEAD, "", Some(408)),
        (HALF_A_HEAD, "x", Some(408)),
        // The answer is there, but the client does not stop sending, or does not close.
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
                // The last bytes of the drip may cross with the close, which resets; the answer is there.
                let mut text = Vec::new();
                let _ = std::io::Read::read_to_end(&mut &client.0, &mut text);
                let text = String::from_utf8(text).unwrap();
                assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{sent:?}: {text:?}");
                // Writing ends in an error, and not because we stopped: the server has closed its side for good.
                until("the server to close", || dripped.is_empty() || client.send(dripped).is_err());
            }
        }
        drop(ended);
        dripping.join().unwrap();
    }
    assert_eq!(get(address, "/live").status, 200);
}

#[test]
fn whoever_owes_the_longest_gives_way() {
    let server = Server::with(healthy(), |config| config.max_connections = 8);
    let address = server.address();
    let mut oldest_first: Vec<_> = (0..24)
        .map(|_| {
            let client = Client::that_sent(address, HALF_A_HEAD);
            // An answer to a later connection shows that the stalled one has got its place.
            assert_eq!(get(address, "/live").status, 200);
            client
        })
        .collect();
    // Those between may or may not have a place: that depends on how soon the answered ones are gone.
    for kept in oldest_first.split_off(24 - 3) {
        kept.send("st: a\r\n\r\n").unwrap();
        assert_eq!(kept.answer().status, 200);
    }
    oldest_first.truncate(24 - 9);
    oldest_first.into_iter().for_each(Client::closed);
}

#[test]
fn clients_that_do_not_close_give_way_too_and_keep_their_answer() {
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
fn whoever_waits_for_the_connector_does_not_give_way() {
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
fn clients_that_do_not_read_their_answer_hold_nobody_up() {
    let server = Server::with(healthy(), |config| config.max_connections = 8);
    let idle: Vec<_> = (0..100).map(|_| Client::that_sent(server.address(), get_request("/live"))).collect();
    for _ in 0..10 {
        assert_eq!(get(server.address(), "/live").status, 200);
    }
    for client in idle {
        assert_eq!(client.answer().status, 200, "late is not too late");
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
    assert_eq!(server.events(), ["healthy"]);
}
