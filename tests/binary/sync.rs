//! The reference connector at work: what it logs of its source, and what the endpoints say of it.

use std::io::Write;
use std::thread;

use crate::daemon::Daemon;
use crate::program::{program, run, until};
use crate::source::{GROUP, PASSWD, Source};

#[test]
fn what_is_there_is_counted_when_it_connects() {
    let source = Source::new();
    let mut daemon = Daemon::start(&mut source.program(&[]));
    let line = daemon.line("read accounts");
    assert_eq!(
        (line.at("level"), line.at("users"), line.at("groups"), line.at("memberships")),
        (Some("info"), Some("2"), Some("3"), Some("3"))
    );
}

#[test]
fn a_directory_is_no_source() {
    let outcome = run(&mut program(["--passwd=/", "--log-format=text"]));
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("baton-passwd: cannot connect: /: Is a directory "), "{outcome:?}");
}

#[test]
fn this_machines_own_accounts_are_synced_by_default() {
    let mut command = program(["--health-check", "--health-check-port=0"]);
    let mut daemon = Daemon::start(&mut command).connected();
    daemon.probe(&[]).succeeded_with("healthy\n");
    assert_eq!(daemon.get("/health").status, 200);
}

#[test]
fn changes_are_logged_by_name() {
    const BOB: &str = "bob:x:1001:100::/home/bob:/bin/sh\n";
    let source = Source::new();
    let mut daemon = Daemon::start(&mut source.program(&["--sync-interval=1"]));
    daemon.line("connected");
    for (file, contents, expected) in [
        ("passwd", [PASSWD, BOB].concat(), &[("user added", "bob"), ("membership added", "bob in users")][..]),
        ("passwd", [PASSWD, &BOB.replace("/bin/sh", "/bin/false")].concat(), &[("user changed", "bob")]),
        ("group", [GROUP, "ops:x:50:\n"].concat(), &[("group added", "ops")]),
        ("group", [GROUP, "ops:x:51:\n"].concat(), &[("group changed", "ops")]),
        ("group", [GROUP, "ops:x:51:ann,nobody-here\n"].concat(), &[("membership added", "ann in ops")]),
        ("group", GROUP.into(), &[("group removed", "ops"), ("membership removed", "ann in ops")]),
        ("passwd", PASSWD.into(), &[("user removed", "bob"), ("membership removed", "bob in users")]),
        // Whatever a name holds, the log is lines of JSON.
        ("passwd", [PASSWD, "q\"\\\u{1b}é:x:5:5:::\n"].concat(), &[("user added", "q\"\\\u{1b}é")]),
    ] {
        source.put(file, contents);
        let before = daemon.log.len();
        for &(message, name) in expected {
            let line = daemon.line(message);
            assert_eq!(
                (line.names(), line.at("level"), line.at("name")),
                (vec!["time", "level", "msg", "name"], Some("info"), Some(name))
            );
        }
        assert_eq!(daemon.log.len(), before + expected.len(), "{:?}", daemon.messages());
    }
    daemon.signal("TERM");
    assert_eq!(daemon.exit(), Some(0));
    assert!(daemon.messages().ends_with(&["draining", "finished"]), "{:?}", daemon.messages());
}

#[test]
fn trouble_with_the_source_is_logged_once_and_so_is_its_end() {
    let source = Source::new();
    let mut daemon = Daemon::start(&mut source.program(&["--sync-interval=1"]));
    daemon.line("connected");
    // A pipe of its own for each round, there before the round begins, tells one from the next.
    source.put_pipe("passwd");
    for contents in ["broken\n", "broken:too\n", PASSWD] {
        let mut round = source.wait_for_reader("passwd");
        source.put_pipe("passwd");
        round.write_all(contents.as_bytes()).unwrap();
    }
    daemon.line("sync works again");
    assert_eq!(daemon.messages(), ["health check is off", "read accounts", "connected", "sync failed", "sync works again"]);
    let failed = &daemon.log[3];
    let reason = [&source.path("passwd"), ":1: 7 fields expected, 1 found"].concat();
    assert_eq!((failed.at("level"), failed.at("reason")), (Some("warn"), Some(&*reason)));
}

#[test]
fn a_source_that_goes_away_or_breaks_is_unhealthy_until_it_is_mended() {
    // A verdict is good for a second, so each of these takes a while: all at once, then.
    thread::scope(|scope| {
        for (file, contents, reason) in [
            ("passwd", None, ": "),
            ("group", None, ": "),
            ("passwd", Some(&b"a:x:1:1:::\nb:x:2\n"[..]), ":2: 7 fields expected, 3 found"),
            ("passwd", Some(b"\n:x:1:1:::\n"), ":2: name is empty"),
            ("passwd", Some(b"a:x:-1:1:::\n"), ":1: uid is not a number from 0 to 4294967295"),
            ("passwd", Some(b"a:x:1:4294967296:::\n"), ":1: gid is not a number from 0 to 4294967295"),
            ("passwd", Some(b"a:x:1:1:::\nb:x:1:1:::\na:x:1:1:::\n"), ":3: name already given in line 1"),
            ("passwd", Some(b"\xff:x:1:1:::\n"), ":1: not UTF-8"),
            ("passwd", Some(b""), ": no users in it"),
            ("group", Some(b""), ": no groups in it"),
            ("group", Some(b"g:x:1:\ng:x\n"), ":2: 4 fields expected, 2 found"),
        ] {
            scope.spawn(move || breaks_and_is_mended(file, contents, reason));
        }
    });
}

fn breaks_and_is_mended(file: &str, contents: Option<&[u8]>, reason: &str) {
    let source = Source::new();
    let mut daemon = source.daemon(&[]).connected();
    daemon.probe(&[]).succeeded_with("healthy\n");
    match contents {
        Some(contents) => source.put(file, contents),
        None => source.remove(file),
    }
    let answer = until("the verdict to change", || Some(daemon.get("/health")).filter(|answer| answer.status == 503));
    let json = answer.json();
    assert_eq!((json.at("status"), json.at("details.error")), (Some("unhealthy"), Some("connector validation failed")));
    let told = json.at("details.validation_error").unwrap_or_default();
    assert!(told.starts_with(&[&source.path(file), reason].concat()), "{answer:?}");
    let outcome = daemon.probe(&[]);
    assert!(outcome.complaint().contains(told), "{outcome:?}");
    assert_eq!((daemon.get("/ready").status, daemon.get("/live").status), (200, 200));
    daemon.probe(&["--endpoint=ready"]).succeeded_with("ready\n");
    daemon.probe(&["--endpoint=live"]).succeeded_with("alive\n");

    source.put("passwd", PASSWD);
    source.put("group", GROUP);
    until("the verdict to change back", || (daemon.get("/health").status == 200).then_some(()));
    daemon.probe(&[]).succeeded_with("healthy\n");
    daemon.signal("INT");
    assert_eq!(daemon.exit(), Some(0));
    // A change is a line, a request is not.
    let expected = ["listening", "read accounts", "connected", "healthy", "unhealthy", "ready", "healthy", "draining", "finished"];
    assert_eq!(daemon.messages(), expected);
    let unhealthy = &daemon.log[4];
    assert_eq!((unhealthy.at("level"), unhealthy.at("reason")), (Some("warn"), Some(told)));
}
