//! Which connections the server closes to make room, and which it never closes.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use baton_health::{Endpoint, Probe};

use crate::alone::{in_own_process, threads_named};
use crate::client::{Client, get_request};
use crate::scripted::{Scripted, Server};
use crate::stalls::{HALF_A_HEAD, SetOnDrop};
use crate::wait::{TEST_TIMEOUT, times, until};

/// Runs `work` while busy loops take most of the processors' time.
fn beside_busy_loops(work: impl FnOnce()) {
    const LOOPS: usize = 6;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _done = SetOnDrop(&done);
        for _ in 0..LOOPS {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        work();
    });
}

#[test]
fn a_request_that_has_arrived_is_answered_although_processors_and_places_are_scarce() {
    const PLACES: usize = 8;
    const REQUESTS: usize = 100;
    if !in_own_process("eviction::a_request_that_has_arrived_is_answered_although_processors_and_places_are_scarce") {
        return;
    }
    // On one processor a new thread waits longest for its turn. If `taskset` fails, the test runs without it.
    let own = std::process::id().to_string();
    drop(Command::new("taskset").args(["--all-tasks", "--cpu-list", "--pid", "0", &own]).output());

    let server = Server::with(Scripted::validate(|| Ok(())), |config| config.max_connections = PLACES);
    let address = server.address();
    // The first client closes after its answer. The second keeps its place until the server evicts it.
    let kinds = [(get_request("/live"), 200), ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n".into(), 405)];
    beside_busy_loops(|| {
        for round in 0..times(40) {
            let stalled: Vec<_> = (0..2 * PLACES).map(|_| Client::that_sent(address, HALF_A_HEAD)).collect();
            // Only the newest request may still be on its way, and the server evicts the oldest connection.
            let clients: Vec<_> = (0..REQUESTS).map(|number| Client::that_sent(address, &kinds[number % 2].0)).collect();
            let texts: Vec<_> = clients.into_iter().map(Client::text).collect();
            let lost: Vec<_> = texts
                .iter()
                .enumerate()
                .filter(|(number, text)| {
                    let start = format!("HTTP/1.1 {} ", kinds[number % 2].1);
                    !text.as_ref().is_ok_and(|text| text.starts_with(&start))
                })
                .collect();
            assert!(lost.is_empty(), "round {round}: {} of {REQUESTS} lost, the first of them {:?}", lost.len(), lost[0]);
            drop(stalled);
        }
    });
}

/// Holds half-sent requests and renews the oldest one without pause. It gives up a connect that takes long,
/// as a flooder does not wait for a busy server. Returns the number of connections it made.
fn flood(address: SocketAddr, held: usize, may_renew: impl Fn() -> bool) -> usize {
    const CONNECT_TIMEOUT: Duration = Duration::from_millis(2);
    let mut clients: Vec<Option<TcpStream>> = Vec::new();
    clients.resize_with(held, || None);
    let mut made = 0;
    let mut oldest = 0;
    while may_renew() {
        let renewed = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).and_then(|mut stream| {
            stream.write_all(HALF_A_HEAD.as_bytes())?;
            Ok(stream)
        });
        made += usize::from(renewed.is_ok());
        clients[oldest] = renewed.ok();
        oldest = (oldest + 1) % held;
    }
    made
}

#[test]
fn no_probe_is_lost_beside_flooders_that_hold_and_renew_half_sent_requests() {
    if !in_own_process("eviction::no_probe_is_lost_beside_flooders_that_hold_and_renew_half_sent_requests") {
        return;
    }
    const FLOODERS: usize = 3;
    const HELD: usize = 160;
    const PLACES: usize = 256;
    // During one probe fewer stalled clients arrive than there are places. So even a probe that gets a processor
    // late is not the oldest idle connection.
    const WHILE_ONE_PROBE: usize = (PLACES - 16) / FLOODERS;

    let probes = times(500);
    let server = Server::with(Scripted::validate(|| Ok(())), |config| config.max_connections = PLACES);
    let address = server.address();
    let (done, probe, full) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let _done = SetOnDrop(&done);
        let flooders: Vec<_> = (0..FLOODERS)
            .map(|_| {
                let (done, probe, full) = (&done, &probe, &full);
                scope.spawn(move || {
                    let (seen, renewed) = (AtomicUsize::new(0), AtomicUsize::new(0));
                    let made = AtomicUsize::new(0);
                    flood(address, HELD, || {
                        if made.fetch_add(1, Ordering::Relaxed) == HELD {
                            full.fetch_add(1, Ordering::SeqCst);
                        }
                        loop {
                            if done.load(Ordering::SeqCst) {
                                return false;
                            }
                            let now = probe.load(Ordering::SeqCst);
                            if seen.swap(now, Ordering::Relaxed) != now {
                                renewed.store(0, Ordering::Relaxed);
                            }
                            if now == 0 || renewed.fetch_add(1, Ordering::Relaxed) < WHILE_ONE_PROBE {
                                return true;
                            }
                            thread::yield_now();
                        }
                    })
                })
            })
            .collect();
        until("every flooder to hold all its connections", || full.load(Ordering::SeqCst) == FLOODERS);
        let mut lost = Vec::new();
        for number in 1..=probes {
            probe.store(number, Ordering::SeqCst);
            if let Err(error) =
                Probe::new(address).endpoint(Endpoint::ALL[number % Endpoint::ALL.len()]).timeout(TEST_TIMEOUT).run()
            {
                lost.push(error.to_string());
            }
        }
        done.store(true, Ordering::SeqCst);
        let made: usize = flooders.into_iter().map(|flooder| flooder.join().expect("it only connects")).sum();
        assert!(made > probes, "no flood: {made} connections beside {probes} probes");
        assert!(lost.is_empty(), "{} of {probes} probes lost beside {made} stalled connections: {lost:?}", lost.len());
    });
    assert_eq!(server.wait_for_events(1), ["healthy"], "stalled clients cause no event");
}

/// In the network of `.ci/flood` a client that connects to one of these addresses has it itself.
const MACHINES: [IpAddr; 3] = [machine(1), machine(2), machine(3)];

const fn machine(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 83, 0, number))
}

#[test]
#[ignore = "needs a network with addresses of other machines: .ci/flood"]
fn the_machine_with_most_idle_connections_loses_its_oldest_first_and_loopback_last() {
    const ACCEPTORS: usize = 2;
    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let [first, second, third] = MACHINES;
    let arrivals = [LOOPBACK, LOOPBACK, first, second, second, second, first, third];
    let evicted_in_order = [3, 2, 4, 5, 6, 7, 0, 1];

    let server = Server::with(Scripted::validate(|| Ok(())), |config| {
        config.max_connections = arrivals.len();
        config.address.set_ip(Ipv4Addr::UNSPECIFIED.into());
    });
    let stalled_from = |ip| {
        let client = Client::that_sent(SocketAddr::new(ip, server.address().port()), HALF_A_HEAD);
        assert_eq!(client.0.local_addr().expect("it is connected").ip(), ip);
        client
    };
    let mut clients: Vec<_> = (ACCEPTORS + 1..)
        .zip(arrivals)
        .map(|(threads, ip)| {
            let client = stalled_from(ip);
            until("a thread for the stalled client", || threads_named("health") == Some(threads));
            Some(client)
        })
        .collect();
    let mut newest = Vec::new();
    for number in evicted_in_order {
        newest.push(stalled_from(LOOPBACK));
        clients[number].take().expect("it is evicted once").closed();
    }
    for client in newest {
        client.send("st: a\r\n\r\n").expect("it is connected");
        assert_eq!(client.answer().status, 200);
    }
}
