//! A connector's whole `main`: command line, health server, signals, exit code.

use std::any::Any;
use std::env;
use std::io::{self, Write};
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::command::{Command, Table};
use crate::config::Config;
use crate::connector::{BoxError, Connector, explain, panic_text};
use crate::deadline::{after, never};
use crate::limits::DRAIN_GRACE;
use crate::log::{Event, Log};
use crate::report::Address;
use crate::server::HealthServer;
use crate::setting::Setting;
use crate::settings::Settings;
use crate::signal::{self, Inbox, Message, Sender};
use crate::spawn::spawn;
use crate::stop::Stop;

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

    fn start(mut self, connect: Connect) -> ExitCode {
        let table = match Table::new(mem::take(&mut self.settings)) {
            Ok(table) => table,
            Err(problem) => return self.complain(&problem),
        };
        match table.parse(lexopt::Parser::from_env(), &|name| env::var_os(name)) {
            Ok(Command::Help) => self.print(&table.help(self.name, self.version, self.about)),
            Ok(Command::Version) => self.print(&[self.name, " ", self.version, "\n"].concat()),
            Ok(Command::Probe(probe, endpoint)) => match probe.run() {
                Ok(()) => self.print(&[endpoint.good_word(), "\n"].concat()),
                Err(error) => self.complain(&["health-check: ", &error.to_string()].concat()),
            },
            Ok(Command::Run(settings, address)) => {
                let health_check = address.is_some();
                self.config.address = address.unwrap_or(self.config.address);
                daemon(self.config, health_check, settings, connect)
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
use crate::c::print as to_stdout;

#[cfg(not(unix))]
fn to_stdout(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(text).and_then(|()| stdout.flush())
}

type Connect = Box<dyn FnOnce(&Settings) -> Result<Arc<dyn Connector>, BoxError> + Send>;

/// What failed, and why.
type Trouble = (&'static str, String);

/// Runs the connector, beside its health server if that is wanted, until it ends or is told to.
// Not inlined: a probe then does not have it in memory.
#[inline(never)]
fn daemon(mut config: Config, health_check: bool, settings: Settings, connect: Connect) -> ExitCode {
    let log = Log(Arc::clone(&config.on_event));
    match run(&log, &mut config, health_check, settings, connect) {
        Ok(()) => ExitCode::SUCCESS,
        Err((what, reason)) => {
            log.emit(&Event::Failed { what, reason: &reason });
            ExitCode::FAILURE
        }
    }
}

fn run(log: &Log, config: &mut Config, health_check: bool, settings: Settings, connect: Connect) -> Result<(), Trouble> {
    // From the first moment on a signal means to finish.
    let (sender, inbox) = signal::install().map_err(failed("set signal handlers"))?;
    log_panics(log.clone());
    report_death(config, &sender);
    let address = config.address;
    let server = if health_check { Some(HealthServer::bind(config.clone())) } else { None };
    let server =
        server.transpose().map_err(|error| ("listen", [&Address(address).to_string(), ": ", &error.to_string()].concat()))?;
    let work = Arc::new(Work {
        log: log.clone(),
        server,
        stop: Stop::default(),
        connected: AtomicBool::new(false),
        outcome: Mutex::new(None),
        sender,
    });
    let worker = Arc::clone(&work);
    spawn("connector", Box::new(move || worker.work(&settings, connect))).map_err(failed("start a thread"))?;

    let message = inbox.receive(never());
    let deadline = after(Instant::now(), config.drain_timeout);
    match message {
        Some(Message::Terminate) => work.finish(&inbox, deadline, config.drain_timeout),
        Some(Message::Finished) => {}
        _ => {
            work.ended(Err(("accept connections", String::from("the health server cannot go on"))));
            work.stop.request();
        }
    }
    if let Some(server) = &work.server {
        server.drain_by(deadline);
    }
    work.outcome.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(Ok(()))
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> Trouble {
    move |error| (what, error.to_string())
}

/// The connector's thread, and what the main thread knows of it.
struct Work {
    log: Log,
    server: Option<HealthServer>,
    stop: Stop,
    /// The connector exists, and has been told to serve.
    connected: AtomicBool,
    /// How it ended, once it has.
    outcome: Mutex<Option<Result<(), Trouble>>>,
    sender: Sender,
}

impl Work {
    fn work(&self, settings: &Settings, connect: Connect) {
        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            let connector = connect(settings).map_err(|error| ("connect", explain(&*error)))?;
            if let Some(server) = &self.server {
                server.attach(Arc::clone(&connector));
            }
            self.connected.store(true, Ordering::Release);
            self.log.emit(&Event::Connected);
            connector.serve(&self.stop).map_err(|error| ("serve", explain(&*error)))
        }));
        let panicked = |payload: Box<dyn Any + Send>| Err(("run", ["the connector panicked: ", panic_text(&*payload)].concat()));
        self.ended(result.unwrap_or_else(panicked));
        self.sender.send(Message::Finished);
    }

    fn ended(&self, outcome: Result<(), Trouble>) {
        // What went wrong first is what went wrong.
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(outcome);
    }

    /// Asks the connector to finish, and waits for it; but leaves time for the answers under way.
    fn finish(&self, inbox: &Inbox, deadline: Instant, timeout: Duration) {
        if let Some(server) = &self.server {
            server.refuse_ready();
        }
        self.stop.request();
        self.log.emit(&Event::Draining);
        let reserve = (2 * DRAIN_GRACE).min(timeout / 2);
        let until = deadline.checked_sub(reserve).unwrap_or(deadline);
        // One that is still connecting has nothing to finish, and may hang.
        if !self.connected.load(Ordering::Acquire) {
            return;
        }
        while let Some(message) = inbox.receive(until) {
            if message == Message::Finished {
                return;
            }
        }
        // Whoever asked the process to end means it.
        self.log.emit(&Event::Abandoned);
    }
}

/// Panics are events too, wherever they happen, rather than text of std's own between the lines of the log.
fn log_panics(log: Log) {
    panic::set_hook(Box::new(move |info| {
        let text = panic_text(info.payload());
        let message = match info.location() {
            Some(place) => format!("{text}, at {place}"),
            None => text.to_owned(),
        };
        log.emit(&Event::Panicked { message: &message });
    }));
}

/// A dead server must not live on in a live process.
fn report_death(config: &mut Config, sender: &Sender) {
    let on_event = Arc::clone(&config.on_event);
    let sender = sender.clone();
    config.on_event = Arc::new(move |event| {
        // First, since the owner's function may take its time.
        if let Event::Dead { .. } = event {
            sender.send(Message::Dead);
        }
        on_event(event);
    });
}
