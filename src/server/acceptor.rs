//! The accept loop. An acceptor answers requests that need no waiting itself, and hands every other
//! connection over to the waiting room.

use std::io;
use std::mem;
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connection::{Connection, Patience, Unfinished, WaitingRoom};
use super::listener::Meaning;
use super::room::WithoutThread;
use super::slots::Id;
use super::validation::{CheckError, Validation};
use crate::deadline::SHUTDOWN_ENDS_READS;
use crate::event::Event;
use crate::limits::{BACKOFF, CALM, HEAD_GRACE, MANY_GONE, MAX_UNKNOWN_ERRORS, ON_ACCEPTOR_TIMEOUT};
use crate::log::Log;
use crate::spawn::spawn;

/// The state that all acceptors and all threads of the waiting room share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) room: Arc<WaitingRoom>,
    pub(crate) validation: Arc<Validation>,
    pub(crate) log: Log,
    pub(crate) request_timeout: Duration,
    exhaustion: Exhaustion,
    /// The failure of the listener has been logged.
    failed: AtomicBool,
    /// An acceptor does work that may never end. Only one may do that at a time, so that another still accepts.
    busy: AtomicBool,
}

impl Service {
    pub(crate) fn new(room: WaitingRoom, validation: Validation, log: Log, request_timeout: Duration) -> Service {
        Service {
            room: Arc::new(room),
            validation: Arc::new(validation),
            log,
            request_timeout,
            exhaustion: Exhaustion::default(),
            failed: AtomicBool::new(false),
            busy: AtomicBool::new(false),
        }
    }

    /// Starts an acceptor. The room has already counted it.
    pub(crate) fn start_acceptor(self: &Arc<Self>, listener: Arc<TcpListener>) -> io::Result<()> {
        let service = Arc::clone(self);
        spawn("health", Box::new(move || service.accept_all(listener)))
    }

    /// The loop of an acceptor: it ends when the server drains or the listener fails.
    fn accept_all(self: Arc<Self>, listener: Arc<TcpListener>) {
        let mut errors = ErrorsInARow::default();
        loop {
            self.room.wait_while_crowded(BACKOFF);
            match listener.accept() {
                _ if self.room.is_closing() => break,
                Ok((stream, peer)) => {
                    errors = ErrorsInARow::default();
                    let accepted = panic::catch_unwind(AssertUnwindSafe(|| self.accepted(stream, peer.ip())));
                    accepted.unwrap_or_else(mem::forget);
                }
                Err(error) if self.can_go_on(&error, &mut errors) => {}
                Err(error) => {
                    if !self.failed.swap(true, Ordering::Relaxed) {
                        self.log.emit(&Event::ListenerFailed { error: &error });
                    }
                    break;
                }
            }
        }
        // The socket must be closed before a drain sees this acceptor leave.
        drop(listener);
        self.room.acceptor_left();
    }

    fn accepted(self: &Arc<Self>, stream: TcpStream, peer: IpAddr) {
        let now = Instant::now();
        let mut connection = Connection::new(stream, peer, self.request_timeout);
        // With many idle connections the server assumes a flood, and does not wait for this head.
        let (id, few_are_idle) = self.room.arrival();
        let grace = if few_are_idle { HEAD_GRACE } else { Duration::ZERO };
        if connection.serve(&self.validation, Patience::Brief(now + grace)) == Err(Unfinished::MustWait) {
            self.hand_over(connection, id);
        }
        if self.exhaustion.is_on() {
            self.while_another_accepts(&mut || {
                if self.exhaustion.is_over() {
                    self.log.emit(&Event::Recovered);
                }
            });
        }
    }

    /// Gives a connection that has to wait to a thread of the waiting room. Only this function starts such
    /// threads.
    fn hand_over(self: &Arc<Self>, connection: Connection, id: Id) {
        let (network, handle) = (connection.network(), connection.idle_handle());
        let admitted = match self.room.admit(connection, id, network, handle) {
            Ok(admitted) => admitted,
            Err(mut connection) => return connection.refuse_to_wait(&self.validation, &CheckError::Busy),
        };
        if let Some(other) = admitted.evicted {
            end_reading(&other);
        }
        if admitted.start_thread {
            let service = Arc::clone(self);
            if let Err(error) = spawn("health", Box::new(move || service.serve_guests())) {
                self.without_thread(&error);
            }
        }
    }

    /// The loop of a thread of the waiting room: it ends when the room has no more connections for it.
    fn serve_guests(self: Arc<Self>) {
        while let Some((mut connection, place)) = self.room.next() {
            let served = panic::catch_unwind(AssertUnwindSafe(|| connection.serve(&self.validation, Patience::InRoom(&place))));
            if let Err(payload) = served {
                mem::forget(payload);
            }
            // The socket must be closed first: the next connection in this place needs its descriptor.
            drop(connection);
            drop(place);
            self.validation.log_changes();
        }
    }

    /// Makes room for the newest connection after no thread could be started for it.
    fn without_thread(&self, error: &io::Error) {
        match self.room.thread_not_started() {
            WithoutThread::Served => {}
            WithoutThread::Evict(other) => end_reading(&other),
            WithoutThread::Refused(connections) => {
                for mut connection in connections {
                    let served = self.while_another_accepts(&mut || {
                        let _ = connection.serve(&self.validation, Patience::OnAcceptor(ON_ACCEPTOR_TIMEOUT));
                        self.validation.log_changes();
                    });
                    if !served {
                        connection.refuse_to_wait(&self.validation, &CheckError::NoThread);
                    }
                }
            }
        }
        self.exhausted("start a thread", error);
    }

    /// Whether to accept again after an error of `accept`. If the error may pass, it first evicts an idle
    /// connection to free a descriptor, and waits a moment for a connection to close.
    fn can_go_on(&self, error: &io::Error, errors: &mut ErrorsInARow) -> bool {
        match Meaning::of(error) {
            Meaning::Gone => {
                errors.gone += 1;
                if errors.gone > MANY_GONE {
                    self.room.pause(BACKOFF);
                }
                return true;
            }
            Meaning::Failed => return false,
            Meaning::Exhausted => errors.unknown = 0,
            Meaning::Unknown => errors.unknown += 1,
        }
        if errors.unknown >= MAX_UNKNOWN_ERRORS {
            return false;
        }
        let (evicted, departures) = self.room.evict_one();
        if let Some(other) = evicted {
            end_reading(&other);
        }
        self.exhausted("accept a connection", error);
        self.room.wait_for_departure(departures, BACKOFF);
        true
    }

    /// Does work that may never end, unless another acceptor is doing such work, so that one of them always
    /// accepts. Returns whether it did the work.
    fn while_another_accepts(&self, work: &mut dyn FnMut()) -> bool {
        if self.busy.swap(true, Ordering::Relaxed) {
            return false;
        }
        let done = panic::catch_unwind(AssertUnwindSafe(work));
        self.busy.store(false, Ordering::Relaxed);
        done.unwrap_or_else(mem::forget);
        true
    }

    fn exhausted(&self, what: &str, error: &io::Error) {
        self.exhaustion.note();
        self.while_another_accepts(&mut || {
            if self.exhaustion.is_news() {
                self.log.emit(&Event::ResourceExhausted { what, error });
            }
        });
    }
}

/// Errors of `accept` since the last connection.
#[derive(Debug, Default)]
struct ErrorsInARow {
    gone: u32,
    unknown: u32,
}

/// Ends an evicted connection. Its thread reads what has arrived, and then the end of the stream, so a
/// request that has already arrived is still answered.
pub(crate) fn end_reading(connection: &Arc<TcpStream>) {
    // Elsewhere the thread sees for itself that its connection was evicted.
    if SHUTDOWN_ENDS_READS {
        // This fails if the client has already closed the connection.
        let _ = connection.shutdown(Shutdown::Read);
    }
}

/// Whether a resource is exhausted. An episode is logged once, and not once for each connection.
#[derive(Debug, Default)]
struct Exhaustion {
    on: AtomicBool,
    last: Mutex<Option<Instant>>,
}

impl Exhaustion {
    /// Notes a failed allocation.
    fn note(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether an episode has just begun.
    fn is_news(&self) -> bool {
        !self.on.swap(true, Ordering::Relaxed)
    }

    fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// True if an episode has just ended: no allocation has failed for a while.
    fn is_over(&self) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let calm = last.is_none_or(|last| last.elapsed() >= CALM);
        calm && self.on.swap(false, Ordering::Relaxed)
    }
}
