//! A change of readiness is an event. Other requests for `/ready` cause none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::alone::{in_own_process, until_all_sleep};
use crate::client::{Client, get, get_request};
use crate::scripted::{Gate, Scripted, Server};

#[test]
fn a_change_of_readiness_is_an_event_and_a_request_is_not() {
    let state = Arc::new(AtomicUsize::new(0));
    let server = Server::with(
        Scripted::ready({
            let state = Arc::clone(&state);
            move || match state.load(Ordering::SeqCst) {
                0 => Ok(()),
                1 => Err("warming up".into()),
                _ => panic!("it went wrong"),
            }
        }),
        |_| {},
    );
    let address = server.address();
    for now in [0, 1, 1, 0, 2] {
        state.store(now, Ordering::SeqCst);
        for _ in 0..10 {
            let answer = get(address, "/ready");
            assert_eq!(answer.status == 200, now == 0, "{answer:?}");
            for path in ["/live", "/health", "/nothing"] {
                get(address, path);
            }
        }
    }
    let reasons = ["ready", "not ready: warming up", "ready", "not ready: ready panicked: it went wrong"];
    assert_eq!(server.wait_for_readiness(reasons.len()), reasons);
    assert_eq!(server.wait_for_events(1), ["healthy"], "readiness causes no event about health");
}

#[test]
fn a_503_without_asking_the_connector_is_no_event() {
    if !in_own_process("readiness::a_503_without_asking_the_connector_is_no_event") {
        return;
    }
    let server = Server::start(|_| {});
    let address = server.address();
    let answer = get(address, "/ready");
    assert_eq!(answer.status, 503, "there is no connector yet: {answer:?}");

    let gate = Gate::new();
    server.server.attach(Scripted::ready({
        let gate = Arc::clone(&gate);
        move || {
            gate.pass();
            Ok(())
        }
    }));
    let clients: Vec<_> = (0..200).map(|_| Client::that_sent(address, get_request("/ready"))).collect();
    until_all_sleep();
    let answer = get(address, "/ready");
    assert_eq!(answer.status, 503, "there are too many already: {answer:?}");
    assert_eq!(server.readiness(), [""; 0], "the connector has said nothing yet");
    gate.open();
    let statuses: Vec<_> = clients.into_iter().map(|client| client.answer().status).collect();
    assert!(statuses.contains(&200), "{statuses:?}");
    assert_eq!(server.wait_for_readiness(1), ["ready"]);

    server.server.refuse_ready();
    let answer = get(address, "/ready");
    assert_eq!(answer.status, 503, "it is about to end: {answer:?}");
    assert_eq!(server.wait_for_readiness(1), ["ready"], "refuse_ready causes no event about the connector");
}
