//! Accept, make room, one thread for each request, answer, linger, drain.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::connector::Connector;
use crate::deadline::{Timed, after};
use crate::http::request::{self, Status};
use crate::limits::{ALONE_TIMEOUT, BACKOFF, CALM, DRAIN_GRACE, MAX_REQUEST_HEAD, PATIENCE, STANDING, USUAL_HEAD};
use crate::log::{Event, Log};
use crate::spawn::spawn;

mod listener;
mod response;
mod slots;
mod validation;

use listener::{Listener, Meaning};
use response::Question;
use slots::{Hurry, Pool, Ticket};
use validation::Checks;

/// The health server: listens from [`bind`](HealthServer::bind) on, until it is dropped.
///
/// Its threads are its own; no call here has to be repeated and none blocks but
/// [`drain`](HealthServer::drain), which dropping implies.
///
/// ```
/// use baton_health::{BoxError, Config, Connector, Endpoint, HealthServer, Probe};
/// use std::sync::Arc;
///
/// struct Upstream;
/// impl Connector for Upstream {
///     fn validate(&self) -> Result<(), BoxError> { Ok(()) }
/// }
///
/// let mut config = Config::default();
/// config.address.set_port(0);
/// let server = HealthServer::bind(config)?;
/// assert!(Probe::new(server.local_addr()).endpoint(Endpoint::Live).run().is_ok());
/// assert!(Probe::new(server.local_addr()).endpoint(Endpoint::Ready).run().is_err());
/// server.attach(Arc::new(Upstream));
/// assert!(Probe::new(server.local_addr()).run().is_ok());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a server that is dropped stops"]
pub struct HealthServer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    listener: Listener,
    request_timeout: Duration,
    drain_timeout: Duration,
    log: Log,
    pool: Pool<TcpStream>,
    checks: Arc<Checks>,
    shortage: Shortage,
    /// The listener is beyond repair, and it has been said.
    dead: AtomicBool,
    drained: AtomicBool,
}

impl HealthServer {
    /// Listens on `config.address`. From here on `/live` answers 200, and `/ready` and `/health`
    /// answer 503 until a connector is [attached](HealthServer::attach).
    ///
    /// # Errors
    ///
    /// What the system says when it cannot listen there, or has no threads; `InvalidInput` for a
    /// configuration whose limits make no sense, naming the field.
    pub fn bind(config: Config) -> io::Result<HealthServer> {
        config.check()?;
        let log = Log(config.on_event.clone());
        let shared = Arc::new(Shared {
            listener: Listener::bind(config.address)?,
            pool: Pool::new(config.max_connections),
            request_timeout: config.request_timeout,
            drain_timeout: config.drain_timeout,
            checks: Arc::new(Checks::new(&config, log.clone())),
            log,
            shortage: Shortage::default(),
            dead: AtomicBool::new(false),
            drained: AtomicBool::new(false),
        });
        let server = HealthServer { shared };
        for started in 0..STANDING {
            if let Err(error) = server.shared.start_thread() {
                // Those that do not exist must not be waited for.
                (started..STANDING).for_each(|_| server.shared.pool.leaves());
                return Err(error);
            }
        }
        server.shared.log.emit(&Event::Listening { address: server.local_addr() });
        Ok(server)
    }

    /// The address the server really listens on: with the port that was free, if port 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.listener.address()
    }

    /// From now on `connector` answers for `/health` and `/ready`; one attached before is forgotten,
    /// with its verdict.
    pub fn attach(&self, connector: Arc<dyn Connector>) {
        self.shared.checks.attach(connector);
    }

    /// From now on `/ready` answers 503, so that no new work is sent here; nothing else changes.
    pub fn refuse_ready(&self) {
        self.shared.checks.refuse_ready();
    }

    /// Finishes: `/ready` says no, new connections are refused, answers under way are delivered, for
    /// at most [`Config::drain_timeout`]. Connections that stall are closed. A `validate` that hangs
    /// keeps its thread, and delays nothing.
    ///
    /// Further calls return at once.
    pub fn drain(&self) {
        self.drain_by(after(Instant::now(), self.shared.drain_timeout));
    }

    pub(crate) fn drain_by(&self, deadline: Instant) {
        let shared = &*self.shared;
        if shared.drained.swap(true, Ordering::Relaxed) {
            return;
        }
        shared.checks.refuse_ready();
        shared.pool.close();
        shared.stop_accepting(deadline);
        // Whoever waits for a verdict is answered before the time is up.
        let now = Instant::now();
        shared.checks.give_up_at(deadline.checked_sub(DRAIN_GRACE).unwrap_or(now));
        shared.pool.wait_settled(deadline.min(now + DRAIN_GRACE), hang_up);
        shared.pool.wait_ended(deadline);
    }
}

impl Drop for HealthServer {
    fn drop(&mut self) {
        self.drain();
    }
}

/// What a thread keeps from one request to the next, so that an ordinary one allocates next to nothing.
#[derive(Default)]
struct Buffers {
    head: Vec<u8>,
    text: String,
    answer: Vec<u8>,
}

impl Shared {
    fn start_thread(self: &Arc<Self>) -> io::Result<()> {
        let shared = Arc::clone(self);
        spawn("health", Box::new(move || shared.stand()))
    }

    /// The life of a thread: accept, serve, and back, until there are enough others.
    fn stand(self: Arc<Self>) {
        let mut buffers = Buffers::default();
        loop {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    self.serve(stream, peer.ip(), &mut buffers);
                    if self.shortage.is_over() {
                        self.log.emit(&Event::Recovered);
                    }
                    if !self.pool.returns() {
                        return;
                    }
                }
                Err(error) => {
                    if !self.can_go_on(&error) {
                        self.pool.leaves();
                        return;
                    }
                }
            }
        }
    }

    /// One connection from accept to close: one request, one answer.
    fn serve(self: &Arc<Self>, stream: TcpStream, peer: IpAddr, buffers: &mut Buffers) {
        let accepted = Instant::now();
        let stream = Arc::new(stream);
        let (ticket, hurry) = self.pool.accepted(&stream);
        let time = self.request_timeout;
        // Before this thread waits for anything or anybody, another one has to stand in `accept`; where
        // none is to be had, nobody else is answered until this one is done.
        let owed = Cell::new(ticket);
        let may_wait = || {
            hurry == Hurry::No || self.make_room(owed.get()) || {
                // Everyone may only just have come: in a moment somebody has answered, or stalls.
                self.pool.wait_for_return(PATIENCE);
                self.make_room(owed.get())
            }
        };
        let long = || if may_wait() { time } else { time.min(ALONE_TIMEOUT) };
        let at_once = hurry == Hurry::No || (hurry == Hurry::Now && self.make_room(ticket));
        let first = after(accepted, if at_once { time } else { time.min(PATIENCE) });

        let Buffers { head, text, answer } = buffers;
        let heard = hear(&stream, head, first, || after(accepted, long()));
        if !self.pool.settled(ticket) {
            return;
        }
        let more_to_come = match heard {
            Heard::Nothing => return,
            Heard::Question(question, more_to_come) => {
                response::answer(&self.checks, &question, peer, &may_wait, text, answer);
                more_to_come
            }
            Heard::Refused(status, head_only) => {
                response::refuse(status, head_only, text, answer);
                true
            }
        };
        head.truncate(USUAL_HEAD);
        head.shrink_to(USUAL_HEAD);

        let timed = Timed { stream: &*stream, deadline: after(Instant::now(), time) };
        // Closing while the client sends would reset the connection, and take the answer from it
        // (RFC 9112 section 9.6). Where nothing more can come, closing is all there is to do.
        if timed.write_all(answer).is_ok() && more_to_come && stream.shutdown(Shutdown::Write).is_ok() {
            owed.set(self.pool.owes(&stream));
            // At shutdown debts are called in once; those made later have to end on their own.
            let grace = if self.pool.is_closing() { DRAIN_GRACE.min(time) } else { long() };
            linger(&Timed { stream: &*stream, deadline: after(Instant::now(), grace) });
            let _ = self.pool.settled(owed.get());
        }
    }

    /// Sees to it that somebody else stands in `accept`; false if that cannot be done.
    fn make_room(self: &Arc<Self>, ticket: Ticket) -> bool {
        let room = self.pool.make_room(ticket);
        if let Some(connection) = room.give_way {
            hang_up(&connection);
        }
        if room.start_thread {
            if let Err(error) = self.start_thread() {
                let (give_way, alone) = self.pool.not_started(ticket);
                if let Some(connection) = give_way {
                    hang_up(&connection);
                }
                self.short_of("start a thread", &error);
                return !alone;
            }
        }
        !room.alone
    }

    /// What an error of `accept` means: wait a little and go on, or not.
    fn can_go_on(&self, error: &io::Error) -> bool {
        if self.pool.is_closing() {
            return false;
        }
        match Meaning::of(error) {
            Meaning::Gone => return true,
            Meaning::Short => {}
            Meaning::Dead => {
                if !self.dead.swap(true, Ordering::Relaxed) {
                    self.log.emit(&Event::ListenerFailed { error });
                }
                return false;
            }
        }
        if let Some(connection) = self.pool.oldest_debtor() {
            hang_up(&connection);
        }
        self.short_of("accept a connection", error);
        self.pool.wait_for_return(BACKOFF);
        true
    }

    /// Gets every thread out of `accept`.
    fn stop_accepting(&self, deadline: Instant) {
        if self.listener.stop() {
            return;
        }
        // Each poke gets one thread out, and one that fails means that nobody is there to be got out.
        while self.pool.standing() > 0 && Instant::now() < deadline && self.listener.poke(DRAIN_GRACE) {
            self.pool.wait_for_leave(BACKOFF);
        }
    }

    fn short_of(&self, what: &str, error: &io::Error) {
        if self.shortage.is_news() {
            self.log.emit(&Event::ResourceExhausted { what, error });
        }
    }
}

/// What a connection has said before its deadline.
enum Heard {
    /// A whole head, and whether the client may go on sending.
    Question(Question, bool),
    /// Something that is refused with this status, and whether a body would be one too many.
    Refused(Status, bool),
    /// Nothing that could be answered, or nobody who would hear it.
    Nothing,
}

/// Reads a head, in as many pieces as it comes, until the first deadline and then until a second one,
/// which is asked for when the first is over.
fn hear(stream: &TcpStream, head: &mut Vec<u8>, first: Instant, second: impl FnOnce() -> Instant) -> Heard {
    let mut timed = Timed { stream, deadline: first };
    let mut second = Some(second);
    let mut filled = 0;
    loop {
        let size = if filled < USUAL_HEAD { USUAL_HEAD } else { MAX_REQUEST_HEAD };
        if head.try_reserve_exact(size.saturating_sub(head.len())).is_err() {
            return Heard::Nothing;
        }
        head.resize(size, 0);
        match timed.read(head.get_mut(filled..).unwrap_or_default()) {
            Ok(0) if filled == 0 => return Heard::Nothing,
            Ok(0) => return Heard::Refused(Status::BadRequest, request::asks_for_head(head.get(..filled).unwrap_or_default())),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => match second.take() {
                Some(second) => timed.deadline = second(),
                None if filled > 0 => {
                    return Heard::Refused(Status::RequestTimeout, request::asks_for_head(head.get(..filled).unwrap_or_default()));
                }
                None => return Heard::Nothing,
            },
            Err(_) => return Heard::Nothing,
        }
        let come = head.get(..filled).unwrap_or_default();
        match request::parse(come) {
            Ok(None) => {}
            Ok(Some(request)) => {
                let more_to_come = request.content || filled > request.len;
                return Heard::Question(request.into(), more_to_come);
            }
            Err(status) => return Heard::Refused(status, request::asks_for_head(come)),
        }
    }
}

/// Takes what the client still sends until it closes or its time is up, so that it gets to read the answer.
fn linger(timed: &Timed<'_>) {
    let mut discarded = [0; 4096];
    while matches!(timed.read(&mut discarded), Ok(1..)) {}
}

/// Ends both directions: whatever thread reads from or writes to it stops doing so.
fn hang_up(connection: &TcpStream) {
    // Fails when the client has already done the same.
    let _ = connection.shutdown(Shutdown::Both);
}

/// Whether the machine is short of something, so that an episode is logged once and not once for
/// each connection in it.
#[derive(Debug, Default)]
struct Shortage {
    on: AtomicBool,
    last: Mutex<Option<Instant>>,
}

impl Shortage {
    /// Notes that something was not to be had; true if that begins an episode.
    fn is_news(&self) -> bool {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        !self.on.swap(true, Ordering::Relaxed)
    }

    /// True if an episode has just ended: everything was to be had for a while.
    fn is_over(&self) -> bool {
        if !self.on.load(Ordering::Relaxed) {
            return false;
        }
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let calm = last.is_none_or(|last| last.elapsed() >= CALM);
        calm && self.on.swap(false, Ordering::Relaxed)
    }
}
