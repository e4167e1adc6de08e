//! The three endpoints in the wire format.

use baton_health::{Endpoint, HealthServer, Probe, ProbeErrorKind};

use crate::client::{ask, get};
use crate::scripted::{Scripted, Server};

const NO_CLIENT: &str = "failed to get connector client";

fn healthy() -> Server {
    Server::with(Scripted::validate(|| Ok(())), |_| {})
}

#[test]
fn every_endpoint_of_a_healthy_connector_answers_200() {
    let server = healthy();
    for (path, word) in [("/health", "healthy"), ("/ready", "ready"), ("/live", "alive")] {
        let answer = get(server.address(), path);
        assert_eq!((answer.status, answer.at("status").as_deref()), (200, Some(word)), "{answer:?}");
        assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}");
        assert_eq!(answer.field("Content-Type"), Some("application/json"));
        assert_eq!(answer.field("Cache-Control"), Some("no-store"));
        assert_eq!(answer.field("Connection"), Some("close"));
        assert_eq!(answer.field("Content-Length"), Some(&*answer.body.len().to_string()));
        let date = answer.field("Date").expect("a date");
        assert!(date.len() == "Sun, 06 Nov 1994 08:49:37 GMT".len() && date.ends_with(" GMT"), "{date}");
        let timestamp = answer.at("timestamp").expect("a timestamp");
        assert_eq!(answer.body, format!("{{\"status\":\"{word}\",\"timestamp\":\"{timestamp}\"}}\n"));
        assert!(timestamp.len() == "1994-11-06T08:49:37Z".len() && timestamp.ends_with('Z'), "{timestamp}");
    }
}

#[test]
fn without_a_connector_only_live_answers_200() {
    let server = Server::start(|_| {});
    for (path, status, word, error) in [
        ("/health", 503, "unhealthy", Some(NO_CLIENT)),
        ("/ready", 503, "not_ready", Some(NO_CLIENT)),
        ("/live", 200, "alive", None),
    ] {
        let answer = get(server.address(), path);
        assert_eq!((answer.status, answer.at("status").as_deref()), (status, Some(word)), "{answer:?}");
        assert_eq!(answer.at("details.error").as_deref(), error);
    }
    assert_eq!(server.events(), [""; 0], "a missing connector causes no event");
}

#[test]
fn a_failing_check_says_why() {
    let server = Server::with(Scripted::new(|| Err("boom".into()), || Err("warming up".into())), |_| {});
    let answer = get(server.address(), "/health");
    let timestamp = answer.at("timestamp").unwrap();
    assert_eq!(
        (answer.status, &*answer.body),
        (
            503,
            &*format!(
                "{{\"status\":\"unhealthy\",\"timestamp\":\"{timestamp}\",\
                 \"details\":{{\"error\":\"connector validation failed\",\"validation_error\":\"boom\"}}}}\n"
            )
        )
    );
    let answer = get(server.address(), "/ready");
    assert_eq!((answer.status, answer.at("status").as_deref()), (503, Some("not_ready")));
    assert_eq!(answer.at("details.readiness_error").as_deref(), Some("warming up"));
    assert_eq!(get(server.address(), "/live").status, 200);
}

#[test]
fn head_gets_the_head_of_get_and_no_body() {
    let server = Server::with(Scripted::validate(|| Err("boom".into())), |_| {});
    for path in ["/health", "/ready", "/live"] {
        // The clock may tick between the two requests, so this tries again.
        let same = (0..10).any(|_| {
            let got = get(server.address(), path);
            let head = ask(server.address(), format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            assert_eq!(head.body, "");
            got.head == head.head
        });
        assert!(same, "{path}");
    }
}

#[test]
fn a_probe_reports_the_servers_answer() {
    let server = Server::with(Scripted::new(|| Err("boom".into()), || Ok(())), |_| {});
    let probe = Probe::new(server.address());
    probe.clone().endpoint(Endpoint::Live).run().unwrap();
    probe.clone().endpoint(Endpoint::Ready).run().unwrap();
    let error = probe.run().unwrap_err();
    assert!(matches!(error.kind(), ProbeErrorKind::Status { code: 503, .. }));
    let expected = format!("http://{}/health: status 503 Service Unavailable: connector validation failed: boom", server.address());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_server_on_all_addresses_is_reached_on_loopback() {
    for unspecified in ["0.0.0.0:0", "[::]:0"] {
        let mut config = baton_health::Config::default();
        config.address = unspecified.parse().unwrap();
        // The machine may have no IPv6.
        let Ok(server) = HealthServer::bind(config) else {
            assert!(unspecified.starts_with('['), "{unspecified}");
            continue;
        };
        assert_ne!(server.local_addr().port(), 0);
        Probe::new(server.local_addr()).endpoint(Endpoint::Live).run().unwrap();
    }
}
