//! Command lines and environments.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| baton_health::fuzzing::command(bytes));
