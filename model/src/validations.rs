//! The validation that many ask for and one runs: each gets the right verdict, in time.

use std::cell::{Cell, RefCell};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use crate::check::{self, Count, Scenario, choose, ensure};
use crate::config::Config;
use crate::connector::{BoxError, Connector};
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::limits::ANSWER_MARGIN;
use crate::log::Log;
use crate::schedule::Time;
use crate::server::validation::{CheckError, Validation};
use crate::spawn;
use crate::sync::{Instant, sleep};

thread_local! {
    static LATE: Cell<bool> = const { Cell::new(false) };
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static LOG_TAKES: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

macro_rules! scenarios {
    ($($function:ident)*) => {
        /// Each of them twice: to measure waits, and to have timeouts race.
        pub(crate) const SCENARIOS: &[Scenario] = &[$(
            Scenario { name: concat!("validations::", stringify!($function)), time: Time::WhenAllWait, run: || {
                begin(false);
                $function();
            } },
            Scenario { name: concat!("validations::", stringify!($function), ", late"), time: Time::AtAnyMoment, run: || {
                begin(true);
                $function();
            } },
        )*];
    };
}

scenarios! {
    one_run_at_a_time_serves_all_who_ask
    a_connector_that_is_replaced_has_no_say
    a_run_that_hangs_keeps_nobody_longer_than_their_patience
    a_run_that_panics_or_has_no_thread_is_still_a_verdict
    shutdown_ends_every_wait
    a_quota_is_given_back
    a_log_that_takes_its_time_gets_all_changes_in_order
}

fn begin(late: bool) {
    LATE.set(late);
    LOGGED.take();
    LOG_TAKES.set(Duration::ZERO);
}

fn late() -> bool {
    LATE.get()
}

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// A connector that answers with its name and the number of the run, always as an error.
#[derive(Clone)]
struct Named {
    name: &'static str,
    takes: Duration,
    panics: bool,
    started: Count,
    ended: Count,
    running: Count,
}

impl Named {
    fn new(name: &'static str, takes: Duration) -> Named {
        Named { name, takes, panics: false, started: Count::default(), ended: Count::default(), running: Count::default() }
    }

    fn arc(&self) -> Arc<dyn Connector> {
        Arc::new(self.clone())
    }
}

impl Connector for Named {
    fn validate(&self) -> Result<(), BoxError> {
        ensure!(self.running.add() == 1, "validate of {} runs twice at once", self.name);
        let run = self.started.add();
        sleep(self.takes);
        self.running.sub();
        self.ended.add();
        if self.panics {
            // A panic without its message on standard error.
            resume_unwind(Box::new(format!("{} {run}", self.name)));
        }
        Err(format!("{} {run}", self.name).into())
    }
}

fn checks(max_connections: usize, ttl: Duration) -> Arc<Validation> {
    let mut config = Config::default();
    (config.max_connections, config.validate_ttl, config.validate_timeout) = (max_connections, ttl, PATIENCE);
    let log = Log(Arc::new(|event: &Event<'_>| {
        sleep(LOG_TAKES.get());
        LOGGED.with_borrow_mut(|logged| logged.push(format!("{event:?}")));
    }));
    Arc::new(Validation::new(&config, log))
}

/// What a client that asks for `/health` gets.
enum Got {
    /// This run of the connector of this name.
    Run(String, usize),
    Overdue,
    Other(CheckError),
}

fn ask(checks: &Arc<Validation>, wait: Option<Duration>) -> (Got, Duration) {
    let asked = Instant::now();
    // As a connection does: what is known is answered at once.
    let verdict = checks.known(Endpoint::Health, wait).unwrap_or_else(|| checks.ask(Endpoint::Health, wait, false));
    let waited = asked.elapsed();
    let got = match verdict {
        Err(CheckError::Reported(text)) => {
            let (name, run) = text.rsplit_once(' ').expect("a name and a number");
            let name = name.trim_start_matches("validate panicked: ");
            Got::Run(name.to_owned(), run.parse().expect("the number of a run"))
        }
        Err(CheckError::Overdue(_)) => Got::Overdue,
        Err(error) => Got::Other(error),
        Ok(()) => Got::Run(String::new(), 0),
    };
    (got, waited)
}

fn in_time(waited: Duration, bound: Duration) {
    ensure!(late() || waited <= bound, "an answer took {waited:?}, more than {bound:?}");
}

/// Without reuse, each gets the verdict of a run that ended after it asked, and all who ask together share one.
fn one_run_at_a_time_serves_all_who_ask() {
    let checks = checks(64, Duration::ZERO);
    let connector = Named::new("only", SECOND);
    checks.attach(connector.arc());
    for _ in 0..3 {
        let (checks, connector) = (Arc::clone(&checks), connector.clone());
        check::thread(move || {
            for _ in 0..2 {
                let ended = connector.ended.get();
                let (got, waited) = ask(&checks, None);
                match got {
                    Got::Run(_, run) => ensure!(run >= ended.max(1), "run {run} although {ended} had ended"),
                    Got::Overdue => ensure!(late(), "overdue"),
                    Got::Other(error) => check::fail(format!("{error}")),
                }
                in_time(waited, SECOND);
            }
        });
    }
    spawn::join_all();
    ensure!(connector.started.get() == connector.ended.get(), "a run has not ended");
    ensure!(late() || connector.started.get() <= 6, "{} runs for 6 questions", connector.started.get());
}

/// Those who ask after a connector was attached get nothing of the one before, and those who wait for the one
/// before ask the new one.
fn a_connector_that_is_replaced_has_no_say() {
    let checks = checks(64, SECOND);
    let old = Named::new("old", 10 * SECOND);
    checks.attach(old.arc());
    for _ in 0..2 {
        let checks = Arc::clone(&checks);
        check::thread(move || {
            let (got, waited) = ask(&checks, None);
            // The old one had not finished when it was replaced.
            let new = matches!(&got, Got::Run(name, _) if name == "new");
            ensure!(late() || new, "a client that waited for a replaced connector did not get the new one's verdict");
            in_time(waited, 3 * SECOND);
        });
    }
    sleep(SECOND * u32::try_from(choose(2)).unwrap_or(0));
    let new = Named::new("new", SECOND);
    checks.attach(new.arc());
    // Or nobody else asks, so that only the replacement itself wakes those who wait.
    for _ in 0..2 * choose(2) {
        let checks = Arc::clone(&checks);
        check::thread(move || {
            let (got, waited) = ask(&checks, None);
            let right = match &got {
                Got::Run(name, _) => name == "new",
                Got::Overdue => late(),
                Got::Other(_) => false,
            };
            ensure!(right, "a verdict of a connector that was replaced");
            in_time(waited, SECOND);
        });
    }
    spawn::join_all();
    LOGGED.with_borrow(|logged| {
        let old = logged.iter().any(|line| line.contains("old"));
        ensure!(late() || !old, "a verdict of a connector that was replaced is logged: {logged:?}");
    });
}

fn a_run_that_hangs_keeps_nobody_longer_than_their_patience() {
    let checks = checks(64, Duration::ZERO);
    let connector = Named::new("slow", 2 * PATIENCE);
    checks.attach(connector.arc());
    let clients: [(Option<Duration>, Duration); 4] = [
        (Some(SECOND), SECOND - SECOND / 4),
        (Some(10 * SECOND), 10 * SECOND - ANSWER_MARGIN),
        (None, PATIENCE),
        (Some(3 * PATIENCE), PATIENCE),
    ];
    for (wait, bound) in clients {
        let checks = Arc::clone(&checks);
        check::thread(move || {
            for _ in 0..2 {
                let (got, waited) = ask(&checks, wait);
                ensure!(late() || matches!(got, Got::Overdue), "a verdict of a run that hangs");
                in_time(waited, bound);
            }
        });
    }
    sleep(2 * PATIENCE + SECOND);
    // It has returned, so the next one who asks starts a run.
    if !late() {
        let (got, waited) = ask(&checks, Some(SECOND));
        ensure!(matches!(got, Got::Overdue), "a verdict of the second run that hangs");
        in_time(waited, SECOND);
        let overdue = LOGGED.with_borrow(|logged| logged.iter().filter(|line| line.contains("has not finished")).count());
        ensure!(overdue == 1, "{overdue} lines say that a run takes too long");
        ensure!(connector.started.get() == 2, "{} runs", connector.started.get());
    }
}

fn a_run_that_panics_or_has_no_thread_is_still_a_verdict() {
    let checks = checks(64, Duration::ZERO);
    let connector = Named { panics: choose(2) == 0, ..Named::new("only", SECOND) };
    checks.attach(connector.arc());
    spawn::refuse_one_of(2);
    for _ in 0..3 {
        let (checks, connector) = (Arc::clone(&checks), connector.clone());
        check::thread(move || {
            let ended = connector.ended.get();
            let (got, waited) = ask(&checks, None);
            let right = match got {
                Got::Run(_, run) => run >= ended.max(1),
                Got::Overdue => late(),
                Got::Other(_) => false,
            };
            ensure!(right, "a wrong verdict");
            in_time(waited, SECOND);
        });
    }
    spawn::join_all();
    ensure!(connector.running.get() == 0, "a run has not ended");
}

fn shutdown_ends_every_wait() {
    let checks = checks(64, Duration::ZERO);
    checks.attach(Named::new("slow", 2 * PATIENCE).arc());
    for _ in 0..3 {
        let checks = Arc::clone(&checks);
        check::thread(move || {
            let (got, waited) = ask(&checks, None);
            let right = matches!(got, Got::Other(CheckError::Draining));
            ensure!(late() || right, "no word of the shutdown");
            in_time(waited, 2 * SECOND);
        });
    }
    sleep(SECOND);
    checks.start_draining();
    checks.refuse_ready(false);
    checks.give_up_at(Instant::now() + SECOND);
    let ready = checks.known(Endpoint::Ready, None);
    ensure!(matches!(ready, Some(Err(CheckError::Draining))), "ready while it drains");
}

fn a_quota_is_given_back() {
    // Two of four may wait.
    let checks = checks(4, Duration::ZERO);
    checks.attach(Named::new("only", SECOND).arc());
    let busy = Count::default();
    for _ in 0..4 {
        let (checks, busy) = (Arc::clone(&checks), busy.clone());
        check::thread(move || {
            if let (Got::Other(CheckError::Busy), waited) = ask(&checks, None) {
                in_time(waited, Duration::ZERO);
                busy.add();
            }
        });
    }
    spawn::join_all();
    ensure!(busy.get() <= 2, "{} of 4 refused, although 2 may wait", busy.get());
    for _ in 0..2 {
        let checks = Arc::clone(&checks);
        check::thread(move || {
            let (got, _) = ask(&checks, None);
            ensure!(!matches!(got, Got::Other(_)), "the quota was not given back");
        });
    }
}

/// A verdict that changes with each run.
struct Changing(Count);

impl Connector for Changing {
    fn validate(&self) -> Result<(), BoxError> {
        if self.0.add() % 2 == 0 { Ok(()) } else { Err("odd 0".into()) }
    }
}

fn a_log_that_takes_its_time_gets_all_changes_in_order() {
    LOG_TAKES.set(SECOND);
    let checks = checks(64, Duration::ZERO);
    let runs = Count::default();
    checks.attach(Arc::new(Changing(runs.clone())));
    for _ in 0..3 {
        let checks = Arc::clone(&checks);
        check::thread(move || {
            for _ in 0..2 {
                drop(ask(&checks, None));
            }
        });
    }
    spawn::join_all();
    LOGGED.with_borrow(|logged| {
        ensure!(logged.len() == runs.get(), "{} runs, but {logged:?}", runs.get());
        let alternate = logged.iter().enumerate().all(|(at, line)| line.starts_with("Healthy") == (at % 2 == 1));
        ensure!(alternate, "{logged:?}");
    });
}
