//! What the probe says of whatever it may meet: exit code 0 for exactly 200, 1 for everything else, in one line.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};

use crate::daemon::probe;
use crate::program::{Outcome, program, run, until};
use crate::server::{self, Pace, Server, nobody, untouched};
use crate::source::Source;

/// What a failed probe of `/health` at that address says happened.
#[track_caller]
fn happened(outcome: &Outcome, address: SocketAddr) -> &str {
    let start = format!("baton-passwd: health-check: http://{address}/health: ");
    outcome.complaint().strip_prefix(&start).unwrap_or_else(|| panic!("not {start:?}: {outcome:?}"))
}

/// What a probe says of a server that fails it.
#[track_caller]
fn verdict_on(server: &Server) -> String {
    happened(&run(&mut probe(server.address)), server.address).to_owned()
}

const NOT_HTTP: &str = "the answer is not HTTP/1";
const CLOSED: &str = "connection closed before the answer was complete";

#[test]
fn a_connector_that_is_well_passes_at_every_endpoint() {
    let source = Source::new();
    let mut daemon = source.daemon(&[]).connected();
    for (arguments, word) in [
        (&[][..], "healthy\n"),
        (&["--endpoint=health"], "healthy\n"),
        (&["--endpoint=ready"], "ready\n"),
        (&["--endpoint", "live"], "alive\n"),
    ] {
        daemon.probe(arguments).succeeded_with(word);
    }
}

#[test]
fn an_unhealthy_connector_fails_with_its_reason() {
    let source = Source::new();
    let mut daemon = source.daemon(&[]).connected();
    source.remove("group");
    let address = daemon.address();
    let outcome = until("the verdict to change", || Some(daemon.probe(&[])).filter(|outcome| outcome.code != Some(0)));
    let text = happened(&outcome, address);
    let start = ["status 503 Service Unavailable: connector validation failed: ", &source.path("group"), ": "].concat();
    assert!(text.starts_with(&start), "{text}");
    // Engines count equal lines and list different ones.
    assert_eq!(daemon.probe(&[]), outcome);
}

#[test]
fn the_request_is_a_plain_get_sent_once() {
    for (arguments, path, wait) in [
        (&[][..], "/health", 5),
        (&["--endpoint=ready", "--timeout=7"], "/ready", 7),
        (&["--endpoint=live", "--timeout=3600"], "/live", 3600),
    ] {
        let server = Server::says("HTTP/1.1 503 no\r\n\r\n");
        let address = server.address;
        let outcome = run(probe(address).args(arguments));
        assert_eq!(outcome.complaint(), format!("baton-passwd: health-check: http://{address}{path}: status 503 no"));
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: baton-health/{version}\r\n\
             Prefer: wait={wait}\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(server.request(), expected);
    }
}

#[test]
fn the_status_is_200_or_it_is_a_failure() {
    for line in
        ["HTTP/1.1 200 OK", "HTTP/1.0 200 OK", "HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 200 No Content", "HTTP/1.9 200 OK"]
    {
        run(&mut probe(Server::says(format!("{line}\r\n\r\n")).address)).succeeded_with("healthy\n");
    }
    for status in [
        "201 Created",
        "202 Accepted",
        "203 Non-Authoritative Information",
        "204 No Content",
        "205 Reset Content",
        "206 Partial Content",
        "226 IM Used",
        "299 ?",
        "101 Switching Protocols",
        "300 Multiple Choices",
        "301 Moved Permanently",
        "303 See Other",
        "304 Not Modified",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
        "400 Bad Request",
        "401 Unauthorized",
        "404 Not Found",
        "407 Proxy Authentication Required",
        "429 Too Many Requests",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "511 Network Authentication Required",
        "599 200 OK",
        "999 ?",
    ] {
        let server = Server::says(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno, and this is not part of it"));
        assert_eq!(verdict_on(&server), format!("status {status}: no"));
    }
    for status in
        ["20 OK", "2000 OK", "2OO OK", "-200 OK", "+200 OK", " 200 OK", "000 OK", "099 OK", "0200 OK", "OK", "", "200\tOK"]
    {
        assert_eq!(verdict_on(&Server::says(format!("HTTP/1.1 {status}\r\n\r\n"))), NOT_HTTP, "{status}");
    }
}

#[test]
fn interim_answers_are_waited_out() {
    for interim in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n", "HTTP/1.1 102\n\n"] {
        let good = Server::says([interim, interim, "HTTP/1.1 200 OK\r\n\r\n"].concat());
        run(&mut probe(good.address)).succeeded_with("healthy\n");
        assert_eq!(verdict_on(&Server::says([interim, "HTTP/1.1 503 no\r\n\r\n"].concat())), "status 503 no");
        assert_eq!(verdict_on(&Server::says(interim)), CLOSED);
        assert_eq!(verdict_on(&Server::says([interim, "HTTP/1.1 999999\r\n\r\n"].concat())), NOT_HTTP);
        // They do not go on for ever.
        assert_eq!(verdict_on(&Server::says_for_ever("", interim, Pace::Flood)), NOT_HTTP);
    }
}

#[test]
fn what_does_not_speak_http_is_no_connector() {
    for (said, expected) in [
        (&b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"[..], NOT_HTTP),
        (b"220 mail.example ESMTP\r\n", NOT_HTTP),
        (b"+OK\r\n", NOT_HTTP),
        (b"-ERR wrong number of arguments for 'get' command\r\n", NOT_HTTP),
        (b"\x15\x03\x01\x00\x02\x02\x16", "the server speaks TLS, the probe plain HTTP; is this the health check's port?"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", NOT_HTTP),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NOT_HTTP),
        (b"HTTP/2 200\r\n\r\n", NOT_HTTP),
        (b"HTTP/2.0 200 OK\r\n\r\n", NOT_HTTP),
        (b"http/1.1 200 OK\r\n\r\n", NOT_HTTP),
        (b" HTTP/1.1 200 OK\r\n\r\n", NOT_HTTP),
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\nno field\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", NOT_HTTP),
        (b"{\"status\":\"healthy\"}\n", NOT_HTTP),
        (b"<html>200 OK</html>", NOT_HTTP),
        (b"200 OK\r\n\r\n", NOT_HTTP),
        (b"\n\n\n\n", NOT_HTTP),
        (b"\xff\xfe\x1b[2J\x07", NOT_HTTP),
        (b"", CLOSED),
        (b"HTTP/1.1 200 OK", CLOSED),
        (b"HTTP/1.1 200 OK\r\n", CLOSED),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n", CLOSED),
    ] {
        assert_eq!(verdict_on(&Server::says(said)), expected, "{:?}", String::from_utf8_lossy(said));
    }
    // It is known at once, however long the far side would go on waiting for its turn.
    let ssh = Server::stalls_after("SSH-2.0-OpenSSH_9.2p1\r\n");
    let outcome = run(probe(ssh.address).arg("--timeout=3600"));
    assert_eq!(happened(&outcome, ssh.address), NOT_HTTP);
}

#[test]
fn a_redirect_is_a_failure_and_is_not_followed() {
    let target = server::listener();
    let elsewhere = target.local_addr().unwrap();
    for status in ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let server = Server::says(format!("HTTP/1.1 {status}\r\nLocation: http://{elsewhere}/health\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(verdict_on(&server), format!("status {status}, Location http://{elsewhere}/health"));
    }
    assert!(untouched(&target));
}

#[test]
fn nobody_listening_is_a_failure_that_says_what_may_be_wrong() {
    let (address, _kept) = nobody();
    let outcome = run(probe(address).arg("--timeout=3600"));
    let text = happened(&outcome, address);
    let advice = "; is the health check enabled (--health-check or BATON_HEALTH_CHECK=true), on this port and address?";
    assert!(text.starts_with("cannot connect: ") && text.ends_with(advice), "{text}");
}

#[test]
fn one_deadline_holds_for_all_of_the_exchange() {
    const TIMED_OUT: &str = "no answer within 1 s";
    for server in [
        Server::stalls_after(""),
        Server::stalls_after("H"),
        Server::stalls_after("HTTP/1.1 200 OK\r\n"),
        Server::stalls_after("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"),
        Server::stalls_after("HTTP/1.1 100 Continue\r\n\r\n"),
        Server::says_for_ever("HTTP/1.1 200 ", "O", Pace::Drip),
        Server::says_for_ever("HTTP/1.1 200 OK\r\n", "A: b\r\n", Pace::Drip),
        Server::says_for_ever("", "HTTP/1.1 100 Continue\r\n\r\n", Pace::Drip),
    ] {
        let outcome = run(probe(server.address).arg("--timeout=1"));
        assert_eq!(happened(&outcome, server.address), TIMED_OUT);
    }
    // The status is there, and the rest of the body never comes: it is shown as far as it came. On a slow machine that
    // takes longer than a second.
    for server in [
        Server::stalls_after("HTTP/1.1 503 no\r\n\r\nbecause"),
        Server::stalls_after("HTTP/1.1 503 no\r\nContent-Length: 100\r\n\r\nbecause"),
    ] {
        let outcome = run(probe(server.address).arg("--timeout=3"));
        assert_eq!(happened(&outcome, server.address), "status 503 no: because");
    }
    let server = Server::says_for_ever("HTTP/1.1 503 no\r\n\r\nbecause", ".", Pace::Drip);
    let outcome = run(probe(server.address).arg("--timeout=3"));
    assert!(happened(&outcome, server.address).starts_with("status 503 no: because"), "{outcome:?}");
}

#[test]
fn a_head_without_end_is_not_http() {
    for (first, again) in [("HTTP/1.1 200 ", "O"), ("HTTP/1.1 200 OK\r\n", "A: b\r\n"), ("HTTP/1.1 200 OK\r\nA: ", "bbbbbbbb")] {
        let server = Server::says_for_ever(first, again.repeat(512), Pace::Flood);
        let outcome = run(probe(server.address).arg("--timeout=3600"));
        assert_eq!(happened(&outcome, server.address), NOT_HTTP, "{first:?}");
    }
}

#[test]
fn a_body_without_end_is_cut() {
    for head in [
        "HTTP/1.1 503 no\r\n\r\n",
        "HTTP/1.1 503 no\r\nContent-Length: 1000000000000\r\n\r\n",
        "HTTP/1.1 503 no\r\nContent-Length: 99999999999999999999\r\n\r\n",
    ] {
        let server = Server::says_for_ever(head, "x".repeat(100_000), Pace::Flood);
        let outcome = run(probe(server.address).arg("--timeout=3600"));
        assert_eq!(happened(&outcome, server.address), format!("status 503 no: {}...", "x".repeat(2048)));
    }
    // No more of it is waited for than is shown.
    let server = Server::stalls_after(["HTTP/1.1 503 no\r\nContent-Length: 10000000\r\n\r\n", &"x".repeat(2049)].concat());
    let outcome = run(probe(server.address).arg("--timeout=3600"));
    assert_eq!(happened(&outcome, server.address), format!("status 503 no: {}...", "x".repeat(2048)));
    // Of a good answer nothing is read that is not needed.
    let server = Server::says_for_ever("HTTP/1.1 200 OK\r\n\r\n", "x".repeat(100_000), Pace::Flood);
    run(probe(server.address).arg("--timeout=3600")).succeeded_with("healthy\n");
    let server = Server::stalls_after("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    run(probe(server.address).arg("--timeout=3600")).succeeded_with("healthy\n");
}

#[test]
fn nothing_that_was_sent_reaches_the_terminal_as_a_command() {
    // `complaint` asserts that there is one line, and no control character in it.
    for (said, expected) in [
        ("HTTP/1.1 503 no\r\n\r\n\u{1b}[31mred\u{1b}[0m", "status 503 no: \\x1b[31mred\\x1b[0m"),
        ("HTTP/1.1 503 no\r\n\r\n\u{1b}]0;title\u{7}", "status 503 no: \\x1b]0;title\\x07"),
        ("HTTP/1.1 503 no\r\n\r\none\r\ntwo\nthree\n", "status 503 no: one\\x0d\\x0atwo\\x0athree"),
        ("HTTP/1.1 503 no\r\n\r\n\u{9b}2J\u{85}\u{7f}\u{8}\0", "status 503 no: \\x9b2J\\x85\\x7f\\x08\\x00"),
        ("HTTP/1.1 503 nö\r\n\r\nschön", "status 503 nö: schön"),
    ] {
        assert_eq!(verdict_on(&Server::says(said)), expected);
    }
    assert_eq!(
        verdict_on(&Server::says(*b"HTTP/1.1 503 \xff\r\n\r\na\xc3\x9b\x9b\xffz")),
        "status 503 \u{fffd}: a\u{db}\u{fffd}\u{fffd}z"
    );
    let every_byte: Vec<u8> = (0..=255).collect();
    verdict_on(&Server::says([&b"HTTP/1.1 503 no\r\n\r\n"[..], &every_byte].concat()));
    assert_eq!(verdict_on(&Server::says("HTTP/1.1 503 \u{1b}[31m\r\n\r\n")), NOT_HTTP);
}

#[test]
fn no_proxy_is_asked() {
    let proxy = server::listener();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let source = Source::new();
    let mut daemon = source.daemon(&["--health-check-bind-address=0.0.0.0"]).connected();
    let port = daemon.address().port().to_string();
    let (nowhere, _kept) = nobody();
    for (port, code) in [(port, 0), (nowhere.port().to_string(), 1)] {
        for address in ["127.0.0.1", "0.0.0.0", "localhost"] {
            let mut command = program(["health-check", "--health-check-port", &port, "--health-check-bind-address", address]);
            for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
                command.env(name, &url);
            }
            let outcome = run(command.env_remove("NO_PROXY").env_remove("no_proxy"));
            assert_eq!(outcome.code, Some(code), "{outcome:?}");
        }
    }
    assert!(untouched(&proxy));
}

#[test]
fn none_of_the_connectors_settings_is_read() {
    let source = Source::new();
    let mut daemon = source.daemon(&[]).connected();
    let address = daemon.address();
    let mut command = probe(address);
    command
        .env("BATON_PASSWD", "/nonexistent/passwd")
        .env("BATON_GROUP", "")
        .env("BATON_SYNC_INTERVAL", "abc")
        .env("BATON_HEALTH_CHECK", "maybe");
    run(&mut command).succeeded_with("healthy\n");
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        run(command.env("BATON_GROUP", std::ffi::OsStr::from_bytes(b"\xff"))).succeeded_with("healthy\n");
    }
}

#[test]
fn one_environment_serves_the_server_and_the_probe() {
    let source = Source::new();
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    for (address, asked, ipv6) in [
        ("127.0.0.1", "127.0.0.1", false),
        ("0.0.0.0", "127.0.0.1", false),
        ("localhost", "127.0.0.1", false),
        ("LOCALHOST", "127.0.0.1", false),
        ("::ffff:127.0.0.1", "127.0.0.1", false),
        ("::1", "::1", true),
        ("[::1]", "::1", true),
        ("::", "127.0.0.1", true),
        ("[::]", "127.0.0.1", true),
    ] {
        if ipv6 && !has_ipv6 {
            eprintln!("no IPv6 on this machine: {address} is not tried");
            continue;
        }
        let mut daemon = source.daemon(&["--health-check-bind-address", address]).connected();
        let port = daemon.address().port();
        let mut command = source.program(&["health-check"]);
        command.env("BATON_HEALTH_CHECK", "true").env("BATON_HEALTH_CHECK_PORT", port.to_string());
        run(command.env("BATON_HEALTH_CHECK_BIND_ADDRESS", address)).succeeded_with("healthy\n");
        drop(daemon);
        // A server that closes without a word tells which address was asked.
        let asked: IpAddr = asked.parse().unwrap();
        let silent = TcpListener::bind((asked, 0)).unwrap();
        let port = silent.local_addr().unwrap().port();
        std::thread::spawn(move || drop(silent.accept()));
        let outcome = run(command.env("BATON_HEALTH_CHECK_PORT", port.to_string()));
        let asked = SocketAddr::new(asked, port);
        assert!(outcome.complaint().starts_with(&format!("baton-passwd: health-check: http://{asked}/health: ")), "{outcome:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_that_takes_no_connections_runs_into_the_deadline() {
    use std::io::ErrorKind;
    use std::net::TcpStream;
    use std::time::Duration;

    // Nobody accepts, so the backlog fills up; beyond it the system leaves connections unanswered.
    let listener = server::listener();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    let mut unanswered = 0;
    while unanswered < 3 {
        match TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            Ok(stream) => waiting.push(stream),
            Err(error) if error.kind() == ErrorKind::TimedOut => unanswered += 1,
            Err(error) => panic!("after {} connections: {error}", waiting.len()),
        }
        assert!(waiting.len() < 900, "the backlog has no end");
    }
    let outcome = run(probe(address).arg("--timeout=1"));
    assert_eq!(happened(&outcome, address), "no connection within 1 s");
}

#[cfg(target_os = "linux")]
#[test]
fn a_connection_that_the_system_gives_up_on_is_reported_with_the_time_it_took() {
    // A network of its own, in which packets to one address get lost and the system tries only once more.
    const NETWORK: &str = "ip link set lo up && ip route add 192.0.2.1 dev lo src 127.0.0.1 && \
        echo 1 >/proc/sys/net/ipv4/tcp_syn_retries || exit 77; exec \"$@\"";
    let mut command = probe("192.0.2.1:80".parse().unwrap());
    command.arg("--timeout=3600");
    let mut shell = std::process::Command::new("unshare");
    shell.args(["--net", "sh", "-c", NETWORK, "sh"]).arg(command.get_program()).args(command.get_args());
    shell.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let outcome = run(&mut shell);
    if outcome.code == Some(77) || outcome.stderr.starts_with("unshare: ") {
        eprintln!("no network of its own can be had here: {outcome:?}");
        return;
    }
    let text = happened(&outcome, "192.0.2.1:80".parse().unwrap());
    let seconds = text.strip_prefix("no connection within ").and_then(|rest| rest.strip_suffix(" s")?.parse::<u32>().ok());
    assert!(seconds.is_some_and(|seconds| (1..600).contains(&seconds)), "{text}");
}

#[test]
fn a_reset_is_a_failure() {
    // What was sent and never read makes closing a reset.
    let server = Server::new(|stream| {
        let mut second = stream.try_clone().expect("descriptors can be had");
        let _ = second.write_all(b"HTTP/1.1 200 OK\r\n");
    });
    let text = verdict_on(&server);
    assert!(text == CLOSED || text.starts_with("cannot read the answer: "), "{text}");
}
