//! The connector behind the endpoints: slow, stuck, panicking, replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use baton_health::{BoxError, Endpoint, Event, Probe};

use crate::alone::{in_own_process, threads_named, until_all_sleep};
use crate::client::{Client, ask, get, get_request};
use crate::scripted::{Gate, Scripted, Server};
use crate::wait::{FOREVER, TEST_TIMEOUT, times, until};

const VALIDATION: &str = "details.validation_error";
const READINESS: &str = "details.readiness_error";
const BUSY: &str = "too many requests";

/// A connector whose `validate` waits at a gate, and then returns `verdict()`.
fn gated(gate: &Arc<Gate>, verdict: impl Fn() -> Result<(), BoxError> + Send + Sync + 'static) -> Arc<Scripted> {
    let gate = Arc::clone(gate);
    Scripted::validate(move || {
        gate.pass();
        verdict()
    })
}

fn patient(path: &str, seconds: u32) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait={seconds}\r\n\r\n")
}

#[test]
fn a_validate_that_hangs_costs_one_thread_and_every_client_is_answered() {
    if !in_own_process("checks::a_validate_that_hangs_costs_one_thread_and_every_client_is_answered") {
        return;
    }
    let gate = Gate::new();
    let server = Server::with(gated(&gate, || Ok(())), |config| {
        config.validate_timeout = Duration::from_millis(300);
        config.validate_ttl = Duration::ZERO;
    });
    let address = server.address();
    let parallel: Vec<_> = (0..200).map(|_| Client::that_sent(address, get_request("/health"))).collect();
    gate.wait_for(1);
    for path in ["/live", "/ready"] {
        let answer = get(address, path);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    for client in parallel {
        let answer = client.answer();
        let reason = answer.at(VALIDATION).unwrap_or_else(|| panic!("no reason: {answer:?}"));
        assert_eq!(answer.status, 503);
        assert!(reason.starts_with("validation has not finished after ") || reason.contains(BUSY), "{reason}");
    }
    for round in 0..times(10_000) {
        let answer = get(address, "/health");
        assert_eq!(answer.status, 503, "{answer:?}");
        if round % 100 == 0 {
            let (live, ready) = (get(address, "/live"), get(address, "/ready"));
            assert_eq!((live.status, ready.status), (200, 200), "{live:?} {ready:?}");
            let threads = threads_named("validate");
            assert!(threads.is_none_or(|count| count == 1), "{threads:?} threads inside validate");
        }
    }
    assert_eq!(gate.came(), 1, "a second validate was started beside the first");

    gate.open();
    until("the connector to be healthy again", || get(address, "/health").status == 200);
    let answer = get(address, "/health");
    assert_eq!(answer.status, 200, "{answer:?}");
    until("the thread to end", || threads_named("validate").is_none_or(|count| count == 0));
}

#[test]
fn concurrent_clients_share_one_validate_and_its_verdict() {
    if !in_own_process("checks::concurrent_clients_share_one_validate_and_its_verdict") {
        return;
    }
    const MANY: usize = 250;
    for verdict in [None, Some("boom")] {
        let gate = Gate::new();
        let connector = gated(&gate, move || verdict.map_or(Ok(()), |text| Err(text.into())));
        let server = Server::with(connector, |config| {
            config.max_connections = 2 * MANY;
            config.validate_ttl = Duration::ZERO;
        });
        let clients: Vec<_> = (0..MANY).map(|_| Client::that_sent(server.address(), get_request("/health"))).collect();
        gate.wait_for(1);
        // Once every thread sleeps, all clients wait for the verdict.
        until_all_sleep();
        gate.open();
        for client in clients {
            let answer = client.answer();
            // If the system cannot tell that threads sleep, a late client may cause a second run with the same verdict.
            assert_eq!((answer.status == 200, answer.at(VALIDATION).as_deref()), (verdict.is_none(), verdict), "{answer:?}");
        }
        assert!(gate.came() == 1 || threads_named("health").is_none(), "{} validates for one verdict", gate.came());
    }
}

#[test]
fn five_hundred_concurrent_requests_cause_one_validate() {
    let calls = Arc::new(AtomicUsize::new(0));
    let connector = Scripted::validate({
        let calls = Arc::clone(&calls);
        move || {
            calls.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    });
    let server = Server::with(connector, |config| config.validate_ttl = FOREVER);
    let address = server.address();
    let askers: Vec<_> =
        (0..50).map(|_| std::thread::spawn(move || (0..10).map(|_| get(address, "/health").status).collect::<Vec<_>>())).collect();
    // Half of the places are for requests that wait for the connector. Beyond that a request gets 503.
    let answers: Vec<_> = askers.into_iter().flat_map(|asker| asker.join().unwrap()).collect();
    assert!(answers.len() == 500 && answers.iter().all(|status| [200, 503].contains(status)), "{answers:?}");
    assert!(answers.iter().filter(|&&status| status == 200).count() >= 250, "{answers:?}");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn a_verdict_is_reused_for_its_time_and_not_beyond() {
    for (ttl, calls) in [(FOREVER, 1), (Duration::ZERO, 20)] {
        let gate = Gate::new();
        gate.open();
        let server = Server::with(gated(&gate, || Err("boom".into())), |config| config.validate_ttl = ttl);
        for _ in 0..20 {
            assert_eq!(get(server.address(), "/health").at(VALIDATION).as_deref(), Some("boom"));
        }
        assert_eq!(gate.came(), calls, "{ttl:?}");
    }
    let (healthy, server) = switchable(|config| config.validate_ttl = Duration::from_millis(50));
    assert_eq!(get(server.address(), "/health").status, 200);
    healthy.store(false, Ordering::SeqCst);
    until("the verdict to be too old", || get(server.address(), "/health").status == 503);
}

#[test]
fn a_client_that_says_how_long_it_waits_is_answered_before_that() {
    let gate = Gate::new();
    let server = Server::with(gated(&gate, || Ok(())), |config| config.validate_ttl = FOREVER);
    let address = server.address();
    let waits_for_ever = Client::that_sent(address, get_request("/health"));
    gate.wait_for(1);
    for seconds in [0, 1] {
        let answer = ask(address, patient("/health", seconds));
        let reason = answer.at(VALIDATION).expect("a reason");
        assert_eq!(answer.status, 503);
        assert!(reason.starts_with("validation has not finished after ") && reason.ends_with(" ms"), "{reason}");
    }
    // Other endpoints do not wait for `validate`.
    assert_eq!(ask(address, patient("/ready", 0)).status, 200);

    gate.open();
    assert_eq!(waits_for_ever.answer().status, 200);
    assert_eq!(ask(address, patient("/health", 0)).status, 200);
    assert_eq!(gate.came(), 1);
}

#[test]
fn a_panic_is_a_503_and_the_next_call_works() {
    let calm = Arc::new(AtomicBool::new(false));
    let check = |name: &'static str| {
        let calm = Arc::clone(&calm);
        move || if calm.load(Ordering::SeqCst) { Ok(()) } else { panic!("{name} went wrong") }
    };
    let connector = Scripted::new(check("this"), check("that"));
    let server = Server::with(connector, |config| config.validate_ttl = Duration::ZERO);
    let address = server.address();
    // More requests than places, so a place that a panic loses would show.
    for _ in 0..100 {
        let (health, ready) = (get(address, "/health"), get(address, "/ready"));
        assert_eq!((health.status, health.at(VALIDATION).as_deref()), (503, Some("validate panicked: this went wrong")));
        assert_eq!((ready.status, ready.at(READINESS).as_deref()), (503, Some("ready panicked: that went wrong")));
    }
    assert_eq!(get(address, "/live").status, 200);
    calm.store(true, Ordering::SeqCst);
    assert_eq!((get(address, "/health").status, get(address, "/ready").status), (200, 200));
}

#[test]
fn another_connector_takes_over_at_once() {
    let gate = Gate::new();
    let server = Server::with(gated(&gate, || Ok(())), |config| config.validate_ttl = FOREVER);
    let address = server.address();
    let early = Client::that_sent(address, get_request("/health"));
    gate.wait_for(1);

    // The first connector still hangs, but clients no longer wait for it.
    server.server.attach(Scripted::new(|| Err("second".into()), || Err("not yet".into())));
    for _ in 0..3 {
        assert_eq!(get(address, "/health").at(VALIDATION).as_deref(), Some("second"));
        assert_eq!(get(address, "/ready").at(READINESS).as_deref(), Some("not yet"));
    }
    assert_eq!(early.answer().at(VALIDATION).as_deref(), Some("second"));
    // The first connector's late verdict is discarded.
    gate.open();
    assert_eq!(get(address, "/health").at(VALIDATION).as_deref(), Some("second"));

    server.server.attach(Scripted::validate(|| Ok(())));
    assert_eq!((get(address, "/health").status, get(address, "/ready").status), (200, 200));
}

#[test]
fn the_probe_gets_the_reason_before_its_time_is_up() {
    const WAIT: u64 = 2;
    // A machine under load may be late once, but not every time.
    let in_time = (0..5).any(|_| {
        let gate = Gate::new();
        let server = Server::with(gated(&gate, || Ok(())), |_| {});
        let error = Probe::new(server.address()).timeout(Duration::from_secs(WAIT)).run().unwrap_err().to_string();
        gate.open();
        error.ends_with(": connector validation failed: validation has not finished")
    });
    assert!(in_time);
}

/// A connector that is healthy, or fails with "boom".
fn switchable(change: impl FnOnce(&mut baton_health::Config)) -> (Arc<AtomicBool>, Server) {
    let healthy = Arc::new(AtomicBool::new(true));
    let connector = Scripted::validate({
        let healthy = Arc::clone(&healthy);
        move || if healthy.load(Ordering::SeqCst) { Ok(()) } else { Err("boom".into()) }
    });
    (healthy, Server::with(connector, change))
}

#[test]
fn a_change_of_the_verdict_is_an_event_and_a_request_is_not() {
    let (healthy, server) = switchable(|config| config.validate_ttl = Duration::ZERO);
    for state in [true, false, false, true, false] {
        healthy.store(state, Ordering::SeqCst);
        for _ in 0..10 {
            assert_eq!(get(server.address(), "/health").status == 200, state);
            get(server.address(), "/ready");
            get(server.address(), "/live");
            get(server.address(), "/nothing");
        }
    }
    assert_eq!(server.wait_for_events(4), ["healthy", "unhealthy reason=boom", "healthy", "unhealthy reason=boom"]);
}

#[test]
fn on_event_may_panic() {
    let server = Server::with(Scripted::validate(|| Ok(())), |config| {
        config.on_event = Arc::new(|event| panic!("cannot log {event}"));
        config.validate_ttl = Duration::ZERO;
    });
    for _ in 0..100 {
        assert_eq!(get(server.address(), "/health").status, 200);
    }
    server.server.attach(Scripted::validate(|| Err("boom".into())));
    assert_eq!(get(server.address(), "/health").status, 503);
}

#[test]
fn an_on_event_that_hangs_delays_no_answer() {
    for paths in [["/health", "/ready", "/health"], ["/ready", "/health", "/ready"]] {
        let gate = Gate::new();
        let server = Server::with(Scripted::validate(|| Ok(())), |config| {
            let gate = Arc::clone(&gate);
            config.on_event = Arc::new(move |event| match event {
                Event::Listening { .. } => {}
                _ => gate.pass(),
            });
        });
        for path in paths {
            assert_eq!(get(server.address(), path).status, 200, "{path}");
            gate.wait_for(1);
        }
        server.server.attach(Scripted::validate(|| Err("boom".into())));
        assert_eq!(get(server.address(), "/health").at(VALIDATION).as_deref(), Some("boom"));
        assert_eq!(gate.came(), 1, "one thread logs, and the others do not wait for it");
        gate.open();
    }
}

#[test]
fn readiness_can_be_refused_and_allowed_again_and_nothing_else_changes() {
    let server = Server::with(Scripted::validate(|| Ok(())), |_| {});
    for refused in [true, true, false, false, true, false] {
        if refused {
            server.server.refuse_ready()
        } else {
            server.server.allow_ready()
        }
        for (endpoint, ok) in [(Endpoint::Health, true), (Endpoint::Ready, !refused), (Endpoint::Live, true)] {
            let probe = Probe::new(server.address()).endpoint(endpoint).timeout(TEST_TIMEOUT);
            assert_eq!(probe.run().is_ok(), ok, "{endpoint:?}");
        }
        let expected = refused.then_some("the program refuses new work");
        assert_eq!(get(server.address(), "/ready").at(READINESS).as_deref(), expected);
    }
    // To allow it is no answer: the connector is still asked.
    server.server.attach(Scripted::ready(|| Err("not yet".into())));
    server.server.allow_ready();
    assert_eq!(get(server.address(), "/ready").at(READINESS).as_deref(), Some("not yet"));
}

#[test]
fn two_functions_are_a_connector() {
    let server = Server::start(|_| {});
    server.server.attach_fn(|| Err("unwell".into()), || Err("not yet".into()));
    assert_eq!(get(server.address(), "/health").at(VALIDATION).as_deref(), Some("unwell"));
    assert_eq!(get(server.address(), "/ready").at(READINESS).as_deref(), Some("not yet"));
    server.server.attach_fn(|| Ok(()), || Ok(()));
    assert_eq!((get(server.address(), "/health").status, get(server.address(), "/ready").status), (200, 200));
}
