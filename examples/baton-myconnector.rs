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
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use baton_health::{App, BoxError, Connector, Level, Secret, Setting, Settings, Stop, log};

/// How long each step of a call upstream may take, the look-up of its name excepted: shorter than
/// the probe's 5 s, so that `validate` can say why.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(3);

const UPSTREAM: Setting<String> = Setting::text("upstream", "HOST:PORT").help("Where the directory is");
const TOKEN: Setting<Secret> = Setting::secret("token").help("What the directory knows us by");
const SYNC_INTERVAL: Setting<Duration> = Setting::duration("sync-interval")
    .range(Duration::from_secs(1)..=Duration::from_secs(86400))
    .default(Duration::from_secs(60))
    .help("Time between two rounds of syncing");

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

    /// One GET, HTTP/1.0 so that the body ends where the connection does. Every step but the look-up has a timeout.
    fn ask(&self, path: &str) -> Result<String, BoxError> {
        let address = self.upstream.to_socket_addrs()?.next().ok_or("the name has no address")?;
        let mut stream = TcpStream::connect_timeout(&address, UPSTREAM_TIMEOUT)?;
        stream.set_read_timeout(Some(UPSTREAM_TIMEOUT))?;
        stream.set_write_timeout(Some(UPSTREAM_TIMEOUT))?;
        let (host, token) = (&self.upstream, self.token.expose());
        let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.take(1 << 20).read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is cut short")?;
        match head.split(' ').nth(1) {
            Some("200") => Ok(body.to_owned()),
            Some("401") => Err("it does not know our token".into()),
            _ => Err(head.lines().next().unwrap_or_default().into()),
        }
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

impl Connector for MyConnector {
    /// Asks upstream, for real: the token may have been revoked since.
    fn validate(&self) -> Result<(), BoxError> {
        self.get("/whoami").map(drop)
    }

    /// Asks nobody: there is something to serve once a sync has worked, and not too long ago.
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
                // It may pass: say so, and try again. Meanwhile /health tells.
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
