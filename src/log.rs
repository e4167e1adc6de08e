//! Where events go: to `on_event`, or as lines to standard error.

mod stderr;

use std::cell::Cell;
use std::fmt;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
#[cfg(feature = "cli")]
use std::sync::OnceLock;

use crate::event::{Event, Level};

#[cfg(feature = "cli")]
pub(crate) use self::stderr::{Format, configure};

thread_local! {
    /// This thread is inside `on_event`, the function of the program's owner.
    static INSIDE_ON_EVENT: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is inside `on_event`. The thread must not enter it again, since it may hold a
/// lock.
#[cfg(feature = "cli")]
pub(crate) fn inside_on_event() -> bool {
    INSIDE_ON_EVENT.get()
}

/// Where events go: [`Config::on_event`](crate::Config::on_event).
#[derive(Clone)]
pub(crate) struct Log(pub(crate) Arc<dyn Fn(&Event<'_>) + Send + Sync>);

impl Log {
    /// Hands the event to `on_event`. Writes it to standard error if `on_event` panics or is already running on
    /// this thread.
    pub(crate) fn emit(&self, event: &Event<'_>) {
        if !stderr::is_enabled(event.level()) {
            return;
        }
        if INSIDE_ON_EVENT.replace(true) {
            return to_stderr(event);
        }
        let called = panic::catch_unwind(AssertUnwindSafe(|| (self.0)(event)));
        INSIDE_ON_EVENT.set(false);
        if let Err(payload) = called {
            // The payload's destructor may panic too.
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

/// Where [`log`] goes while an [`App`](crate::App) runs.
#[cfg(feature = "cli")]
static APPS_LOG: OnceLock<Log> = OnceLock::new();

/// Makes [`log`] write to this log from now on.
#[cfg(feature = "cli")]
pub(crate) fn share(log: &Log) {
    APPS_LOG.get_or_init(|| log.clone());
}

/// Writes an event as one line to standard error: the default of
/// [`Config::on_event`](crate::Config::on_event).
pub(crate) fn to_stderr(event: &Event<'_>) {
    if stderr::is_enabled(event.level()) {
        stderr::write(event);
    }
}

/// Writes a line to the log, in the form of the lines that the daemon itself writes:
/// `{"time":"2025-01-31T12:00:00Z","level":"info","msg":"synced","users":"27"}`.
///
/// A connector can log with it. While an [`App`](crate::App) runs, the line goes to
/// [`Config::on_event`](crate::Config::on_event), as [`Event::Message`]. Otherwise it goes to standard
/// error. Lines below `--log-level` are not written; without an `App`, lines below [`Level::Info`].
///
/// The names in `fields` should differ from each other and from `time`, `level` and `msg`. Lines of different
/// threads do not mix. If standard error is not read, lines are lost, and no thread waits for long; the next
/// line that can be written comes after one with the number of lost lines. If standard error is the systemd
/// journal, a line begins with its priority (`<6>`).
///
/// ```
/// use baton_health::{Level, log};
/// log(Level::Info, "synced", &[("users", "27"), ("groups", "51")]);
/// ```
pub fn log(level: Level, message: &str, fields: &[(&str, &str)]) {
    let event = Event::Message { level, message, fields };
    #[cfg(feature = "cli")]
    if let Some(log) = APPS_LOG.get() {
        return log.emit(&event);
    }
    to_stderr(&event);
}

/// The line that [`log`] writes.
#[cfg(any(test, fuzzing))]
pub(crate) fn line(level: Level, message: &str, fields: &[(&str, &str)]) -> String {
    stderr::line(&Event::Message { level, message, fields })
}
