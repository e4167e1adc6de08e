//! Several checks behind one endpoint: what a client and the probe get to read of them.

use std::time::Duration;

use baton_health::{BoxError, Checks, Probe};

use crate::client::get;
use crate::scripted::{Scripted, Server};
use crate::wait::FOREVER;

const VALIDATION: &str = "details.validation_error";

fn failing() -> Result<(), BoxError> {
    Checks::within(FOREVER)
        .check("token", |_| Ok(()))
        .check("api", |_| Err("cannot sign in".into()))
        .check("database", |_| Checks::within(Duration::ZERO).check("index", |_| Ok(())).finish())
        .finish()
}

#[test]
fn a_client_on_loopback_reads_which_checks_failed_and_how_long_each_took() {
    const FAILED: &str = "api: cannot sign in; database: index: not checked, no time left";
    let server = Server::with(Scripted::new(failing, failing), |_| {});
    for (path, member) in [("/health", VALIDATION), ("/ready", "details.readiness_error")] {
        let text = get(server.address(), path).at(member).expect("a reason");
        let (failed, times) = text.split_once(" (times: ").expect("times");
        assert_eq!(failed, FAILED);
        let times: Vec<_> = times.strip_suffix(" ms)").expect("the end").split(" ms, ").map(|time| time.rsplit_once(' ')).collect();
        let names: Vec<_> = times.iter().flatten().map(|(name, _)| *name).collect();
        assert_eq!(names, ["token", "api", "database"]);
        assert!(times.iter().flatten().all(|(_, digits)| digits.parse::<u64>().is_ok()), "{text}");
    }
    // The line of a probe has no times, so that it is the same every time.
    let error = Probe::new(server.address()).run().unwrap_err().to_string();
    assert!(error.ends_with(&format!("connector validation failed: {FAILED}")), "{error}");
    let events = server.wait_for_events(1).concat();
    assert!(events.contains(FAILED) && events.ends_with(" ms)"), "the log has the times: {events}");
}

#[test]
fn a_text_that_is_too_long_loses_its_times_before_it_is_cut() {
    let most = "x".repeat(1024 - "api: ".len());
    for (reason, expected) in [(most.clone(), format!("api: {most}")), (format!("{most}x"), format!("api: {}...", &most[3..]))] {
        let failing = move || Checks::within(FOREVER).check("api", |_| Err(reason.clone().into())).finish();
        let server = Server::with(Scripted::validate(failing), |_| {});
        assert_eq!(get(server.address(), "/health").at(VALIDATION), Some(expected));
        assert!(server.wait_for_events(1).concat().ends_with(" ms)"), "the log has the whole text");
    }
}

#[test]
fn a_panic_in_a_check_is_a_503_that_says_so() {
    let panicking = || Checks::within(FOREVER).check("api", |_| panic!("boom")).check("database", |_| Ok(())).finish();
    let server = Server::with(Scripted::validate(panicking), |_| {});
    assert_eq!(get(server.address(), "/health").at(VALIDATION).as_deref(), Some("validate panicked: boom"));
}
