//! The library on real sockets, in process, through its public API.

mod alone;
mod bytes;
mod checks;
mod client;
mod endpoints;
#[path = "../binary/json.rs"]
mod json;
mod liars;
mod scripted;
mod secrets;
mod shutdown;
mod stalls;
mod wait;
