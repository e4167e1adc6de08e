//! Clients that wait for one endpoint do not block the other endpoints.

use std::net::SocketAddr;
use std::sync::Arc;

use baton_health::{BoxError, Connector};

use crate::alone::{in_own_process, until_all_sleep};
use crate::client::{Answer, Client, get, get_request};
use crate::scripted::{Gate, Scripted, Server};

const CLIENTS: usize = 200;
const ROUNDS: usize = 50;
const BUSY: &str = "too many requests";

/// A connector whose `validate` hangs, with the default `ready`.
struct Hung(Arc<Gate>);

impl Connector for Hung {
    fn validate(&self) -> Result<(), BoxError> {
        self.0.pass();
        Ok(())
    }
}

#[track_caller]
fn says_yes(address: SocketAddr, path: &str) {
    let answer = get(address, path);
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
}

/// Many clients. Each one waits for the connector or has been told that there are too many.
fn waiting_for(address: SocketAddr, path: &str) -> Vec<Client> {
    let clients = (0..CLIENTS).map(|_| Client::that_sent(address, get_request(path))).collect();
    until_all_sleep();
    clients
}

/// Checks the answers of these clients after the connector has succeeded. Clients that waited got 200, and
/// the others were told that there were too many.
#[track_caller]
fn waited_or_were_told(clients: Vec<Client>, reason: &str) {
    let answers: Vec<Answer> = clients.into_iter().map(Client::answer).collect();
    for answer in &answers {
        let told = answer.status == 503 && answer.at(reason).is_some_and(|text| text.contains(BUSY));
        assert!(answer.status == 200 || told, "{answer:?}");
    }
    assert!(answers.iter().any(|answer| answer.status == 200), "no client waited: {:?}", answers.first());
}

/// One more client is told at once that there are too many, while the others still wait.
#[track_caller]
fn is_told_that_there_are_too_many(address: SocketAddr, path: &str, reason: &str) {
    let answer = get(address, path);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.at(reason).is_some_and(|text| text.contains(BUSY)), "{answer:?}");
}

#[test]
fn two_hundred_clients_waiting_for_health_do_not_block_ready_and_live() {
    if !in_own_process("quotas::two_hundred_clients_waiting_for_health_do_not_block_ready_and_live") {
        return;
    }
    for own_ready in [false, true] {
        let gate = Gate::new();
        let server = Server::start(|_| {});
        let address = server.address();
        if own_ready {
            let gate = Arc::clone(&gate);
            server.server.attach(Scripted::validate(move || {
                gate.pass();
                Ok(())
            }));
        } else {
            server.server.attach(Arc::new(Hung(Arc::clone(&gate))));
        }
        let waiting = waiting_for(address, "/health");
        for _ in 0..ROUNDS {
            says_yes(address, "/ready");
            says_yes(address, "/live");
            is_told_that_there_are_too_many(address, "/health", "details.validation_error");
        }
        assert_eq!(gate.came(), 1);
        gate.open();
        waited_or_were_told(waiting, "details.validation_error");
        for path in ["/health", "/ready", "/live"] {
            says_yes(address, path);
        }
    }
}

#[test]
fn many_clients_in_a_hung_ready_do_not_block_health_and_live() {
    if !in_own_process("quotas::many_clients_in_a_hung_ready_do_not_block_health_and_live") {
        return;
    }
    let gate = Gate::new();
    let connector = Scripted::ready({
        let gate = Arc::clone(&gate);
        move || {
            gate.pass();
            Ok(())
        }
    });
    let server = Server::with(connector, |config| config.validate_ttl = std::time::Duration::ZERO);
    let address = server.address();
    let hung = waiting_for(address, "/ready");
    let inside = gate.came();
    for _ in 0..ROUNDS {
        says_yes(address, "/health");
        says_yes(address, "/live");
        is_told_that_there_are_too_many(address, "/ready", "details.readiness_error");
    }
    assert_eq!(gate.came(), inside, "more are inside ready() although there were too many");
    gate.open();
    waited_or_were_told(hung, "details.readiness_error");
    for path in ["/health", "/ready", "/live"] {
        says_yes(address, path);
    }
}

#[test]
fn many_clients_in_both_hung_checks_do_not_block_live() {
    if !in_own_process("quotas::many_clients_in_both_hung_checks_do_not_block_live") {
        return;
    }
    let gate = Gate::new();
    let hang = || {
        let gate = Arc::clone(&gate);
        move || {
            gate.pass();
            Ok(())
        }
    };
    let server = Server::with(Scripted::new(hang(), hang()), |_| {});
    let address = server.address();
    let ready = waiting_for(address, "/ready");
    let health = waiting_for(address, "/health");
    for _ in 0..ROUNDS {
        says_yes(address, "/live");
    }
    gate.open();
    waited_or_were_told(ready, "details.readiness_error");
    waited_or_were_told(health, "details.validation_error");
    for path in ["/health", "/ready", "/live"] {
        says_yes(address, path);
    }
}

#[test]
fn with_the_smallest_max_connections_every_endpoint_works() {
    let server = Server::with(Scripted::validate(|| Ok(())), |config| {
        config.max_connections = 2;
        config.validate_ttl = std::time::Duration::ZERO;
    });
    for _ in 0..ROUNDS {
        for path in ["/health", "/ready", "/live"] {
            says_yes(server.address(), path);
        }
    }
}
