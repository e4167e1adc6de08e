//! HTTP health checks and an exec probe for Baton connectors.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice))]

mod answer;
mod checks;
mod config;
mod connector;
mod deadline;
mod endpoint;
mod http;
mod limits;
mod listener;
mod log;
mod pool;
mod probe;
mod report;
mod server;
mod stop;

#[cfg(feature = "cli")]
mod app;
#[cfg(feature = "cli")]
mod settings;
#[cfg(feature = "cli")]
mod signal;

pub use config::{Config, DEFAULT_ADDRESS, DEFAULT_PORT, DEFAULT_PROBE_TIMEOUT};
pub use connector::{BoxError, Connector};
pub use endpoint::Endpoint;
pub use log::{Event, Level, log};
pub use probe::{Phase, Probe, ProbeError, ProbeFailure};
pub use server::HealthServer;
pub use stop::Stop;

#[cfg(feature = "cli")]
pub use app::App;
#[cfg(feature = "cli")]
pub use settings::{Setting, Settings};
