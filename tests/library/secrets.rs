//! Which clients get the text of a connector's error, and in what form.

use std::fmt;
use std::net::{SocketAddr, UdpSocket};

use baton_health::HealthServer;

use crate::client::{ask, get};
use crate::scripted::{Scripted, Server};

const SECRET: &str = "token=s3cret";
const REASON: &str = "details.validation_error";

fn failing(text: impl Into<String>) -> Server {
    let text = text.into();
    Server::with(
        Scripted::new(
            {
                let text = text.clone();
                move || Err(text.clone().into())
            },
            move || Err(text.clone().into()),
        ),
        |_| {},
    )
}

#[test]
fn only_clients_that_use_an_address_or_localhost_get_the_reason() {
    let server = failing(SECRET);
    for (head, told) in [
        ("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", true),
        ("GET {} HTTP/1.1\r\nHost: LOCALHOST:8081\r\n\r\n", true),
        ("GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", true),
        ("GET {} HTTP/1.1\r\nHost: [::1]:8081\r\n\r\n", true),
        ("GET {} HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n", true),
        ("GET http://localhost{} HTTP/1.1\r\nHost: rebound.example\r\n\r\n", true),
        // A name that an attacker's resolver may point at this machine.
        ("GET {} HTTP/1.1\r\nHost: rebound.example\r\n\r\n", false),
        ("GET {} HTTP/1.1\r\nHost: rebound.example:8081\r\n\r\n", false),
        ("GET {} HTTP/1.1\r\nHost: localhost.rebound.example\r\n\r\n", false),
        ("GET {} HTTP/1.1\r\nHost: 127.0.0.1.rebound.example\r\n\r\n", false),
        ("GET {} HTTP/1.1\r\nHost: localhost.\r\n\r\n", false),
        ("GET http://rebound.example{} HTTP/1.1\r\nHost: localhost\r\n\r\n", false),
        ("GET {} HTTP/1.1\r\nHost:\r\n\r\n", false),
        ("GET {} HTTP/1.0\r\n\r\n", false),
    ] {
        for (path, error, member) in
            [("/health", "connector validation failed", REASON), ("/ready", "connector is not ready", "details.readiness_error")]
        {
            let answer = ask(server.address(), head.replace("{}", path));
            assert_eq!((answer.status, answer.at("details.error").as_deref()), (503, Some(error)), "{head:?}");
            assert_eq!(answer.at(member).as_deref(), told.then_some(SECRET), "{head:?}");
            assert_eq!(answer.body.contains("s3cret"), told, "{head:?}");
        }
    }
    assert_eq!(server.wait_for_events(1), [format!("unhealthy reason={SECRET}")]);
}

#[test]
fn clients_from_elsewhere_do_not_get_the_reason() {
    // Connecting a UDP socket finds this machine's outside address without sending anything.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let Some(own) = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()).ok().filter(|own| !own.ip().is_loopback())
    else {
        eprintln!("a machine with loopback only has no clients elsewhere");
        return;
    };
    let mut config = baton_health::Config::default();
    config.address = "0.0.0.0:0".parse().unwrap();
    let server = HealthServer::bind(config).unwrap();
    server.attach(Scripted::validate(|| Err(SECRET.into())));
    let port = server.local_addr().port();
    let elsewhere = get(SocketAddr::new(own.ip(), port), "/health");
    assert_eq!((elsewhere.status, elsewhere.at("details.error").as_deref()), (503, Some("connector validation failed")));
    assert!(!elsewhere.body.contains("s3cret"), "{elsewhere:?}");
    let here = get(SocketAddr::from(([127, 0, 0, 1], port)), "/health");
    assert_eq!(here.at(REASON).as_deref(), Some(SECRET));
}

#[test]
fn ipv4_loopback_on_an_ipv6_socket_is_loopback() {
    let mut config = baton_health::Config::default();
    config.address = "[::]:0".parse().unwrap();
    // The machine may have no IPv6.
    let Ok(server) = HealthServer::bind(config) else { return };
    server.attach(Scripted::validate(|| Err(SECRET.into())));
    let port = server.local_addr().port();
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        assert_eq!(get(address.parse().unwrap(), "/health").at(REASON).as_deref(), Some(SECRET), "{address}");
    }
}

#[test]
fn a_reason_is_bounded_and_whole_in_the_log() {
    const MAX: usize = 1024;
    for (text, shown) in [
        ("x".repeat(MAX), "x".repeat(MAX)),
        ("x".repeat(MAX + 1), "x".repeat(MAX - 3) + "..."),
        ("x".repeat(100_000), "x".repeat(MAX - 3) + "..."),
        // Characters are not cut in the middle.
        ("\u{20ac}".repeat(1000), "\u{20ac}".repeat(340) + "..."),
        (format!("x{}", "\u{1f980}".repeat(1000)), format!("x{}...", "\u{1f980}".repeat(255))),
        ("\"".repeat(5000), "\"".repeat(MAX - 3) + "..."),
        ("\0".repeat(5000), "\0".repeat(MAX - 3) + "..."),
    ] {
        let server = failing(&*text);
        let answer = get(server.address(), "/health");
        assert_eq!(answer.at(REASON).as_deref(), Some(&*shown));
        assert_eq!(server.wait_for_events(1), [format!("unhealthy reason={text}")]);
    }
}

#[test]
fn a_body_is_valid_json_for_any_reason() {
    let every: String = (0..0x100).filter_map(char::from_u32).collect();
    for text in [&*every, "\\", "\"", "\"}}\n{\"status\":\"healthy\"", "\u{2028}\u{fffe}\u{10ffff}", "", "\\u0041", "\r\n\r\n"] {
        let answer = get(failing(text).address(), "/health");
        assert_eq!(answer.at(REASON).as_deref(), Some(text));
        assert!(!answer.body.trim_end().contains(char::is_control), "{answer:?}");
        assert_eq!(answer.at("status").as_deref(), Some("unhealthy"));
    }
}

#[test]
fn a_reason_includes_its_causes() {
    #[derive(Debug)]
    struct SignIn(std::io::Error);
    impl fmt::Display for SignIn {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot sign in")
        }
    }
    impl std::error::Error for SignIn {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let connector = Scripted::validate(|| Err(SignIn(std::io::Error::other("no route")).into()));
    let server = Server::with(connector, |_| {});
    assert_eq!(get(server.address(), "/health").at(REASON).as_deref(), Some("cannot sign in: no route"));
}
