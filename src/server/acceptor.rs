//! The accept loop. An acceptor itself answers requests that need no waiting, and hands every other connection over to
//! the waiting room.

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
        spawn("health-accept", Box::new(move || service.accept_all(listener)))
    }

    /// The loop of an acceptor: it ends when the server drains or the listener fails.
    fn accept_all(self: Arc<Self>, listener: Arc<TcpListener>) {
        let mut errors = ErrorsInARow::default();
        // Answers are written into the same memory: for each one of its own, musl's allocator would map a page and
        // remove it again.
        let mut spare = Vec::new();
        loop {
            self.room.wait_while_crowded(BACKOFF);
            match listener.accept() {
                _ if self.room.is_closing() => break,
                Ok((stream, peer)) => {
                    errors = ErrorsInARow::default();
                    let accepted = panic::catch_unwind(AssertUnwindSafe(|| self.accepted(stream, peer.ip(), &mut spare)));
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

    fn accepted(self: &Arc<Self>, stream: TcpStream, peer: IpAddr, spare: &mut Vec<u8>) {
        let now = Instant::now();
        let mut connection = Connection::new(stream, peer, self.request_timeout, mem::take(spare));
        // With many idle connections the server assumes a flood, and does not wait for this head.
        let (id, few_are_idle) = self.room.arrival();
        let grace = if few_are_idle { HEAD_GRACE } else { Duration::ZERO };
        if connection.serve(&self.validation, Patience::Brief(now + grace)) == Err(Unfinished::MustWait) {
            self.hand_over(connection, id);
        } else {
            *spare = connection.into_spare();
        }
        if self.exhaustion.is_on() {
            self.while_another_accepts(&mut || {
                if self.exhaustion.ends_if_calm() {
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
            Err(mut connection) => return connection.refuse_to_wait(&self.validation, CheckError::Busy),
        };
        if let Some(other) = admitted.evicted {
            end_reading(&other);
        }
        if admitted.start_thread {
            let service = Arc::clone(self);
            if let Err(error) = spawn("health-wait", Box::new(move || service.serve_guests())) {
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
            WithoutThread::NoThread(mut connections) => {
                while let Some(mut connection) = connections.pop() {
                    let served = self.while_another_accepts(&mut || {
                        let _ = connection.serve(&self.validation, Patience::OnAcceptor(ON_ACCEPTOR_TIMEOUT));
                        self.validation.log_changes();
                    });
                    if !served {
                        connection.refuse_to_wait(&self.validation, CheckError::NoThread);
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
            if self.exhaustion.begins() {
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
    /// Notes that the system refused a descriptor or a thread.
    fn note(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Begins an episode. False if it has begun before.
    fn begins(&self) -> bool {
        !self.on.swap(true, Ordering::Relaxed)
    }

    fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Ends the episode if no allocation has failed for a while. Returns whether it has.
    fn ends_if_calm(&self) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let calm = last.is_none_or(|last| last.elapsed() >= CALM);
        calm && self.on.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::connector::{BoxError, Connector};
    use crate::server::room::Room;
    use std::io::{ErrorKind, Read, Write};
    use std::sync::mpsc::{self, Receiver};

    const LONG: Duration = Duration::from_secs(3600);
    const EXHAUSTED: &str = "short of resources";

    struct Healthy;

    impl Connector for Healthy {
        fn validate(&self) -> Result<(), BoxError> {
            Ok(())
        }
    }

    /// A service without a listener, and the lines it logs. It has a connector, and two places for connections.
    fn service() -> (Arc<Service>, Receiver<String>) {
        let (logged, lines) = mpsc::channel();
        let logged = Mutex::new(logged);
        let log = Log(Arc::new(move |event: &Event<'_>| drop(logged.lock().unwrap().send(event.to_string()))));
        let validation = Validation::new(&Config::default(), log.clone());
        validation.attach(Arc::new(Healthy));
        (Arc::new(Service::new(Room::new(2, 2, 2, end_reading), validation, log, LONG)), lines)
    }

    /// The messages logged so far, without their fields.
    fn messages(lines: &Receiver<String>) -> Vec<String> {
        lines.try_iter().map(|line| line.split(" what=").next().unwrap().to_owned()).collect()
    }

    /// A client that has sent this, and the server's end of its connection, which has read as much.
    fn connection(service: &Service, request: &str) -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let mut connection = Connection::new(stream, peer.ip(), LONG, Vec::new());
        let soon = Instant::now() + if request.is_empty() { Duration::ZERO } else { LONG };
        assert_eq!(connection.serve(&service.validation, Patience::Brief(soon)), Err(Unfinished::MustWait));
        (client, connection)
    }

    fn admit(service: &Service, connection: Connection) {
        let (id, network, handle) = (service.room.arrival().0, connection.network(), connection.idle_handle());
        assert!(service.room.admit(connection, id, network, handle).unwrap().start_thread);
    }

    fn answer(mut client: TcpStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    }

    const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

    #[test]
    fn a_shortage_begins_once_and_is_over_after_some_time_without_one() {
        let exhaustion = Exhaustion::default();
        assert!(!exhaustion.is_on() && !exhaustion.ends_if_calm());
        for _ in 0..2 {
            exhaustion.note();
            assert!(exhaustion.begins() && exhaustion.is_on());
            exhaustion.note();
            assert!(!exhaustion.begins() && exhaustion.is_on());
            assert!(!exhaustion.ends_if_calm(), "the last allocation failed just now");
            *exhaustion.last.lock().unwrap() = Instant::now().checked_sub(CALM);
            assert!(exhaustion.ends_if_calm() && !exhaustion.is_on() && !exhaustion.ends_if_calm());
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn one_acceptor_at_a_time_does_what_may_never_end() {
        let (service, lines) = service();
        let mut inner = None;
        assert!(service.while_another_accepts(&mut || inner = Some(service.while_another_accepts(&mut || unreachable!()))));
        assert_eq!(inner, Some(false));
        assert!(service.while_another_accepts(&mut || panic!("this must not end the acceptor")));
        assert!(service.while_another_accepts(&mut || ()), "the next one may");
        drop(lines);
    }

    #[test]
    #[cfg(unix)]
    #[cfg_attr(miri, ignore = "sockets")]
    fn accept_is_tried_again_after_errors_that_may_pass() {
        const EBADF: i32 = 9;
        const EMFILE: i32 = 24;
        const EPERM: i32 = 1;
        let (service, lines) = service();
        let (mut client, stalled) = connection(&service, "");
        admit(&service, stalled);
        // So that nothing here waits.
        service.room.close();
        let mut errors = ErrorsInARow::default();
        let mut can_go_on = |error: io::Error| service.can_go_on(&error, &mut errors);

        for _ in 0..=MANY_GONE {
            assert!(can_go_on(ErrorKind::ConnectionAborted.into()));
        }
        assert!(!can_go_on(io::Error::from_raw_os_error(EBADF)));
        assert_eq!(messages(&lines), [""; 0]);
        for round in 0..2 {
            for _ in 1..MAX_UNKNOWN_ERRORS {
                assert!(can_go_on(io::Error::from_raw_os_error(EPERM)));
            }
            if round == 0 {
                assert!(can_go_on(io::Error::from_raw_os_error(EMFILE)), "this one begins the count anew");
            }
        }
        assert!(!can_go_on(io::Error::from_raw_os_error(EPERM)));
        assert_eq!(messages(&lines), [EXHAUSTED]);
        // The idle connection was evicted.
        assert_eq!(service.room.evict_one().0.map(drop), None);
        let (guest, _place) = service.room.next().unwrap();
        drop(guest);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn an_acceptor_rests_when_clients_are_gone_again_and_again() {
        let (service, _lines) = service();
        for gone in [MANY_GONE, MANY_GONE + 1] {
            let mut errors = ErrorsInARow { gone, unknown: 0 };
            let start = Instant::now();
            assert!(service.can_go_on(&ErrorKind::ConnectionAborted.into(), &mut errors));
            assert!(start.elapsed() >= BACKOFF, "{gone}");
            assert_eq!(errors.gone, gone + 1);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn without_a_thread_one_acceptor_answers_and_the_other_says_why_not() {
        let (service, lines) = service();
        let no_thread = io::Error::from(ErrorKind::WouldBlock);
        let (first, connection_of_first) = connection(&service, HEALTH);
        let (second, connection_of_second) = connection(&service, HEALTH);
        admit(&service, connection_of_second);
        assert!(service.while_another_accepts(&mut || service.without_thread(&no_thread)));
        let refused = answer(second);
        assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains(&CheckError::NoThread.to_string()), "{refused}");
        assert_eq!(messages(&lines), [""; 0], "whoever is busy may be logging");
        assert!(service.exhaustion.is_on() || service.exhaustion.last.lock().unwrap().is_some());

        admit(&service, connection_of_first);
        service.without_thread(&no_thread);
        let answered = answer(first);
        assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
        let messages: Vec<_> = lines.iter().take(2).collect();
        assert!(messages.iter().any(|line| line.starts_with("short of resources what=start a thread")), "{messages:?}");
        assert!(messages.contains(&"healthy".into()), "{messages:?}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn without_a_thread_a_stalled_client_gives_its_own_to_the_next() {
        let (service, _lines) = service();
        let (mut stalled, first) = connection(&service, "");
        admit(&service, first);
        let (guest, _place) = service.room.next().unwrap();
        let (_waiting, second) = connection(&service, HEALTH);
        admit(&service, second);
        service.without_thread(&ErrorKind::WouldBlock.into());
        // Its thread reads the end of the stream, and closes it.
        drop(guest);
        assert_eq!(stalled.read(&mut [0]).unwrap(), 0);
        assert!(service.room.next().is_some(), "the next one is still queued");
        // A thread that takes the guest in time leaves nothing to do.
        service.without_thread(&ErrorKind::WouldBlock.into());
    }

    /// Has `service` answer a client.
    fn accept(service: &Arc<Service>, spare: &mut Vec<u8>) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"GET /live HTTP/1.0\r\n\r\n").unwrap();
        let (stream, peer) = listener.accept().unwrap();
        service.accepted(stream, peer.ip(), spare);
        client
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn one_answer_is_written_into_the_memory_of_another() {
        let (service, _lines) = service();
        let mut spare = Vec::new();
        let first = answer(accept(&service, &mut spare));
        assert!(first.starts_with("HTTP/1.1 200 ") && spare.capacity() >= first.len(), "{first}");
        let memory = spare.as_ptr();
        let second = answer(accept(&service, &mut spare));
        assert_eq!((second.len(), spare.as_ptr()), (first.len(), memory), "{second}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_shortage_that_is_over_is_logged_with_the_next_connection() {
        let (service, lines) = service();
        let accept = || {
            accept(&service, &mut Vec::new());
            messages(&lines)
        };
        assert_eq!(accept(), [""; 0]);
        service.exhausted("accept a connection", &ErrorKind::OutOfMemory.into());
        assert_eq!(accept(), [EXHAUSTED]);
        *service.exhaustion.last.lock().unwrap() = Instant::now().checked_sub(CALM);
        assert_eq!(accept(), ["recovered"]);
        assert_eq!(accept(), [""; 0]);
    }
}
