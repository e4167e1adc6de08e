//! The checks behind `/health` and `/ready`: the connector, and the one run of `validate` in flight.
//!
//! [`Validation::known`] answers if it can without waiting. [`Validation::ask`] may call the connector or wait for
//! its verdict. This file knows nothing of connections, and the only thread it starts is `validate`'s.

use std::fmt;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::quota::Quota;
use super::transitions::{Check, Transitions};
use crate::config::Config;
use crate::connector::{BoxError, Connector, explain, panic_text};
use crate::deadline::{after, milliseconds};
use crate::endpoint::{Endpoint, OVERDUE};
use crate::limits::{ANSWER_MARGIN, MAX_ERROR_TEXT};
use crate::log::Log;
use crate::spawn::spawn;
use crate::sync::{Condvar, Instant, Mutex, MutexGuard};
use crate::text::{bounded, without_times};

/// Why a check fails.
#[derive(Clone, Debug)]
pub(crate) enum CheckError {
    /// No connector is attached yet.
    NoConnector,
    /// The process is about to end.
    Draining,
    /// The program has called `refuse_ready`.
    Refused,
    /// The quota for requests that wait for the connector is used up.
    Busy,
    /// The system has no thread for a request that has to wait.
    NoThread,
    /// `validate` has run this long, and the client stops waiting for it.
    Overdue(Duration),
    /// The connector's own text, cut to [`MAX_ERROR_TEXT`] bytes.
    Reported(Arc<str>),
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckError::NoConnector => f.write_str("the connector has not started yet"),
            CheckError::Draining => f.write_str("the connector is shutting down"),
            CheckError::Refused => f.write_str("the program refuses new work"),
            CheckError::Busy => f.write_str("too many requests are waiting for the connector"),
            CheckError::NoThread => f.write_str("the system has no thread for this request"),
            CheckError::Overdue(age) => write!(f, "{OVERDUE} after {} ms", milliseconds(*age)),
            CheckError::Reported(text) => f.write_str(text),
        }
    }
}

pub(crate) type Verdict = Result<(), CheckError>;

/// The connector, the state of its validation, and the quotas for requests that wait for it.
pub(crate) struct Validation {
    state: Mutex<State>,
    /// A run has finished, the connector was replaced, or shutdown has set `give_up`.
    changed: Condvar,
    /// Requests that wait for a verdict of `validate`.
    waiting: Quota,
    /// Requests inside the connector's `ready`.
    in_ready: Quota,
    validate_timeout: Duration,
    validate_ttl: Duration,
    transitions: Transitions,
}

#[derive(Default)]
struct State {
    connector: Option<Arc<dyn Connector>>,
    /// Counts the calls of `attach`.
    generation: u64,
    /// Counts the runs of `validate`.
    runs: u64,
    in_flight: Option<Run>,
    finished: Option<Finished>,
    draining: bool,
    ready_refused: bool,
    /// At shutdown: when requests stop waiting for a verdict.
    give_up: Option<Instant>,
}

impl State {
    /// Why `/ready` fails without asking the connector.
    fn not_ready(&self) -> Option<CheckError> {
        if self.draining {
            Some(CheckError::Draining)
        } else if self.ready_refused {
            Some(CheckError::Refused)
        } else if self.connector.is_none() {
            Some(CheckError::NoConnector)
        } else {
            None
        }
    }
}

/// The run of `validate` in flight.
#[derive(Clone, Copy)]
struct Run {
    number: u64,
    started: Instant,
    /// It has been logged that this run takes too long.
    overdue_logged: bool,
}

/// The result of the latest run.
struct Finished {
    run: u64,
    at: Instant,
    verdict: Verdict,
}

impl fmt::Debug for Validation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validation").field("waiting", &self.waiting).field("in_ready", &self.in_ready).finish_non_exhaustive()
    }
}

impl Validation {
    pub(crate) fn new(config: &Config, log: Log) -> Validation {
        Validation {
            state: Mutex::default(),
            changed: Condvar::new(),
            waiting: Quota::new(config.max_connections / 2),
            in_ready: Quota::new(config.max_connections / 4),
            validate_timeout: config.validate_timeout,
            validate_ttl: config.validate_ttl,
            transitions: Transitions::new(log),
        }
    }

    /// Asks `connector` from now on. An earlier connector's verdict is discarded, and requests that wait for
    /// it ask the new connector.
    pub(crate) fn attach(&self, connector: Arc<dyn Connector>) {
        let mut state = self.lock();
        let before = state.connector.replace(connector);
        state.generation += 1;
        state.in_flight = None;
        state.finished = None;
        drop(state);
        self.changed.notify_all();
        // The destructor is the author's code and may block, so it runs without the lock.
        drop(before);
    }

    /// Makes `/ready` fail, or ask the connector again.
    pub(crate) fn refuse_ready(&self, refused: bool) {
        self.lock().ready_refused = refused;
    }

    /// Makes `/ready` fail from now on.
    pub(crate) fn start_draining(&self) {
        self.lock().draining = true;
    }

    /// Makes requests stop waiting for a verdict at `deadline`.
    pub(crate) fn give_up_at(&self, deadline: Instant) {
        self.lock().give_up = Some(deadline);
        self.changed.notify_all();
    }

    /// The answer, if it is known without calling the connector and without waiting. `wait` is how long
    /// the client says it will wait.
    pub(crate) fn known(&self, endpoint: Endpoint, wait: Option<Duration>) -> Option<Verdict> {
        let state = self.lock();
        match endpoint {
            Endpoint::Live => Some(Ok(())),
            Endpoint::Ready => state.not_ready().map(Err),
            Endpoint::Health if state.connector.is_none() => Some(Err(CheckError::NoConnector)),
            Endpoint::Health => {
                let now = Instant::now();
                self.fresh(&state, now).or_else(|| {
                    let run = state.in_flight?;
                    let age = now.saturating_duration_since(run.started);
                    // Logging may block an acceptor, so an overdue run that is not logged yet is left to `ask`.
                    let logged = run.overdue_logged || age < self.validate_timeout;
                    (age >= self.patience(wait) && logged).then_some(Err(CheckError::Overdue(age)))
                })
            }
        }
    }

    /// The answer for a request that may wait. It is an error at once if the quota is used up.
    pub(crate) fn ask(self: &Arc<Self>, endpoint: Endpoint, wait: Option<Duration>) -> Verdict {
        match endpoint {
            Endpoint::Live => Ok(()),
            Endpoint::Ready => self.ready(),
            Endpoint::Health => self.health(wait),
        }
    }

    /// Logs the changes of verdicts since the last call. `on_event` may block, so nobody calls this while a client
    /// waits for its answer.
    pub(crate) fn log_changes(&self) {
        self.transitions.emit();
    }

    fn ready(&self) -> Verdict {
        let state = self.lock();
        if let Some(error) = state.not_ready() {
            return Err(error);
        }
        let connector = state.connector.clone().ok_or(CheckError::NoConnector)?;
        let generation = state.generation;
        drop(state);
        let permit = self.in_ready.enter().ok_or(CheckError::Busy)?;
        let result = call("ready", connector, |connector| connector.ready());
        drop(permit);
        let (verdict, text) = verdict_of(result);
        let state = self.lock();
        if state.generation == generation {
            self.transitions.queue(Check::Ready, text);
        }
        verdict
    }

    fn health(self: &Arc<Self>, wait: Option<Duration>) -> Verdict {
        let asked = Instant::now();
        let patience = self.patience(wait);
        let _permit = self.waiting.enter().ok_or(CheckError::Busy)?;
        // This repeats only if another connector is attached during the wait.
        loop {
            let state = self.lock();
            if state.connector.is_none() {
                return Err(CheckError::NoConnector);
            }
            let now = Instant::now();
            if let Some(verdict) = self.fresh(&state, now) {
                return verdict;
            }
            let generation = state.generation;
            let run = match state.in_flight {
                Some(run) => {
                    drop(state);
                    run
                }
                None => {
                    let connector = state.connector.clone().ok_or(CheckError::NoConnector)?;
                    self.start(state, connector)
                }
            };
            // If the run has already taken longer than this client waits, the client gets its answer now.
            let deadline = if run.started.elapsed() >= patience { asked } else { after(asked, patience) };
            let deadline = deadline.min(after(run.started, self.validate_timeout));
            if let Some(verdict) = self.wait_for(run, generation, deadline) {
                return verdict;
            }
        }
    }

    /// How long a request waits if its client will wait for `wait`: a little less, so that the answer arrives
    /// in time.
    fn patience(&self, wait: Option<Duration>) -> Duration {
        let longest = self.validate_timeout;
        wait.map_or(longest, |wait| longest.min(wait - ANSWER_MARGIN.min(wait / 4)))
    }

    /// The latest verdict, if it is young enough to be reused.
    fn fresh(&self, state: &State, now: Instant) -> Option<Verdict> {
        let finished = state.finished.as_ref()?;
        (now.saturating_duration_since(finished.at) < self.validate_ttl).then(|| finished.verdict.clone())
    }

    /// The error for a client that stops waiting for a run. A run that exceeds `validate_timeout` is logged once.
    /// A client that waits less than that says nothing about the connector, so it is not logged.
    fn overdue(&self, mut state: MutexGuard<'_, State>, number: u64, age: Duration) -> CheckError {
        let error = CheckError::Overdue(age);
        if let Some(run) = state.in_flight.as_mut().filter(|run| run.number == number && age >= self.validate_timeout) {
            if !mem::replace(&mut run.overdue_logged, true) {
                self.transitions.queue(Check::Health, Some(error.to_string()));
            }
        }
        error
    }

    /// Starts a run on a thread of its own. If no thread can be started, it runs on the calling thread: the
    /// client may then wait longer than it said, but gets a true answer.
    fn start(self: &Arc<Self>, mut state: MutexGuard<'_, State>, connector: Arc<dyn Connector>) -> Run {
        state.runs += 1;
        let run = Run { number: state.runs, started: Instant::now(), overdue_logged: false };
        state.in_flight = Some(run);
        drop(state);
        let (validation, asked) = (Arc::clone(self), Arc::clone(&connector));
        let run_and_log = move || {
            validation.run(run.number, asked);
            validation.log_changes();
        };
        if spawn("validate", Box::new(run_and_log)).is_err() {
            self.run(run.number, connector);
        } else {
            drop_reference(connector);
        }
        run
    }

    fn run(&self, number: u64, connector: Arc<dyn Connector>) {
        let result = call("validate", connector, |connector| connector.validate());
        let (verdict, text) = verdict_of(result);
        let mut state = self.lock();
        // The verdict counts only if no other connector was attached during the run.
        if state.in_flight.is_some_and(|run| run.number == number) {
            state.in_flight = None;
            state.finished = Some(Finished { run: number, at: Instant::now(), verdict });
            // Queued under the lock, so that changes are logged in the order in which they happened.
            self.transitions.queue(Check::Health, text);
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits for `run` to finish. `None` if the connector is replaced during the wait.
    fn wait_for(&self, run: Run, generation: u64, deadline: Instant) -> Option<Verdict> {
        let mut state = self.lock();
        loop {
            if state.generation != generation {
                return None;
            }
            if let Some(finished) = state.finished.as_ref().filter(|finished| finished.run >= run.number) {
                return Some(finished.verdict.clone());
            }
            let now = Instant::now();
            if state.give_up.is_some_and(|give_up| give_up <= now) {
                return Some(Err(CheckError::Draining));
            }
            let left = state.give_up.map_or(deadline, |give_up| give_up.min(deadline)).saturating_duration_since(now);
            if left.is_zero() {
                return Some(Err(self.overdue(state, run.number, now.saturating_duration_since(run.started))));
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The verdict for clients, with the error's text cut to [`MAX_ERROR_TEXT`], and the whole text for the log.
fn verdict_of(result: Result<(), String>) -> (Verdict, Option<String>) {
    match result {
        Ok(()) => (Ok(()), None),
        Err(text) => {
            // Where a text is cut must not depend on the times in it, so it loses them first.
            let said = if text.len() > MAX_ERROR_TEXT { without_times(&text) } else { &text };
            let (start, cut) = bounded(said, MAX_ERROR_TEXT);
            (Err(CheckError::Reported([start, cut].concat().into())), Some(text))
        }
    }
}

/// Calls the connector's code, then drops this reference to the connector, which may run its destructor.
/// A panic in the call is an error. A panic in the destructor does not change the verdict.
fn call(method: &str, connector: Arc<dyn Connector>, ask: fn(&dyn Connector) -> Result<(), BoxError>) -> Result<(), String> {
    let asked = panic::catch_unwind(AssertUnwindSafe(|| ask(&*connector).map_err(|error| explain(&*error))));
    drop_reference(connector);
    asked.unwrap_or_else(|payload| {
        let text = [method, " panicked: ", panic_text(&*payload)].concat();
        // The payload's destructor may panic too.
        mem::forget(payload);
        Err(text)
    })
}

/// Drops a reference to the connector. If it is the last one, this runs the author's destructor, which may panic.
fn drop_reference(connector: Arc<dyn Connector>) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(connector))) {
        mem::forget(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::Functions;

    #[test]
    fn a_server_that_drains_cannot_be_made_ready_again() {
        let validation = Validation::new(&Config::default(), Log(Arc::new(|_| {})));
        validation.attach(Arc::new(Functions { validate: || Ok(()), ready: || Ok(()) }));
        assert!(validation.known(Endpoint::Ready, None).is_none(), "the connector is asked");
        validation.refuse_ready(true);
        validation.start_draining();
        for refused in [false, true, false] {
            validation.refuse_ready(refused);
            assert!(matches!(validation.known(Endpoint::Ready, None), Some(Err(CheckError::Draining))), "{refused}");
            assert!(matches!(validation.ready(), Err(CheckError::Draining)), "{refused}");
        }
    }
}
