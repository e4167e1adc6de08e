//! A connector replaces one that hangs, or one whose destructor panics.

use std::panic;
use std::sync::Arc;
use std::time::{Duration, Instant};

use baton_health::{BoxError, Connector};

use crate::alone::{in_own_process, until_all_sleep};
use crate::client::{Client, get, get_request};
use crate::scripted::{Gate, Scripted, Server};

const VALIDATION: &str = "details.validation_error";

/// How long `validate` may take: long enough for a slow machine, and short enough to end a failing test.
const LONG: Duration = Duration::from_secs(20);

fn gated(gate: &Arc<Gate>, text: &'static str) -> Arc<Scripted> {
    let gate = Arc::clone(gate);
    Scripted::validate(move || {
        gate.pass();
        Err(text.into())
    })
}

fn waiting(server: &Server, gate: &Gate, count: usize) -> Vec<Client> {
    let clients = (0..count).map(|_| Client::that_sent(server.address(), get_request("/health"))).collect();
    gate.wait_for(1);
    until_all_sleep();
    clients
}

#[test]
fn clients_that_wait_for_one_connector_are_answered_by_the_next_one() {
    if !in_own_process("attach::clients_that_wait_for_one_connector_are_answered_by_the_next_one") {
        return;
    }
    for (reason, event) in [(None, "healthy"), (Some("second"), "unhealthy reason=second")] {
        let gate = Gate::new();
        let server = Server::with(gated(&gate, "first"), |config| config.validate_timeout = LONG);
        let clients = waiting(&server, &gate, 10);
        // No client asks after this, so the waiting clients themselves must ask the new connector.
        server.server.attach(Scripted::validate(move || reason.map_or(Ok(()), |text| Err(text.into()))));
        for client in clients {
            let answer = client.answer();
            assert_eq!((answer.status == 200, answer.at(VALIDATION).as_deref()), (reason.is_none(), reason), "{answer:?}");
        }
        // The first connector's late verdict is discarded.
        gate.open();
        until_all_sleep();
        assert_eq!(server.wait_for_events(1), [event], "the first connector's verdict must not be logged");
    }
}

#[test]
fn clients_follow_every_change_of_the_connector() {
    if !in_own_process("attach::clients_follow_every_change_of_the_connector") {
        return;
    }
    let gates: Vec<_> = (0..4).map(|_| Gate::new()).collect();
    let server = Server::start(|config| config.validate_timeout = LONG);
    let mut clients = Vec::new();
    for gate in &gates {
        server.server.attach(gated(gate, "one that was replaced"));
        // These clients start the first connector's run. Clients that already wait start the later ones.
        clients.extend(waiting(&server, gate, 3));
    }
    server.server.attach(Scripted::validate(|| Ok(())));
    for client in clients {
        let answer = client.answer();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    gates.iter().for_each(|gate| gate.open());
    until_all_sleep();
    assert_eq!(server.wait_for_events(1), ["healthy"]);
}

/// A connector whose checks hang, and whose destructor panics.
struct EndsBadly(Arc<Gate>);

impl EndsBadly {
    fn hang(&self) -> Result<(), BoxError> {
        self.0.pass();
        Ok(())
    }
}

impl Connector for EndsBadly {
    fn validate(&self) -> Result<(), BoxError> {
        self.hang()
    }

    fn ready(&self) -> Result<(), BoxError> {
        self.hang()
    }
}

impl Drop for EndsBadly {
    fn drop(&mut self) {
        panic!("the connector's destructor went wrong");
    }
}

#[test]
fn a_destructor_that_panics_costs_no_answer_and_no_place() {
    if !in_own_process("attach::a_destructor_that_panics_costs_no_answer_and_no_place") {
        return;
    }
    // Without a run in flight, the destructor runs and panics in `attach` itself.
    let attach = |server: &Server, connector: Arc<dyn Connector>| {
        let _ = panic::catch_unwind(panic::AssertUnwindSafe(|| server.server.attach(connector)));
    };
    for paths in [&["/ready"][..], &["/health"], &["/health", "/health", "/health"], &["/ready", "/health", "/ready"]] {
        let server = Server::start(|config| {
            config.max_connections = 16;
            config.drain_timeout = LONG;
            config.validate_timeout = LONG;
        });
        let address = server.address();
        // More rounds than places.
        for _ in 0..20 {
            let gate = Gate::new();
            attach(&server, Arc::new(EndsBadly(Arc::clone(&gate))));
            let clients: Vec<_> = paths.iter().map(|path| Client::that_sent(address, get_request(path))).collect();
            gate.wait_for(1);
            until_all_sleep();
            attach(&server, Scripted::validate(|| Ok(())));
            gate.open();
            let answer = get(address, "/health");
            assert_eq!(answer.status, 200, "{answer:?}");
            for client in clients {
                let text = client.text().unwrap_or_else(|error| panic!("{paths:?}: {error}"));
                assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{paths:?}: {text:?}");
            }
        }
        let start = Instant::now();
        server.server.drain();
        assert!(start.elapsed() < LONG, "{paths:?}: a place was never given back: drain took all of its {:?}", start.elapsed());
    }
}
