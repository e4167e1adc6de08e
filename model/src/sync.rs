//! In place of the product's `sync`: locks and condition variables of the scheduler, and a virtual clock.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Add, Deref, DerefMut};
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, LockResult, PoisonError};
use std::time::Duration;

use shuttle::rand::Rng;
pub(crate) use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::sync::mpsc::{Receiver, Sender, channel};
use shuttle::thread;

/// A lock that knows itself, so that a condition variable can take it again.
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    guard: shuttle::sync::MutexGuard<'a, T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        match self.0.lock() {
            Ok(guard) => Ok(MutexGuard { mutex: self, guard }),
            Err(poisoned) => Err(PoisonError::new(MutexGuard { mutex: self, guard: poisoned.into_inner() })),
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

const WAITING: u8 = 0;
const WOKEN: u8 = 1;
const TIMED_OUT: u8 = 2;

/// A thread that waits for a notification, for its time, or for both.
struct Waiter {
    // A thread that is parked would count as one that can run, since it may wake for no reason.
    wake: Sender<()>,
    woken: std::sync::Mutex<Option<Receiver<()>>>,
    /// All threads of the scheduler run on one of the system, so relaxed order is enough.
    state: AtomicU8,
}

impl Waiter {
    fn new() -> Arc<Waiter> {
        let (wake, woken) = channel();
        Arc::new(Waiter { wake, woken: std::sync::Mutex::new(Some(woken)), state: AtomicU8::new(WAITING) })
    }

    fn is_waiting(&self) -> bool {
        self.state.load(Ordering::Relaxed) == WAITING
    }

    fn wake(&self, state: u8) {
        if self.is_waiting() {
            self.state.store(state, Ordering::Relaxed);
            let _ = self.wake.send(());
        }
    }

    fn wait(&self) {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(woken) = woken {
            let _ = woken.recv();
        }
    }
}

/// A condition variable whose timeouts happen. A notification reaches any thread that waits, and a wait may
/// end for no reason, as std allows.
#[derive(Default)]
pub(crate) struct Condvar {
    // Only one thread runs at a time, and none is suspended while it holds this.
    waiters: std::sync::Mutex<Vec<Arc<Waiter>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) fn new() -> Condvar {
        Condvar::default()
    }

    pub(crate) fn notify_one(&self) {
        reschedule();
        let waiter = {
            let waiters = self.waiters();
            let waiting: Vec<&Arc<Waiter>> = waiters.iter().filter(|waiter| waiter.is_waiting()).collect();
            // With one there is no choice, so that schedules can be counted out.
            let chosen = if waiting.len() > 1 { shuttle::rand::thread_rng().gen_range(0..waiting.len()) } else { 0 };
            waiting.get(chosen).map(|waiter| Arc::clone(waiter))
        };
        if let Some(waiter) = waiter {
            waiter.wake(WOKEN);
        }
    }

    pub(crate) fn notify_all(&self) {
        reschedule();
        let waiters: Vec<Arc<Waiter>> = self.waiters().clone();
        waiters.iter().for_each(|waiter| waiter.wake(WOKEN));
    }

    pub(crate) fn wait_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut guard) {
            guard = self.block(guard, None).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(guard)
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        Ok(self.block(guard, Some(now() + timeout)).unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let deadline = now() + timeout;
        while condition(&mut guard) {
            if now() >= deadline {
                return Ok((guard, WaitTimeoutResult(true)));
            }
            guard = self.block(guard, Some(deadline)).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok((guard, WaitTimeoutResult(false)))
    }
}

impl Condvar {
    fn waiters(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Waiter>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn block<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Duration>,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let waiter = Waiter::new();
        self.waiters().push(Arc::clone(&waiter));
        Clock::with(|clock| clock.waits.push((deadline, Arc::clone(&waiter))));
        let mutex = guard.mutex;
        drop(guard);
        waiter.wait();
        self.waiters().retain(|other| !Arc::ptr_eq(other, &waiter));
        Clock::with(|clock| clock.waits.retain(|(_, other)| !Arc::ptr_eq(other, &waiter)));
        let timed_out = WaitTimeoutResult(waiter.state.load(Ordering::Relaxed) == TIMED_OUT);
        match mutex.lock() {
            Ok(guard) => Ok((guard, timed_out)),
            Err(poisoned) => Err(PoisonError::new((poisoned.into_inner(), timed_out))),
        }
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condvar")
    }
}

/// Another thread may run here.
fn reschedule() {
    thread::sleep(Duration::ZERO);
}

/// A moment of virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Instant {
        Instant(now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        now().saturating_sub(self.0)
    }

    pub(crate) fn saturating_duration_since(&self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    pub(crate) fn checked_duration_since(&self, earlier: Instant) -> Option<Duration> {
        self.0.checked_sub(earlier.0)
    }

    pub(crate) fn checked_add(&self, time: Duration) -> Option<Instant> {
        self.0.checked_add(time).map(Instant)
    }

    pub(crate) fn checked_sub(&self, time: Duration) -> Option<Instant> {
        self.0.checked_sub(time).map(Instant)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, time: Duration) -> Instant {
        Instant(self.0 + time)
    }
}

/// Virtual time, and everything that waits for a part of it.
#[derive(Default)]
struct Clock {
    now: Duration,
    waits: Vec<(Option<Duration>, Arc<Waiter>)>,
}

thread_local! {
    // All threads of the scheduler run on one of the system.
    static CLOCK: RefCell<Clock> = RefCell::default();
}

impl Clock {
    fn with<R>(use_it: impl FnOnce(&mut Clock) -> R) -> R {
        CLOCK.with_borrow_mut(use_it)
    }
}

fn now() -> Duration {
    Clock::with(|clock| clock.now)
}

/// A new run begins.
pub(crate) fn reset() {
    let old = Clock::with(|clock| std::mem::replace(clock, Clock { now: Duration::from_secs(1000), waits: Vec::new() }));
    // A run that failed left threads behind, which belong to no scheduler any longer.
    std::mem::forget(old);
}

/// Waits for so much virtual time.
pub(crate) fn sleep(time: Duration) {
    let deadline = now() + time;
    while now() < deadline {
        let waiter = Waiter::new();
        Clock::with(|clock| clock.waits.push((Some(deadline), Arc::clone(&waiter))));
        waiter.wait();
        Clock::with(|clock| clock.waits.retain(|(_, other)| !Arc::ptr_eq(other, &waiter)));
    }
}

/// Whether a thread waits whose time can end.
pub(crate) fn time_can_pass() -> bool {
    Clock::with(|clock| clock.waits.iter().any(|(deadline, waiter)| deadline.is_some() && waiter.is_waiting()))
}

/// Goes on to the next moment for which a thread waits, and wakes those that wait for it. False if none does.
pub(crate) fn advance() -> bool {
    let woken: Vec<Arc<Waiter>> = Clock::with(|clock| {
        let waiting = || clock.waits.iter().filter(|(_, waiter)| waiter.is_waiting());
        let Some(next) = waiting().filter_map(|(deadline, _)| *deadline).min() else { return Vec::new() };
        let woken = waiting().filter(|(deadline, _)| *deadline == Some(next)).map(|(_, waiter)| Arc::clone(waiter)).collect();
        clock.now = clock.now.max(next);
        woken
    });
    woken.iter().for_each(|waiter| waiter.wake(TIMED_OUT));
    !woken.is_empty()
}

/// Ends one wait for no reason.
pub(crate) fn wake_for_no_reason() {
    let waiters: Vec<Arc<Waiter>> = Clock::with(|clock| {
        clock.waits.iter().filter(|(_, waiter)| waiter.is_waiting()).map(|(_, waiter)| Arc::clone(waiter)).collect()
    });
    if !waiters.is_empty() {
        waiters[shuttle::rand::thread_rng().gen_range(0..waiters.len())].wake(WOKEN);
    }
}
