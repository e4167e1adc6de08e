//! The accept loop: an acceptor answers at once what needs no waiting, and hands over everything else.

use std::io;
use std::mem;
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connection::{Connection, Patience, Stop, WaitingRoom};
use super::listener::Meaning;
use super::room::WithoutThread;
use super::validation::{CheckError, Checks};
use crate::limits::{ALONE_TIMEOUT, BACKOFF, CALM, HEAD_GRACE, MAX_UNKNOWN_ERRORS};
use crate::log::{Event, Log};
use crate::spawn::spawn;

/// What all acceptors and all threads of the waiting room share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) room: Arc<WaitingRoom>,
    pub(crate) checks: Arc<Checks>,
    pub(crate) log: Log,
    pub(crate) request_timeout: Duration,
    exhaustion: Exhaustion,
    /// It has been logged that no connections can be accepted any more.
    failed: AtomicBool,
    /// An acceptor serves a connection for which there is no thread.
    alone: AtomicBool,
}

impl Service {
    pub(crate) fn new(room: WaitingRoom, checks: Checks, log: Log, request_timeout: Duration) -> Service {
        Service {
            room: Arc::new(room),
            checks: Arc::new(checks),
            log,
            request_timeout,
            exhaustion: Exhaustion::default(),
            failed: AtomicBool::new(false),
            alone: AtomicBool::new(false),
        }
    }

    /// Starts an acceptor, which is counted already.
    pub(crate) fn start_acceptor(self: &Arc<Self>, listener: Arc<TcpListener>) -> io::Result<()> {
        let service = Arc::clone(self);
        spawn("health", Box::new(move || service.accept_all(listener)))
    }

    /// An acceptor's life.
    fn accept_all(self: Arc<Self>, listener: Arc<TcpListener>) {
        let mut unknown_errors = 0;
        loop {
            self.room.wait_while_crowded(BACKOFF);
            match listener.accept() {
                _ if self.room.is_closing() => break,
                Ok((stream, peer)) => {
                    unknown_errors = 0;
                    let accepted = panic::catch_unwind(AssertUnwindSafe(|| self.accepted(stream, peer.ip())));
                    accepted.unwrap_or_else(mem::forget);
                }
                Err(error) if self.can_go_on(&error, &mut unknown_errors) => {}
                Err(error) => {
                    if !self.failed.swap(true, Ordering::Relaxed) {
                        self.log.emit(&Event::ListenerFailed { error: &error });
                    }
                    break;
                }
            }
        }
        // The socket is closed before anything that waits for this acceptor goes on.
        drop(listener);
        self.room.acceptor_left();
    }

    fn accepted(self: &Arc<Self>, stream: TcpStream, peer: IpAddr) {
        let now = Instant::now();
        let mut connection = Connection::new(stream, peer, self.request_timeout);
        // While many clients stall, the head of one more will not come in a moment either.
        let grace = if self.room.few_are_idle() { HEAD_GRACE } else { Duration::ZERO };
        if connection.serve(&self.checks, Patience::Brief(now + grace)) == Err(Stop::MustWait) {
            self.hand_over(connection);
        }
        if self.exhaustion.is_over() {
            self.log.emit(&Event::Recovered);
        }
    }

    /// Gives a connection that has to wait to a thread of the waiting room. This is the only place where
    /// such a thread is started, and where a connection is evicted in favour of another.
    fn hand_over(self: &Arc<Self>, connection: Connection) {
        let (network, handle) = (connection.network(), connection.idle_handle());
        let admitted = match self.room.admit(connection, network, handle) {
            Ok(admitted) => admitted,
            Err(mut connection) => return connection.refuse_to_wait(&self.checks, &CheckError::Busy),
        };
        if let Some(other) = admitted.evicted {
            evict(&other);
        }
        if admitted.start_thread {
            let service = Arc::clone(self);
            if let Err(error) = spawn("health", Box::new(move || service.serve_guests())) {
                self.without_thread(&error);
            }
        }
    }

    /// The life of a thread of the waiting room.
    fn serve_guests(self: Arc<Self>) {
        while let Some((mut connection, place)) = self.room.next() {
            let served = panic::catch_unwind(AssertUnwindSafe(|| connection.serve(&self.checks, Patience::InRoom(&place))));
            if let Err(payload) = served {
                mem::forget(payload);
            }
            // The socket is closed before the place is given back.
            drop(connection);
        }
    }

    fn without_thread(&self, error: &io::Error) {
        match self.room.thread_not_started() {
            WithoutThread::Served => {}
            WithoutThread::Evict(other) => evict(&other),
            WithoutThread::Refused(connection) => {
                self.serve_alone(connection);
                while let Some(connection) = self.room.next_without_thread() {
                    self.serve_alone(connection);
                }
            }
        }
        self.exhausted("start a thread", error);
    }

    /// Serves a connection for which there is no thread. One acceptor goes on accepting, whatever the other
    /// one does.
    fn serve_alone(&self, mut connection: Connection) {
        if self.alone.swap(true, Ordering::Relaxed) {
            connection.refuse_to_wait(&self.checks, &CheckError::NoThread);
        } else {
            let _ = connection.serve(&self.checks, Patience::Alone(ALONE_TIMEOUT));
            self.alone.store(false, Ordering::Relaxed);
        }
    }

    /// What an error of `accept` means: wait a little and go on, or not.
    fn can_go_on(&self, error: &io::Error, unknown_errors: &mut u32) -> bool {
        match Meaning::of(error) {
            Meaning::Gone => return true,
            Meaning::Failed => return false,
            Meaning::Exhausted => *unknown_errors = 0,
            Meaning::Unknown => *unknown_errors += 1,
        }
        if *unknown_errors >= MAX_UNKNOWN_ERRORS {
            return false;
        }
        let (oldest, departures) = self.room.evict();
        if let Some(connection) = oldest {
            evict(&connection);
        }
        self.exhausted("accept a connection", error);
        self.room.wait_for_departure(departures, BACKOFF);
        true
    }

    fn exhausted(&self, what: &str, error: &io::Error) {
        if self.exhaustion.is_news() {
            self.log.emit(&Event::ResourceExhausted { what, error });
        }
    }
}

/// Tells a connection to go: its thread reads what has arrived, and then the end. So a request that has
/// already arrived is still answered.
pub(crate) fn evict(connection: &TcpStream) {
    // It fails when the client has closed the connection already.
    let _ = connection.shutdown(Shutdown::Read);
}

/// Whether the machine is short of something, so that an episode is logged once and not once for each
/// connection in it.
#[derive(Debug, Default)]
struct Exhaustion {
    on: AtomicBool,
    last: Mutex<Option<Instant>>,
}

impl Exhaustion {
    /// Notes a failed allocation; true if that begins an episode.
    fn is_news(&self) -> bool {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        !self.on.swap(true, Ordering::Relaxed)
    }

    /// True if an episode has just ended: no allocation has failed for a while.
    fn is_over(&self) -> bool {
        if !self.on.load(Ordering::Relaxed) {
            return false;
        }
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let calm = last.is_none_or(|last| last.elapsed() >= CALM);
        calm && self.on.swap(false, Ordering::Relaxed)
    }
}
