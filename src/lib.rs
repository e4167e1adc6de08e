//! HTTP health checks for Baton connectors: a server with `/health`, `/ready` and `/live`, and the
//! probe that asks it, for images that hold nothing but the connector.
//!
//! An author implements [`Connector`] and hands it to [`App`], and that is the whole program:
//!
//! ```no_run
//! use baton_health::{App, BoxError, Connector, Setting, Stop};
//! use std::net::TcpStream;
//! use std::process::ExitCode;
//! use std::time::Duration;
//!
//! const ADDRESS: Setting<String> = Setting::text("address", "HOST:PORT").help("Where the directory is");
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
//! [`App::run`] reads the command line and the environment, starts the server if `--health-check`
//! asks for it, builds the connector, lets it work until SIGTERM, SIGINT or SIGHUP, and turns all that
//! into an exit code. `baton-directory health-check` asks a running one how it is.
//!
//! A program that has a command line of its own uses [`HealthServer`] and [`Probe`] instead; with
//! `default-features = false` that needs no other package.
//!
//! # The three endpoints
//!
//! | endpoint | asks | 200 | 503 |
//! |---|---|---|---|
//! | `/health` | [`Connector::validate`] | it returned `Ok` | it returned an error, panicked, or takes too long; no connector yet |
//! | `/ready` | [`Connector::ready`] | there is a connector, and it says so | there is none yet, it says no, or the process is about to end |
//! | `/live` | nobody | always | never |
//!
//! # Threads and limits
//!
//! Two acceptors only accept connections, and answer at once what needs no waiting. They hand every other
//! connection over to the threads of a waiting room, which start when they are needed, one for each
//! connection, up to [`Config::max_connections`].
//!
//! At that limit a new connection takes the place of an idle one: of a connection that waits for its client
//! to send the rest of a request, or to close. The oldest connection of the remote network that holds most
//! of them is evicted first, connections from this machine last. So stalled clients cannot keep others out.
//! At most half of the places are for requests that wait for `validate`, at most a quarter for requests
//! inside `ready`; beyond that the answer is 503 at once. `/live` needs no place. Every limit is a field of
//! [`Config`], or a constant with its reason beside it.
//!
//! `validate` runs on a thread of its own, one run at a time, and all clients that ask meanwhile share its
//! verdict. Each client waits no longer than it says (`Prefer: wait=SECONDS`, RFC 7240) and
//! [`Config::validate_timeout`] allows. The verdict is reused for [`Config::validate_ttl`]. A run that hangs
//! costs one thread: the server does not start another one beside it, answers `/health` with 503 at once, and
//! recovers when the run returns.
//!
//! A panic in `validate` or `ready` is a 503. A panic in `serve` or while connecting ends the program with
//! exit code 1. In a program built with `panic = "abort"` every panic ends it.
//!
//! # Beside an async runtime
//!
//! Everything here blocks, on threads of its own, and needs no runtime. A connector that has one
//! keeps a handle to it and blocks on that: `self.runtime.block_on(self.client.whoami())` in
//! `validate`, which runs on no thread of the runtime; `serve` does the same with the connector's
//! main task, after handing it a clone of [`Stop`], which a blocking task of the runtime waits on.
//! That task ends too when `serve` returns early: the [`Stop`] is requested then. A whole program is in
//! `examples/async_runtime.rs`.
//!
//! # How a request walks
//!
//! ```text
//! server/acceptor     accepts the connection; hands it over if it has to wait
//! server/room         queues it for a thread; at capacity evicts an idle connection
//! server/connection   reads the head, decides, answers, closes
//! http/request        parses the head
//! server/response     turns the question into a status and a body
//! server/validation   knows the verdict, or gets it
//! connector           is asked
//! ```
//!
//! # How the files depend on each other
//!
//! Each file uses the ones named to its right and no others; a test holds it to that.
//!
//! ```text files
//! fuzzing              address cli date event http/properties http/request http/response json limits log probe text
//! cli                  cli/command cli/daemon cli/found cli/mistakes cli/row cli/setting cli/settings cli/table config connector deadline endpoint log probe stop sys
//! cli/daemon           address cli/settings cli/signal cli/table config connector deadline event limits log server spawn stop
//! server               config connector deadline event limits log server/acceptor server/listener server/room server/validation sys
//! cli/signal           deadline sys
//! cli/command          cli/found cli/mistakes cli/row cli/settings cli/table cli/value config endpoint event log probe
//! probe                address config deadline endpoint http/response limits probe/answer probe/error text
//! cli/settings         address cli/found cli/mistakes cli/row cli/setting cli/value connector text
//! cli/setting          cli/found cli/row cli/secret
//! http/properties      http/request http/response limits
//! probe/answer         deadline endpoint http/response json limits probe/error text
//! http/response        http limits
//! server/acceptor      event limits log server/connection server/listener server/room server/validation spawn
//! server/listener      address limits sys
//! probe/error          address deadline endpoint
//! server/connection    deadline http/request limits server/response server/room server/slots server/validation
//! server/response      date endpoint http/request json server/validation
//! server/validation    config connector deadline endpoint limits log server/transitions spawn text
//! spawn                -
//! connector            stop
//! stop                 -
//! http/request         http limits
//! http                 -
//! server/room          limits server/slots
//! server/slots         -
//! limits               -
//! server/transitions   event log
//! cli/allowed          address cli/mistakes cli/row cli/value
//! endpoint             -
//! cli/found            cli/row cli/value
//! cli/help             cli/row cli/table
//! cli/secret           cli/mistakes cli/row
//! cli/mistakes         address cli/row cli/value text
//! cli/table            address cli/row config
//! config               address event log
//! log                  event log/stderr
//! cli/row              address cli/value text
//! cli/value            event text
//! log/stderr           date event json sys text
//! sys                  deadline
//! deadline             -
//! json                 text
//! event                address
//! address              text
//! date                 text
//! text                 -
//! ```

#![cfg_attr(not(feature = "cli"), allow(rustdoc::broken_intra_doc_links, reason = "App is part of that feature"))]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice))]

mod address;
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
#[cfg(unix)]
mod sys;
mod text;

#[cfg(feature = "cli")]
mod cli;

pub use address::{DEFAULT_ADDRESS, DEFAULT_PORT};
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

/// For the targets in `fuzz/`.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_public_can_be_shared_between_threads_and_shown() {
        fn of<T: Send + Sync + std::fmt::Debug>() {}
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
