//! Real events of a server, as `tracing` and `log` get them.

mod server;
mod to_log;
mod to_tracing;
