//! The table of all settings: the connector's own and those of every connector.

use super::row::{Default, Kind, Row, Scope, Source};
use crate::address::{DEFAULT_ADDRESS, DEFAULT_PORT};
use crate::config::{Config, DEFAULT_PROBE_TIMEOUT};

pub(super) const HEALTH_CHECK: &str = "health-check";
pub(super) const PORT: &str = "health-check-port";
pub(super) const BIND_ADDRESS: &str = "health-check-bind-address";
pub(super) const ENDPOINT: &str = "endpoint";
pub(super) const TIMEOUT: &str = "timeout";
pub(super) const LOG_LEVEL: &str = "log-level";
pub(super) const LOG_FORMAT: &str = "log-format";

/// The probe's longest timeout in milliseconds: an hour, longer than any orchestrator waits.
const MAX_TIMEOUT: u64 = 3_600_000;

/// All rows. The connector's own come first.
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
}

impl Table {
    /// # Errors
    ///
    /// A message about a mistake of the author: a name that is taken, or a default that is not allowed.
    pub(super) fn new(own: &[Row], config: &Config) -> Result<Table, String> {
        let mut rows = Vec::with_capacity(own.len() + 7);
        rows.extend_from_slice(own);
        rows.extend_from_slice(&PROGRAMS_ROWS);
        for row in &mut rows {
            match &mut row.default {
                Default::Address(ip) => *ip = config.address.ip(),
                Default::Number(port) if row.name == PORT => *port = config.address.port().into(),
                _ => {}
            }
        }
        for (place, row) in rows.iter().enumerate().take(own.len()) {
            let mut others = rows.iter().skip(place + 1).filter(|other| other.scope != Scope::Probe);
            if others.any(|other| collide(row, other)) || is_reserved(row) {
                return Err(["the name of setting --", row.name, " is taken"].concat());
            }
            let default = row.default_text();
            let is_read = match row.kind {
                Kind::Choice(_) => matches!(row.default, Default::Text(_)),
                Kind::Text | Kind::Path => !default.is_empty(),
                _ => false,
            };
            if is_read && row.problem(default.as_ref(), Source::Default).is_some() {
                return Err(["the default of setting --", row.name, " is not allowed"].concat());
            }
        }
        Ok(Table { rows })
    }

    /// The row with this name. If the probe and the connector each have one, the one that the command reads.
    pub(super) fn row(&self, name: &str, probe: bool) -> Option<&Row> {
        let mut found = None;
        for row in self.rows.iter().filter(|row| row.name == name) {
            if found.is_none() || (row.scope == Scope::Probe) == probe {
                found = Some(row);
            }
        }
        found
    }

    /// The row of a flag, and whether the flag names a secret's file.
    pub(super) fn flag(&self, name: &str, probe: bool) -> Option<(&Row, bool)> {
        match self.row(name, probe) {
            Some(row) if row.secret.is_none() => Some((row, false)),
            _ => {
                let row = self.row(name.strip_suffix("-file")?, probe)?;
                row.secret.map(|_| (row, true))
            }
        }
    }

    pub(super) fn letter(&self, letter: char) -> Option<&Row> {
        self.rows.iter().find(|row| row.short == Some(letter) && row.secret.is_none())
    }
}

fn collide(a: &Row, b: &Row) -> bool {
    let file = |secret: &Row, other: &Row| secret.secret.is_some() && other.name.strip_suffix("-file") == Some(secret.name);
    a.name == b.name || file(a, b) || file(b, a) || (a.short.is_some() && a.short == b.short) || a.variable() == b.variable()
}

fn is_reserved(row: &Row) -> bool {
    matches!(row.name, "help" | "version") || matches!(row.short, Some('h' | 'v' | 'V'))
}

/// The rows that every connector has.
const PROGRAMS_ROWS: [Row; 7] = [
    Row::new(HEALTH_CHECK, "", Kind::Switch, Default::Text("false")).help("Enable the health check server").scope(Scope::Server),
    Row::new(PORT, "PORT", Kind::Number(0, 65535), Default::Number(DEFAULT_PORT as u64))
        .help("Port; with 0 the server takes any free one")
        .scope(Scope::Both),
    Row::new(BIND_ADDRESS, "ADDRESS", Kind::Address, Default::Address(DEFAULT_ADDRESS))
        .help("An IP address or localhost")
        .scope(Scope::Both),
    Row::new(ENDPOINT, "ENDPOINT", Kind::Choice(&["health", "ready", "live"]), Default::Text("health"))
        .help("What to ask")
        .scope(Scope::Probe),
    Row::new(TIMEOUT, "TIME", Kind::Duration(1000, MAX_TIMEOUT), Default::Duration(DEFAULT_PROBE_TIMEOUT.as_millis() as u64))
        .help("How long the probe may take")
        .scope(Scope::Probe),
    Row::new(LOG_LEVEL, "LEVEL", Kind::Level, Default::Text("info"))
        .help("Lowest level: debug, info, warn or error")
        .scope(Scope::Log),
    Row::new(LOG_FORMAT, "FORMAT", Kind::Choice(&["json", "text", "console"]), Default::Absent("json, text on a terminal"))
        .help("Line format")
        .scope(Scope::Log),
];
