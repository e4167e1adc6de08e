//! Accept, make room, one thread for each request, answer, linger, drain.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::checks::{Checks, Failure};
use crate::config::{ALONE_TIMEOUT, BACKOFF, CALM, Config, DRAIN_GRACE, IDLE, MAX_REQUEST_HEAD, STANDING, USUAL_HEAD};
use crate::connector::Connector;
use crate::deadline::{Timed, after};
use crate::endpoint::{self, Endpoint};
use crate::http::{self, Host, Method, Request, Status};
use crate::log::Event;
use crate::pool::Pool;
use crate::report::{self, Details};

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
    listener: TcpListener,
    address: SocketAddr,
    /// Stops the listener from outside `accept`; made beforehand, for when there are no descriptors left.
    stopper: Stopper,
    config: Config,
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
        let listener = TcpListener::bind(config.address)?;
        let shared = Arc::new(Shared {
            address: listener.local_addr()?,
            stopper: Stopper::new(&listener)?,
            listener,
            pool: Pool::new(config.max_connections),
            checks: Arc::new(Checks::new(config.clone())),
            config,
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
        server.shared.config.emit(&Event::Listening { address: server.local_addr() });
        Ok(server)
    }

    /// The address the server really listens on: with the port that was free, if port 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.address
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
        self.drain_by(after(Instant::now(), self.shared.config.drain_timeout));
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
        for (_, connection) in shared.pool.wait_settled(deadline.min(now + DRAIN_GRACE)) {
            hang_up(&connection);
        }
        shared.pool.wait_ended(deadline, false);
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
        thread::Builder::new().name("health".into()).spawn(move || shared.stand()).map(drop)
    }

    /// The life of a thread: accept, serve, and back, until there are enough others.
    fn stand(self: Arc<Self>) {
        let mut buffers = Buffers::default();
        loop {
            let stood = Instant::now();
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    let accepted = Instant::now();
                    self.serve(stream, peer.ip(), accepted, &mut buffers);
                    if self.shortage.is_over() {
                        self.config.emit(&Event::Recovered);
                    }
                    if !self.pool.returns(accepted.duration_since(stood) > IDLE) {
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
    fn serve(self: &Arc<Self>, stream: TcpStream, peer: IpAddr, accepted: Instant, buffers: &mut Buffers) {
        let stream = Arc::new(stream);
        let (ticket, alone) = self.admit(&stream);
        let time = self.config.request_timeout;
        let deadline = after(accepted, if alone { time.min(ALONE_TIMEOUT) } else { time });

        let Buffers { head, text, answer } = buffers;
        let heard = hear(&Timed { stream: &*stream, deadline }, head);
        if !self.pool.settled(ticket) {
            return;
        }
        let more_to_come = match heard {
            Heard::Nothing => return,
            Heard::Request(request, excess) => {
                self.answer(&request, peer, text, answer);
                request.content || excess
            }
            Heard::Refused(status) => {
                refuse(status, text, answer);
                true
            }
        };
        head.truncate(USUAL_HEAD);
        head.shrink_to(USUAL_HEAD);

        let timed = Timed { stream: &*stream, deadline: after(Instant::now(), time) };
        // Closing while the client sends would reset the connection, and take the answer from it
        // (RFC 9112 section 9.6). Where nothing more can come, closing is all there is to do.
        if timed.write_all(answer).is_ok() && more_to_come && stream.shutdown(Shutdown::Write).is_ok() {
            let ticket = self.pool.owes(&stream);
            linger(&timed);
            let _ = self.pool.settled(ticket);
        }
    }

    /// Sees to it that somebody stands in `accept` while this connection is served, if that can be
    /// done. Returns the connection's ticket, and whether it could not.
    fn admit(self: &Arc<Self>, stream: &Arc<TcpStream>) -> (u64, bool) {
        let admission = self.pool.accepted(stream);
        let mut alone = admission.alone;
        if let Some(connection) = admission.give_way {
            hang_up(&connection);
        }
        if admission.start_thread {
            if let Err(error) = self.start_thread() {
                self.short_of("start a thread", &error);
                let (give_way, nobody_stands) = self.pool.not_started(admission.ticket);
                alone = nobody_stands;
                if let Some(connection) = give_way {
                    hang_up(&connection);
                }
            }
        }
        (admission.ticket, alone)
    }

    /// The answer to a request, into `out`.
    fn answer(&self, request: &Request<'_>, peer: IpAddr, text: &mut String, out: &mut Vec<u8>) {
        let endpoint = match request.method {
            Method::Other => return refuse(Status::MethodNotAllowed, text, out),
            Method::Get | Method::Head => Endpoint::from_path(request.path),
        };
        let Some(endpoint) = endpoint else { return refuse(Status::NotFound, text, out) };
        let outcome = match endpoint {
            Endpoint::Health => self.checks.health(request.wait.map(|seconds| Duration::from_secs(seconds.into()))),
            Endpoint::Ready => self.checks.ready(),
            Endpoint::Live => Ok(()),
        };
        // A web page can point a name of its own at our loopback address and read what we say; it
        // cannot keep that name out of Host.
        let trusted = peer.to_canonical().is_loopback() && request.host == Host::Literal;
        let reason = outcome.as_ref().err().map(ToString::to_string);
        let details =
            outcome.as_ref().err().map(|failure| details(endpoint, failure, trusted, reason.as_deref().unwrap_or_default()));
        let status = if details.is_none() { Status::Ok } else { Status::Unavailable };
        let now = SystemTime::now();
        text.clear();
        report::body(text, endpoint, now, details);
        respond(status, now, text, request.method == Method::Head, out);
    }

    /// What an error of `accept` means: wait a little and go on, or not.
    fn can_go_on(&self, error: &io::Error) -> bool {
        if self.pool.is_closing() {
            return false;
        }
        match error.kind() {
            // The connection was gone before it could be taken, or the network was: the next one.
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => return true,
            _ => {}
        }
        if is_beyond_repair(error) {
            if !self.dead.swap(true, Ordering::Relaxed) {
                self.config.emit(&Event::Dead { error });
            }
            return false;
        }
        self.short_of("accept a connection", error);
        if let Some(connection) = self.pool.oldest_debtor() {
            hang_up(&connection);
        }
        self.pool.wait_for_return(BACKOFF);
        true
    }

    fn short_of(&self, what: &str, error: &io::Error) {
        if self.shortage.is_news() {
            self.config.emit(&Event::Scarce { what, error });
        }
    }

    /// Gets every thread out of `accept`, and has new connections refused.
    fn stop_accepting(&self, deadline: Instant) {
        if self.stopper.stop() {
            return;
        }
        // The system does not interrupt `accept` from outside: a connection does. Each one gets one
        // thread out, and a failed one means that none is in there any more.
        let address = endpoint::reachable(self.address);
        while self.pool.standing() > 0 && TcpStream::connect_timeout(&address, DRAIN_GRACE).is_ok() {
            self.pool.wait_ended(deadline.min(Instant::now() + BACKOFF), true);
            if Instant::now() >= deadline {
                return;
            }
        }
    }
}

/// What a connection has said before its deadline.
enum Heard<'a> {
    /// A whole head, and whether more than that has come.
    Request(Request<'a>, bool),
    /// Something that is refused with this status.
    Refused(Status),
    /// Nothing that could be answered, or nobody who would hear it.
    Nothing,
}

/// Reads a head, in as many pieces as it comes.
fn hear<'a>(timed: &Timed<'_>, head: &'a mut Vec<u8>) -> Heard<'a> {
    let mut filled = 0;
    loop {
        let size = if filled < USUAL_HEAD { USUAL_HEAD } else { MAX_REQUEST_HEAD };
        if head.try_reserve_exact(size.saturating_sub(head.len())).is_err() {
            return Heard::Nothing;
        }
        head.resize(size, 0);
        match timed.read(head.get_mut(filled..).unwrap_or_default()) {
            Ok(0) if filled == 0 => return Heard::Nothing,
            Ok(0) => return Heard::Refused(Status::BadRequest),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::TimedOut && filled > 0 => return Heard::Refused(Status::RequestTimeout),
            Err(_) => return Heard::Nothing,
        }
        match http::request(head.get(..filled).unwrap_or_default()) {
            Ok(None) => {}
            Ok(Some(_)) => break,
            Err(status) => return Heard::Refused(status),
        }
    }
    match http::request(head.get(..filled).unwrap_or_default()) {
        Ok(Some(request)) => {
            let excess = filled > request.len;
            Heard::Request(request, excess)
        }
        _ => Heard::Nothing,
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

/// The wire format's words for a failure. Only a client that may have it gets the connector's own text.
fn details<'a>(endpoint: Endpoint, failure: &Failure, trusted: bool, reason: &'a str) -> Details<'a> {
    let (error, name) = match (failure, endpoint) {
        (Failure::Absent, _) => ("failed to get connector client", None),
        (_, Endpoint::Health) => ("connector validation failed", Some("validation_error")),
        (_, _) => ("connector is not ready", Some("readiness_error")),
    };
    let may_have = trusted || !matches!(failure, Failure::Said(_));
    Details { error, reason: name.filter(|_| may_have).map(|name| (name, reason)) }
}

/// An answer that is not about the connector.
fn refuse(status: Status, text: &mut String, out: &mut Vec<u8>) {
    text.clear();
    for part in ["{\"error\":\"", status.line(), "\"}\n"] {
        text.push_str(part);
    }
    respond(status, SystemTime::now(), text, false, out);
}

fn respond(status: Status, now: SystemTime, body: &mut String, head_only: bool, out: &mut Vec<u8>) {
    let body_len = body.len();
    // The date is written behind the body and taken away again: one buffer less.
    report::http_date(body, now);
    let (content, date) = body.split_at_checked(body_len).unwrap_or_default();
    out.clear();
    http::response_head(out, status, date, body_len);
    if !head_only {
        out.extend_from_slice(content.as_bytes());
    }
}

/// Errors of `accept` that no waiting mends: the descriptor is not a listening socket any more.
fn is_beyond_repair(error: &io::Error) -> bool {
    // EBADF has the same number wherever there are numbers; the others are EINVAL and ENOTSOCK.
    const EBADF: i32 = 9;
    const ENOTSOCK: i32 = if cfg!(target_os = "linux") { 88 } else { 38 };
    error.kind() == io::ErrorKind::InvalidInput || matches!(error.raw_os_error(), Some(EBADF | ENOTSOCK))
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

/// Stops a listener that other threads stand in `accept` on.
#[derive(Debug)]
struct Stopper {
    #[cfg(unix)]
    handle: TcpStream,
}

impl Stopper {
    #[cfg(unix)]
    fn new(listener: &TcpListener) -> io::Result<Stopper> {
        // Shutting down a socket is a method of streams only; the descriptor does not mind.
        let descriptor = std::os::fd::OwnedFd::from(listener.try_clone()?);
        Ok(Stopper { handle: TcpStream::from(descriptor) })
    }

    #[cfg(not(unix))]
    fn new(_: &TcpListener) -> io::Result<Stopper> {
        Ok(Stopper {})
    }

    /// False where the system knows no such thing: Linux ends every `accept`, others refuse.
    fn stop(&self) -> bool {
        #[cfg(unix)]
        return cfg!(target_os = "linux") && self.handle.shutdown(Shutdown::Both).is_ok();
        #[cfg(not(unix))]
        return false;
    }
}
