//! Pages for four tasks: [operating] a connector, [embedding] server and probe in another
//! program, [testing] a connector, and [building](static_builds) one static file.

/// Settings, probes, engines, logs and limits.
///
#[doc = include_str!("../docs/operating.md")]
pub mod operating {}

/// Server and probe in a program of your own, and beside an async runtime.
///
#[doc = include_str!("../docs/embedding.md")]
///
/// # See also
///
/// [`Checks`](crate::Checks), [`Connector`](crate::Connector), [`HealthServer`](crate::HealthServer), [`Config`](crate::Config),
/// [`Event`](crate::Event), [`Probe`](crate::Probe), [`Stop`](crate::Stop).
pub mod embedding {}

/// Tests of a connector: its settings, its health, its end.
///
#[doc = include_str!("../docs/testing.md")]
///
/// # See also
///
/// [`App::try_parse_from`](crate::App::try_parse_from), [`Settings`](crate::Settings),
/// [`HealthServer`](crate::HealthServer), [`Probe`](crate::Probe), [`Stop`](crate::Stop).
pub mod testing {}

/// One static file for a scratch image.
///
#[doc = include_str!("../docs/static-builds.md")]
pub mod static_builds {}
