//! The rules of the house, held by a test instead of by memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no {ending} below {folder}");
    found
}

/// A file without its comments, empty lines and tests.
fn code(path: &Path) -> String {
    let text = read(path);
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code = text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//"));
    code.map(|line| format!("{line}\n")).collect()
}

/// The files of a crate by module path (`server/slots`), each with its code.
fn modules(folder: &str) -> BTreeMap<String, String> {
    let base = root().join(folder);
    let name = |path: &Path| path.strip_prefix(&base).unwrap().with_extension("").to_string_lossy().into_owned();
    let own = files(folder, ".rs").into_iter().filter(|path| folder != "src" || !path.starts_with(root().join("src/bin")));
    own.map(|path| (name(&path), code(&path))).collect()
}

/// Every path that code refers to from `crate`, `self` or `super`, as segments from the root of the crate.
fn paths(module: &str, code: &str) -> Vec<Vec<String>> {
    let here: Vec<String> = if is_root(module) { Vec::new() } else { module.split('/').map(str::to_owned).collect() };
    let mut found = Vec::new();
    let starts = ["crate::", "self::", "super::"];
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for (at, _) in code.char_indices().filter(|(at, _)| starts.iter().any(|start| code[*at..].starts_with(start))) {
        if code[..at].ends_with(|c: char| is_word(c) || c == ':') {
            continue;
        }
        expand(&here, &code[at..], &mut found);
    }
    found
}

/// The paths that `text` begins with; braces are several paths at once. Returns what follows them.
fn expand<'a>(base: &[String], text: &'a str, found: &mut Vec<Vec<String>>) -> &'a str {
    let mut path = base.to_vec();
    let mut rest = text;
    loop {
        if let Some(mut inner) = rest.strip_prefix('{') {
            loop {
                inner = inner.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
                if let Some(after) = inner.strip_prefix('}') {
                    return after;
                }
                let before = inner.len();
                inner = expand(&path, inner, found);
                assert!(inner.len() < before, "cannot read {inner}");
            }
        }
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(rest.len());
        match &rest[..end] {
            "crate" => path.clear(),
            "super" => drop(path.pop()),
            "self" => {}
            word => path.push(word.to_owned()),
        }
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(after) if end > 0 => rest = after,
            _ => break,
        }
    }
    found.push(path);
    rest.strip_prefix(" as ").map_or(rest, |rest| rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'))
}

fn is_root(module: &str) -> bool {
    matches!(module, "lib" | "main")
}

/// Which files each file refers to.
fn used(modules: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut used = BTreeMap::new();
    for (name, code) in modules.iter().filter(|(name, _)| !is_root(name)) {
        let mut others = BTreeSet::new();
        for path in paths(name, code) {
            // The longest start of the path that is a file.
            let file = (1..=path.len()).rev().find_map(|len| modules.get_key_value(&path[..len].join("/")));
            others.extend(file.map(|(other, _)| other.as_str()).filter(|other| *other != name));
        }
        // A child that a file declares needs no `self::` before its name.
        let declared =
            code.lines().filter_map(|line| line.trim_start_matches("pub(crate) ").strip_prefix("mod ")?.strip_suffix(';'));
        let named = declared.filter(|child| code.contains(&format!(" {child}::")) || code.contains(&format!("({child}::")));
        others.extend(named.filter_map(|child| modules.get_key_value(&format!("{name}/{child}"))).map(|(other, _)| other.as_str()));
        used.insert(name.as_str(), others);
    }
    used
}

#[test]
fn each_file_uses_only_what_the_picture_in_the_docs_says() {
    let map = read("src/lib.rs");
    let picture = map.split("//! ```text files\n").nth(1).expect("the picture").split("//! ```").next().unwrap();
    let drawn: BTreeMap<&str, BTreeSet<&str>> = picture
        .lines()
        .map(|line| {
            let mut words = line.trim_start_matches("//! ").split_whitespace();
            (words.next().unwrap(), words.filter(|word| *word != "-").collect())
        })
        .collect();
    let modules = modules("src");
    let used = used(&modules);
    let differs: Vec<String> =
        used.iter().filter(|(name, others)| drawn.get(*name) != Some(others)).map(|(name, others)| line(name, others)).collect();
    assert!(differs.is_empty(), "the picture in src/lib.rs should say:\n{}", differs.join("\n"));
    assert_eq!(used.keys().collect::<Vec<_>>(), drawn.keys().collect::<Vec<_>>(), "left: the code; right: the picture");

    // A name stands above everything it uses, so no two files depend on each other.
    let order: Vec<&str> = picture.lines().map(|line| line.trim_start_matches("//! ").split_whitespace().next().unwrap()).collect();
    let place = |name: &str| order.iter().position(|other| *other == name).unwrap();
    for (name, others) in &drawn {
        for other in others {
            assert!(place(name) < place(other), "{name} uses {other}, which stands above it");
        }
    }
    assert!(reaches(&drawn, "cli", "server") && !reaches(&drawn, "server", "probe") && !reaches(&drawn, "probe", "server"));
}

fn line(name: &str, others: &BTreeSet<&str>) -> String {
    let others: Vec<&str> = if others.is_empty() { vec!["-"] } else { others.iter().copied().collect() };
    format!("//! {name:<20} {}", others.join(" "))
}

fn reaches(drawn: &BTreeMap<&str, BTreeSet<&str>>, from: &str, to: &str) -> bool {
    drawn[from].iter().any(|other| *other == to || reaches(drawn, other, to))
}

#[test]
fn the_connectors_own_files_do_not_know_their_main() {
    let modules = modules("src/bin/baton-passwd");
    for (name, others) in used(&modules) {
        assert!(others.is_empty(), "{name} uses {others:?}");
    }
}

#[test]
fn paths_are_read_from_code_as_the_compiler_reads_them() {
    let read = |module, code| paths(module, code).into_iter().map(|path| path.join("/")).collect::<Vec<_>>();
    assert_eq!(read("a", "use crate::b::{self, C, d::{E, f as g}};"), ["b", "b/C", "b/d/E", "b/d/f"]);
    assert_eq!(read("a/x", "use super::y::Z;\nlet q = crate::b::c();"), ["a/y/Z", "b/c"]);
    assert_eq!(read("a", "use self::inner::Q; use supercrate::no;"), ["a/inner/Q"]);
}

#[test]
fn only_two_files_may_be_unsafe() {
    // The compiler denies unsafe code, and clippy an unsafe block without a reason; this is about who may allow it.
    assert!(
        read("Cargo.toml").contains("unsafe_code = \"deny\"")
            && read("Cargo.toml").contains("undocumented_unsafe_blocks = \"deny\"")
    );
    let allowed: Vec<String> = files("src", ".rs")
        .iter()
        .filter(|path| read(path).contains("unsafe_code"))
        .map(|path| path.strip_prefix(root()).unwrap().display().to_string())
        .collect();
    assert_eq!(
        BTreeSet::from_iter(allowed.iter().map(String::as_str)),
        BTreeSet::from(["src/bin/baton-passwd/arena.rs", "src/sys.rs"])
    );
}

#[test]
fn only_one_file_sets_timeouts() {
    for (name, code) in modules("src") {
        let sets = ["set_read_timeout", "set_write_timeout", "set_nonblocking"].iter().any(|setter| code.contains(setter));
        assert_eq!(sets, name == "deadline", "src/{name}.rs");
    }
}

#[test]
fn functions_fit_on_a_screen() {
    const MOST: usize = 50;
    for path in files("src", ".rs") {
        let text = read(&path);
        let lines: Vec<&str> = text.split("#[cfg(test)]\nmod tests").next().unwrap().lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let words = line.trim_start().split(['(', '<']).next().unwrap();
            let is_code = !line.trim_start().starts_with("//") && !line.ends_with([';', ',']);
            let begins = is_code && words.split(' ').any(|word| word == "fn");
            let end = format!("{}}}", " ".repeat(line.len() - line.trim_start().len()));
            let length = lines[start..].iter().position(|line| **line == end).unwrap_or(0) + 1;
            assert!(!begins || length <= MOST, "{}:{}: {length} lines", path.display(), start + 1);
        }
    }
}

#[test]
fn tests_wait_for_something_and_never_just_sleep() {
    for path in files("tests", ".rs").iter().chain(&files("src", ".rs")) {
        let text = read(path);
        let tests = if path.starts_with(root().join("src")) { text.split("mod tests").nth(1).unwrap_or("") } else { &text };
        let name = path.strip_prefix(root()).unwrap().display();
        let sleeps = tests.lines().filter(|line| line.contains(concat!("thread::", "sleep"))).collect::<Vec<_>>();
        // A pause between two looks at a state that is waited for says so by its name.
        assert!(sleeps.iter().all(|line| line.contains("sleep(BETWEEN")), "{name}: {sleeps:?}");
    }
}

#[test]
fn files_stay_small_enough_to_be_one_thing() {
    const MOST: usize = 300;
    for path in files("src", ".rs") {
        let lines = code(&path).lines().count();
        assert!(lines <= MOST, "{}: {lines} lines of code, more than {MOST}", path.display());
    }
    for path in files("src", ".rs").iter().chain(&files("tests", ".rs")) {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(!["util", "utils", "helpers", "common", "manager", "misc", "mod"].contains(&stem.as_str()), "{}", path.display());
    }
}

#[test]
fn one_package_is_all_it_takes() {
    let lock = read("Cargo.lock");
    let foreign: Vec<&str> = lock.split("[[package]]").filter(|package| package.contains("source = ")).collect();
    assert_eq!(foreign.len(), 1, "{foreign:?}");
    assert!(foreign[0].contains("name = \"lexopt\""));
}

#[test]
fn the_version_is_the_same_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(read("CHANGELOG.md").contains(&format!("## {version}")), "CHANGELOG.md has no entry for {version}");
    assert!(read("README.md").contains(&format!("baton-health = \"{}\"", version.rsplit_once('.').unwrap().0)), "README.md");
}

#[test]
fn the_license_is_the_one_that_is_named() {
    assert!(read("Cargo.toml").contains("license = \"Apache-2.0\""));
    assert!(read("LICENSE").contains("Apache License") && read("LICENSE").contains("Version 2.0, January 2004"));
}

/// Rows of the Markdown tables under a heading, cells trimmed and without backticks.
fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let section = text.split(heading).nth(1).unwrap_or_else(|| panic!("no {heading:?}"));
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")).skip(1);
    rows.map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect()).collect()
}

#[test]
#[cfg(feature = "cli")]
fn the_documented_settings_are_those_of_the_program() {
    use std::process::Command;
    let output = Command::new(env!("CARGO_BIN_EXE_baton-passwd")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    // In --help a setting is a line of names, and a line of what it is for and its default.
    let mut documented: BTreeSet<(String, String, String)> = BTreeSet::new();
    let lines: Vec<&str> = help.lines().collect();
    for pair in lines.windows(2).filter(|pair| pair[0].starts_with("  --") && pair[1].contains("[default: ")) {
        let mut names = pair[0].trim().split(", ");
        let flag = names.next().unwrap().split(['=', '[']).next().unwrap().to_owned();
        let default = pair[1].split("[default: ").nth(1).unwrap().trim_end_matches(']').to_owned();
        documented.insert((flag, names.next().unwrap_or("").to_owned(), default));
    }
    // In the docs it is "- `--flag`, `VARIABLE` (default `value`): what for".
    let page = read("docs/operating.md");
    let section = page.split("\n## Settings\n").nth(1).expect("a section").split("\n## ").next().unwrap();
    let told: BTreeSet<(String, String, String)> = section
        .lines()
        .filter_map(|line| line.strip_prefix("- ")?.split_once(" (default `"))
        .map(|(names, rest)| {
            let names = names.replace('`', "");
            let (flag, variable) = names.split_once(", ").unwrap_or((&names, ""));
            (flag.into(), variable.into(), rest.split('`').next().unwrap().into())
        })
        .collect();
    assert_eq!(told, documented, "left: docs/operating.md; right: --help");
}

#[test]
fn the_readmes_endpoints_are_those_of_the_code() {
    use baton_health::Endpoint;
    let rows = table(&read("README.md"), "\n### The endpoints\n");
    for endpoint in Endpoint::ALL {
        let row = rows.iter().find(|row| row[0] == endpoint.path()).unwrap_or_else(|| panic!("no row for {}", endpoint.path()));
        assert_eq!(row[2], endpoint.ok_status());
        let fails = if endpoint == Endpoint::Live { "never" } else { endpoint.failed_status() };
        assert_eq!(row[3].split(':').next(), Some(fails));
    }
    assert_eq!(rows.len(), Endpoint::ALL.len(), "the README has an endpoint that the code has not");
}

#[test]
#[cfg(unix)]
fn every_stage_of_the_gate_is_described() {
    use std::os::unix::fs::PermissionsExt;
    let described = read("CONTRIBUTING.md");
    for entry in fs::read_dir(root().join(".ci")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let runs_alone = entry.metadata().unwrap().permissions().mode() & 0o111 != 0 && name != "inputs";
        assert!(!runs_alone || described.contains(&format!("`{name}`")) || described.contains(&format!("`.ci/{name}`")), "{name}");
    }
}

#[test]
fn the_readmes_costs_are_the_measured_ones() {
    // `cargo bench` keeps what it measured, and draws it.
    let kept = read("benches/figures.txt");
    let drawn = read("docs/cost.svg");
    let rows = table(&read("README.md"), "\n## What it costs\n");
    for (panel, name) in [
        ("size", "Size of the program"),
        ("memory", "Memory of the daemon at rest"),
        ("probe-memory", "Memory of a probe"),
        ("probe-cpu", "Processor time of a probe"),
        ("requests", "Requests per second"),
    ] {
        let row = rows.iter().find(|row| row[0].starts_with(name)).unwrap_or_else(|| panic!("no row {name:?} in README.md"));
        for (build, cell) in [("static", &row[1]), ("smallest", &row[2])] {
            let line = format!("{panel}\t{build}\t");
            let value = kept.lines().find_map(|kept| kept.strip_prefix(&line)).unwrap_or_else(|| panic!("no {line:?}"));
            let value: f64 = value.parse().unwrap();
            let shown = if matches!(panel, "probe-cpu" | "requests") { format!("{value:.2}") } else { format!("{value:.0} kB") };
            assert_eq!(cell.split(", ").next(), Some(&*shown), "README.md, {name}, of the {build} build");
            assert!(drawn.contains(&format!(">{shown}</text>")), "docs/cost.svg has no {shown}, {name} of the {build} build");
        }
    }
}
