//! A running connector, known by the lines it logs.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use crate::client::{self, Answer};
use crate::clock;
use crate::json::{self, Json};
use crate::program::{Outcome, PATIENCE, Running, program, run};

pub(crate) struct Daemon {
    process: Running,
    lines: Receiver<String>,
    /// The lines that have been read.
    pub(crate) log: Vec<Json>,
    address: Option<SocketAddr>,
}

impl Daemon {
    pub(crate) fn start(command: &mut Command) -> Daemon {
        let mut process = Running::start(command);
        let stderr = process.child().stderr.take().expect("standard error is a pipe");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let line = line.expect("the log is UTF-8");
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Daemon { process, lines, log: Vec::new(), address: None }
    }

    /// Waits for the next line that says `message`.
    #[track_caller]
    pub(crate) fn line(&mut self, message: &str) -> Json {
        loop {
            match self.next_line() {
                Some(line) if line.at("msg") == Some(message) => return line,
                Some(_) => {}
                None => panic!("the log ended without {message:?}: {:?}", self.log),
            }
        }
    }

    /// The next line, or `None` when there are no more.
    #[track_caller]
    pub(crate) fn next_line(&mut self) -> Option<Json> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.log.push(log_line(&line));
                self.log.last().cloned()
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("waited in vain for a line after {:?}", self.log),
        }
    }

    /// What has been logged so far, word for word, in the order of `msg`, but for the line that only a slow start has.
    pub(crate) fn messages(&self) -> Vec<&str> {
        self.log.iter().filter_map(|line| line.at("msg")).filter(|message| *message != "connecting").collect()
    }

    /// Where it listens.
    #[track_caller]
    pub(crate) fn address(&mut self) -> SocketAddr {
        if let Some(address) = self.address {
            return address;
        }
        let line = self.line("listening");
        let address = line.at("address").and_then(|address| address.parse().ok());
        self.address = address;
        address.unwrap_or_else(|| panic!("no address: {line:?}"))
    }

    /// Waits until there is a connector behind the endpoints.
    #[track_caller]
    pub(crate) fn connected(mut self) -> Daemon {
        self.address();
        self.line("connected");
        self
    }

    /// The same without a server.
    #[allow(dead_code, reason = "used by tests that run on Linux")]
    #[track_caller]
    pub(crate) fn connected_without_server(mut self) -> Daemon {
        self.line("connected");
        self
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        client::get(self.address(), path)
    }

    /// Asks it with the program's own probe.
    pub(crate) fn probe(&mut self, arguments: &[&str]) -> Outcome {
        let address = self.address();
        run(probe(address).args(arguments))
    }

    #[allow(dead_code, reason = "used by the tests of the examples, which share this file")]
    pub(crate) fn child(&mut self) -> &mut Child {
        self.process.child()
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let sent = run(Command::new("kill").args([&["-", name].concat(), &self.id().to_string()]));
        assert_eq!(sent.code, Some(0), "{sent:?}");
    }

    #[cfg(unix)]
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.child().try_wait().expect("a child of ours").is_none()
    }

    /// Waits for its end, and returns its exit code; the rest of its log has been read by then.
    #[track_caller]
    pub(crate) fn exit(&mut self) -> Option<i32> {
        let code = self.process.wait().code();
        while self.next_line().is_some() {}
        code
    }
}

/// The program's probe of that address.
pub(crate) fn probe(address: SocketAddr) -> Command {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    program(["health-check", "--health-check-bind-address", &ip, "--health-check-port", &port])
}

/// A line of the log, which starts with time, level and message whatever it is about.
#[track_caller]
pub(crate) fn log_line(text: &str) -> Json {
    let line = json::parse(text).unwrap_or_else(|error| panic!("not a line of JSON: {error}: {text:?}"));
    assert!(line.names().starts_with(&["time", "level", "msg"]), "{text}");
    assert!(matches!(line.at("level"), Some("info" | "warn" | "error")), "{text}");
    let time = line.at("time").and_then(clock::rfc3339);
    assert!(time.is_some_and(|time| time <= clock::now()), "{text}");
    line
}
