//! Waiting for a state, with a bound.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits before it fails. It is long, since machines may be slow, loaded or emulated, and
/// only a failing test waits the whole time.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A limit that no test reaches. A server that waits for it fails the test.
pub(crate) const FOREVER: Duration = Duration::from_secs(3600);

const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// How often a test does something: `usual` times, or fewer where each call on a socket takes a millisecond, as
/// under Wine, or where a processor is emulated.
pub(crate) fn times(usual: usize) -> usize {
    let slow = cfg!(windows) || env::var_os("BATON_TEST_RUNNER").is_some_and(|runner| !runner.is_empty());
    if slow { usual.div_ceil(20) } else { usual }
}

/// Repeats `attempt` until it returns true.
#[track_caller]
pub(crate) fn until(what: &str, mut attempt: impl FnMut() -> bool) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !attempt() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        thread::sleep(BETWEEN_LOOKS);
    }
}
