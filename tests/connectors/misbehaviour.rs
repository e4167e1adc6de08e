//! A connector whose code misbehaves: what is said of it, and how the process ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, log_line};
use crate::json::Json;
use crate::program::{Running, run, until};

fn misbehaving(how: &str, arguments: &[&str]) -> Command {
    let mut command = crate::example("misbehaving", arguments.iter().copied());
    command.env("MISBEHAVIOUR", how).stdin(Stdio::piped());
    command
}

const LISTEN: &[&str] = &["--health-check", "--health-check-port=0"];

/// Has the connector do something that may end it.
fn tell(daemon: &mut Daemon, order: &str) {
    let stdin = daemon.child().stdin.as_mut().expect("it is a pipe");
    writeln!(stdin, "{order}").expect("it reads");
}

/// Has the connector do something, and waits until it has.
fn order(daemon: &mut Daemon, order: &str) {
    tell(daemon, order);
    let mut done = [0; 5];
    daemon.child().stdout.as_mut().expect("it is a pipe").read_exact(&mut done).expect("it answers");
    assert_eq!(&done, b"done\n");
}

fn with<'a>(daemon: &'a Daemon, message: &str) -> Vec<&'a Json> {
    daemon.log.iter().filter(|line| line.at("msg") == Some(message)).collect()
}

#[test]
fn a_panic_in_on_event_loses_no_event_and_holds_nothing_up() {
    for how in ["on_event panics", "on_event panics with its lock"] {
        let mut daemon = Daemon::start(&mut misbehaving(how, LISTEN)).connected();
        let health = daemon.get("/health").status;
        assert_eq!((health, daemon.get("/live").status), (if how == "on_event panics" { 503 } else { 200 }, 200), "{how}");
        daemon.signal("TERM");
        assert_eq!(daemon.exit(), Some(0), "{how}: {:?}", daemon.log);
        for message in ["listening", "connected", "draining", "work finished", "finished"] {
            assert_eq!(with(&daemon, message).len(), 1, "{how}, {message}: {:?}", daemon.log);
        }
        let panics = with(&daemon, "panicked");
        let of = |text: &str| panics.iter().filter(|line| line.at("error").is_some_and(|error| error.starts_with(text))).count();
        assert!(of("no log today, at ") >= 4, "{how}: {:?}", daemon.log);
        assert_eq!(of("validate went wrong, at "), if health == 503 { 1 } else { 0 }, "{how}: {:?}", daemon.log);
    }
}

#[test]
fn a_connect_that_gives_up_because_it_was_asked_to_is_no_failure() {
    for _ in 0..5 {
        let mut daemon = Daemon::start(&mut misbehaving("connect gives up when asked", LISTEN));
        assert_eq!(daemon.get("/live").status, 200);
        daemon.signal("TERM");
        assert_eq!(daemon.exit(), Some(0), "{:?}", daemon.log);
        assert!(with(&daemon, "failed").is_empty(), "{:?}", daemon.log);
    }
}

#[test]
fn a_log_that_blocks_costs_one_thread_and_not_the_end() {
    let mut daemon = Daemon::start(&mut misbehaving("its log blocks", LISTEN)).connected();
    for _ in 0..20 {
        let answer = daemon.get("/ready");
        assert!(answer.status == 503 && answer.body.contains("ready panicked: ready went wrong"), "{answer:?}");
    }
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.child().id())).expect("it runs");
    let names = tasks.map(|task| std::fs::read_to_string(task.expect("it is listed").path().join("comm")).unwrap_or_default());
    assert_eq!(names.filter(|name| name == "log\n").count(), 1);
    daemon.signal("TERM");
    assert_eq!(daemon.exit(), Some(0), "{:?}", daemon.log);
    assert_eq!(with(&daemon, "draining").len(), 1, "{:?}", daemon.log);
}

#[test]
fn a_listener_that_fails_ends_the_connector_in_order() {
    let mut daemon = Daemon::start(&mut misbehaving("", LISTEN)).connected();
    tell(&mut daemon, "break listener");
    assert_eq!(daemon.exit(), Some(1));
    assert_eq!(with(&daemon, "listener failed").len(), 1, "{:?}", daemon.log);
    let mut messages = daemon.messages();
    // It is told first and logged then, so that a log that hangs does not keep the process.
    messages.retain(|message| *message != "listener failed");
    assert_eq!(messages, ["listening", "connected", "failed", "draining", "work finished", "finished", "dropped"]);
    assert_eq!(with(&daemon, "failed")[0].at("what"), Some("accept connections"));
}

#[test]
fn an_inbox_that_fails_is_not_taken_for_the_listener() {
    let mut daemon = Daemon::start(&mut misbehaving("", LISTEN)).connected();
    tell(&mut daemon, "break inbox");
    assert_eq!(daemon.exit(), Some(1));
    assert_eq!(with(&daemon, "failed")[0].at("what"), Some("receive signals"), "{:?}", daemon.log);
}

#[test]
fn a_signal_that_cannot_be_passed_on_ends_the_process() {
    let mut daemon = Daemon::start(&mut misbehaving("", &[])).connected_without_server();
    order(&mut daemon, "break outbox");
    daemon.signal("TERM");
    assert_eq!(daemon.exit(), Some(143));
}

#[test]
fn when_serve_fails_its_threads_are_asked_to_stop_and_the_destructor_is_not_waited_for_for_ever() {
    for (how, messages) in [
        ("serve fails while a thread waits", &["connected", "failed", "dropped"][..]),
        ("the destructor hangs after serve failed", &["connected", "failed", "connector did not finish in time"]),
    ] {
        for listens in [false, true] {
            let mut daemon = Daemon::start(&mut misbehaving(how, if listens { LISTEN } else { &[] }));
            assert_eq!(daemon.exit(), Some(1), "{how}");
            let first = if listens { &["listening"][..] } else { &["health check is off"] };
            assert_eq!(daemon.messages(), [first, messages].concat(), "{how}");
            let failed = with(&daemon, "failed")[0];
            assert_eq!((failed.at("what"), failed.at("error")), (Some("serve"), Some("upstream is gone")), "{how}");
        }
    }
}

#[test]
fn a_destructor_that_hangs_delays_the_end_for_no_longer_than_work_that_hangs() {
    let mut daemon = Daemon::start(&mut misbehaving("the destructor hangs", LISTEN)).connected();
    daemon.signal("TERM");
    assert_eq!(daemon.exit(), Some(0));
    assert_eq!(daemon.messages().last(), Some(&"connector did not finish in time"));
}

#[test]
fn serve_that_returns_is_the_end_and_is_logged() {
    let mut daemon = Daemon::start(&mut misbehaving("serve returns", LISTEN));
    assert_eq!(daemon.exit(), Some(0));
    assert_eq!(daemon.messages(), ["listening", "connected", "finished", "dropped"]);
}

#[test]
fn a_panic_ends_it_with_what_was_going_on() {
    for (how, what, reason) in [
        ("connect panics", "connect", "the connector panicked: no connection"),
        ("serve panics", "serve", "the connector panicked: no message"),
    ] {
        let mut daemon = Daemon::start(&mut misbehaving(how, LISTEN));
        assert_eq!(daemon.exit(), Some(1), "{how}");
        let failed = with(&daemon, "failed")[0];
        assert_eq!((failed.at("what"), failed.at("error")), (Some(what), Some(reason)), "{how}");
        assert_eq!(with(&daemon, "panicked").len(), 1, "{how}: {:?}", daemon.log);
    }
}

#[test]
fn a_backtrace_is_shown_when_it_is_asked_for() {
    for (asked, shown) in [("0", false), ("1", true)] {
        let outcome = run(misbehaving("connect panics", &[]).env("RUST_BACKTRACE", asked));
        assert_eq!(outcome.stderr.contains("stack backtrace:"), shown, "{outcome:?}");
        assert_eq!(outcome.code, Some(1));
    }
}

#[test]
fn a_backtrace_that_is_not_read_holds_nothing_up() {
    let (_reader, mut writer) = UnixStream::pair().expect("two sockets");
    writer.set_nonblocking(true).expect("a mode");
    while writer.write(&[0; 4096]).is_ok() {}
    writer.set_nonblocking(false).expect("a mode");
    let mut command = misbehaving("connect panics", &[]);
    let outcome = run(command.env("RUST_BACKTRACE", "1").stderr(OwnedFd::from(writer)));
    assert_eq!(outcome.code, Some(1));
}

/// Runs it with a standard error that is not read at first; what it wrote, and what `orders` have it write then.
fn stderr_read_late(first: &[&str], then: &[&str]) -> (String, Vec<String>) {
    let mut running = Running::start(&mut misbehaving("", &[]));
    let mut reader = running.child().stderr.take().expect("it is a pipe");
    let mut stdin = running.child().stdin.take().expect("it is a pipe");
    let mut stdout = BufReader::new(running.child().stdout.take().expect("it is a pipe")).lines();
    let mut order = |orders: &[&str]| {
        for order in orders {
            writeln!(stdin, "{order}").expect("it reads");
            assert_eq!(stdout.next().expect("it answers").expect("UTF-8"), "done", "{order}");
        }
    };
    order(first);
    // All that it could write is in the pipe, and no more than that can be read at once.
    let mut before = vec![0; 1 << 20];
    let count = reader.read(&mut before).expect("a pipe can be read");
    before.truncate(count);
    order(then);
    drop(stdin);
    let sent = run(Command::new("kill").args(["-TERM", &running.id().to_string()]));
    assert_eq!(sent.code, Some(0));
    let after = BufReader::new(reader).lines().map(|line| line.expect("UTF-8")).collect();
    assert_eq!(running.wait().code(), Some(0));
    (String::from_utf8(before).expect("UTF-8"), after)
}

#[test]
fn a_torn_line_does_not_spoil_the_next_and_lost_lines_are_counted() {
    let (before, after) = stderr_read_late(&["log 100000", "log 5", "log 6"], &["log 7"]);
    assert!(before.ends_with("xxx"), "{:?}", before.get(before.len().saturating_sub(100)..));
    // The reading above took all of the torn line.
    assert_eq!(after.first().map(String::as_str), Some(""));
    let lines: Vec<Json> = after[1..].iter().map(|line| log_line(line)).collect();
    let messages: Vec<_> = lines.iter().filter_map(|line| line.at("msg")).collect();
    assert_eq!(messages, ["log lines lost", "as asked", "draining", "work finished", "finished", "dropped"], "{after:?}");
    assert_eq!((lines[0].at("level"), lines[0].at("count")), (Some("warn"), Some("3")));
    assert_eq!(lines[1].at("text"), Some("xxxxxxx"));
}

#[test]
fn lines_that_are_lost_whole_leave_no_empty_line() {
    // Each line is one write. A pipe has room for about twenty.
    let (before, after) = stderr_read_late(&["log 3000"; 25], &["log 7"]);
    assert!(before.ends_with("}\n"), "{:?}", before.get(before.len().saturating_sub(100)..));
    let messages: Vec<_> = after.iter().map(|line| log_line(line).at("msg").unwrap_or_default().to_owned()).collect();
    assert_eq!(messages, ["log lines lost", "as asked", "draining", "work finished", "finished", "dropped"], "{after:?}");
}

#[test]
fn a_reader_that_does_not_read_is_waited_for_once_and_not_for_each_line() {
    // The default log waits 100 ms for it.
    const ALL_WAITS: Duration = Duration::from_millis(100 * 200);
    let start = Instant::now();
    let (_, after) = stderr_read_late(&["log 3000"; 225], &["log 7"]);
    assert!(start.elapsed() < ALL_WAITS / 2, "{:?}", start.elapsed());
    let count = log_line(&after[0]).at("count").map(|count| count.parse::<usize>().expect("a number"));
    assert!(count.is_some_and(|count| count > 200), "{after:?}");
}

#[test]
fn the_journal_is_told_how_grave_a_line_is() {
    use std::os::unix::fs::MetadataExt;

    let path = std::env::temp_dir().join(format!("baton-health-journal-{}", std::process::id()));
    for (offset, first) in [(0, "<6>{"), (1, "{\"")] {
        let file = std::fs::File::create(&path).expect("a file can be made");
        let data = file.metadata().expect("it is open");
        let stream = format!("{}:{}", data.dev(), data.ino() + offset);
        let outcome = run(misbehaving("serve returns", &[]).env("JOURNAL_STREAM", stream).stderr(file));
        assert_eq!(outcome.code, Some(0));
        let text = std::fs::read_to_string(&path).expect("it is there");
        assert!(text.lines().count() == 4 && text.lines().all(|line| line.starts_with(first)), "{text}");
    }
    let file = std::fs::File::create(&path).expect("a file can be made");
    let data = file.metadata().expect("it is open");
    let stream = format!("{}:{}", data.dev(), data.ino());
    run(misbehaving("serve fails while a thread waits", &[]).env("JOURNAL_STREAM", stream).stderr(file));
    let text = std::fs::read_to_string(&path).expect("it is there");
    assert!(text.lines().any(|line| line.starts_with("<3>{") && line.contains("\"failed\"")), "{text}");
    std::fs::remove_file(path).expect("it is there");
}

/// The connector's destructor runs, once the server has been drained.
#[test]
fn the_connector_is_dropped_before_the_end() {
    let mut daemon = Daemon::start(&mut misbehaving("", LISTEN)).connected();
    until("a verdict", || (daemon.get("/health").status == 200).then_some(()));
    daemon.signal("HUP");
    assert_eq!(daemon.exit(), Some(0));
    assert_eq!(daemon.messages().last(), Some(&"dropped"));
}

#[test]
fn what_a_connector_logs_goes_where_events_go() {
    let mut running = Running::start(&mut misbehaving("its log is its own", &[]));
    let mut lines = BufReader::new(running.child().stderr.take().expect("it is a pipe")).lines();
    let mut line = || lines.next().expect("a line").expect("UTF-8");
    assert_eq!(line(), "own: health check is off enable=--health-check or BATON_HEALTH_CHECK=true");
    assert_eq!(line(), "own: connected");
    let sent = run(Command::new("kill").args(["-TERM", &running.id().to_string()]));
    assert_eq!(sent.code, Some(0));
    assert_eq!(
        [line(), line(), line(), line()],
        ["draining", "work finished", "finished", "dropped"].map(|event| format!("own: {event}"))
    );
    assert_eq!(running.wait().code(), Some(0));
}

#[test]
fn a_panic_goes_where_events_go() {
    let outcome = run(&mut misbehaving("connect panics, its log is its own", &[]));
    let lines: Vec<_> = outcome.stderr.lines().collect();
    assert!(lines.iter().all(|line| line.starts_with("own: ")), "{outcome:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("own: panicked error=no connection, at ")).count(), 1, "{outcome:?}");
}
