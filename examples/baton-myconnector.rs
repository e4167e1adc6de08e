//! A whole connector: it syncs the users of a directory that speaks plain HTTP.
//!
//! ```console
//! $ BATON_TOKEN=.. baton-myconnector --upstream=127.0.0.1:9000 --health-check
//! $ baton-myconnector health-check --endpoint=ready
//! ```
//!
//! The directory answers `GET /whoami` with 200 if it knows the token, and `GET /users` with one
//! name a line.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use baton_health::{App, BoxError, Connector, Level, Secret, Setting, Settings, Stop, log};

/// How long a whole call upstream may take: shorter than the probe's 5 s, so that `validate` can say
/// why it failed. The look-up of the name comes on top: the system has no timeout for it.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(3);

const UPSTREAM: Setting<String> = Setting::text("upstream", "HOST:PORT").help("Where the directory is");
const TOKEN: Setting<Secret> = Setting::secret("token").help("What the directory knows us by");
const SYNC_INTERVAL: Setting<Duration> = Setting::duration("sync-interval")
    .range(Duration::from_secs(1)..=Duration::from_secs(86400))
    .default(Duration::from_secs(60))
    .help("Time between two rounds of syncing");

/// Bytes in an answer's head.
const MAX_HEAD: u64 = 8 * 1024;

/// Bytes in an answer's body. Beyond it the call fails: in a list cut short, users would look removed.
const MAX_BODY: u64 = 1024 * 1024;

struct MyConnector {
    upstream: String,
    /// Goes into requests, and nowhere else.
    token: Secret,
    interval: Duration,
    synced: Mutex<Synced>,
}

#[derive(Default)]
struct Synced {
    users: BTreeSet<String>,
    at: Option<Instant>,
}

impl MyConnector {
    /// Fails when the directory cannot be reached or does not know us: then there is nothing to start.
    fn connect(settings: &Settings) -> Result<MyConnector, BoxError> {
        let connector = MyConnector {
            upstream: settings.get(&UPSTREAM),
            token: settings.get(&TOKEN),
            interval: settings.get(&SYNC_INTERVAL),
            synced: Mutex::default(),
        };
        connector.get("/whoami")?;
        Ok(connector)
    }

    /// The body of the answer; an error names the directory.
    fn get(&self, path: &str) -> Result<String, BoxError> {
        self.ask(path).map_err(|error| format!("http://{}{path}: {error}", self.upstream).into())
    }

    /// One GET. HTTP/1.0 has no chunked bodies, and the connection ends with the answer.
    fn ask(&self, path: &str) -> Result<String, BoxError> {
        let mut upstream = Upstream::connect(&self.upstream)?;
        let (host, token) = (&self.upstream, self.token.expose());
        let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n");
        upstream.write_all(request.as_bytes())?;
        read_answer(&mut BufReader::new(upstream.take(MAX_HEAD + MAX_BODY)))
    }

    fn sync(&self) -> Result<(), BoxError> {
        let users: BTreeSet<String> = self.get("/users")?.lines().map(str::to_owned).collect();
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if synced.users != users || synced.at.is_none() {
            log(Level::Info, "users changed", &[("users", &users.len().to_string())]);
        }
        *synced = Synced { users, at: Some(Instant::now()) };
        Ok(())
    }
}

/// The body of an answer with status 200, if all of it has arrived.
fn read_answer(answer: &mut impl BufRead) -> Result<String, BoxError> {
    const CUT: &str = "the answer is cut short";
    let mut head = answer.lines();
    let status = head.next().ok_or(CUT)??;
    match status.split(' ').nth(1) {
        Some("200") => {}
        Some("401") => return Err("it does not know our token".into()),
        _ => return Err(status.into()),
    }
    let mut length = None;
    loop {
        let line = head.next().ok_or(CUT)??;
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = Some(value.trim().parse()?),
            None if line.is_empty() => break,
            _ => {}
        }
    }
    let length: u64 = length.ok_or("the answer does not say how long it is")?;
    if length > MAX_BODY {
        return Err(format!("the answer is longer than {MAX_BODY} bytes: {length}").into());
    }
    let mut body = String::new();
    let read = answer.take(length).read_to_string(&mut body)?;
    if read as u64 == length { Ok(body) } else { Err(CUT.into()) }
}

/// A connection whose reads and writes share one deadline, however small the pieces in which bytes arrive.
struct Upstream {
    stream: TcpStream,
    deadline: Instant,
}

impl Upstream {
    fn connect(address: &str) -> io::Result<Upstream> {
        let addresses = address.to_socket_addrs()?;
        let deadline = Instant::now() + UPSTREAM_TIMEOUT;
        let mut failure = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(stream) => return Ok(Upstream { stream, deadline }),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

impl Read for Upstream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(buffer).map_err(told)
    }
}

impl Write for Upstream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(bytes).map_err(told)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The time that is left; an error when none is.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(told(ErrorKind::TimedOut.into())) } else { Ok(left) }
}

/// Says that the time is over: Unix calls a timeout "Resource temporarily unavailable".
fn told(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            io::Error::new(ErrorKind::TimedOut, format!("no whole answer within {} s", UPSTREAM_TIMEOUT.as_secs()))
        }
        _ => error,
    }
}

impl Connector for MyConnector {
    /// Asks upstream each time: the token may have been revoked since.
    fn validate(&self) -> Result<(), BoxError> {
        self.get("/whoami").map(drop)
    }

    /// Calls nothing upstream: it can serve if a sync has worked, and not too long ago.
    fn ready(&self) -> Result<(), BoxError> {
        match self.synced.lock().unwrap_or_else(PoisonError::into_inner).at {
            None => Err("not synced yet".into()),
            Some(at) if at.elapsed() > 3 * self.interval => Err("the last sync that worked is too long ago".into()),
            Some(_) => Ok(()),
        }
    }

    fn serve(&self, stop: &Stop) -> Result<(), BoxError> {
        loop {
            if let Err(error) = self.sync() {
                // It may pass, so this goes on and tries again. Meanwhile /health reports it.
                log(Level::Warn, "sync failed", &[("reason", &error.to_string())]);
            }
            if stop.wait_for(self.interval) {
                return Ok(());
            }
        }
    }
}

fn main() -> ExitCode {
    App::new("baton-myconnector", env!("CARGO_PKG_VERSION"))
        .about("Syncs the users of a directory")
        .setting(&UPSTREAM)
        .setting(&TOKEN)
        .setting(&SYNC_INTERVAL)
        .run(MyConnector::connect)
}
