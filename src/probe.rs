//! The probe: one request to one endpoint of a running server.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::address::{Address, candidates};
use crate::config::DEFAULT_PROBE_TIMEOUT;
use crate::deadline::{Timed, after, left};
use crate::endpoint::Endpoint;
use crate::http::{Malformed, response};
use crate::limits::{MAX_RESPONSE_HEAD, USUAL_HEAD};
use crate::text::push_digits;

mod answer;
mod error;

#[cfg(any(test, fuzzing))]
pub(crate) use answer::details;
pub use error::{Phase, ProbeError, ProbeErrorKind};

/// A plain HTTP/1.1 GET to one endpoint. An answer with status 200 is success, everything else is a failure.
///
/// The probe looks up no name, uses no proxy, follows no redirect and sends its request once.
///
/// ```no_run
/// use baton_health::{Endpoint, Probe};
/// use std::time::Duration;
///
/// let probe = Probe::new("127.0.0.1:8081".parse()?).endpoint(Endpoint::Ready).timeout(Duration::from_secs(2));
/// if let Err(error) = probe.run() {
///     eprintln!("{error}");
/// }
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a probe does nothing until it is run"]
pub struct Probe {
    address: SocketAddr,
    endpoint: Endpoint,
    timeout: Duration,
}

impl Probe {
    /// A probe of the server at `address`.
    ///
    /// An unspecified address (`0.0.0.0`, `::`) is where a server listens on all addresses. The probe
    /// then connects to `127.0.0.1`, or if that fails, to `::1`. It never sends its request to both.
    pub fn new(address: SocketAddr) -> Probe {
        Probe { address, endpoint: Endpoint::default(), timeout: DEFAULT_PROBE_TIMEOUT }
    }

    /// Sets the endpoint to ask. Default is [`Endpoint::Health`].
    pub fn endpoint(mut self, endpoint: Endpoint) -> Probe {
        self.endpoint = endpoint;
        self
    }

    /// Sets the time for connecting, sending the request and receiving the answer, all together. The probe tells the
    /// server the whole seconds of it, and the server then answers before they are over. A probe with no time fails at
    /// once. Default is 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Probe {
        self.timeout = timeout;
        self
    }

    /// The address as given to [`new`](Probe::new).
    #[must_use]
    pub fn get_address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint to ask.
    #[must_use]
    pub fn get_endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The time for the whole exchange.
    #[must_use]
    pub fn get_timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends the request and waits for the answer.
    ///
    /// # Errors
    ///
    /// Anything but an answer with status 200 and a complete head. The error says what happened instead.
    pub fn run(&self) -> Result<(), ProbeError> {
        let clock = Clock::start(self.timeout);
        let mut address = self.address;
        let asked = match self.connect(&clock) {
            Ok((stream, reached)) => {
                address = reached;
                self.ask(&clock, &stream, address)
            }
            Err(error) => Err(clock.failure(Phase::Connecting, error)),
        };
        asked.map_err(|kind| ProbeError { address, endpoint: self.endpoint, kind })
    }

    /// Connects, and returns the address it connected to.
    fn connect(&self, clock: &Clock) -> io::Result<(TcpStream, SocketAddr)> {
        let to = |address, deadline| {
            let stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
            Ok((stream, address))
        };
        match candidates(self.address) {
            (only, None) => to(only, clock.deadline),
            (first, Some(second)) => connect_to_either(clock, first, second, to),
        }
    }

    fn ask(&self, clock: &Clock, stream: &TcpStream, address: SocketAddr) -> Result<(), ProbeErrorKind> {
        let timed = Timed { stream, deadline: clock.deadline };
        let request = self.request(address);
        timed.write_all(request.as_bytes()).map_err(|error| clock.failure(Phase::Sending, error))?;

        // Nearly every answer fits on the stack, so that a probe allocates next to nothing.
        let (mut usual, mut longest) = ([0; USUAL_HEAD], Vec::new());
        let (mut filled, mut start) = (0, 0);
        loop {
            // All heads together have one limit, so that interim answers cannot go on for ever.
            if filled == USUAL_HEAD && longest.is_empty() {
                longest.extend_from_slice(&usual);
                longest.resize(MAX_RESPONSE_HEAD, 0);
            }
            let bytes = if longest.is_empty() { &mut usual } else { &mut *longest };
            match timed.read(bytes.get_mut(filled..).unwrap_or_default()) {
                Ok(0) if filled < bytes.len() => return Err(ProbeErrorKind::Closed),
                Ok(0) => return Err(ProbeErrorKind::NotHttp),
                Ok(count) => filled += count,
                Err(error) => return Err(clock.failure(Phase::Receiving, error)),
            }
            loop {
                let answer = bytes.get(start..filled).unwrap_or_default();
                match response::parse(answer) {
                    Ok(None) => break,
                    Ok(Some(head)) => match head.status {
                        200 => return Ok(()),
                        // Interim answers precede the real one (RFC 9110 section 15.2). The request asks for no
                        // other protocol, so nothing after a 101 is HTTP.
                        100..=199 if head.status != 101 => start += head.len,
                        _ => return Err(answer::status(&timed, &head, answer.get(head.len..).unwrap_or_default())),
                    },
                    Err(Malformed) if answer.first() == Some(&TLS_ALERT) => return Err(ProbeErrorKind::Tls),
                    Err(Malformed) => return Err(ProbeErrorKind::NotHttp),
                }
            }
        }
    }

    fn request(&self, address: SocketAddr) -> String {
        let mut request = String::with_capacity(256);
        request.extend(["GET ", self.endpoint.path(), " HTTP/1.1\r\nHost: "]);
        Address(address).push_host(&mut request);
        request.push_str(concat!("\r\nUser-Agent: baton-health/", env!("CARGO_PKG_VERSION"), "\r\n"));
        let seconds = self.timeout.as_secs();
        if seconds > 0 {
            request.push_str("Prefer: wait=");
            push_digits(&mut request, seconds, 1);
            request.push_str("\r\n");
        }
        request.push_str("Connection: close\r\n\r\n");
        request
    }
}

/// Connects to the first address, or to the second if the first fails.
///
/// The first address gets half of the time. If it refuses at once, the second gets nearly all of it.
fn connect_to_either<T>(
    clock: &Clock,
    first: SocketAddr,
    second: SocketAddr,
    to: impl Fn(SocketAddr, Instant) -> io::Result<T>,
) -> io::Result<T> {
    let error = match to(first, after(clock.start, clock.timeout / 2)) {
        Ok(connected) => return Ok(connected),
        Err(error) => error,
    };
    match to(second, clock.deadline) {
        Err(other) if other.kind() != ErrorKind::TimedOut => match error.kind() {
            // There is no server at the second address, so the first may be slow: it gets the time that is left.
            ErrorKind::TimedOut => to(first, clock.deadline),
            // The second error may only mean that the machine has no IPv6.
            ErrorKind::ConnectionRefused => Err(error),
            _ => Err(other),
        },
        result => result,
    }
}

/// The first byte of the alert that a TLS server sends to a client without TLS (RFC 8446 section 5.1).
const TLS_ALERT: u8 = 0x15;

/// The one deadline of a probe.
struct Clock {
    start: Instant,
    timeout: Duration,
    deadline: Instant,
}

impl Clock {
    fn start(timeout: Duration) -> Clock {
        let start = Instant::now();
        Clock { start, timeout, deadline: after(start, timeout) }
    }

    fn failure(&self, phase: Phase, error: io::Error) -> ProbeErrorKind {
        self.failure_at(Instant::now(), phase, error)
    }

    fn failure_at(&self, now: Instant, phase: Phase, error: io::Error) -> ProbeErrorKind {
        /// Some systems end a wait slightly early.
        const EARLY: Duration = Duration::from_millis(100);
        match (error.kind(), phase) {
            (ErrorKind::TimedOut, _) if self.deadline.saturating_duration_since(now) <= EARLY => {
                ProbeErrorKind::TimedOut(phase, self.timeout)
            }
            // The system itself gives up on a connection after a minute or two. Whole seconds keep the
            // message the same every time.
            (ErrorKind::TimedOut, _) => {
                let time = now.saturating_duration_since(self.start);
                ProbeErrorKind::TimedOut(phase, Duration::from_secs(time.as_secs()))
            }
            (_, Phase::Connecting) => ProbeErrorKind::Connect(error),
            (_, Phase::Sending) => ProbeErrorKind::Send(error),
            (_, Phase::Receiving) => ProbeErrorKind::Receive(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn a_server_is_told_the_whole_seconds_that_the_probe_waits() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let request = |milliseconds| Probe::new(address).timeout(Duration::from_millis(milliseconds)).request(address);
        assert!(request(1999).contains("\r\nPrefer: wait=1\r\n"));
        assert!(!request(999).contains("Prefer"));
    }

    #[test]
    fn two_addresses_share_one_deadline() {
        use ErrorKind::{AddrNotAvailable, ConnectionRefused, NetworkUnreachable, TimedOut};
        let clock = Clock::start(Duration::from_secs(60));
        let first = SocketAddr::from(([127, 0, 0, 1], 1));
        let second = SocketAddr::from(([127, 0, 0, 2], 2));
        let (half, whole) = (clock.start + Duration::from_secs(30), clock.deadline);
        type Outcome = Result<(), ErrorKind>;
        let rows: [(&[Outcome], Outcome); 10] = [
            (&[Ok(())], Ok(())),
            (&[Err(ConnectionRefused), Ok(())], Ok(())),
            (&[Err(TimedOut), Ok(())], Ok(())),
            (&[Err(ConnectionRefused), Err(ConnectionRefused)], Err(ConnectionRefused)),
            (&[Err(ConnectionRefused), Err(AddrNotAvailable)], Err(ConnectionRefused)),
            (&[Err(NetworkUnreachable), Err(ConnectionRefused)], Err(ConnectionRefused)),
            (&[Err(ConnectionRefused), Err(TimedOut)], Err(TimedOut)),
            (&[Err(TimedOut), Err(TimedOut)], Err(TimedOut)),
            (&[Err(TimedOut), Err(ConnectionRefused), Ok(())], Ok(())),
            (&[Err(TimedOut), Err(ConnectionRefused), Err(TimedOut)], Err(TimedOut)),
        ];
        for (results, expected) in rows {
            let tried = RefCell::new(Vec::new());
            let outcome = connect_to_either(&clock, first, second, |address, deadline| {
                tried.borrow_mut().push((address, deadline));
                results[tried.borrow().len() - 1].map_err(io::Error::from)
            });
            assert_eq!(outcome.map_err(|error| error.kind()), expected, "{results:?}");
            let order = [(first, half), (second, whole), (first, whole)];
            assert_eq!(tried.into_inner(), order[..results.len()], "{results:?}");
        }
    }

    #[test]
    fn an_error_of_the_system_is_told_with_what_the_probe_did() {
        let clock = Clock::start(Duration::from_secs(3600));
        for (phase, text) in [
            (Phase::Connecting, "cannot connect: "),
            (Phase::Sending, "cannot send the request: "),
            (Phase::Receiving, "cannot read the answer: "),
        ] {
            let failure = clock.failure(phase, ErrorKind::ConnectionReset.into());
            assert!(failure.to_string().starts_with(text), "{failure}");
        }
    }

    #[test]
    fn a_timeout_message_has_the_time_that_really_passed() {
        let clock = Clock::start(Duration::from_secs(3600));
        for (milliseconds, text) in [
            (127_300, "no connection within 127 s"),
            (3_599_800, "no connection within 3599 s"),
            (3_599_950, "no connection within 3600 s"),
            (3_600_000, "no connection within 3600 s"),
            (3_601_000, "no connection within 3600 s"),
        ] {
            let now = clock.start + Duration::from_millis(milliseconds);
            let failure = clock.failure_at(now, Phase::Connecting, ErrorKind::TimedOut.into());
            assert_eq!(failure.to_string(), text, "{milliseconds}");
        }
    }
}
