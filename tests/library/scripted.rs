//! A connector whose checks a test supplies, and a server for it that records its events.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use baton_health::{BoxError, Config, Connector, Event, HealthServer};

use crate::wait::{FOREVER, TEST_TIMEOUT, until};

type Check = Box<dyn Fn() -> Result<(), BoxError> + Send + Sync>;

pub(crate) struct Scripted {
    validate: Check,
    ready: Check,
}

impl Scripted {
    pub(crate) fn new(
        validate: impl Fn() -> Result<(), BoxError> + Send + Sync + 'static,
        ready: impl Fn() -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Arc<Scripted> {
        Arc::new(Scripted { validate: Box::new(validate), ready: Box::new(ready) })
    }

    pub(crate) fn validate(validate: impl Fn() -> Result<(), BoxError> + Send + Sync + 'static) -> Arc<Scripted> {
        Scripted::new(validate, || Ok(()))
    }

    pub(crate) fn ready(ready: impl Fn() -> Result<(), BoxError> + Send + Sync + 'static) -> Arc<Scripted> {
        Scripted::new(|| Ok(()), ready)
    }
}

impl Connector for Scripted {
    fn validate(&self) -> Result<(), BoxError> {
        (self.validate)()
    }

    fn ready(&self) -> Result<(), BoxError> {
        (self.ready)()
    }
}

/// Blocks every caller of `pass` until it is opened.
#[derive(Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    came: AtomicUsize,
}

impl Gate {
    pub(crate) fn new() -> Arc<Gate> {
        Arc::default()
    }

    pub(crate) fn pass(&self) {
        self.came.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded, so that a failing test leaves no thread behind.
        drop(self.opened.wait_timeout_while(open, 10 * TEST_TIMEOUT, |open| !*open));
    }

    pub(crate) fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    /// How many calls of `pass` there were, blocked ones included.
    pub(crate) fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) {
        until("a call of `pass`", || self.came() >= count);
    }
}

/// A server on a free port, and the text of its events.
pub(crate) struct Server {
    pub(crate) server: HealthServer,
    events: Arc<Mutex<Vec<String>>>,
    readiness: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts a server with long timeouts, so that no timeout explains what a test sees.
    pub(crate) fn start(change: impl FnOnce(&mut Config)) -> Server {
        let events = Arc::<Mutex<Vec<String>>>::default();
        let readiness = Arc::<Mutex<Vec<String>>>::default();
        let mut config = Config::default();
        config.address.set_port(0);
        config.request_timeout = FOREVER;
        config.validate_timeout = FOREVER;
        config.on_event = Arc::new({
            let (events, readiness) = (Arc::clone(&events), Arc::clone(&readiness));
            move |event: &Event<'_>| match event {
                Event::Ready => readiness.lock().unwrap().push("ready".into()),
                Event::NotReady { reason } => readiness.lock().unwrap().push(format!("not ready: {reason}")),
                event => events.lock().unwrap().push(event.to_string()),
            }
        });
        change(&mut config);
        Server { server: HealthServer::bind(config).expect("a free port"), events, readiness }
    }

    pub(crate) fn with(connector: Arc<Scripted>, change: impl FnOnce(&mut Config)) -> Server {
        let server = Server::start(change);
        server.server.attach(connector);
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// The changes of readiness.
    pub(crate) fn readiness(&self) -> Vec<String> {
        self.readiness.lock().unwrap().clone()
    }

    /// The changes of readiness, once there are so many. A change is logged after its client has its answer.
    #[track_caller]
    pub(crate) fn wait_for_readiness(&self, count: usize) -> Vec<String> {
        until("changes of readiness", || self.readiness().len() >= count);
        self.readiness()
    }

    /// All other events, once there are so many. A change is logged after its client has its answer.
    #[track_caller]
    pub(crate) fn wait_for_events(&self, count: usize) -> Vec<String> {
        until("events", || self.events().len() >= count);
        self.events()
    }

    /// All other events, except for the first, which tells the address.
    pub(crate) fn events(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        assert!(events[0].starts_with("listening address="), "{events:?}");
        events[1..].to_vec()
    }
}
