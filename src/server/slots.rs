//! Who stands in `accept`, who serves a connection, and who gives way: the bookkeeping, without sockets.
//!
//! A thread *stands* while it is in `accept`, or about to be. A connection *owes* while the next
//! move is its client's: the rest of a head, or the close. Whoever owes the longest is the first to
//! give way when there is no room, so a new connection never loses to a stalled one.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{FEW_DEBTORS, MAX_STANDING, PATIENCE, STANDING};

#[derive(Debug)]
pub(crate) struct Pool<C> {
    max_connections: usize,
    state: Mutex<State<C>>,
    /// Tells those who wait that a thread has come back or ended, or a debt is settled.
    changed: Condvar,
}

#[derive(Debug)]
struct State<C> {
    threads: usize,
    standing: usize,
    /// Oldest debt first.
    debtors: Vec<Debt<C>>,
    last_ticket: Ticket,
    /// Told to give way, and not back yet.
    leaving: usize,
    closing: bool,
    /// Waking nobody is a system call all the same, so it is only done for somebody.
    waiting: usize,
}

#[derive(Debug)]
struct Debt<C> {
    ticket: Ticket,
    since: Instant,
    connection: Arc<C>,
}

/// Names one debt.
pub(crate) type Ticket = u64;

/// Whether somebody else has to be got into `accept` because of a connection that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hurry {
    /// Somebody stands there.
    No,
    /// Nobody does, but few owe anything: if the head is there in a moment, so is this thread.
    Soon,
    /// Nobody does, and many stall; or there are too many connections.
    Now,
}

/// How somebody else is got into `accept`.
#[derive(Debug)]
#[must_use]
pub(crate) struct Room<C> {
    /// Start a thread, which is already counted, or tell [`Pool::not_started`].
    pub(crate) start_thread: bool,
    /// Close this one: its thread then comes back.
    pub(crate) give_way: Option<Arc<C>>,
    /// It cannot be done: nobody stands there, and nobody is about to.
    pub(crate) alone: bool,
}

impl<C> Pool<C> {
    /// For at most so many connections. Its first [`STANDING`] threads are already counted.
    pub(crate) fn new(max_connections: usize) -> Pool<C> {
        let state = State {
            threads: STANDING,
            standing: STANDING,
            debtors: Vec::new(),
            last_ticket: 0,
            leaving: 0,
            closing: false,
            waiting: 0,
        };
        Pool { max_connections, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, state: MutexGuard<'_, State<C>>) {
        let waiting = state.waiting > 0;
        drop(state);
        if waiting {
            self.changed.notify_all();
        }
    }

    /// A thread that stood has accepted `connection`, which owes its head from now on.
    pub(crate) fn accepted(&self, connection: &Arc<C>) -> (Ticket, Hurry) {
        let mut state = self.state();
        state.standing -= 1;
        let hurry = if state.connections() > self.max_connections {
            Hurry::Now
        } else if state.standing > 0 {
            Hurry::No
        } else if state.debtors.len() < FEW_DEBTORS {
            Hurry::Soon
        } else {
            Hurry::Now
        };
        (state.owe(connection), hurry)
    }

    /// Gets somebody into `accept`, other than the owner of that ticket, if nobody stands there; and
    /// somebody out, if there are too many connections.
    pub(crate) fn make_room(&self, ticket: Ticket) -> Room<C> {
        let mut state = self.state();
        let nobody_stands = state.standing == 0;
        let start_thread = nobody_stands && !state.closing && state.threads < self.max_connections.saturating_add(STANDING);
        if start_thread {
            state.threads += 1;
            state.standing += 1;
        }
        let no_room = state.connections() > self.max_connections || (nobody_stands && !start_thread && !state.closing);
        let give_way = if no_room { state.oldest_but(ticket) } else { None };
        Room { start_thread, alone: state.standing == 0 && give_way.is_none() && !state.closing, give_way }
    }

    /// The thread could not be started: who gives way instead, and whether that leaves us alone.
    pub(crate) fn not_started(&self, ticket: Ticket) -> (Option<Arc<C>>, bool) {
        let mut state = self.state();
        state.threads -= 1;
        state.standing -= 1;
        let nobody_stands = state.standing == 0;
        let give_way = if nobody_stands { state.oldest_but(ticket) } else { None };
        let alone = nobody_stands && give_way.is_none() && !state.closing;
        self.tell(state);
        (give_way, alone)
    }

    /// The client has done what it owed. False: too late, the connection had to give way.
    #[must_use]
    pub(crate) fn settled(&self, ticket: Ticket) -> bool {
        let mut state = self.state();
        let debt = state.debtors.iter().position(|debt| debt.ticket == ticket);
        let settled = debt.map(|at| state.debtors.remove(at)).is_some();
        if !settled {
            state.leaving = state.leaving.saturating_sub(1);
        }
        self.tell(state);
        settled
    }

    /// `connection` owes its close from now on.
    pub(crate) fn owes(&self, connection: &Arc<C>) -> Ticket {
        self.state().owe(connection)
    }

    /// A thread is done with a connection. True: it stands again; false: it ends, since enough others
    /// stand. While many stall, more are enough than otherwise.
    #[must_use]
    pub(crate) fn returns(&self) -> bool {
        let mut state = self.state();
        let enough = if state.debtors.len() < FEW_DEBTORS { STANDING } else { MAX_STANDING };
        let stays = !state.closing && state.standing < enough;
        if stays {
            state.standing += 1;
        } else {
            state.threads -= 1;
        }
        self.tell(state);
        stays
    }

    /// A thread that stood ends.
    pub(crate) fn leaves(&self) {
        let mut state = self.state();
        state.threads -= 1;
        state.standing -= 1;
        self.tell(state);
    }

    /// The connection that has owed the longest, to be closed.
    pub(crate) fn oldest_debtor(&self) -> Option<Arc<C>> {
        // No ticket is 0.
        self.state().oldest_but(0)
    }

    /// Waits for a thread to come back, or for `timeout`.
    pub(crate) fn wait_for_return(&self, timeout: Duration) {
        let state = self.state();
        let standing = state.standing;
        drop(self.wait_until(state, Instant::now() + timeout, |state| state.standing > standing || state.closing));
    }

    /// Waits for a thread that stands to go, or for `timeout`.
    pub(crate) fn wait_for_leave(&self, timeout: Duration) {
        let state = self.state();
        let standing = state.standing;
        drop(self.wait_until(state, Instant::now() + timeout, |state| state.standing < standing));
    }

    /// From now on whoever comes back ends.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closing = true;
        self.tell(state);
    }

    /// Whether [`Pool::close`] has been called.
    pub(crate) fn is_closing(&self) -> bool {
        self.state().closing
    }

    /// How many stand in `accept`.
    pub(crate) fn standing(&self) -> usize {
        self.state().standing
    }

    /// Waits until nobody owes anything, and nobody stands who may be about to take a connection, or
    /// until `deadline`; calls `give_way` for those who still owe.
    pub(crate) fn wait_settled(&self, deadline: Instant, give_way: impl Fn(&C)) {
        let mut state = self.wait_until(self.state(), deadline, |state| state.debtors.is_empty() && state.standing == 0);
        let debtors = mem::take(&mut state.debtors);
        drop(state);
        debtors.iter().for_each(|debt| give_way(&debt.connection));
    }

    /// Waits until no thread is left, or until `deadline`.
    pub(crate) fn wait_ended(&self, deadline: Instant) {
        drop(self.wait_until(self.state(), deadline, |state| state.threads == 0));
    }

    fn wait_until<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<C>>,
        deadline: Instant,
        done: impl Fn(&State<C>) -> bool,
    ) -> MutexGuard<'a, State<C>> {
        state.waiting += 1;
        let timeout = deadline.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(state, timeout, |state| !done(state));
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }
}

impl<C> State<C> {
    fn connections(&self) -> usize {
        (self.threads - self.standing).saturating_sub(self.leaving)
    }

    fn owe(&mut self, connection: &Arc<C>) -> Ticket {
        self.last_ticket += 1;
        self.debtors.push(Debt { ticket: self.last_ticket, since: Instant::now(), connection: Arc::clone(connection) });
        self.last_ticket
    }

    /// Whoever has owed the longest, `ticket`'s owner excepted, gives way; but nobody who has only just
    /// begun to: its thread may not even have run yet.
    fn oldest_but(&mut self, ticket: Ticket) -> Option<Arc<C>> {
        let at = self.debtors.iter().position(|debt| debt.ticket != ticket)?;
        if self.debtors.get(at)?.since.elapsed() < PATIENCE {
            return None;
        }
        self.leaving += 1;
        Some(self.debtors.remove(at).connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 4;

    /// A connection whose head does not come in a moment.
    fn accept(pool: &Pool<u32>, name: u32) -> (Ticket, Option<Room<u32>>) {
        let (ticket, hurry) = pool.accepted(&Arc::new(name));
        (ticket, (hurry != Hurry::No).then(|| pool.make_room(ticket)))
    }

    /// Makes every debt one that patience is over with.
    fn age(pool: &Pool<u32>) {
        for debt in &mut pool.state().debtors {
            debt.since = debt.since.checked_sub(PATIENCE).unwrap();
        }
    }

    #[test]
    fn nobody_gives_way_who_has_only_just_begun_to_owe() {
        let pool = Pool::new(MAX);
        for name in 0..MAX as u32 {
            let _ = accept(&pool, name);
        }
        // However slowly this test runs.
        let young = Instant::now() + Duration::from_secs(3600);
        pool.state().debtors.iter_mut().for_each(|debt| debt.since = young);
        let (ticket, room) = accept(&pool, 100);
        assert!(room.unwrap().give_way.is_none());
        pool.state().debtors.iter_mut().for_each(|debt| debt.since = Instant::now());
        age(&pool);
        assert_eq!(pool.make_room(ticket).give_way.as_deref(), Some(&0));
    }

    #[test]
    fn one_connection_at_a_time_starts_no_thread_and_ends_none() {
        let pool = Pool::new(MAX);
        for name in 0..100 {
            let (ticket, hurry) = pool.accepted(&Arc::new(name));
            assert_eq!(hurry, Hurry::No);
            assert!(pool.settled(ticket));
            assert!(pool.returns());
        }
        assert_eq!(pool.standing(), STANDING);
    }

    #[test]
    fn whoever_leaves_nobody_behind_starts_a_thread_up_to_the_limit() {
        let pool = Pool::new(MAX);
        let started: Vec<_> = (0..MAX as u32).map(|name| accept(&pool, name).1.is_some_and(|room| room.start_thread)).collect();
        assert_eq!(started, [false, true, true, true]);
        assert_eq!(pool.state().threads, MAX + 1);
    }

    #[test]
    fn a_moments_patience_is_for_few_debtors_only() {
        let pool = Pool::<u32>::new(64);
        let hurries: Vec<_> = (0..8)
            .map(|name| {
                let (ticket, hurry) = pool.accepted(&Arc::new(name));
                assert!(hurry == Hurry::No || pool.make_room(ticket).start_thread);
                hurry
            })
            .collect();
        let soon = FEW_DEBTORS - 1;
        assert_eq!(hurries[0], Hurry::No);
        assert!(hurries[1..=soon].iter().all(|hurry| *hurry == Hurry::Soon), "{hurries:?}");
        assert!(hurries[soon + 1..].iter().all(|hurry| *hurry == Hurry::Now), "{hurries:?}");
    }

    #[test]
    fn whoever_comes_back_in_time_spares_a_thread() {
        let pool = Pool::new(MAX);
        let (first, _) = pool.accepted(&Arc::new(1));
        let (second, hurry) = pool.accepted(&Arc::new(2));
        assert_eq!(hurry, Hurry::Soon);
        assert!(pool.settled(first) && pool.returns());
        let room = pool.make_room(second);
        assert!(!room.start_thread && room.give_way.is_none() && !room.alone);
    }

    #[test]
    fn beyond_the_limit_the_oldest_debtor_gives_way() {
        let pool = Pool::new(MAX);
        let tickets: Vec<_> = (0..MAX as u32).map(|name| accept(&pool, name).0).collect();
        // The first has sent its head: it is being answered, and owes nothing.
        assert!(pool.settled(tickets[0]));
        let mut last = 0;
        for (name, gives_way) in [(100, 1), (101, 2), (102, 3), (103, 100)] {
            age(&pool);
            let (ticket, room) = accept(&pool, name);
            assert_eq!(room.unwrap().give_way.as_deref(), Some(&gives_way));
            assert!(!pool.settled(tickets.get(gives_way as usize).copied().unwrap_or(last)), "it was told to go");
            assert!(pool.returns(), "its thread stands again");
            last = if last == 0 { ticket } else { last };
        }
        assert!(pool.state().threads <= MAX + STANDING);
    }

    #[test]
    fn one_more_connection_makes_one_give_way_and_not_two() {
        let pool = Pool::new(MAX);
        for name in 0..MAX as u32 {
            let _ = accept(&pool, name);
        }
        age(&pool);
        assert_eq!(accept(&pool, 100).1.unwrap().give_way.as_deref(), Some(&0));
        // Its thread is not back yet, but nobody else has to go for that.
        let (ticket, hurry) = pool.accepted(&Arc::new(101));
        assert_eq!(hurry, Hurry::Now);
        assert!(pool.settled(ticket) && pool.returns());
        assert!(pool.make_room(ticket).give_way.is_none());
    }

    #[test]
    fn without_a_new_thread_the_oldest_other_debtor_gives_way() {
        let pool = Pool::new(MAX);
        let (_, (second, room)) = (accept(&pool, 1), accept(&pool, 2));
        assert!(room.unwrap().start_thread);
        age(&pool);
        let (gives_way, alone) = pool.not_started(second);
        assert_eq!((gives_way.as_deref(), alone), (Some(&1), false));
        // Its thread has come back, and nobody else owes: now we are alone.
        assert!(pool.returns());
        let (third, room) = accept(&pool, 3);
        assert!(room.unwrap().start_thread);
        assert!(pool.settled(second));
        let (gives_way, alone) = pool.not_started(third);
        assert_eq!((gives_way, alone), (None, true));
        assert_eq!(pool.state().threads, STANDING);
    }

    #[test]
    fn whoever_comes_back_to_enough_others_ends() {
        let pool = Pool::<u32>::new(64);
        let tickets: Vec<_> = (0..40).map(|name| accept(&pool, name).0).collect();
        let mut stood = 0;
        for ticket in tickets {
            assert!(pool.settled(ticket));
            stood = stood.max(pool.standing() + usize::from(pool.returns()));
        }
        assert_eq!((stood, pool.standing()), (MAX_STANDING, MAX_STANDING));
        // Those who stayed while many stalled go with the next few requests.
        for left in (STANDING..MAX_STANDING).rev() {
            let (ticket, room) = accept(&pool, 0);
            assert!(pool.settled(ticket) && room.is_none() && !pool.returns());
            assert_eq!((pool.standing(), pool.state().threads), (left, left));
        }
    }

    #[test]
    fn closing_ends_whoever_comes_back() {
        let pool = Pool::new(MAX);
        let (first, _) = accept(&pool, 1);
        pool.close();
        let room = accept(&pool, 2).1.unwrap();
        assert!(!room.start_thread && room.give_way.is_none());
        let told = std::cell::Cell::new(0);
        pool.wait_settled(Instant::now(), |_| told.set(told.get() + 1));
        assert_eq!(told.get(), 2);
        assert!(!pool.settled(first));
        assert!(!pool.returns() && !pool.returns());
        pool.wait_ended(Instant::now());
        assert_eq!(pool.state().threads, 0);
    }

    #[test]
    fn a_wait_ends_when_what_it_waits_for_happens() {
        let pool = Arc::new(Pool::new(MAX));
        let (ticket, _) = accept(&pool, 1);
        let waiter = std::thread::spawn({
            let pool = Arc::clone(&pool);
            move || pool.wait_for_return(Duration::from_secs(60))
        });
        while pool.state().waiting == 0 {
            std::thread::yield_now();
        }
        assert!(pool.settled(ticket) && pool.returns());
        waiter.join().unwrap();
    }
}
