//! Dates, beside the `time` crate.
#![no_main]

use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    /// A later clock is read as this second.
    const LAST_SECOND: u64 = 253_402_300_799;
    let (seconds, iso, http) = baton_health::fuzzing::date(bytes);
    let theirs = OffsetDateTime::from_unix_timestamp(seconds.min(LAST_SECOND) as i64).expect("a year of four digits");
    assert_eq!(iso, theirs.format(&Rfc3339).expect("a year of four digits"));
    // An HTTP date is one of a mail, with another name for its zone.
    assert_eq!(http.replace("GMT", "+0000"), theirs.format(&Rfc2822).expect("a year of four digits"));
});
