//! The command line and the environment: what they mean, and what is said when they mean nothing.

use std::net::SocketAddr;

use crate::daemon::log_line;
use crate::program::{Outcome, program, run};
use crate::server;
use crate::source::Source;

type Variables<'a> = &'a [(&'a str, &'a str)];

/// Runs a connector whose source is missing, so that it ends on its own however far it gets.
fn doomed(arguments: &[&str], variables: Variables<'_>) -> Outcome {
    let mut command = program(arguments);
    command.env("BATON_PASSWD", "/nonexistent/passwd").env("BATON_HEALTH_CHECK_PORT", "0");
    run(command.envs(variables.iter().copied()))
}

/// What is logged of a health check that is not enabled.
const OFF: &str = "health check is off";

#[track_caller]
fn last_line(outcome: &Outcome) -> &str {
    assert_eq!((outcome.code, &*outcome.stdout), (Some(1), ""), "{outcome:?}");
    outcome.stderr.lines().last().unwrap_or_default()
}

/// Where a connector listened before it found its source missing; nowhere, if it did not listen.
#[track_caller]
fn listened(outcome: &Outcome) -> Option<SocketAddr> {
    // On a slow machine connecting takes long enough to be logged.
    let told = |message: Option<&str>| message != Some(OFF) && message != Some("connecting");
    let lines: Vec<_> = outcome.stderr.lines().map(log_line).filter(|line| told(line.at("msg"))).collect();
    let messages: Vec<_> = lines.iter().filter_map(|line| line.at("msg")).collect();
    assert!((outcome.code, &*outcome.stdout) == (Some(1), "") && messages.last() == Some(&"failed"), "{outcome:?}");
    assert!(messages.len() == 1 || messages == ["listening", "failed"], "{outcome:?}");
    lines.first().and_then(|line| line.at("address")).map(|address| address.parse().expect("an address"))
}

/// Asserts that this is bad usage, and what is said about it.
#[track_caller]
fn refused(arguments: &[&str], variables: Variables<'_>, complaint: &str) {
    // Were it accepted, the source that is missing would end it.
    let outcome = run(program(arguments).env("BATON_PASSWD", "/nonexistent/passwd").envs(variables.iter().copied()));
    assert_eq!(outcome.complaint(), format!("baton-passwd: {complaint}"), "{arguments:?} {variables:?}");
}

const PORT: &str = "expected a whole number in plain digits, from 0 to 65535";
const PROBED_PORT: &str = "expected the port the server listens on, from 1 to 65535";
const ADDRESS: &str = "expected an IP address or localhost";
const BOOLEAN: &str = "expected true or false (also 1 t T TRUE True, 0 f F FALSE False)";
const TIMEOUT: &str = "expected a time such as 30s or 5m, from 1s to 1h";
const INTERVAL: &str = "expected a time such as 30s or 5m, from 1s to 24h";

#[rustfmt::skip]
const BAD_PORTS: &[&str] = &[
    "65536", "70000", "-1", "+80", " 80", "80 ", "08081", "010000", "00", "0x50", "1e3", "80.0", "8,081", "abc", "8081a", "\u{663}",
    "18446744073709551616", "99999999999999999999999999",
];

#[rustfmt::skip]
const BAD_ADDRESSES: &[&str] = &[
    "example.com", "localhost.", "local host", "127.1", "127.0.0.01", "256.0.0.1", "1", "[127.0.0.1]", "[::1", "::1]", "[[::1]]", "[]",
    "127.0.0.1:80", "[::1]:80", "fe80::1%eth0", " 127.0.0.1", "127.0.0.1 ", "http://127.0.0.1", "*", "[localhost]",
    "255.255.255.255", "224.0.0.1", "ff02::1",
];

/// What is added about a bad value that is easily explained.
fn hint(value: &str) -> &'static str {
    match value {
        "example.com" | "localhost." => "; host names are not looked up",
        "127.0.0.1:80" | "[::1]:80" => "; give the port with --health-check-port",
        "255.255.255.255" | "224.0.0.1" | "ff02::1" => "; a server cannot listen on a multicast or broadcast address",
        _ => "",
    }
}

#[test]
fn a_bad_port_or_address_is_refused_wherever_it_is_given() {
    for (name, variable, expected, values) in [
        ("--health-check-port", "BATON_HEALTH_CHECK_PORT", PORT, BAD_PORTS),
        ("--health-check-bind-address", "BATON_HEALTH_CHECK_BIND_ADDRESS", ADDRESS, BAD_ADDRESSES),
    ] {
        for value in values {
            let flag = &*format!("{name}={value}");
            let hint = hint(value);
            let complaint = format!("invalid {name} \"{value}\": {expected}{hint}");
            for arguments in [&[flag][..], &[name, value], &[flag, "health-check"], &["health-check", flag]] {
                refused(arguments, &[], &complaint);
            }
            let complaint = format!("invalid {variable} \"{value}\": {expected}{hint}");
            for arguments in [&[][..], &["--health-check"], &["health-check"]] {
                refused(arguments, &[(variable, value)], &complaint);
            }
        }
    }
    // Any free port is nothing that could be asked.
    refused(&["health-check", "--health-check-port=0"], &[], &format!("invalid --health-check-port \"0\": {PROBED_PORT}"));
    let variable = ("BATON_HEALTH_CHECK_PORT", "0");
    refused(&["health-check"], &[variable], &format!("invalid BATON_HEALTH_CHECK_PORT \"0\": {PROBED_PORT}"));
}

#[test]
fn a_bad_boolean_timeout_interval_or_endpoint_is_refused() {
    for value in ["yes", "no", "on", "off", "TrUe", "tRUE", "2", "-1", "01", "true ", " true", "enabled", "y", "ja"] {
        refused(&[&format!("--health-check={value}")], &[], &format!("invalid --health-check \"{value}\": {BOOLEAN}"));
        refused(&[], &[("BATON_HEALTH_CHECK", value)], &format!("invalid BATON_HEALTH_CHECK \"{value}\": {BOOLEAN}"));
    }
    for value in
        ["0", "-1", "-5", "+5", "0.5", "1.5", "5d", "3601", "61m", "05", " 5", "1e1", "abc", "999ms", "18446744073709551616"]
    {
        let complaint = format!("invalid --timeout \"{value}\": {TIMEOUT}");
        refused(&["health-check", &format!("--timeout={value}")], &[], &complaint);
        refused(&["--timeout", value, "health-check"], &[], &complaint);
    }
    for value in ["0", "86401", "-1", "1.5", "25h", "060"] {
        refused(&[&format!("--sync-interval={value}")], &[], &format!("invalid --sync-interval \"{value}\": {INTERVAL}"));
        refused(&[], &[("BATON_SYNC_INTERVAL", value)], &format!("invalid BATON_SYNC_INTERVAL \"{value}\": {INTERVAL}"));
    }
    for (value, meant) in [
        ("bogus", ""),
        ("Health", "; did you mean health?"),
        ("HEALTH", "; did you mean health?"),
        ("/health", "; did you mean health?"),
        ("healthz", "; did you mean health?"),
        ("heath", "; did you mean health?"),
        ("alive", "; did you mean live?"),
        ("health,ready", ""),
        ("", ""),
    ] {
        let complaint = format!("invalid endpoint: {value} (valid: health, ready, live), given with --endpoint{meant}");
        refused(&["health-check", &format!("--endpoint={value}")], &[], &complaint);
        refused(&["health-check", "--endpoint", value], &[], &complaint);
    }
}

#[test]
fn arguments_that_mean_nothing_are_refused() {
    for (arguments, complaint) in [
        // An empty variable counts as unset; an empty flag is a value, and not an allowed one.
        (&["--passwd="][..], "invalid --passwd \"\": must not be empty"),
        (&["--health-check-port="], &*format!("invalid --health-check-port \"\": {PORT}")),
        (&["--health-check-bind-address="], &format!("invalid --health-check-bind-address \"\": {ADDRESS}")),
        (&["--health-check="], &format!("invalid --health-check \"\": {BOOLEAN}")),
        (&["--sync-interval="], &format!("invalid --sync-interval \"\": {INTERVAL}")),
        (&["health-check", "--timeout="], &format!("invalid --timeout \"\": {TIMEOUT}")),
        (&["health-check", "--health-check-port"], "--health-check-port needs a value: --health-check-port=PORT"),
        (&["--health-check-bind-address"], "--health-check-bind-address needs a value: --health-check-bind-address=ADDRESS"),
        (&["health-check", "--timeout"], "--timeout needs a value: --timeout=TIME"),
        (&["--sync-interval"], "--sync-interval needs a value: --sync-interval=TIME"),
        (&["health-check", "--endpoint"], "--endpoint needs a value: --endpoint=ENDPOINT"),
        (&["--passwd"], "--passwd needs a value: --passwd=FILE"),
        (&["--bogus"], "unknown flag --bogus (see --help)"),
        (&["--help=1"], "--help takes no value: \"1\" (see --help)"),
        (&["-V1"], "unknown flag -V1 (see --help)"),
        (&["--bogus=1"], "unknown flag --bogus (see --help)"),
        // What was probably meant.
        (&["-health-check"], "unknown flag -health-check (did you mean --health-check?)"),
        (&["--Health-Check"], "unknown flag --Health-Check (did you mean --health-check?)"),
        (&["--heath-check"], "unknown flag --heath-check (did you mean --health-check?)"),
        (&["--health_check_port=1"], "unknown flag --health_check_port (did you mean --health-check-port?)"),
        (&["--health-check-port2=1"], "unknown flag --health-check-port2 (did you mean --health-check-port?)"),
        (&["--port=8082"], "unknown flag --port (did you mean --health-check-port?)"),
        (&["health-check", "-t", "5"], "unknown flag -t (did you mean --timeout?)"),
        (&["--group-file=a"], "unknown flag --group-file (see --help)"),
        (&["health-check", "--bogus"], "unknown flag --bogus (see --help)"),
        (&["-x"], "unknown flag -x (see --help)"),
        (&["bogus"], "unknown subcommand \"bogus\" (valid: health-check; without one the connector runs)"),
        (&["run"], "unknown subcommand \"run\" (valid: health-check; without one the connector runs)"),
        (
            &["Health-Check"],
            "unknown subcommand \"Health-Check\" (valid: health-check; without one the connector runs); did you mean health-check?",
        ),
        (&[""], "unknown subcommand \"\" (valid: health-check; without one the connector runs)"),
        (&["-"], "unknown subcommand \"-\" (valid: health-check; without one the connector runs)"),
        (&["\u{2013}health-check"], "\"\u{2013}health-check\" starts with \"\u{2013}\" (U+2013), not \"--\""),
        // A switch takes only what is attached to it.
        (&["--health-check", "false"], "a switch takes its value with \"=\": --health-check=false"),
        (
            &["--health-check", "yes"],
            "unknown subcommand \"yes\" (valid: health-check; without one the connector runs); a switch takes its value with \"=\": --health-check=true",
        ),
        (&["--health-check", "health-check", "true"], "unexpected argument \"true\" (see --help)"),
        (&["health-check", "ready"], "unexpected argument \"ready\" (see --help)"),
        (&["health-check", "health-check"], "unexpected argument \"health-check\" (see --help)"),
        (&["health-check", ""], "unexpected argument \"\" (see --help)"),
        (&["health-check", "--", "--endpoint=live"], "unexpected argument \"--endpoint=live\" (see --help)"),
        (&["health-check", "--endpoint=live", "extra"], "unexpected argument \"extra\" (see --help)"),
        (&["--endpoint=live"], "--endpoint belongs to health-check (see --help)"),
        (&["--health-check", "--timeout=5"], "--timeout belongs to health-check (see --help)"),
        (&["--log-level=loud"], "invalid --log-level \"loud\": expected debug, info, warn or error"),
        (&["--log-format=xml"], "invalid --log-format \"xml\": expected json, text or console"),
        // What was typed is shown in one line, bounded, and without what a terminal would obey.
        (&["--\u{1b}[31m"], "unknown flag --\\x1b[31m (see --help)"),
        (&["a\nb\u{9b}c"], "unknown subcommand \"a\\x0ab\\x9bc\" (valid: health-check; without one the connector runs)"),
        (&["health-check", "\r"], "unexpected argument \"\\x0d\" (see --help)"),
        (&["--health-check-port=\t"], &format!("invalid --health-check-port \"\\x09\": {PORT}")),
        (
            &["health-check", "--endpoint=\u{1b}]0;x\u{7}"],
            "invalid endpoint: \\x1b]0;x\\x07 (valid: health, ready, live), given with --endpoint",
        ),
        (&["--health-check-port", &"9".repeat(10_000)], &format!("invalid --health-check-port \"{}...\": {PORT}", "9".repeat(197))),
    ] {
        refused(arguments, &[], complaint);
    }
}

#[cfg(unix)]
#[test]
fn what_is_not_utf_8_is_refused_by_name() {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt;

    let bad = OsStr::from_bytes(b"80\xff");
    for (name, variable) in [
        ("--health-check-port", "BATON_HEALTH_CHECK_PORT"),
        ("--health-check-bind-address", "BATON_HEALTH_CHECK_BIND_ADDRESS"),
        ("--health-check", "BATON_HEALTH_CHECK"),
        ("--sync-interval", "BATON_SYNC_INTERVAL"),
        ("--log-level", "BATON_LOG_LEVEL"),
    ] {
        let mut flag = OsString::from(name);
        flag.push("=");
        flag.push(bad);
        let outcome = run(&mut program([&flag]));
        assert_eq!(outcome.complaint(), format!("baton-passwd: invalid {name} \"80\u{fffd}\": expected UTF-8"));
        let outcome = run(program([""; 0]).env(variable, bad));
        assert_eq!(outcome.complaint(), format!("baton-passwd: invalid {variable} \"80\u{fffd}\": expected UTF-8"));
    }
    for name in ["--endpoint", "--timeout"] {
        let outcome = run(program([OsStr::new("health-check"), name.as_ref(), bad]).env("BATON_HEALTH_CHECK_PORT", bad));
        let expected = match name {
            "--endpoint" => "invalid endpoint: 80\u{fffd} (valid: health, ready, live), given with --endpoint".to_owned(),
            _ => format!("invalid {name} \"80\u{fffd}\": expected UTF-8"),
        };
        assert_eq!(outcome.complaint(), format!("baton-passwd: {expected}"));
    }
    // A path may be anything.
    let outcome = run(program([""; 0]).env("BATON_PASSWD", bad));
    assert_eq!(log_line(last_line(&outcome)).at("what"), Some("connect"), "{outcome:?}");
    for (arguments, complaint) in [
        (&[bad][..], "unknown subcommand \"80\u{fffd}\" (valid: health-check; without one the connector runs)"),
        (&[OsStr::new("health-check"), bad], "unexpected argument \"80\u{fffd}\" (see --help)"),
        (&[OsStr::from_bytes(b"--\xff")], "unknown flag --\u{fffd} (see --help)"),
    ] {
        assert_eq!(run(&mut program(arguments)).complaint(), format!("baton-passwd: {complaint}"));
    }
}

#[test]
fn help_shows_every_flag_with_its_variable_and_default_and_the_exit_codes() {
    let help = run(&mut program(["--help"]));
    help.succeeded_with(&help.stdout);
    for (flag, variable, default) in [
        ("--health-check[=true|false]", ", BATON_HEALTH_CHECK", "false"),
        ("--health-check-port=PORT", ", BATON_HEALTH_CHECK_PORT", "8081"),
        ("--health-check-bind-address=ADDRESS", ", BATON_HEALTH_CHECK_BIND_ADDRESS", "127.0.0.1"),
        ("--endpoint=ENDPOINT", "", "health"),
        ("--timeout=TIME", "", "5s"),
        ("--passwd=FILE", ", BATON_PASSWD", "/etc/passwd"),
        ("--group=FILE", ", BATON_GROUP", "/etc/group"),
        ("--sync-interval=TIME", ", BATON_SYNC_INTERVAL", "1m"),
        ("--log-level=LEVEL", ", BATON_LOG_LEVEL", "info"),
        ("--log-format=FORMAT", ", BATON_LOG_FORMAT", "json, text on a terminal"),
    ] {
        let mut lines = help.stdout.lines().skip_while(|line| *line != format!("  {flag}{variable}"));
        assert!(lines.next().is_some(), "no line for {flag}: {}", help.stdout);
        let about = lines.next().unwrap_or_default();
        assert!(about.ends_with(&format!(" [default: {default}]")), "{flag}: {about}");
    }
    for range in [" (0 to 65535) [default: 8081]", " (1s to 1h) [default: 5s]", " (1s to 24h) [default: 1m]"] {
        assert_eq!(help.stdout.matches(range).count(), 1, "{range}: {}", help.stdout);
    }
    for line in [
        "  baton-passwd [FLAGS]                run the connector",
        "  baton-passwd health-check [FLAGS]   ask a running connector how it is",
        "  -h, --help",
        "  -V, --version",
        "Exit codes of health-check:",
        "  0  the answer was HTTP 200",
        "  1  any other answer, no connection, no answer in time, or bad usage",
        "Exit codes of the connector:",
        "  0  it finished, or was asked to (SIGTERM, SIGINT, SIGHUP)",
        "  1  it failed, or bad usage",
    ] {
        assert!(help.stdout.lines().any(|other| other == line), "no line {line:?}: {}", help.stdout);
    }
    assert!(help.stdout.lines().all(|line| line.len() <= 80), "{}", help.stdout);
}

#[test]
fn help_and_version_need_nothing_to_be_right() {
    let help = run(&mut program(["--help"])).stdout;
    let version = concat!("baton-passwd ", env!("CARGO_PKG_VERSION"), "\n");
    for (arguments, expected) in [
        (&["-h"][..], &*help),
        (&["health-check", "--help"], &help),
        (&["health-check", "-h"], &help),
        (&["--help", "health-check"], &help),
        (&["--health-check", "--help", "--bogus"], &help),
        (&["--version"], version),
        (&["-V"], version),
        (&["-v"], version),
        (&["help"], &help),
        (&["help", "health-check"], &help),
        (&["health-check", "--version"], version),
        (&["health-check", "-V"], version),
    ] {
        let mut command = program(arguments);
        command.env("BATON_HEALTH_CHECK", "maybe").env("BATON_HEALTH_CHECK_PORT", "-1").env("BATON_PASSWD", "/nonexistent");
        run(&mut command).succeeded_with(expected);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn help_that_cannot_be_written_is_a_failure_and_a_verdict_stays_what_it_is() {
    use std::fs::OpenOptions;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    let source = Source::new();
    let mut daemon = source.daemon(&[]).connected();
    let port = daemon.address().port().to_string();
    let probe = ["health-check", "--health-check-port", &port];
    for (arguments, code) in [(&["--help"][..], 1), (&["--version"], 1), (&probe, 0)] {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let (closed, _) = UnixStream::pair().expect("sockets can be had");
        for (stdout, reason) in [(OwnedFd::from(full), "No space left on device"), (OwnedFd::from(closed), "Broken pipe")] {
            let outcome = run(program(arguments).stdout(stdout));
            let expected = format!("baton-passwd: cannot write to standard output: {reason} (os error ");
            assert!(outcome.code == Some(code) && outcome.stderr.starts_with(&expected), "{arguments:?}: {outcome:?}");
            assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
        }
    }
    // Started without standard output, std writes to /dev/null.
    run(&mut crate::program::started_by(&["sh", "-c", "exec \"$0\" \"$@\" >&-"], &program(probe))).succeeded_with("");
    // It does not matter either when nothing can be said about it.
    let (nowhere, _kept) = server::nobody();
    for arguments in [&["--bogus"][..], &["health-check"], &["--help"]] {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let mut command = program(arguments);
        command.env("BATON_HEALTH_CHECK_PORT", nowhere.port().to_string());
        if arguments == ["--help"] {
            command.stdout(full.try_clone().expect("descriptors can be had"));
        }
        assert_eq!(run(command.stderr(full)).code, Some(1), "{arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_probes_timeout_holds_for_its_output_too() {
    use crate::program::stuck;

    let source = Source::new();
    let mut daemon = source.daemon(&[]).connected();
    let port = daemon.address().port().to_string();
    let (_reader, stdout) = stuck();
    let (_other, stderr) = stuck();
    let mut probe = program(["health-check", "--timeout=1", "--health-check-port", &port]);
    assert_eq!(run(probe.stdout(stdout).stderr(stderr)).code, Some(0));
    let (nowhere, _kept) = server::nobody();
    let (_reader, stderr) = stuck();
    let mut probe = program(["health-check", "--timeout=1", "--health-check-port", &nowhere.port().to_string()]);
    assert_eq!(run(probe.stderr(stderr)).code, Some(1));
}

#[test]
fn booleans_are_those_of_the_go_connectors() {
    for (words, on) in [(["1", "t", "T", "true", "TRUE", "True"], true), (["0", "f", "F", "false", "FALSE", "False"], false)] {
        for word in words {
            assert_eq!(listened(&doomed(&[], &[("BATON_HEALTH_CHECK", word)])).is_some(), on, "{word}");
            assert_eq!(listened(&doomed(&[&format!("--health-check={word}")], &[])).is_some(), on, "{word}");
        }
    }
    assert!(listened(&doomed(&["--health-check"], &[])).is_some());
}

#[test]
fn a_flag_beats_its_variable_and_a_variable_its_default() {
    const ENABLED: (&str, &str) = ("BATON_HEALTH_CHECK", "true");
    const BIND_ADDRESS: &str = "BATON_HEALTH_CHECK_BIND_ADDRESS";
    for (arguments, variables, expected) in [
        (&[][..], &[][..], None),
        (&[], &[ENABLED], Some("127.0.0.1")),
        (&["--health-check=false"], &[ENABLED], None),
        (&["--health-check"], &[("BATON_HEALTH_CHECK", "false")], Some("127.0.0.1")),
        (&["--health-check"], &[("BATON_HEALTH_CHECK", "not a boolean")], Some("127.0.0.1")),
        (&[], &[ENABLED, (BIND_ADDRESS, "0.0.0.0")], Some("0.0.0.0")),
        (&["--health-check-bind-address=127.0.0.1"], &[ENABLED, (BIND_ADDRESS, "0.0.0.0")], Some("127.0.0.1")),
        (&["--health-check-bind-address", "0.0.0.0"], &[ENABLED, (BIND_ADDRESS, "127.0.0.1")], Some("0.0.0.0")),
        (&["--health-check-bind-address", "0.0.0.0"], &[ENABLED, (BIND_ADDRESS, "no address")], Some("0.0.0.0")),
        // An empty variable counts as unset.
        (&[], &[("BATON_HEALTH_CHECK", "")], None),
        (&["--health-check"], &[("BATON_HEALTH_CHECK", ""), (BIND_ADDRESS, ""), ("BATON_SYNC_INTERVAL", "")], Some("127.0.0.1")),
        // The last one wins.
        (&["--health-check", "--health-check=false"], &[], None),
        (&["--health-check=0", "--health-check=1"], &[], Some("127.0.0.1")),
        (
            &["--health-check", "--health-check-bind-address=127.0.0.1", "--health-check-bind-address", "0.0.0.0"],
            &[],
            Some("0.0.0.0"),
        ),
        (&["--health-check", "--health-check-bind-address=LocalHost"], &[], Some("127.0.0.1")),
    ] {
        let address = listened(&doomed(arguments, variables)).map(|address| address.ip().to_string());
        // All addresses are those of both families, where there are both.
        let address = address.as_deref().map(|address| if address == "::" { "0.0.0.0" } else { address });
        assert_eq!(address, expected, "{arguments:?} {variables:?}");
    }
}

#[test]
fn the_connectors_own_settings_follow_the_same_rules() {
    let source = Source::new();
    let (passwd, group) = (&*source.path("passwd"), &*source.path("group"));
    let passwd_flag = &*format!("--passwd={passwd}");
    for (arguments, variables, missing) in [
        (&[][..], &[("BATON_PASSWD", "/missing/1"), ("BATON_GROUP", group)][..], "/missing/1"),
        (&[], &[("BATON_PASSWD", passwd), ("BATON_GROUP", "/missing/2")], "/missing/2"),
        (&["--passwd=/missing/3"], &[("BATON_PASSWD", passwd), ("BATON_GROUP", group)], "/missing/3"),
        (&["--passwd", passwd, "--group", "/missing/4"], &[("BATON_PASSWD", "/missing/1")], "/missing/4"),
        (&[passwd_flag, "--passwd", "/missing/5"], &[("BATON_GROUP", group)], "/missing/5"),
        (&["--passwd=/missing/5", passwd_flag, "--group=/missing/6"], &[], "/missing/6"),
    ] {
        let outcome = run(program(arguments).envs(variables.iter().copied()));
        let line = log_line(last_line(&outcome));
        assert_eq!((line.at("msg"), line.at("what")), (Some("failed"), Some("connect")), "{outcome:?}");
        let error = line.at("error").unwrap_or_default();
        assert!(error.starts_with(&format!("{missing}: ")), "{arguments:?} {variables:?}: {error}");
    }
}

#[test]
fn the_probe_takes_its_flags_before_and_after_the_subcommand_and_the_last_one_wins() {
    let (nowhere, _kept) = server::nobody();
    let wrong = nowhere.port().to_string();
    let source = Source::new();
    let mut daemon = source.daemon(&[]).connected();
    let right = daemon.address().port().to_string();
    for (arguments, variable, reached) in [
        (&["health-check", "--health-check-port", &right][..], &*wrong, true),
        (&["--health-check-port", &right, "health-check"], &wrong, true),
        (&["--health-check-port", &wrong, "health-check", "--health-check-port", &right], &wrong, true),
        (&["--health-check-port", &right, "health-check", "--health-check-port", &wrong], &right, false),
        (&["health-check", "--health-check-port", &wrong, "--health-check-port", &right], "", true),
        (&["health-check"], &right, true),
        (&["health-check"], &wrong, false),
        (&["health-check", "--health-check-port", &wrong], &right, false),
        // What else is in the environment that the server was started with does not matter.
        (&["--health-check", "--sync-interval=5", "--passwd=/nonexistent", "health-check", "--timeout", "60"], &right, true),
        (&["--endpoint=bogus", "health-check"], &right, false),
    ] {
        let outcome = run(program(arguments).env("BATON_HEALTH_CHECK_PORT", variable));
        assert_eq!(outcome.code, Some(if reached { 0 } else { 1 }), "{arguments:?} {variable}: {outcome:?}");
    }
    for (arguments, word) in [
        (&["--endpoint=live", "health-check"][..], "alive\n"),
        (&["--endpoint=live", "health-check", "--endpoint", "ready"], "ready\n"),
        (&["health-check", "--endpoint=ready", "--endpoint=health", "--timeout=1m"], "healthy\n"),
    ] {
        run(program(arguments).env("BATON_HEALTH_CHECK_PORT", &right)).succeeded_with(word);
    }
}

// Linux has all of 127.0.0.0/8 on loopback: room for an address that no other run of this test uses.
#[cfg(target_os = "linux")]
#[test]
fn by_default_the_server_and_the_probe_mean_port_8081() {
    use crate::daemon::Daemon;

    let id = std::process::id();
    let ours = format!("127.{}.{}.9", 64 + (id >> 8) % 64, id % 256);
    let source = Source::new();
    let mut daemon = Daemon::start(source.program(&["--health-check"]).env("BATON_HEALTH_CHECK_BIND_ADDRESS", &ours));
    let line = daemon.next_line().expect("a first line");
    if line.at("msg") == Some("failed") {
        // Something else on this machine has the port on all addresses; it was the right one.
        assert_eq!(line.at("what"), Some("listen"));
        assert!(line.at("error").is_some_and(|error| error.starts_with(&format!("{ours}:8081: "))), "{line:?}");
        return;
    }
    assert_eq!(line.at("address"), Some(&*format!("{ours}:8081")));
    let probe = || run(program(["health-check", "--endpoint=live"]).env("BATON_HEALTH_CHECK_BIND_ADDRESS", &ours));
    probe().succeeded_with("alive\n");
    daemon.signal("TERM");
    assert_eq!(daemon.exit(), Some(0));
    let complaint = probe();
    assert!(complaint.complaint().starts_with(&format!("baton-passwd: health-check: http://{ours}:8081/live: ")), "{complaint:?}");
}

#[test]
fn a_variable_close_to_one_of_ours_is_warned_about_and_nothing_more() {
    for (name, meant) in [
        ("BATON_HEALTHCHECK", Some("BATON_HEALTH_CHECK")),
        ("BATON_HEALTH_CHECK_PROT", Some("BATON_HEALTH_CHECK_PORT")),
        ("BATON_PASSWORD", Some("BATON_PASSWD")),
        ("BATON_LOGLEVEL", Some("BATON_LOG_LEVEL")),
        ("BATON_CLIENT_ID", None),
        ("PASSWD", None),
    ] {
        let outcome = doomed(&[], &[(name, "true")]);
        let warnings: Vec<_> =
            outcome.stderr.lines().map(log_line).filter(|line| line.at("msg") == Some("unknown variable")).collect();
        let told: Vec<_> = warnings.iter().map(|line| (line.at("level"), line.at("name"), line.at("did_you_mean"))).collect();
        let expected = meant.map(|meant| (Some("warn"), Some(name), Some(meant)));
        assert_eq!((told, outcome.code), (expected.into_iter().collect(), Some(1)), "{outcome:?}");
    }
    // The probe is not the place for it.
    let (nowhere, _kept) = server::nobody();
    let mut probe = program(["health-check"]);
    probe.env("BATON_HEALTHCHECK", "true").env("BATON_HEALTH_CHECK_PORT", nowhere.port().to_string());
    assert!(run(&mut probe).complaint().contains("cannot connect"));
}

#[test]
fn the_log_has_the_form_and_the_level_that_were_asked_for() {
    let log = |arguments: &[&str], variables: Variables<'_>| doomed(arguments, variables).stderr;
    let text = log(&["--log-format=console", "--log-level=debug"], &[("BATON_HEALTH_CHECK", "1")]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("Z info listening address=127.0.0.1:"), "{text}");
    // What ends the program looks like a usage error.
    assert!(lines[1].starts_with("baton-passwd: cannot connect: /nonexistent/passwd: "), "{text}");
    assert!(lines[1].ends_with(" (BATON_PASSWD)"), "{text}");
    for (arguments, variables, count) in [
        (&["--log-level=info"][..], &[][..], 2),
        (&[], &[("BATON_LOG_LEVEL", "warn")], 1),
        (&["--log-level=error"], &[("BATON_LOG_LEVEL", "debug"), ("BATON_LOG_FORMAT", "json")], 1),
    ] {
        let log = log(arguments, variables);
        assert_eq!(log.lines().map(log_line).count(), count, "{arguments:?} {variables:?}: {log}");
    }
}
