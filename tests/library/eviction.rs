//! Who is closed to make room, and who never is.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use baton_health::{Endpoint, Probe};

use crate::alone::is_alone;
use crate::client::{Client, get_request};
use crate::scripted::{Scripted, Server};
use crate::stalls::{HALF_A_HEAD, SetOnDrop};

/// Leaves little of the processors to `work`, for as long as it takes.
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
fn a_request_that_has_arrived_is_answered_however_short_time_and_places_are() {
    const PLACES: usize = 8;
    const ROUNDS: usize = 40;
    const REQUESTS: usize = 100;
    if !is_alone("eviction::a_request_that_has_arrived_is_answered_however_short_time_and_places_are") {
        return;
    }
    // On one processor a thread that has just been started waits longest. Where that cannot be had, it goes without.
    let own = std::process::id().to_string();
    drop(Command::new("taskset").args(["--all-tasks", "--cpu-list", "--pid", "0", &own]).output());

    let server = Server::with(Scripted::validate(|| Ok(())), |config| config.max_connections = PLACES);
    let address = server.address();
    // One that closes when it has its answer, and one that keeps its place until it is evicted.
    let kinds = [(get_request("/live"), 200), ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n".into(), 405)];
    beside_busy_loops(|| {
        for round in 0..ROUNDS {
            let stalled: Vec<_> = (0..2 * PLACES).map(|_| Client::that_sent(address, HALF_A_HEAD)).collect();
            // Only the newest can be one whose request has not arrived yet, and that one is never the oldest.
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

/// Half-sent requests, held and renewed without pause, the oldest first. A connect that takes long is
/// given up: such a client does not wait for a server that is busy.
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
    if !is_alone("eviction::no_probe_is_lost_beside_flooders_that_hold_and_renew_half_sent_requests") {
        return;
    }
    const PROBES: usize = 500;
    // What Kubernetes waits when nothing else is said: a connect whose first packet was dropped takes longer.
    const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
    const FLOODERS: usize = 3;
    const HELD: usize = 160;
    const PLACES: usize = 256;
    // While one probe is on its way, fewer than the places come: however late the probe gets a processor,
    // it is not the connection that has been idle longest. A probe that is answered at once never sees this limit.
    const WHILE_ONE_PROBE: usize = (PLACES - 16) / FLOODERS;

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
        crate::wait::until("every flooder to hold all it holds", || full.load(Ordering::SeqCst) == FLOODERS);
        let mut lost = Vec::new();
        for number in 1..=PROBES {
            probe.store(number, Ordering::SeqCst);
            if let Err(error) = Probe::new(address).endpoint(Endpoint::ALL[number % 3]).timeout(PROBE_TIMEOUT).run() {
                lost.push(error.to_string());
            }
        }
        done.store(true, Ordering::SeqCst);
        let made: usize = flooders.into_iter().map(|flooder| flooder.join().expect("it only connects")).sum();
        assert!(made > PROBES, "no flood: {made} connections beside {PROBES} probes");
        assert!(lost.is_empty(), "{} of {PROBES} probes lost beside {made} stalled connections: {lost:?}", lost.len());
    });
    assert_eq!(server.events(), ["healthy"], "stalled clients are no news");
}
