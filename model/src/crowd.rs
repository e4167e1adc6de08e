//! A crowd of clients, and the acceptors and threads that serve them: what the product's acceptor, connection
//! and drain do with the room, on sockets that are only a few flags.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use shuttle::sync::atomic::AtomicBool;

use crate::check::{self, Count, choose, ensure};
use crate::limits::{BACKOFF, DRAIN_GRACE, MAX_EVICTING, ON_ACCEPTOR_TIMEOUT};
use crate::server::room::{Place, Room, WithoutThread};
use crate::server::slots::Network;
use crate::spawn::spawn;
use crate::sync::{Condvar, Instant, Mutex, MutexGuard, Ordering, sleep};

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Its request comes with its connection.
    Quick,
    /// Its request comes so much later.
    Slow(Duration),
    /// Its request never comes.
    Stalled,
    /// It has its answer, and stays.
    Clinging,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    /// There was no place or no thread for it, or the server had ended.
    Refused,
    /// Its request did not come in time, or it had to go.
    Dropped,
}

#[derive(Default)]
struct Flags {
    request: bool,
    gone: bool,
    told_to_go: usize,
    outcome: Option<Outcome>,
}

/// A client's connection.
pub(crate) struct Socket {
    pub(crate) habit: Habit,
    pub(crate) came: Instant,
    network: Network,
    flags: Mutex<Flags>,
    changed: Condvar,
}

impl Socket {
    fn lock(&self) -> MutexGuard<'_, Flags> {
        self.flags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, set: impl FnOnce(&mut Flags)) {
        set(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait(&self, timeout: Duration, done: impl Fn(&Flags) -> bool) -> MutexGuard<'_, Flags> {
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, |flags| !done(flags));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits for the request. One that has arrived counts, even if the connection was told to go.
    fn read(&self, timeout: Duration) -> bool {
        self.wait(timeout, |flags| flags.request || flags.told_to_go > 0).request
    }

    fn end(&self, outcome: Outcome) {
        self.set(|flags| {
            ensure!(flags.outcome.is_none(), "{:?} is {outcome:?} after {:?}", self.habit, flags.outcome);
            flags.outcome = Some(outcome);
        });
    }

    fn evict(&self) {
        self.set(|flags| {
            flags.told_to_go += 1;
            ensure!(flags.told_to_go == 1, "{:?} was told to go twice", self.habit);
        });
    }

    /// The client's life; returns how long it waited, and for what. One that is forgotten ends the run, since
    /// no time ends its wait.
    fn live(&self) -> (Duration, Outcome) {
        if let Habit::Slow(time) = self.habit {
            sleep(time);
        }
        if self.habit != Habit::Stalled {
            self.set(|flags| flags.request = true);
        }
        let ended = self.changed.wait_while(self.lock(), |flags| flags.outcome.is_none());
        let outcome = ended.unwrap_or_else(PoisonError::into_inner).outcome;
        let waited = self.came.elapsed();
        if self.habit != Habit::Clinging {
            self.set(|flags| flags.gone = true);
        }
        (waited, outcome.unwrap_or(Outcome::Dropped))
    }
}

type Guest = Arc<Socket>;

/// The listening socket: a queue of connections that are not accepted yet.
#[derive(Default)]
struct Backlog {
    queue: VecDeque<Guest>,
    closed: bool,
}

/// A server with as many acceptors as the product has.
pub(crate) struct Server {
    pub(crate) room: Arc<Room<Guest, Guest>>,
    backlog: Mutex<Backlog>,
    arrived: Condvar,
    capacity: usize,
    pub(crate) request_timeout: Duration,
    /// How long an answer takes.
    work: Duration,
    /// Of so many attempts to accept one finds no descriptor; zero: none does.
    one_fails_of: usize,
    alone: AtomicBool,
    threads: Count,
    pub(crate) evicted: Count,
    pub(crate) refused: Count,
}

pub(crate) const ACCEPTORS: usize = 2;

impl Server {
    pub(crate) fn start(capacity: usize, work: Duration, one_fails_of: usize) -> Arc<Server> {
        let server = Arc::new(Server {
            room: Arc::new(Room::new(capacity, MAX_EVICTING, ACCEPTORS, |other: &Guest| other.evict())),
            backlog: Mutex::default(),
            arrived: Condvar::new(),
            capacity,
            request_timeout: Duration::from_secs(5),
            work,
            one_fails_of,
            alone: AtomicBool::new(false),
            threads: Count::default(),
            evicted: Count::default(),
            refused: Count::default(),
        });
        for _ in 0..ACCEPTORS {
            let server = Arc::clone(&server);
            check::thread(move || server.accept_all());
        }
        server
    }

    /// A client connects, on a thread of its own. `judge` gets how long it waited and what came of it.
    pub(crate) fn client(self: &Arc<Self>, habit: Habit, network: Network, judge: fn(Habit, Duration, Outcome)) {
        let server = Arc::clone(self);
        check::thread(move || {
            let (came, flags) = (Instant::now(), Flags { request: habit == Habit::Quick, ..Flags::default() });
            let socket = Arc::new(Socket { habit, came, network, flags: Mutex::new(flags), changed: Condvar::new() });
            if server.connect(&socket) {
                let (waited, outcome) = socket.live();
                judge(habit, waited, outcome);
            }
        });
    }

    /// False if the server does not listen any longer.
    fn connect(&self, socket: &Guest) -> bool {
        let mut backlog = self.backlog();
        if !backlog.closed {
            backlog.queue.push_back(Arc::clone(socket));
        }
        let listens = !backlog.closed;
        drop(backlog);
        self.arrived.notify_one();
        listens
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(&self) -> Option<Guest> {
        let waited = self.arrived.wait_while(self.backlog(), |backlog| backlog.queue.is_empty() && !backlog.closed);
        waited.unwrap_or_else(PoisonError::into_inner).queue.pop_front()
    }

    fn accept_all(self: Arc<Self>) {
        loop {
            let before = Instant::now();
            self.room.wait_while_crowded(BACKOFF);
            ensure!(crate::rooms::late() || before.elapsed() == Duration::ZERO, "waited although all who had to go could");
            if self.one_fails_of > 0 && choose(self.one_fails_of) == 0 && !self.room.is_closing() {
                self.out_of_descriptors();
                continue;
            }
            let accepted = self.accept();
            if self.room.is_closing() {
                if let Some(socket) = accepted {
                    socket.end(Outcome::Refused);
                }
                break;
            }
            if let Some(socket) = accepted {
                self.hand_over(socket);
            }
        }
        self.room.acceptor_left();
    }

    fn out_of_descriptors(&self) {
        let (oldest, departures) = self.room.evict_one();
        let before = Instant::now();
        // One that is told to go goes at once.
        let bound = if oldest.is_some() { Duration::ZERO } else { BACKOFF };
        if let Some(oldest) = oldest {
            self.evicted.add();
            oldest.evict();
        }
        self.room.wait_for_departure(departures, BACKOFF);
        ensure!(crate::rooms::late() || before.elapsed() <= bound, "waited {:?} for a descriptor", before.elapsed());
    }

    fn hand_over(self: &Arc<Self>, socket: Guest) {
        let waits_for_client = !socket.lock().request;
        let handle = waits_for_client.then(|| Arc::clone(&socket));
        let admitted = match self.room.admit(socket, self.room.arrival().0, self.network_of(&handle), handle.clone()) {
            Ok(admitted) => admitted,
            Err(socket) => {
                self.refused.add();
                return socket.end(Outcome::Refused);
            }
        };
        let (evicted, starts) = (admitted.evicted, admitted.start_thread);
        check::note(|| {
            format!("admitted, a thread is started: {starts}, evicted: {:?}", evicted.as_ref().map(|other| other.habit))
        });
        if let Some(other) = evicted {
            self.evicted.add();
            other.evict();
        }
        if starts {
            let server = Arc::clone(self);
            if spawn("health-wait", Box::new(move || server.serve_guests())).is_err() {
                self.without_thread();
            }
        }
    }

    fn network_of(&self, handle: &Option<Guest>) -> Network {
        handle.as_ref().map_or(Network::Loopback, |socket| socket.network)
    }

    fn without_thread(&self) {
        check::note(|| "a thread did not start".into());
        match self.room.thread_not_started() {
            WithoutThread::Served => {}
            WithoutThread::Evict(other) => {
                self.evicted.add();
                other.evict();
            }
            WithoutThread::NoThread(sockets) => sockets.iter().rev().for_each(|socket| self.serve_alone(socket)),
        }
    }

    fn serve_alone(&self, socket: &Guest) {
        if self.alone.swap(true, Ordering::Relaxed) {
            self.refused.add();
            socket.end(Outcome::Refused);
        } else {
            self.answer(socket, socket.read(ON_ACCEPTOR_TIMEOUT));
            self.alone.store(false, Ordering::Relaxed);
        }
    }

    fn serve_guests(self: Arc<Self>) {
        let threads = self.threads.add();
        ensure!(threads <= self.capacity, "{threads} threads for {} places", self.capacity);
        let mut last = Instant::now();
        while let Some((socket, place)) = self.room.next() {
            self.serve(&socket, &place);
            drop(place);
            last = Instant::now();
        }
        ensure!(
            crate::rooms::late() || last.elapsed() <= crate::limits::THREAD_IDLE,
            "a thread without a guest stayed for {:?}",
            last.elapsed()
        );
        self.threads.sub();
    }

    fn serve(&self, socket: &Guest, place: &Place<Guest, Guest>) {
        let timeout = || if place.is_closing() { DRAIN_GRACE } else { self.request_timeout };
        let idle = place.idle(socket.network, Arc::clone(socket));
        let read = socket.read(timeout());
        drop(idle);
        self.answer(socket, read);
        if read {
            place.stays_idle(socket.network, Arc::clone(socket));
            drop(socket.wait(timeout(), |flags| flags.gone || flags.told_to_go > 0));
        }
    }

    fn answer(&self, socket: &Socket, read: bool) {
        if read {
            sleep(self.work);
        }
        check::note(|| format!("{:?} is answered: {read}", socket.habit));
        socket.end(if read { Outcome::Answered } else { Outcome::Dropped });
    }

    /// Finishes as the product does; returns how long that took.
    pub(crate) fn drain(&self, timeout: Duration) -> Duration {
        let start = Instant::now();
        let deadline = start + timeout;
        self.room.close();
        let left: Vec<Guest> = {
            let mut backlog = self.backlog();
            backlog.closed = true;
            backlog.queue.drain(..).collect()
        };
        self.arrived.notify_all();
        left.iter().for_each(|socket| socket.end(Outcome::Refused));
        let idle = self.room.evict_idle_by(deadline.min(Instant::now() + DRAIN_GRACE));
        idle.iter().for_each(|socket| socket.evict());
        self.room.wait_until_empty(deadline);
        start.elapsed()
    }
}
