//! The one table of settings: from a row come its flag, its variable, its default, its line in
//! `--help` and its error message. Arguments and environment are passed in.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use lexopt::Arg;

use crate::config::{DEFAULT_ADDRESS, DEFAULT_PORT};
use crate::connector::BoxError;
use crate::endpoint::Endpoint;
use crate::probe::Probe;
use crate::report;

/// A setting of a connector: a flag `--name=VALUE` and a variable `BATON_NAME`.
///
/// The flag beats the variable, the variable beats the default, and an empty variable counts as
/// unset. A setting whose name is taken (`help`, `health-check`, `endpoint`, `timeout` ..) or given
/// twice, or whose default is out of its range, is refused when the program starts.
///
/// ```
/// use baton_health::Setting;
///
/// let settings = [
///     Setting::required("domain", "HOST").help("Where the accounts are"),
///     Setting::new("page-size", "COUNT", "100").range(1..=1000).help("Accounts asked for at once"),
///     Setting::flag("dry-run").help("Change nothing"),
///     Setting::secret("token").help("What to sign in with"),
/// ];
/// ```
#[derive(Clone, Debug)]
#[must_use = "a setting has to be given to the App"]
pub struct Setting {
    name: &'static str,
    placeholder: &'static str,
    default: Option<&'static str>,
    help: &'static str,
    kind: Kind,
    scope: Scope,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Text,
    Flag,
    Secret,
    Number(RangeInclusive<u64>),
    Address,
    Endpoint,
}

/// Who reads a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scope {
    Connector,
    Server,
    Both,
    Probe,
}

impl Setting {
    const fn row(name: &'static str, placeholder: &'static str, default: Option<&'static str>, kind: Kind) -> Setting {
        Setting { name, placeholder, default, help: "", kind, scope: Scope::Connector }
    }

    /// A setting with a default; `placeholder` stands for its value in `--help`.
    pub const fn new(name: &'static str, placeholder: &'static str, default: &'static str) -> Setting {
        Setting::row(name, placeholder, Some(default), Kind::Text)
    }

    /// A setting without which the connector does not start.
    pub const fn required(name: &'static str, placeholder: &'static str) -> Setting {
        Setting::row(name, placeholder, None, Kind::Text)
    }

    /// A switch, off by default: `--name`, `--name=true` or `--name=false`.
    pub const fn flag(name: &'static str) -> Setting {
        Setting::row(name, "", Some("false"), Kind::Flag)
    }

    /// A setting without which the connector does not start, and which nobody gets to see: it comes
    /// from its variable only, since other users of a machine can read command lines, and it is
    /// never part of an error message.
    pub const fn secret(name: &'static str) -> Setting {
        Setting::row(name, "", None, Kind::Secret)
    }

    /// Says what the setting is for, in a few words without a full stop.
    pub const fn help(mut self, help: &'static str) -> Setting {
        self.help = help;
        self
    }

    /// Allows whole numbers in this range only; [`Settings::number`] then reads it.
    pub fn range(mut self, range: RangeInclusive<u64>) -> Setting {
        self.kind = Kind::Number(range);
        self
    }

    const fn scope(mut self, scope: Scope) -> Setting {
        self.scope = scope;
        self
    }

    /// The variable. The probe's own settings have none: they are said where the probe is started.
    fn variable(&self) -> Option<String> {
        (self.scope != Scope::Probe).then(|| ["BATON_", &self.name.to_ascii_uppercase().replace('-', "_")].concat())
    }

    /// What is allowed, for an error message.
    fn allowed(&self) -> String {
        match &self.kind {
            Kind::Flag => "true or false (also 1 t T TRUE True, 0 f F FALSE False)".into(),
            Kind::Number(range) => format!("a whole number from {} to {}", range.start(), range.end()),
            Kind::Address => "an IP address or localhost".into(),
            Kind::Endpoint | Kind::Text | Kind::Secret => "a value".into(),
        }
    }

    /// Whether `value` is one of those allowed.
    fn allows(&self, value: &str) -> bool {
        match &self.kind {
            Kind::Text | Kind::Secret => !value.is_empty() || self.default.is_some(),
            Kind::Flag => boolean(value).is_some(),
            Kind::Number(range) => whole_number(value).is_some_and(|number| range.contains(&number)),
            Kind::Address => address(value).is_some(),
            Kind::Endpoint => Endpoint::from_name(value).is_some(),
        }
    }
}

const HEALTH_CHECK: &str = "health-check";
const PORT: &str = "health-check-port";
const BIND_ADDRESS: &str = "health-check-bind-address";
const ENDPOINT: &str = "endpoint";
const TIMEOUT: &str = "timeout";

/// The probe's longest timeout in seconds: an hour is more than any orchestrator waits.
const MAX_TIMEOUT: u64 = 3600;

/// The rows that every connector has.
fn own_rows() -> [Setting; 5] {
    [
        Setting::flag(HEALTH_CHECK).help("Enable the health check server").scope(Scope::Server),
        Setting::new(PORT, "PORT", "8081")
            .range(0..=65535)
            .help("Port of the health check server; 0 means any free one")
            .scope(Scope::Both),
        Setting { kind: Kind::Address, ..Setting::new(BIND_ADDRESS, "ADDRESS", "127.0.0.1") }
            .help("Address of the health check server: an IP address or localhost")
            .scope(Scope::Both),
        Setting { kind: Kind::Endpoint, ..Setting::new(ENDPOINT, "ENDPOINT", "health") }
            .help("What to ask: health, ready or live")
            .scope(Scope::Probe),
        Setting::new(TIMEOUT, "SECONDS", "5").range(1..=MAX_TIMEOUT).help("How long to wait for the answer").scope(Scope::Probe),
    ]
}

/// What the settings of a running connector are.
pub struct Settings {
    values: Vec<Value>,
}

struct Value {
    row: Setting,
    text: Option<String>,
    source: Source,
}

#[derive(Clone, Copy, PartialEq)]
enum Source {
    Flag,
    Variable,
    Default,
}

impl fmt::Debug for Settings {
    /// The names only: values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.iter().map(|value| value.row.name)).finish()
    }
}

impl Settings {
    /// The value of a setting: given, or its default.
    ///
    /// # Panics
    ///
    /// When no [`Setting`] of that name was given to the [`App`](crate::App). What is required is
    /// there by the time anyone can ask.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.value(name).text.as_deref().unwrap_or_default()
    }

    /// The value of a setting with a [`range`](Setting::range).
    ///
    /// # Panics
    ///
    /// When no such [`Setting`] was given to the [`App`](crate::App), or it has no range.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        match (&self.value(name).row.kind, whole_number(self.get(name))) {
            (Kind::Number(_), Some(number)) => number,
            _ => misused(name, "has no range"),
        }
    }

    /// Whether a [`flag`](Setting::flag) is on, or another setting was given rather than left at its default.
    ///
    /// # Panics
    ///
    /// When no [`Setting`] of that name was given to the [`App`](crate::App).
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        let value = self.value(name);
        match value.row.kind {
            Kind::Flag => value.text.as_deref().and_then(boolean) == Some(true),
            _ => value.source != Source::Default,
        }
    }

    /// The value of a setting as a `T`.
    ///
    /// # Errors
    ///
    /// What `T` says of a value it cannot be made from, behind the flag or variable and the value.
    ///
    /// # Panics
    ///
    /// When no [`Setting`] of that name was given to the [`App`](crate::App).
    pub fn parse<T>(&self, name: &str) -> Result<T, BoxError>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let value = self.value(name);
        let text = value.text.as_deref().unwrap_or_default();
        text.parse().map_err(|error| invalid(&value.row, value.source, text, &format!("{error}")).into())
    }

    fn value(&self, name: &str) -> &Value {
        match self.values.iter().find(|value| value.row.name == name) {
            Some(value) => value,
            None => misused(name, "was not given to the App"),
        }
    }

    fn text(&self, name: &str) -> &str {
        self.values.iter().find(|value| value.row.name == name).and_then(|value| value.text.as_deref()).unwrap_or_default()
    }

    fn socket_address(&self) -> SocketAddr {
        let ip = address(self.text(BIND_ADDRESS)).unwrap_or(DEFAULT_ADDRESS);
        let port = self.text(PORT).parse().unwrap_or(DEFAULT_PORT);
        SocketAddr::new(ip, port)
    }
}

/// The author's mistake, which the first run finds; documented where it can happen.
#[allow(clippy::panic)]
fn misused(name: &str, how: &str) -> ! {
    panic!("the setting {name} {how}")
}

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Version,
    /// Ask a running connector, and what it is asked.
    Probe(Probe, Endpoint),
    /// Run the connector; with the address of its health check server, if it is enabled.
    Run(Settings, Option<SocketAddr>),
}

/// All rows, the connector's own and those that every connector has.
pub(crate) struct Table(Vec<Setting>);

impl Table {
    /// # Errors
    ///
    /// A name that is taken, or a default that is not allowed: the author's mistake, for the author to see.
    pub(crate) fn new(own: Vec<Setting>) -> Result<Table, String> {
        let mut rows: Vec<Setting> = own_rows().into();
        for row in own {
            if rows.iter().any(|other| other.name == row.name) || matches!(row.name, "help" | "version" | "") {
                return Err(format!("the name of setting --{} is taken", row.name));
            }
            if row.default.is_some_and(|default| !row.allows(default)) {
                return Err(format!("the default of setting --{} is not {}", row.name, row.allowed()));
            }
            rows.push(row);
        }
        Ok(Table(rows))
    }

    /// What the arguments and the environment ask for. An error is the one line to show.
    pub(crate) fn parse(
        &self,
        arguments: impl IntoIterator<Item = OsString>,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Command, String> {
        let mut given: Vec<Option<String>> = vec![None; self.0.len()];
        let mut probe = false;
        let mut parser = lexopt::Parser::from_iter([OsString::new()].into_iter().chain(arguments));
        loop {
            let argument = match parser.next() {
                Ok(Some(argument)) => argument,
                Ok(None) => break,
                Err(error) => return Err(shown(&error.to_string())),
            };
            let name = match argument {
                Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
                Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
                Arg::Value(value) if !probe && value == HEALTH_CHECK => {
                    probe = true;
                    continue;
                }
                Arg::Value(value) if probe => return Err(format!("unexpected argument {}", quoted(&value))),
                Arg::Value(value) => return Err(format!("unknown subcommand {} (valid: {HEALTH_CHECK})", quoted(&value))),
                Arg::Short(c) => return Err(format!("unknown flag -{} (see --help)", shown(c.encode_utf8(&mut [0; 4])))),
                Arg::Long(name) => name,
            };
            let known = self.0.iter().zip(&mut given).find(|(row, _)| row.name == name && row.kind != Kind::Secret);
            let Some((row, slot)) = known else { return Err(format!("unknown flag --{} (see --help)", shown(name))) };
            let value = match row.kind {
                // A switch takes only a value that is attached: the next argument is not its own.
                Kind::Flag => parser.optional_value().unwrap_or_else(|| "true".into()),
                _ => parser.value().map_err(|_| format!("--{} needs a value: {}", row.name, row.allowed()))?,
            };
            *slot = Some(row.checked(value, Source::Flag)?);
        }
        self.resolve(given, probe, environment)
    }

    /// Puts together what was given: flag, else variable, else default.
    fn resolve(
        &self,
        given: Vec<Option<String>>,
        probe: bool,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Command, String> {
        let mut settings = Settings { values: Vec::with_capacity(self.0.len()) };
        for (row, flag) in self.0.iter().zip(given) {
            if probe && matches!(row.scope, Scope::Connector | Scope::Server) {
                continue;
            }
            if !probe && row.scope == Scope::Probe {
                match flag {
                    Some(_) => return Err(format!("--{} belongs to {HEALTH_CHECK} (see --help)", row.name)),
                    None => continue,
                }
            }
            let variable = || row.variable().and_then(|name| environment(&name)).filter(|value| !value.is_empty());
            let (text, source) = match flag {
                Some(text) => (Some(text), Source::Flag),
                None => match variable() {
                    Some(value) => (Some(row.checked(value, Source::Variable)?), Source::Variable),
                    None => (row.default.map(String::from), Source::Default),
                },
            };
            if text.is_none() {
                let variable = row.variable().unwrap_or_default();
                return Err(match row.kind {
                    Kind::Secret => format!("{variable} is required (see --help)"),
                    _ => format!("--{} or {variable} is required (see --help)", row.name),
                });
            }
            if probe && row.name == PORT && text.as_deref() == Some("0") {
                return Err(invalid(row, source, "0", "expected the port the server listens on, from 1 to 65535"));
            }
            settings.values.push(Value { row: row.clone(), text, source });
        }
        let address = settings.socket_address();
        if probe {
            let endpoint = Endpoint::from_name(settings.text(ENDPOINT)).unwrap_or_default();
            let seconds = whole_number(settings.text(TIMEOUT)).unwrap_or(MAX_TIMEOUT);
            let probe = Probe::new(address).endpoint(endpoint).timeout(Duration::from_secs(seconds));
            return Ok(Command::Probe(probe, endpoint));
        }
        let enabled = boolean(settings.text(HEALTH_CHECK)) == Some(true);
        Ok(Command::Run(settings, enabled.then_some(address)))
    }

    /// What `--help` shows.
    pub(crate) fn help(&self, program: &str, version: &str, about: &str) -> String {
        let mut out = [program, " ", version, "\n", about, if about.is_empty() { "\n" } else { "\n\n" }].concat();
        for part in [
            "Usage:\n  ",
            program,
            " [FLAGS]                run the connector\n  ",
            program,
            " health-check [FLAGS]   ask a running connector how it is\n",
        ] {
            out.push_str(part);
        }
        for (title, scopes) in [
            ("Connector", &[Scope::Connector][..]),
            ("Health check server", &[Scope::Server, Scope::Both]),
            ("health-check", &[Scope::Probe, Scope::Both]),
        ] {
            let rows = self.0.iter().filter(|row| scopes.contains(&row.scope));
            for (count, row) in rows.enumerate() {
                if count == 0 {
                    out.extend(["\n", title, ":\n"]);
                }
                row.help_line(&mut out);
            }
        }
        out.push_str(
            "\nOther:\n  -h, --help\n      Show this and exit\n  -V, --version\n      Show the version and exit\n\n\
             A flag beats its variable, a variable its default; an empty variable counts as unset.\n\n\
             Exit codes of health-check:\n  \
             0  the answer was HTTP 200\n  \
             1  any other answer, no connection, no answer in time, or bad usage\n\n\
             Exit codes of the connector:\n  \
             0  it finished, or was asked to (SIGTERM, SIGINT)\n  \
             1  it failed, or bad usage\n",
        );
        out
    }
}

impl Setting {
    fn help_line(&self, out: &mut String) {
        if self.kind != Kind::Secret {
            out.extend(["  --", self.name]);
            match self.kind {
                Kind::Flag => out.push_str("[=true|false]"),
                _ => out.extend(["=", self.placeholder]),
            }
        }
        if let Some(variable) = self.variable() {
            out.extend([if self.kind == Kind::Secret { "  " } else { ", " }, &variable]);
        }
        out.extend(["\n      ", self.help]);
        match self.default {
            Some(default) => out.extend([" [default: ", default, "]\n"]),
            None => out.push_str(" [required]\n"),
        }
    }

    /// `value` as text, if it is allowed.
    fn checked(&self, value: OsString, source: Source) -> Result<String, String> {
        let text = match value.into_string() {
            Ok(text) => text,
            Err(value) => return Err(invalid(self, source, &value.to_string_lossy(), "expected UTF-8")),
        };
        if self.allows(&text) {
            return Ok(text);
        }
        if self.kind == Kind::Endpoint {
            let valid = Endpoint::ALL.map(Endpoint::name).join(", ");
            return Err(format!("invalid endpoint: {} (valid: {valid})", shown(&text)));
        }
        Err(invalid(self, source, &text, &["expected ", &self.allowed()].concat()))
    }
}

/// The one line about a value that is not allowed.
fn invalid(row: &Setting, source: Source, value: &str, problem: &str) -> String {
    let variable = row.variable().filter(|_| source == Source::Variable);
    let name = variable.unwrap_or_else(|| ["--", row.name].concat());
    if row.kind == Kind::Secret {
        return format!("invalid {name}: {problem}");
    }
    format!("invalid {name} \"{}\": {problem}", shown(value))
}

fn quoted(value: &OsStr) -> String {
    ["\"", &shown(&value.to_string_lossy()), "\""].concat()
}

/// What somebody typed, in one line, bounded and fit for a terminal.
fn shown(text: &str) -> String {
    const MAX_SHOWN: usize = 200;
    let (text, cut) = report::bounded(text, MAX_SHOWN);
    let mut out = String::new();
    report::printable(&mut out, text.as_bytes());
    out.push_str(cut);
    out
}

/// The words of Go's `strconv.ParseBool`, which the Go connectors read booleans with.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Decimal digits only: no sign, no space, and no leading zero, which others read as octal.
fn whole_number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// An IP address, in brackets or not, or `localhost`: what needs no resolver.
fn address(text: &str) -> Option<IpAddr> {
    if text.eq_ignore_ascii_case("localhost") {
        return Some(DEFAULT_ADDRESS);
    }
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}
