//! The one table of settings: the connector's own, and those that every connector has.

use std::time::Duration;

use super::row::{Default, Kind, Row, Scope};
use crate::config::{Config, DEFAULT_PROBE_TIMEOUT};

pub(super) const HEALTH_CHECK: &str = "health-check";
pub(super) const PORT: &str = "health-check-port";
pub(super) const BIND_ADDRESS: &str = "health-check-bind-address";
pub(super) const ENDPOINT: &str = "endpoint";
pub(super) const TIMEOUT: &str = "timeout";
pub(super) const LOG_LEVEL: &str = "log-level";
pub(super) const LOG_FORMAT: &str = "log-format";

/// The probe's longest timeout: an hour is more than any orchestrator waits.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// All rows; the connector's own come first.
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
}

impl Table {
    /// # Errors
    ///
    /// A name that is taken, or a default that is not allowed: the author's mistake.
    pub(super) fn new(own: &[Row], config: &Config) -> Result<Table, String> {
        let mut rows = Vec::with_capacity(own.len() + 7);
        rows.extend_from_slice(own);
        rows.extend(programs_rows(config));
        for (place, row) in rows.iter().enumerate().take(own.len()) {
            let mut others = rows.iter().skip(place + 1).filter(|other| other.scope != Scope::Probe);
            if others.any(|other| collide(row, other)) || is_reserved(row) {
                return Err(["the name of setting --", row.name, " is taken"].concat());
            }
            let default = row.default_text().filter(|_| matches!(row.kind, Kind::Choice(_) | Kind::Text | Kind::Path));
            let bad = |text: &str| !text.is_empty() && row.problem(text.as_ref(), super::row::Source::Default).is_some();
            if default.is_some_and(|default| bad(&default)) {
                return Err(["the default of setting --", row.name, " is not allowed"].concat());
            }
        }
        Ok(Table { rows })
    }

    /// The row of a flag, of a running connector or of the probe, and whether it names a secret's file.
    pub(super) fn flag(&self, name: &str, probe: bool) -> Option<(&Row, bool)> {
        let file_of = name.strip_suffix("-file");
        let mut found = None;
        for row in &self.rows {
            let secret = row.kind == Kind::Secret;
            if (secret && file_of == Some(row.name)) || (!secret && row.name == name) {
                found = Some((row, secret));
                if (row.scope == Scope::Probe) == probe {
                    break;
                }
            }
        }
        found
    }

    pub(super) fn letter(&self, letter: char) -> Option<&Row> {
        self.rows.iter().find(|row| row.short == Some(letter) && row.kind != Kind::Secret)
    }
}

fn collide(a: &Row, b: &Row) -> bool {
    let file = |secret: &Row, other: &Row| secret.kind == Kind::Secret && other.name.strip_suffix("-file") == Some(secret.name);
    a.name == b.name || file(a, b) || file(b, a) || (a.short.is_some() && a.short == b.short) || a.variable() == b.variable()
}

fn is_reserved(row: &Row) -> bool {
    matches!(row.name, "help" | "version") || matches!(row.short, Some('h' | 'v' | 'V'))
}

/// The rows that every connector has.
fn programs_rows(config: &Config) -> [Row; 7] {
    let (ip, port) = (config.address.ip(), config.address.port().into());
    [
        Row::new(HEALTH_CHECK, "", Kind::Switch, Default::Text("false"))
            .help("Enable the health check server")
            .scope(Scope::Server),
        Row::new(PORT, "PORT", Kind::Number(0, 65535), Default::Number(port))
            .help("Port; the server takes any free one for 0")
            .scope(Scope::Both),
        Row::new(BIND_ADDRESS, "ADDRESS", Kind::Address, Default::Address(ip))
            .help("An IP address or localhost")
            .scope(Scope::Both),
        Row::new(ENDPOINT, "ENDPOINT", Kind::Endpoint, Default::Text("health"))
            .help("What to ask: health, ready or live")
            .scope(Scope::Probe),
        Row::new(TIMEOUT, "TIME", Kind::Duration(Duration::from_secs(1), MAX_TIMEOUT), Default::Duration(DEFAULT_PROBE_TIMEOUT))
            .help("How long to wait for the answer")
            .scope(Scope::Probe),
        Row::new(LOG_LEVEL, "LEVEL", Kind::Level, Default::Text("info"))
            .help("Lowest level: debug, info, warn or error")
            .scope(Scope::Log),
        Row::new(LOG_FORMAT, "FORMAT", Kind::Format, Default::Absent("text on a terminal, else json"))
            .help("json, or text (console)")
            .scope(Scope::Log),
    ]
}
