//! The process under test, from outside: its orders, its log, its limits, and what it holds.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use baton_health::BoxError;

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

/// Repeats `attempt` until it returns true.
pub(crate) fn until(what: &str, mut attempt: impl FnMut() -> bool) -> Result<(), BoxError> {
    let deadline = Instant::now() + PATIENCE;
    while !attempt() {
        if Instant::now() > deadline {
            return Err(format!("timed out waiting for {what}").into());
        }
        thread::sleep(BETWEEN_LOOKS);
    }
    Ok(())
}

/// A command of the user that the process has for itself.
fn as_its_user() -> Command {
    let user = 3_000_000 + std::process::id();
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"]);
    command
}

pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
    pub(crate) log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
}

/// The log's reader.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) stopped: AtomicBool,
    lines: AtomicUsize,
    /// Lines that say that others were lost.
    gaps: AtomicUsize,
    /// Lines that are no JSON object, except for torn ones before a gap.
    pub(crate) broken: Mutex<Vec<String>>,
}

impl Process {
    /// Starts it under a user that no other process has, so that a limit of threads is its own.
    pub(crate) fn start() -> Result<Process, BoxError> {
        let copy = std::env::temp_dir().join(format!("baton-health-soak-{}", std::process::id()));
        fs::copy(std::env::current_exe()?, &copy)?;
        let mut command = as_its_user();
        let child = command.arg(&copy).arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("setpriv: {error}"))?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        fs::remove_file(&copy)?;
        let address = line.trim().parse().map_err(|error| format!("{line:?}: {error}; this test needs root, for setpriv"))?;
        let log = Arc::<Log>::default();
        let stderr = BufReader::new(child.stderr.take().ok_or("no log")?);
        let reader = thread::spawn({
            let log = Arc::clone(&log);
            move || log.read(stderr)
        });
        Ok(Process { stdin: child.stdin.take(), child, stdout, address, log, reader: Some(reader) })
    }

    /// Has it do something, and waits until it has.
    pub(crate) fn order(&mut self, order: &str) -> Result<(), BoxError> {
        writeln!(self.stdin.as_mut().ok_or("it has ended")?, "{order}")?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line == "done\n" { Ok(()) } else { Err(format!("{order}: {line:?}").into()) }
    }

    /// Changes a soft limit: `nofile` or `nproc`.
    pub(crate) fn limit(&self, resource: &str, most: usize) -> Result<(), BoxError> {
        let arguments = [format!("--pid={}", self.child.id()), format!("--{resource}={most}:")];
        let status = as_its_user().arg("prlimit").args(arguments).status()?;
        if status.success() { Ok(()) } else { Err(format!("prlimit: {status}").into()) }
    }

    pub(crate) fn holds(&self) -> Result<Holds, BoxError> {
        let path = |name: &str| format!("/proc/{}/{name}", self.child.id());
        let rollup = fs::read_to_string(path("smaps_rollup"))?;
        let kilobytes = |name: &str| {
            let rest = rollup.lines().find_map(|line| line.strip_prefix(name));
            rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Ok(Holds {
            anonymous: kilobytes("Anonymous:"),
            resident: kilobytes("Rss:"),
            threads: fs::read_dir(path("task"))?.count(),
            descriptors: fs::read_dir(path("fd"))?.count(),
        })
    }

    /// Ends it in order.
    pub(crate) fn end(mut self) -> Result<(), BoxError> {
        drop(self.stdin.take());
        until("its end", || matches!(self.child.try_wait(), Ok(Some(_))))?;
        let status = self.child.wait()?;
        let _ = self.reader.take().map(JoinHandle::join);
        if status.success() { Ok(()) } else { Err(status.to_string().into()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Memory in kB; anonymous is what is not the file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holds {
    pub(crate) anonymous: usize,
    pub(crate) resident: usize,
    pub(crate) threads: usize,
    pub(crate) descriptors: usize,
}

impl Log {
    pub(crate) fn lines(&self) -> usize {
        self.lines.load(Ordering::SeqCst)
    }

    pub(crate) fn gaps(&self) -> usize {
        self.gaps.load(Ordering::SeqCst)
    }

    fn read(&self, log: impl BufRead) {
        let mut torn = None;
        for line in log.split(b'\n') {
            let Ok(line) = line else { return };
            if line.is_empty() {
                continue;
            }
            self.lines.fetch_add(1, Ordering::SeqCst);
            while self.stopped.load(Ordering::SeqCst) {
                thread::sleep(BETWEEN_LOOKS);
            }
            let whole = line.starts_with(b"{\"time\":") && line.ends_with(b"}");
            let gap = line.windows(16).any(|part| part == b"\"log lines lost\"");
            if let Some(torn) = torn.take().filter(|_| !gap) {
                self.broken.lock().expect("nobody panics with it").push(torn);
            }
            torn = (!whole).then(|| String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned());
            self.gaps.fetch_add(gap.into(), Ordering::SeqCst);
        }
    }
}
