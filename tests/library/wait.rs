//! Waiting for a state, with a bound.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up: long, since only a test that fails ever waits
/// it out, and machines may be slow, loaded or emulated.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A limit that no test lives to see: whoever waits for it has missed what it should have seen.
pub(crate) const FOREVER: Duration = Duration::from_secs(3600);

const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// Tries until it is so.
#[track_caller]
pub(crate) fn until(what: &str, mut attempt: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !attempt() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(BETWEEN_LOOKS);
    }
}
