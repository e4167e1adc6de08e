//! The files in `examples/` that orchestrators read: every command line and variable in them is one the program takes.

#![cfg(feature = "cli")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What one file asks of the program: argument lists without the program's name, and `BATON_` variables.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    commands: Vec<Vec<String>>,
    variables: BTreeMap<String, String>,
}

impl Asked {
    /// Reads any of the formats: they all write a command as a JSON-like list on one line, or as systemd's `Exec…=`.
    fn from(name: &str, text: &str) -> Result<Asked, String> {
        let mut asked = Asked::default();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let commands = commands(line);
            // A Dockerfile's own flags (`COPY --from`) stand outside quotes; elsewhere each flag has to be the program's.
            let flag = if name.starts_with("Dockerfile") { "\"--" } else { "--" };
            let found = commands.iter().flatten().filter(|word| word.starts_with("--")).count();
            if line.matches(flag).count() != found {
                return Err(format!("{name}: a flag outside a one-line command: {line}"));
            }
            asked.commands.extend(commands);
            asked.variables.extend(variables(line));
        }
        Ok(asked)
    }
}

/// The commands of the program in one line, without its name.
fn commands(line: &str) -> Vec<Vec<String>> {
    let is_program = |word: &str| word.rsplit('/').next() == Some("baton-passwd");
    let mut words: Vec<Vec<String>> = line.split('[').skip(1).filter_map(|rest| strings(rest.split(']').next()?)).collect();
    if let Some(command) = line.strip_prefix("Exec").and_then(|rest| rest.split_once('=')) {
        words.push(command.1.split_whitespace().map(str::to_owned).collect());
    }
    words
        .into_iter()
        .filter(|words| words.iter().any(|word| is_program(word) || word == "health-check" || word.starts_with("--")))
        .map(|words| words.into_iter().skip_while(|word| word == "CMD" || is_program(word)).collect())
        .collect()
}

/// `"a", "b"` as its strings; `None` when it is a list of anything else.
fn strings(list: &str) -> Option<Vec<String>> {
    list.split(',').map(|item| Some(item.trim().strip_prefix('"')?.strip_suffix('"')?.to_owned())).collect()
}

/// `BATON_X=y`, `BATON_X: y`, `BATON_X = "y"` and the `name`, `value` pairs of Kubernetes and ECS.
fn variables(line: &str) -> Vec<(String, String)> {
    let starts = line.match_indices("BATON_").map(|(at, _)| &line[at..]);
    starts
        .map(|rest| {
            let (name, rest) = rest.split_at(rest.find(|c: char| !(c.is_ascii_uppercase() || c == '_')).unwrap_or(rest.len()));
            let punctuation = |c: char| " ,:=\"".contains(c);
            let rest = rest.trim_start_matches(punctuation);
            let value = rest.strip_prefix("value").unwrap_or(rest).trim_start_matches(punctuation);
            (name.to_owned(), value.split([' ', '"', '}']).next().unwrap_or_default().to_owned())
        })
        .collect()
}

fn program(asked: &Asked, arguments: &[String]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_baton-passwd"));
    program.env_clear().envs(&asked.variables).args(arguments);
    program
}

/// Runs what was asked with the real parser, and says why it is not what the file's author meant.
fn try_out(asked: &Asked, arguments: &[String]) -> Result<(), String> {
    if arguments.first().is_some_and(|first| first == "health-check") {
        // Nothing listens on port 1, so that a probe whose flags are right comes as far as being refused.
        let output = program(asked, arguments).arg("--health-check-port=1").output().map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let refused = output.status.code() == Some(1) && said.contains(":1/") && said.contains("cannot connect");
        return if refused { Ok(()) } else { Err(said) };
    }
    // Any free port, and sources that can be read on any machine; all else is as in the file.
    let mut child = program(asked, arguments)
        .args(["--health-check-port=0", "--passwd=/etc/passwd", "--group=/etc/group"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().ok_or("no stderr")?).lines().map_while(Result::ok) {
        said += &line;
        // "connected" comes after "listening", so one that connects first has its health checks off.
        if line.contains("\"listening\"") || line.contains("\"connected\"") {
            break;
        }
    }
    // It may have ended by itself.
    let _ = child.kill();
    child.wait().map_err(|e| e.to_string())?;
    if said.contains("\"listening\"") { Ok(()) } else { Err(said) }
}

/// All commands of a file, and, where it leaves the connector's command to the image, the bare one.
fn all_commands(asked: &Asked) -> Vec<Vec<String>> {
    let mut commands = asked.commands.clone();
    if commands.iter().all(|command| command.first().is_some_and(|first| first == "health-check")) {
        commands.push(Vec::new());
    }
    commands
}

#[test]
fn every_command_and_variable_in_the_examples_is_accepted() {
    let help = Command::new(env!("CARGO_BIN_EXE_baton-passwd")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let mut seen = Vec::new();
    for entry in fs::read_dir(Path::new(ROOT).join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() || name.ends_with(".rs") {
            continue;
        }
        let asked = Asked::from(&name, &fs::read_to_string(&path).unwrap()).unwrap();
        if asked == Asked::default() {
            continue;
        }
        for variable in asked.variables.keys() {
            assert!(help.split([' ', '\n']).any(|word| word == variable), "{name}: no such variable: {variable}");
        }
        for command in all_commands(&asked) {
            if let Err(said) = try_out(&asked, &command) {
                panic!("{name}: {command:?} with {:?}: {said}", asked.variables);
            }
        }
        seen.push(name);
    }
    seen.sort();
    let expected = [
        "Dockerfile",
        "Dockerfile.binary",
        "baton-passwd.nomad.hcl",
        "baton-passwd.service",
        "compose.yaml",
        "ecs-task-definition.json",
        "kubernetes-http.yaml",
        "kubernetes.yaml",
        "swarm.yaml",
    ];
    assert_eq!(seen, expected, "the files in which something was found to try");
}

#[test]
fn every_command_and_variable_in_the_readme_is_accepted() {
    let text = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    for (format, name) in [("dockerfile", "Dockerfile"), ("yaml", "readme.yaml")] {
        let block = text.split(&format!("```{format}\n")).nth(1).unwrap_or_else(|| panic!("no {format}"));
        let asked = Asked::from(name, block.split("```").next().unwrap()).unwrap();
        assert!(asked.commands.iter().any(|command| command.first().is_some_and(|first| first == "health-check")), "{asked:?}");
        for command in all_commands(&asked) {
            if let Err(said) = try_out(&asked, &command) {
                panic!("README.md, {format}: {command:?} with {:?}: {said}", asked.variables);
            }
        }
    }
}

#[test]
fn each_format_is_read() {
    let asked = |name: &str, text: &str| Asked::from(name, text).unwrap();
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for (name, text, command) in [
        ("Dockerfile", r#"HEALTHCHECK --retries=3 CMD ["/baton-passwd", "health-check"]"#, &["health-check"][..]),
        ("k.yaml", r#"command: ["/baton-passwd", "health-check", "--endpoint=live"]"#, &["health-check", "--endpoint=live"]),
        ("k.yaml", r#"args: ["--health-check"]"#, &["--health-check"]),
        ("e.json", r#""command": ["CMD", "/baton-passwd", "health-check"],"#, &["health-check"]),
        ("u.service", "ExecStart=/usr/local/bin/baton-passwd --sync-interval=60", &["--sync-interval=60"]),
    ] {
        assert_eq!(asked(name, text).commands, [words(command)], "{text}");
    }
    for text in [
        "BATON_PASSWD=/x",
        "BATON_PASSWD: /x",
        "BATON_PASSWD = \"/x\"",
        "Environment=BATON_PASSWD=/x",
        r#"- { name: BATON_PASSWD, value: "/x" }"#,
        r#"{ "name": "BATON_PASSWD", "value": "/x" },"#,
    ] {
        assert_eq!(asked("any", text).variables, BTreeMap::from([("BATON_PASSWD".to_owned(), "/x".to_owned())]), "{text}");
    }
    assert!(Asked::from("k.yaml", "- --health-check").is_err(), "a flag that would not be tried");
}

#[test]
fn what_the_program_does_not_take_is_found() {
    for (name, text, error) in [
        ("k.yaml", r#"args: ["--health-check", "--helth-check-port=8081"]"#, "--helth-check-port"),
        ("k.yaml", r#"args: ["--health-check", "--sync-interval=soon"]"#, "--sync-interval"),
        ("k.yaml", r#"command: ["/baton-passwd", "health-check", "--endpoint=alive"]"#, "alive"),
        ("k.yaml", r#"command: ["/baton-passwd", "healthcheck", "--endpoint=live"]"#, "healthcheck"),
        ("c.yaml", r#"BATON_HEALTH_CHECK: "on""#, "BATON_HEALTH_CHECK"),
        ("c.yaml", r#"BATON_PASSWD: "/host/passwd""#, "connected"),
    ] {
        let asked = Asked::from(name, text).unwrap();
        let failures: Vec<_> = all_commands(&asked).iter().filter_map(|command| try_out(&asked, command).err()).collect();
        assert!(failures.iter().any(|said| said.contains(error)), "{text}: {failures:?}");
    }
}
