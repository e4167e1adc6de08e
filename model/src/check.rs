//! Runs a scenario under many schedules, and notices what went wrong in one.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use shuttle::rand::Rng;
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread;
use shuttle::{Config, FailurePersistence, Runner};

use crate::schedule::{Time, WithClock};
use crate::{spawn, sync};

/// What threads do, and what has to be true of it under every schedule.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) time: Time,
    pub(crate) run: fn(),
}

/// Threads that get their way at the cost of all others, and how often that changes in a run: bugs that take
/// few switches at the wrong places are found by it sooner than by chance.
const DEPTH: usize = 4;

thread_local! {
    static FAILURE: RefCell<Option<String>> = const { RefCell::new(None) };
    static OVER: Cell<bool> = const { Cell::new(false) };
}

/// Says what is wrong, also where a panic would be caught.
pub(crate) fn fail(text: String) {
    FAILURE.with_borrow_mut(|failure| failure.get_or_insert_with(|| text.clone()).clone());
    panic!("{text}");
}

/// Says what happens, where `MODEL_NOTES` asks for it: for a run that is repeated by its seed.
pub(crate) fn note(text: impl FnOnce() -> String) {
    if std::env::var_os("MODEL_NOTES").is_some() {
        println!("{:?} {:?} {}", thread::current().id(), sync::Instant::now(), text());
    }
}

macro_rules! ensure {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            $crate::check::fail(format!($($text)*));
        }
    };
}
pub(crate) use ensure;

/// A number that the scheduler chooses.
pub(crate) fn choose(below: usize) -> usize {
    shuttle::rand::thread_rng().gen_range(0..below)
}

/// Runs it under a third each of: every schedule in turn, any, and those where some threads are favoured.
pub(crate) fn run(scenario: &Scenario, schedules: usize) -> usize {
    let third = schedules.div_ceil(3);
    under(scenario, DfsScheduler::new(Some(third), true))
        + under(scenario, RandomScheduler::new(third))
        + under(scenario, PctScheduler::new(DEPTH, third))
}

fn under(scenario: &Scenario, scheduler: impl Scheduler + 'static) -> usize {
    let (time, run, name) = (scenario.time, scenario.run, scenario.name);
    let mut config = Config::new();
    config.silence_warnings = true;
    // The seed says all, in a line.
    config.failure_persistence = FailurePersistence::None;
    Runner::new(WithClock::new(scheduler, time), config).run(move || {
        sync::reset();
        spawn::reset();
        FAILURE.set(None);
        OVER.set(false);
        let clock = thread::spawn(move || tick(time, name));
        run();
        spawn::join_all();
        OVER.set(true);
        clock.join().expect("the clock ended");
        if let Some(failure) = FAILURE.take() {
            panic!("{name}: {failure}");
        }
    })
}

/// The life of the clock.
fn tick(time: Time, name: &str) {
    loop {
        thread::yield_now();
        if OVER.get() {
            return;
        }
        if time == Time::AtAnyMoment && choose(4) == 0 {
            sync::wake_for_no_reason();
        } else if !sync::advance() && !OVER.get() {
            panic!("{name}: all threads wait, and for nothing that ever comes");
        }
    }
}

/// Starts a thread of the scenario's own; the run does not end before it.
pub(crate) fn thread(work: impl FnOnce() + Send + 'static) {
    spawn::keep(thread::spawn(work));
}

/// Counts how many threads are in one place.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<std::sync::atomic::AtomicUsize>);

impl Count {
    pub(crate) fn add(&self) -> usize {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
    }

    pub(crate) fn sub(&self) {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}
