//! Health checks for Baton connectors, in the connector's own binary: an HTTP server with `/health`, `/ready` and
//! `/live`, and a probe that asks it, for images that hold nothing but the connector.
//!
//! A connector is a daemon that syncs users and permissions out of another system. Its author implements
//! [`Connector`] and hands it to [`App`], and that is the whole program:
//!
//! ```no_run
//! use baton_health::{App, BoxError, Connector, Setting, Stop};
//! use std::net::TcpStream;
//! use std::process::ExitCode;
//! use std::time::Duration;
//!
//! const ADDRESS: Setting<String> =
//!     Setting::text("address", "HOST:PORT").help("Where the directory is");
//!
//! struct Directory { address: String }
//!
//! impl Connector for Directory {
//!     fn validate(&self) -> Result<(), BoxError> {
//!         TcpStream::connect(&*self.address)?;
//!         Ok(())
//!     }
//!
//!     fn serve(&self, stop: &Stop) -> Result<(), BoxError> {
//!         while !stop.wait_for(Duration::from_secs(60)) { /* sync */ }
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     App::new("baton-directory", env!("CARGO_PKG_VERSION"))
//!         .setting(&ADDRESS)
//!         .run(|settings| Ok(Directory { address: settings.get(&ADDRESS) }))
//! }
//! ```
//!
//! Run as `baton-directory --address=here:636 --health-check`, it does this, in this order:
//!
//! 1. [`App::run`] reads flags and variables. A [`Setting`] is a constant that knows its type, so
//!    [`Settings::get`] returns a `String` here. If a setting is missing or wrong, the program says so in one line
//!    and exits with 1.
//! 2. It listens on `127.0.0.1:8081`. From now on `/live` answers 200.
//! 3. It calls the closure, which builds the connector and may take its time. When the closure has returned,
//!    `/ready` answers 200. If it fails, the program logs the error and exits with 1.
//! 4. It calls [`serve`](Connector::serve), the connector's own work. A request to `/health` calls
//!    [`validate`](Connector::validate) meanwhile, on a thread of its own. An error is a 503, for
//!    clients on loopback with the error's text. A `validate` that looks at more than one thing uses [`Checks`].
//! 5. On SIGTERM, SIGINT or SIGHUP, `/ready` turns 503 and [`Stop`] is requested. `serve` returns, answers under way
//!    are delivered, and the program exits with 0.
//!
//! `baton-directory health-check` asks a running one, prints `healthy` and exits with 0, or says why not and exits
//! with 1.
//!
//! # Where to go on
//!
//! | for | read |
//! |---|---|
//! | settings, which endpoint for which probe, engines, logs, limits | [operating](guide::operating) |
//! | server and probe in a program with its own command line, or beside an async runtime | [embedding](guide::embedding) |
//! | tests of a connector | [testing](guide::testing) |
//! | one static file for a scratch image | [static builds](guide::static_builds) |
//!
//! The feature `cli` is on by default and brings [`App`]. With `default-features = false` there are [`HealthServer`] and
//! [`Probe`], and no other package.
//!
//! # The three endpoints
//!
//! | endpoint | asks | 200 | 503 |
//! |---|---|---|---|
//! | `/health` | [`validate`](Connector::validate) | it returned `Ok` | it returned an error, panicked, or takes too long; no connector yet |
//! | `/ready` | [`ready`](Connector::ready) | there is a connector, and it says so | there is none yet, it says no, the program refuses new work, or the process is about to end |
//! | `/live` | nothing | always | never |
//!
//! # Threads and limits
//!
//! Two threads for each listening socket, the acceptors, accept connections. An acceptor answers a request
//! itself if that needs no waiting, and hands every other connection over to the waiting room. The room has a
//! thread for each connection, started when it is needed, up to [`Config::max_connections`].
//!
//! At that limit the server evicts an idle connection to make room for a new one. A connection is idle while
//! it waits for its client, to send the rest of a request or to close. The remote network with the most idle
//! connections loses its oldest one first, and connections from this machine are evicted last. So stalled
//! clients cannot keep others out. The server evicts as well when the system has no descriptor or no thread
//! left.
//!
//! At most half of the connections may wait for `validate`, and at most a quarter may be inside `ready`: half of them
//! from other machines. Beyond that the answer is 503 at once. `/live` has no such limit. Every limit is a field of
//! [`Config`], or a constant with its reason beside it.
//!
//! `validate` runs on a thread of its own, one run at a time, and all clients that ask during a run share its
//! verdict. Each client waits no longer than it says (`Prefer: wait=SECONDS`, RFC 7240) and
//! [`Config::validate_timeout`] allows. The verdict is reused for [`Config::validate_ttl`]. A run that hangs
//! costs one thread: the server starts no other run beside it, answers `/health` with 503 at once, and
//! recovers when the run returns.
//!
//! A panic in `validate` or `ready` is a 503. A panic in `serve` or while connecting ends the program with
//! exit code 1. In a program built with `panic = "abort"` every panic ends it.
//!
//! # The way of a request
//!
//! ```text
//! server/acceptor     accepts the connection; hands it over if it has to wait
//! server/room         queues it for a thread; at capacity evicts an idle connection
//! server/connection   reads the head, decides, answers, closes
//! http/request        parses the head
//! server/response     turns the request into a question, and its verdict into an answer
//! server/validation   has the verdict, or waits for it
//! connector           is asked
//! ```
//!
//! # How the files depend on each other
//!
//! Each file uses the ones named to its right and no others. A test checks this.
//!
//! ```text files
//! fuzzing              address cli date event http/properties http/request http/response json limits log probe text
//! cli                  cli/command cli/daemon cli/found cli/mistakes cli/row cli/setting cli/settings cli/table config connector deadline endpoint event log probe stop sys
//! cli/allowed          address cli/mistakes cli/row cli/value
//! cli/command          cli/found cli/mistakes cli/row cli/settings cli/table cli/value config endpoint event log probe
//! checks               connector deadline text
//! probe                address config deadline endpoint http http/response limits probe/answer probe/error text
//! cli/daemon           address cli/logging cli/settings cli/signal cli/table config connector deadline event limits log server spawn stop
//! server               config connector deadline event limits log server/acceptor server/listener server/room server/validation sys
//! cli/help             cli/row cli/table
//! cli/settings         address cli/found cli/mistakes cli/row cli/setting cli/value connector text
//! cli/setting          cli/found cli/row cli/secret deadline
//! cli/secret           cli/mistakes cli/row
//! cli/logging          connector event log spawn stop
//! cli/mistakes         address cli/row cli/value text
//! cli/found            cli/row cli/value
//! cli/signal           deadline sys
//! cli/table            address cli/row config
//! cli/row              address cli/value text
//! cli/value            event text
//! http/properties      http/request http/response limits
//! probe/answer         deadline endpoint http/response json limits probe/error text
//! http/response        http limits text
//! probe/error          address deadline endpoint
//! server/acceptor      deadline event limits log server/connection server/listener server/room server/slots server/validation spawn
//! server/connection    deadline http/request limits server/response server/room server/slots server/validation
//! server/listener      address limits sys
//! server/response      date endpoint http/request json server/validation text
//! http/request         address http limits text
//! http                 text
//! server/room          limits server/slots sync
//! server/slots         -
//! server/validation    config connector deadline endpoint limits log server/quota server/transitions spawn sync text
//! server/quota         sync
//! server/transitions   event log sync
//! endpoint             -
//! connector            limits stop
//! limits               -
//! config               address event log
//! log                  event log/stderr
//! log/stderr           date event json sys text
//! json                 text
//! date                 text
//! event                address
//! address              text
//! spawn                -
//! stop                 sync
//! sys                  deadline
//! deadline             sync
//! sync                 -
//! text                 -
//! guide                -
//! ```

#![cfg_attr(not(feature = "cli"), allow(rustdoc::broken_intra_doc_links, reason = "App is part of that feature"))]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice))]

mod address;
mod checks;
mod config;
mod connector;
mod date;
mod deadline;
mod endpoint;
mod event;
mod http;
mod json;
mod limits;
mod log;
mod probe;
mod server;
mod spawn;
mod stop;
mod sync;
#[cfg(unix)]
mod sys;
mod text;

#[cfg(feature = "cli")]
mod cli;

#[cfg(doc)]
pub mod guide;

pub use address::{DEFAULT_ADDRESS, DEFAULT_PORT};
pub use checks::Checks;
pub use config::{Config, DEFAULT_PROBE_TIMEOUT};
pub use connector::{BoxError, Connector, explain};
pub use endpoint::Endpoint;
pub use event::{Event, Level};
pub use log::log;
pub use probe::{Phase, Probe, ProbeError, ProbeErrorKind};
pub use server::HealthServer;
pub use stop::Stop;

#[cfg(feature = "cli")]
pub use cli::{App, Secret, Setting, Settings, UsageError, Value};

/// Functions for the targets in `fuzz/`.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;

/// Compiles the README's code as a test. `guide` does that for the pages in `docs/`.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_types_are_send_sync_and_debug() {
        fn of<T: Send + Sync + std::fmt::Debug>() {}
        of::<Checks>();
        of::<Config>();
        of::<Endpoint>();
        of::<Event<'_>>();
        of::<HealthServer>();
        of::<Level>();
        of::<Phase>();
        of::<Probe>();
        of::<ProbeError>();
        of::<ProbeErrorKind>();
        of::<Stop>();
        #[cfg(feature = "cli")]
        {
            of::<App>();
            of::<Secret>();
            of::<Setting<String>>();
            of::<Settings>();
            of::<UsageError>();
        }
    }
}
