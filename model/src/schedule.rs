//! When time passes: only when all threads wait, which makes waits measurable, or at any moment, which lets
//! every timeout race with everything else.

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

use crate::sync;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    WhenAllWait,
    AtAnyMoment,
}

/// A scheduler of shuttle's, and beside it the thread that is the clock: the first one that a run starts.
pub(crate) struct WithClock<S> {
    inner: S,
    time: Time,
    random: u64,
}

/// At any moment: at one of so many choices of a thread.
const ODDS: u64 = 16;

impl<S> WithClock<S> {
    pub(crate) fn new(inner: S, time: Time) -> WithClock<S> {
        WithClock { inner, time, random: 1 }
    }

    fn is_now(&mut self) -> bool {
        // Marsaglia's xorshift: enough for a choice, and the same for the same seed.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % ODDS == 0
    }
}

impl<S: Scheduler> Scheduler for WithClock<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        let schedule = self.inner.new_execution()?;
        self.random = schedule.seed | 1;
        Some(schedule)
    }

    fn next_task(&mut self, runnable: &[&Task], current: Option<TaskId>, is_yielding: bool) -> Option<TaskId> {
        let clock = TaskId::from(1);
        let others: Vec<&Task> = runnable.iter().filter(|task| task.id() != clock).copied().collect();
        if others.is_empty() {
            return self.inner.next_task(runnable, current, is_yielding);
        }
        let may_pass = self.time == Time::AtAnyMoment && others.len() < runnable.len() && sync::time_can_pass();
        if may_pass && self.is_now() {
            return Some(clock);
        }
        self.inner.next_task(&others, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.inner.next_u64()
    }
}
