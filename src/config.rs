//! The settings of a server: each with its unit, its default, and what happens beyond it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::address::{DEFAULT_ADDRESS, DEFAULT_PORT};
use crate::event::Event;
use crate::log;

/// How long a probe may take unless told otherwise, from before it connects until it has the answer's head: 5 s.
pub const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a server listens, and its limits. `Config::default()` has the documented defaults.
///
/// ```
/// use baton_health::Config;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let mut config = Config::default();
/// assert_eq!(config.address.to_string(), "127.0.0.1:8081");
/// config.address.set_port(9090);
/// config.validate_timeout = Duration::from_secs(10);
/// config.on_event = Arc::new(|event| println!("{event}"));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen; port 0 means any free port. Default is `127.0.0.1:8081`. [`App`](crate::App)
    /// sets it from the command line and the environment.
    pub address: SocketAddr,
    /// How many connections may wait at once, at least 2. Each has a thread of its own. At the limit the server closes
    /// an idle connection to make room for a new one. At most half of the connections may wait for `validate`, and at
    /// most a quarter (at least one) may be inside `ready`, half of them (at least one) from other machines; beyond
    /// that `/health` or `/ready` answers 503 at once. If the process may have few descriptors (`ulimit -n`), the
    /// server keeps fewer connections and leaves 32 descriptors to the rest of the process, but it takes a quarter of
    /// them, and 4, at least. Default is 64.
    pub max_connections: usize,
    /// How long a client may take to send its request's head, and again to take the answer. A client that takes
    /// longer to send gets 408, or no answer if it sent nothing. Default is 5 s.
    pub request_timeout: Duration,
    /// How long `validate` may take before `/health` answers 503. A client that says how long it will wait
    /// (`Prefer: wait=SECONDS`, RFC 7240, as [`Probe`](crate::Probe) does) gets its answer before that.
    /// Default is 30 s, as in the Go connectors.
    pub validate_timeout: Duration,
    /// How long a verdict of `validate` is reused. Zero: only concurrent callers share a verdict. Default is 1 s.
    pub validate_ttl: Duration,
    /// How long shutdown may wait for the connector's `serve` to return and for answers under way to be
    /// delivered. After that it waits for neither. Default is 5 s.
    pub drain_timeout: Duration,
    /// Called with each [`Event`] at or above the log level (`--log-level`; `info` without an [`App`](crate::App)),
    /// from any thread. An ordinary request causes no event. A change of a verdict is reported after the client has its
    /// answer, so a function that blocks delays no answer. An `App` calls it for its own events on a thread that it
    /// starts, and waits for it for a second. Until it has returned, or if no thread can be started, those events go to
    /// standard error. If this function panics, the server writes the event to standard error instead. An event that
    /// arises on the same thread while this function runs goes to standard error too, since the function may hold a
    /// lock. Default writes lines to standard error: JSON, or under an `App` on a terminal, text.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_makes_no_sense_is_named() {
        type Change = fn(&mut Config);
        let rows: [(Change, Option<&str>); 8] = [
            (|_| {}, None),
            (|config| config.max_connections = 2, None),
            (|config| config.max_connections = 1, Some("max_connections must be at least 2")),
            (|config| config.max_connections = 0, Some("max_connections must be at least 2")),
            (|config| config.request_timeout = Duration::ZERO, Some("request_timeout must not be zero")),
            (|config| config.validate_timeout = Duration::ZERO, Some("validate_timeout must not be zero")),
            (|config| config.validate_ttl = Duration::ZERO, None),
            (|config| config.drain_timeout = Duration::ZERO, None),
        ];
        for (place, (change, expected)) in rows.into_iter().enumerate() {
            let mut config = Config::default();
            change(&mut config);
            let error = config.check().err();
            assert_eq!(error.as_ref().map(ToString::to_string).as_deref(), expected, "row {place}");
            assert!(error.is_none_or(|error| error.kind() == io::ErrorKind::InvalidInput));
        }
    }

    #[test]
    fn its_debug_output_has_every_limit() {
        let text = format!("{:?}", Config::default());
        let expected = "Config { address: 127.0.0.1:8081, max_connections: 64, request_timeout: 5s, validate_timeout: 30s, \
                        validate_ttl: 1s, drain_timeout: 5s, .. }";
        assert_eq!(text, expected);
    }
}
