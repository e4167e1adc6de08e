//! The real program, from outside: its command line, its probe, its endpoints, its life and its work.
//!
//! `BATON_TEST_BINARY` names another build of the program to test than cargo's own, and
//! `BATON_TEST_RUNNER` a command to run it with, words separated by spaces, such as `qemu-aarch64`.
#![cfg(feature = "cli")]
// Elsewhere than on Unix there are no signals and no named pipes, and fewer tests.
#![cfg_attr(not(unix), allow(dead_code))]

mod client;
mod clock;
mod daemon;
mod endpoints;
mod json;
mod probe;
mod program;
mod server;
mod source;
mod usage;

#[cfg(unix)]
mod life;
#[cfg(unix)]
mod sync;
#[cfg(target_os = "linux")]
mod terminal;
