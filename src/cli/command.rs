//! What a command line asks for: the one table of settings, read from arguments and environment,
//! which are passed in.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use lexopt::{Arg, Error, Parser};

use crate::cli::setting::{Kind, Scope, Setting, Source, shown};
use crate::cli::settings::Settings;
use crate::endpoint::Endpoint;
use crate::probe::Probe;

const HEALTH_CHECK: &str = "health-check";
const PORT: &str = "health-check-port";
const BIND_ADDRESS: &str = "health-check-bind-address";
const ENDPOINT: &str = "endpoint";
const TIMEOUT: &str = "timeout";

/// The probe's longest timeout in seconds: an hour is more than any orchestrator waits.
const MAX_TIMEOUT: u64 = 3600;

/// The rows that every connector has.
const OWN_ROWS: [Setting; 5] = [
    Setting::flag(HEALTH_CHECK).help("Enable the health check server").scope(Scope::Server),
    Setting::new(PORT, "PORT", "8081").range(0..=65535).help("Port; the server takes any free one for 0").scope(Scope::Both),
    Setting::new(BIND_ADDRESS, "ADDRESS", "127.0.0.1").kind(Kind::Address).help("An IP address or localhost").scope(Scope::Both),
    Setting::new(ENDPOINT, "ENDPOINT", "health")
        .kind(Kind::Endpoint)
        .help("What to ask: health, ready or live")
        .scope(Scope::Probe),
    Setting::new(TIMEOUT, "SECONDS", "5").range(1..=MAX_TIMEOUT).help("How long to wait for the answer").scope(Scope::Probe),
];

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Version,
    /// Ask a running connector: how, what, and for how long.
    Probe(Probe, Endpoint, Duration),
    /// Run the connector; with the address of its health check server, if it is enabled.
    Run(Settings, Option<SocketAddr>),
}

/// All rows, the connector's own and those that every connector has.
pub(crate) struct Table(Vec<Setting>);

impl Table {
    /// # Errors
    ///
    /// A name that is taken, or a default that is not allowed: the author's mistake, for the author to see.
    pub(crate) fn new(mut rows: Vec<Setting>) -> Result<Table, String> {
        let own = rows.len();
        rows.extend_from_slice(&OWN_ROWS);
        for (place, row) in rows.iter().enumerate().take(own) {
            // Variables are made from names: other characters would make two names one variable.
            if row.name.starts_with('-')
                || row.name.ends_with('-')
                || !row.name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            {
                return Err(["the name of setting --", row.name, " may contain only a-z, 0-9 and \"-\" between them"].concat());
            }
            if rows.iter().skip(place + 1).any(|other| other.name == row.name) || matches!(row.name, "help" | "version" | "") {
                return Err(["the name of setting --", row.name, " is taken"].concat());
            }
            if row.default.is_some_and(|default| !row.allows(default)) {
                return Err(["the default of setting --", row.name, " is not ", &row.allowed()].concat());
            }
        }
        Ok(Table(rows))
    }

    /// What the arguments and the environment ask for. An error is the one line to show.
    pub(crate) fn parse(&self, mut arguments: Parser, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Command, String> {
        let mut given = Vec::new();
        let mut probe = false;
        loop {
            let argument = match arguments.next() {
                Ok(Some(argument)) => argument,
                Ok(None) => break,
                Err(Error::UnexpectedValue { option, .. }) => {
                    return Err(usage_error("unexpected value for ", option.as_ref(), SEE_HELP));
                }
                Err(_) => return Err("invalid arguments (see --help)".into()),
            };
            let name = match argument {
                Arg::Short('h') | Arg::Long("help") => return takes_no_value(&mut arguments, "--help", Command::Help),
                Arg::Short('V') | Arg::Long("version") => return takes_no_value(&mut arguments, "--version", Command::Version),
                Arg::Value(value) if !probe && value == HEALTH_CHECK => {
                    probe = true;
                    continue;
                }
                Arg::Value(value) if probe => return Err(usage_error("unexpected argument \"", &value, "\" (see --help)")),
                Arg::Value(value) => return Err(usage_error("unknown subcommand \"", &value, "\" (valid: health-check)")),
                Arg::Short(c) => return Err(usage_error("unknown flag -", c.encode_utf8(&mut [0; 4]).as_ref(), SEE_HELP)),
                Arg::Long(name) => name,
            };
            let Some(row) = self.0.iter().find(|row| row.name == name && row.kind != Kind::Secret) else {
                return Err(usage_error("unknown flag --", name.as_ref(), SEE_HELP));
            };
            let value = match row.kind {
                // A switch takes only a value that is attached: the next argument is not its own.
                Kind::Flag => arguments.optional_value().unwrap_or_else(|| "true".into()),
                _ => arguments.value().map_err(|_| ["--", row.name, " needs a value: ", &row.allowed()].concat())?,
            };
            given.push((row.name, row.checked(value, Source::Flag)?));
        }
        self.resolve(given, probe, environment)
    }

    /// Puts together what was given: flag, else variable, else default.
    fn resolve(
        &self,
        mut given: Vec<(&'static str, String)>,
        probe: bool,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Command, String> {
        let mut settings = Settings::default();
        for &row in &self.0 {
            // The last one wins.
            let flag = given.iter_mut().rev().find(|(name, _)| *name == row.name).map(|(_, text)| mem::take(text));
            let read = match row.scope {
                Scope::Both => true,
                Scope::Probe => probe,
                Scope::Connector | Scope::Server => !probe,
            };
            if !read {
                if flag.is_some() && row.scope == Scope::Probe {
                    return Err(["--", row.name, " belongs to health-check", SEE_HELP].concat());
                }
                continue;
            }
            let variable = row.variable();
            let (text, source) = if let Some(text) = flag {
                (text.into(), Source::Flag)
            } else if let Some(value) = variable.as_deref().and_then(environment).filter(|value| !value.is_empty()) {
                (row.checked(value, Source::Variable)?.into(), Source::Variable)
            } else if let Some(default) = row.default {
                (Cow::Borrowed(default), Source::Default)
            } else {
                let (dashes, flag, or) = if row.kind == Kind::Secret { ("", "", "") } else { ("--", row.name, " or ") };
                return Err([dashes, flag, or, &variable.unwrap_or_default(), " is required", SEE_HELP].concat());
            };
            if probe && row.name == PORT && text == "0" {
                return Err(row.invalid(source, OsStr::new(&*text), "expected the port the server listens on, from 1 to 65535"));
            }
            settings.push(row, text, source);
        }
        let address = settings.socket_address(BIND_ADDRESS, PORT);
        if !probe {
            let enabled = settings.is_set(HEALTH_CHECK);
            return Ok(Command::Run(settings, enabled.then_some(address)));
        }
        let endpoint = Endpoint::from_name(settings.get(ENDPOINT)).unwrap_or_default();
        let timeout = Duration::from_secs(settings.number(TIMEOUT));
        Ok(Command::Probe(Probe::new(address).endpoint(endpoint).timeout(timeout), endpoint, timeout))
    }

    /// What `--help` shows.
    #[cold]
    pub(crate) fn help(&self, program: &str, version: &str, about: &str) -> String {
        let gap = if about.is_empty() { "\n" } else { "\n\n" };
        let mut out = [
            program,
            " ",
            version,
            "\n",
            about,
            gap,
            "Usage:\n  ",
            program,
            " [FLAGS]                run the connector\n  ",
            program,
            " health-check [FLAGS]   ask a running connector how it is\n",
        ]
        .concat();
        for (title, scope) in [
            ("Connector", Scope::Connector),
            ("Health check server", Scope::Server),
            ("Where it listens, and health-check asks", Scope::Both),
            ("health-check", Scope::Probe),
        ] {
            let rows = self.0.iter().filter(|row| row.scope == scope);
            for (count, row) in rows.enumerate() {
                if count == 0 {
                    out.extend(["\n", title, ":\n"]);
                }
                row.help_line(&mut out);
            }
        }
        out.push_str(
            "\nOther:\n  -h, --help\n      Show this\n  -V, --version\n      Show the version\n\n\
             A flag beats its variable, a variable its default. An empty variable counts as unset.\n\
             Of a flag that is given twice the last value is used; each has to be valid.\n\n\
             Exit codes of health-check:\n  \
             0  the answer was HTTP 200\n  \
             1  any other answer, no connection, no answer in time, or bad usage\n\n\
             Exit codes of the connector:\n  \
             0  it finished, or was asked to (SIGTERM, SIGINT, SIGHUP)\n  \
             1  it failed, or bad usage\n",
        );
        out
    }
}

/// `--help` and `--version` take no value.
fn takes_no_value(arguments: &mut Parser, flag: &str, command: Command) -> Result<Command, String> {
    match arguments.optional_value() {
        None => Ok(command),
        Some(value) => Err([flag, &usage_error(" takes no value: \"", &value, "\" (see --help)")].concat()),
    }
}

const SEE_HELP: &str = " (see --help)";

/// The one line about an argument.
fn usage_error(before: &str, argument: &OsStr, after: &str) -> String {
    [before, &shown(argument), after].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Given<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);

    fn table(own: Vec<Setting>) -> Table {
        Table::new(own).unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// A connector with one setting of each kind.
    fn connector() -> Table {
        table(vec![
            Setting::new("color", "NAME", "blue"),
            Setting::new("page-size", "COUNT", "100").range(1..=1000),
            Setting::flag("dry-run"),
        ])
    }

    fn parse(table: &Table, (arguments, variables): Given<'_>) -> Result<Command, String> {
        let environment = |name: &str| {
            assert!(name.starts_with("BATON_"), "the variable {name:?} is looked up");
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| OsString::from(value))
        };
        table.parse(Parser::from_args(arguments), &environment)
    }

    fn settings(table: &Table, given: Given<'_>) -> (Settings, Option<SocketAddr>) {
        match parse(table, given) {
            Ok(Command::Run(settings, address)) => (settings, address),
            other => panic!("{given:?}: {other:?}"),
        }
    }

    #[test]
    fn a_flag_beats_its_variable_and_a_variable_its_default() {
        let rows: &[(Given<'_>, &str, bool)] = &[
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
            assert_eq!((settings.get("color"), settings.is_set("color")), (color, is_set), "{given:?}");
        }
    }

    #[test]
    fn the_health_check_is_off_and_on_loopback_unless_told_otherwise() {
        const ON: (&str, &str) = ("BATON_HEALTH_CHECK", "true");
        const PORT: &str = "BATON_HEALTH_CHECK_PORT";
        const ADDRESS: &str = "BATON_HEALTH_CHECK_BIND_ADDRESS";
        let rows: &[(Given<'_>, Option<&str>)] = &[
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
        let table = table(vec![Setting::required("domain", "HOST"), Setting::secret("token"), Setting::flag("dry-run")]);
        let rows: &[(Given<'_>, String)] = &[
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
        let table = table(vec![Setting::required("domain", "HOST")]);
        let missing = Err("--domain or BATON_DOMAIN is required (see --help)");
        let rows: &[(Given<'_>, Result<&str, &str>)] = &[
            ((&[], &[]), missing),
            ((&[], &[("BATON_DOMAIN", "")]), missing),
            ((&["--domain="], &[("BATON_DOMAIN", "a")]), Err("invalid --domain \"\": expected a text that is not empty")),
            ((&["--domain"], &[]), Err("--domain needs a value: a text that is not empty")),
            ((&["--domain=a"], &[]), Ok("a")),
            ((&[], &[("BATON_DOMAIN", "a")]), Ok("a")),
        ];
        for &(given, expected) in rows {
            let found = parse(&table, given).map(|command| match command {
                Command::Run(settings, _) => settings.get("domain").to_owned(),
                other => panic!("{other:?}"),
            });
            assert_eq!(found.as_deref().map_err(|problem| &**problem), expected, "{given:?}");
        }
    }

    #[test]
    fn a_secret_comes_from_its_variable_only_and_is_never_shown() {
        let table = table(vec![Setting::secret("token").help("What to sign in with")]);
        let (settings, _) = settings(&table, (&[], &[("BATON_TOKEN", "hunter2")]));
        assert_eq!((settings.get("token"), settings.is_set("token")), ("hunter2", true));
        assert!(!format!("{settings:?}").contains("hunter2"));
        let error = settings.parse::<u8>("token").unwrap_err().to_string();
        assert!(error.starts_with("invalid BATON_TOKEN: ") && !error.contains("hunter2"), "{error}");
        for (given, expected) in [
            ((&["--token=hunter2"][..], &[][..]), "unknown flag --token (see --help)"),
            ((&[], &[]), "BATON_TOKEN is required (see --help)"),
            ((&[], &[("BATON_TOKEN", "")]), "BATON_TOKEN is required (see --help)"),
        ] {
            assert_eq!(parse(&table, given).unwrap_err(), expected);
        }
        let help = table.help("program", "1", "");
        assert!(help.contains("  BATON_TOKEN\n      What to sign in with [required]\n") && !help.contains("--token"), "{help}");
    }

    #[test]
    fn values_are_read_as_what_they_are_for() {
        let table = connector();
        let given: Given<'_> = (&["--page-size=1000", "--dry-run=T"], &[("BATON_COLOR", "7")]);
        let (settings, _) = settings(&table, given);
        assert_eq!((settings.number("page-size"), settings.is_set("dry-run"), settings.get("dry-run")), (1000, true, "T"));
        assert_eq!(settings.parse::<u8>("color").unwrap(), 7);
        let error = settings.parse::<bool>("color").unwrap_err().to_string();
        assert!(error.starts_with("invalid BATON_COLOR \"7\": "), "{error}");
        for bad in ["0", "1001", "-1", "+1", " 1", "0100", "1e2", "", "18446744073709551616"] {
            let flag = ["--page-size=", bad].concat();
            let expected = format!("invalid --page-size \"{bad}\": expected a whole number from 1 to 1000 in plain digits");
            assert_eq!(parse(&table, (&[&flag], &[])).unwrap_err(), expected);
        }
    }

    #[test]
    fn an_author_is_told_of_names_that_are_taken_and_defaults_that_are_not_allowed() {
        for (own, expected) in [
            (vec![Setting::flag("health-check")], "the name of setting --health-check is taken"),
            (vec![Setting::new("timeout", "SECONDS", "1")], "the name of setting --timeout is taken"),
            (vec![Setting::flag("help")], "the name of setting --help is taken"),
            (vec![Setting::flag("a_b")], "the name of setting --a_b may contain only a-z, 0-9 and \"-\" between them"),
            (vec![Setting::flag("-a")], "the name of setting ---a may contain only a-z, 0-9 and \"-\" between them"),
            (vec![Setting::flag("a-")], "the name of setting --a- may contain only a-z, 0-9 and \"-\" between them"),
            (vec![Setting::flag("a"), Setting::secret("a")], "the name of setting --a is taken"),
            (
                vec![Setting::new("page-size", "COUNT", "0").range(1..=9)],
                "the default of setting --page-size is not a whole number from 1 to 9 in plain digits",
            ),
        ] {
            assert_eq!(Table::new(own).err().as_deref(), Some(expected));
        }
    }
}
