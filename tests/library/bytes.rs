//! Bytes that are no request or more than one, and what the answers to them contain.

use std::net::SocketAddr;
use std::thread;

use crate::client::{Client, ask, get, get_request};
use crate::scripted::{Scripted, Server};

const MIB: usize = 1 << 20;
const MAX_HEAD: usize = 8 * 1024;

fn server() -> Server {
    Server::with(Scripted::validate(|| Ok(())), |_| {})
}

#[test]
fn an_answer_to_head_never_has_a_body() {
    let server = server();
    for (request, status) in [
        ("HEAD /live HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("HEAD /nope HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("HEAD /live HTTP/1.1\r\n\r\n", 400),
        ("\r\nHEAD /live HTTP/2.0\r\n\r\n", 505),
    ] {
        let text = Client::that_sent(server.address(), request).text().unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")) && text.ends_with("\r\n\r\n"), "{request:?}: {text:?}");
    }
}

#[test]
fn invalid_requests_are_refused_with_the_right_status() {
    let server = server();
    for (request, status) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /live\r\n", 400),
        (b"GET /live HTTP/0.9\r\n\r\n", 505),
        (b"GET /live HTTP/1.1\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\rHost: a\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400),
        (b"GET live HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"OPTIONS /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"options /live HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"get /live HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"DELETE /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /live/ HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /LIVE HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"\r\n\r\nGET /live HTTP/1.1\nHost: a\n\n", 200),
        (b"GET /live HTTP/1.0\r\n\r\n", 200),
        (b"GET /live?verbose=1 HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET http://a/live HTTP/1.1\r\nHost: b\r\n\r\n", 200),
        (b"GET /live HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", 200),
        // A second request on the same connection gets no answer.
        (b"GET /live HTTP/1.1\r\nHost: a\r\n\r\nGET /live HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ] {
        let answer = ask(server.address(), request);
        assert_eq!(answer.status, status, "{}", request.escape_ascii());
        assert_eq!(answer.field("Allow"), (status == 405).then_some("GET, HEAD, OPTIONS"));
        assert_eq!(answer.field("Content-Length"), Some(&*answer.body.len().to_string()));
        assert_eq!(answer.field("Connection"), Some("close"));
        assert!(!answer.body.contains("HTTP/1.1"), "{answer:?}");
        if ![200, 503].contains(&status) {
            let reason = answer.head.split("\r\n").next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
            assert_eq!(answer.at("error").as_deref(), reason);
        }
    }
    assert_eq!(server.events(), [""; 0]);
}

#[test]
fn options_gets_the_answer_of_get_and_the_allowed_methods() {
    let server = Server::with(Scripted::validate(|| Err("boom".into())), |_| {});
    for (request, status, word) in [
        // What HAProxy's `option httpchk /health` sends.
        ("OPTIONS /health HTTP/1.0\r\n\r\n", 503, "unhealthy"),
        ("OPTIONS /health HTTP/1.1\r\nHost: a\r\n\r\n", 503, "unhealthy"),
        ("OPTIONS /ready HTTP/1.0\r\n\r\n", 200, "ready"),
        ("OPTIONS /live?a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", 200, "alive"),
        ("OPTIONS http://a/live HTTP/1.1\r\nHost: a\r\n\r\n", 200, "alive"),
        // This asks about the server as a whole.
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 200, "alive"),
    ] {
        let answer = ask(server.address(), request);
        assert_eq!((answer.status, answer.at("status").as_deref()), (status, Some(word)), "{request:?}");
        assert_eq!(answer.field("Allow"), Some("GET, HEAD, OPTIONS"), "{request:?}");
        assert_eq!(answer.field("Content-Length"), Some(&*answer.body.len().to_string()), "{request:?}");
    }
    assert_eq!(get(server.address(), "/live").field("Allow"), None);
}

#[test]
fn the_answer_to_an_unknown_path_lists_the_endpoints() {
    let server = server();
    let body = "{\"error\":\"404 Not Found\",\"endpoints\":\"/health, /ready, /live\"}\n";
    assert_eq!(get(server.address(), "/healthz").body, body);
}

#[test]
fn a_request_that_a_proxy_passed_on_gets_no_reason() {
    let server = Server::with(Scripted::validate(|| Err("boom".into())), |_| {});
    for (fields, told) in [
        ("", true),
        ("Forwarded: for=192.0.2.1\r\n", false),
        ("Via: 1.1 proxy\r\n", false),
        ("x-real-ip: 192.0.2.1\r\n", false),
        ("X-Forwarded-For: 127.0.0.1\r\n", false),
        ("X-Forwarded-Proto: http\r\n", false),
        ("X-Forwarded:\r\nX-Via: proxy\r\n", true),
    ] {
        for method in ["GET", "OPTIONS"] {
            let answer = ask(server.address(), format!("{method} /health HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"));
            assert_eq!(
                (answer.status, answer.at("details.validation_error").as_deref()),
                (503, told.then_some("boom")),
                "{fields:?}"
            );
        }
    }
}

#[test]
fn no_answer_repeats_a_part_of_its_request() {
    let server = Server::with(Scripted::validate(|| Err("boom".into())), |_| {});
    for request in [
        "MARK /health HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /MARK HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /health?MARK HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: MARK\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: a\r\nMARK: MARK\r\n\r\n",
        "GET /health HTTP/MARK\r\nHost: a\r\n\r\n",
        "GET http://MARK/health HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: a\r\nMARK\r\n\r\n",
        "MARK\r\n\r\n",
    ] {
        let answer = ask(server.address(), request);
        assert!(!format!("{answer:?}").contains("MARK"), "{answer:?}");
    }
}

#[test]
fn no_answer_waits_for_a_body() {
    let server = server();
    for (request, status) in [
        ("POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n", 405),
        ("POST /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 405),
        ("POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n", 405),
        ("GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 200),
    ] {
        assert_eq!(ask(server.address(), request).status, status, "{request:?}");
    }
}

#[test]
fn a_client_that_sends_a_megabyte_first_reads_its_answer_to_the_end() {
    let server = server();
    let body = "b".repeat(MIB);
    let chunked = [&*format!("{MIB:x}\r\n"), &body, "\r\n0\r\n\r\n"].concat();
    for (head, rest, status) in [
        (format!("POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: {MIB}\r\n\r\n"), &body, 405),
        (format!("PUT /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: {MIB}\r\nExpect: 100-continue\r\n\r\n"), &body, 405),
        ("POST /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".into(), &chunked, 405),
        (format!("GET /live HTTP/1.1\r\nHost: a\r\nContent-Length: {MIB}\r\n\r\n"), &body, 200),
        ("GET /live HTTP/1.1\r\nHost: a\r\nX: ".into(), &body, 431),
        ("GET /".into(), &body, 414),
        ("\0".into(), &body, 400),
        ("".into(), &get_request("/live").repeat(MIB / get_request("/live").len()), 200),
    ] {
        let client = Client::that_sent(server.address(), &head);
        // The server takes everything although it has already answered, and does not reset the connection.
        client.send(rest).unwrap_or_else(|error| panic!("{head:?}: {error}"));
        client.half_close();
        assert_eq!(client.answer().status, status, "{head:?}");
    }
}

/// A request for `/live` with a head of `len` bytes.
fn head_of(len: usize) -> String {
    let start = "GET /live HTTP/1.1\r\nHost: a\r\nX: ";
    [start, &"x".repeat(len - start.len() - 4), "\r\n\r\n"].concat()
}

/// Sends `head` in pieces of `len(n)` bytes, and returns the status.
fn in_pieces(address: SocketAddr, head: &str, mut len: impl FnMut() -> usize) -> u16 {
    let client = Client::connect(address);
    let mut rest = head;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(len().min(rest.len()));
        client.send(piece).expect("the server takes it");
        rest = after;
        thread::yield_now();
    }
    client.answer().status
}

#[test]
fn a_head_of_8_kib_is_accepted_however_it_is_split() {
    let server = server();
    let head = head_of(MAX_HEAD);
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize % 300 + 1
    };
    assert_eq!(in_pieces(server.address(), &head, || 1), 200);
    assert_eq!(in_pieces(server.address(), &head, || MAX_HEAD), 200);
    for split in [1, 2, 1023, 1024, 1025, MAX_HEAD - 1] {
        let mut sizes = [split, MAX_HEAD].into_iter();
        assert_eq!(in_pieces(server.address(), &head, || sizes.next().unwrap()), 200, "{split}");
    }
    for _ in 0..20 {
        assert_eq!(in_pieces(server.address(), &head, &mut random), 200);
    }
    assert_eq!(in_pieces(server.address(), &get_request("/health"), || 1), 200);
}

#[test]
fn a_longer_head_is_refused() {
    let server = server();
    assert_eq!(ask(server.address(), head_of(MAX_HEAD + 1)).status, 431);
    assert_eq!(ask(server.address(), head_of(100_000)).status, 431);
    let many = ["GET /live HTTP/1.1\r\nHost: a\r\n", &"a:b\r\n".repeat(20_000), "\r\n"].concat();
    assert_eq!(ask(server.address(), many).status, 431);
    for len in [MAX_HEAD, 100_000] {
        let line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(len));
        assert_eq!(ask(server.address(), line).status, 414);
    }
    assert_eq!(get(server.address(), "/live").status, 200);
}
