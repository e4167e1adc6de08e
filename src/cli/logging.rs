//! Logs what happens to the daemon, without waiting long for `on_event`: that is the program's own function, and may
//! block.

use std::backtrace::Backtrace;
use std::env;
use std::panic;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::connector::panic_text;
use crate::event::Event;
use crate::log::{Log, inside_on_event, to_stderr, write_text};
use crate::spawn::spawn;
use crate::stop::Stop;

/// How long a thread waits for its event to be logged before it goes on.
const LONGEST: Duration = Duration::from_secs(1);

/// Logs an event on a thread of its own, and waits for it, but not for long.
pub(super) fn emit(log: &Log, event: Event<'static>) {
    log_in_time(log, Arc::new(move |log| log.emit(&event)));
}

/// The same for [`Event::Failed`].
pub(super) fn emit_failure(log: &Log, what: &'static str, reason: String) {
    log_in_time(log, Arc::new(move |log| log.emit(&Event::Failed { what, reason: &reason })));
}

/// Calls `say` on another thread, since this one may hold a lock that `on_event` waits for, and a panic inside a panic
/// hook aborts the process. If `on_event` is running on this thread, or has not returned in time before, or if no
/// thread can be started, the event goes to standard error.
fn log_in_time(log: &Log, say: Arc<dyn Fn(&Log) + Send + Sync>) {
    /// The last call that took too long. It is requested when that call has returned.
    static LATE: Mutex<Option<Stop>> = Mutex::new(None);
    let late = || LATE.lock().unwrap_or_else(PoisonError::into_inner);

    let said = Stop::default();
    let (log, say_it, done) = (log.clone(), Arc::clone(&say), said.clone());
    let work = move || {
        say_it(&log);
        done.request();
    };
    let is_blocked = late().as_ref().is_some_and(|late| !late.is_requested());
    if is_blocked || inside_on_event() || spawn("log", Box::new(work)).is_err() {
        say(&Log(Arc::new(to_stderr)));
    } else if !said.wait_for(LONGEST) {
        *late() = Some(said);
    }
}

/// Makes each panic an event, so that std does not write its own text between the lines of the log.
pub(super) fn log_panics(log: Log) {
    panic::set_hook(Box::new(move |info| {
        let text = panic_text(info.payload());
        let message = match info.location() {
            Some(place) => format!("{text}, at {place}"),
            None => text.to_owned(),
        };
        log_in_time(&log, Arc::new(move |log| log.emit(&Event::Panicked { message: &message })));
        if env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            // std's own hook would wait for a reader of standard error.
            write_text(&["stack backtrace:\n", &Backtrace::force_capture().to_string()].concat());
        }
    }));
}
