//! The waiting room: connections that wait for their client or for the connector, and the threads that
//! serve them. It opens no sockets and starts no threads; it says when one is needed.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::slots::{Id, Network, Slots};
use crate::limits::{FEW_IDLE, MAX_EVICTING, THREAD_IDLE};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard};

/// `G` is a guest of the room, `H` is what it takes to evict one.
#[derive(Debug)]
pub(crate) struct Room<G, H> {
    state: Mutex<State<G, H>>,
    /// A guest is queued, or the room closes.
    queued: Condvar,
    /// A guest or a thread has left.
    left: Condvar,
}

#[derive(Debug)]
struct State<G, H> {
    slots: Slots<H>,
    queue: VecDeque<(G, Id)>,
    /// Threads that serve guests, or wait for one.
    threads: usize,
    waiting_threads: usize,
    acceptors: usize,
    /// Counts the guests that have left.
    departures: u64,
    closing: bool,
}

/// What has to be done for a guest that was admitted.
#[derive(Debug)]
#[must_use]
pub(crate) struct Admitted<H> {
    /// Tell this guest to go: the new one has its place.
    pub(crate) evicted: Option<H>,
    /// Start a thread, which is already counted, or call [`Room::thread_not_started`].
    pub(crate) start_thread: bool,
}

/// What becomes of the newest guest when the thread for it cannot be started.
#[derive(Debug)]
pub(crate) enum WithoutThread<G, H> {
    /// Another guest has to go, and its thread serves the new one.
    Evict(H),
    /// No thread will be free for it: the guest comes back. More may come from [`Room::next_without_thread`].
    Refused(G),
    /// A thread has taken the guest already.
    Served,
}

impl<G, H> Room<G, H> {
    pub(crate) fn new(capacity: usize, acceptors: usize) -> Room<G, H> {
        let state = State {
            slots: Slots::new(capacity),
            queue: VecDeque::new(),
            threads: 0,
            waiting_threads: 0,
            acceptors,
            departures: 0,
            closing: false,
        };
        Room { state: Mutex::new(state), queued: Condvar::new(), left: Condvar::new() }
    }

    /// Queues a guest for a thread. At capacity an idle guest is evicted; if there is none, the new one
    /// comes back. With a `handle` the guest is idle from now on, so it can be evicted while queued.
    pub(crate) fn admit(&self, guest: G, network: Network, handle: Option<H>) -> Result<Admitted<H>, G> {
        let mut state = self.lock();
        let evicted = if state.slots.is_full() { state.slots.evict(&|_| true) } else { None };
        let Some(id) = state.slots.enter() else { return Err(guest) };
        if let Some(handle) = handle {
            state.slots.becomes_idle(id, network, handle);
        }
        state.queue.push_back((guest, id));
        // With as many threads as places, and with a guest evicted, a thread is about to be free.
        let may_start = evicted.is_none() && state.threads < state.slots.capacity();
        let start_thread = may_start && state.queue.len() > state.waiting_threads;
        if start_thread {
            state.threads += 1;
        } else if state.waiting_threads > 0 {
            self.queued.notify_one();
        }
        Ok(Admitted { evicted, start_thread })
    }

    /// The thread for the newest guest could not be started.
    pub(crate) fn thread_not_started(&self) -> WithoutThread<G, H> {
        let mut state = self.lock();
        state.threads -= 1;
        self.left.notify_all();
        if state.queue.is_empty() {
            return WithoutThread::Served;
        }
        let State { slots, queue, .. } = &mut *state;
        // Only a guest that a thread serves frees one.
        if let Some(evicted) = slots.evict(&|id| queue.iter().all(|(_, queued)| *queued != id)) {
            return WithoutThread::Evict(evicted);
        }
        let newest = state.queue.pop_back();
        self.refuse(&mut state, newest).map_or(WithoutThread::Served, WithoutThread::Refused)
    }

    /// A guest that waits for a thread although none is left, which happens when those of several guests could
    /// not be started.
    pub(crate) fn next_without_thread(&self) -> Option<G> {
        let mut state = self.lock();
        let oldest = if state.threads == 0 { state.queue.pop_front() } else { None };
        self.refuse(&mut state, oldest)
    }

    fn refuse(&self, state: &mut State<G, H>, queued: Option<(G, Id)>) -> Option<G> {
        let (guest, id) = queued?;
        self.leave(state, id);
        Some(guest)
    }

    /// The next guest for a thread of the room; `None` tells the thread to end, and it is not counted any
    /// longer.
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
                self.left.notify_all();
                return None;
            }
        }
    }

    /// Whether few guests wait for their clients: then most clients are quick.
    pub(crate) fn few_are_idle(&self) -> bool {
        self.lock().slots.idle() < FEW_IDLE
    }

    /// Waits while many guests that were told to go have not gone yet, for at most `timeout`.
    pub(crate) fn wait_while_crowded(&self, timeout: Duration) {
        let state = self.lock();
        if state.slots.evicting() >= MAX_EVICTING {
            drop(self.wait_until(state, Instant::now() + timeout, |state| state.slots.evicting() < MAX_EVICTING));
        }
    }

    /// Takes the place of an idle guest, which has to be told to go. Returns it, and what
    /// [`Room::wait_for_departure`] takes to notice that it has gone.
    pub(crate) fn evict(&self) -> (Option<H>, u64) {
        let mut state = self.lock();
        (state.slots.evict(&|_| true), state.departures)
    }

    /// Waits until a guest has left since [`Room::evict`], for at most `timeout`.
    pub(crate) fn wait_for_departure(&self, since: u64, timeout: Duration) {
        let done = |state: &State<G, H>| state.departures != since || state.closing;
        drop(self.wait_until(self.lock(), Instant::now() + timeout, done));
    }

    /// From now on threads end when no guest is queued.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.queued.notify_all();
        self.left.notify_all();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// An acceptor ends.
    pub(crate) fn acceptor_left(&self) {
        self.lock().acceptors -= 1;
        self.left.notify_all();
    }

    /// Waits until no acceptor is left, for at most `timeout`; says whether that is so.
    pub(crate) fn wait_for_acceptors(&self, timeout: Duration) -> bool {
        self.wait_until(self.lock(), Instant::now() + timeout, |state| state.acceptors == 0).acceptors == 0
    }

    /// Waits until no guest is idle and no acceptor may bring one, or until `deadline`; then evicts those
    /// who still are.
    pub(crate) fn wait_for_idle(&self, deadline: Instant) -> Vec<H> {
        self.wait_until(self.lock(), deadline, |state| state.slots.idle() == 0 && state.acceptors == 0).slots.evict_all()
    }

    /// Waits until guests, threads and acceptors have left, or until `deadline`.
    pub(crate) fn wait_until_empty(&self, deadline: Instant) {
        let empty = |state: &State<G, H>| state.slots.open() == 0 && state.threads == 0 && state.acceptors == 0;
        drop(self.wait_until(self.lock(), deadline, empty));
    }

    fn wait_until<'a>(
        &'a self,
        state: MutexGuard<'a, State<G, H>>,
        deadline: Instant,
        done: impl Fn(&State<G, H>) -> bool,
    ) -> MutexGuard<'a, State<G, H>> {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let waited = self.left.wait_timeout_while(state, timeout, |state| !done(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn leave(&self, state: &mut State<G, H>, id: Id) {
        state.slots.leave(id);
        state.departures += 1;
        self.left.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<G, H>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guest's place in the room, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<G, H> {
    room: Arc<Room<G, H>>,
    id: Id,
}

impl<G, H> Place<G, H> {
    /// The guest waits for its client for as long as the result lives: `handle` is what it takes to evict it.
    pub(crate) fn idle(&self, network: Network, handle: H) -> Idle<'_, G, H> {
        self.room.lock().slots.becomes_idle(self.id, network, handle);
        Idle { place: self }
    }

    /// The guest waits for its client from now on, until it leaves.
    pub(crate) fn stays_idle(&self, network: Network, handle: H) {
        self.room.lock().slots.becomes_idle(self.id, network, handle);
    }

    /// The guest was told to go.
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

/// A guest waits for its client; it is active again when this is dropped.
#[derive(Debug)]
pub(crate) struct Idle<'a, G, H> {
    place: &'a Place<G, H>,
}

impl<G, H> Drop for Idle<'_, G, H> {
    fn drop(&mut self) {
        self.place.room.lock().slots.becomes_active(self.place.id);
        // Draining waits for that.
        self.place.room.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const HERE: Network = Network::Loopback;

    type Names = Room<u32, u32>;

    /// A room with that many places, and nobody in it but two acceptors.
    fn room(capacity: usize) -> Arc<Names> {
        Arc::new(Room::new(capacity, 2))
    }

    /// Admits an idle guest; its handle is its name.
    fn admit(room: &Names, name: u32) -> Admitted<u32> {
        room.admit(name, HERE, Some(name)).unwrap_or_else(|name| panic!("no place for {name}"))
    }

    /// Admits a guest, and takes it on as the thread that is started for it would.
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
        assert_eq!(room.admit(2, HERE, Some(2)).unwrap_err(), 2);
        let _idle = places[1].idle(HERE, 1);
        assert_eq!(admit(&room, 3).evicted, Some(1));
    }

    #[test]
    fn without_a_thread_a_guest_gets_the_thread_of_another_or_comes_back() {
        let room = room(8);
        let first = serve(&room, 1);
        assert!(admit(&room, 2).start_thread);
        assert!(matches!(room.thread_not_started(), WithoutThread::Evict(1)));
        drop(first);
        let (second, _place) = room.next().unwrap();
        assert_eq!(second, 2);
        // The only guest with a thread is active now.
        room.lock().slots.becomes_active(2);
        assert!(room.admit(3, HERE, None).unwrap().start_thread);
        assert!(matches!(room.thread_not_started(), WithoutThread::Refused(3)));
        let state = room.lock();
        assert_eq!((state.threads, state.slots.open(), state.queue.len()), (1, 1, 0));
    }

    #[test]
    fn the_first_guest_without_a_thread_comes_back() {
        let room = room(8);
        assert!(admit(&room, 1).start_thread);
        assert!(matches!(room.thread_not_started(), WithoutThread::Refused(1)));
        let state = room.lock();
        assert_eq!((state.threads, state.slots.open()), (0, 0));
    }

    #[test]
    fn a_guest_that_is_evicted_for_an_active_one_is_told_so() {
        let room = room(8);
        let _idle = serve(&room, 1);
        assert!(room.admit(2, HERE, None).unwrap().start_thread);
        assert!(matches!(room.thread_not_started(), WithoutThread::Evict(1)));
    }

    #[test]
    fn a_guest_that_waits_for_a_thread_too_frees_none() {
        let room = room(8);
        assert!(admit(&room, 1).start_thread);
        assert!(admit(&room, 2).start_thread);
        // The thread for the first guest may still come.
        assert!(matches!(room.thread_not_started(), WithoutThread::Refused(2)));
        assert!(room.next_without_thread().is_none());
        assert!(matches!(room.thread_not_started(), WithoutThread::Refused(1)));
        assert!(room.next_without_thread().is_none());
        assert_eq!(room.lock().slots.open(), 0);
    }

    #[test]
    fn without_any_thread_every_queued_guest_comes_back() {
        let room = room(1);
        assert!(admit(&room, 1).start_thread);
        let admitted = admit(&room, 2);
        assert_eq!((admitted.evicted, admitted.start_thread), (Some(1), false), "the thread of the first serves both");
        assert!(matches!(room.thread_not_started(), WithoutThread::Refused(2)));
        assert_eq!(room.next_without_thread(), Some(1));
        assert_eq!(room.next_without_thread(), None);
        let state = room.lock();
        assert_eq!((state.threads, state.slots.open(), state.queue.len()), (0, 0, 0));
    }

    #[test]
    fn a_thread_that_waits_takes_the_next_guest() {
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
    fn draining_evicts_those_who_are_idle_and_waits_for_the_others() {
        let room = room(8);
        let places: Vec<_> = (1..4).map(|name| serve(&room, name)).collect();
        room.lock().slots.becomes_active(2);
        room.close();
        (0..2).for_each(|_| room.acceptor_left());
        assert_eq!(room.wait_for_idle(Instant::now()), [1, 3]);
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
            assert!(room.evict().0.is_some());
            // Returns at once.
            room.wait_while_crowded(Duration::from_secs(3600));
        }
        let (last, departures) = room.evict();
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
        room.wait_for_departure(room.evict().1, Duration::from_secs(3600));
        assert!(room.is_closing());
    }

    #[test]
    fn drain_waits_for_each_acceptor() {
        let room = room(2);
        for _ in 0..2 {
            assert!(!room.wait_for_acceptors(Duration::ZERO));
            assert!(takes_its_time(|timeout| room.wait_until_empty(Instant::now() + timeout)));
            assert!(takes_its_time(|timeout| assert!(room.wait_for_idle(Instant::now() + timeout).is_empty())));
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
            assert!(room.few_are_idle(), "{name}");
            places.push(serve(&room, name as u32));
        }
        assert!(!room.few_are_idle());
        places.pop();
        assert!(room.few_are_idle());
    }

    #[test]
    fn a_departure_is_noticed_although_its_place_is_taken_again() {
        let room = room(1);
        let place = serve(&room, 1);
        let (evicted, departures) = room.evict();
        assert_eq!(evicted, Some(1));
        let admitted = admit(&room, 2);
        assert!(admitted.evicted.is_none());
        assert!(!admitted.start_thread, "there are as many threads as places, and one is about to be free");
        drop(place);
        // Returns at once: the guest left before anybody waited.
        room.wait_for_departure(departures, Duration::from_secs(3600));
    }
}
