//! The connectors in `examples/`, as an author would try them out: started, asked, broken, mended, ended.
#![cfg(all(feature = "cli", unix))]
#![allow(dead_code, reason = "the modules are those of the program's own tests")]

#[path = "binary/client.rs"]
mod client;
#[path = "binary/clock.rs"]
mod clock;
#[path = "binary/daemon.rs"]
mod daemon;
#[path = "binary/json.rs"]
mod json;
#[path = "connectors/misbehaviour.rs"]
mod misbehaviour;
#[path = "binary/program.rs"]
mod program;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::{env, thread};

use daemon::Daemon;
use program::{Running, command, run, until};

const SECRET: &str = "hunter2";

/// An example's program: cargo builds them beside the tests.
fn example<'a>(name: &str, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let tests = env::current_exe().expect("a test is a program");
    let folder = tests.ancestors().nth(2).expect("target/debug/deps/test").join("examples");
    let path = folder.join(name);
    assert!(path.exists(), "{}: cargo build --examples makes it, and so does cargo test without --test", path.display());
    command(path.into(), arguments)
}

/// The directory that the connector talks to.
struct Directory {
    address: SocketAddr,
    knows_the_token: Arc<AtomicBool>,
    /// What it answers with, behind the status line.
    users: Arc<Mutex<String>>,
}

/// The rest of a whole answer with that body.
fn whole(body: &str) -> String {
    format!("Content-Length: {}\r\n\r\n{body}", body.len())
}

impl Directory {
    fn start() -> Directory {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let directory = Directory {
            address: listener.local_addr().expect("it is bound"),
            knows_the_token: Arc::new(AtomicBool::new(true)),
            users: Arc::new(Mutex::new(whole("ann\nbob\n"))),
        };
        let (knows, users) = (Arc::clone(&directory.knows_the_token), Arc::clone(&directory.users));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let users = users.lock().expect("nobody panics with it").clone();
                // A client that goes away is none of the directory's business.
                let _ = stream.map(|stream| answer(stream, knows.load(Ordering::SeqCst), &users));
            }
        });
        directory
    }

    fn answers(&self, rest: String) {
        *self.users.lock().expect("nobody panics with it") = rest;
    }
}

/// Where an answer stops being sent at once, and goes on a byte at a time.
const DRIP: char = '~';

fn answer(stream: TcpStream, knows_the_token: bool, users: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let first = lines.next().expect("a request line")?;
    let fields: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let known = knows_the_token && fields.contains(&format!("Authorization: Bearer {SECRET}"));
    let (status, rest) = match (known, &*first) {
        (false, _) => ("401 Unauthorized", "\r\n"),
        (true, "GET /whoami HTTP/1.0") => ("200 OK", "Content-Length: 2\r\n\r\nme"),
        (true, "GET /users HTTP/1.0") => ("200 OK", users),
        (true, _) => ("404 Not Found", "\r\n"),
    };
    let (at_once, slowly) = rest.split_once(DRIP).unwrap_or((rest, ""));
    (&stream).write_all(format!("HTTP/1.0 {status}\r\n{at_once}").as_bytes())?;
    stream.set_read_timeout(Some(std::time::Duration::from_millis(100)))?;
    for byte in slowly.bytes() {
        (&stream).write_all(&[byte])?;
        // The client does not speak, so this is a pause, which its going away ends.
        if matches!((&stream).read(&mut [0]), Ok(0)) {
            break;
        }
    }
    Ok(())
}

fn myconnector(directory: &Directory) -> Command {
    let upstream = directory.address.to_string();
    let arguments = ["--upstream", &upstream, "--sync-interval=1", "--health-check", "--health-check-port=0"];
    let mut command = example("baton-myconnector", arguments);
    command.env("BATON_TOKEN", SECRET);
    command
}

#[test]
fn myconnector_syncs_reports_and_recovers_and_keeps_its_secret() {
    let directory = Directory::start();
    let mut connector = Daemon::start(&mut myconnector(&directory)).connected();
    let address = connector.address();
    until("a first sync", || (connector.get("/ready").status == 200).then_some(()));
    let port = address.port().to_string();
    for (endpoint, word) in [("health", "healthy\n"), ("ready", "ready\n"), ("live", "alive\n")] {
        run(&mut example("baton-myconnector", ["health-check", "--endpoint", endpoint, "--health-check-port", &port]))
            .succeeded_with(word);
    }

    directory.knows_the_token.store(false, Ordering::SeqCst);
    let refused = until("the end of the verdict", || Some(connector.get("/health")).filter(|answer| answer.status == 503));
    let reason = &format!("http://{}/whoami: it does not know our token", directory.address);
    assert_eq!(refused.json().at("details.validation_error"), Some(&**reason));
    let probe = run(&mut example("baton-myconnector", ["health-check", "--health-check-port", &port]));
    assert!(probe.complaint().contains(reason), "{probe:?}");
    assert_eq!(connector.get("/live").status, 200);
    let reason = format!("http://{}/users: it does not know our token", directory.address);
    assert_eq!(connector.line("sync failed").at("reason"), Some(&*reason));

    directory.knows_the_token.store(true, Ordering::SeqCst);
    until("a new verdict", || (connector.get("/health").status == 200).then_some(()));
    directory.answers(whole("ann\nbob\neve\n"));
    until("another sync", || (connector.line("users changed").at("users") == Some("3")).then_some(()));

    connector.signal("TERM");
    assert_eq!(connector.exit(), Some(0));
    assert!(!format!("{:?}", connector.log).contains(SECRET), "{:?}", connector.log);
}

#[test]
fn myconnector_takes_no_part_of_a_list_for_the_whole() {
    let directory = Directory::start();
    let mut connector = Daemon::start(&mut myconnector(&directory)).connected();
    assert_eq!(connector.line("users changed").at("users"), Some("2"));
    for (rest, reason) in [
        ("Content-Length: 8\r\n\r\nann\n".to_owned(), "the answer is cut short"),
        ("Content-Length: 8\r\n".to_owned(), "the answer is cut short"),
        ("\r\nann\nbob\n".to_owned(), "the answer does not say how long it is"),
        (whole(&"ann\n".repeat(300_000)), "the answer is longer than 1048576 bytes: 1200000"),
        ("Content-Length: many\r\n\r\nann\n".to_owned(), "invalid digit found in string"),
        // A byte now and then is not an answer in time.
        (format!("Content-Length: 1000\r\n\r\n{DRIP}{}", "a".repeat(1000)), "no whole answer within 3 s"),
    ] {
        directory.answers(rest);
        let expected = format!("http://{}/users: {reason}", directory.address);
        until("a sync that fails for that", || (connector.line("sync failed").at("reason") == Some(&*expected)).then_some(()));
    }
    // None of them changed anything: what is new now is the one user more.
    directory.answers(whole("ann\nbob\neve\n"));
    assert_eq!(connector.line("users changed").at("users"), Some("3"));
    let changes = connector.log.iter().filter(|line| line.at("msg") == Some("users changed")).count();
    assert_eq!(changes, 2, "{:?}", connector.log);
}

#[test]
fn myconnector_does_not_start_without_what_it_needs() {
    let directory = Directory::start();
    let outcome = run(myconnector(&directory).env_remove("BATON_TOKEN"));
    assert_eq!(outcome.complaint(), "baton-myconnector: BATON_TOKEN or BATON_TOKEN_FILE is required (see --help)");
    let mut outcome = run(example("baton-myconnector", ["--help"]).env("BATON_TOKEN", SECRET));
    assert!(outcome.code == Some(0) && !outcome.stdout.contains(SECRET) && outcome.stdout.contains("BATON_TOKEN"));
    outcome = run(myconnector(&directory).env("BATON_TOKEN", "wrong-secret"));
    assert!(outcome.code == Some(1) && outcome.stderr.contains("/whoami: it does not know our token"), "{outcome:?}");
    assert!(!outcome.stderr.contains("wrong-secret"));
    // Nobody listens there any more once the listener is gone.
    let gone = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it is bound").to_string();
    let outcome = run(example("baton-myconnector", ["--upstream", &gone]).env("BATON_TOKEN", SECRET));
    assert!(outcome.code == Some(1) && outcome.stderr.contains("refused"), "{outcome:?}");
}

#[test]
fn a_program_of_its_own_embeds_server_and_probe() {
    let mut serve = example("embedded", ["serve", "127.0.0.1:0"]);
    let mut program = Running::start(serve.stdin(Stdio::piped()));
    let mut stdin = program.child().stdin.take().expect("it is a pipe");
    let mut log = BufReader::new(program.child().stderr.take().expect("it is a pipe")).lines();
    let mut line = || log.next().expect("a line").expect("UTF-8");
    let first = line();
    let address = first.strip_prefix("health: listening address=").expect("its own log gets the events").to_owned();
    let probe = || run(&mut example("embedded", ["probe", &address]));
    let socket: SocketAddr = address.parse().expect("an address");

    assert_eq!((client::get(socket, "/ready").status, client::get(socket, "/live").status), (503, 200));
    // Listening comes before the connector is attached.
    until("the connector's own word", || client::get(socket, "/ready").body.contains("no line yet").then_some(()));
    writeln!(stdin, "40").expect("it reads");
    until("the first line", || (client::get(socket, "/ready").status == 200).then_some(()));
    probe().succeeded_with("healthy\nready\nalive\n");
    writeln!(stdin, "two").expect("it reads");
    until("the bad line", || (client::get(socket, "/health").status == 503).then_some(()));
    let failed = probe();
    assert!(failed.code == Some(1) && failed.stderr.contains("line 2: invalid digit found in string"), "{failed:?}");
    writeln!(stdin, "2").expect("it reads");
    until("the good line", || (client::get(socket, "/health").status == 200).then_some(()));
    drop(stdin);
    assert_eq!(program.wait().code(), Some(0));
    let mut sum = String::new();
    program.child().stdout.take().expect("it is a pipe").read_to_string(&mut sum).expect("UTF-8");
    assert_eq!(sum, "42\n");
    let events = ["not ready reason=no line yet", "ready", "healthy", "unhealthy reason=line 2: invalid digit found in string"];
    assert_eq!([line(), line(), line(), line()], events.map(|event| format!("health: {event}")));
}

#[test]
fn a_connector_beside_an_async_runtime_ends_when_it_succeeds_fails_or_is_asked_to() {
    for (arguments, expected, code) in [
        (&["--rounds=2"][..], &["health check is off", "connected", "synced", "synced", "finished"][..], 0),
        (&["--rounds=1", "--fail"], &["health check is off", "connected", "synced", "failed"], 1),
        (&["--fail", "--health-check", "--health-check-port=0"], &["listening", "connected", "failed"], 1),
    ] {
        let mut connector = Daemon::start(&mut example("async_runtime", arguments.iter().copied()));
        assert_eq!((connector.exit(), connector.messages()), (Some(code), expected.to_vec()), "{arguments:?}");
    }
    let mut connector = Daemon::start(&mut example("async_runtime", ["--health-check", "--health-check-port=0"])).connected();
    assert_eq!(connector.get("/health").status, 200);
    // It is logged after the client has its answer.
    connector.line("healthy");
    connector.signal("TERM");
    assert_eq!(connector.exit(), Some(0));
    assert_eq!(connector.messages(), ["listening", "connected", "healthy", "draining", "finished"]);
}
