//! The three endpoints of the running program, byte for byte.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};

use crate::client::{self, Answer, ask};
use crate::clock;
use crate::program::until;
use crate::source::Source;

const TIMESTAMP: &str = "\"timestamp\":\"";

/// An answer, with its two times checked and replaced by what the contract writes for them.
#[track_caller]
pub(crate) fn timeless(before: u64, answer: &Answer) -> (String, String) {
    let after = clock::now();
    let date = answer.field("Date").unwrap_or_else(|| panic!("no date: {answer:?}"));
    let time = clock::http(date).unwrap_or_else(|| panic!("no date: {date}"));
    assert!((before..=after).contains(&time), "{date}");
    let head = answer.head.replace(date, "DATE");
    let Some((start, rest)) = answer.body.split_once(TIMESTAMP) else { return (head, answer.body.clone()) };
    let (stamp, end) = rest.split_at(rest.find('"').expect("an end of the time"));
    assert_eq!(clock::rfc3339(stamp), Some(time), "{stamp} and {date}");
    (head, [start, TIMESTAMP, "TS", end].concat())
}

/// Asserts that an answer is that one: the whole of its head, and its body.
#[track_caller]
pub(crate) fn assert_answer(address: SocketAddr, path: &str, status: &str, body: &str) {
    let before = clock::now();
    let (head, got) = timeless(before, &client::get(address, path));
    let length = body.replace("TS", "1994-11-06T08:49:37Z").len();
    let expected = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nConnection: close\r\nDate: DATE\r\n\
         Content-Length: {length}"
    );
    assert_eq!((head, &*got), (expected.clone(), body));

    let head_only = ask(address, &format!("HEAD {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    assert_eq!(timeless(before, &head_only), (expected, String::new()), "HEAD {path}");
}

/// A path as JSON has it: on Windows its separators are escaped.
fn in_json(path: &str) -> String {
    path.replace('\\', "\\\\")
}

#[test]
fn a_connector_that_is_well_is_healthy_ready_and_alive() {
    let source = Source::new();
    let mut daemon = source.daemon(&[]).connected();
    let address = daemon.address();
    for (path, status) in [("/health", "healthy"), ("/ready", "ready"), ("/live", "alive")] {
        assert_answer(address, path, "200 OK", &format!("{{\"status\":\"{status}\",\"timestamp\":\"TS\"}}\n"));
    }
}

#[test]
fn a_connector_that_is_not_well_is_unhealthy_and_says_why() {
    let source = Source::new();
    let mut daemon = source.daemon(&[]).connected();
    let address = daemon.address();
    source.put("passwd", "root:x:0:0:root:/root:/bin/sh\nrubbish\n");
    until("the verdict to change", || (daemon.get("/health").status == 503).then_some(()));
    let body = format!(
        "{{\"status\":\"unhealthy\",\"timestamp\":\"TS\",\"details\":{{\"error\":\"connector validation failed\",\
         \"validation_error\":\"{}:2: 7 fields expected, 1 found\"}}}}\n",
        in_json(&source.path("passwd"))
    );
    assert_answer(address, "/health", "503 Service Unavailable", &body);
    assert_answer(address, "/ready", "200 OK", "{\"status\":\"ready\",\"timestamp\":\"TS\"}\n");
    assert_answer(address, "/live", "200 OK", "{\"status\":\"alive\",\"timestamp\":\"TS\"}\n");
}

#[test]
fn requests_are_read_as_the_reference_reads_them() {
    let source = Source::new();
    let mut daemon = source.daemon(&[]).connected();
    let address = daemon.address();
    let big = format!("GET /live HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "a".repeat(9000));
    let full = format!("GET /live HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "a".repeat(8192 - 36));
    assert_eq!(full.len(), 8192);
    let long = format!("GET /live?{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9000));
    for (request, status) in [
        ("GET /live HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK"),
        ("GET /live?verbose=1&x HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK"),
        ("GET http://example.com/live HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK"),
        ("GET /live HTTP/1.0\r\n\r\n", "200 OK"),
        ("GET /live HTTP/1.1\nHost: a\n\n", "200 OK"),
        ("\r\n\r\nGET /live HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK"),
        ("GET /live HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", "200 OK"),
        (&full, "200 OK"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "404 Not Found"),
        ("GET /health/ HTTP/1.1\r\nHost: a\r\n\r\n", "404 Not Found"),
        ("GET /HEALTH HTTP/1.1\r\nHost: a\r\n\r\n", "404 Not Found"),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", "404 Not Found"),
        ("GET /%6cive HTTP/1.1\r\nHost: a\r\n\r\n", "404 Not Found"),
        ("GET http://example.com HTTP/1.1\r\nHost: a\r\n\r\n", "404 Not Found"),
        ("GET /live HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("GET /live HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400 Bad Request"),
        ("GET /live HTTP/1.1\r\nHost: a\r\nFoo : b\r\n\r\n", "400 Bad Request"),
        ("GET /live HTTP/1.1\r\nHost: a\r\nFoo: b\r\n c\r\n\r\n", "400 Bad Request"),
        ("GET /live\r\n\r\n", "400 Bad Request"),
        ("GET  /live HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
        ("rubbish\r\n\r\n", "400 Bad Request"),
        ("\u{16}\u{3}\u{1}\0\u{7a}", "400 Bad Request"),
        ("GET /live HTTP/2.0\r\nHost: a\r\n\r\n", "505 HTTP Version Not Supported"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 HTTP Version Not Supported"),
        ("POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", "405 Method Not Allowed"),
        ("POST /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "405 Method Not Allowed"),
        ("DELETE /health HTTP/1.1\r\nHost: a\r\n\r\n", "405 Method Not Allowed"),
        ("FOO /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", "405 Method Not Allowed"),
        ("OPTIONS /live HTTP/1.0\r\n\r\n", "200 OK"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK"),
        ("OPTIONS / HTTP/1.0\r\n\r\n", "404 Not Found"),
        ("get /live HTTP/1.1\r\nHost: a\r\n\r\n", "405 Method Not Allowed"),
        ("POST /live HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "501 Not Implemented"),
        (&big, "431 Request Header Fields Too Large"),
        (&long, "414 URI Too Long"),
    ] {
        let shown = request.get(..60).unwrap_or(request);
        let before = clock::now();
        let mut stream = client::connect(address);
        stream.write_all(request.as_bytes()).unwrap();
        // The side that sends is left open where more was announced: no answer waits for it.
        if !request.contains("Content-Length") {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        let answer = client::answer(stream);
        let (head, body) = timeless(before, &answer);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{shown:?}: {head}");
        let allow = answer.status == 405 || request.starts_with("OPTIONS") && answer.status == 200;
        assert_eq!(answer.field("Allow"), allow.then_some("GET, HEAD, OPTIONS"), "{shown:?}");
        let expected = match answer.status {
            200 => "{\"status\":\"alive\",\"timestamp\":\"TS\"}\n".into(),
            404 => "{\"error\":\"404 Not Found\",\"endpoints\":\"/health, /ready, /live\"}\n".into(),
            _ => format!("{{\"error\":\"{status}\"}}\n"),
        };
        assert_eq!(body, expected, "{shown:?}");
    }
}

#[test]
fn the_reason_is_for_those_who_address_us_as_ourselves() {
    let source = Source::new();
    let mut daemon = source.daemon(&[]).connected();
    let address = daemon.address();
    source.remove("passwd");
    until("the verdict to change", || (daemon.get("/health").status == 503).then_some(()));
    let path = source.path("passwd");
    for (head, told) in [
        (format!("HTTP/1.1\r\nHost: {address}"), true),
        ("HTTP/1.1\r\nHost: 127.0.0.1".into(), true),
        ("HTTP/1.1\r\nHost: localhost".into(), true),
        ("HTTP/1.1\r\nHost: LocalHost:8081".into(), true),
        ("HTTP/1.1\r\nHost: [::1]:8081".into(), true),
        ("HTTP/1.1\r\nHost: evil.example".into(), false),
        ("HTTP/1.1\r\nHost: evil.example:8081".into(), false),
        ("HTTP/1.1\r\nHost: localhost.evil.example".into(), false),
        ("HTTP/1.1\r\nHost: 127.0.0.1.evil.example".into(), false),
        ("HTTP/1.1\r\nHost:".into(), false),
        ("HTTP/1.1\r\nHost: localhost\r\nForwarded: for=192.0.2.1".into(), false),
        ("HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1".into(), false),
        ("HTTP/1.1\r\nHost: localhost\r\nVia: 1.1 proxy".into(), false),
        ("HTTP/1.1\r\nHost: localhost\r\nX-Real-IP: 192.0.2.1".into(), false),
        ("HTTP/1.0".into(), false),
        ("HTTP/1.0\r\nHost: localhost".into(), true),
    ] {
        let answer = ask(address, &format!("GET /health {head}\r\n\r\n"));
        assert_eq!(answer.status, 503, "{head:?}");
        let json = answer.json();
        assert_eq!(json.at("details.error"), Some("connector validation failed"), "{head:?}");
        let reason = json.at("details.validation_error");
        assert_eq!(reason.is_some_and(|reason| reason.starts_with(&path)), told, "{head:?}: {reason:?}");
        assert_eq!(answer.body.contains(&in_json(&path)), told, "{head:?}");
    }
    // A name in the target stands for the one in Host.
    let answer = ask(address, "GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((answer.status, answer.json().at("details.validation_error")), (503, None));
}

#[test]
fn the_reason_is_not_for_other_machines() {
    // What this machine calls itself on a network: whoever is asked there sees a peer like any other.
    // Nothing is sent by this, the address is nobody's.
    let route = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()));
    let Some(own) = route.ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback()) else {
        eprintln!("this machine has no address but loopback: not tried");
        return;
    };
    let source = Source::new();
    let mut daemon = source.daemon(&["--health-check-bind-address", &own.to_string()]).connected();
    source.remove("passwd");
    until("the verdict to change", || (daemon.get("/health").status == 503).then_some(()));
    for host in [&*own.to_string(), "127.0.0.1", "localhost"] {
        let answer = ask(daemon.address(), &format!("GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let json = answer.json();
        assert_eq!((json.at("details.error"), json.at("details.validation_error")), (Some("connector validation failed"), None));
    }
    let reason = daemon.line("unhealthy");
    assert!(reason.at("reason").is_some_and(|reason| reason.starts_with(&source.path("passwd"))), "{reason:?}");
}

#[test]
fn a_long_reason_is_cut_for_the_client_and_whole_in_the_log() {
    let source = Source::new();
    let dir = (0..6).fold(source.dir().to_owned(), |dir, _| dir.join("d".repeat(200)));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("passwd").into_os_string().into_string().unwrap();
    std::fs::write(&path, crate::source::PASSWD).unwrap();
    let mut daemon = source.daemon(&["--passwd", &path]).connected();
    std::fs::remove_file(&path).unwrap();
    let answer = until("the verdict to change", || Some(daemon.get("/health")).filter(|answer| answer.status == 503));
    let json = answer.json();
    let reason = json.at("details.validation_error").unwrap();
    assert!(reason.len() <= 1024 && reason.len() > 1000, "{} bytes", reason.len());
    assert!(path.starts_with(reason.strip_suffix("...").unwrap()), "{reason}");
    let line = daemon.line("unhealthy");
    assert!(line.at("reason").unwrap().starts_with(&format!("{path}: ")), "{line:?}");
}

#[test]
fn idle_connections_keep_nobody_out() {
    let source = Source::new();
    let mut daemon = source.daemon(&[]).connected();
    let address = daemon.address();
    let idle: Vec<TcpStream> = (0..100).map(|_| client::connect(address)).collect();
    for (arguments, word) in [(&["--endpoint=live"][..], "alive\n"), (&["--endpoint=ready"], "ready\n"), (&[], "healthy\n")] {
        daemon.probe(arguments).succeeded_with(word);
    }
    drop(idle);
}
