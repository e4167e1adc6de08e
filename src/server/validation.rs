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
    /// The connector that `/ready` asks, or why it fails without asking.
    fn to_ask(&self) -> Result<&Arc<dyn Connector>, CheckError> {
        match &self.connector {
            _ if self.draining => Err(CheckError::Draining),
            _ if self.ready_refused => Err(CheckError::Refused),
            Some(connector) => Ok(connector),
            None => Err(CheckError::NoConnector),
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
            Endpoint::Ready => state.to_ask().err().map(Err),
            Endpoint::Health if state.connector.is_none() => Some(Err(CheckError::NoConnector)),
            Endpoint::Health => {
                let now = Instant::now();
                self.fresh(&state, now).or_else(|| {
                    let run = state.in_flight?;
                    let age = now.saturating_duration_since(run.started);
                    // Logging may block an acceptor, so an overdue run that is not logged yet is left to `ask`.
                    let logged = run.overdue_logged || age < self.validate_timeout;
                    if age >= self.patience(wait) && logged { Some(Err(CheckError::Overdue(age))) } else { None }
                })
            }
        }
    }

    /// The answer for a request that may wait. It is an error at once if the quota is used up. `remote` clients are on
    /// another machine.
    pub(crate) fn ask(self: &Arc<Self>, endpoint: Endpoint, wait: Option<Duration>, remote: bool) -> Verdict {
        match endpoint {
            Endpoint::Live => Ok(()),
            Endpoint::Ready => self.ready(remote),
            Endpoint::Health => self.health(wait, remote),
        }
    }

    /// Logs the changes of verdicts since the last call. `on_event` may block, so it must not be called while a client
    /// waits for its answer.
    pub(crate) fn log_changes(&self) {
        self.transitions.emit();
    }

    fn ready(&self, remote: bool) -> Verdict {
        let state = self.lock();
        let connector = Arc::clone(state.to_ask()?);
        let generation = state.generation;
        drop(state);
        let Some(permit) = self.in_ready.enter(remote) else { return Err(CheckError::Busy) };
        let result = call("ready", connector, |connector| connector.ready());
        drop(permit);
        let (verdict, text) = verdict_of(result);
        let state = self.lock();
        if state.generation == generation {
            self.transitions.queue(Check::Ready, text);
        }
        verdict
    }

    fn health(self: &Arc<Self>, wait: Option<Duration>, remote: bool) -> Verdict {
        let asked = Instant::now();
        let patience = self.patience(wait);
        let Some(_permit) = self.waiting.enter(remote) else { return Err(CheckError::Busy) };
        // This repeats only if another connector is attached during the wait.
        loop {
            let state = self.lock();
            let Some(connector) = &state.connector else { return Err(CheckError::NoConnector) };
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
                    let connector = Arc::clone(connector);
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

    /// The error for a client that stops waiting for a run. A run that exceeds `validate_timeout` is logged once. A
    /// client that stops waiting earlier says nothing about the connector, so that is not logged.
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
    use std::sync::Weak;
    use std::sync::mpsc;

    const AGES: Duration = Duration::from_secs(3600);

    /// A connector that answers with these texts. An empty one means success.
    struct Says(&'static str, &'static str);

    impl Connector for Says {
        fn validate(&self) -> Result<(), BoxError> {
            says(self.0)
        }

        fn ready(&self) -> Result<(), BoxError> {
            says(self.1)
        }
    }

    fn says(text: &str) -> Result<(), BoxError> {
        if text.is_empty() { Ok(()) } else { Err(text.into()) }
    }

    /// Checks without a connector, and the lines they log. No timeout is short.
    fn validation(change: impl FnOnce(&mut Config)) -> (Arc<Validation>, mpsc::Receiver<String>) {
        let (logged, lines) = mpsc::channel();
        let logged = std::sync::Mutex::new(logged);
        let mut config = Config::default();
        (config.validate_timeout, config.validate_ttl) = (AGES, AGES);
        config.on_event = Arc::new(move |event| drop(logged.lock().unwrap().send(event.to_string())));
        change(&mut config);
        let log = Log(Arc::clone(&config.on_event));
        (Arc::new(Validation::new(&config, log)), lines)
    }

    /// The lines logged so far. Waits for `count` of them, since the thread that asks the connector logs too.
    fn logged(validation: &Validation, lines: &mpsc::Receiver<String>, count: usize) -> Vec<String> {
        const PATIENCE: Duration = Duration::from_secs(60);
        validation.log_changes();
        (0..count).map(|_| lines.recv_timeout(PATIENCE).unwrap()).chain(lines.try_iter()).collect()
    }

    fn text(verdict: Verdict) -> String {
        verdict.map_or_else(|error| error.to_string(), |()| "ok".into())
    }

    fn known(validation: &Validation, endpoint: Endpoint, wait: Option<Duration>) -> Option<String> {
        validation.known(endpoint, wait).map(text)
    }

    /// Puts a run in flight that began so long ago.
    fn run_for(validation: &Validation, age: Duration) -> Run {
        let run = Run { number: 1, started: Instant::now().checked_sub(age).unwrap(), overdue_logged: false };
        validation.lock().in_flight = Some(run);
        run
    }

    #[test]
    fn a_client_is_answered_half_a_second_before_its_wait_is_over_or_after_three_quarters_of_a_short_one() {
        let (validation, _) = validation(|config| config.validate_timeout = Duration::from_secs(30));
        for (wait, patience) in [
            (None, 30_000),
            (Some(0), 0),
            (Some(1), 750),
            (Some(2), 1500),
            (Some(3), 2500),
            (Some(5), 4500),
            (Some(30), 29_500),
            (Some(60), 30_000),
            (Some(u64::from(u32::MAX)), 30_000),
        ] {
            assert_eq!(validation.patience(wait.map(Duration::from_secs)), Duration::from_millis(patience), "{wait:?}");
        }
    }

    #[test]
    fn without_a_connector_only_live_succeeds() {
        let (validation, _) = validation(|_| {});
        let missing = CheckError::NoConnector.to_string();
        for (endpoint, answer) in [(Endpoint::Live, "ok"), (Endpoint::Ready, &*missing), (Endpoint::Health, &*missing)] {
            assert_eq!(known(&validation, endpoint, None).as_deref(), Some(answer));
            assert_eq!(text(validation.ask(endpoint, None, false)), answer);
        }
    }

    #[test]
    fn a_draining_server_is_not_ready_and_else_as_healthy_as_before() {
        let (validation, _) = validation(|_| {});
        validation.attach(Arc::new(Says("", "")));
        assert_eq!(known(&validation, Endpoint::Ready, None), None);
        assert_eq!(text(validation.ask(Endpoint::Ready, None, false)), "ok");
        validation.start_draining();
        let draining = CheckError::Draining.to_string();
        assert_eq!(known(&validation, Endpoint::Ready, None).as_ref(), Some(&draining));
        assert_eq!(text(validation.ask(Endpoint::Ready, None, false)), draining);
        assert_eq!(known(&validation, Endpoint::Health, None), None);
        assert_eq!(text(validation.ask(Endpoint::Health, None, false)), "ok");
        assert_eq!(text(validation.ask(Endpoint::Live, None, false)), "ok");
    }

    #[test]
    fn a_verdict_is_reused_until_its_time_is_over() {
        let (validation, _) = validation(|config| config.validate_ttl = Duration::from_secs(1));
        let at = Instant::now();
        let mut state = validation.lock();
        state.finished = Some(Finished { run: 1, at, verdict: Ok(()) });
        assert!(validation.fresh(&state, at).is_some());
        assert!(validation.fresh(&state, at + Duration::from_nanos(999_999_999)).is_some());
        assert!(validation.fresh(&state, at + Duration::from_secs(1)).is_none());
        drop(state);
        validation.attach(Arc::new(Says("", "")));
        assert!(validation.fresh(&validation.lock(), at).is_none(), "another connector's verdict");
    }

    #[test]
    fn a_verdict_is_known_to_later_clients_and_logged_when_it_changes() {
        for (says, answer, line) in [("", "ok", "healthy"), ("boom", "boom", "unhealthy reason=boom")] {
            let (validation, lines) = validation(|_| {});
            validation.attach(Arc::new(Says(says, "")));
            for _ in 0..2 {
                assert_eq!(text(validation.ask(Endpoint::Health, None, false)), answer);
                assert_eq!(known(&validation, Endpoint::Health, None).as_deref(), Some(answer));
            }
            let state = validation.lock();
            assert_eq!((state.runs, state.in_flight.is_some()), (1, false), "the second client gets the first one's verdict");
            drop(state);
            assert_eq!(logged(&validation, &lines, 1), [line]);
        }
        let (validation, _) = validation(|config| config.validate_ttl = Duration::ZERO);
        validation.attach(Arc::new(Says("", "")));
        for runs in 1..4 {
            assert_eq!(text(validation.ask(Endpoint::Health, None, false)), "ok");
            let state = validation.lock();
            assert_eq!((state.runs, state.finished.as_ref().map(|finished| finished.run)), (runs, Some(runs)));
        }
    }

    #[test]
    fn a_client_whose_wait_is_over_is_told_at_once_that_a_run_takes_long() {
        let (validation, lines) = validation(|config| config.validate_timeout = Duration::from_secs(60));
        validation.attach(Arc::new(Says("", "")));
        let wait = Some(Duration::from_secs(4));
        // Its patience is 3.5 seconds.
        run_for(&validation, Duration::from_secs(3));
        assert_eq!(known(&validation, Endpoint::Health, wait), None);
        run_for(&validation, Duration::from_millis(3500));
        assert!(known(&validation, Endpoint::Health, wait).unwrap().starts_with(OVERDUE));
        assert_eq!(known(&validation, Endpoint::Health, None), None, "this one waits longer");
        let error = text(validation.ask(Endpoint::Health, wait, false));
        assert!(error.starts_with(OVERDUE), "{error}");
        assert_eq!(logged(&validation, &lines, 0), [""; 0], "a client in a hurry says nothing about the connector");
    }

    #[test]
    fn a_run_beyond_the_timeout_is_logged_once_before_it_is_known() {
        const TIMEOUT: Duration = Duration::from_secs(60);
        let (validation, lines) = validation(|config| config.validate_timeout = TIMEOUT);
        validation.attach(Arc::new(Says("", "")));
        run_for(&validation, TIMEOUT);
        assert_eq!(known(&validation, Endpoint::Health, None), None, "an acceptor must not log");
        for _ in 0..2 {
            let error = text(validation.ask(Endpoint::Health, None, false));
            assert!(error.starts_with(OVERDUE), "{error}");
            assert!(known(&validation, Endpoint::Health, None).is_some());
        }
        let lines = logged(&validation, &lines, 1);
        assert!(lines.len() == 1 && lines[0].starts_with(&["unhealthy reason=", OVERDUE].concat()), "{lines:?}");
    }

    #[test]
    fn only_the_run_in_flight_is_logged_as_overdue() {
        let (validation, lines) = validation(|config| config.validate_timeout = Duration::from_secs(60));
        for (number, seconds, count) in [(2, 60, 0), (1, 59, 0), (1, 60, 1), (1, 61, 0)] {
            if seconds < 61 {
                run_for(&validation, Duration::from_secs(60));
            }
            let error = validation.overdue(validation.lock(), number, Duration::from_secs(seconds));
            assert_eq!(error.to_string(), format!("{OVERDUE} after {seconds}000 ms"));

            assert_eq!(logged(&validation, &lines, count).len(), count, "{number} {seconds}");
        }
    }

    #[test]
    fn a_wait_ends_with_a_verdict_another_connector_the_shutdown_or_the_deadline() {
        let (validation, _) = validation(|_| {});
        let now = Instant::now();
        let (past, future) = (now.checked_sub(Duration::from_millis(1)).unwrap(), now + AGES);
        let run = run_for(&validation, Duration::ZERO);
        let wait = |generation, deadline| validation.wait_for(run, generation, deadline).map(text);
        assert!(wait(0, past).unwrap().starts_with(OVERDUE));
        assert!(wait(0, now).unwrap().starts_with(OVERDUE));
        validation.give_up_at(future + AGES);
        assert!(wait(0, past).unwrap().starts_with(OVERDUE), "the earlier one counts");
        validation.give_up_at(past);
        assert_eq!(wait(0, future), Some(CheckError::Draining.to_string()));
        for (finished, verdict) in [(0, "the connector is shutting down"), (1, "ok"), (2, "ok")] {
            validation.lock().finished = Some(Finished { run: finished, at: now, verdict: Ok(()) });
            assert_eq!(wait(0, future).as_deref(), Some(verdict), "run {finished}");
        }
        assert_eq!(wait(1, future), None);
        validation.attach(Arc::new(Says("", "")));
        assert_eq!(wait(0, future), None);
        validation.attach(Arc::new(Says("", "")));
        assert_eq!(wait(1, future), None);
    }

    #[test]
    fn a_waiting_client_wakes_up_at_shutdown() {
        let (validation, _) = validation(|_| {});
        validation.attach(Arc::new(Says("", "")));
        run_for(&validation, Duration::ZERO);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| text(validation.ask(Endpoint::Health, None, false)));
            while validation.waiting.inside() == 0 {
                std::thread::yield_now();
            }
            validation.give_up_at(Instant::now());
            assert_eq!(client.join().unwrap(), CheckError::Draining.to_string());
        });
    }

    #[test]
    fn a_late_verdict_of_a_replaced_connector_is_discarded() {
        let (validation, lines) = validation(|_| {});
        validation.attach(Arc::new(Says("second", "")));
        run_for(&validation, Duration::ZERO);
        validation.run(2, Arc::new(Says("first", "")));
        let state = validation.lock();
        assert!(state.finished.is_none() && state.in_flight.is_some());
        drop(state);
        assert_eq!(logged(&validation, &lines, 0), [""; 0]);
        validation.run(1, Arc::new(Says("second", "")));
        assert_eq!(known(&validation, Endpoint::Health, None).as_deref(), Some("second"));
        assert_eq!(logged(&validation, &lines, 1), ["unhealthy reason=second"]);
    }

    /// Replaces itself while it is asked whether it is ready.
    struct Replaced(Weak<Validation>);

    impl Connector for Replaced {
        fn validate(&self) -> Result<(), BoxError> {
            Ok(())
        }

        fn ready(&self) -> Result<(), BoxError> {
            self.0.upgrade().unwrap().attach(Arc::new(Says("", "second")));
            Err("first".into())
        }
    }

    #[test]
    fn readiness_is_logged_only_for_the_connector_that_is_attached() {
        let (validation, lines) = validation(|_| {});
        validation.attach(Arc::new(Replaced(Arc::downgrade(&validation))));
        assert_eq!(text(validation.ask(Endpoint::Ready, None, false)), "first");
        assert_eq!(logged(&validation, &lines, 0), [""; 0]);
        assert_eq!(text(validation.ask(Endpoint::Ready, None, false)), "second");
        assert_eq!(logged(&validation, &lines, 1), ["not ready reason=second"]);
    }

    #[test]
    fn half_of_the_connections_may_wait_for_validate_and_a_quarter_for_ready() {
        for (connections, waiting, in_ready) in [(2, 1, 1), (3, 1, 1), (4, 2, 1), (64, 32, 16)] {
            let (validation, _) = validation(|config| config.max_connections = connections);
            validation.attach(Arc::new(Says("", "")));
            for (quota, most, endpoint) in
                [(&validation.waiting, waiting, Endpoint::Health), (&validation.in_ready, in_ready, Endpoint::Ready)]
            {
                let permits: Vec<_> = (0..most).map(|_| quota.enter(false).unwrap()).collect();
                assert!(quota.enter(false).is_none() && quota.enter(false).is_none(), "{connections}");
                assert_eq!(text(validation.ask(endpoint, None, false)), CheckError::Busy.to_string(), "{connections}");
                let debug = format!("{validation:?}");
                assert!(debug.contains(&format!("Quota {{ all: Limit {{ most: {most}, inside: {most} }}")), "{debug}");
                drop(permits);
                assert_eq!(text(validation.ask(endpoint, None, false)), "ok", "{connections}");
            }
        }
    }

    #[test]
    fn clients_on_other_machines_may_use_up_half_of_a_quota() {
        for (most, most_remote) in [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (32, 16)] {
            let quota = Quota::new(most);
            let permits: Vec<_> = (0..most_remote).map(|_| quota.enter(true).unwrap()).collect();
            assert!(quota.enter(true).is_none() && quota.enter(true).is_none(), "{most}");
            let here: Vec<_> = (most_remote..most).map(|_| quota.enter(false).unwrap()).collect();
            assert!(quota.enter(false).is_none(), "{most}");
            drop(permits);
            assert!(quota.enter(true).is_some(), "{most}");
            drop(here);
        }
    }

    #[test]
    fn a_client_gets_the_start_of_a_long_error_and_the_log_all_of_it() {
        let long = "x".repeat(MAX_ERROR_TEXT + 1);
        let (verdict, whole) = verdict_of(Err(long.clone()));
        assert_eq!(text(verdict), [&long[..MAX_ERROR_TEXT - 3], "..."].concat());
        assert_eq!(whole, Some(long));
        let (verdict, whole) = verdict_of(Ok(()));
        assert_eq!((text(verdict), whole), ("ok".into(), None));
    }

    struct PanicsAtItsEnd;

    impl Connector for PanicsAtItsEnd {
        fn validate(&self) -> Result<(), BoxError> {
            Ok(())
        }
    }

    impl Drop for PanicsAtItsEnd {
        fn drop(&mut self) {
            panic!("in the destructor");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "the payload of a panic is leaked on purpose")]
    fn a_panic_is_an_error_but_not_in_the_destructor() {
        assert_eq!(call("ready", Arc::new(PanicsAtItsEnd), |_| panic!("boom")), Err("ready panicked: boom".into()));
        assert_eq!(call("ready", Arc::new(PanicsAtItsEnd), |connector| connector.ready()), Ok(()));
        assert_eq!(call("ready", Arc::new(Says("", "inner")), |connector| connector.ready()), Err("inner".into()));
    }

    #[test]
    fn a_server_that_drains_cannot_be_made_ready_again() {
        let validation = Validation::new(&Config::default(), Log(Arc::new(|_| {})));
        validation.attach(Arc::new(Functions { validate: || Ok(()), ready: || Ok(()) }));
        assert!(validation.known(Endpoint::Ready, None).is_none(), "the connector is asked");
        validation.refuse_ready(true);
        assert!(validation.known(Endpoint::Ready, None).is_some_and(|verdict| verdict.is_err()), "it is not asked");
        validation.refuse_ready(false);
        assert!(validation.known(Endpoint::Ready, None).is_none(), "it is asked again");
        validation.start_draining();
        for refused in [false, true, false] {
            validation.refuse_ready(refused);
            assert!(matches!(validation.known(Endpoint::Ready, None), Some(Err(CheckError::Draining))), "{refused}");
            assert!(matches!(validation.ready(false), Err(CheckError::Draining)), "{refused}");
        }
    }

    #[test]
    fn only_a_text_that_is_too_long_loses_its_times() {
        const TIMES: &str = " (times: api 3 ms)";
        let long = |length: usize| ["x".repeat(length - TIMES.len()), TIMES.into()].concat();
        for (error, expected) in [
            (["api: boom", TIMES].concat(), ["api: boom", TIMES].concat()),
            (long(MAX_ERROR_TEXT), long(MAX_ERROR_TEXT)),
            (long(MAX_ERROR_TEXT + 1), "x".repeat(MAX_ERROR_TEXT + 1 - TIMES.len())),
        ] {
            let (verdict, whole) = verdict_of(Err(error.clone()));
            assert_eq!((text(verdict), whole), (expected, Some(error)));
        }
    }
}
