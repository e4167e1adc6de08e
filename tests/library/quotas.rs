//! Waiting for one endpoint keeps no client out of the others.

use std::net::SocketAddr;
use std::sync::Arc;

use baton_health::{BoxError, Connector};

use crate::alone::{is_alone, until_all_sleep};
use crate::client::{Answer, Client, get, get_request};
use crate::scripted::{Gate, Scripted, Server};

const CLIENTS: usize = 200;
const ROUNDS: usize = 50;
const BUSY: &str = "too many requests";

/// A connector whose `validate` hangs, and which leaves `ready` as it is.
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

/// As many clients as there are, each of which waits for the connector or has been told why not.
fn waiting_for(address: SocketAddr, path: &str) -> Vec<Client> {
    let clients = (0..CLIENTS).map(|_| Client::that_sent(address, get_request(path))).collect();
    until_all_sleep();
    clients
}

/// Answers of clients that waited for a connector that says yes at last. Those who had to wait got 200,
/// and the others were told that there were too many.
#[track_caller]
fn waited_or_were_told(clients: Vec<Client>, reason: &str) {
    let answers: Vec<Answer> = clients.into_iter().map(Client::answer).collect();
    for answer in &answers {
        let told = answer.status == 503 && answer.at(reason).is_some_and(|text| text.contains(BUSY));
        assert!(answer.status == 200 || told, "{answer:?}");
    }
    assert!(answers.iter().any(|answer| answer.status == 200), "no client waited: {:?}", answers.first());
}

/// The last of many clients is told at once that there are too many, while all who wait still wait.
#[track_caller]
fn is_told_that_there_are_too_many(address: SocketAddr, path: &str, reason: &str) {
    let answer = get(address, path);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.at(reason).is_some_and(|text| text.contains(BUSY)), "{answer:?}");
}

#[test]
fn two_hundred_clients_waiting_in_health_keep_none_out_of_ready_and_live() {
    if !is_alone("quotas::two_hundred_clients_waiting_in_health_keep_none_out_of_ready_and_live") {
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
fn a_ready_that_hangs_in_many_clients_keeps_none_out_of_health_and_live() {
    if !is_alone("quotas::a_ready_that_hangs_in_many_clients_keeps_none_out_of_health_and_live") {
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
fn both_checks_hung_in_many_clients_leave_live_a_place() {
    if !is_alone("quotas::both_checks_hung_in_many_clients_leave_live_a_place") {
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
fn the_fewest_connections_that_may_be_set_still_check_the_connector() {
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
