//! How the daemon starts, what it does while it cannot connect, and how it ends.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::client;
use crate::daemon::{Daemon, log_line};
use crate::endpoints::assert_answer;
use crate::program::{self, run, started_by, until};
use crate::server;
use crate::source::{PASSWD, Source};

#[test]
fn the_address_is_logged_with_the_port_that_was_free() {
    let source = Source::new();
    let mut daemon = source.daemon(&[]);
    let line = daemon.line("listening");
    assert_eq!((line.names(), line.at("level")), (vec!["time", "level", "msg", "address"], Some("info")));
    let address = line.at("address").and_then(|address| address.parse().ok());
    let address: std::net::SocketAddr = address.unwrap_or_else(|| panic!("{line:?}"));
    assert!(address.ip().is_loopback() && address.port() != 0, "{line:?}");
    assert_eq!(client::get(address, "/live").status, 200);
}

#[test]
fn an_address_that_cannot_be_had_ends_it_before_anything_else_starts() {
    let taken = server::listener();
    let port = taken.local_addr().unwrap().port();
    let source = Source::new();
    // TEST-NET-1 is nobody's address.
    for (address, port, hint) in [
        ("127.0.0.1", port, "; choose another port with --health-check-port (this one: --health-check-port)"),
        ("192.0.2.1", 8081, "; it is not an address of this machine (--health-check-bind-address), 0.0.0.0 means all"),
    ] {
        let bind = format!("--health-check-bind-address={address}");
        let outcome = run(&mut source.program(&["--health-check", "--health-check-port", &port.to_string(), &bind]));
        let line = log_line(outcome.complaint());
        assert_eq!((line.at("level"), line.at("msg")), (Some("error"), Some("failed")), "{outcome:?}");
        let reason = line.at("error").and_then(|error| error.strip_prefix(&format!("{address}:{port}: ")));
        assert!(line.at("what") == Some("listen") && reason.is_some_and(|reason| reason.ends_with(hint)), "{outcome:?}");
    }
    assert!(server::untouched(&taken));
}

#[test]
fn without_health_check_nothing_listens_and_the_connector_works_as_before() {
    for arguments in [&["--sync-interval=1"][..], &["--sync-interval=1", "--health-check=false"]] {
        let source = Source::new();
        let mut daemon = Daemon::start(&mut source.program(arguments));
        daemon.line("connected");
        assert_eq!(daemon.messages(), ["health check is off", "read accounts", "connected"]);
        #[cfg(target_os = "linux")]
        assert_eq!(listening_sockets(&daemon), 0);
        source.put("passwd", format!("{PASSWD}bob:x:1001:100::/home/bob:/bin/sh\n"));
        assert_eq!(daemon.line("user added").at("name"), Some("bob"));
        daemon.signal("TERM");
        assert_eq!(daemon.exit(), Some(0));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn with_health_check_one_socket_listens() {
    let source = Source::new();
    assert_eq!(listening_sockets(&source.daemon(&[]).connected()), 1);
    // One for all addresses too, unless IPv6 sockets take no IPv4 connections here.
    let apart = std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only").is_ok_and(|value| value.trim() == "1");
    let all = source.daemon(&["--health-check-bind-address=0.0.0.0"]).connected();
    assert_eq!(listening_sockets(&all), if apart { 2 } else { 1 });
}

/// How many sockets of the process other processes could connect to.
#[cfg(target_os = "linux")]
fn listening_sockets(daemon: &Daemon) -> usize {
    use std::fs;

    let tables = ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/{}/net/{name}", daemon.id())).unwrap_or_default());
    let listening: Vec<String> = tables
        .iter()
        .flat_map(|table| table.lines())
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        // State 0A is LISTEN; the tenth column is the socket's number.
        .filter(|columns| columns.get(3) == Some(&"0A"))
        .filter_map(|columns| columns.get(9).map(|inode| format!("socket:[{inode}]")))
        .collect();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", daemon.id())).expect("the process lives");
    let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()?.into_os_string().into_string().ok());
    links.collect::<std::collections::BTreeSet<_>>().iter().filter(|link| listening.contains(link)).count()
}

#[test]
fn a_missing_source_ends_it_naming_the_file() {
    for (missing, health_check) in [("passwd", false), ("passwd", true), ("group", false), ("group", true)] {
        let source = Source::new();
        source.remove(missing);
        let mut daemon = if health_check { source.daemon(&[]) } else { Daemon::start(&mut source.program(&[])) };
        let line = daemon.line("failed");
        assert_eq!((line.at("level"), line.at("what")), (Some("error"), Some("connect")), "{line:?}");
        let error = line.at("error").unwrap_or_default();
        assert!(error.starts_with(&[&source.path(missing), ": "].concat()), "{line:?}");
        assert!(error.ends_with(&format!(" (BATON_{})", missing.to_uppercase())), "{line:?}");
        assert_eq!(daemon.exit(), Some(1));
        assert_eq!(daemon.messages(), if health_check { ["listening", "failed"] } else { ["health check is off", "failed"] });
    }
}

#[test]
fn a_source_that_is_broken_from_the_start_ends_it_naming_file_line_and_reason() {
    let source = Source::new();
    source.put("passwd", "root:x:0:0:root:/root:/bin/sh\n\nann:x:one:100:Ann:/home/ann:/bin/sh\n");
    let outcome = run(&mut source.program(&[]));
    let line = outcome.stderr.lines().map(log_line).find(|line| line.at("msg") == Some("failed")).expect("why it failed");
    let expected = [&source.path("passwd"), ":3: uid is not a number from 0 to 4294967295 (BATON_PASSWD)"].concat();
    assert_eq!((line.at("what"), line.at("error")), (Some("connect"), Some(&*expected)));
}

/// A daemon that hangs while it connects.
fn connecting(source: &Source) -> (Daemon, std::fs::File) {
    source.put_pipe("passwd");
    let mut daemon = source.daemon(&[]);
    daemon.address();
    let reader = source.wait_for_reader("passwd");
    (daemon, reader)
}

#[test]
fn while_it_connects_it_is_alive_and_not_ready() {
    const ABSENT: &str = "\"timestamp\":\"TS\",\"details\":{\"error\":\"failed to get connector client\"}}\n";
    let source = Source::new();
    let (mut daemon, mut reader) = connecting(&source);
    let address = daemon.address();
    assert_answer(address, "/live", "200 OK", "{\"status\":\"alive\",\"timestamp\":\"TS\"}\n");
    assert_answer(address, "/ready", "503 Service Unavailable", &["{\"status\":\"not_ready\",", ABSENT].concat());
    assert_answer(address, "/health", "503 Service Unavailable", &["{\"status\":\"unhealthy\",", ABSENT].concat());
    daemon.probe(&["--endpoint=live"]).succeeded_with("alive\n");
    for argument in ["--endpoint=ready", "--endpoint=health"] {
        let outcome = daemon.probe(&[argument]);
        let complaint = outcome.complaint();
        assert!(complaint.ends_with(": status 503 Service Unavailable: failed to get connector client"), "{complaint}");
    }

    // It is given what it waits for.
    source.put("passwd", PASSWD);
    reader.write_all(PASSWD.as_bytes()).unwrap();
    drop(reader);
    let mut daemon = daemon.connected();
    daemon.probe(&["--endpoint=ready"]).succeeded_with("ready\n");
    daemon.probe(&[]).succeeded_with("healthy\n");
}

#[test]
fn connecting_that_takes_long_is_logged_at_growing_intervals() {
    let source = Source::new();
    let (mut daemon, _reader) = connecting(&source);
    assert_eq!(daemon.line("connecting").at("level"), Some("info"));
    let first = daemon.line("still connecting");
    assert_eq!((first.at("level"), first.at("seconds")), (Some("warn"), Some("2")));
    assert_eq!(daemon.line("still connecting").at("seconds"), Some("4"));
    daemon.signal("TERM");
    assert_eq!(daemon.exit(), Some(0));
}

/// A daemon whose work hangs.
fn syncing(source: &Source) -> (Daemon, std::fs::File) {
    let daemon = source.daemon(&["--sync-interval=1"]).connected();
    source.put_pipe("group");
    let reader = source.wait_for_reader("group");
    (daemon, reader)
}

#[test]
fn a_signal_ends_it_at_once_while_it_connects() {
    for signal in ["TERM", "INT"] {
        let (source, busy) = (Source::new(), Source::new());
        let (mut daemon, _reader) = connecting(&source);
        // Another one has work to finish, and takes all the time there is. It is asked first.
        let (mut other, _work) = syncing(&busy);
        other.signal(signal);
        other.line("draining");
        daemon.signal(signal);
        assert_eq!(daemon.exit(), Some(0), "{signal}");
        let mut messages = daemon.messages();
        // On a slow machine it may have taken long already.
        messages.retain(|message| !message.ends_with("connecting"));
        assert_eq!(messages, ["listening", "draining"], "{signal}");
        assert!(other.is_running(), "{signal}");
    }
}

#[test]
fn a_signal_has_it_drain_and_exit_with_0() {
    for (signal, health_check) in [("TERM", true), ("INT", true), ("HUP", true), ("TERM", false), ("INT", false), ("HUP", false)] {
        let source = Source::new();
        let mut daemon = match health_check {
            true => source.daemon(&[]).connected(),
            false => Daemon::start(&mut source.program(&[])),
        };
        if !health_check {
            daemon.line("connected");
        }
        daemon.signal(signal);
        assert_eq!(daemon.exit(), Some(0), "{signal}");
        let first = if health_check { "listening" } else { "health check is off" };
        assert_eq!(daemon.messages(), [first, "read accounts", "connected", "draining", "finished"], "{signal}");
        if health_check {
            let address = daemon.address();
            assert!(TcpStream::connect(address).is_err(), "{address} still answers");
        }
    }
}

#[test]
fn a_stalled_client_does_not_keep_it_from_ending() {
    let source = Source::new();
    let mut daemon = source.daemon(&[]).connected();
    let address = daemon.address();
    let _silent = client::connect(address);
    let mut stalled = client::connect(address);
    stalled.write_all(b"GET /live HTTP/1.1\r\nHost: a\r\n").unwrap();
    // It has been taken: whoever came after it has been answered.
    assert_eq!(daemon.get("/live").status, 200);
    daemon.signal("TERM");
    assert_eq!(daemon.exit(), Some(0));
}

/// A daemon whose validation hangs, and a client that waits for what comes of it.
fn validating(source: &Source) -> (Daemon, TcpStream, std::fs::File) {
    // Nothing else reads the pipe meanwhile.
    let mut daemon = source.daemon(&["--sync-interval=86400"]).connected();
    source.put_pipe("passwd");
    let mut client = client::connect(daemon.address());
    client.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let reader = source.wait_for_reader("passwd");
    (daemon, client, reader)
}

/// The answer comes a quarter of a second before the end. If a busy machine takes that moment away, the next attempt
/// may succeed.
#[test]
fn who_waits_for_a_verdict_is_answered_before_it_ends() {
    let answer = until("an answer", || {
        let source = Source::new();
        let (mut daemon, mut client, _reader) = validating(&source);
        daemon.signal("TERM");
        let mut text = String::new();
        let read = client.read_to_string(&mut text);
        assert_eq!(daemon.exit(), Some(0));
        Some(text).filter(|text| read.is_ok() && !text.is_empty())
    });
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"status\":\"unhealthy\""), "{answer}");
    assert!(answer.contains("\"validation_error\":\"the connector is shutting down"), "{answer}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (second, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let source = Source::new();
        // Left alone, it would wait for the verdict as long as it may, and exit with 0.
        let (mut daemon, _client, _reader) = validating(&source);
        daemon.signal("TERM");
        daemon.line("draining");
        // For half a second a signal counts as the same request.
        until("the end", || {
            daemon.signal(second);
            (!daemon.is_running()).then_some(())
        });
        assert_eq!(daemon.exit(), Some(code), "{second}");
    }
}

#[test]
fn signals_that_come_together_are_one_request() {
    let source = Source::new();
    let mut daemon = source.daemon(&[]).connected();
    // All of them are delivered when it goes on.
    for signal in ["STOP", "TERM", "INT", "HUP", "CONT"] {
        daemon.signal(signal);
    }
    assert_eq!(daemon.exit(), Some(0));
    assert_eq!(daemon.messages(), ["listening", "read accounts", "connected", "draining", "finished"]);
}

#[cfg(target_os = "linux")]
#[test]
fn signals_that_the_parent_blocked_are_let_through() {
    let source = Source::new();
    for signal in ["TERM", "INT", "HUP"] {
        let starter = ["env", "--block-signal=TERM", "--block-signal=INT", "--block-signal=HUP"];
        let mut daemon = Daemon::start(&mut started_by(&starter, &source.program(&[]))).connected_without_server();
        daemon.signal(signal);
        assert_eq!(daemon.exit(), Some(0), "{signal}");
    }
}

#[test]
fn under_nohup_a_closed_terminal_does_not_end_it() {
    let source = Source::new();
    let starter = ["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""];
    let mut daemon = Daemon::start(&mut started_by(&starter, &source.program(&["--sync-interval=1"])));
    daemon.line("connected");
    daemon.signal("HUP");
    source.put("passwd", format!("{PASSWD}bob:x:1001:100::/home/bob:/bin/sh\n"));
    daemon.line("user added");
    daemon.signal("TERM");
    assert_eq!(daemon.exit(), Some(0));
}

/// Its output goes to a file, and the system allows it no byte of it.
#[test]
fn a_limit_on_the_size_of_files_kills_neither_daemon_nor_probe() {
    let starter = ["sh", "-c", "ulimit -f 0; exec \"$0\" \"$@\""];
    let source = Source::new();
    let mut daemon = source.daemon(&[]).connected();
    let port = daemon.address().port().to_string();
    let file = || std::fs::File::create(source.path("output")).unwrap();
    let probe = program::program(["health-check", "--health-check-port", &port]);
    let outcome = run(started_by(&starter, &probe).stdout(file()));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stderr.starts_with("baton-passwd: cannot write to standard output: "), "{outcome:?}");
    source.remove("passwd");
    let outcome = run(started_by(&starter, &source.program(&[])).stderr(file()));
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
}

#[test]
fn work_that_hangs_does_not_keep_it_from_ending_and_it_is_not_ready_meanwhile() {
    let source = Source::new();
    let (mut daemon, _reader) = syncing(&source);
    let address = daemon.address();
    assert_eq!(daemon.get("/ready").status, 200);
    daemon.signal("TERM");
    daemon.line("draining");
    let answer = until("it to be no longer ready", || Some(client::get(address, "/ready")).filter(|answer| answer.status == 503));
    assert_eq!(answer.json().at("status"), Some("not_ready"));
    assert_eq!(client::get(address, "/live").status, 200);
    // Whoever reads the log learns that something was cut off.
    assert_eq!(daemon.line("connector did not finish in time").at("level"), Some("warn"));
    assert_eq!(daemon.exit(), Some(0));
}

#[test]
fn a_validation_that_hangs_is_an_answer_in_time() {
    let source = Source::new();
    let (mut daemon, client, mut reader) = validating(&source);
    let address = daemon.address();
    // Whoever says how long they wait is told before that; the others do not mind.
    let answer = client::ask(address, "GET /health HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=1\r\n\r\n");
    let json = answer.json();
    let reason = json.at("details.validation_error").unwrap_or_default();
    assert!(answer.status == 503 && reason.starts_with("validation has not finished after "), "{answer:?}");
    assert_eq!((daemon.get("/ready").status, daemon.get("/live").status), (200, 200));
    // So is the probe: a text rather than a timeout, and without a time that differs from probe to probe.
    let expected = ": status 503 Service Unavailable: connector validation failed: validation has not finished";
    until("a reason", || daemon.probe(&["--timeout=3"]).complaint().ends_with(expected).then_some(()));

    // It is asked only once, and recovers when it can.
    source.put("passwd", PASSWD);
    reader.write_all(PASSWD.as_bytes()).unwrap();
    drop(reader);
    assert_eq!(client::answer(client).status, 200);
    daemon.probe(&[]).succeeded_with("healthy\n");
}

#[test]
#[cfg(target_os = "linux")]
fn a_log_that_nobody_reads_holds_nothing_up() {
    use crate::program::Running;
    let source = Source::new();
    let (_reader, stderr) = program::stuck();
    let mut daemon = Running::start(source.program(&["--health-check", "--health-check-port=0"]).stderr(stderr));
    let tasks = format!("/proc/{}/task", daemon.id());
    // The connector has its own thread once the server has said that it listens.
    until("the connector", || {
        let names =
            std::fs::read_dir(&tasks).ok()?.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.into_iter().any(|name| name.trim() == "connector").then_some(())
    });
    let sent = run(std::process::Command::new("kill").args(["-TERM", &daemon.id().to_string()]));
    assert_eq!(sent.code, Some(0));
    assert_eq!(daemon.wait().code(), Some(0));
}
