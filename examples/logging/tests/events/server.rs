//! A server whose events a test looks at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use baton_health::{Config, Event, HealthServer, Level, Probe};

/// How long a test waits for a line before it fails.
const LONGEST: Duration = Duration::from_secs(60);

/// Tells `on_event` of a server that listens and is unhealthy, and of two things that happen to none. Returns the
/// server's address.
pub(crate) fn run(on_event: fn(&Event<'_>)) -> SocketAddr {
    on_event(&Event::Failed { what: "connect", reason: "connection refused" });
    on_event(&Event::Message { level: Level::Debug, message: "asked", fields: &[("users", "27"), ("groups", "51")] });
    let mut config = Config::default();
    config.address.set_port(0);
    config.on_event = Arc::new(on_event);
    let server = HealthServer::bind(config).expect("a free port");
    server.attach_fn(|| Err("api: cannot sign in".into()), || Ok(()));
    assert!(Probe::new(server.local_addr()).run().is_err());
    server.local_addr()
}

/// The next lines, as many as are expected.
pub(crate) fn received(lines: &Receiver<String>, count: usize) -> Vec<String> {
    (0..count).map(|_| lines.recv_timeout(LONGEST).expect("a line")).collect()
}
