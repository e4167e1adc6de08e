//! The daemon: the connector, beside its health server, until it ends or is told to.

use std::any::Any;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::settings::Settings;
use super::signal::{self, Inbox, Message, Sender};
use crate::address::Address;
use crate::config::Config;
use crate::connector::{BoxError, Connector, explain, panic_text};
use crate::deadline::{after, never};
use crate::limits::DRAIN_GRACE;
use crate::log::{Event, Log};
use crate::server::HealthServer;
use crate::spawn::spawn;
use crate::stop::Stop;

pub(super) type Connect = Box<dyn FnOnce(&Settings) -> Result<Arc<dyn Connector>, BoxError> + Send>;

/// What failed, and why.
type Trouble = (&'static str, String);

/// Runs the connector, beside its health server if that is wanted, until it ends or is told to.
// Not inlined: a probe then does not have it in memory.
#[inline(never)]
pub(super) fn run(mut config: Config, health_check: bool, settings: Settings, connect: Connect) -> ExitCode {
    let log = Log(Arc::clone(&config.on_event));
    match run_until_stopped(&log, &mut config, health_check, settings, connect) {
        Ok(()) => ExitCode::SUCCESS,
        Err((what, reason)) => {
            log.emit(&Event::Failed { what, reason: &reason });
            ExitCode::FAILURE
        }
    }
}

fn run_until_stopped(
    log: &Log,
    config: &mut Config,
    health_check: bool,
    settings: Settings,
    connect: Connect,
) -> Result<(), Trouble> {
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
