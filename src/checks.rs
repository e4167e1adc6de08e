//! Several checks as one: they run in order, under one deadline, and their error names each that failed.

use std::time::{Duration, Instant};

use crate::connector::{BoxError, explain};
use crate::deadline::{after, left, milliseconds};
use crate::text::{TIMES, push_digits, without_times};

/// Several checks in a row, for a [`validate`](crate::Connector::validate) that looks at more than one thing.
///
/// Each check has a name, runs as soon as it is added, and is told how much time is left. Nothing interrupts a check,
/// so it passes that time on to what it calls. All checks run, even after one has failed, so that an operator sees
/// everything that is wrong. A check is not begun when no time is left, and counts as failed.
///
/// ```
/// use baton_health::{BoxError, Checks, Connector};
/// use std::time::Duration;
///
/// struct Directory { token: String }
///
/// impl Connector for Directory {
///     fn validate(&self) -> Result<(), BoxError> {
///         Checks::within(Duration::from_secs(4))
///             .check("token", |_| if self.token.is_empty() { Err("it is empty".into()) } else { Ok(()) })
///             .check("api", |left| self.ping(left))
///             .finish()
///     }
/// }
///
/// impl Directory {
///     fn ping(&self, timeout: Duration) -> Result<(), BoxError> {
///         // Ask the directory, and wait no longer than `timeout`.
///         # assert!(!timeout.is_zero());
///         Err("connection refused".into())
///     }
/// }
///
/// let error = Directory { token: String::new() }.validate().unwrap_err();
/// assert!(error.to_string().starts_with("token: it is empty; api: connection refused (times: token 0 ms, api "));
/// ```
///
/// # The text of the error
///
/// Here `api` has failed, and has left no time for `database`:
///
/// ```text
/// api: connection refused; database: not checked, no time left (times: token 3 ms, api 3998 ms)
/// ```
///
/// The text of a check's error includes its [sources](std::error::Error::source). The times at the end are in the
/// log and in the answer to a client on loopback. `health-check` and [`Probe`](crate::Probe) leave out everything
/// from ` (times: ` on if a text ends in ` ms)`: Kubernetes counts equal events, but lists different ones. So do
/// not add anything after this text.
#[derive(Debug)]
#[must_use = "`finish` has the verdict"]
pub struct Checks {
    deadline: Instant,
    failures: String,
    times: String,
}

impl Checks {
    /// No checks yet, and the time for all of them together, from now on.
    ///
    /// It should be shorter than the time that clients wait, or they get no more than "validation has not finished".
    /// For a probe with the default timeout of 5 s, which the server answers after 4.5 s, 4 s is right.
    pub fn within(time: Duration) -> Checks {
        Checks { deadline: after(Instant::now(), time), failures: String::new(), times: String::new() }
    }

    /// Runs a check, unless no time is left. It gets the time that is left, which is more than zero.
    ///
    /// The name goes into the error's text.
    ///
    /// # Panics
    ///
    /// A panic in the check is passed on: the checks after it do not run.
    pub fn check(mut self, name: &str, check: impl FnOnce(Duration) -> Result<(), BoxError>) -> Checks {
        match left(self.deadline) {
            Ok(left) => {
                let started = Instant::now();
                let result = check(left);
                self.add(name, started.elapsed(), result);
            }
            Err(_) => self.fail(name, "not checked, no time left"),
        }
        self
    }

    /// The verdict: `Ok` if every check has succeeded, however long it took.
    ///
    /// # Errors
    ///
    /// Names the checks that failed, in order, each with its error, and the time that each check took.
    pub fn finish(self) -> Result<(), BoxError> {
        if self.failures.is_empty() {
            return Ok(());
        }
        let times = if self.times.is_empty() { String::new() } else { [TIMES, &self.times, ")"].concat() };
        Err((self.failures + &times).into())
    }

    fn add(&mut self, name: &str, time: Duration, result: Result<(), BoxError>) {
        if !self.times.is_empty() {
            self.times.push_str(", ");
        }
        self.times.extend([name, " "]);
        push_digits(&mut self.times, milliseconds(time), 1);
        self.times.push_str(" ms");
        if let Err(error) = result {
            // The times of nested checks would stand in the middle of the text, where nothing removes them.
            let text = explain(&*error);
            self.fail(name, without_times(&text));
        }
    }

    fn fail(&mut self, name: &str, reason: &str) {
        if !self.failures.is_empty() {
            self.failures.push_str("; ");
        }
        self.failures.extend([name, ": ", reason]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    const HOUR: Duration = Duration::from_secs(3600);

    fn text(checks: Checks) -> String {
        checks.finish().unwrap_err().to_string()
    }

    #[test]
    fn checks_that_succeed_are_a_success() {
        assert!(Checks::within(HOUR).finish().is_ok());
        assert!(Checks::within(Duration::MAX).check("token", |_| Ok(())).check("api", |_| Ok(())).finish().is_ok());
    }

    #[test]
    fn each_failure_is_named_and_each_time_is_told() {
        let mut checks = Checks::within(HOUR);
        checks.add("token", Duration::from_millis(3), Ok(()));
        assert_eq!((&*checks.failures, &*checks.times), ("", "token 3 ms"));
        checks.add("api", Duration::from_micros(12_999), Err(io::Error::other(Outer).into()));
        checks.add("database", Duration::from_secs(61), Err("gone".into()));
        let expected = "api: cannot sign in: connection refused; database: gone (times: token 3 ms, api 12 ms, database 61000 ms)";
        assert_eq!(text(checks), expected);
    }

    /// An error with a source.
    #[derive(Debug)]
    struct Outer;

    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("cannot sign in")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            static CAUSE: std::sync::LazyLock<io::Error> = std::sync::LazyLock::new(|| io::Error::other("connection refused"));
            Some(&*CAUSE)
        }
    }

    #[test]
    fn without_time_no_check_is_begun() {
        let checks = Checks::within(Duration::ZERO).check("token", |_| panic!("begun")).check("api", |_| panic!("begun"));
        assert_eq!(text(checks), "token: not checked, no time left; api: not checked, no time left");
    }

    #[test]
    fn a_check_gets_the_time_that_those_before_it_have_left() {
        let mut checks = Checks::within(2 * HOUR).check("token", |left| {
            assert!(HOUR < left && left <= 2 * HOUR, "{left:?}");
            Ok(())
        });
        // As if the first had taken an hour.
        checks.deadline -= HOUR;
        checks = checks.check("api", |left| if left <= HOUR { Ok(()) } else { panic!("{left:?}") });
        // As if the second had taken the rest.
        checks.deadline = Instant::now();
        checks = checks.check("database", |_| panic!("begun"));
        let text = text(checks);
        assert!(text.starts_with("database: not checked, no time left (times: token "), "{text}");
        assert!(!text.contains("database "), "{text}");
    }

    #[test]
    fn checks_inside_of_a_check_are_one_check() {
        let inner = |left| Checks::within(left).check("disk", |_| Err("full".into())).check("index", |_| Ok(())).finish();
        let mut checks = Checks::within(HOUR);
        checks.add("database", Duration::from_millis(7), inner(HOUR));
        assert_eq!(text(checks), "database: disk: full (times: database 7 ms)");
    }

    #[test]
    fn a_panic_in_a_check_is_passed_on() {
        let caught = std::panic::catch_unwind(|| Checks::within(HOUR).check("api", |_| panic!("boom")).finish().is_ok());
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"boom"));
    }
}
