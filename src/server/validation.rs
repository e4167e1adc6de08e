//! The connector, once there is one, and the one `validate` in flight.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::connector::{BoxError, Connector, explain, panic_text};
use crate::deadline::{after, milliseconds};
use crate::endpoint::OVERDUE;
use crate::limits::{ANSWER_MARGIN, LONG};
use crate::log::{Event, Log};
use crate::spawn::spawn;

/// Why a check does not say yes.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// No connector yet.
    Absent,
    /// The process is about to end.
    Draining,
    /// As many requests as may be are inside the connector's code or waiting for it.
    Busy,
    /// `validate` has taken this long so far, which is longer than it may or the client will wait.
    Overdue(Duration),
    /// What the connector said.
    Said(Arc<str>),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Absent => f.write_str("the connector is not there yet"),
            Failure::Draining => f.write_str("the connector is shutting down"),
            Failure::Busy => f.write_str("too many requests are waiting for the connector"),
            Failure::Overdue(age) => write!(f, "{OVERDUE} after {} ms", milliseconds(*age)),
            Failure::Said(text) => f.write_str(text),
        }
    }
}

const HEALTHY: u8 = 1;
const UNHEALTHY: u8 = 2;

/// What `/ready` and `/health` ask.
pub(crate) struct Checks {
    connector: Mutex<Option<Arc<dyn Connector>>>,
    draining: AtomicBool,
    /// Requests inside the connector's code, or waiting for it.
    inside: AtomicUsize,
    max_inside: usize,
    /// What `/health` answered last, for logging that it changes: 0, [`HEALTHY`] or [`UNHEALTHY`].
    answered: AtomicU8,
    validation: Mutex<Validation>,
    landed: Condvar,
    validate_timeout: Duration,
    validate_ttl: Duration,
    log: Log,
}

/// The `validate` in flight, and the verdict of the last one.
#[derive(Default)]
struct Validation {
    /// Numbers the flights; that of the one in flight, or of the last one.
    flight: u64,
    started: Option<Instant>,
    verdict: Option<Verdict>,
    /// When shutdown wants everyone who waits to have been answered.
    give_up: Option<Instant>,
}

struct Verdict {
    flight: u64,
    at: Instant,
    result: Result<(), Failure>,
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checks").field("inside", &self.inside).finish_non_exhaustive()
    }
}

impl Checks {
    pub(crate) fn new(config: &Config, log: Log) -> Checks {
        Checks {
            connector: Mutex::default(),
            draining: AtomicBool::new(false),
            inside: AtomicUsize::new(0),
            max_inside: config.max_connections / 2,
            answered: AtomicU8::new(0),
            validation: Mutex::default(),
            landed: Condvar::new(),
            validate_timeout: config.validate_timeout,
            validate_ttl: config.validate_ttl,
            log,
        }
    }

    /// From now on `connector` is asked; what an earlier one said, or is about to say, is forgotten.
    pub(crate) fn attach(&self, connector: Arc<dyn Connector>) {
        let mut slot = self.slot();
        let before = slot.replace(connector);
        let mut validation = self.validation();
        validation.flight += 1;
        validation.started = None;
        validation.verdict = None;
        drop(validation);
        drop(slot);
        // The author's destructor may take its time: not while others wait for the locks.
        drop(before);
    }

    /// From now on `/ready` says no.
    pub(crate) fn refuse_ready(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whoever waits for a verdict waits until `deadline` at most.
    pub(crate) fn give_up_at(&self, deadline: Instant) {
        self.validation().give_up = Some(deadline);
        self.landed.notify_all();
    }

    /// What `/ready` answers.
    pub(crate) fn ready(&self, may_wait: &dyn Fn() -> bool) -> Result<(), Failure> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Failure::Draining);
        }
        let connector = self.slot().clone().ok_or(Failure::Absent)?;
        let _inside = Inside::enter(self, may_wait)?;
        // The connector's destructor, should it run here, is its author's code too.
        ask("ready", move || connector.ready())
    }

    /// What `/health` answers, to a client that will wait for `patience`, if it said so.
    pub(crate) fn health(self: &Arc<Self>, patience: Option<Duration>, may_wait: &dyn Fn() -> bool) -> Result<(), Failure> {
        let answer = self.verdict(patience, may_wait);
        // Only what was found out about the connector is news: not that a client was in a hurry.
        let news = match &answer {
            Err(Failure::Absent | Failure::Draining | Failure::Busy) => false,
            Err(Failure::Overdue(age)) => *age >= LONG.min(self.validate_timeout),
            Ok(()) | Err(Failure::Said(_)) => true,
        };
        if news {
            let word = if answer.is_ok() { HEALTHY } else { UNHEALTHY };
            if self.answered.load(Ordering::Relaxed) != word && self.answered.swap(word, Ordering::Relaxed) != word {
                match &answer {
                    Ok(()) => self.log.emit(&Event::Healthy),
                    Err(failure) => self.log.emit(&Event::Unhealthy { reason: &failure.to_string() }),
                }
            }
        }
        answer
    }

    /// A verdict that is fresh, in flight, or now asked for.
    fn verdict(self: &Arc<Self>, patience: Option<Duration>, may_wait: &dyn Fn() -> bool) -> Result<(), Failure> {
        if let Some(result) = self.fresh(&self.locked()?.1, Instant::now()) {
            return result;
        }
        // Without the locks: making room may take a moment.
        let _inside = Inside::enter(self, may_wait)?;
        let (connector, mut validation) = self.locked()?;
        let now = Instant::now();
        if let Some(result) = self.fresh(&validation, now) {
            return result;
        }
        let longest = self.validate_timeout;
        let patience = patience.map_or(longest, |wait| longest.min(wait - ANSWER_MARGIN.min(wait / 4)));
        let started = match validation.started {
            Some(started) => started,
            None => {
                validation.flight += 1;
                validation.started = Some(now);
                let flight = validation.flight;
                drop(validation);
                self.take_off(flight, connector);
                validation = self.validation();
                now
            }
        };
        let flight = validation.flight;
        // One that has already taken longer than this client will wait is not waited for.
        let overdue = now.duration_since(started) >= patience;
        let deadline = if overdue { now } else { after(started, longest).min(after(now, patience)) };
        if let Some(result) = self.wait_landed(validation, flight, deadline) {
            return result;
        }
        if self.validation().give_up.is_some_and(|give_up| give_up <= Instant::now()) {
            return Err(Failure::Draining);
        }
        Err(Failure::Overdue(started.elapsed()))
    }

    /// Connector and validation, both at one time: a verdict is of the connector it was asked of.
    /// The locks are taken in the order in which `attach` takes them.
    fn locked(&self) -> Result<(Arc<dyn Connector>, MutexGuard<'_, Validation>), Failure> {
        let slot = self.slot();
        let connector = slot.clone().ok_or(Failure::Absent)?;
        Ok((connector, self.validation()))
    }

    /// A verdict that may be given to others.
    fn fresh(&self, validation: &Validation, now: Instant) -> Option<Result<(), Failure>> {
        let verdict = validation.verdict.as_ref()?;
        (now.saturating_duration_since(verdict.at) < self.validate_ttl).then(|| verdict.result.clone())
    }

    /// Runs the one `validate`, on a thread of its own; on this one if there is no other to be had:
    /// then a client may have to wait, but the answer is right.
    fn take_off(self: &Arc<Self>, flight: u64, connector: Arc<dyn Connector>) {
        let (checks, asked) = (Arc::clone(self), Arc::clone(&connector));
        if spawn("validate", Box::new(move || checks.fly(flight, asked))).is_err() {
            self.fly(flight, connector);
        }
    }

    fn fly(&self, flight: u64, connector: Arc<dyn Connector>) {
        let result = ask("validate", move || connector.validate());
        self.land(flight, result);
    }

    fn land(&self, flight: u64, result: Result<(), Failure>) {
        let mut validation = self.validation();
        // Otherwise another connector has taken the place of the one that was asked.
        if validation.flight == flight {
            validation.started = None;
            validation.verdict = Some(Verdict { flight, at: Instant::now(), result });
            drop(validation);
            self.landed.notify_all();
        }
    }

    /// Waits for the flight under way to land: until `deadline`, or until shutdown gives up.
    fn wait_landed(
        &self,
        mut validation: MutexGuard<'_, Validation>,
        flight: u64,
        deadline: Instant,
    ) -> Option<Result<(), Failure>> {
        loop {
            if let Some(verdict) = &validation.verdict {
                if verdict.flight >= flight {
                    return Some(verdict.result.clone());
                }
            }
            let deadline = validation.give_up.map_or(deadline, |give_up| give_up.min(deadline));
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            validation = self.landed.wait_timeout(validation, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<dyn Connector>>> {
        self.connector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn validation(&self) -> MutexGuard<'_, Validation> {
        self.validation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls into the connector's code; a panic there is an error like any other.
fn ask(method: &str, call: impl FnOnce() -> Result<(), BoxError>) -> Result<(), Failure> {
    let asked = panic::catch_unwind(AssertUnwindSafe(|| call().map_err(|error| explain(&*error))));
    let text = match asked {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(text)) => text,
        Err(payload) => [method, " panicked: ", panic_text(&*payload)].concat(),
    };
    Err(Failure::Said(text.into()))
}

/// One of the places inside the connector's code; given back when dropped.
struct Inside<'a>(&'a AtomicUsize);

impl<'a> Inside<'a> {
    fn enter(checks: &'a Checks, may_wait: &dyn Fn() -> bool) -> Result<Inside<'a>, Failure> {
        let inside = Inside(&checks.inside);
        let place = checks.inside.fetch_add(1, Ordering::Relaxed);
        if place < checks.max_inside && may_wait() { Ok(inside) } else { Err(Failure::Busy) }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
