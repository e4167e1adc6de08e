//! The connector's code or `on_event` misbehaves. Answers and events stay true.

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use baton_health::{BoxError, Event};

use crate::client::{Client, ask, get, get_request};
use crate::scripted::{Gate, Scripted, Server};
use crate::wait::{TEST_TIMEOUT, times, until};

const VALIDATION: &str = "details.validation_error";

/// A healthy connector that waits at another gate in each run, and at none after the last gate.
fn gated(gates: &[Arc<Gate>]) -> Arc<Scripted> {
    let gates = gates.to_vec();
    let run = AtomicUsize::new(0);
    Scripted::validate(move || {
        if let Some(gate) = gates.get(run.fetch_add(1, Ordering::SeqCst)) {
            gate.pass();
        }
        Ok(())
    })
}

fn gates(count: usize) -> Vec<Arc<Gate>> {
    (0..count).map(|_| Gate::new()).collect()
}

#[test]
fn clients_with_a_short_wait_cause_no_event() {
    let gates = gates(4);
    let server = Server::with(gated(&gates), |config| config.validate_ttl = Duration::ZERO);
    let address = server.address();
    for gate in &gates {
        let patient = Client::that_sent(address, get_request("/health"));
        gate.wait_for(1);
        let hurried = ask(address, "GET /health HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=1\r\n\r\n");
        assert_eq!(hurried.status, 503, "{hurried:?}");
        gate.open();
        let answer = patient.answer();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(server.wait_for_events(1), ["healthy"], "validate never failed and never exceeded its limit");
}

#[test]
fn an_overdue_run_is_logged_once_and_its_end_is_logged_without_a_request() {
    let gates = gates(3);
    let server = Server::with(gated(&gates), |config| {
        config.validate_ttl = Duration::ZERO;
        config.validate_timeout = Duration::from_millis(200);
    });
    for (run, gate) in gates.iter().enumerate() {
        for _ in 0..3 {
            let answer = get(server.address(), "/health");
            assert_eq!(answer.status, 503, "{answer:?}");
        }
        gate.wait_for(1);
        gate.open();
        // No client asks now. The verdict must be logged when the run ends.
        let deadline = Instant::now() + TEST_TIMEOUT / 6;
        while server.events().len() < 2 * run + 2 {
            assert!(Instant::now() < deadline, "the end of run {} is not logged: {:?}", run + 1, server.events());
            thread::yield_now();
        }
    }
    let events = server.events();
    let overdue = |event: &String| event.starts_with("unhealthy reason=validation has not finished after ");
    let pairs: Vec<_> =
        events.chunks(2).map(|pair| overdue(&pair[0]) && pair.get(1).is_some_and(|event| event == "healthy")).collect();
    assert_eq!(pairs, vec![true; gates.len()], "{events:?}");
}

#[test]
fn verdicts_are_logged_in_the_order_in_which_they_were_found() {
    const THREADS: usize = 8;
    const REQUESTS: usize = 100;
    let runs = Arc::new(AtomicUsize::new(0));
    let connector = Scripted::validate({
        let runs = Arc::clone(&runs);
        // Each verdict differs from the one before it.
        move || match runs.fetch_add(1, Ordering::SeqCst) + 1 {
            run if run % 2 == 0 => Err(format!("run {run}").into()),
            _ => Ok(()),
        }
    });
    let server = Server::with(connector, |config| {
        config.validate_ttl = Duration::ZERO;
        let inner = Arc::clone(&config.on_event);
        // A slow log gives the next event a chance to overtake.
        config.on_event = Arc::new(move |event: &Event<'_>| {
            (0..20).for_each(|_| thread::yield_now());
            inner(event);
        });
    });
    let address = server.address();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(move || (0..REQUESTS).for_each(|_| drop(get(address, "/health"))));
        }
    });
    let runs = runs.load(Ordering::SeqCst);
    let expected: Vec<_> =
        (1..=runs).map(|run| if run % 2 == 0 { format!("unhealthy reason=run {run}") } else { "healthy".into() }).collect();
    // The last client may be answered a moment before the log is written.
    let deadline = Instant::now() + TEST_TIMEOUT;
    while server.events().len() < runs && Instant::now() < deadline {
        thread::yield_now();
    }
    let events = server.events();
    let differs = events.iter().zip(&expected).position(|(event, expected)| event != expected);
    assert!(
        events == expected,
        "{} events of {runs} runs; the first that differs is number {differs:?}: {:?}",
        events.len(),
        events.get(differs.unwrap_or_default()..).map(|rest| rest.iter().take(4).collect::<Vec<_>>()),
    );
}

#[test]
fn a_client_waits_for_the_run_it_joined_and_for_no_later_one() {
    const CLIENTS: usize = 8;
    for round in 0..times(200) {
        let (runs, gate) = (AtomicUsize::new(0), Gate::new());
        let connector = Scripted::validate({
            let gate = Arc::clone(&gate);
            // The first run ends at once. Later runs hang.
            move || match runs.fetch_add(1, Ordering::SeqCst) {
                0 => Err("run 1".into()),
                _ => {
                    gate.pass();
                    Err("a later run".into())
                }
            }
        });
        let server = Server::with(connector, |config| {
            config.validate_ttl = Duration::ZERO;
            config.validate_timeout = TEST_TIMEOUT / 3;
        });
        let clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(server.address())).collect();
        for client in &clients {
            client.send(get_request("/health")).expect("the server takes it");
            client.0.set_nonblocking(true).expect("a socket");
        }
        // The client that caused the first run must get that run's verdict, although later runs hang.
        until("the answer of the first run", || clients.iter().any(|client| client.0.peek(&mut [0]).is_ok()));
        gate.open();
        let answers = clients.into_iter().map(|client| {
            client.0.set_nonblocking(false).expect("a socket");
            client.answer()
        });
        let reasons: Vec<_> = answers.map(|answer| answer.at(VALIDATION)).collect();
        assert!(reasons.contains(&Some("run 1".into())), "round {round}: all clients of run 1 waited for another: {reasons:?}");
    }
}

/// A panic's payload that panics again when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload went wrong too");
    }
}

#[test]
fn a_panic_whose_payload_panics_is_a_503_and_the_next_call_works() {
    let calm = Arc::new(AtomicBool::new(false));
    let check = || {
        let calm = Arc::clone(&calm);
        move || -> Result<(), BoxError> { if calm.load(Ordering::SeqCst) { Ok(()) } else { panic_any(Bomb) } }
    };
    let server = Server::with(Scripted::new(check(), check()), |config| {
        config.max_connections = 8;
        config.validate_ttl = Duration::ZERO;
        config.validate_timeout = TEST_TIMEOUT / 6;
        config.drain_timeout = TEST_TIMEOUT / 2;
    });
    let address = server.address();
    // More requests than places.
    for _ in 0..20 {
        let (ready, health) = (get(address, "/ready"), get(address, "/health"));
        assert_eq!((ready.status, health.status), (503, 503), "{ready:?} {health:?}");
        let reasons = (ready.at("details.readiness_error"), health.at(VALIDATION));
        assert_eq!(reasons, (Some("ready panicked: no message".into()), Some("validate panicked: no message".into())));
    }
    calm.store(true, Ordering::SeqCst);
    for path in ["/health", "/ready", "/live"] {
        let answer = get(address, path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    let start = Instant::now();
    server.server.drain();
    assert!(start.elapsed() < TEST_TIMEOUT / 2, "a place was never given back: drain took {:?}", start.elapsed());
}

#[test]
fn an_on_event_whose_panic_payload_panics_costs_no_answer_and_no_place() {
    let server = Server::with(Scripted::validate(|| Err("boom".into())), |config| {
        config.max_connections = 8;
        config.validate_ttl = Duration::ZERO;
        config.validate_timeout = TEST_TIMEOUT / 6;
        config.drain_timeout = TEST_TIMEOUT / 2;
        let listening = AtomicBool::new(false);
        config.on_event = Arc::new(move |_| {
            if listening.swap(true, Ordering::SeqCst) {
                panic_any(Bomb)
            }
        });
    });
    // Each round changes the verdict, which causes an event.
    for round in 0..20 {
        let ok = round % 2 == 0;
        server.server.attach(Scripted::validate(move || if ok { Ok(()) } else { Err("boom".into()) }));
        let answer = get(server.address(), "/health");
        assert_eq!(answer.status == 200, ok, "{answer:?}");
    }
    let start = Instant::now();
    server.server.drain();
    assert!(start.elapsed() < TEST_TIMEOUT / 2, "a place was never given back: drain took {:?}", start.elapsed());
}
