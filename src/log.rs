//! What is worth logging, and the default place for it: one JSON line each on standard error.

use std::cell::Cell;
#[cfg(unix)]
use std::env;
use std::fmt;
#[cfg(unix)]
use std::fs::File;
use std::io;
#[cfg(not(unix))]
use std::io::Write;
use std::mem;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::{fd::AsFd, unix::fs::MetadataExt};
use std::panic::{self, AssertUnwindSafe};
#[cfg(unix)]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread;
#[cfg(unix)]
use std::time::Instant;
use std::time::{Duration, SystemTime};

use crate::address::Address;
use crate::date::rfc3339;
use crate::json::json_string;
#[cfg(unix)]
use crate::sys;

/// How much attention a line wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Level {
    /// Something went as it should.
    Info,
    /// Something did not, and the process goes on.
    Warn,
    /// Something did not, and the process ends, or cannot do what it is there for.
    Error,
}

/// What a health server, or the program around it, did or met. Not for ordinary requests.
///
/// Its [`Display`](fmt::Display) is a line of text for a log of your own.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The server listens on this address: the real one, where port 0 was asked for.
    Listening {
        /// The address.
        address: SocketAddr,
    },
    /// Building the connector takes a while. Logged once.
    Connecting,
    /// The connector is still not built. Logged at growing intervals.
    StillConnecting {
        /// How long it has taken so far.
        elapsed: Duration,
    },
    /// The connector exists, so `/ready` and `/health` can ask it.
    Connected,
    /// `/health` answers 200, for the first time or again.
    Healthy,
    /// `/health` answers 503, for the first time or again.
    Unhealthy {
        /// Why, whole.
        reason: &'a str,
    },
    /// `/ready` answers 200, for the first time or again.
    Ready,
    /// The connector's `ready` says no, for the first time or again.
    NotReady {
        /// Why, whole.
        reason: &'a str,
    },
    /// Some code panicked.
    Panicked {
        /// The panic's message and place, as far as they are known.
        message: &'a str,
    },
    /// The system lacks something that the server needs. The server goes on with what it has. Logged
    /// once, until [`Event::Recovered`].
    ResourceExhausted {
        /// What the server tried.
        what: &'a str,
        /// What the system said.
        error: &'a io::Error,
    },
    /// The shortage that [`Event::ResourceExhausted`] reported has passed.
    Recovered,
    /// The server can accept no more connections. Seen from outside, the process is dead from now
    /// on, so it should end. [`App`](crate::App) ends it.
    ListenerFailed {
        /// What the system said.
        error: &'a io::Error,
    },
    /// The process has been asked to finish, or cannot go on, and shuts down.
    Draining,
    /// The connector's `serve` has returned `Ok`.
    Finished,
    /// The connector's `serve` or its destructor did not return in time. The process ends without it.
    Abandoned,
    /// The daemon failed: what was tried, and why it did not work.
    Failed {
        /// What was tried.
        what: &'a str,
        /// Why it did not work, whole.
        reason: &'a str,
    },
}

impl Event<'_> {
    /// How much attention it wants.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Event::Panicked { .. } | Event::ListenerFailed { .. } | Event::Failed { .. } => Level::Error,
            Event::Unhealthy { .. }
            | Event::NotReady { .. }
            | Event::ResourceExhausted { .. }
            | Event::StillConnecting { .. }
            | Event::Abandoned => Level::Warn,
            _ => Level::Info,
        }
    }

    /// A few words that are always the same for the same kind of event: what a log is searched for.
    #[must_use]
    pub fn message(&self) -> &'static str {
        match self {
            Event::Listening { .. } => "listening",
            Event::Connecting => "connecting",
            Event::StillConnecting { .. } => "still connecting",
            Event::Connected => "connected",
            Event::Healthy => "healthy",
            Event::Unhealthy { .. } => "unhealthy",
            Event::Ready => "ready",
            Event::NotReady { .. } => "not ready",
            Event::Panicked { .. } => "panicked",
            Event::ResourceExhausted { .. } => "short of resources",
            Event::Recovered => "recovered",
            Event::ListenerFailed { .. } => "listener failed",
            Event::Draining => "draining",
            Event::Finished => "finished",
            Event::Abandoned => "connector did not finish in time",
            Event::Failed { .. } => "failed",
        }
    }

    /// What belongs to it, by name.
    fn for_each_field(&self, mut each: impl FnMut(&str, &dyn fmt::Display)) {
        match self {
            Event::Listening { address } => each("address", &Address(*address)),
            Event::StillConnecting { elapsed } => each("seconds", &elapsed.as_secs()),
            Event::Unhealthy { reason } | Event::NotReady { reason } => each("reason", reason),
            Event::Panicked { message } => each("error", message),
            Event::ResourceExhausted { what, error } => {
                each("what", what);
                each("error", error);
            }
            Event::ListenerFailed { error } => each("error", error),
            Event::Failed { what, reason } => {
                each("what", what);
                each("error", reason);
            }
            _ => {}
        }
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())?;
        let mut result = Ok(());
        self.for_each_field(|name, value| result = result.and_then(|()| write!(f, " {name}={value}")));
        result
    }
}

thread_local! {
    /// This thread is inside the owner's function.
    static IN_OWNERS_FUNCTION: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is inside the owner's function, which must not be entered again: it may
/// hold a lock.
#[cfg(feature = "cli")]
pub(crate) fn in_owners_function() -> bool {
    IN_OWNERS_FUNCTION.get()
}

/// Where events go: the owner's function.
#[derive(Clone)]
pub(crate) struct Log(pub(crate) Arc<dyn Fn(&Event<'_>) + Send + Sync>);

impl Log {
    /// Hands the event to the owner's function; to standard error if that function panics or is already
    /// running on this thread.
    pub(crate) fn emit(&self, event: &Event<'_>) {
        if IN_OWNERS_FUNCTION.replace(true) {
            return to_stderr(event);
        }
        let called = panic::catch_unwind(AssertUnwindSafe(|| (self.0)(event)));
        IN_OWNERS_FUNCTION.set(false);
        if let Err(payload) = called {
            // Its destructor is the owner's code too, and may panic again.
            mem::forget(payload);
            to_stderr(event);
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}

/// Writes an event as one JSON line to standard error, like [`log`]: the default of
/// [`Config::on_event`](crate::Config::on_event).
pub(crate) fn to_stderr(event: &Event<'_>) {
    let mut line = Line::new(event.level(), event.message());
    event.for_each_field(|name, value| line.field(name, &value.to_string()));
    line.write();
}

/// Writes one JSON line to standard error, in the form of the lines that the daemon itself writes:
/// `{"time":"2025-01-31T12:00:00Z","level":"info","msg":"synced","users":"27"}`.
///
/// For what a connector has to say. The names in `fields` should differ from each other and from
/// `time`, `level` and `msg`. A line is written in one piece. If nobody reads standard error, lines
/// are lost rather than threads held up; the next line that can be written is preceded by one with
/// their number. Where standard error is the systemd journal, a line begins with its priority (`<6>`).
///
/// ```
/// use baton_health::{Level, log};
/// log(Level::Info, "synced", &[("users", "27"), ("groups", "51")]);
/// ```
pub fn log(level: Level, message: &str, fields: &[(&str, &str)]) {
    let mut line = Line::new(level, message);
    for (name, value) in fields {
        line.field(name, value);
    }
    line.write();
}

/// The line that [`log`] writes.
#[cfg(any(test, fuzzing))]
pub(crate) fn line(level: Level, message: &str, fields: &[(&str, &str)]) -> String {
    let mut line = Line::new(level, message);
    for (name, value) in fields {
        line.field(name, value);
    }
    line.0 + "}\n"
}

struct Line(String);

impl Line {
    fn new(level: Level, message: &str) -> Line {
        let (priority, word) = match level {
            Level::Info => ("<6>", "info"),
            Level::Warn => ("<4>", "warn"),
            Level::Error => ("<3>", "error"),
        };
        let mut text = String::new();
        if stderr_is_journal() {
            text.push_str(priority);
        }
        text.push_str("{\"time\":\"");
        rfc3339(&mut text, SystemTime::now());
        text.extend(["\",\"level\":\"", word, "\",\"msg\":"]);
        json_string(&mut text, message);
        Line(text)
    }

    fn field(&mut self, name: &str, value: &str) {
        self.0.push(',');
        json_string(&mut self.0, name);
        self.0.push(':');
        json_string(&mut self.0, value);
    }

    fn end(mut self) -> String {
        self.0.push_str("}\n");
        self.0
    }

    /// Writes the line; or loses it if standard error takes nothing for a while: health checks and
    /// shutdown must not wait for a reader.
    fn write(self) {
        const TRIES: usize = 100;
        const PAUSE: Duration = Duration::from_millis(1);

        let line = self.end();
        for _ in 0..TRIES {
            match OUTPUT.try_lock() {
                Ok(mut output) => return output.write(&line),
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner().write(&line),
                Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
            }
        }
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

static OUTPUT: Mutex<Output> = Mutex::new(Output { torn: false });

/// Lines lost since the last one that was written.
static LOST: AtomicUsize = AtomicUsize::new(0);

/// Standard error.
struct Output {
    /// The last line was written in part.
    torn: bool,
}

impl Output {
    fn write(&mut self, line: &str) {
        let lost = LOST.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let mut notice = Line::new(Level::Warn, "log lines lost");
            notice.field("count", &lost.to_string());
            if !self.put(&notice.end()) {
                LOST.fetch_add(lost + 1, Ordering::Relaxed);
                return;
            }
        }
        if !self.put(line) {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes a line, on a line of its own, and says whether all of it was written.
    fn put(&mut self, line: &str) -> bool {
        if self.torn {
            if write_to_stderr(b"\n") == 0 {
                return false;
            }
            self.torn = false;
        }
        for piece in line.as_bytes().chunks(PIECE) {
            let written = write_to_stderr(piece);
            self.torn |= written > 0;
            if written < piece.len() {
                return false;
            }
        }
        self.torn = false;
        true
    }
}

/// Writes a piece of a line to standard error, unless that takes too long, and returns how much of it was
/// written.
#[cfg(unix)]
fn write_to_stderr(piece: &[u8]) -> usize {
    const LONGEST: Duration = Duration::from_millis(100);
    sys::write_until(sys::STDERR, piece, Instant::now() + LONGEST).0
}

#[cfg(unix)]
use crate::sys::PIPE_BUF as PIECE;

/// Only the C library can tell whether a write would block.
#[cfg(not(unix))]
fn write_to_stderr(piece: &[u8]) -> usize {
    if io::stderr().write_all(piece).is_ok() { piece.len() } else { 0 }
}

#[cfg(not(unix))]
const PIECE: usize = 4096;

/// Whether standard error is a stream of the systemd journal, which reads priorities (sd-daemon(3)):
/// `JOURNAL_STREAM` then has its device and inode.
#[cfg(unix)]
fn stderr_is_journal() -> bool {
    static IS_JOURNAL: OnceLock<bool> = OnceLock::new();
    *IS_JOURNAL.get_or_init(|| {
        let Some(stream) = env::var_os("JOURNAL_STREAM") else { return false };
        let file = io::stderr().as_fd().try_clone_to_owned().map(File::from).and_then(|file| file.metadata());
        file.is_ok_and(|file| stream.to_str() == Some(&*[&*file.dev().to_string(), ":", &*file.ino().to_string()].concat()))
    })
}

#[cfg(not(unix))]
fn stderr_is_journal() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_json_object() {
        let mut line = Line::new(Level::Warn, "it \"broke\"");
        line.field("reason", "two\nlines");
        let (time, rest) = line.0.split_at("{\"time\":\"2025-01-31T12:00:00Z\"".len());
        assert!(time.starts_with("{\"time\":\"2") && time.ends_with("Z\""), "{time}");
        assert_eq!(rest, r#","level":"warn","msg":"it \"broke\"","reason":"two\nlines""#);
    }

    #[test]
    fn an_event_is_a_line_of_text_too() {
        let error = io::Error::other("no more");
        let event = Event::ResourceExhausted { what: "accept", error: &error };
        assert_eq!(event.to_string(), "short of resources what=accept error=no more");
        assert_eq!(Event::Healthy.to_string(), "healthy");
        assert_eq!(event.level(), Level::Warn);
    }
}
