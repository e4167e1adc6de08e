//! The real program on a machine that has run out of something: descriptors, or threads.
#![cfg(all(target_os = "linux", feature = "cli"))]
// These are the modules of another test, which needs more of them.
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

/// One after the other, so that the log of a long episode is not about how many there were.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(20);

/// How long the program is watched at doing nothing.
const BETWEEN_MEASUREMENTS: Duration = Duration::from_secs(1);

const SHORT: &str = "short of resources";

/// The daemon on a free port, started by `limiter`, which limits itself and then becomes it.
fn limited(limiter: &[&str]) -> Daemon {
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
    Daemon::start(&mut command).connected()
}

/// Tries until it is so.
#[track_caller]
fn until(what: &str, mut attempt: impl FnMut() -> bool) {
    let deadline = Instant::now() + program::PATIENCE;
    while !attempt() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(BETWEEN_REQUESTS);
    }
}

const HALF_A_HEAD: &[u8] = b"GET /live HTTP/1.1\r\nHo";

/// Leaves a running daemon so many descriptors: fewer than its server has planned with.
fn leave(id: u32, descriptors: &str) {
    let limited = program::run(Command::new("prlimit").args([&format!("--pid={id}"), &format!("--nofile={descriptors}:")]));
    assert_eq!(limited.code, Some(0), "{limited:?}");
}

/// So many connections that owe the rest of their head.
fn stall(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let stalled = (0..count).map(|_| {
        let mut stream = client::connect(address);
        stream.write_all(HALF_A_HEAD).expect("room in a buffer");
        stream
    });
    stalled.collect()
}

/// Asks until the daemon says that the trouble has passed.
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
        asking.join().expect("every one is answered");
    });
    assert_eq!(client::get(address, "/health").status, 200);
}

/// All that does not need what is short works, and `/health` says at least why it does not.
fn answers(address: SocketAddr) {
    assert_eq!(client::get(address, "/live").status, 200);
    assert_eq!(client::get(address, "/ready").status, 200);
    assert!([200, 503].contains(&client::get(address, "/health").status));
}

/// How much of a processor the process uses, 1 being one of them.
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
fn without_descriptors_stalled_connections_give_way_and_the_trouble_passes() {
    let mut daemon = limited(&["prlimit", "--nofile=64"]);
    let address = daemon.address();
    leave(daemon.id(), "24");
    for _ in 0..2 {
        let mut stalled = stall(address, 100);
        daemon.line(SHORT);
        // The oldest gives way now, and not when its time is up: then it would have been told so.
        let mut told = String::new();
        assert!(stalled.remove(0).read_to_string(&mut told).is_err() || told.is_empty(), "{told}");
        for _ in 0..20 {
            answers(address);
        }
        let again = stall(address, 100);
        assert_eq!(client::get(address, "/live").status, 200);
        let load = load(daemon.id());
        assert!(load < 0.5, "busy with having nothing: {load}");
        drop((stalled, again));
        recovers(&mut daemon);
    }
    daemon.signal("TERM");
    assert_eq!(daemon.exit(), Some(0));
    // Once in each episode, however many connections there were in it.
    assert_eq!(daemon.messages().iter().filter(|message| **message == SHORT).count(), 2, "{:?}", daemon.log);
}

#[test]
fn without_descriptors_the_end_comes_all_the_same() {
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
fn without_any_descriptor_it_waits_for_better_times() {
    let mut daemon = limited(&["prlimit", "--nofile=64"]);
    let (address, id) = (daemon.address(), daemon.id());
    leave(id, "3");
    // Whoever is in `accept` has a descriptor already, and gets no other. The second may have to give way.
    assert_eq!(client::get(address, "/live").status, 200);
    let _ = client::connect(address).read_to_end(&mut Vec::new());
    daemon.line(SHORT);
    let mut waiting = client::connect(address);
    waiting.write_all(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n").expect("room in a buffer");
    let load = load(id);
    assert!(load < 0.5, "busy with having nothing: {load}");
    leave(id, "64");
    assert_eq!(client::answer(waiting).status, 200);
    recovers(&mut daemon);
}

/// Half-sent requests at an even pace, so many of them held at a time, until told to stop; counts
/// those that were made.
fn stall_again_and_again(address: SocketAddr, held: usize, made: &AtomicUsize, done: &AtomicBool) {
    const BETWEEN_CONNECTIONS: Duration = Duration::from_millis(10);
    // One that is given up early, so that a full backlog does not slow the others down.
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
        until("as many stalled clients as are held", || made.load(Ordering::SeqCst) >= HELD);
        let mut lost = Vec::new();
        for number in 0..PROBES {
            let endpoint = Endpoint::ALL[number % 3];
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
        // So many more, and long enough for the verdict to be too old to be given again.
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
    // As many as the smallest backlog that a system may have set takes; all places are full already.
    const REQUESTS: usize = 120;
    const ROUNDS: usize = 20;
    let mut daemon = Daemon::start(&mut program::program(["--health-check", "--health-check-port=0"])).connected();
    let address = daemon.address();
    for round in 0..ROUNDS {
        let stalled = stall(address, 100);
        // The newest is served only when all the others have been accepted.
        assert_eq!(client::get(address, "/live").status, 200);
        daemon.signal("STOP");
        let clients: Vec<_> = (0..REQUESTS)
            .map(|number| {
                let mut client = client::connect(address);
                // Every other one keeps its place until it is evicted.
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

#[test]
fn without_threads_stalled_connections_give_way_and_the_trouble_passes() {
    // The limit counts all of a user's threads, and does not hold for root: it takes a user with nothing else.
    if fs::metadata("/proc/self").expect("a process").uid() != 0 || env::var_os("BATON_TEST_RUNNER").is_some() {
        eprintln!("skipped: takes root, to become a user that has no other threads, and no emulator, which has threads of its own");
        return;
    }
    let copy = Copy::new();
    let user = (2_000_000 + process::id()).to_string();
    let (reuid, regid) = (format!("--reuid={user}"), format!("--regid={user}"));
    let copied = copy.0.display().to_string();
    // At rest it has four threads; two more are all it gets. The copy comes before the program it replaces.
    let script = "shift; exec prlimit --nproc=6 \"$0\" \"$@\"";
    let mut daemon = limited(&["setpriv", &reuid, &regid, "--clear-groups", "sh", "-c", script, &copied]);
    let address = daemon.address();

    let stalled = stall(address, 20);
    daemon.line(SHORT);
    for _ in 0..20 {
        answers(address);
    }
    let load = load(daemon.id());
    assert!(load < 0.5, "busy with having nothing: {load}");
    drop(stalled);
    recovers(&mut daemon);
    daemon.signal("TERM");
    assert_eq!(daemon.exit(), Some(0));
    assert_eq!(daemon.messages().iter().filter(|message| **message == SHORT).count(), 1, "{:?}", daemon.log);
}

/// The program where any user can start it.
struct Copy(PathBuf);

impl Copy {
    fn new() -> Copy {
        let path = env::temp_dir().join(format!("baton-passwd-for-everyone-{}", process::id()));
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
