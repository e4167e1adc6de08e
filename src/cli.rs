//! A connector's whole `main`: command line, health server, signals, exit code.

mod command;
mod daemon;
mod setting;
mod settings;
mod signal;

use std::env;
use std::io;
use std::mem;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use self::command::{Command, Table};
use crate::config::Config;
use crate::connector::{BoxError, Connector};
use crate::deadline::{after, never};
use crate::endpoint::Endpoint;
use crate::probe::Probe;
#[cfg(unix)]
use crate::sys;

pub use self::setting::Setting;
pub use self::settings::Settings;

/// A connector's program: what its `main` returns.
///
/// ```no_run
/// use baton_health::{App, BoxError, Connector, Setting};
/// use std::process::ExitCode;
///
/// struct Upstream { host: String }
///
/// impl Connector for Upstream {
///     fn validate(&self) -> Result<(), BoxError> {
///         std::net::TcpStream::connect((&*self.host, 443))?;
///         Ok(())
///     }
/// }
///
/// fn main() -> ExitCode {
///     App::new("baton-upstream", env!("CARGO_PKG_VERSION"))
///         .setting(Setting::required("domain", "HOST").help("Where the accounts are"))
///         .run(|settings| Ok(Upstream { host: settings.get("domain").to_owned() }))
/// }
/// ```
#[derive(Debug)]
#[must_use = "an App does nothing until it is run"]
pub struct App {
    name: &'static str,
    version: &'static str,
    about: &'static str,
    settings: Vec<Setting>,
    config: Config,
}

impl App {
    /// A program of that name and version, as `--help` and `--version` show them.
    pub fn new(name: &'static str, version: &'static str) -> App {
        App { name, version, about: "", settings: Vec::with_capacity(USUAL_SETTINGS), config: Config::default() }
    }

    /// Says in a sentence what the connector is for. Default is nothing.
    pub fn about(mut self, about: &'static str) -> App {
        self.about = about;
        self
    }

    /// Adds a setting of the connector's own.
    pub fn setting(mut self, setting: Setting) -> App {
        self.settings.push(setting);
        self
    }

    /// Other limits, or another place for events, than `Config::default()`. Its address does not
    /// matter: that is for the operator to say.
    pub fn config(mut self, config: Config) -> App {
        self.config = config;
        self
    }

    /// Does what the command line says: runs the connector, asks a running one how it is
    /// (`health-check`), or shows `--help` or `--version`.
    ///
    /// Running it means: listen, if the health check is enabled; call `connect`, which builds the
    /// connector, on a thread of its own; call its [`serve`](Connector::serve), and wait until that
    /// returns, or SIGTERM, SIGINT or SIGHUP asks the process to finish. A second signal, half a second
    /// later or more, ends the process at once. When `serve` has returned, for whatever reason, its
    /// [`Stop`](crate::Stop) is requested and the connector is dropped; the process waits for that no
    /// longer than [`Config::drain_timeout`]. What happens is logged through [`Config::on_event`]; bad
    /// usage is one line on standard error.
    ///
    /// Sets the handlers of these signals and the panic hook of the process, and ignores SIGXFSZ; so
    /// `main` calls it, once. `connect` need not look at signals or mind how long it takes.
    ///
    /// The exit code is 0 or 1, as `--help` says; or, after a second signal, 128 and its number.
    pub fn run<C, F>(self, connect: F) -> ExitCode
    where
        C: Connector,
        F: FnOnce(&Settings) -> Result<C, BoxError> + Send + 'static,
    {
        self.start(Box::new(|settings| Ok(Arc::new(connect(settings)?))))
    }

    fn start(mut self, connect: daemon::Connect) -> ExitCode {
        // Output to a file may be beyond a limit (RLIMIT_FSIZE): that is an error, and no reason to die.
        #[cfg(unix)]
        sys::signal::ignore(sys::signal::SIGXFSZ);
        let table = match Table::new(mem::take(&mut self.settings)) {
            Ok(table) => table,
            Err(problem) => return self.fail(&problem, never()),
        };
        match table.parse(lexopt::Parser::from_env(), &|name| env::var_os(name)) {
            Ok(Command::Help) => self.print(&table.help(self.name, self.version, self.about)),
            Ok(Command::Version) => self.print(&[self.name, " ", self.version, "\n"].concat()),
            Ok(Command::Probe(probe, endpoint, timeout)) => self.probe(&probe, endpoint, after(Instant::now(), timeout)),
            Ok(Command::Run(settings, address)) => {
                let health_check = address.is_some();
                self.config.address = address.unwrap_or(self.config.address);
                daemon::run(self.config, health_check, settings, connect)
            }
            Err(problem) => self.fail(&problem, never()),
        }
    }

    /// Asks a running connector. The exit code is the verdict, whatever becomes of the output.
    fn probe(&self, probe: &Probe, endpoint: Endpoint, deadline: Instant) -> ExitCode {
        match probe.run() {
            Ok(()) => {
                if let Err(error) = to_stdout(&[endpoint.ok_status(), "\n"].concat(), deadline) {
                    self.fail(&cannot_print(&error), deadline);
                }
                ExitCode::SUCCESS
            }
            Err(error) => self.fail(&["health-check: ", &error.to_string()].concat(), deadline),
        }
    }

    fn print(&self, text: &str) -> ExitCode {
        match to_stdout(text, never()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => self.fail(&cannot_print(&error), never()),
        }
    }

    /// One line on standard error, and exit code 1.
    fn fail(&self, problem: &str, deadline: Instant) -> ExitCode {
        to_stderr(&[self.name, ": ", problem, "\n"].concat(), deadline);
        ExitCode::FAILURE
    }
}

/// Parses a command line and an environment as a connector with one setting of each kind does. An
/// error is the line to show.
#[cfg(any(test, fuzzing))]
pub(crate) fn try_parse(arguments: Vec<std::ffi::OsString>, environment: &[(&str, std::ffi::OsString)]) -> Result<(), String> {
    let settings = vec![
        Setting::new("color", "NAME", "blue"),
        Setting::new("page-size", "COUNT", "100").range(1..=1000),
        Setting::required("domain", "HOST"),
        Setting::flag("dry-run"),
        Setting::secret("token"),
    ];
    let variable = |name: &str| environment.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone());
    Table::new(settings)?.parse(lexopt::Parser::from_args(arguments), &variable).map(drop)
}

fn cannot_print(error: &io::Error) -> String {
    ["cannot write to standard output: ", &error.to_string()].concat()
}

/// Room for the rows that every connector has and a dozen of its own, so that the table is allocated once.
const USUAL_SETTINGS: usize = 17;

/// `io::stdout()` has a buffer, whose upkeep costs the probe more than the word that it has to write.
#[cfg(unix)]
fn to_stdout(text: &str, deadline: Instant) -> io::Result<()> {
    sys::write_until(sys::STDOUT, text.as_bytes(), deadline).1
}

#[cfg(unix)]
fn to_stderr(text: &str, deadline: Instant) {
    // A failure cannot be reported anywhere.
    let _ = sys::write_until(sys::STDERR, text.as_bytes(), deadline);
}

#[cfg(not(unix))]
fn to_stdout(text: &str, _: Instant) -> io::Result<()> {
    let mut stdout = io::stdout();
    io::Write::write_all(&mut stdout, text.as_bytes()).and_then(|()| io::Write::flush(&mut stdout))
}

#[cfg(not(unix))]
fn to_stderr(text: &str, _: Instant) {
    // A failure cannot be reported anywhere.
    let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
}
