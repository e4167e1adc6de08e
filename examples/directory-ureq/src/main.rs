//! A whole connector with a real upstream: it syncs the users of a directory that speaks HTTPS and JSON.
//!
//! ```console
//! $ directory-ureq --url=https://directory.example.com --token-file=/run/secrets/token --health-check
//! $ directory-ureq health-check --endpoint=ready
//! ```
//!
//! `GET /whoami` answers 200 if the directory knows the token. `GET /users?limit=100&after=ID` answers
//! `{"users":[{"id":"1","name":"alice"}],"next":"1","total":27}`, without `next` on the last page.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use baton_health::{App, BoxError, Connector, Level, Secret, Setting, Settings, Stop, explain, log};
use serde::Deserialize;
use ureq::Agent;
use ureq::http::header::AUTHORIZATION;
use ureq::http::{HeaderValue, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

#[cfg(test)]
mod tests;

/// How long a whole call may take, from the look-up of the name to the last byte: shorter than the probe's
/// 5 s, so that `validate` can say why it failed, and than the 5 s in which the daemon has to end.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Bytes in the body of an answer, or in a file of certificates. Beyond it reading fails.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Users in the list. Beyond it the sync fails, so that no directory can fill the memory.
const MAX_USERS: usize = 1_000_000;

const URL: Setting<String> = Setting::text("url", "URL").help("Where the directory is: https://HOST[:PORT][/PATH]");
const TOKEN: Setting<Secret> = Setting::secret("token").help("What the directory knows us by");
const CA_FILE: Setting<Option<PathBuf>> =
    Setting::path("ca-file", "FILE").help("Certificates (PEM) to trust instead of the built-in ones").optional();
const PAGE_SIZE: Setting<u64> = Setting::number("page-size", "COUNT").range(1..=1000).default(100).help("Users to ask for at once");
const SYNC_INTERVAL: Setting<Duration> = Setting::duration("sync-interval")
    .range(Duration::from_secs(1)..=Duration::from_secs(86400))
    .default(Duration::from_secs(60))
    .help("Time between two rounds of syncing");

struct Directory {
    agent: Agent,
    url: String,
    /// Goes into requests, and nowhere else.
    authorization: HeaderValue,
    page_size: String,
    interval: Duration,
    synced: Mutex<Synced>,
}

/// What came of the syncs so far.
#[derive(Default)]
struct Synced {
    /// Names by id, as of the last sync that worked.
    users: BTreeMap<String, String>,
    at: Option<Instant>,
    /// Why the last sync failed, if it did.
    failure: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    users: Vec<User>,
    next: Option<String>,
    total: usize,
}

#[derive(Deserialize)]
struct User {
    id: String,
    name: String,
}

impl Directory {
    /// Fails when a setting cannot be right. It does not ask the directory: one that is down now may come back,
    /// as it may later, and `/health` tells.
    fn connect(settings: &Settings) -> Result<Directory, BoxError> {
        let url = settings.get(&URL);
        if !is_https(&url) {
            return Err(settings.error(&URL, &"expected https://HOST[:PORT][/PATH]"));
        }
        let authorization = bearer(&settings.get(&TOKEN)).map_err(|reason| settings.error(&TOKEN, &reason))?;
        let roots = match settings.get(&CA_FILE) {
            None => RootCerts::WebPki,
            Some(path) => read_roots(&path).map_err(|reason| settings.error(&CA_FILE, &reason))?,
        };
        let agent = Agent::config_builder()
            .timeout_global(Some(CALL_TIMEOUT))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            // Every status is ours to judge, and the token goes to the directory alone.
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .new_agent();
        Ok(Directory {
            agent,
            url: url.trim_end_matches('/').to_owned(),
            authorization,
            page_size: settings.get(&PAGE_SIZE).to_string(),
            interval: settings.get(&SYNC_INTERVAL),
            synced: Mutex::default(),
        })
    }

    /// The body of the answer. An error says where we asked, but not what was sent or came back: that may hold
    /// the token.
    fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<u8>, BoxError> {
        self.ask(path, query).map_err(|reason| format!("{}{path}: {}", self.url, explain(&*reason)).into())
    }

    fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<u8>, BoxError> {
        let request = self.agent.get(format!("{}{path}", self.url)).header(AUTHORIZATION, &self.authorization);
        let mut answer = request.query_pairs(query.iter().copied()).call().map_err(told)?;
        match answer.status().as_u16() {
            200 => Ok(answer.body_mut().with_config().limit(MAX_BYTES).read_to_vec().map_err(told)?),
            401 | 403 => Err("the directory refuses our token".into()),
            status => Err(format!("status {status}").into()),
        }
    }

    /// All pages of the list, or an error: in a list cut short, users would look removed.
    fn users(&self, stop: &Stop) -> Result<BTreeMap<String, String>, BoxError> {
        let mut users = BTreeMap::new();
        let mut after = String::new();
        loop {
            let body = self.get("/users", &[("limit", &self.page_size), ("after", &after)])?;
            let page: Page = serde_json::from_slice(&body)
                .map_err(|error| format!("not a page of users: line {} column {}", error.line(), error.column()))?;
            let before = users.len();
            users.extend(page.users.into_iter().map(|user| (user.id, user.name)));
            match page.next {
                _ if stop.is_requested() => return Err("asked to stop".into()),
                _ if users.len() > MAX_USERS => return Err(format!("more than {MAX_USERS} users").into()),
                // A page that brings nobody would bring nobody for ever.
                Some(next) if users.len() > before => after = next,
                _ if users.len() == page.total => return Ok(users),
                _ => return Err(format!("the list is cut short: {} of {} users", users.len(), page.total).into()),
            }
        }
    }

    fn sync(&self, stop: &Stop) {
        let users = self.users(stop);
        let mut synced = self.synced();
        match users {
            Ok(users) => {
                if synced.users != users || synced.at.is_none() {
                    log(Level::Info, "users changed", &[("users", &users.len().to_string())]);
                }
                *synced = Synced { users, at: Some(Instant::now()), failure: None };
            }
            Err(_) if stop.is_requested() => {}
            // It may pass: say so, and try again in the next round.
            Err(error) => {
                log(Level::Warn, "sync failed", &[("reason", &error.to_string())]);
                synced.failure = Some(error.to_string());
            }
        }
    }

    fn synced(&self) -> MutexGuard<'_, Synced> {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connector for Directory {
    /// Asks the directory, for real: the token may have been revoked since. Then says how the last sync went.
    fn validate(&self) -> Result<(), BoxError> {
        self.get("/whoami", &[])?;
        match &self.synced().failure {
            Some(failure) => Err(format!("the last sync failed: {failure}").into()),
            None => Ok(()),
        }
    }

    /// Asks nobody: there is something to serve once a sync has worked, and not too long ago.
    fn ready(&self) -> Result<(), BoxError> {
        match self.synced().at {
            None => Err("not synced yet".into()),
            Some(at) if at.elapsed() > 3 * self.interval => Err("the last sync that worked is too long ago".into()),
            Some(_) => Ok(()),
        }
    }

    fn serve(&self, stop: &Stop) -> Result<(), BoxError> {
        loop {
            self.sync(stop);
            if stop.wait_for(self.interval) {
                return Ok(());
            }
        }
    }
}

/// The token must not go over the network in the clear.
fn is_https(url: &str) -> bool {
    url.parse().is_ok_and(|uri: Uri| {
        let bare = uri.authority().is_some_and(|authority| !authority.as_str().contains('@')) && uri.query().is_none();
        uri.scheme_str() == Some("https") && bare
    })
}

fn bearer(token: &Secret) -> Result<HeaderValue, &'static str> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| "no header can hold it")?;
    value.set_sensitive(true);
    Ok(value)
}

fn read_roots(path: &Path) -> Result<RootCerts, BoxError> {
    let mut pem = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut pem)?;
    let mut roots = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item? {
            roots.push(certificate);
        }
    }
    if roots.is_empty() { Err("it holds no certificate".into()) } else { Ok(RootCerts::from(roots)) }
}

fn told(error: ureq::Error) -> BoxError {
    match error {
        ureq::Error::Timeout(_) => format!("no whole answer within {} s", CALL_TIMEOUT.as_secs()).into(),
        error => error.into(),
    }
}

fn app() -> App {
    App::new("directory-ureq", env!("CARGO_PKG_VERSION"))
        .about("Syncs the users of a directory")
        .setting(&URL)
        .setting(&TOKEN)
        .setting(&CA_FILE)
        .setting(&PAGE_SIZE)
        .setting(&SYNC_INTERVAL)
}

fn main() -> ExitCode {
    app().run(Directory::connect)
}
