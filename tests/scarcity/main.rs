//! The real program on a machine that has run out of descriptors or threads.
#![cfg(all(target_os = "linux", feature = "cli"))]
// The modules below belong to another test, which uses more of them.
#![allow(dead_code)]

#[path = "../binary/client.rs"]
mod client;
#[path = "../binary/clock.rs"]
mod clock;
#[path = "../binary/daemon.rs"]
mod daemon;
#[path = "../binary/json.rs"]
mod json;
#[path = "../binary/program.rs"]
mod program;

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use baton_health::{Endpoint, Probe};
use daemon::Daemon;

/// The pause between two requests.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(20);

/// How long a test measures the load of an idle program.
const BETWEEN_MEASUREMENTS: Duration = Duration::from_secs(1);

const SHORT: &str = "short of resources";

/// The daemon on a free port. `limiter` sets its own limits and then executes the daemon.
fn limited(limiter: &[&str]) -> Daemon {
    Daemon::start(&mut starting(limiter)).connected()
}

fn starting(limiter: &[&str]) -> Command {
    let program = program::program(["--health-check", "--health-check-port=0"]);
    let mut command = Command::new(limiter[0]);
    command.args(&limiter[1..]).arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(process::Stdio::null()).stdout(process::Stdio::piped()).stderr(process::Stdio::piped());
    command
}

/// Repeats `attempt` until it returns true.
#[track_caller]
fn until(what: &str, mut attempt: impl FnMut() -> bool) {
    let deadline = Instant::now() + program::PATIENCE;
    while !attempt() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        thread::sleep(BETWEEN_REQUESTS);
    }
}

const HALF_A_HEAD: &[u8] = b"GET /live HTTP/1.1\r\nHo";

/// Limits the descriptors of a running daemon, to fewer than its server has found at start.
fn leave(id: u32, descriptors: &str) {
    let limited = program::run(Command::new("prlimit").args([&format!("--pid={id}"), &format!("--nofile={descriptors}:")]));
    assert_eq!(limited.code, Some(0), "{limited:?}");
}

/// Opens so many connections and sends half a head on each.
fn stall(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let stalled = (0..count).map(|_| {
        let mut stream = client::connect(address);
        stream.write_all(HALF_A_HEAD).expect("room in a buffer");
        stream
    });
    stalled.collect()
}

/// Sends requests until the daemon logs that it has recovered.
fn recovers(daemon: &mut Daemon) {
    let address = daemon.address();
    let passed = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let deadline = Instant::now() + program::PATIENCE;
            while !passed.load(Ordering::SeqCst) && Instant::now() < deadline {
                assert_eq!(client::get(address, "/live").status, 200);
                thread::sleep(BETWEEN_REQUESTS);
            }
        });
        daemon.line("recovered");
        passed.store(true, Ordering::SeqCst);
        asking.join().expect("every request is answered");
    });
    assert_eq!(client::get(address, "/health").status, 200);
}

/// Checks that `/live` and `/ready` work during the shortage, and that `/health` answers.
fn answers(address: SocketAddr) {
    assert_eq!(client::get(address, "/live").status, 200);
    assert_eq!(client::get(address, "/ready").status, 200);
    assert!([200, 503].contains(&client::get(address, "/health").status));
}

/// How much processor time the process uses; 1.0 is one whole processor.
fn load(id: u32) -> f64 {
    // USER_HZ, which is the same on every Linux.
    const TICKS: f64 = 100.0;
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("a live process");
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        let fields: Vec<_> = fields.split_whitespace().collect();
        fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime")
    };
    let (before, start) = (ticks(), Instant::now());
    thread::sleep(BETWEEN_MEASUREMENTS);
    (ticks() - before) / TICKS / start.elapsed().as_secs_f64()
}

#[test]
fn without_descriptors_stalled_connections_are_evicted_and_the_daemon_recovers() {
    let mut daemon = limited(&["prlimit", "--nofile=64"]);
    let address = daemon.address();
    leave(daemon.id(), "24");
    for _ in 0..2 {
        let mut stalled = stall(address, 100);
        daemon.line(SHORT);
        // The oldest connection is evicted, so it gets no answer. At its timeout it would have got a 408.
        let mut told = String::new();
        assert!(stalled.remove(0).read_to_string(&mut told).is_err() || told.is_empty(), "{told}");
        for _ in 0..20 {
            answers(address);
        }
        let again = stall(address, 100);
        assert_eq!(client::get(address, "/live").status, 200);
        let load = load(daemon.id());
        assert!(load < 0.5, "the daemon uses {load} of a processor during the shortage");
        drop((stalled, again));
        recovers(&mut daemon);
    }
    daemon.signal("TERM");
    assert_eq!(daemon.exit(), Some(0));
    // Once in each episode, however many connections there were in it.
    assert_eq!(daemon.messages().iter().filter(|message| **message == SHORT).count(), 2, "{:?}", daemon.log);
}

#[test]
fn without_descriptors_the_daemon_still_shuts_down() {
    let mut daemon = limited(&["prlimit", "--nofile=64"]);
    leave(daemon.id(), "24");
    let stalled = stall(daemon.address(), 100);
    daemon.line(SHORT);
    daemon.signal("TERM");
    assert_eq!(daemon.exit(), Some(0));
    assert_eq!(daemon.messages().last(), Some(&"finished"));
    drop(stalled);
}

#[test]
fn without_any_descriptor_the_daemon_waits_for_one() {
    let mut daemon = limited(&["prlimit", "--nofile=64"]);
    let (address, id) = (daemon.address(), daemon.id());
    leave(id, "3");
    // A pending `accept` already has a descriptor, so the first request is answered. The second may be evicted.
    assert_eq!(client::get(address, "/live").status, 200);
    let _ = client::connect(address).read_to_end(&mut Vec::new());
    daemon.line(SHORT);
    let mut waiting = client::connect(address);
    waiting.write_all(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n").expect("room in a buffer");
    let load = load(id);
    assert!(load < 0.5, "the daemon uses {load} of a processor during the shortage");
    leave(id, "64");
    assert_eq!(client::answer(waiting).status, 200);
    recovers(&mut daemon);
}

/// Sends half a request at an even pace until `done`, and holds the newest `held` connections. Counts the
/// connections in `made`.
fn stall_again_and_again(address: SocketAddr, held: usize, made: &AtomicUsize, done: &AtomicBool) {
    const BETWEEN_CONNECTIONS: Duration = Duration::from_millis(10);
    // A short timeout, so that a full backlog does not slow the pace.
    const CONNECT_TIMEOUT: Duration = Duration::from_millis(5);
    let mut clients = VecDeque::new();
    while !done.load(Ordering::SeqCst) {
        if let Ok(mut client) = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            let _ = client.write_all(HALF_A_HEAD);
            clients.push_back(client);
            clients.drain(..clients.len().saturating_sub(held));
            made.fetch_add(1, Ordering::SeqCst);
        }
        thread::sleep(BETWEEN_CONNECTIONS);
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn with_64_descriptors_no_probe_is_lost_beside_100_stalled_connections_a_second() {
    const HELD: usize = 100;
    const PROBES: usize = 180;
    let mut daemon = limited(&["prlimit", "--nofile=64"]);
    let address = daemon.address();
    let (made, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let _done = SetOnDrop(&done);
        scope.spawn(|| stall_again_and_again(address, HELD, &made, &done));
        until("every stalled client to connect", || made.load(Ordering::SeqCst) >= HELD);
        let mut lost = Vec::new();
        for number in 0..PROBES {
            let endpoint = Endpoint::ALL[number % Endpoint::ALL.len()];
            if let Err(error) = Probe::new(address).endpoint(endpoint).run() {
                lost.push(error.to_string());
            }
            assert!(lost.len() < 5, "{} of {} probes lost, and more to come: {lost:?}", lost.len(), number + 1);
            thread::sleep(BETWEEN_REQUESTS);
        }
        assert!(lost.is_empty(), "{} of {PROBES} probes lost: {lost:?}", lost.len());
    });
    daemon.signal("TERM");
    assert_eq!(daemon.exit(), Some(0));
}

#[test]
fn with_64_descriptors_and_100_stalled_clients_the_connector_opens_its_files() {
    const ROUNDS: usize = 5;
    let mut daemon = limited(&["prlimit", "--nofile=64"]);
    let address = daemon.address();
    let stalled = stall(address, 100);
    for round in 0..ROUNDS {
        let answer = client::get(address, "/health");
        assert_eq!(answer.status, 200, "round {round}: {answer:?}");
        // Stall more clients, and wait until the server may not reuse the verdict.
        let start = Instant::now();
        let again = stall(address, 100);
        until("the verdict to be too old", || start.elapsed() > BETWEEN_MEASUREMENTS);
        drop(again);
    }
    drop(stalled);
    daemon.signal("TERM");
    assert_eq!(daemon.exit(), Some(0));
    let unhealthy = daemon.messages().iter().filter(|message| **message == "unhealthy").count();
    assert_eq!(unhealthy, 0, "{:?}", daemon.log);
}

#[test]
fn requests_that_arrive_while_the_program_gets_no_processor_are_all_answered() {
    // The smallest backlog that a system may set takes this many. All places are taken already.
    const REQUESTS: usize = 120;
    const ROUNDS: usize = 20;
    let mut daemon = Daemon::start(&mut program::program(["--health-check", "--health-check-port=0"])).connected();
    let address = daemon.address();
    for round in 0..ROUNDS {
        let stalled = stall(address, 100);
        // The server accepts in order, so this answer shows that it has accepted all the others.
        assert_eq!(client::get(address, "/live").status, 200);
        daemon.signal("STOP");
        let clients: Vec<_> = (0..REQUESTS)
            .map(|number| {
                let mut client = client::connect(address);
                // Every second client keeps its place until it is evicted.
                let request = ["GET /live HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"];
                client.write_all(request[number % 2].as_bytes()).expect("room in a buffer");
                client
            })
            .collect();
        daemon.signal("CONT");
        let texts = clients.into_iter().map(|mut client| {
            let mut text = String::new();
            client.read_to_string(&mut text).map(|_| text)
        });
        let texts: Vec<_> = texts.collect();
        let lost: Vec<_> =
            texts.iter().enumerate().filter(|(_, text)| !text.as_ref().is_ok_and(|text| text.starts_with("HTTP/1.1 "))).collect();
        assert!(lost.is_empty(), "round {round}: {} of {REQUESTS} not answered, the first of them {:?}", lost.len(), lost[0]);
        drop(stalled);
    }
    daemon.signal("TERM");
    assert_eq!(daemon.exit(), Some(0));
}

/// Whether a test can limit the threads of the daemon. The limit counts all threads of a user and does not apply to root,
/// so the daemon runs as a user of its own.
fn can_limit_threads() -> bool {
    if fs::metadata("/proc/self").expect("a process").uid() != 0 || env::var_os("BATON_TEST_RUNNER").is_some() {
        eprintln!(
            "skipped: needs root, to run the daemon as a user without other threads, and no emulator, which has threads of its own"
        );
        return false;
    }
    true
}

/// A command that runs the program's copy as a user without other threads, who may have so many. It replaces the program
/// that it is given.
fn with_threads(most: usize, copy: &Copy, user: u32) -> Vec<String> {
    let script = format!("shift; exec prlimit --nproc={most} \"$0\" \"$@\"");
    let user = 2_000_000 + 8 * process::id() + user;
    let words = ["setpriv", &format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "sh", "-c", &script];
    words.iter().map(ToString::to_string).chain([copy.0.display().to_string()]).collect()
}

#[test]
fn without_a_thread_at_start_the_daemon_ends_and_says_why() {
    if !can_limit_threads() {
        return;
    }
    let copy = Copy::new("at-start");
    // Both acceptors and the connector need a thread beside the first one.
    for most in 1..4 {
        let words = with_threads(most, &copy, most as u32);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let mut daemon = Daemon::start(&mut starting(&words));
        assert_eq!(daemon.exit(), Some(1), "{most}: {:?}", daemon.log);
        let failed = daemon.log.iter().find(|line| line.at("msg") == Some("failed")).expect("a line that says why");
        assert_eq!(failed.at("what"), Some("start a thread"), "{most}: {:?}", daemon.log);
    }
}

#[test]
fn without_threads_stalled_connections_are_evicted_and_the_daemon_recovers() {
    if !can_limit_threads() {
        return;
    }
    let copy = Copy::new("recovers");
    // The idle daemon has four threads, and may start two more.
    let words = with_threads(6, &copy, 0);
    let mut daemon = limited(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let address = daemon.address();

    let stalled = stall(address, 20);
    daemon.line(SHORT);
    for _ in 0..20 {
        answers(address);
    }
    let load = load(daemon.id());
    assert!(load < 0.5, "the daemon uses {load} of a processor during the shortage");
    drop(stalled);
    recovers(&mut daemon);
    daemon.signal("TERM");
    assert_eq!(daemon.exit(), Some(0));
    assert_eq!(daemon.messages().iter().filter(|message| **message == SHORT).count(), 1, "{:?}", daemon.log);
}

/// A copy of the program in a place where any user can start it.
struct Copy(PathBuf);

impl Copy {
    fn new(purpose: &str) -> Copy {
        let path = env::temp_dir().join(format!("baton-passwd-for-everyone-{purpose}-{}", process::id()));
        let program = program::program([""; 0]);
        fs::copy(program.get_program(), &path).expect("room for a copy");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a file of ours");
        Copy(path)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
