//! Logs each change of a verdict once, in the order in which the changes happen.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::Event;
use crate::log::Log;

/// What a verdict is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    Health,
    Ready,
}

/// The changes that wait to be logged, and the last verdict of each check.
///
/// The owner's function may block. So the thread that finds nobody logging logs everything that is
/// queued, and no other thread waits for it.
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
    emitting: bool,
}

/// A check succeeds from now on, or fails for this reason.
#[derive(Debug)]
struct Change {
    check: Check,
    failure: Option<String>,
}

/// Changes that wait at most, while the owner's function blocks. Beyond it the oldest are lost.
const MAX_QUEUED: usize = 16;

impl Transitions {
    pub(crate) fn new(log: Log) -> Transitions {
        Transitions { log, state: Mutex::default() }
    }

    /// Notes a verdict, and logs it if it is a change. `failure` is the reason, if the check failed.
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
            if state.queue.len() >= MAX_QUEUED {
                state.queue.pop_front();
            }
            state.queue.push_back(Change { check, failure });
        }
    }

    /// Logs what is queued, unless another thread already does.
    pub(crate) fn emit(&self) {
        let mut state = self.lock();
        if state.queue.is_empty() || mem::replace(&mut state.emitting, true) {
            return;
        }
        while let Some(change) = state.queue.pop_front() {
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
