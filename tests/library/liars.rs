//! The probe against servers that answer with anything.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use baton_health::{Endpoint, Phase, Probe, ProbeError, ProbeErrorKind};

use crate::scripted::{Gate, Scripted, Server};
use crate::wait::TEST_TIMEOUT;

/// Long enough for an ordinary exchange, and short enough for a test to wait it out.
const SOON: Duration = Duration::from_millis(300);

/// A server for one connection. It reads the request, and then runs `lie`.
struct Liar {
    address: SocketAddr,
    thread: JoinHandle<String>,
}

impl Liar {
    fn new(lie: impl FnOnce(&mut TcpStream) + Send + 'static) -> Liar {
        Liar::on(TcpListener::bind("127.0.0.1:0").unwrap(), lie)
    }

    fn on(listener: TcpListener, lie: impl FnOnce(&mut TcpStream) + Send + 'static) -> Liar {
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
            stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            lie(&mut stream);
            String::from_utf8(request).unwrap()
        });
        Liar { address, thread }
    }

    fn ask(self, timeout: Duration) -> Result<(), ProbeError> {
        let verdict = Probe::new(self.address).timeout(timeout).run();
        self.thread.join().unwrap();
        if let Err(error) = &verdict {
            let text = error.to_string();
            assert!(text.starts_with(&format!("http://{}/health: ", self.address)), "{text:?}");
            assert!(!text.contains(char::is_control), "{text:?}");
            assert!(text.len() < 16_000, "{} bytes", text.len());
        }
        verdict
    }
}

/// The probe's verdict if the server sends these bytes and closes.
fn verdict_of(bytes: impl AsRef<[u8]> + Send + 'static) -> Result<(), String> {
    let verdict = Liar::new(move |stream| stream.write_all(bytes.as_ref()).unwrap()).ask(TEST_TIMEOUT);
    verdict.map_err(|error| error.kind().to_string())
}

/// Sends `bytes` again and again until the probe closes the connection.
fn endless(stream: &mut TcpStream, bytes: &[u8]) {
    while stream.write_all(bytes).is_ok() {}
}

/// Sends nothing more, and waits until the probe closes the connection.
fn silent(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0]);
}

#[test]
fn a_probe_sends_one_plain_request() {
    let liar = Liar::new(|stream| stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap());
    let address = liar.address;
    Probe::new(address).endpoint(Endpoint::Ready).timeout(Duration::from_secs(7)).run().unwrap();
    let request = liar.thread.join().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        request,
        format!(
            "GET /ready HTTP/1.1\r\nHost: {address}\r\nUser-Agent: baton-health/{version}\r\n\
             Prefer: wait=7\r\nConnection: close\r\n\r\n"
        )
    );
}

#[test]
fn exactly_200_is_success() {
    for status in ["200 OK", "200 ", "200", "200 Not OK", "200 503", "200 \u{e9}"] {
        for version in ["1.1", "1.0"] {
            assert_eq!(verdict_of(format!("HTTP/{version} {status}\r\n\r\n")), Ok(()), "{status}");
        }
    }
    for code in [201, 202, 204, 206, 226, 299, 300, 301, 304, 307, 400, 404, 418, 429, 500, 503, 599, 600, 999] {
        let expected = Err(format!("status {code} Really: why"));
        assert_eq!(verdict_of(format!("HTTP/1.1 {code} Really\r\n\r\nwhy")), expected);
    }
}

#[test]
fn a_redirect_says_where_it_points() {
    let long = "x".repeat(300);
    for (status, location, expected) in [
        ("302 Found", "http://127.0.0.1/", "status 302 Found, Location http://127.0.0.1/: why"),
        ("308 Permanent Redirect", "/ready", "status 308 Permanent Redirect, Location /ready: why"),
        ("301", "\u{9b}2J", "status 301, Location \\x9b2J: why"),
        ("301", &*long, &*format!("status 301, Location {}...: why", "x".repeat(256))),
        ("301", "", "status 301: why"),
        ("503 No", "http://127.0.0.1/", "status 503 No: why"),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nLocation: {location}\r\n\r\nwhy");
        assert_eq!(verdict_of(answer), Err(expected.to_owned()), "{status} {location}");
    }
}

/// A body in the wire format with these details.
fn unhealthy(timestamp: &str, details: &str) -> String {
    format!("{{\"status\":\"unhealthy\",\"timestamp\":\"{timestamp}\",\"details\":{{{details}}}}}\n")
}

#[test]
fn the_same_failure_has_the_same_text() {
    let details = r#""error":"connector validation failed","validation_error":"sign-in: \u001b[2J\"no\"""#;
    let expected = "status 503 No: connector validation failed: sign-in: \\x1b[2J\"no\"";
    for timestamp in ["2025-01-31T12:00:00Z", "2025-01-31T12:00:01Z"] {
        let body = unhealthy(timestamp, details);
        let length = body.len();
        assert_eq!(verdict_of(format!("HTTP/1.1 503 No\r\n\r\n{body}")), Err(expected.to_owned()));
        assert_eq!(
            verdict_of(format!("HTTP/1.1 503 No\r\nContent-Length: {length}\r\n\r\n{body}and more")),
            Err(expected.to_owned())
        );
    }
    // The probe reads the longest text of a health server whole, even if every byte is escaped.
    let longest = unhealthy("TS", &format!(r#""error":"e","validation_error":"{}""#, "\\u0000".repeat(1024)));
    let shown = format!("status 503 No: e: {}", "\\x00".repeat(1024));
    assert_eq!(verdict_of(format!("HTTP/1.1 503 No\r\n\r\n{longest}")), Err(shown));
    // The probe shows any other body as it is.
    for body in [&*unhealthy("TS", r#""error":1"#), r#"{"status":"unhealthy"}"#, r#"{"status":"unhealthy","timestamp":"TS","#] {
        let expected = format!("status 503 No: {}", body.trim_end());
        assert_eq!(verdict_of(format!("HTTP/1.1 503 No\r\n\r\n{body}")), Err(expected));
    }
}

#[test]
fn an_overdue_validation_has_the_same_text_every_time() {
    let gate = Gate::new();
    let connector = Scripted::validate({
        let gate = gate.clone();
        move || {
            gate.pass();
            Ok(())
        }
    });
    let server = Server::with(connector, |config| config.validate_timeout = Duration::from_millis(1));
    for _ in 0..3 {
        let error = Probe::new(server.address()).run().unwrap_err();
        let expected = "status 503 Service Unavailable: connector validation failed: validation has not finished";
        assert_eq!(error.kind().to_string(), expected);
        // The next answer then has another number of milliseconds.
        thread::park_timeout(Duration::from_millis(5));
    }
    gate.open();
}

/// Listeners on the same port of both families, or `None` on a machine without IPv6.
fn on_both_families() -> Option<(TcpListener, TcpListener)> {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("no IPv6 on this machine");
        return None;
    }
    (0..100).find_map(|_| {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let second = TcpListener::bind((Ipv6Addr::LOCALHOST, first.local_addr().unwrap().port())).ok()?;
        Some((first, second))
    })
}

/// A listener on a port of one family; `None` on a machine without IPv6. For IPv6 it takes a port that is
/// free in IPv4, since another server there would get the request.
fn only_on(family: &str) -> Option<TcpListener> {
    match family {
        "::1" => on_both_families().map(|(_, second)| second),
        _ => Some(TcpListener::bind((family, 0)).unwrap()),
    }
}

const UNSPECIFIED: [&str; 3] = ["0.0.0.0", "::", "::ffff:0.0.0.0"];

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

#[test]
fn an_unspecified_address_is_probed_in_the_family_that_listens() {
    for setting in UNSPECIFIED {
        for family in ["127.0.0.1", "::1"] {
            let Some(listener) = only_on(family) else { continue };
            let asked = listener.local_addr().unwrap();
            let liar = Liar::on(listener, |stream| stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap());
            Probe::new(at(setting, asked.port())).timeout(TEST_TIMEOUT).run().unwrap_or_else(|error| panic!("{setting}: {error}"));
            let request = liar.thread.join().unwrap();
            assert!(request.contains(&format!("\r\nHost: {asked}\r\n")), "{request}");
        }
    }
}

#[test]
fn only_the_first_family_that_connects_gets_a_request() {
    let Some((first, second)) = on_both_families() else { return };
    let asked = first.local_addr().unwrap();
    let liar = Liar::on(first, |_| ());
    let error = Probe::new(at("::", asked.port())).timeout(TEST_TIMEOUT).run().unwrap_err();
    assert_eq!(error.to_string(), format!("http://{asked}/health: connection closed before the answer was complete"));
    liar.thread.join().unwrap();
    second.set_nonblocking(true).unwrap();
    assert_eq!(second.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_failure_to_connect_names_both_families() {
    // Nothing listens on the client's own port, and no other program can take it while the connection lives.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let port = client.local_addr().unwrap().port();
    for setting in UNSPECIFIED {
        let address = at(setting, port);
        let error = Probe::new(address).timeout(TEST_TIMEOUT).run().unwrap_err();
        let start = format!("http://{address}/health (tried 127.0.0.1:{port} and [::1]:{port}): cannot connect: ");
        assert!(error.to_string().starts_with(&start), "{error}");
        let refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
        assert!(matches!(error.kind(), ProbeErrorKind::Connect(error) if refused(error)), "{error}");
    }
}

/// Fills the backlog with connections, so that the next client cannot connect.
#[cfg(target_os = "linux")]
fn fill(listener: &TcpListener) -> Vec<TcpStream> {
    const MANY: usize = 5000;
    let address = listener.local_addr().unwrap();
    let waiting: Vec<_> = (0..MANY).map_while(|_| TcpStream::connect_timeout(&address, SOON).ok()).collect();
    assert!(waiting.len() < MANY, "{MANY} connections do not fill the backlog");
    waiting
}

#[test]
#[cfg(target_os = "linux")]
fn a_first_family_that_does_not_respond_leaves_time_for_the_second() {
    let Some((first, second)) = on_both_families() else { return };
    let _waiting = fill(&first);
    let port = first.local_addr().unwrap().port();
    let liar = Liar::on(second, |stream| stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap());
    // The first family uses up half of the time. The other half is enough on a busy machine.
    Probe::new(at("0.0.0.0", port)).timeout(Duration::from_secs(6)).run().unwrap();
    liar.thread.join().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_first_family_that_does_not_respond_is_a_timeout_although_the_second_refuses() {
    let first = TcpListener::bind("127.0.0.1:0").unwrap();
    let _waiting = fill(&first);
    let address = at("0.0.0.0", first.local_addr().unwrap().port());
    let error = Probe::new(address).timeout(SOON).run().unwrap_err();
    assert!(matches!(error.kind(), ProbeErrorKind::TimedOut(Phase::Connecting, SOON)), "{error}");
}

#[test]
fn a_host_field_has_no_zone() {
    const LOOPBACK_INTERFACE: u32 = 1;
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        eprintln!("no IPv6 on this machine");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let liar = Liar::on(listener, |stream| stream.write_all(b"HTTP/1.1 503 No\r\n\r\n").unwrap());
    let zoned = SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, LOOPBACK_INTERFACE);
    let error = Probe::new(zoned.into()).timeout(TEST_TIMEOUT).run().unwrap_err();
    // The message still names the interface.
    assert_eq!(error.to_string(), format!("http://[::1%1]:{port}/health: status 503 No"));
    let request = liar.thread.join().unwrap();
    assert!(request.contains(&format!("\r\nHost: [::1]:{port}\r\n")), "{request}");
}

#[test]
fn a_probes_settings_can_be_read_back() {
    let address = at("::", 8081);
    let probe = Probe::new(address);
    assert_eq!(
        (probe.get_address(), probe.get_endpoint(), probe.get_timeout()),
        (address, Endpoint::Health, Duration::from_secs(5))
    );
    let probe = probe.endpoint(Endpoint::Live).timeout(SOON);
    assert_eq!((probe.get_address(), probe.get_endpoint(), probe.get_timeout()), (address, Endpoint::Live, SOON));
}

#[test]
fn interim_answers_are_skipped() {
    for (interim, rest, expected) in [
        ("100 Continue", "200 OK\r\n\r\n", Ok(())),
        ("102 Processing", "200 OK\r\n\r\n", Ok(())),
        ("103 Early Hints\r\nLink: </>", "HTTP/1.1 100\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Ok(())),
        ("199 What", "503 No\r\n\r\n", Err("status 503 No".into())),
        ("100 Continue", "", Err("connection closed before the answer was complete".into())),
        ("101 Switching Protocols", "200 OK\r\n\r\n", Err("status 101 Switching Protocols: HTTP/1.1 200 OK".to_owned())),
    ] {
        let rest = if rest.is_empty() || rest.starts_with("HTTP") { rest.to_owned() } else { format!("HTTP/1.1 {rest}") };
        assert_eq!(verdict_of(format!("HTTP/1.1 {interim}\r\n\r\n{rest}")), expected, "{interim}");
    }
}

#[test]
fn an_answer_that_is_not_http_is_an_error() {
    const NOT_HTTP: &str = "the answer is not HTTP/1";
    for bytes in [
        &b"HTTP/2.0 200 OK\r\n\r\n"[..],
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 +200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b" HTTP/1.1 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"200 OK\r\n\r\n",
        b"{\"status\":\"healthy\"}\n",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\x16\x03\x01\x00\x02\x02\x46",
        b"\0\0\0\0",
        b"\xff",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: \x1b[2J\r\n\r\n",
        b"HTTP/1.1 200 O\rK\r\n\r\n",
        b"HTTP/1.1 200 OK\0\r\n\r\n",
    ] {
        assert_eq!(verdict_of(bytes), Err(NOT_HTTP.into()), "{}", bytes.escape_ascii());
    }
    for alert in [&b"\x15"[..], b"\x15\x03\x01\x00\x02\x02\x46"] {
        let expected = "the server speaks TLS, the probe plain HTTP; is this the health check's port?";
        assert_eq!(verdict_of(alert), Err(expected.into()), "{}", alert.escape_ascii());
    }
    for unfinished in ["", "H", "HTTP/1.", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nX: y\r\n"] {
        let expected = Err("connection closed before the answer was complete".into());
        assert_eq!(verdict_of(unfinished), expected, "{unfinished:?}");
    }
}

#[test]
fn an_endless_answer_is_cut_off() {
    for (start, more, expected) in [
        ("HTTP/1.1 200 ", "x", "the answer is not HTTP/1"),
        ("HTTP/1.1 200 OK\r\n", "X: y\r\n", "the answer is not HTTP/1"),
        ("HTTP/1.1 200 OK\r\nX: ", "y", "the answer is not HTTP/1"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n", "the answer is not HTTP/1"),
        ("", "\r\n", "the answer is not HTTP/1"),
        ("HTTP/1.1 503 No\r\n\r\n", "x", &*format!("status 503 No: {}...", "x".repeat(2048))),
        (
            "HTTP/1.1 503 No\r\nContent-Length: 18446744073709551615\r\n\r\n",
            "x",
            &*format!("status 503 No: {}...", "x".repeat(2048)),
        ),
        ("HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\n", "x", "status 503 No: xxx"),
        ("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "x", "status 503 No"),
    ] {
        let liar = Liar::new(move |stream| {
            stream.write_all(start.as_bytes()).unwrap();
            endless(stream, more.repeat(1000).as_bytes());
        });
        assert_eq!(liar.ask(TEST_TIMEOUT).unwrap_err().kind().to_string(), expected, "{start:?} {more:?}");
    }
    // A 200 is a success as soon as its head has arrived.
    let liar = Liar::new(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        endless(stream, &[b'x'; 1000]);
    });
    liar.ask(TEST_TIMEOUT).unwrap();
}

#[test]
fn silence_at_any_point_of_an_answer_times_out() {
    for start in ["", "H", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\nX: y\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
        for drip in ["", "x"] {
            // A byte now and then must not extend the time. After an empty or one-byte start it would not be HTTP.
            if start.len() < 2 && !drip.is_empty() {
                continue;
            }
            let liar = Liar::new(move |stream| {
                stream.write_all(start.as_bytes()).unwrap();
                let drip = if start.ends_with("\r\n\r\n") { "" } else { drip };
                if drip.is_empty() {
                    return silent(stream);
                }
                stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
                while stream.write_all(drip.as_bytes()).is_ok() && !matches!(stream.read(&mut [0]), Ok(0)) {}
            });
            let error = liar.ask(SOON).unwrap_err();
            assert!(matches!(error.kind(), ProbeErrorKind::TimedOut(Phase::Receiving, SOON)), "{start:?}: {error}");
            assert_eq!(error.kind().to_string(), "no answer within 300 ms");
        }
    }
    // The status is already known, so the probe reports it without the rest of the body.
    let liar = Liar::new(|stream| {
        stream.write_all(b"HTTP/1.1 503 No\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
        silent(stream);
    });
    assert_eq!(liar.ask(SOON).unwrap_err().kind().to_string(), "status 503 No: half");
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    for (body, expected) in [
        (&b"\x1b[2J\x1b]0;owned\x07"[..], "\\x1b[2J\\x1b]0;owned\\x07"),
        (b"two\r\nlines\n", "two\\x0d\\x0alines"),
        (b"\xc2\x9b31m", "\\x9b31m"),
        (b"\x08\x7f\0", "\\x08\\x7f\\x00"),
        (b"caf\xc3\xa9 \xff", "caf\u{e9} \u{fffd}"),
    ] {
        let answer = [b"HTTP/1.1 503 No\r\n\r\n", body].concat();
        assert_eq!(verdict_of(answer), Err(format!("status 503 No: {expected}")));
    }
    assert_eq!(verdict_of(&b"HTTP/1.1 503 \xc2\x9b31m\xff\r\n\r\n"[..]), Err("status 503 \\x9b31m\u{fffd}".into()));
    // The limit counts bytes before they are escaped.
    let error = verdict_of([&b"HTTP/1.1 503 No\r\n\r\n"[..], &[0x1b; 100_000]].concat()).unwrap_err();
    assert_eq!(error, format!("status 503 No: {}...", "\\x1b".repeat(2048)));
}

#[test]
fn a_reset_is_an_error() {
    let liar = Liar::new(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
        // The head is incomplete, whether the reset destroys the bytes or not.
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    assert!(liar.ask(TEST_TIMEOUT).is_err());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Closing with the request unread resets the connection.
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.peek(&mut [0]).unwrap();
    });
    let error = Probe::new(address).run().unwrap_err();
    thread.join().unwrap();
    assert!(matches!(error.kind(), ProbeErrorKind::Receive(_) | ProbeErrorKind::Closed), "{error}");
}

#[test]
fn a_refused_connection_is_reported_with_advice() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = Probe::new(address).run().unwrap_err();
    assert!(matches!(error.kind(), ProbeErrorKind::Connect(_)));
    let text = error.to_string();
    assert!(text.starts_with(&format!("http://{address}/health: cannot connect: ")), "{text}");
    let advice = "; is the health check enabled (--health-check or BATON_HEALTH_CHECK=true), on this port and address?";
    assert!(text.ends_with(advice), "{text}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_backlog_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _waiting = fill(&listener);
    let error = Probe::new(address).timeout(SOON).run().unwrap_err();
    assert!(matches!(error.kind(), ProbeErrorKind::TimedOut(Phase::Connecting, SOON)), "{error}");
    assert_eq!(error.kind().to_string(), "no connection within 300 ms");
}

#[test]
fn a_server_that_never_accepts_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = Probe::new(listener.local_addr().unwrap()).timeout(SOON).run().unwrap_err();
    assert!(matches!(error.kind(), ProbeErrorKind::TimedOut(Phase::Receiving, SOON)), "{error}");
}

#[test]
fn random_bytes_get_a_verdict() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = move |limit: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 16) as usize % limit
    };
    let pieces: [&[u8]; 12] = [
        b"HTTP/1.1 ",
        b"200",
        b"503",
        b" ",
        b"OK",
        b"\r\n",
        b"\r\n\r\n",
        b"X: y\r\n",
        b"\x1b[m",
        b"\0",
        b"\xff",
        b"Content-Length: 2",
    ];
    let (sender, lies) = mpsc::channel::<Vec<u8>>();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let liar = thread::spawn(move || {
        for lie in lies {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(&lie);
        }
    });
    for _ in 0..300 {
        let mut lie = if below(2) == 0 { b"HTTP/1.1 503 No\r\n".to_vec() } else { Vec::new() };
        (0..below(12)).for_each(|_| lie.extend(pieces[below(pieces.len())]));
        sender.send(lie.clone()).unwrap();
        match Probe::new(address).timeout(TEST_TIMEOUT).run() {
            Ok(()) => assert!(lie.escape_ascii().to_string().contains("HTTP/1.1 200"), "{}", lie.escape_ascii()),
            Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
        }
    }
    drop(sender);
    liar.join().unwrap();
}
