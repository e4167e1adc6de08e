//! The daemon: runs the connector beside its health server until it ends or is asked to end.

use std::io::{self, ErrorKind};
use std::mem;
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::logging::{emit, emit_failure, log_panics};
use super::settings::Settings;
use super::signal::{self, Inbox, Message, Sender};
use super::table::{BIND_ADDRESS, PORT};
use crate::address::Address;
use crate::config::Config;
use crate::connector::{BoxError, Connector, explain, panic_text};
use crate::deadline::{after, never};
use crate::event::{Event, Level};
use crate::limits::DRAIN_GRACE;
use crate::log::{self, Log};
use crate::server::HealthServer;
use crate::spawn::spawn;
use crate::stop::Stop;

pub(super) type Connect = Box<dyn FnOnce(&Settings, &Stop) -> Result<Arc<dyn Connector>, BoxError> + Send>;

/// How long connecting may take before it is logged. It is logged again each time the duration has doubled.
const CONNECTING_NOTICE: Duration = Duration::from_secs(1);

/// The longest time between two of these lines.
const MAX_CONNECTING_NOTICE: Duration = Duration::from_secs(300);

/// What the daemon tried, and why it failed.
struct RunError(&'static str, String);

/// Runs the connector, with its health server if that is enabled, until it ends or is asked to end.
// Not inlined, so that a probe does not load it.
#[inline(never)]
pub(super) fn run(config: Config, health_check: bool, settings: Settings, connect: Connect) -> ExitCode {
    let log = Log(Arc::clone(&config.on_event));
    log::share(&log);
    if !health_check {
        let fields = &[("enable", "--health-check or BATON_HEALTH_CHECK=true")];
        log.emit(&Event::Message { level: Level::Info, message: "health check is off", fields });
    }
    let drain_timeout = config.drain_timeout;
    match start(&log, config, health_check, settings, connect) {
        Ok((work, inbox)) => supervise(work, &inbox, drain_timeout),
        Err(RunError(what, reason)) => {
            emit_failure(&log, what, reason);
            ExitCode::FAILURE
        }
    }
}

fn start(
    log: &Log,
    mut config: Config,
    health_check: bool,
    settings: Settings,
    connect: Connect,
) -> Result<(&'static Work, Inbox), RunError> {
    // From here on a signal asks the daemon to finish.
    let (sender, inbox) = signal::install().map_err(failed("set signal handlers"))?;
    // With it, as in the smallest build, a panic calls no hook.
    if !cfg!(panic = "immediate-abort") {
        log_panics(log.clone());
    }
    report_listener_failure(&mut config, &sender);
    let address = config.address;
    let server = if health_check { Some(HealthServer::bind(config)) } else { None };
    let server = server.transpose().map_err(|error| listen_error(&error, address, &settings))?;
    let work: &Work = Box::leak(Box::new(Work {
        log: log.clone(),
        server,
        stop: Stop::default(),
        connected: AtomicBool::new(false),
        connecting: Mutex::new(true),
        failed: AtomicBool::new(false),
        drained: Stop::default(),
        dropped: Stop::default(),
        sender,
    }));
    spawn("connector", Box::new(move || work.work(&settings, connect))).map_err(failed("start a thread"))?;
    Ok((work, inbox))
}

/// Names the setting to change.
#[cold]
fn listen_error(error: &io::Error, address: SocketAddr, settings: &Settings) -> RunError {
    let reason = error.to_string();
    let (hint, setting, end) = match error.kind() {
        // This error is about threads and not about the address.
        ErrorKind::WouldBlock => {
            return RunError("start a thread", reason + "; see ulimit -u, and the container's limit of processes");
        }
        ErrorKind::AddrInUse => ("; choose another port with --health-check-port (this one: ", PORT, ")"),
        ErrorKind::AddrNotAvailable => ("; it is not an address of this machine (", BIND_ADDRESS, "), 0.0.0.0 means all"),
        ErrorKind::PermissionDenied if address.port() < 1024 => {
            ("; ports below 1024 need CAP_NET_BIND_SERVICE (this one: ", PORT, ")")
        }
        _ => ("", "", ""),
    };
    RunError("listen", [&Address(address).to_string(), ": ", &reason, hint, &settings.origin_of(setting), end].concat())
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |error| RunError(what, error.to_string())
}

/// The main thread: waits until the connector ends or is asked to, and in the second case until it has ended.
fn supervise(work: &Work, inbox: &Inbox, drain_timeout: Duration) -> ExitCode {
    let message = work.next_message(inbox);
    let deadline = after(Instant::now(), drain_timeout);
    let served = match message {
        Ok(Message::Finished) => true,
        Ok(Message::Terminate) => work.finish(inbox, deadline, drain_timeout),
        Ok(Message::ListenerFailed) => {
            work.ended(Err(RunError("accept connections", "the listener failed".into())));
            work.finish(inbox, deadline, drain_timeout)
        }
        Err(error) => {
            work.ended(Err(failed("receive signals")(error)));
            work.finish(inbox, deadline, drain_timeout)
        }
    };
    if let Some(server) = &work.server {
        server.drain_by(deadline);
    }
    work.drained.request();
    if served && !work.dropped.wait_for(deadline.saturating_duration_since(Instant::now())) {
        emit(&work.log, Event::Abandoned);
    }
    if work.failed.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The connector's thread, as the main thread sees it.
struct Work {
    log: Log,
    server: Option<HealthServer>,
    stop: Stop,
    /// The connector exists, and has been told to serve.
    connected: AtomicBool,
    /// The connector is being built, and neither its success nor its failure is logged yet.
    connecting: Mutex<bool>,
    failed: AtomicBool,
    /// The server has been drained, so the connector can be dropped.
    drained: Stop,
    /// The connector's destructor has run.
    dropped: Stop,
    sender: Sender,
}

impl Work {
    fn work(&self, settings: &Settings, connect: Connect) {
        let mut kept = None;
        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            let connector = match connect(settings, &self.stop) {
                Ok(connector) => kept.insert(connector),
                // It was asked to give up.
                Err(_) if self.stop.is_requested() => return Ok(()),
                Err(error) => return Err(RunError("connect", explain(&*error))),
            };
            if let Some(server) = &self.server {
                server.attach(Arc::clone(connector));
            }
            self.connected.store(true, Ordering::Release);
            *self.connecting() = false;
            emit(&self.log, Event::Connected);
            connector.serve(&self.stop).map_err(|error| RunError("serve", explain(&*error)))
        }));
        self.ended(result.unwrap_or_else(|payload| {
            let what = if self.connected.load(Ordering::Relaxed) { "serve" } else { "connect" };
            let reason = ["the connector panicked: ", panic_text(&*payload)].concat();
            // The destructor may panic too.
            mem::forget(payload);
            Err(RunError(what, reason))
        }));
        // Other threads of the connector may wait for this, and its destructor may wait for them.
        self.stop.request();
        self.sender.send(Message::Finished);

        self.drained.wait();
        let _ = panic::catch_unwind(AssertUnwindSafe(|| {
            if let Some(server) = &self.server {
                server.attach(Arc::new(Gone));
            }
            drop(kept);
        }))
        .map_err(mem::forget);
        self.dropped.request();
    }

    fn ended(&self, outcome: Result<(), RunError>) {
        *self.connecting() = false;
        match outcome {
            Ok(()) => emit(&self.log, Event::Finished),
            Err(RunError(what, reason)) => {
                self.failed.store(true, Ordering::Relaxed);
                emit_failure(&self.log, what, reason);
            }
        }
    }

    /// Waits for the first message. Logs meanwhile that connecting takes long.
    fn next_message(&self, inbox: &Inbox) -> io::Result<Message> {
        let started = Instant::now();
        let mut notice = CONNECTING_NOTICE;
        loop {
            let deadline = if *self.connecting() { after(started, notice) } else { never() };
            if let Some(message) = inbox.receive(deadline)? {
                return Ok(message);
            }
            let connecting = self.connecting();
            if *connecting {
                let first = notice == CONNECTING_NOTICE;
                emit(&self.log, if first { Event::Connecting } else { Event::StillConnecting { elapsed: notice } });
                notice += notice.min(MAX_CONNECTING_NOTICE);
            }
        }
    }

    /// Whether the connector is still being built. Holding this keeps the outcome from being logged.
    fn connecting(&self) -> MutexGuard<'_, bool> {
        self.connecting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the connector to finish, and waits for it, but leaves time for answers under way. Returns whether it
    /// has finished.
    fn finish(&self, inbox: &Inbox, deadline: Instant, timeout: Duration) -> bool {
        if let Some(server) = &self.server {
            server.start_draining();
        }
        emit(&self.log, Event::Draining);
        self.stop.request();
        let reserve = (2 * DRAIN_GRACE).min(timeout / 2);
        let until = deadline.checked_sub(reserve).unwrap_or(deadline);
        // A connector that is still connecting has nothing to finish, and may hang.
        if !self.connected.load(Ordering::Acquire) {
            return false;
        }
        while let Ok(Some(message)) = inbox.receive(until) {
            if message == Message::Finished {
                return true;
            }
        }
        emit(&self.log, Event::Abandoned);
        false
    }
}

/// Takes the connector's place in the server, so that the connector can be dropped.
struct Gone;

impl Connector for Gone {
    fn validate(&self) -> Result<(), BoxError> {
        Err("the connector has ended".into())
    }
}

/// A process whose listener has failed answers no probe, so it must end.
fn report_listener_failure(config: &mut Config, sender: &Sender) {
    let on_event = Arc::clone(&config.on_event);
    let sender = sender.clone();
    config.on_event = Arc::new(move |event| {
        // This comes first, since `on_event` may take long.
        if let Event::ListenerFailed { .. } = event {
            sender.send(Message::ListenerFailed);
        }
        on_event(event);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_had_names_what_to_change() {
        let address = "127.0.0.1:80".parse().unwrap();
        for (kind, what, hint) in [
            (ErrorKind::AddrInUse, "listen", "; choose another port with --health-check-port (this one: )"),
            (ErrorKind::AddrNotAvailable, "listen", "; it is not an address of this machine (), 0.0.0.0 means all"),
            (ErrorKind::PermissionDenied, "listen", "; ports below 1024 need CAP_NET_BIND_SERVICE (this one: )"),
            (ErrorKind::WouldBlock, "start a thread", "; see ulimit -u, and the container's limit of processes"),
            (ErrorKind::OutOfMemory, "listen", ""),
        ] {
            let RunError(tried, reason) = listen_error(&kind.into(), address, &Settings::default());
            assert_eq!(tried, what, "{kind}");
            assert!(reason.ends_with(&format!("{}{hint}", io::Error::from(kind))), "{reason}");
            assert_eq!(reason.starts_with("127.0.0.1:80: "), what == "listen", "{reason}");
        }
        let RunError(_, reason) =
            listen_error(&ErrorKind::PermissionDenied.into(), "127.0.0.1:1024".parse().unwrap(), &Settings::default());
        assert!(!reason.contains("CAP_NET_BIND_SERVICE"), "{reason}");
    }
}
