//! Why a probe failed.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use crate::address::{Address, candidates};
use crate::deadline::milliseconds;
use crate::endpoint::Endpoint;

/// Why a probe failed: what it asked, and what happened.
///
/// Its text is always one line without control characters, even if the server sent some. The same failure
/// has the same text every time.
///
/// ```
/// use baton_health::{Config, Endpoint, HealthServer, Probe, ProbeErrorKind};
///
/// let mut config = Config::default();
/// config.address.set_port(0);
/// let server = HealthServer::bind(config)?;
/// let error = Probe::new(server.local_addr()).endpoint(Endpoint::Ready).run().unwrap_err();
/// match error.kind() {
///     ProbeErrorKind::Status { code: 503, body, .. } => assert_eq!(body, "failed to get connector client"),
///     other => panic!("{other}"),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct ProbeError {
    /// The address that the probe connected to, or the configured one if it did not connect.
    pub(super) address: SocketAddr,
    pub(super) endpoint: Endpoint,
    pub(super) kind: ProbeErrorKind,
}

impl ProbeError {
    /// What happened.
    #[must_use]
    pub fn kind(&self) -> &ProbeErrorKind {
        &self.kind
    }
}

/// What happened to a probe.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProbeErrorKind {
    /// No connection: no server listens there, or the network cannot reach it.
    Connect(io::Error),
    /// The connection broke before the request was sent.
    Send(io::Error),
    /// The connection broke before the answer was read.
    Receive(io::Error),
    /// The phase did not end within this time: the probe's timeout, or the time after which the system gave up.
    TimedOut(Phase, Duration),
    /// The server closed the connection before its answer was complete.
    Closed,
    /// The server speaks TLS.
    Tls,
    /// The server does not speak HTTP/1, or the head of its answer is too long.
    NotHttp,
    /// An answer whose status is not 200.
    #[non_exhaustive]
    Status {
        /// The status code.
        code: u16,
        /// The reason phrase, which may be empty.
        reason: String,
        /// The target of a redirect, which the probe does not follow. Empty for every other answer.
        location: String,
        /// The body's text, control characters escaped: the texts in the `details` of a health server's
        /// answer, or the first 2 KiB of any other body.
        body: String,
    },
}

/// What a probe was doing when its time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Connecting.
    Connecting,
    /// Sending the request.
    Sending,
    /// Receiving the head of the answer.
    Receiving,
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", Address(self.address), self.endpoint.path())?;
        if let (first, Some(second)) = candidates(self.address) {
            write!(f, " (tried {} and {})", Address(first), Address(second))?;
        }
        f.write_str(": ")?;
        self.kind.fmt(f)
    }
}

impl fmt::Display for ProbeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeErrorKind::Connect(error) if error.kind() == ErrorKind::ConnectionRefused => write!(
                f,
                "cannot connect: {error}; is the health check enabled (--health-check or BATON_HEALTH_CHECK=true), \
                 on this port and address?"
            ),
            ProbeErrorKind::Connect(error) => write!(f, "cannot connect: {error}"),
            ProbeErrorKind::Send(error) => write!(f, "cannot send the request: {error}"),
            ProbeErrorKind::Receive(error) => write!(f, "cannot read the answer: {error}"),
            ProbeErrorKind::TimedOut(phase, time) => {
                f.write_str(match phase {
                    Phase::Connecting => "no connection within ",
                    Phase::Sending => "request not sent within ",
                    Phase::Receiving => "no answer within ",
                })?;
                match (time.as_secs(), time.subsec_millis()) {
                    (seconds, 0) => write!(f, "{seconds} s"),
                    (..) => write!(f, "{} ms", milliseconds(*time)),
                }
            }
            ProbeErrorKind::Closed => f.write_str("connection closed before the answer was complete"),
            ProbeErrorKind::Tls => f.write_str("the server speaks TLS, the probe plain HTTP; is this the health check's port?"),
            ProbeErrorKind::NotHttp => f.write_str("the answer is not HTTP/1"),
            ProbeErrorKind::Status { code, reason, location, body } => {
                write!(f, "status {code}")?;
                for (separator, text) in [(" ", reason), (", Location ", location), (": ", body)] {
                    if !text.is_empty() {
                        f.write_str(separator)?;
                        f.write_str(text)?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl Error for ProbeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            ProbeErrorKind::Connect(error) | ProbeErrorKind::Send(error) | ProbeErrorKind::Receive(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;
    use std::time::Duration;

    fn error(address: &str, kind: ProbeErrorKind) -> ProbeError {
        ProbeError { address: address.parse().unwrap(), endpoint: Endpoint::Ready, kind }
    }

    fn status(reason: &str, location: &str, body: &str) -> ProbeErrorKind {
        ProbeErrorKind::Status { code: 302, reason: reason.into(), location: location.into(), body: body.into() }
    }

    #[test]
    fn an_error_says_what_was_asked_and_what_happened() {
        let refused = || ErrorKind::ConnectionRefused.into();
        let reset = || ErrorKind::ConnectionReset.into();
        let timed_out = |phase, milliseconds| ProbeErrorKind::TimedOut(phase, Duration::from_millis(milliseconds));
        for (kind, expected) in [
            (
                ProbeErrorKind::Connect(refused()),
                "cannot connect: connection refused; is the health check enabled (--health-check or BATON_HEALTH_CHECK=true), \
                 on this port and address?",
            ),
            (ProbeErrorKind::Connect(reset()), "cannot connect: connection reset"),
            (ProbeErrorKind::Send(reset()), "cannot send the request: connection reset"),
            (ProbeErrorKind::Receive(reset()), "cannot read the answer: connection reset"),
            (timed_out(Phase::Connecting, 5000), "no connection within 5 s"),
            (timed_out(Phase::Sending, 1500), "request not sent within 1500 ms"),
            (timed_out(Phase::Receiving, 1), "no answer within 1 ms"),
            (ProbeErrorKind::Closed, "connection closed before the answer was complete"),
            (ProbeErrorKind::NotHttp, "the answer is not HTTP/1"),
            (status("", "", ""), "status 302"),
            (status("Found", "/a", "boom"), "status 302 Found, Location /a: boom"),
        ] {
            let text = error("127.0.0.1:80", kind).to_string();
            assert_eq!(text, ["http://127.0.0.1:80/ready: ", expected].concat());
        }
        let text = error("0.0.0.0:80", ProbeErrorKind::Closed).to_string();
        assert!(text.starts_with("http://0.0.0.0:80/ready (tried 127.0.0.1:80 and [::1]:80): connection closed "), "{text}");
    }

    #[test]
    fn the_systems_error_is_the_source() {
        let reset = || ErrorKind::ConnectionReset.into();
        for (kind, has_source) in [
            (ProbeErrorKind::Connect(reset()), true),
            (ProbeErrorKind::Send(reset()), true),
            (ProbeErrorKind::Receive(reset()), true),
            (ProbeErrorKind::TimedOut(Phase::Connecting, Duration::ZERO), false),
            (ProbeErrorKind::Tls, false),
            (status("", "", ""), false),
        ] {
            let error = error("127.0.0.1:80", kind);
            assert_eq!(error.source().is_some(), has_source, "{error}");
        }
    }
}
