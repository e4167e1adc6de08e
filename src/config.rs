//! What can be set, and every limit: its unit, its reason, and what happens beyond it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use crate::log::{self, Event};

/// The address the server listens on, and the probe asks, unless told otherwise.
pub const DEFAULT_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The port the server listens on, and the probe asks, unless told otherwise.
pub const DEFAULT_PORT: u16 = 8081;

/// How long the probe takes at most, from before it connects until it has the whole answer.
pub const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes in a request's head, leading empty lines and the closing one included. Beyond it: 414 when
/// the request line alone is longer, else 431. Probes send 150 bytes, browsers rarely 4 KiB.
pub(crate) const MAX_REQUEST_HEAD: usize = 8 * 1024;

/// Bytes in the head of an answer to the probe, 1xx heads before it included. Beyond it: not HTTP.
pub(crate) const MAX_RESPONSE_HEAD: usize = 16 * 1024;

/// Bytes of an unwelcome answer's body that the probe shows: what fits Docker's 4 KiB of health
/// log even when every byte has to be escaped to `\u{..}`. Beyond it: cut.
pub(crate) const MAX_SHOWN_BODY: usize = 2 * 1024;

/// Bytes of an error's text that a client gets. Beyond it: cut, and marked as cut.
pub(crate) const MAX_ERROR_TEXT: usize = 1024;

/// Bytes a thread keeps for reading heads between requests: most heads fit without asking for more.
pub(crate) const USUAL_HEAD: usize = 1024;

/// Threads that stand in `accept` when nothing happens. Two, so that taking one connection never
/// leaves nobody there; a third would cost memory to save nothing.
pub(crate) const STANDING: usize = 2;

/// Threads that may stand in `accept` after a busy moment. Beyond it they end: somewhat arbitrary,
/// enough that a steady 16 clients at once start no threads.
pub(crate) const MAX_STANDING: usize = 16;

/// A thread that stood idle for longer than this before its request, and finds enough others
/// standing after it, ends. So what a busy moment left behind goes away with the next few probes.
pub(crate) const IDLE: Duration = Duration::from_secs(1);

/// How long `accept` is left alone when there are no descriptors and nobody to take one from.
pub(crate) const BACKOFF: Duration = Duration::from_millis(50);

/// How long everything must have been to be had before a shortage counts as over, and is logged anew.
pub(crate) const CALM: Duration = Duration::from_secs(5);

/// What a connection may take for its head when no thread could be left in `accept` behind it:
/// until it is done, nobody else is answered.
pub(crate) const ALONE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long, at shutdown, connections may still owe what they owe before they are closed: a head
/// or a close already under way arrives in this time, and a stalled one delays nothing for longer.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_millis(250);

/// How much earlier than a client's patience ends (`Prefer: wait`) it gets its 503, so that the
/// answer still arrives: a quarter of it, at most this. Longer than the 100 ms for which a
/// container that used up its CPU quota is not scheduled.
pub(crate) const ANSWER_MARGIN: Duration = Duration::from_millis(500);

const _: () = assert!(USUAL_HEAD <= MAX_REQUEST_HEAD);
const _: () = assert!(STANDING >= 2 && STANDING <= MAX_STANDING);
const _: () = assert!(MAX_ERROR_TEXT < MAX_SHOWN_BODY, "the probe shows the whole of our own error texts");
const _: () = assert!(DRAIN_GRACE.as_millis() < DEFAULT_PROBE_TIMEOUT.as_millis());

/// Where to listen, and how much and how long at most. `Config::default()` is what an operator expects.
///
/// ```
/// use baton_health::Config;
/// use std::time::Duration;
///
/// let mut config = Config::default();
/// config.validate_timeout = Duration::from_secs(10);
/// assert_eq!(config.address.to_string(), "127.0.0.1:8081");
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen; port 0 means any free port. Default is `127.0.0.1:8081`. [`App`](crate::App)
    /// sets it from the command line and the environment.
    pub address: SocketAddr,
    /// Connections at once, at least 2; each has a thread of its own. At most half of them may be
    /// inside the connector's code or waiting for it: beyond that `/health` and `/ready` answer 503
    /// at once. Beyond the whole, the connection that has owed its request, or its close, the
    /// longest is closed in favour of the new one. Default is 64.
    pub max_connections: usize,
    /// How long a client may take to send its request's head, and again to take the answer. Beyond
    /// it: 408, or no answer if it sent nothing. Default is 5 s.
    pub request_timeout: Duration,
    /// How long `validate` may take before `/health` answers 503. A client that says how long it
    /// will wait (`Prefer: wait=SECONDS`, RFC 7240, as our probe does) is answered before that.
    /// Default is 30 s, as in the Go connectors.
    pub validate_timeout: Duration,
    /// How long a verdict of `validate` is given to others who ask. Zero: only those who asked
    /// while it was being found share it. Default is 1 s.
    pub validate_ttl: Duration,
    /// How long shutdown may take: the connector's `serve` to return, and the answers under way to
    /// be delivered. Beyond it: they are given up. Default is 5 s.
    pub drain_timeout: Duration,
    /// Called with what is worth logging, from any thread; at most once for each request, and not
    /// for ordinary ones. A panic in it is ignored. Default writes JSON lines to standard error.
    pub on_event: Arc<dyn Fn(&Event<'_>) + Send + Sync>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            address: SocketAddr::new(DEFAULT_ADDRESS, DEFAULT_PORT),
            max_connections: 64,
            request_timeout: Duration::from_secs(5),
            validate_timeout: Duration::from_secs(30),
            validate_ttl: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(5),
            on_event: Arc::new(log::to_stderr),
        }
    }
}

impl Config {
    /// Tells the owner's function, whatever that does.
    pub(crate) fn emit(&self, event: &Event<'_>) {
        let _ = panic::catch_unwind(AssertUnwindSafe(|| (self.on_event)(event)));
    }

    /// Whether the values make sense together; the error names the field.
    pub(crate) fn check(&self) -> io::Result<()> {
        let problem = if self.max_connections < 2 {
            "max_connections must be at least 2"
        } else if self.request_timeout.is_zero() {
            "request_timeout must not be zero"
        } else if self.validate_timeout.is_zero() {
            "validate_timeout must not be zero"
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("address", &self.address)
            .field("max_connections", &self.max_connections)
            .field("request_timeout", &self.request_timeout)
            .field("validate_timeout", &self.validate_timeout)
            .field("validate_ttl", &self.validate_ttl)
            .field("drain_timeout", &self.drain_timeout)
            .finish_non_exhaustive()
    }
}
