//! Ask one endpoint one question.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::address::{Address, reachable};
use crate::config::DEFAULT_PROBE_TIMEOUT;
use crate::deadline::{Timed, after, left, milliseconds};
use crate::endpoint::Endpoint;
use crate::http::Malformed;
use crate::http::response;
use crate::limits::{MAX_RESPONSE_HEAD, MAX_SHOWN_BODY, USUAL_HEAD};
use crate::text::{escape_for_terminal, push_digits};

/// One question to one endpoint: a plain HTTP/1.1 GET, whose answer is 200 or a failure.
///
/// No name is looked up, no proxy asked, no redirect followed, and nothing is tried twice.
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
#[derive(Clone, Debug)]
#[must_use = "a probe asks nothing until it is run"]
pub struct Probe {
    address: SocketAddr,
    endpoint: Endpoint,
    timeout: Duration,
}

impl Probe {
    /// A question to the server at `address`. An unspecified address (`0.0.0.0`, `::`) is what a
    /// server listens on to be reached on all of them: it is asked on loopback.
    pub fn new(address: SocketAddr) -> Probe {
        Probe { address: reachable(address), endpoint: Endpoint::default(), timeout: DEFAULT_PROBE_TIMEOUT }
    }

    /// What to ask. Default is [`Endpoint::Health`].
    pub fn endpoint(mut self, endpoint: Endpoint) -> Probe {
        self.endpoint = endpoint;
        self
    }

    /// How long connecting, asking and reading the answer may take, all together. Whole seconds are
    /// passed on to the server, which then answers before they are over. Default is 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Probe {
        self.timeout = timeout;
        self
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    ///
    /// Everything but an answer with status 200 and a whole head: it says what happened instead.
    pub fn run(&self) -> Result<(), ProbeError> {
        self.ask().map_err(|failure| ProbeError { address: self.address, endpoint: self.endpoint, failure })
    }

    fn ask(&self) -> Result<(), ProbeFailure> {
        let deadline = after(Instant::now(), self.timeout);
        let late = |phase, error: io::Error, other: fn(io::Error) -> ProbeFailure| match error.kind() {
            ErrorKind::TimedOut => ProbeFailure::TimedOut(phase, self.timeout),
            _ => other(error),
        };
        let connected = left(deadline).and_then(|left| TcpStream::connect_timeout(&self.address, left));
        let stream = connected.map_err(|error| late(Phase::Connecting, error, ProbeFailure::Connect))?;
        let timed = Timed { stream: &stream, deadline };
        timed.write_all(self.request().as_bytes()).map_err(|error| late(Phase::Asking, error, ProbeFailure::Send))?;

        // Nearly every answer fits on the stack, and then the probe asks the system for no memory.
        let (mut usual, mut longest) = ([0; USUAL_HEAD], Vec::new());
        let (mut filled, mut start) = (0, 0);
        loop {
            // The bound holds for all heads together: interim ones must not go on for ever.
            if filled == USUAL_HEAD && longest.is_empty() {
                longest.extend_from_slice(&usual);
                longest.resize(MAX_RESPONSE_HEAD, 0);
            }
            let bytes = if longest.is_empty() { &mut usual } else { &mut *longest };
            match timed.read(bytes.get_mut(filled..).unwrap_or_default()) {
                Ok(0) if filled < bytes.len() => return Err(ProbeFailure::Closed),
                Ok(0) => return Err(ProbeFailure::NotHttp),
                Ok(count) => filled += count,
                Err(error) => return Err(late(Phase::Reading, error, ProbeFailure::Receive)),
            }
            while let Some(head) = response::parse(bytes.get(start..filled).unwrap_or_default())? {
                match head.status {
                    200 => return Ok(()),
                    // Interim answers precede the real one (RFC 9110 section 15.2); we asked for no
                    // other protocol, so 101 is the last thing that is HTTP here.
                    100..=199 if head.status != 101 => start += head.len,
                    code => {
                        let reason = text(head.reason);
                        let come = bytes.get(start + head.len..filled).unwrap_or_default();
                        let body = read_body(&timed, come.to_vec(), head.length);
                        return Err(ProbeFailure::Status { code, reason, body });
                    }
                }
            }
        }
    }

    fn request(&self) -> String {
        let mut request = String::with_capacity(256);
        request.extend(["GET ", self.endpoint.path(), " HTTP/1.1\r\nHost: "]);
        Address(self.address).push(&mut request);
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

/// What an unwelcome answer has to say, as far as it fits and comes in time.
fn read_body(timed: &Timed<'_>, mut body: Vec<u8>, length: Option<u64>) -> String {
    let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
    let wanted = length.min(MAX_SHOWN_BODY + 1);
    let mut filled = body.len();
    body.resize(wanted.max(filled), 0);
    while filled < wanted {
        match timed.read(body.get_mut(filled..wanted).unwrap_or_default()) {
            Ok(count @ 1..) => filled += count,
            // The status is known: that the text does not come makes nothing worse.
            _ => break,
        }
    }
    body.truncate(filled.min(length));
    let cut = body.len() > MAX_SHOWN_BODY;
    body.truncate(MAX_SHOWN_BODY);
    let mut shown = text(&body);
    if cut {
        shown.push_str("...");
    }
    shown
}

fn text(bytes: &[u8]) -> String {
    let mut text = String::new();
    escape_for_terminal(&mut text, bytes.trim_ascii());
    text
}

/// Why a probe did not get the answer it wanted: what was asked, and what happened.
///
/// Its text is one line without control characters, whatever the far side sent.
#[derive(Debug)]
pub struct ProbeError {
    address: SocketAddr,
    endpoint: Endpoint,
    failure: ProbeFailure,
}

impl ProbeError {
    /// What happened.
    #[must_use]
    pub fn failure(&self) -> &ProbeFailure {
        &self.failure
    }
}

/// What happened to a probe.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProbeFailure {
    /// No connection: nobody listens there, or the network says no.
    Connect(io::Error),
    /// The connection broke before the request was sent.
    Send(io::Error),
    /// The connection broke before the answer was read.
    Receive(io::Error),
    /// The time was up, which was this long.
    TimedOut(Phase, Duration),
    /// The far side closed the connection before its answer was whole.
    Closed,
    /// What answered does not speak HTTP/1, or has more to say than an answer's head has room for.
    NotHttp,
    /// An answer, and not 200.
    Status {
        /// The status code.
        code: u16,
        /// The reason phrase, which may be empty.
        reason: String,
        /// The first 2 KiB of the body, control characters escaped.
        body: String,
    },
}

/// What a probe was doing when its time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Connecting: nobody took the connection.
    Connecting,
    /// Sending the request: nobody took it.
    Asking,
    /// Reading the answer: it did not come, or not all of its head.
    Reading,
}

impl From<Malformed> for ProbeFailure {
    fn from(_: Malformed) -> ProbeFailure {
        ProbeFailure::NotHttp
    }
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}: ", Address(self.address), self.endpoint.path())?;
        self.failure.fmt(f)
    }
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeFailure::Connect(error) if error.kind() == ErrorKind::ConnectionRefused => {
                write!(f, "cannot connect: {error}; does the connector run with its health check enabled?")
            }
            ProbeFailure::Connect(error) => write!(f, "cannot connect: {error}"),
            ProbeFailure::Send(error) => write!(f, "cannot send the request: {error}"),
            ProbeFailure::Receive(error) => write!(f, "cannot read the answer: {error}"),
            ProbeFailure::TimedOut(phase, timeout) => {
                f.write_str(match phase {
                    Phase::Connecting => "no connection within ",
                    Phase::Asking => "request not taken within ",
                    Phase::Reading => "no answer within ",
                })?;
                match (timeout.as_secs(), timeout.subsec_millis()) {
                    (seconds, 0) => write!(f, "{seconds} s"),
                    (..) => write!(f, "{} ms", milliseconds(*timeout)),
                }
            }
            ProbeFailure::Closed => f.write_str("connection closed before the answer was complete"),
            ProbeFailure::NotHttp => f.write_str("what answered is not HTTP/1"),
            ProbeFailure::Status { code, reason, body } => {
                write!(f, "status {code}")?;
                for (separator, text) in [(" ", reason), (": ", body)] {
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
        match &self.failure {
            ProbeFailure::Connect(error) | ProbeFailure::Send(error) | ProbeFailure::Receive(error) => Some(error),
            _ => None,
        }
    }
}
