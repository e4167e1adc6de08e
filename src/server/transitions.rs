//! Logs each change of a verdict once, in the order in which the changes happen.

use std::collections::VecDeque;
use std::mem;
use std::sync::PoisonError;

use crate::event::Event;
use crate::log::Log;
use crate::sync::{Mutex, MutexGuard};

/// What a verdict is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    Health,
    Ready,
}

/// The changes that wait to be logged, and the last verdict of each check.
///
/// [`Config::on_event`](crate::Config::on_event) may block. So one thread at a time logs everything that is
/// queued, and the other threads do not wait for it.
#[derive(Debug)]
pub(crate) struct Transitions {
    log: Log,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last verdicts, `true` for a success; `None` before the first.
    health: Option<bool>,
    ready: Option<bool>,
    queue: VecDeque<Change>,
    queued_bytes: usize,
    emitting: bool,
}

/// A check succeeds now, or fails with this reason.
#[derive(Debug)]
struct Change {
    check: Check,
    failure: Option<String>,
}

impl Change {
    fn bytes(&self) -> usize {
        size_of::<Change>() + self.failure.as_ref().map_or(0, String::len)
    }
}

/// Bytes of changes that may be queued while `on_event` blocks. Beyond it the oldest changes are lost.
const MAX_QUEUED_BYTES: usize = 256 * 1024;

impl Transitions {
    pub(crate) fn new(log: Log) -> Transitions {
        Transitions { log, state: Mutex::default() }
    }

    /// Notes a verdict, and logs it if it is a change. `failure` is the reason, if the check failed.
    #[cfg(test)]
    pub(crate) fn report(&self, check: Check, failure: Option<String>) {
        self.queue(check, failure);
        self.emit();
    }

    /// Notes a verdict, for [`Transitions::emit`] to log if it is a change.
    pub(crate) fn queue(&self, check: Check, failure: Option<String>) {
        let mut state = self.lock();
        let last = match check {
            Check::Health => &mut state.health,
            Check::Ready => &mut state.ready,
        };
        if last.replace(failure.is_none()) != Some(failure.is_none()) {
            let change = Change { check, failure };
            state.queued_bytes += change.bytes();
            state.queue.push_back(change);
            while state.queued_bytes > MAX_QUEUED_BYTES && state.queue.len() > 1 {
                state.queued_bytes -= state.queue.pop_front().map_or(0, |oldest| oldest.bytes());
            }
        }
    }

    /// Logs all queued changes, unless another thread is already doing so.
    pub(crate) fn emit(&self) {
        let mut state = self.lock();
        if state.queue.is_empty() || mem::replace(&mut state.emitting, true) {
            return;
        }
        while let Some(change) = state.queue.pop_front() {
            state.queued_bytes -= change.bytes();
            drop(state);
            let reason = change.failure.as_deref();
            self.log.emit(&match (change.check, reason) {
                (Check::Health, None) => Event::Healthy,
                (Check::Health, Some(reason)) => Event::Unhealthy { reason },
                (Check::Ready, None) => Event::Ready,
                (Check::Ready, Some(reason)) => Event::NotReady { reason },
            });
            state = self.lock();
        }
        state.emitting = false;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, mpsc};
    use std::thread;

    #[test]
    fn only_changes_are_logged_and_a_blocked_log_loses_the_oldest() {
        let (logged, events) = mpsc::channel();
        let (open, gate) = mpsc::channel::<()>();
        let (logged, gate) = (Mutex::new(logged), Mutex::new(gate));
        let log = Log(Arc::new(move |event: &Event<'_>| {
            logged.lock().unwrap().send(event.to_string().len()).unwrap();
            let _ = gate.lock().unwrap().recv();
        }));
        let transitions = Transitions::new(log);
        thread::scope(|scope| {
            scope.spawn(|| transitions.report(Check::Health, None));
            events.recv().unwrap();
            // The log blocks its own thread, but must not block this one.
            for size in [200_000, 100_000, 50_000] {
                transitions.report(Check::Ready, Some("x".repeat(size)));
                transitions.report(Check::Ready, Some("the same verdict again".into()));
                transitions.report(Check::Ready, None);
            }
            drop(open);
        });
        drop(transitions);
        let ready = Event::Ready.to_string().len();
        let not_ready = |size: usize| Event::NotReady { reason: "" }.to_string().len() + size;
        assert_eq!(events.iter().collect::<Vec<_>>(), [ready, not_ready(100_000), ready, not_ready(50_000), ready]);
    }

    /// The lengths of what is logged when these changes are queued before any is logged.
    fn logged_of(failures: &[Option<String>]) -> Vec<usize> {
        let (logged, events) = mpsc::channel();
        let logged = Mutex::new(logged);
        let log = Log(Arc::new(move |event: &Event<'_>| logged.lock().unwrap().send(event.to_string().len()).unwrap()));
        let transitions = Transitions::new(log);
        for failure in failures {
            transitions.queue(Check::Health, failure.clone());
        }
        transitions.emit();
        assert_eq!(transitions.lock().queued_bytes, 0, "all room is free again");
        drop(transitions);
        events.iter().collect()
    }

    #[test]
    fn as_much_is_queued_as_there_is_room_for_and_always_the_last_change() {
        let unhealthy = |size: usize| Event::Unhealthy { reason: "" }.to_string().len() + size;
        let healthy = Event::Healthy.to_string().len();
        let room = MAX_QUEUED_BYTES - 2 * size_of::<Change>();
        assert_eq!(logged_of(&[Some("x".repeat(room)), None]), [unhealthy(room), healthy]);
        assert_eq!(logged_of(&[Some("x".repeat(room + 1)), None]), [healthy]);
        assert_eq!(logged_of(&[None, Some("x".repeat(2 * MAX_QUEUED_BYTES))]), [unhealthy(2 * MAX_QUEUED_BYTES)]);
        assert_eq!(logged_of(&[Some("a".into()), None, Some("b".into())]), [unhealthy(1), healthy, unhealthy(1)]);
    }
}
