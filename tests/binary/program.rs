//! How the program is started and waited for. Nothing here waits without a bound, and nothing outlives its test.

#[path = "spawn.rs"]
mod spawn;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up: long, since it is only ever waited out by a
/// test that fails, and machines may be slow, loaded or emulated.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program with those arguments, none of our variables set, and nothing on standard input.
pub(crate) fn program<I>(arguments: I) -> Command
where
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    command(env::var_os("BATON_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_baton-passwd").into()), arguments)
}

/// The same for another binary.
pub(crate) fn command<I>(binary: OsString, arguments: I) -> Command
where
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    let runner = env::var("BATON_TEST_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace();
    let mut command = match words.next() {
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(binary);
            command
        }
        None => Command::new(binary),
    };
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("BATON_") {
            command.env_remove(name);
        }
    }
    // Backtraces are no lines of the log.
    command.env_remove("RUST_BACKTRACE").env_remove("JOURNAL_STREAM");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The same command, started by another one that sets something up for it.
pub(crate) fn started_by(starter: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(starter[0]);
    outer.args(&starter[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    outer
}

/// A pipe's end that is full, and that nobody reads from.
#[cfg(target_os = "linux")]
pub(crate) fn stuck() -> (std::os::unix::net::UnixStream, Stdio) {
    use std::io::Write;
    let (reader, writer) = std::os::unix::net::UnixStream::pair().expect("sockets can be had");
    writer.set_nonblocking(true).expect("it is open");
    while (&writer).write(&[0; 4096]).is_ok() {}
    while (&writer).write(&[0]).is_ok() {}
    writer.set_nonblocking(false).expect("it is open");
    (reader, std::os::fd::OwnedFd::from(writer).into())
}

/// A process that is killed when its test is done with it.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Running {
        Running(spawn::spawn(command).unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("the end of the process", || self.0.try_wait().expect("a child of ours"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What became of a program that ended on its own.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    /// `None` for one that a signal killed.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let mut running = Running::start(command);
    // A test may have put something else in the place of the pipes.
    let stdout = running.child().stdout.take().map(collect);
    let stderr = running.child().stderr.take().map(collect);
    let code = running.wait().code();
    let text = |reader: Option<JoinHandle<Vec<u8>>>| {
        let bytes = reader.map(|reader| reader.join().expect("a reader does not panic")).unwrap_or_default();
        String::from_utf8(bytes).expect("everything the program writes is UTF-8")
    };
    Outcome { code, stdout: text(stdout), stderr: text(stderr) }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read to its end");
        bytes
    })
}

/// Tries until there is something, for as long as patience lasts.
pub(crate) fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    const BETWEEN: Duration = Duration::from_millis(5);
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(thing) = attempt() {
            return thing;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(BETWEEN);
    }
}

impl Outcome {
    /// The one line on standard error of a program that failed, and did nothing else.
    #[track_caller]
    pub(crate) fn complaint(&self) -> &str {
        assert_eq!((self.code, &*self.stdout), (Some(1), ""), "{self:?}");
        let line = self.stderr.strip_suffix('\n').unwrap_or_else(|| panic!("not a line: {self:?}"));
        assert!(!line.is_empty() && !line.chars().any(char::is_control), "not one clean line: {self:?}");
        line
    }

    /// Asserts that the program succeeded, and wrote just that.
    #[track_caller]
    pub(crate) fn succeeded_with(&self, stdout: &str) {
        assert_eq!((self.code, &*self.stdout, &*self.stderr), (Some(0), stdout, ""));
    }
}
