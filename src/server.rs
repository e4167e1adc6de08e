//! The health server: `bind`, `attach`, `drain`.
//!
//! A request walks one way, and comes back as a value:
//!
//! ```text
//! acceptor     accepts a connection, and hands it over if it has to wait
//! room         queues it for a thread; at capacity an idle connection is evicted
//! connection   reads the head, decides, answers, closes
//! http         parses the head
//! response     turns the question into a status and a body
//! validation   knows the verdict, or gets it
//! connector    is asked
//! ```

mod acceptor;
mod connection;
mod listener;
mod response;
mod room;
mod slots;
mod transitions;
mod validation;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use self::acceptor::{Service, evict};
use self::listener::{Listeners, Stopper};
use self::room::Room;
use self::validation::Checks;
use crate::config::Config;
use crate::connector::Connector;
use crate::deadline::after;
use crate::limits::{ACCEPTORS, BACKOFF, DRAIN_GRACE};
use crate::log::{Event, Log};

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
    service: Arc<Service>,
    address: SocketAddr,
    stopper: Stopper,
    drain_timeout: Duration,
    drained: AtomicBool,
}

impl HealthServer {
    /// Listens on `config.address`. From here on `/live` answers 200, and `/ready` and `/health`
    /// answer 503 until a connector is [attached](HealthServer::attach).
    ///
    /// An unspecified address (`0.0.0.0` or `::`) means all addresses of both IP families, or of IPv4 where
    /// there is no IPv6.
    ///
    /// # Errors
    ///
    /// What the system says when it cannot listen there, or has no threads; `InvalidInput` for a
    /// configuration whose limits make no sense, naming the field.
    pub fn bind(config: Config) -> io::Result<HealthServer> {
        config.check()?;
        let log = Log(config.on_event.clone());
        let listeners = Listeners::bind(config.address)?;
        let stopper = listeners.stopper()?;
        // One acceptor for each of two sockets, or two for one.
        let acceptors = ACCEPTORS.max(listeners.sockets.len());
        let checks = Checks::new(&config, log.clone());
        let room = Room::new(capacity(config.max_connections), acceptors);
        let service = Arc::new(Service::new(room, checks, log, config.request_timeout));
        let server = HealthServer {
            service,
            address: listeners.address,
            stopper,
            drain_timeout: config.drain_timeout,
            drained: AtomicBool::new(false),
        };
        for (started, socket) in listeners.sockets.iter().cycle().take(acceptors).enumerate() {
            if let Err(error) = server.service.start_acceptor(Arc::clone(socket)) {
                // Dropping the server waits for its acceptors, but not for those that never started.
                (started..acceptors).for_each(|_| server.service.room.acceptor_left());
                return Err(error);
            }
        }
        server.service.log.emit(&Event::Listening { address: server.address });
        Ok(server)
    }

    /// The address the server really listens on: with the port that was free, if port 0 was asked for; and
    /// `::` if it listens on all addresses of both IP families.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// From now on `connector` answers for `/health` and `/ready`. One attached before is forgotten, with
    /// its verdict; requests that wait for it ask the new connector instead.
    pub fn attach(&self, connector: Arc<dyn Connector>) {
        self.service.checks.attach(connector);
    }

    /// From now on `/ready` answers 503, so that no new work is sent here; nothing else changes.
    pub fn refuse_ready(&self) {
        self.service.checks.refuse_ready();
    }

    /// Finishes: `/ready` fails, new connections are refused, answers under way are delivered, for at most
    /// [`Config::drain_timeout`]. Idle connections are closed. A `validate` that hangs keeps its thread, and
    /// delays nothing.
    ///
    /// Further calls return at once.
    pub fn drain(&self) {
        self.drain_by(after(Instant::now(), self.drain_timeout));
    }

    pub(crate) fn drain_by(&self, deadline: Instant) {
        if self.drained.swap(true, Ordering::Relaxed) {
            return;
        }
        let service = &*self.service;
        service.checks.refuse_ready();
        service.room.close();
        self.stop_accepting(deadline);
        // Those who wait for a verdict are answered before the time is up.
        let now = Instant::now();
        service.checks.give_up_at(deadline.checked_sub(DRAIN_GRACE).unwrap_or(now));
        let idle = service.room.wait_for_idle(deadline.min(now + DRAIN_GRACE));
        idle.iter().for_each(|connection| evict(connection));
        service.room.wait_until_empty(deadline);
    }

    /// Ends the acceptors.
    fn stop_accepting(&self, deadline: Instant) {
        if self.stopper.shut_down() {
            return;
        }
        // An acceptor that is busy misses a poke, so there may have to be another one.
        while !self.service.room.wait_for_acceptors(Duration::ZERO) && Instant::now() < deadline {
            self.stopper.poke(DRAIN_GRACE);
            self.service.room.wait_for_acceptors(BACKOFF);
        }
    }
}

impl Drop for HealthServer {
    fn drop(&mut self) {
        self.drain();
    }
}

/// The places for connections, where the author allows `max_connections` and the system so many descriptors.
fn capacity(max_connections: usize) -> usize {
    #[cfg(unix)]
    if let Some(limit) = crate::sys::descriptor_limit() {
        use crate::limits::RESERVED_DESCRIPTORS;
        return max_connections.min(limit.saturating_sub(RESERVED_DESCRIPTORS).max(limit / 4).max(2));
    }
    max_connections
}
