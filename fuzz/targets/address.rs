//! Addresses, beside std.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| baton_health::fuzzing::address(bytes));
