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
pub(crate) use self::stderr::{Format, configure, write_text};

thread_local! {
    /// This thread is inside `on_event`, a function of the program.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, PoisonError};

    /// A log that keeps what it gets, and then does this.
    fn log_that(then: impl Fn(&Event<'_>) + Send + Sync + 'static) -> (Log, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let log = Log(Arc::new({
            let seen = Arc::clone(&seen);
            move |event: &Event<'_>| {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(event.to_string());
                then(event);
            }
        }));
        (log, seen)
    }

    #[test]
    fn an_event_reaches_on_event_unless_its_level_is_too_low() {
        let (log, seen) = log_that(|_| ());
        log.emit(&Event::Message { level: Level::Debug, message: "a detail", fields: &[] });
        log.emit(&Event::Message { level: Level::Info, message: "worked", fields: &[] });
        log.emit(&Event::Healthy);
        assert_eq!(*seen.lock().unwrap(), ["worked", "healthy"]);
        assert!(format!("{log:?}").contains("Log"));
    }

    #[test]
    #[cfg_attr(miri, ignore = "standard error")]
    fn on_event_is_not_entered_again_while_it_runs() {
        let inner = Arc::new(Mutex::new(None::<Log>));
        let (log, seen) = log_that({
            let inner = Arc::clone(&inner);
            move |_| {
                // This one goes to standard error.
                if let Some(log) = &*inner.lock().unwrap() {
                    log.emit(&Event::Recovered);
                }
            }
        });
        *inner.lock().unwrap() = Some(log.clone());
        log.emit(&Event::Healthy);
        log.emit(&Event::Healthy);
        assert_eq!(*seen.lock().unwrap(), ["healthy", "healthy"]);
        *inner.lock().unwrap() = None;
    }

    #[test]
    #[cfg_attr(miri, ignore = "standard error")]
    fn on_event_is_called_again_after_it_has_panicked() {
        let (log, seen) = log_that(|_| panic!("cannot log"));
        log.emit(&Event::Healthy);
        log.emit(&Event::Recovered);
        assert_eq!(*seen.lock().unwrap(), ["healthy", "recovered"]);
    }
}
