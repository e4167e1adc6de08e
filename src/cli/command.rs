//! Parses arguments and environment, which the caller passes in, into a command.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use lexopt::{Arg, Error, Parser};

use super::found::Found;
use super::mistakes::{SEE_HELP, invalid, printable, unexpected, unknown_flag};
use super::row::{Default, Environment, Kind, Row, Scope, Source};
use super::settings::Settings;
use super::table::{BIND_ADDRESS, ENDPOINT, HEALTH_CHECK, LOG_FORMAT, LOG_LEVEL, PORT, TIMEOUT, Table};
use super::value::{boolean, duration, level};
use crate::config::DEFAULT_PROBE_TIMEOUT;
use crate::endpoint::Endpoint;
use crate::event::Level;
use crate::log::Format;
use crate::probe::Probe;

/// What a command line asks for.
#[derive(Debug)]
pub(super) enum Command {
    Help,
    Version,
    /// Ask a running connector: the probe, its endpoint and its timeout.
    Probe(Probe, Endpoint, Duration),
    Run(Run),
}

/// Run the connector.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) settings: Settings,
    /// Where the health check server listens, if it is enabled.
    pub(super) listen: Option<SocketAddr>,
    pub(super) level: Level,
    /// If it is not given, it depends on whether standard error is a terminal.
    pub(super) format: Option<Format>,
}

/// A flag as it was given.
struct Given {
    name: &'static str,
    value: OsString,
}

impl Table {
    /// What the arguments and the environment ask for. An error is the one line to show.
    pub(super) fn parse(&self, mut arguments: Parser, environment: Environment<'_>) -> Result<Command, String> {
        let mut given: Vec<Given> = Vec::new();
        let mut probe = false;
        let mut switch_before = None;
        loop {
            let argument = match arguments.next() {
                Ok(Some(argument)) => argument,
                Ok(None) => break,
                Err(Error::UnexpectedValue { option, .. }) => {
                    return Err(["unexpected value for ", &printable(option.as_ref()), SEE_HELP].concat());
                }
                Err(_) => return Err(["invalid arguments", SEE_HELP].concat()),
            };
            let row = match argument {
                Arg::Long("help") => return takes_no_value(&mut arguments, "--help", Command::Help),
                Arg::Long("version") => return takes_no_value(&mut arguments, "--version", Command::Version),
                Arg::Short(letter @ ('h' | 'v' | 'V')) => return self.help_or_version(&mut arguments, letter),
                Arg::Value(value) if !probe && value == HEALTH_CHECK => {
                    probe = true;
                    switch_before = None;
                    continue;
                }
                Arg::Value(value) if !probe && value == "help" => return Ok(Command::Help),
                Arg::Value(value) => return Err(unexpected(&value, probe, switch_before)),
                Arg::Short(letter) => match self.letter(letter) {
                    Some(row) => (row, false),
                    None => return Err(unknown_flag(&self.rows, "-", letter.encode_utf8(&mut [0; 4]).as_ref())),
                },
                Arg::Long(name) => match self.flag(name, probe) {
                    Some(found) => found,
                    None => return Err(unknown_flag(&self.rows, "--", name.as_ref())),
                },
            };
            let (row, is_file) = row;
            switch_before = None;
            let value = match row.kind {
                // A switch takes a value only with `=`: the next argument does not belong to it.
                Kind::Switch => arguments.optional_value().unwrap_or_else(|| {
                    switch_before = Some(row.name);
                    "true".into()
                }),
                _ => arguments.value().map_err(|_| needs_a_value(row, is_file))?,
            };
            given.push(Given { name: row.name, value });
        }
        if probe { self.probe(&given, environment) } else { self.run(&given, environment) }
    }

    fn help_or_version(&self, arguments: &mut Parser, letter: char) -> Result<Command, String> {
        match arguments.optional_value() {
            None if letter == 'h' => Ok(Command::Help),
            None => Ok(Command::Version),
            Some(rest) => {
                let mut text = OsString::from(&*letter.encode_utf8(&mut [0; 4]));
                text.push(rest);
                Err(unknown_flag(&self.rows, "-", &text))
            }
        }
    }

    fn probe(&self, given: &[Given], environment: Environment<'_>) -> Result<Command, String> {
        let settings = self.resolve(given, true, environment)?;
        let endpoint = Endpoint::from_name(settings.text(ENDPOINT)).unwrap_or_default();
        let timeout = duration(settings.text(TIMEOUT)).map_or(DEFAULT_PROBE_TIMEOUT, Duration::from_millis);
        let address = settings.socket_address(BIND_ADDRESS, PORT);
        Ok(Command::Probe(Probe::new(address).endpoint(endpoint).timeout(timeout), endpoint, timeout))
    }

    fn run(&self, given: &[Given], environment: Environment<'_>) -> Result<Command, String> {
        let settings = self.resolve(given, false, environment)?;
        let format = match settings.text(LOG_FORMAT) {
            "" => None,
            "json" => Some(Format::Json),
            _ => Some(Format::Text),
        };
        let level = level(settings.text(LOG_LEVEL)).unwrap_or(Level::Info);
        let enabled = boolean(settings.text(HEALTH_CHECK)) == Some(true);
        let listen = enabled.then(|| settings.socket_address(BIND_ADDRESS, PORT));
        Ok(Command::Run(Run { settings, listen, level, format }))
    }

    /// Finds the value of each setting: its flag, else its variable, else its default.
    fn resolve(&self, given: &[Given], probe: bool, environment: Environment<'_>) -> Result<Settings, String> {
        self.check(given, probe)?;
        let mut settings = Settings::default();
        let mut missing = Vec::new();
        for row in &self.rows {
            let read = match row.scope {
                Scope::Both => true,
                Scope::Probe => probe,
                Scope::Connector | Scope::Server | Scope::Log => !probe,
            };
            if !read {
                continue;
            }
            match find(row, given, environment)? {
                Some((text, source)) => {
                    if probe && row.name == PORT && text == "0" {
                        return Err(invalid(row, source, &text, "expected the port the server listens on, from 1 to 65535"));
                    }
                    settings.push(Found { row: *row, text, source });
                }
                None => missing.push(row),
            }
        }
        if missing.is_empty() { Ok(settings) } else { Err(required(&missing)) }
    }

    /// Checks that each flag has an allowed value and belongs to the command.
    fn check(&self, given: &[Given], probe: bool) -> Result<(), String> {
        for flag in given {
            let Some(row) = self.row(flag.name, probe) else { continue };
            if row.scope == Scope::Probe && !probe {
                return Err(["--", row.name, " belongs to health-check", SEE_HELP].concat());
            }
            if row.secret.is_some() {
                continue;
            }
            if let Some(problem) = row.problem(&flag.value, Source::Flag) {
                return Err(invalid(row, Source::Flag, &flag.value, &problem));
            }
        }
        Ok(())
    }
}

/// The value of a setting and where it comes from. `None` if it is required and was not given.
fn find(row: &Row, given: &[Given], environment: Environment<'_>) -> Result<Option<(OsString, Source)>, String> {
    let mut flag: Option<OsString> = None;
    // The probe and the connector may each have a setting of this name. A command reads only one of them.
    for other in given.iter().filter(|flag| flag.name == row.name) {
        match &mut flag {
            Some(list) if matches!(row.kind, Kind::List) => {
                list.push(",");
                list.push(&other.value);
            }
            _ => flag = Some(other.value.clone()),
        }
    }
    if let Some(find) = row.secret {
        if let Some(found) = find(row, flag.as_deref(), environment)? {
            return Ok(Some(found));
        }
    } else if let Some(flag) = flag {
        return Ok(Some((flag, Source::Flag)));
    } else if let Some(value) = row.read_variable(environment) {
        return match row.problem(&value, Source::Variable) {
            None => Ok(Some((value, Source::Variable))),
            Some(problem) => Err(invalid(row, Source::Variable, &value, &problem)),
        };
    }
    Ok(match row.default {
        Default::Required => None,
        Default::Absent(_) => Some((OsString::new(), Source::Absent)),
        _ => Some((row.default_text().into(), Source::Default)),
    })
}

#[cold]
fn required(missing: &[&Row]) -> String {
    let mut out = String::new();
    for (place, row) in missing.iter().enumerate() {
        let variable = row.variable();
        out.push_str(if place == 0 { "" } else { "; " });
        match row.secret {
            Some(_) => out.extend([&*variable, " or ", &variable, "_FILE"]),
            None => out.extend(["--", row.name, " or ", &variable]),
        }
    }
    out.push_str(if missing.len() == 1 { " is required" } else { " are required" });
    out.push_str(SEE_HELP);
    out
}

#[cold]
fn needs_a_value(row: &Row, is_file: bool) -> String {
    let end = if is_file { "-file" } else { "" };
    ["--", row.name, end, " needs a value: --", row.name, end, "=", row.placeholder].concat()
}

/// `--help` and `--version` take no value.
fn takes_no_value(arguments: &mut Parser, flag: &str, command: Command) -> Result<Command, String> {
    match arguments.optional_value() {
        None => Ok(command),
        Some(value) => Err([flag, " takes no value: \"", &printable(&value), "\"", SEE_HELP].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::found::Secret;
    use crate::cli::setting::Setting;
    use crate::config::Config;

    type Line<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);

    const COLOR: Setting<String> = Setting::text("color", "NAME").default("blue");
    const PAGE_SIZE: Setting<u64> = Setting::number("page-size", "COUNT").range(1..=1000).default(100);
    const DRY_RUN: Setting<bool> = Setting::switch("dry-run");
    const DOMAIN: Setting<String> = Setting::text("domain", "HOST");
    const TOKEN: Setting<Secret> = Setting::secret("token").help("What to sign in with");

    fn table(own: &[Row]) -> Table {
        Table::new(own, &Config::default()).unwrap_or_else(|problem| panic!("{problem}"))
    }

    fn connector() -> Table {
        table(&[COLOR.row, PAGE_SIZE.row, DRY_RUN.row])
    }

    fn parse(table: &Table, (arguments, variables): Line<'_>) -> Result<Command, String> {
        let environment = |name: &str| {
            assert!(!name.is_empty(), "a variable without a name is looked up");
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| OsString::from(value))
        };
        table.parse(Parser::from_args(arguments), &environment)
    }

    fn settings(table: &Table, given: Line<'_>) -> (Settings, Option<SocketAddr>) {
        match parse(table, given) {
            Ok(Command::Run(run)) => (run.settings, run.listen),
            other => panic!("{given:?}: {other:?}"),
        }
    }

    #[test]
    fn a_flag_beats_its_variable_and_a_variable_its_default() {
        let rows: &[(Line<'_>, &str, bool)] = &[
            ((&[], &[]), "blue", false),
            ((&[], &[("BATON_COLOR", "red")]), "red", true),
            ((&["--color=green"], &[]), "green", true),
            ((&["--color", "green"], &[]), "green", true),
            ((&["--color=green"], &[("BATON_COLOR", "red")]), "green", true),
            // The last one wins.
            ((&["--color=green", "--color", "gold"], &[("BATON_COLOR", "red")]), "gold", true),
            // An empty variable counts as unset.
            ((&[], &[("BATON_COLOR", "")]), "blue", false),
            ((&["--color=green"], &[("BATON_COLOR", "")]), "green", true),
            // Only the one name counts.
            ((&[], &[("COLOR", "red"), ("baton_color", "red"), ("BATON_COLOUR", "red")]), "blue", false),
            // A value is whatever follows, as it is.
            ((&["--color", "--dry-run"], &[]), "--dry-run", true),
            ((&["--color= a = b "], &[]), " a = b ", true),
        ];
        for &(given, color, is_set) in rows {
            let (settings, _) = settings(&connector(), given);
            assert_eq!((&*settings.get(&COLOR), settings.is_given(&COLOR)), (color, is_set), "{given:?}");
        }
    }

    #[test]
    fn the_health_check_is_off_and_on_loopback_unless_told_otherwise() {
        const ON: (&str, &str) = ("BATON_HEALTH_CHECK", "true");
        const PORT: &str = "BATON_HEALTH_CHECK_PORT";
        const ADDRESS: &str = "BATON_HEALTH_CHECK_BIND_ADDRESS";
        let rows: &[(Line<'_>, Option<&str>)] = &[
            ((&[], &[]), None),
            ((&[], &[ON]), Some("127.0.0.1:8081")),
            ((&["--health-check"], &[]), Some("127.0.0.1:8081")),
            ((&["--health-check=false"], &[ON]), None),
            ((&["--health-check"], &[("BATON_HEALTH_CHECK", "false")]), Some("127.0.0.1:8081")),
            ((&["--health-check", "--health-check=0"], &[]), None),
            ((&[], &[("BATON_HEALTH_CHECK", ""), (PORT, "9090")]), None),
            ((&[], &[ON, (PORT, "9090"), (ADDRESS, "0.0.0.0")]), Some("0.0.0.0:9090")),
            ((&["--health-check-port=1"], &[ON, (PORT, "9090"), (ADDRESS, "0.0.0.0")]), Some("0.0.0.0:1")),
            ((&["--health-check-bind-address=::"], &[ON, (PORT, "0"), (ADDRESS, "0.0.0.0")]), Some("[::]:0")),
            ((&[], &[ON, (PORT, ""), (ADDRESS, "")]), Some("127.0.0.1:8081")),
            ((&[], &[ON, (PORT, "65535"), (ADDRESS, "[2001:db8::1]")]), Some("[2001:db8::1]:65535")),
            ((&[], &[ON, (ADDRESS, "LocalHost")]), Some("127.0.0.1:8081")),
        ];
        for &(given, expected) in rows {
            let (_, address) = settings(&connector(), given);
            assert_eq!(address.map(|address| address.to_string()).as_deref(), expected, "{given:?}");
        }
    }

    #[test]
    fn the_probe_reads_what_is_its_own_and_nothing_else() {
        let probe = |address: &str, endpoint, seconds| {
            let timeout = Duration::from_secs(seconds);
            let probe = Probe::new(address.parse().unwrap()).endpoint(endpoint).timeout(timeout);
            format!("{:?}", Command::Probe(probe, endpoint, timeout))
        };
        let table = table(&[DOMAIN.row, TOKEN.row, DRY_RUN.row]);
        let rows: &[(Line<'_>, String)] = &[
            ((&["health-check"], &[]), probe("127.0.0.1:8081", Endpoint::Health, 5)),
            ((&["health-check", "--endpoint=ready"], &[]), probe("127.0.0.1:8081", Endpoint::Ready, 5)),
            ((&["--endpoint", "live", "--timeout=1", "health-check"], &[]), probe("127.0.0.1:8081", Endpoint::Live, 1)),
            ((&["--timeout=1", "health-check", "--timeout=3600"], &[]), probe("127.0.0.1:8081", Endpoint::Health, 3600)),
            (
                (&["health-check"], &[("BATON_HEALTH_CHECK_PORT", "9090"), ("BATON_HEALTH_CHECK_BIND_ADDRESS", "192.0.2.1")]),
                probe("192.0.2.1:9090", Endpoint::Health, 5),
            ),
            (
                (&["--health-check-port=1", "health-check"], &[("BATON_HEALTH_CHECK_PORT", "0")]),
                probe("127.0.0.1:1", Endpoint::Health, 5),
            ),
            // What the server is told in the same environment; the probe's own settings have no variable.
            (
                (&["health-check"], &[("BATON_HEALTH_CHECK", "maybe"), ("BATON_DRY_RUN", "maybe"), ("BATON_TIMEOUT", "x")]),
                probe("127.0.0.1:8081", Endpoint::Health, 5),
            ),
            ((&["--health-check", "--dry-run", "--domain=a", "health-check"], &[]), probe("127.0.0.1:8081", Endpoint::Health, 5)),
        ];
        for (given, expected) in rows {
            assert_eq!(parse(&table, *given).map(|command| format!("{command:?}")).as_ref(), Ok(expected), "{given:?}");
        }
    }

    #[test]
    fn help_and_version_come_before_everything_that_is_not_said_yet() {
        for (arguments, expected) in [
            (&["--help"][..], "Help"),
            (&["help", "health-check"], "Help"),
            (&["-v"], "Version"),
            (&["-h", "--bogus"], "Help"),
            (&["health-check", "--help"], "Help"),
            (&["--version", "--help"], "Version"),
            (&["health-check", "-V"], "Version"),
        ] {
            let command = parse(&connector(), (arguments, &[("BATON_PAGE_SIZE", "0")]));
            assert_eq!(format!("{command:?}"), format!("Ok({expected})"), "{arguments:?}");
        }
        assert!(parse(&connector(), (&["--bogus", "--help"], &[])).is_err());
    }

    #[test]
    fn what_is_required_has_to_be_given_and_not_empty() {
        let table = table(&[DOMAIN.row]);
        let missing = Err("--domain or BATON_DOMAIN is required (see --help)");
        let rows: &[(Line<'_>, Result<&str, &str>)] = &[
            ((&[], &[]), missing),
            ((&[], &[("BATON_DOMAIN", "")]), missing),
            ((&["--domain="], &[("BATON_DOMAIN", "a")]), Err("invalid --domain \"\": must not be empty")),
            ((&["--domain"], &[]), Err("--domain needs a value: --domain=HOST")),
            ((&["--domain=a"], &[]), Ok("a")),
            ((&[], &[("BATON_DOMAIN", "a")]), Ok("a")),
        ];
        for &(given, expected) in rows {
            let found = parse(&table, given).map(|command| match command {
                Command::Run(run) => run.settings.get(&DOMAIN),
                other => panic!("{other:?}"),
            });
            assert_eq!(found.as_deref().map_err(|problem| &**problem), expected, "{given:?}");
        }
        // All that is missing is named at once.
        let missing = parse(&self::table(&[DOMAIN.row, TOKEN.row]), (&[], &[])).unwrap_err();
        assert_eq!(missing, "--domain or BATON_DOMAIN; BATON_TOKEN or BATON_TOKEN_FILE are required (see --help)");
    }

    #[test]
    fn a_secret_comes_from_its_variable_or_a_file_and_is_never_shown() {
        let table = table(&[TOKEN.row]);
        let (settings, _) = settings(&table, (&[], &[("BATON_TOKEN", "hunter2")]));
        assert_eq!((settings.get(&TOKEN).expose(), settings.is_given(&TOKEN)), ("hunter2", true));
        assert_eq!(format!("{:?}", settings.get(&TOKEN)), "Secret(..)");
        let names = format!("{settings:?}");
        assert!(names.contains("\"token\"") && !names.contains("hunter2"), "{names}");
        let error = settings.error(&TOKEN, &"it has expired").to_string();
        assert_eq!(error, "invalid BATON_TOKEN: it has expired");
        let required = "BATON_TOKEN or BATON_TOKEN_FILE is required (see --help)";
        let both = "BATON_TOKEN and BATON_TOKEN_FILE are both set: one is enough";
        for (given, expected) in [
            (
                (&["--token=hunter2"][..], &[][..]),
                "--token is a secret, and others can read command lines: set BATON_TOKEN or BATON_TOKEN_FILE",
            ),
            ((&[], &[]), required),
            ((&[], &[("BATON_TOKEN", "")]), required),
            ((&[], &[("BATON_TOKEN", "a"), ("BATON_TOKEN_FILE", "b")]), both),
            ((&["--token-file"], &[]), "--token-file needs a value: --token-file=FILE"),
        ] {
            assert_eq!(parse(&table, given).unwrap_err(), expected);
        }
        let help = table.help("program", "1", "", 80);
        let expected = "  BATON_TOKEN, BATON_TOKEN_FILE, --token-file=FILE\n      What to sign in with [required]\n";
        assert!(help.contains(expected) && !help.contains("--token="), "{help}");
    }

    #[test]
    fn values_have_their_types() {
        const INTERVAL: Setting<Duration> = Setting::duration("interval").default(Duration::from_secs(60));
        const MODE: Setting<&str> = Setting::choice("mode", "MODE", &["full", "delta"]).default("full");
        const GROUPS: Setting<Vec<String>> = Setting::list("groups", "NAMES");
        const FILE: Setting<Option<std::path::PathBuf>> =
            Setting::path("file", "FILE").optional().short('f').variable("UPSTREAM_FILE");
        const COUNT: Setting<Option<u64>> = Setting::number("count", "COUNT").range(1..=u64::MAX).optional();
        let table = table(&[PAGE_SIZE.row, DRY_RUN.row, INTERVAL.row, MODE.row, GROUPS.row, FILE.row, COUNT.row]);
        assert!(table.help("program", "1", "", 80).contains("--count=COUNT, BATON_COUNT\n      (1 and up)"));
        let (defaults, _) = settings(&table, (&[], &[]));
        assert_eq!((defaults.get(&PAGE_SIZE), defaults.get(&DRY_RUN), defaults.get(&MODE)), (100, false, "full"));
        assert_eq!((defaults.get(&INTERVAL), defaults.get(&GROUPS), defaults.get(&FILE)), (Duration::from_secs(60), vec![], None));
        assert!(!defaults.is_given(&GROUPS) && !defaults.is_given(&FILE));
        assert_eq!(defaults.origin(&INTERVAL), "default of --interval");
        let arguments = &["--page-size=1000", "--dry-run=T", "--interval=1h30m", "--groups=a, b", "--groups", "c", "-f", "/tmp/x"];
        let (given, _) = settings(&table, (arguments, &[("BATON_MODE", "delta")]));
        assert_eq!((given.get(&PAGE_SIZE), given.get(&DRY_RUN), given.get(&MODE)), (1000, true, "delta"));
        assert_eq!((given.get(&INTERVAL), given.get(&GROUPS).join("|")), (Duration::from_secs(5400), "a|b|c".into()));
        assert_eq!((given.get(&FILE), given.origin(&MODE)), (Some("/tmp/x".into()), "BATON_MODE".into()));
        for bad in ["0", "1001", "-1", "+1", " 1", "0100", "1e2", "", "18446744073709551616"] {
            let flag = ["--page-size=", bad].concat();
            let expected = format!("invalid --page-size \"{bad}\": expected a whole number in plain digits, from 1 to 1000");
            assert_eq!(parse(&table, (&[&flag], &[])).unwrap_err(), expected);
        }
        for (given, expected) in [
            ((&["--mode=ful"][..], &[][..]), "invalid --mode \"ful\": expected full or delta; did you mean full?"),
            ((&["--interval=soon"], &[]), "invalid --interval \"soon\": expected a time such as 30s or 5m"),
            (
                (&[], &[("BATON_DRY_RUN", "'true'")]),
                "invalid BATON_DRY_RUN \"'true'\": expected true or false (also 1 t T TRUE True, 0 f F FALSE False); the quotes are part of the value",
            ),
            ((&["--count=0"], &[]), "invalid --count \"0\": expected a whole number in plain digits, from 1 and up"),
            ((&["-f"], &[]), "--file needs a value: --file=FILE"),
            ((&["-x"], &[]), "unknown flag -x (see --help)"),
        ] {
            assert_eq!(parse(&table, given).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_subcommands_flags_are_its_own() {
        const ENDPOINT: Setting<String> = Setting::text("endpoint", "URL").default("https://example.com");
        const TIMEOUT: Setting<u64> = Setting::number("timeout", "COUNT").default(7);
        let table = table(&[ENDPOINT.row, TIMEOUT.row]);
        let (settings, _) = settings(&table, (&["--endpoint=here"], &[("BATON_TIMEOUT", "9")]));
        assert_eq!((settings.get(&ENDPOINT), settings.get(&TIMEOUT)), ("here".into(), 9));
        for arguments in
            [&["--endpoint", "live", "health-check", "--timeout=2s"][..], &["health-check", "--endpoint=live", "--timeout=2"]]
        {
            match parse(&table, (arguments, &[("BATON_TIMEOUT", "x")])) {
                Ok(Command::Probe(_, Endpoint::Live, timeout)) => assert_eq!(timeout, Duration::from_secs(2)),
                other => panic!("{arguments:?}: {other:?}"),
            }
        }
        for endpoint in Endpoint::ALL {
            let flag = ["--endpoint=", endpoint.name()].concat();
            let command = parse(&table, (&["health-check", &flag], &[])).unwrap();
            assert!(matches!(command, Command::Probe(_, asked, _) if asked == endpoint), "{command:?}");
        }
    }

    #[test]
    fn the_log_is_set_up_as_the_go_connectors_have_it() {
        for (given, level, format) in [
            ((&[][..], &[][..]), Level::Info, None),
            ((&["--log-level=debug", "--log-format=json"], &[]), Level::Debug, Some(Format::Json)),
            ((&["--log-format=console"], &[("BATON_LOG_LEVEL", "WARN")]), Level::Warn, Some(Format::Text)),
            ((&["--log-level", "fatal"], &[("BATON_LOG_FORMAT", "text")]), Level::Error, Some(Format::Text)),
        ] {
            match parse(&connector(), given) {
                Ok(Command::Run(run)) => assert_eq!((run.level, run.format), (level, format), "{given:?}"),
                other => panic!("{given:?}: {other:?}"),
            }
        }
        let error = parse(&connector(), (&["--log-level=verbose"], &[])).unwrap_err();
        assert_eq!(error, "invalid --log-level \"verbose\": expected debug, info, warn or error");
    }

    #[test]
    fn the_defaults_of_port_and_address_are_the_apps() {
        let config = Config { address: "[::1]:9999".parse().unwrap(), ..Config::default() };
        let table = Table::new(&[], &config).unwrap();
        assert_eq!(settings(&table, (&["--health-check"], &[])).1, Some(config.address));
        assert!(table.help("program", "1", "", 80).contains("[default: [::1]]"));
    }

    #[test]
    fn an_author_is_told_of_names_that_are_taken_and_defaults_that_are_not_allowed() {
        let choice: Setting<&str> = Setting::choice("mode", "MODE", &["full"]).default("half");
        for (own, expected) in [
            (vec![Setting::switch("health-check").row], "the name of setting --health-check is taken"),
            (vec![Setting::switch("help").row], "the name of setting --help is taken"),
            (vec![Setting::switch("a").row, Setting::secret("a").row], "the name of setting --a is taken"),
            (vec![Setting::switch("a-file").row, Setting::secret("a").row], "the name of setting --a-file is taken"),
            (vec![Setting::switch("a").short('h').row], "the name of setting --a is taken"),
            (vec![Setting::switch("a").short('x').row, Setting::switch("b").short('x').row], "the name of setting --a is taken"),
            (vec![Setting::switch("a").variable("BATON_B").row, Setting::switch("b").row], "the name of setting --a is taken"),
            (vec![Setting::switch("a").variable("BATON_B").row, Setting::switch("a").row], "the name of setting --a is taken"),
            (vec![choice.row], "the default of setting --mode is not allowed"),
            (vec![choice.default("").row], "the default of setting --mode is not allowed"),
        ] {
            assert_eq!(Table::new(&own, &Config::default()).err().as_deref(), Some(expected));
        }
        let required: Setting<&str> = Setting::choice("mode", "MODE", &["full"]);
        assert!(Table::new(&[required.row, Setting::text("a", "A").default("").row], &Config::default()).is_ok());
    }

    #[test]
    fn an_author_is_told_where_the_mistake_is() {
        for (mistake, expected) in [
            ((|| _ = Setting::switch("a-")) as fn(), "the name of a setting may contain only a-z, 0-9 and \"-\" between them"),
            (|| _ = Setting::switch("-a"), "the name of a setting may contain only a-z, 0-9 and \"-\" between them"),
            (|| _ = Setting::switch("a_b"), "the name of a setting may contain only a-z, 0-9 and \"-\" between them"),
            (|| _ = Setting::switch(""), "a setting needs a name"),
            (|| _ = Setting::number("a", "N").range(std::ops::RangeInclusive::new(100, 1)), "the range of a setting is empty"),
            (|| _ = Setting::number("a", "N").default(0).range(1..=9), "the default of a setting is outside of its range"),
            (
                || drop(Settings::default().get(&DOMAIN)),
                "the setting --domain was not declared to the App, or was declared with another type",
            ),
        ] {
            let payload = std::panic::catch_unwind(mistake).unwrap_err();
            assert_eq!(crate::connector::panic_text(&*payload), expected);
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_secret_that_is_no_text_and_quotes_around_a_value_are_named() {
        use std::os::unix::ffi::OsStringExt;
        let parse = |arguments: &[&str], variables: &[(&str, OsString)]| {
            crate::cli::try_parse(arguments.iter().map(OsString::from).collect(), variables).unwrap_err()
        };
        let error = parse(&["--domain=a"], &[("BATON_TOKEN", OsString::from_vec(vec![b'a', 0xff]))]);
        assert_eq!(error, "invalid BATON_TOKEN: expected UTF-8");
        for quote in ['"', '\''] {
            let error = parse(&["--domain=a", &format!("--page-size={quote}5{quote}")], &[]);
            assert!(error.contains("; the quotes are part of the value"), "{error}");
        }
    }
}
