//! The waiting room: connections that wait for their client or for the connector, and the threads that
//! serve them. A connection in the room is called a guest.
//!
//! The room opens no sockets and starts no threads itself. It tells its caller to start one.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::slots::{Id, Network, Slots};
use crate::limits::{FEW_IDLE, THREAD_IDLE};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard};

/// `G` is a guest, `H` is the handle that evicts one.
#[derive(Debug)]
pub(crate) struct Room<G, H> {
    state: Mutex<State<G, H>>,
    /// A guest is queued, or the room closes.
    queued: Condvar,
    /// A guest, a thread or an acceptor has left, a guest has become active, or the room closes.
    left: Condvar,
    /// Ends reading from an evicted guest. A whole request that has arrived is still answered.
    end_reading: fn(&H),
}

#[derive(Debug)]
struct State<G, H> {
    slots: Slots<H>,
    /// With this many evicted guests that have not closed yet, the room is crowded.
    max_evicting: usize,
    queue: VecDeque<(G, Id)>,
    /// Threads that serve a guest or wait for one.
    threads: usize,
    waiting_threads: usize,
    acceptors: usize,
    /// Calls that wait for `left`. A notification is a system call even if nobody waits.
    waiting_for_left: usize,
    /// Counts the guests that have left.
    departures: u64,
    closing: bool,
}

/// What the caller must do for a guest that was admitted.
#[derive(Debug)]
#[must_use]
pub(crate) struct Admitted<H> {
    /// End this guest's connection: the new guest has its place.
    pub(crate) evicted: Option<H>,
    /// Start a thread, which is already counted, or call [`Room::thread_not_started`].
    pub(crate) start_thread: bool,
}

/// What happens to the newest guest if its thread cannot be started.
#[derive(Debug)]
pub(crate) enum WithoutThread<G, H> {
    /// End this other guest's connection: its thread then serves the newest guest.
    Evict(H),
    /// No thread will become free for these guests, so the room returns them, newest first.
    NoThread(Vec<G>),
    /// A thread has taken the guest already.
    Served,
}

impl<G, H> Room<G, H> {
    pub(crate) fn new(capacity: usize, max_evicting: usize, acceptors: usize, end_reading: fn(&H)) -> Room<G, H> {
        let state = State {
            slots: Slots::new(capacity),
            max_evicting,
            queue: VecDeque::new(),
            threads: 0,
            waiting_threads: 0,
            acceptors,
            waiting_for_left: 0,
            departures: 0,
            closing: false,
        };
        Room { state: Mutex::new(state), queued: Condvar::new(), left: Condvar::new(), end_reading }
    }

    /// Queues a guest for a thread. At capacity the room evicts an idle guest; if no guest is idle, it returns
    /// the new one. A guest with a `handle` is idle from now on, so it can be evicted while it is queued.
    ///
    /// `id` is that of the guest's [`Room::arrival`]. Ids are in the order in which connections were accepted, and the
    /// room evicts in that order. Guests may be admitted in a different order, since an acceptor waits for some heads.
    pub(crate) fn admit(&self, guest: G, id: Id, network: Network, handle: Option<H>) -> Result<Admitted<H>, G> {
        let mut state = self.lock();
        let evicted = if state.slots.is_full() { state.slots.evict() } else { None };
        if !state.slots.enter(evicted.is_some()) {
            return Err(guest);
        }
        if let Some(handle) = handle {
            state.slots.becomes_idle(id, network, handle);
        }
        state.queue.push_back((guest, id));
        // An evicted guest soon frees its thread, and the room needs no more threads than places.
        let may_start = evicted.is_none() && state.threads < state.slots.capacity();
        let start_thread = may_start && state.queue.len() > state.waiting_threads;
        if start_thread {
            state.threads += 1;
        } else if state.waiting_threads > 0 {
            self.queued.notify_one();
        }
        Ok(Admitted { evicted, start_thread })
    }

    /// Tells the room that the thread for the newest guest could not be started.
    pub(crate) fn thread_not_started(&self) -> WithoutThread<G, H> {
        let mut state = self.lock();
        state.threads -= 1;
        self.notify_left(&state);
        if state.queue.is_empty() {
            return WithoutThread::Served;
        }
        // Evicting a queued guest would free no thread, so only a served one is chosen.
        if state.threads > 0 {
            if let Some(evicted) = state.evict_served() {
                return WithoutThread::Evict(evicted);
            }
        }
        // If there is no thread at all, the other queued guests cannot be served either.
        let stay = if state.threads > 0 { state.queue.len() - 1 } else { 0 };
        let mut guests = Vec::new();
        while state.queue.len() > stay {
            if let Some((guest, id)) = state.queue.pop_back() {
                self.leave(&mut state, id);
                guests.push(guest);
            }
        }
        WithoutThread::NoThread(guests)
    }

    /// Waits for the next guest. `None` tells the calling thread to end; the room no longer counts it.
    pub(crate) fn next(self: &Arc<Self>) -> Option<(G, Place<G, H>)> {
        let mut state = self.lock();
        loop {
            if let Some((guest, id)) = state.queue.pop_front() {
                return Some((guest, Place { room: Arc::clone(self), id }));
            }
            let mut idle_for_long = false;
            if !state.closing {
                state.waiting_threads += 1;
                let waited = self.queued.wait_timeout(state, THREAD_IDLE).unwrap_or_else(PoisonError::into_inner);
                (state, idle_for_long) = (waited.0, waited.1.timed_out());
                state.waiting_threads -= 1;
            }
            if state.queue.is_empty() && (state.closing || idle_for_long) {
                state.threads -= 1;
                self.notify_left(&state);
                return None;
            }
        }
    }

    /// A connection was accepted. Returns its id, and whether few guests are idle: most clients are quick then.
    pub(crate) fn arrival(&self) -> (Id, bool) {
        let mut state = self.lock();
        (state.slots.arrival(), state.slots.idle() < FEW_IDLE)
    }

    /// Waits while many evicted guests have not closed yet, for at most `timeout`.
    pub(crate) fn wait_while_crowded(&self, timeout: Duration) {
        let state = self.lock();
        if state.is_crowded() {
            drop(self.wait(state, timeout, &|state| !state.is_crowded()));
        }
    }

    /// Waits for `time`, or until the room closes.
    pub(crate) fn pause(&self, time: Duration) {
        drop(self.wait(self.lock(), time, &|state| state.closing));
    }

    /// Evicts an idle guest and returns its handle, so that the caller ends the connection. The number is for
    /// [`Room::wait_for_departure`].
    pub(crate) fn evict_one(&self) -> (Option<H>, u64) {
        let mut state = self.lock();
        (state.slots.evict(), state.departures)
    }

    /// Waits until a guest has left after [`Room::evict_one`] returned `since`, for at most `timeout`.
    pub(crate) fn wait_for_departure(&self, since: u64, timeout: Duration) {
        drop(self.wait(self.lock(), timeout, &|state| state.departures != since || state.closing));
    }

    /// Begins the shutdown: threads now end when no guest is queued.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        self.queued.notify_all();
        self.notify_left(&state);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Tells the room that an acceptor has ended.
    pub(crate) fn acceptor_left(&self) {
        let mut state = self.lock();
        state.acceptors -= 1;
        self.notify_left(&state);
    }

    /// Waits until all acceptors have ended, for at most `timeout`. Returns whether they have.
    pub(crate) fn wait_for_acceptors(&self, timeout: Duration) -> bool {
        self.wait(self.lock(), timeout, &|state| state.acceptors == 0).acceptors == 0
    }

    /// Waits until no guest is idle and all acceptors have ended, or until `deadline`. Then evicts all idle
    /// guests and returns their handles.
    pub(crate) fn evict_idle_by(&self, deadline: Instant) -> Vec<H> {
        let timeout = deadline.saturating_duration_since(Instant::now());
        self.wait(self.lock(), timeout, &|state| state.slots.idle() == 0 && state.acceptors == 0).slots.evict_all()
    }

    /// Waits until all guests, threads and acceptors have left, or until `deadline`.
    pub(crate) fn wait_until_empty(&self, deadline: Instant) {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let empty = |state: &State<G, H>| state.slots.open() == 0 && state.threads == 0 && state.acceptors == 0;
        drop(self.wait(self.lock(), timeout, &empty));
    }

    /// Waits until `done`, for at most `timeout`.
    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<G, H>>,
        timeout: Duration,
        done: &dyn Fn(&State<G, H>) -> bool,
    ) -> MutexGuard<'a, State<G, H>> {
        state.waiting_for_left += 1;
        let waited = self.left.wait_timeout_while(state, timeout, |state| !done(state));
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.waiting_for_left -= 1;
        state
    }

    fn notify_left(&self, state: &State<G, H>) {
        if state.waiting_for_left > 0 {
            self.left.notify_all();
        }
    }

    fn leave(&self, state: &mut State<G, H>, id: Id) {
        state.slots.leave(id);
        state.departures += 1;
        self.notify_left(state);
    }

    fn lock(&self) -> MutexGuard<'_, State<G, H>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<G, H> State<G, H> {
    fn is_crowded(&self) -> bool {
        self.slots.evicting() >= self.max_evicting
    }

    /// Evicts an idle guest that has a thread, so that its thread becomes free.
    fn evict_served(&mut self) -> Option<H> {
        let mut queued = Vec::new();
        for (_, id) in &self.queue {
            if let Some((network, handle)) = self.slots.take_idle(*id) {
                queued.push((*id, network, handle));
            }
        }
        let evicted = self.slots.evict();
        for (id, network, handle) in queued {
            self.slots.becomes_idle(id, network, handle);
        }
        evicted
    }
}

/// A guest's place in the room. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Place<G, H> {
    room: Arc<Room<G, H>>,
    id: Id,
}

impl<G, H> Place<G, H> {
    /// Marks the guest idle for as long as the result lives. `handle` evicts it.
    pub(crate) fn idle(&self, network: Network, handle: H) -> Idle<'_, G, H> {
        self.room.lock().slots.becomes_idle(self.id, network, handle);
        Idle { place: self }
    }

    /// Marks the guest idle until it leaves.
    pub(crate) fn stays_idle(&self, network: Network, handle: H) {
        self.room.lock().slots.becomes_idle(self.id, network, handle);
    }

    /// Marks the guest active for good: it has a whole request that waits for the connector. If it was evicted
    /// before, it keeps its thread, so the room evicts another guest for the one in the queue.
    pub(crate) fn stays_active(&self) {
        let mut state = self.room.lock();
        let was_evicted = state.slots.stays(self.id);
        let other = if was_evicted && !state.queue.is_empty() { state.evict_served() } else { None };
        if was_evicted {
            // The room may be crowded no longer.
            self.room.notify_left(&state);
        }
        drop(state);
        if let Some(other) = other {
            (self.room.end_reading)(&other);
        }
    }

    /// Whether the guest was evicted.
    pub(crate) fn is_evicted(&self) -> bool {
        self.room.lock().slots.is_evicted(self.id)
    }

    /// Whether [`Room::close`] has been called.
    pub(crate) fn is_closing(&self) -> bool {
        self.room.is_closing()
    }
}

impl<G, H> Drop for Place<G, H> {
    fn drop(&mut self) {
        let mut state = self.room.lock();
        self.room.leave(&mut state, self.id);
    }
}

/// Keeps a guest idle. Dropping it makes the guest active.
#[derive(Debug)]
pub(crate) struct Idle<'a, G, H> {
    place: &'a Place<G, H>,
}

impl<G, H> Drop for Idle<'_, G, H> {
    fn drop(&mut self) {
        let room = &*self.place.room;
        let mut state = room.lock();
        state.slots.becomes_active(self.place.id);
        // A drain waits until no guest is idle.
        room.notify_left(&state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_EVICTING;
    use std::thread;

    const HERE: Network = Network::Loopback;

    type Names = Room<u32, u32>;

    /// An empty room with that many places and two acceptors.
    fn room(capacity: usize) -> Arc<Names> {
        Arc::new(Room::new(capacity, MAX_EVICTING, 2, |_| ()))
    }

    /// Admits an idle guest whose handle is its name.
    fn admit(room: &Names, name: u32) -> Admitted<u32> {
        room.admit(name, room.arrival().0, HERE, Some(name)).unwrap_or_else(|name| panic!("no place for {name}"))
    }

    /// The guests that the room returns after a thread could not be started.
    fn refused(room: &Names) -> Vec<u32> {
        match room.thread_not_started() {
            WithoutThread::NoThread(guests) => guests.into_iter().rev().collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Admits a guest and takes it from the queue, as its new thread would.
    fn serve(room: &Arc<Names>, name: u32) -> Place<u32, u32> {
        assert!(admit(room, name).start_thread);
        let (guest, place) = room.next().unwrap();
        assert_eq!(guest, name);
        place
    }

    #[test]
    fn each_guest_has_a_thread_until_all_places_are_taken() {
        let room = room(3);
        let places: Vec<_> = (0..3).map(|name| serve(&room, name)).collect();
        let admitted = admit(&room, 3);
        assert_eq!((admitted.evicted, admitted.start_thread), (Some(0), false));
        assert!(places[0].is_evicted() && !places[1].is_evicted());
        drop(places);
        assert_eq!(room.next().map(|(name, _)| name), Some(3), "the thread of an evicted guest serves the new one");
    }

    #[test]
    fn a_guest_that_is_being_answered_keeps_its_place() {
        let room = room(2);
        let places: Vec<_> = (0..2).map(|name| serve(&room, name)).collect();
        let idle: Vec<_> = places.iter().enumerate().map(|(name, place)| place.idle(HERE, name as u32)).collect();
        drop(idle);
        assert_eq!(room.admit(2, room.arrival().0, HERE, Some(2)).unwrap_err(), 2);
        let _idle = places[1].idle(HERE, 1);
        assert_eq!(admit(&room, 3).evicted, Some(1));
    }

    #[test]
    fn without_a_new_thread_a_guest_gets_an_evicted_guests_thread_or_is_returned() {
        let room = room(8);
        let first = serve(&room, 1);
        assert!(admit(&room, 2).start_thread);
        assert!(matches!(room.thread_not_started(), WithoutThread::Evict(1)));
        drop(first);
        let (second, _place) = room.next().unwrap();
        assert_eq!(second, 2);
        // The only guest with a thread is active now.
        room.lock().slots.becomes_active(2);
        assert!(room.admit(3, room.arrival().0, HERE, None).unwrap().start_thread);
        assert!(matches!(room.thread_not_started(), WithoutThread::NoThread(_)));
        let state = room.lock();
        assert_eq!((state.threads, state.slots.open(), state.queue.len()), (1, 1, 0));
    }

    #[test]
    fn the_first_guest_without_a_thread_is_returned() {
        let room = room(8);
        assert!(admit(&room, 1).start_thread);
        assert!(matches!(room.thread_not_started(), WithoutThread::NoThread(_)));
        let state = room.lock();
        assert_eq!((state.threads, state.slots.open()), (0, 0));
    }

    #[test]
    fn a_queued_guest_is_not_evicted_for_its_thread() {
        let room = room(8);
        assert!(admit(&room, 1).start_thread);
        assert!(admit(&room, 2).start_thread);
        // The thread for the first guest may still come.
        assert_eq!(refused(&room), [2]);
        assert_eq!(refused(&room), [1]);
        assert_eq!(room.lock().slots.open(), 0);
    }

    #[test]
    fn without_any_thread_every_queued_guest_is_returned() {
        let room = room(1);
        assert!(admit(&room, 1).start_thread);
        let admitted = admit(&room, 2);
        assert_eq!((admitted.evicted, admitted.start_thread), (Some(1), false), "the first guest's thread serves both");
        assert_eq!(refused(&room), [1, 2]);
        let state = room.lock();
        assert_eq!((state.threads, state.slots.open(), state.queue.len()), (0, 0, 0));
    }

    #[test]
    fn a_waiting_thread_takes_the_next_guest() {
        let room = room(8);
        assert!(admit(&room, 1).start_thread);
        thread::scope(|scope| {
            let served = scope.spawn(|| [room.next(), room.next()].map(|next| next.map(|(name, _)| name)));
            while room.lock().waiting_threads == 0 {
                thread::yield_now();
            }
            assert!(!admit(&room, 2).start_thread);
            assert_eq!(served.join().unwrap(), [Some(1), Some(2)]);
            assert!(admit(&room, 3).start_thread, "no thread waits any longer");
        });
    }

    #[test]
    fn draining_evicts_idle_guests_and_waits_until_all_have_left() {
        let room = room(8);
        let places: Vec<_> = (1..4).map(|name| serve(&room, name)).collect();
        room.lock().slots.becomes_active(2);
        room.close();
        (0..2).for_each(|_| room.acceptor_left());
        assert_eq!(room.evict_idle_by(Instant::now()), [1, 3]);
        thread::scope(|scope| {
            let ended = scope.spawn(|| room.wait_until_empty(Instant::now() + Duration::from_secs(60)));
            drop(places);
            (0..3).for_each(|_| assert!(room.next().is_none()));
            ended.join().unwrap();
        });
        let state = room.lock();
        assert_eq!((state.threads, state.slots.open()), (0, 0));
    }

    /// Whether it takes all the time it may.
    fn takes_its_time(wait: impl Fn(Duration)) -> bool {
        const SHORT: Duration = Duration::from_millis(20);
        let start = Instant::now();
        wait(SHORT);
        start.elapsed() >= SHORT
    }

    #[test]
    fn acceptors_wait_for_guests_that_were_told_to_go() {
        let room = room(MAX_EVICTING);
        let mut places: Vec<_> = (0..MAX_EVICTING).map(|name| serve(&room, name as u32)).collect();
        for _ in 1..MAX_EVICTING {
            assert!(room.evict_one().0.is_some());
            // Returns at once.
            room.wait_while_crowded(Duration::from_secs(3600));
        }
        let (last, departures) = room.evict_one();
        assert!(last.is_some());
        assert!(takes_its_time(|timeout| room.wait_while_crowded(timeout)));
        assert!(takes_its_time(|timeout| room.wait_for_departure(departures, timeout)));
        places.pop();
        room.wait_while_crowded(Duration::from_secs(3600));
        room.wait_for_departure(departures, Duration::from_secs(3600));
    }

    #[test]
    fn a_room_that_closes_waits_for_no_departure() {
        let room = room(2);
        room.close();
        room.wait_for_departure(room.evict_one().1, Duration::from_secs(3600));
        assert!(room.is_closing());
    }

    #[test]
    fn drain_waits_for_each_acceptor() {
        let room = room(2);
        for _ in 0..2 {
            assert!(!room.wait_for_acceptors(Duration::ZERO));
            assert!(takes_its_time(|timeout| room.wait_until_empty(Instant::now() + timeout)));
            assert!(takes_its_time(|timeout| assert!(room.evict_idle_by(Instant::now() + timeout).is_empty())));
            room.acceptor_left();
        }
        assert!(room.wait_for_acceptors(Duration::ZERO));
        room.wait_until_empty(Instant::now() + Duration::from_secs(3600));
    }

    #[test]
    fn few_guests_are_idle_until_many_wait_for_their_clients() {
        let room = room(8);
        let mut places = Vec::new();
        for name in 0..FEW_IDLE {
            assert!(room.arrival().1, "{name}");
            places.push(serve(&room, name as u32));
        }
        assert!(!room.arrival().1);
        places.pop();
        assert!(room.arrival().1);
    }

    #[test]
    fn guests_are_evicted_by_their_arrival_and_not_by_their_admission() {
        let room = room(2);
        let [first, second, third, fourth] = std::array::from_fn(|_| room.arrival().0);
        // The first guest had the most time for its head, then the third.
        assert!(room.admit(2, second, HERE, Some(2)).unwrap().start_thread);
        assert!(room.admit(4, fourth, HERE, Some(4)).unwrap().start_thread);
        assert_eq!(room.admit(3, third, HERE, Some(3)).unwrap().evicted, Some(2));
        assert_eq!(room.admit(1, first, HERE, Some(1)).unwrap().evicted, Some(3));
        assert_eq!(room.admit(5, room.arrival().0, HERE, Some(5)).unwrap().evicted, Some(1));
    }

    #[test]
    fn a_departure_is_noticed_after_the_place_is_taken_again() {
        let room = room(1);
        let place = serve(&room, 1);
        let (evicted, departures) = room.evict_one();
        assert_eq!(evicted, Some(1));
        let admitted = admit(&room, 2);
        assert!(admitted.evicted.is_none());
        assert!(!admitted.start_thread, "there are as many threads as places, and one is about to be free");
        drop(place);
        // This returns at once, since the guest has already left.
        room.wait_for_departure(departures, Duration::from_secs(3600));
    }

    #[test]
    fn if_no_thread_starts_no_guest_stays_in_the_queue() {
        let room = room(8);
        assert!(admit(&room, 1).start_thread && admit(&room, 2).start_thread);
        let refused = [room.thread_not_started(), room.thread_not_started()];
        let state = room.lock();
        assert_eq!((state.threads, state.slots.open(), state.queue.len()), (0, 0, 0), "{refused:?}");
    }

    #[test]
    fn without_a_thread_a_guest_with_a_request_gets_the_thread_of_an_idle_one() {
        let room = room(8);
        let _stalled = serve(&room, 1);
        assert!(room.admit(2, room.arrival().0, HERE, None).unwrap().start_thread);
        assert!(matches!(room.thread_not_started(), WithoutThread::Evict(1)));
    }

    #[test]
    fn an_evicted_guest_with_a_request_no_longer_counts_as_evicting() {
        static TOLD: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let room = Arc::new(Room::new(2, MAX_EVICTING, 2, |name: &u32| TOLD.store(*name, std::sync::atomic::Ordering::Relaxed)));
        let places: Vec<_> = (1..3).map(|name| serve(&room, name)).collect();
        assert_eq!(admit(&room, 3).evicted, Some(1));
        places[0].stays_active();
        assert_eq!(TOLD.load(std::sync::atomic::Ordering::Relaxed), 2, "the thread of another one is for the guest in the queue");
        assert_eq!(room.lock().slots.evicting(), 1);
    }

    #[test]
    fn an_evicted_guest_with_a_request_ends_the_wait_of_a_crowded_acceptor() {
        let room = Arc::new(Room::new(2, 1, 2, |_| ()));
        let place = serve(&room, 1);
        assert_eq!(room.evict_one().0, Some(1));
        thread::scope(|scope| {
            let acceptor = scope.spawn(|| room.wait_while_crowded(Duration::from_secs(3600)));
            while room.lock().waiting_for_left == 0 {
                thread::yield_now();
            }
            place.stays_active();
            acceptor.join().unwrap();
        });
    }

    #[test]
    fn drain_waits_for_idle_guests_and_then_for_active_ones() {
        let room = room(2);
        let place = serve(&room, 1);
        room.close();
        (0..2).for_each(|_| room.acceptor_left());
        assert!(takes_its_time(|timeout| assert_eq!(room.evict_idle_by(Instant::now() + timeout), [1])));
        assert!(takes_its_time(|timeout| room.wait_until_empty(Instant::now() + timeout)), "the evicted guest is still there");
        drop(place);
        assert!(takes_its_time(|timeout| room.wait_until_empty(Instant::now() + timeout)), "its thread is still there");
        assert!(room.next().is_none());
        room.wait_until_empty(Instant::now() + Duration::from_secs(3600));
    }

    #[test]
    fn a_guest_with_a_request_evicts_another_only_if_it_was_evicted_for_one_in_the_queue() {
        fn nobody(name: &u32) {
            panic!("{name} was told to go");
        }
        let room = Arc::new(Room::new(2, MAX_EVICTING, 2, nobody));
        let places: Vec<_> = (1..3).map(|name| serve(&room, name)).collect();
        assert_eq!(room.evict_one().0, Some(1));
        places[0].stays_active();
        assert_eq!(admit(&room, 3).evicted, Some(2));
        places[0].stays_active();
        assert_eq!(room.lock().queue.len(), 1);
    }
}
