//! The reference connector's `passwd` and `group`.
#![no_main]

#[path = "../../src/bin/baton-passwd/accounts.rs"]
#[allow(dead_code)]
mod accounts;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| accounts::check(bytes));
