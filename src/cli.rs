//! A connector's whole `main`: command line, health server, signals, exit code.

mod allowed;
mod command;
mod daemon;
mod found;
mod help;
mod logging;
mod mistakes;
mod row;
mod secret;
mod setting;
mod settings;
mod signal;
mod table;
mod value;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use lexopt::Parser;

use self::command::Command;
use self::row::Row;
use self::table::Table;
use crate::config::Config;
use crate::connector::{BoxError, Connector};
use crate::deadline::{after, never};
use crate::endpoint::Endpoint;
use crate::event::{Event, Level};
use crate::log::{self, Log};
use crate::probe::Probe;
use crate::stop::Stop;
#[cfg(unix)]
use crate::sys;

pub use self::found::{Secret, Value};
pub use self::setting::Setting;
pub use self::settings::Settings;

/// A connector's whole program. Its `main` returns what [`run`](App::run) returns.
///
/// ```no_run
/// use baton_health::{App, BoxError, Connector, Setting};
/// use std::process::ExitCode;
///
/// const DOMAIN: Setting<String> = Setting::text("domain", "HOST").help("Where the accounts are");
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
///         .setting(&DOMAIN)
///         .run(|settings| Ok(Upstream { host: settings.get(&DOMAIN) }))
/// }
/// ```
#[derive(Debug)]
#[must_use = "an App does nothing until it is run"]
pub struct App {
    name: &'static str,
    version: &'static str,
    about: &'static str,
    settings: Vec<Row>,
    config: Config,
}

impl App {
    /// A program of that name and version, as `--help` and `--version` show them.
    pub fn new(name: &'static str, version: &'static str) -> App {
        App { name, version, about: "", settings: Vec::with_capacity(USUAL_SETTINGS), config: Config::default() }
    }

    /// Says in a sentence what the connector is for. Empty by default.
    pub fn about(mut self, about: &'static str) -> App {
        self.about = about;
        self
    }

    /// Declares a setting of the connector's own. `--help` lists them in this order.
    pub fn setting<T>(mut self, setting: &Setting<T>) -> App {
        self.declare(&setting.row);
        self
    }

    #[inline(never)]
    fn declare(&mut self, row: &Row) {
        self.settings.push(*row);
    }

    /// Sets the limits, where events go, and the defaults of `--health-check-port` and `--health-check-bind-address`.
    /// Default is [`Config::default()`].
    ///
    /// ```
    /// # use baton_health::{App, Config};
    /// # use std::time::Duration;
    /// let mut config = Config::default();
    /// config.validate_timeout = Duration::from_secs(10);
    /// let app = App::new("baton-upstream", "1").config(config);
    /// ```
    pub fn config(mut self, config: Config) -> App {
        self.config = config;
        self
    }

    /// Does what the command line says: runs the connector, asks a running one (`health-check`), or shows
    /// `--help` or `--version`.
    ///
    /// To run the connector, it
    ///
    /// 1. listens, if the health check is enabled;
    /// 2. calls `connect`, which builds the connector, on a thread of its own. `connect` need not look at signals, and
    ///    may take long: a signal ends the process without waiting for it;
    /// 3. calls [`serve`](Connector::serve), and waits until that returns, or until SIGTERM, SIGINT or SIGHUP asks
    ///    the process to finish. A second signal, half a second later or more, ends the process at once;
    /// 4. on a signal makes `/ready` fail and requests [`Stop`], which it also does when `serve` returns by itself.
    ///    Then it drains the server and drops the connector, all within [`Config::drain_timeout`].
    ///
    /// What happens is logged through [`Config::on_event`]. Bad usage is one line on standard error.
    ///
    /// It sets the handlers of these signals and the panic hook of the process, and ignores SIGXFSZ. So only `main`
    /// calls it, and only once.
    ///
    /// The exit code is 0 or 1, as `--help` says. After a second signal it is 128 and the signal's number.
    ///
    /// # Panics
    ///
    /// If the settings contradict each other, as [`try_parse_from`](App::try_parse_from) says.
    #[track_caller]
    pub fn run<C, F>(self, connect: F) -> ExitCode
    where
        C: Connector,
        F: FnOnce(&Settings) -> Result<C, BoxError> + Send + 'static,
    {
        self.run_with_stop(|settings, _| connect(settings))
    }

    /// As [`run`](App::run), for a `connect` that tries again until it succeeds. It also gets the [`Stop`] that is
    /// requested when the process is asked to finish. The process does not wait for `connect` after that.
    ///
    /// ```no_run
    /// # use baton_health::{App, BoxError, Connector, Settings, Stop};
    /// # use std::time::Duration;
    /// # struct Upstream;
    /// # impl Connector for Upstream { fn validate(&self) -> Result<(), BoxError> { Ok(()) } }
    /// # impl Upstream { fn connect(_: &Settings) -> Result<Upstream, BoxError> { Ok(Upstream) } }
    /// fn connect(settings: &Settings, stop: &Stop) -> Result<Upstream, BoxError> {
    ///     loop {
    ///         match Upstream::connect(settings) {
    ///             Err(_) if !stop.wait_for(Duration::from_secs(10)) => {}
    ///             result => return result,
    ///         }
    ///     }
    /// }
    /// # fn main() -> std::process::ExitCode {
    /// App::new("baton-upstream", "1").run_with_stop(connect)
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`run`](App::run).
    #[track_caller]
    pub fn run_with_stop<C, F>(self, connect: F) -> ExitCode
    where
        C: Connector,
        F: FnOnce(&Settings, &Stop) -> Result<C, BoxError> + Send + 'static,
    {
        let table = self.table();
        self.start(&table, Box::new(|settings, stop| Ok(Arc::new(connect(settings, stop)?))))
    }

    /// The settings that a running connector gets from these arguments and variables, for a test of what
    /// it makes of them. It does not read the environment of the process.
    ///
    /// ```
    /// # use baton_health::{App, Setting};
    /// const PAGE_SIZE: Setting<u64> = Setting::number("page-size", "COUNT").range(1..=1000).default(100);
    /// let app = App::new("baton-directory", "1").setting(&PAGE_SIZE);
    /// let settings = app.try_parse_from(["--page-size=50"], &[])?;
    /// assert_eq!(settings.get(&PAGE_SIZE), 50);
    /// let error = app.try_parse_from([""; 0], &[("BATON_PAGE_SIZE", "many")]).unwrap_err();
    /// assert!(error.to_string().starts_with("invalid BATON_PAGE_SIZE \"many\": expected a whole number"));
    /// # Ok::<(), baton_health::UsageError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The line that the program would show. Arguments that do not run the connector (`health-check`, `--help`,
    /// `--version`) are an error too.
    ///
    /// # Panics
    ///
    /// If the settings contradict each other: a name, letter or variable that is taken, or a default
    /// that is not allowed. So a test that calls this checks the declarations.
    #[track_caller]
    pub fn try_parse_from<I>(&self, arguments: I, variables: &[(&str, &str)]) -> Result<Settings, UsageError>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let environment = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| OsString::from(value));
        match self.table().parse(Parser::from_args(arguments), &environment) {
            Ok(Command::Run(run)) => Ok(run.settings),
            Ok(_) => Err(UsageError("these arguments do not run the connector".into())),
            Err(problem) => Err(UsageError(problem)),
        }
    }

    /// Panics at the caller's line if the author has made a mistake.
    #[allow(clippy::panic)]
    #[track_caller]
    fn table(&self) -> Table {
        match Table::new(&self.settings, &self.config) {
            Ok(table) => table,
            Err(problem) => panic!("{problem}"),
        }
    }

    fn start(mut self, table: &Table, connect: daemon::Connect) -> ExitCode {
        // Output beyond a limit of file sizes (RLIMIT_FSIZE) becomes an error of `write` instead of a signal.
        #[cfg(unix)]
        sys::signal::ignore(sys::signal::SIGXFSZ);
        let mut arguments = env::args_os();
        let _program = arguments.next();
        match table.parse(Parser::from_args(arguments), &|name| env::var_os(name)) {
            Ok(Command::Help) => self.print(&table.help(self.name, self.version, self.about, width())),
            Ok(Command::Version) => self.print(&[self.name, " ", self.version, "\n"].concat()),
            Ok(Command::Probe(probe, endpoint, timeout)) => self.probe(&probe, endpoint, after(Instant::now(), timeout)),
            Ok(Command::Run(run)) => {
                log::configure(self.name, run.format, run.level);
                self.config.address = run.listen.unwrap_or(self.config.address);
                warn_of_misspelt_variables(table, &Log(Arc::clone(&self.config.on_event)));
                daemon::run(self.config, run.listen.is_some(), run.settings, connect)
            }
            Err(problem) => self.fail("", &problem, never()),
        }
    }

    /// Asks a running connector. The exit code is the verdict, even if the output cannot be written.
    fn probe(&self, probe: &Probe, endpoint: Endpoint, deadline: Instant) -> ExitCode {
        match probe.run() {
            Ok(()) => {
                if let Err(error) = to_stdout(&[endpoint.ok_status(), "\n"].concat(), deadline) {
                    self.cannot_print(&error, deadline);
                }
                ExitCode::SUCCESS
            }
            Err(error) => self.fail("health-check: ", &error.to_string(), deadline),
        }
    }

    fn print(&self, text: &str) -> ExitCode {
        match to_stdout(text, never()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => self.cannot_print(&error, never()),
        }
    }

    fn cannot_print(&self, error: &io::Error, deadline: Instant) -> ExitCode {
        self.fail("cannot write to standard output: ", &error.to_string(), deadline)
    }

    /// One line on standard error, and exit code 1.
    fn fail(&self, what: &str, problem: &str, deadline: Instant) -> ExitCode {
        to_stderr(&[self.name, ": ", what, problem, "\n"].concat(), deadline);
        ExitCode::FAILURE
    }
}

/// Parses a command line and an environment as a connector with one setting of each kind does. An
/// error is the line to show.
#[cfg(any(test, fuzzing))]
pub(crate) fn try_parse(arguments: Vec<std::ffi::OsString>, environment: &[(&str, std::ffi::OsString)]) -> Result<(), String> {
    let settings = [
        Setting::text("color", "NAME").default("blue").row,
        Setting::number("page-size", "COUNT").range(1..=1000).default(100).row,
        Setting::text("domain", "HOST").row,
        Setting::switch("dry-run").row,
        Setting::secret("token").row,
        Setting::list("groups", "NAMES").short('g').row,
        Setting::duration("interval").optional().row,
    ];
    let variable = |name: &str| environment.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone());
    Table::new(&settings, &Config::default())?.parse(Parser::from_args(arguments), &variable).map(drop)
}

/// Why a command line or an environment does not run the connector: the line that the program would show, without
/// the program's name. [`App::try_parse_from`] returns it.
///
/// ```
/// use baton_health::App;
///
/// let error = App::new("baton-directory", "1").try_parse_from(["--dry-run"], &[]).unwrap_err();
/// assert_eq!(error.to_string(), "unknown flag --dry-run (see --help)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Logs the variables of the environment whose names are close to one of ours, each with the name of ours.
fn warn_of_misspelt_variables(table: &Table, log: &Log) {
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        if let Some(ours) = mistakes::misspelt(&table.rows, name) {
            let fields = &[("name", name), ("did_you_mean", &*ours)];
            log.emit(&Event::Message { level: Level::Warn, message: "unknown variable", fields });
        }
    }
}

/// The columns of the terminal at standard output, or those of a usual one.
fn width() -> usize {
    const USUAL: usize = 80;
    #[cfg(unix)]
    return sys::columns(sys::STDOUT).unwrap_or(USUAL);
    #[cfg(not(unix))]
    return USUAL;
}

/// How many settings need no second allocation.
const USUAL_SETTINGS: usize = 8;

/// The buffer of `io::stdout()` costs the probe more than the word that it writes.
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
