//! Pages for four tasks: [operating] a connector, [embedding] server and probe in another
//! program, [testing] a connector, and [building](static_builds) one static file.

#[doc = include_str!("../docs/operating.md")]
pub mod operating {}

#[doc = include_str!("../docs/embedding.md")]
///
/// # See also
///
/// [`Connector`](crate::Connector), [`HealthServer`](crate::HealthServer), [`Config`](crate::Config),
/// [`Event`](crate::Event), [`Probe`](crate::Probe), [`Stop`](crate::Stop).
pub mod embedding {}

#[doc = include_str!("../docs/testing.md")]
///
/// # See also
///
/// [`App::try_parse_from`](crate::App::try_parse_from), [`Settings`](crate::Settings),
/// [`HealthServer`](crate::HealthServer), [`Probe`](crate::Probe), [`Stop`](crate::Stop).
pub mod testing {}

#[doc = include_str!("../docs/static-builds.md")]
pub mod static_builds {}
