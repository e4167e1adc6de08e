//! The health server: `bind`, `attach`, `drain`.
//!
//! A request passes through these files from top to bottom, and the answer comes back as a value:
//!
//! ```text
//! acceptor     accepts a connection, and hands it over if it has to wait
//! room         queues it for a thread; at capacity evicts an idle connection
//! connection   reads the head, decides, answers, closes
//! http         parses the head
//! response     turns the request into a question, and its verdict into an answer
//! validation   has the verdict, or waits for it
//! connector    is asked
//! ```

mod acceptor;
mod connection;
mod listener;
mod quota;
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

use self::acceptor::{Service, end_reading};
use self::listener::{Listeners, Stopper};
use self::room::Room;
use self::validation::Validation;
use crate::config::Config;
use crate::connector::{BoxError, Connector, Functions};
use crate::deadline::after;
use crate::event::Event;
use crate::limits::{ACCEPTORS, BACKOFF, DRAIN_GRACE, MAX_EVICTING};
use crate::log::Log;

/// The health server: it listens from [`bind`](HealthServer::bind) until it is drained or dropped.
///
/// It runs on threads of its own. Only [`drain`](HealthServer::drain) blocks, and dropping the server, which drains it.
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
    /// Listens on `config.address`. From now on `/live` answers 200. `/ready` and `/health` answer 503 until a
    /// connector is [attached](HealthServer::attach).
    ///
    /// An unspecified address (`0.0.0.0` or `::`) means all addresses of both IP families, or of IPv4 where
    /// there is no IPv6.
    ///
    /// # Errors
    ///
    /// The system's error if it cannot listen there or start a thread. `InvalidInput`, naming the field, if a
    /// limit in `config` makes no sense.
    pub fn bind(mut config: Config) -> io::Result<HealthServer> {
        config.check()?;
        let (max_connections, max_evicting) = capacity(config.max_connections);
        config.max_connections = max_connections;
        let log = Log(config.on_event.clone());
        let listeners = Listeners::bind(config.address)?;
        let stopper = listeners.stopper()?;
        let acceptors = ACCEPTORS * listeners.sockets.len();
        let validation = Validation::new(&config, log.clone());
        let room = Room::new(max_connections, max_evicting, acceptors, end_reading);
        let service = Arc::new(Service::new(room, validation, log, config.request_timeout));
        let server = HealthServer {
            service,
            address: listeners.address,
            stopper,
            drain_timeout: config.drain_timeout,
            drained: AtomicBool::new(false),
        };
        for (started, socket) in listeners.sockets.iter().cycle().take(acceptors).enumerate() {
            if let Err(error) = server.service.start_acceptor(Arc::clone(socket)) {
                // The room has counted all acceptors. Dropping the server must not wait for the missing ones.
                (started..acceptors).for_each(|_| server.service.room.acceptor_left());
                return Err(error);
            }
        }
        server.service.log.emit(&Event::Listening { address: server.address });
        Ok(server)
    }

    /// The address the server listens on. For port 0 it has the port that the system chose. It is `::` if the
    /// server listens on all addresses of both IP families.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Makes `connector` answer `/health` and `/ready` from now on. It replaces an earlier connector, which may be
    /// dropped here, and its verdict. Requests that wait for the earlier connector ask the new one instead.
    pub fn attach(&self, connector: Arc<dyn Connector>) {
        self.service.validation.attach(connector);
    }

    /// Makes two functions answer `/health` and `/ready` from now on, as
    /// [`validate`](Connector::validate) and [`ready`](Connector::ready) of a connector do. For a program that
    /// does its own work, and so has nothing to `serve`.
    ///
    /// ```
    /// use baton_health::{Config, Endpoint, HealthServer, Probe};
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// let failures = Arc::new(AtomicUsize::new(0));
    /// let mut config = Config::default();
    /// config.address.set_port(0);
    /// let server = HealthServer::bind(config)?;
    /// let count = Arc::clone(&failures);
    /// server.attach_fn(
    ///     move || if count.load(Ordering::Relaxed) < 3 { Ok(()) } else { Err("three failures in a row".into()) },
    ///     || Ok(()),
    /// );
    /// assert!(Probe::new(server.local_addr()).run().is_ok());
    /// assert!(Probe::new(server.local_addr()).endpoint(Endpoint::Ready).run().is_ok());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn attach_fn(
        &self,
        validate: impl Fn() -> Result<(), BoxError> + Send + Sync + 'static,
        ready: impl Fn() -> Result<(), BoxError> + Send + Sync + 'static,
    ) {
        self.attach(Arc::new(Functions { validate, ready }));
    }

    /// Makes `/ready` answer 503, so that no new work is sent here, until [`allow_ready`](HealthServer::allow_ready).
    /// Nothing else changes.
    pub fn refuse_ready(&self) {
        self.service.validation.refuse_ready(true);
    }

    /// Makes `/ready` ask the connector again, after [`refuse_ready`](HealthServer::refuse_ready). A server that is
    /// drained still answers 503.
    pub fn allow_ready(&self) {
        self.service.validation.refuse_ready(false);
    }

    /// Shuts the server down, in at most [`Config::drain_timeout`]. `/ready` fails, new connections are refused,
    /// idle connections are closed, and answers under way are delivered. Clients that wait for a `validate` that
    /// hangs get 503 just before the time is up; its thread is left behind. A `ready` that hangs keeps its thread
    /// and its client's connection.
    ///
    /// Further calls return at once, even while the first one still waits.
    pub fn drain(&self) {
        self.drain_by(after(Instant::now(), self.drain_timeout));
    }

    /// Makes `/ready` answer 503 for good: the process is about to end.
    #[cfg(feature = "cli")]
    pub(crate) fn start_draining(&self) {
        self.service.validation.start_draining();
    }

    pub(crate) fn drain_by(&self, deadline: Instant) {
        if self.drained.swap(true, Ordering::Relaxed) {
            return;
        }
        let service = &*self.service;
        service.validation.start_draining();
        service.room.close();
        // Requests that wait for a verdict must be answered before the time is up.
        let now = Instant::now();
        service.validation.give_up_at(deadline.checked_sub(DRAIN_GRACE).unwrap_or(now));
        self.stop_accepting(deadline);
        let now = Instant::now();
        let idle = service.room.evict_idle_by(deadline.min(now + DRAIN_GRACE));
        idle.iter().for_each(end_reading);
        service.room.wait_until_empty(deadline);
    }

    /// Makes the system refuse new connections, and ends the acceptors.
    fn stop_accepting(&self, deadline: Instant) {
        if self.stopper.shut_down() {
            return;
        }
        // A busy acceptor can miss a poke, so this pokes until all acceptors have ended.
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

/// The number of places for connections, and how many evicted connections may be open besides: fewer than usual
/// if the process may have few descriptors.
fn capacity(max_connections: usize) -> (usize, usize) {
    #[cfg(unix)]
    if let Some(limit) = crate::sys::descriptor_limit() {
        return places(max_connections, limit);
    }
    (max_connections, MAX_EVICTING)
}

/// Leaves descriptors to the rest of the process. Connections get at least a quarter of them, and at least four.
#[cfg(unix)]
fn places(max_connections: usize, descriptors: usize) -> (usize, usize) {
    use crate::limits::{FEW_EVICTING, RESERVED_DESCRIPTORS};
    let available = descriptors.saturating_sub(RESERVED_DESCRIPTORS);
    let places = max_connections.min(available.max(descriptors / 4).max(4));
    (places, available.saturating_sub(places).clamp(FEW_EVICTING, MAX_EVICTING))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, PoisonError};

    #[test]
    #[cfg(unix)]
    fn few_descriptors_mean_few_places_for_connections() {
        for (wanted, descriptors, places) in [
            (64, 1024, (64, 32)),
            (64, 128, (64, 32)),
            (64, 127, (64, 31)),
            (64, 96, (64, 8)),
            (64, 95, (63, 8)),
            (64, 64, (32, 8)),
            (64, 43, (11, 8)),
            (64, 40, (10, 8)),
            (64, 20, (5, 8)),
            (64, 8, (4, 8)),
            (64, 0, (4, 8)),
            (3, 0, (3, 8)),
        ] {
            assert_eq!(super::places(wanted, descriptors), places, "{wanted} {descriptors}");
        }
    }

    /// A server on a free port, and the events it logs.
    fn server() -> (HealthServer, Arc<Mutex<Vec<String>>>) {
        let events = Arc::<Mutex<Vec<String>>>::default();
        let mut config = Config::default();
        config.address.set_port(0);
        config.on_event = Arc::new({
            let events = Arc::clone(&events);
            move |event: &Event<'_>| events.lock().unwrap_or_else(PoisonError::into_inner).push(event.message().to_owned())
        });
        (HealthServer::bind(config).unwrap(), events)
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_drain_is_no_failure_of_the_listener() {
        let (server, events) = server();
        server.drain();
        assert!(server.service.room.wait_for_acceptors(Duration::ZERO));
        assert_eq!(*events.lock().unwrap(), ["listening"]);
    }

    #[test]
    #[cfg(all(target_os = "linux", not(baton_portable_shutdown)))]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_listener_that_fails_is_logged_once_and_ends_the_acceptors() {
        const PATIENCE: Duration = Duration::from_secs(60);
        let (server, events) = server();
        // Nobody has asked the server to end, so this is a failure.
        assert!(server.stopper.shut_down());
        assert!(server.service.room.wait_for_acceptors(PATIENCE));
        assert_eq!(*events.lock().unwrap(), ["listening", "listener failed"]);
        server.drain();
        assert!(server.service.room.is_closing());
    }
}
