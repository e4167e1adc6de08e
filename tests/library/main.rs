//! The library on real sockets, in process, through its public API.

mod alone;
mod attach;
mod bytes;
mod checks;
mod client;
mod composite;
mod endpoints;
mod eviction;
#[path = "../binary/json.rs"]
mod json;
mod liars;
mod misbehaving;
mod quotas;
mod readiness;
mod scripted;
mod secrets;
mod shutdown;
#[path = "../binary/spawn.rs"]
mod spawn;
mod stalls;
mod wait;
