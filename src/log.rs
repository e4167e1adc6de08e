//! What is worth logging, and the default place for it: one JSON line each on standard error.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::address::Address;
use crate::date::rfc3339;
use crate::json::json_string;

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
    /// The connector exists: `/ready` has somebody to ask.
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
    /// A place in the connector's code panicked.
    Panicked {
        /// What it said, and where, as far as it is known.
        message: &'a str,
    },
    /// The machine is out of something the server needs; it goes on with what it has. Said once,
    /// until it has passed.
    Scarce {
        /// What was tried.
        what: &'a str,
        /// What the system said.
        error: &'a io::Error,
    },
    /// What [`Event::Scarce`] said has passed.
    Recovered,
    /// The server cannot accept connections any more. A process that goes on nevertheless looks
    /// dead from outside: end it. [`App`](crate::App) does.
    Dead {
        /// What the system said.
        error: &'a io::Error,
    },
    /// The process has been asked to finish, and does.
    Draining,
    /// The connector has not finished in time, and is left behind.
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
            Event::Listening { .. } | Event::Connected | Event::Healthy | Event::Ready | Event::Recovered | Event::Draining => {
                Level::Info
            }
            Event::Unhealthy { .. } | Event::NotReady { .. } | Event::Scarce { .. } | Event::Abandoned => Level::Warn,
            Event::Panicked { .. } | Event::Dead { .. } | Event::Failed { .. } => Level::Error,
        }
    }

    /// A few words that are always the same for the same kind of event: what a log is searched for.
    #[must_use]
    pub fn message(&self) -> &'static str {
        match self {
            Event::Listening { .. } => "listening",
            Event::Connected => "connected",
            Event::Healthy => "healthy",
            Event::Unhealthy { .. } => "unhealthy",
            Event::Ready => "ready",
            Event::NotReady { .. } => "not ready",
            Event::Panicked { .. } => "panicked",
            Event::Scarce { .. } => "short of resources",
            Event::Recovered => "recovered",
            Event::Dead { .. } => "health server cannot go on",
            Event::Draining => "draining",
            Event::Abandoned => "connector did not finish in time",
            Event::Failed { .. } => "failed",
        }
    }

    /// What belongs to it, by name.
    fn for_each_field(&self, mut each: impl FnMut(&str, &dyn fmt::Display)) {
        match self {
            Event::Listening { address } => each("address", &Address(*address)),
            Event::Unhealthy { reason } | Event::NotReady { reason } => each("reason", reason),
            Event::Panicked { message } => each("error", message),
            Event::Scarce { what, error } => {
                each("what", what);
                each("error", error);
            }
            Event::Dead { error } => each("error", error),
            Event::Failed { what, reason } => {
                each("what", what);
                each("error", reason);
            }
            Event::Connected | Event::Healthy | Event::Ready | Event::Recovered | Event::Draining | Event::Abandoned => {}
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

/// Where events go: the owner's function.
#[derive(Clone)]
pub(crate) struct Log(pub(crate) Arc<dyn Fn(&Event<'_>) + Send + Sync>);

impl Log {
    /// Tells the owner, whatever the owner's function then does.
    pub(crate) fn emit(&self, event: &Event<'_>) {
        let _ = panic::catch_unwind(AssertUnwindSafe(|| (self.0)(event)));
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
/// `time`, `level` and `msg`. A line is written in one piece; if nobody takes what is written there,
/// lines are lost rather than threads held up.
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

struct Line(String);

impl Line {
    fn new(level: Level, message: &str) -> Line {
        let mut text = String::from("{\"time\":\"");
        rfc3339(&mut text, SystemTime::now());
        text.push_str(match level {
            Level::Info => "\",\"level\":\"info\",\"msg\":",
            Level::Warn => "\",\"level\":\"warn\",\"msg\":",
            Level::Error => "\",\"level\":\"error\",\"msg\":",
        });
        json_string(&mut text, message);
        Line(text)
    }

    fn field(&mut self, name: &str, value: &str) {
        self.0.push(',');
        json_string(&mut self.0, name);
        self.0.push(':');
        json_string(&mut self.0, value);
    }

    /// Writes the line; or loses it, when whoever reads what is written has stopped reading: health
    /// checks and shutdown must not wait for that.
    fn write(mut self) {
        static WRITING: Mutex<()> = Mutex::new(());
        const TRIES: usize = 100;
        const PAUSE: Duration = Duration::from_millis(1);

        self.0.push_str("}\n");
        for _ in 0..TRIES {
            let _alone = match WRITING.try_lock() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    thread::sleep(PAUSE);
                    continue;
                }
            };
            // What a pipe takes in one piece (PIPE_BUF on Linux), and has room for when it has any.
            const PIECE: usize = 4096;
            for piece in self.0.as_bytes().chunks(PIECE) {
                // There is nobody to tell that standard error cannot be written to.
                if !can_write() || io::stderr().write_all(piece).is_err() {
                    return;
                }
            }
            return;
        }
    }
}

#[cfg(all(unix, feature = "cli"))]
fn can_write() -> bool {
    const STDERR: i32 = 2;
    const MILLISECONDS: i32 = 100;
    crate::sys::can_write(STDERR, MILLISECONDS)
}

/// Only the C library can tell.
#[cfg(not(all(unix, feature = "cli")))]
fn can_write() -> bool {
    true
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
        let event = Event::Scarce { what: "accept", error: &error };
        assert_eq!(event.to_string(), "short of resources what=accept error=no more");
        assert_eq!(Event::Healthy.to_string(), "healthy");
        assert_eq!(event.level(), Level::Warn);
    }
}
