#![no_main]

// The product's own source: the parsers are not public, and need nothing of it but their limits.
#[allow(dead_code)]
#[path = "../src/http.rs"]
mod http;
mod limits;
#[allow(dead_code)]
#[path = "../src/http/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::response(bytes));
