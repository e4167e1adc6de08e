//! What the settings of a running connector are.

use std::fmt;
use std::net::SocketAddr;

use super::found::{Found, Value};
use super::row::{Row, Source};
use super::setting::Setting;
use super::value::whole_number;
use crate::address::{DEFAULT_ADDRESS, DEFAULT_PORT, parse_ip};
use crate::connector::BoxError;
use crate::text::escape_for_terminal;

/// The values of a connector's settings, from flags, variables, files of secrets, or defaults.
///
/// [`App::run`](crate::App::run) hands them to the function that builds the connector.
/// [`App::try_parse_from`](crate::App::try_parse_from) makes them for a test.
///
/// ```
/// use baton_health::{App, Setting};
///
/// const DOMAIN: Setting<String> = Setting::text("domain", "HOST");
/// let app = App::new("baton-directory", "1").setting(&DOMAIN);
/// let settings = app.try_parse_from([""; 0], &[("BATON_DOMAIN", "example.com")])?;
/// assert_eq!(settings.get(&DOMAIN), "example.com");
/// assert!(settings.is_given(&DOMAIN));
/// assert_eq!(settings.origin(&DOMAIN), "BATON_DOMAIN");
/// # Ok::<(), baton_health::UsageError>(())
/// ```
#[derive(Default)]
pub struct Settings {
    values: Vec<Found>,
}

impl fmt::Debug for Settings {
    /// The names only: values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.iter().map(|found| found.row.name)).finish()
    }
}

impl Settings {
    /// The value of a setting.
    ///
    /// # Panics
    ///
    /// If the setting was not declared to the [`App`](crate::App), or was declared with another type.
    #[must_use]
    #[track_caller]
    pub fn get<T: Value>(&self, setting: &Setting<T>) -> T {
        match T::read(self.found(&setting.row)) {
            Some(value) => value,
            None => misused(setting.row.name),
        }
    }

    /// Whether a setting was given, by flag or variable, rather than left at its default.
    ///
    /// # Panics
    ///
    /// As [`get`](Settings::get).
    #[must_use]
    #[track_caller]
    pub fn is_given<T>(&self, setting: &Setting<T>) -> bool {
        !matches!(self.found(&setting.row).source, Source::Default | Source::Absent)
    }

    /// An error that names a setting as the operator gave it, its value unless that is secret, and the reason why the
    /// connector cannot use it.
    ///
    /// # Panics
    ///
    /// As [`get`](Settings::get).
    ///
    /// ```
    /// # use baton_health::{App, Setting};
    /// const UPSTREAM: Setting<String> = Setting::text("upstream", "HOST:PORT");
    /// let settings = App::new("baton-directory", "1").setting(&UPSTREAM).try_parse_from(["--upstream=a"], &[])?;
    /// let error = settings.error(&UPSTREAM, &"it has no port");
    /// assert_eq!(error.to_string(), "invalid --upstream \"a\": it has no port");
    /// # Ok::<(), baton_health::UsageError>(())
    /// ```
    #[must_use]
    #[track_caller]
    pub fn error<T>(&self, setting: &Setting<T>, reason: &dyn fmt::Display) -> BoxError {
        let found = self.found(&setting.row);
        super::mistakes::invalid(&found.row, found.source, &found.text, &reason.to_string()).into()
    }

    /// Where a setting's value came from: `--name`, `BATON_NAME`, or `default of --name`; for a secret also
    /// `--name-file` or `BATON_NAME_FILE`.
    ///
    /// # Panics
    ///
    /// As [`get`](Settings::get).
    #[must_use]
    #[track_caller]
    pub fn origin<T>(&self, setting: &Setting<T>) -> String {
        origin(self.found(&setting.row))
    }

    pub(super) fn origin_of(&self, name: &str) -> String {
        self.values.iter().find(|found| found.row.name == name).map(origin).unwrap_or_default()
    }

    #[track_caller]
    fn found(&self, row: &Row) -> &Found {
        match self.values.iter().find(|found| found.row.name == row.name) {
            Some(found) => found,
            None => misused(row.name),
        }
    }

    pub(super) fn push(&mut self, found: Found) {
        self.values.push(found);
    }

    /// The text of one of the program's own settings.
    pub(super) fn text(&self, name: &str) -> &str {
        self.values.iter().find(|found| found.row.name == name).map_or("", Found::str)
    }

    /// The address and port that those two settings say.
    pub(super) fn socket_address(&self, bind_address: &str, port: &str) -> SocketAddr {
        let ip = parse_ip(self.text(bind_address)).unwrap_or(DEFAULT_ADDRESS);
        let port = whole_number(self.text(port)).and_then(|port| port.try_into().ok()).unwrap_or(DEFAULT_PORT);
        SocketAddr::new(ip, port)
    }
}

fn origin(found: &Found) -> String {
    let before = if matches!(found.source, Source::Default | Source::Absent) { "default of " } else { "" };
    let mut out = before.to_owned();
    escape_for_terminal(&mut out, found.row.origin(found.source).as_bytes());
    out
}

/// The author's mistake, which the first run finds.
#[allow(clippy::panic)]
#[cold]
#[track_caller]
fn misused(name: &str) -> ! {
    panic!("the setting --{name} was not declared to the App, or was declared with another type")
}
