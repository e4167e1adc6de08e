//! A connector's whole `main`: command line, health server, signals, exit code.

mod command;
mod daemon;
mod setting;
mod settings;
mod signal;

use std::env;
use std::io::{self, Write};
use std::mem;
use std::process::ExitCode;
use std::sync::Arc;

use self::command::{Command, Table};
use crate::config::Config;
use crate::connector::{BoxError, Connector};

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
    /// Running it means: listen, if the health check is enabled; have `connect` build the connector,
    /// on a thread of its own; let it [`serve`](Connector::serve) until it returns, or until SIGTERM
    /// or SIGINT asks it to finish. A second signal ends the process at once. What happens is logged
    /// through [`Config::on_event`]; bad usage is one line on standard error.
    ///
    /// Sets the handlers of both signals and the panic hook of the process; so it is for `main` to
    /// call, once. `connect` need not look at signals or mind how long it takes.
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
        let table = match Table::new(mem::take(&mut self.settings)) {
            Ok(table) => table,
            Err(problem) => return self.complain(&problem),
        };
        match table.parse(lexopt::Parser::from_env(), &|name| env::var_os(name)) {
            Ok(Command::Help) => self.print(&table.help(self.name, self.version, self.about)),
            Ok(Command::Version) => self.print(&[self.name, " ", self.version, "\n"].concat()),
            Ok(Command::Probe(probe, endpoint)) => match probe.run() {
                Ok(()) => self.print(&[endpoint.ok_status(), "\n"].concat()),
                Err(error) => self.complain(&["health-check: ", &error.to_string()].concat()),
            },
            Ok(Command::Run(settings, address)) => {
                let health_check = address.is_some();
                self.config.address = address.unwrap_or(self.config.address);
                daemon::run(self.config, health_check, settings, connect)
            }
            Err(problem) => self.complain(&problem),
        }
    }

    fn print(&self, text: &str) -> ExitCode {
        match to_stdout(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => self.complain(&["cannot write to standard output: ", &error.to_string()].concat()),
        }
    }

    /// One line on standard error, and exit code 1.
    fn complain(&self, problem: &str) -> ExitCode {
        // There is nobody to tell that standard error cannot be written to.
        let _ = io::stderr().write_all([self.name, ": ", problem, "\n"].concat().as_bytes());
        ExitCode::FAILURE
    }
}

/// Room for the rows that every connector has, and a dozen of its own, before there is any to be made.
const USUAL_SETTINGS: usize = 17;

#[cfg(unix)]
use crate::sys::print as to_stdout;

#[cfg(not(unix))]
fn to_stdout(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(text).and_then(|()| stdout.flush())
}
