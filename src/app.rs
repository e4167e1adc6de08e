//! A connector's whole `main`: command line, health server, signals, exit code.

use std::env;
use std::io::{self, Write};
use std::mem;
use std::panic;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::command::{Command, Table};
use crate::config::Config;
use crate::connector::{BoxError, Connector, explain, panic_text};
use crate::deadline::{after, never};
use crate::limits::DRAIN_GRACE;
use crate::log::Event;
use crate::server::HealthServer;
use crate::setting::Setting;
use crate::settings::Settings;
use crate::signal::{self, Inbox, Message, Sender};
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
        App { name, version, about: "", settings: Vec::new(), config: Config::default() }
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
    /// The exit code is 0 or 1, as `--help` says.
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
        match table.parse(env::args_os().skip(1), &|name| env::var_os(name)) {
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
        let mut stdout = io::stdout();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
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

type Connect = Box<dyn FnOnce(&Settings) -> Result<Arc<dyn Connector>, BoxError> + Send>;

/// What failed, and why.
type Trouble = (&'static str, String);

/// Runs the connector, beside its health server if that is wanted, until it ends or is told to.
fn daemon(mut config: Config, health_check: bool, settings: Settings, connect: Connect) -> ExitCode {
    let log = config.clone();
    let fail = |what: &str, reason: &str| {
        log.emit(&Event::Failed { what, reason });
        ExitCode::FAILURE
    };
    // From the first moment on a signal means to finish.
    let (sender, inbox) = match signal::install() {
        Ok(installed) => installed,
        Err(error) => return fail("set signal handlers", &error.to_string()),
    };
    log_panics(&config);
    report_death(&mut config, &sender);
    let drain_timeout = config.drain_timeout;
    let address = config.address;
    let server = match health_check.then(|| HealthServer::bind(config)).transpose() {
        Ok(server) => Arc::new(server),
        Err(error) => return fail(&["listen on ", &address.to_string()].concat(), &error.to_string()),
    };

    let stop = Stop::default();
    let connected = Arc::new(AtomicBool::new(false));
    let work =
        Work { log: log.clone(), server: Arc::clone(&server), stop: stop.clone(), connected: Arc::clone(&connected), sender };
    let thread = thread::Builder::new().name("connector".into()).spawn(move || work.run(&settings, connect));
    let thread = match thread {
        Ok(thread) => thread,
        Err(error) => return fail("start a thread", &error.to_string()),
    };

    let message = inbox.receive(never());
    let deadline = after(Instant::now(), drain_timeout);
    let mut outcome = Ok(());
    if message == Some(Message::Terminate) {
        log.emit(&Event::Draining);
        server.as_ref().as_ref().inspect(|server| server.refuse_ready());
        stop.request();
        // A connector that is still connecting has nothing to finish, and may hang.
        if connected.load(Ordering::Acquire) {
            outcome = finish(&inbox, thread, deadline, drain_timeout);
        }
    } else if message == Some(Message::Finished) {
        outcome = result_of(thread);
    } else {
        outcome = Err(("keep the health server going", String::from("see above")));
    }
    server.as_ref().as_ref().inspect(|server| server.drain_by(deadline));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((what, reason)) => fail(what, &reason),
    }
}

/// Waits for a connector that was asked to finish, but leaves time for the answers under way.
fn finish(inbox: &Inbox, thread: JoinHandle<Result<(), Trouble>>, deadline: Instant, timeout: Duration) -> Result<(), Trouble> {
    let reserve = (2 * DRAIN_GRACE).min(timeout / 2);
    while let Some(message) = inbox.receive(deadline.checked_sub(reserve).unwrap_or(deadline)) {
        if message == Message::Finished {
            return result_of(thread);
        }
    }
    // It is left behind: whoever asked the process to finish means it.
    Ok(())
}

fn result_of(thread: JoinHandle<Result<(), Trouble>>) -> Result<(), Trouble> {
    thread.join().unwrap_or_else(|payload| Err(("run the connector", ["it panicked: ", panic_text(&*payload)].concat())))
}

/// The connector's thread.
struct Work {
    log: Config,
    server: Arc<Option<HealthServer>>,
    stop: Stop,
    connected: Arc<AtomicBool>,
    sender: Sender,
}

impl Work {
    fn run(self, settings: &Settings, connect: Connect) -> Result<(), Trouble> {
        // Sent when this returns, and when it panics.
        let _finished = Finished(&self.sender);
        let connector = connect(settings).map_err(|error| ("connect", explain(&*error)))?;
        if let Some(server) = &*self.server {
            server.attach(Arc::clone(&connector));
        }
        self.connected.store(true, Ordering::Release);
        self.log.emit(&Event::Connected);
        connector.serve(&self.stop).map_err(|error| ("serve", explain(&*error)))
    }
}

struct Finished<'a>(&'a Sender);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.send(Message::Finished);
    }
}

/// Panics are events too, wherever they happen, rather than text of std's own between the lines of the log.
fn log_panics(config: &Config) {
    let log = config.clone();
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
        on_event(event);
        if let Event::Dead { .. } = event {
            sender.send(Message::Dead);
        }
    });
}
