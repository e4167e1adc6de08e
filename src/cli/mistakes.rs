//! Error messages for command lines and environments, with a guess at what was meant.

use std::ffi::OsStr;

use super::row::{Kind, Row, Scope, Source};
use super::value::{boolean, whole_number};
use crate::address::parse_ip;
use crate::text::{escape_for_terminal, push_number};

pub(super) const SEE_HELP: &str = " (see --help)";

/// The message about a value that is not allowed.
#[cold]
pub(super) fn invalid(row: &Row, source: Source, value: &OsStr, problem: &str) -> String {
    let origin = row.origin(source);
    match row.kind {
        Kind::Secret => ["invalid ", &origin, ": ", problem].concat(),
        // The words of the Go connectors, followed by the flag.
        Kind::Choice(words) if row.scope == Scope::Probe => {
            let near = suggestion(value.to_str().unwrap_or_default(), words);
            ["invalid endpoint: ", &printable(value), " (valid: ", &words.join(", "), "), given with ", &origin, &near].concat()
        }
        _ => ["invalid ", &origin, " \"", &printable(value), "\": ", problem].concat(),
    }
}

/// A hint at the mistake behind a value that is not allowed.
#[cold]
pub(super) fn hint(row: &Row, text: &str, source: Source) -> String {
    let quoted = matches!(text.as_bytes(), [first @ (b'"' | b'\''), .., last] if first == last);
    let fixed = if quoted {
        "; the quotes are part of the value"
    } else if source == Source::Variable && text.starts_with("tcp://") {
        "; Kubernetes sets it for a Service of that name: write enableServiceLinks: false in the pod"
    } else if matches!(row.kind, Kind::Address) {
        address_hint(text)
    } else {
        return suggestion(text, row.words());
    };
    fixed.into()
}

fn address_hint(text: &str) -> &'static str {
    let has_port = split_last(text, b':').is_some_and(|(ip, port)| parse_ip(ip).is_some() && whole_number(port).is_some());
    if has_port {
        "; give the port with --health-check-port"
    } else if parse_ip(text).is_some() {
        "; a server cannot listen on a multicast or broadcast address"
    } else if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
    {
        "; host names are not looked up"
    } else {
        ""
    }
}

/// The message about an unknown flag. `text` is the flag without its dashes and value.
#[cold]
pub(super) fn unknown_flag(rows: &[Row], dashes: &str, text: &OsStr) -> String {
    let name = text.to_str().unwrap_or_default();
    if let Some(row) = rows.iter().find(|row| row.secret.is_some() && row.name == name) {
        let variable = row.variable();
        return ["--", name, " is a secret, and others can read command lines: set ", &variable, " or ", &variable, "_FILE"]
            .concat();
    }
    let mut flags = rows.iter().filter(|row| row.secret.is_none()).map(|row| row.name);
    let near = nearest(name, &mut flags).map(|name| [" (did you mean --", name, "?)"].concat());
    ["unknown flag ", dashes, &printable(text), near.as_deref().unwrap_or(SEE_HELP)].concat()
}

/// The message about an argument that is not a flag.
#[cold]
pub(super) fn unexpected(value: &OsStr, probe: bool, switch_before: Option<&str>) -> String {
    let text = value.to_str().unwrap_or_default();
    let shown = printable(value);
    if let Some(dash) = text.chars().next().filter(|c| matches!(c, '\u{2010}'..='\u{2015}' | '\u{2212}')) {
        let mut code = String::new();
        push_number(&mut code, u32::from(dash).into(), 16, 4);
        return ["\"", &shown, "\" starts with \"", dash.encode_utf8(&mut [0; 4]), "\" (U+", &code, "), not \"--\""].concat();
    }
    if let Some(switch) = switch_before.filter(|_| boolean(text).is_some()) {
        return ["a switch takes its value with \"=\": --", switch, "=", &shown].concat();
    }
    if probe {
        return ["unexpected argument \"", &shown, "\"", SEE_HELP].concat();
    }
    let near = suggestion(text, &["health-check"]);
    let switch = switch_before.map(|switch| ["; a switch takes its value with \"=\": --", switch, "=true"].concat());
    let hint = switch.unwrap_or(near);
    ["unknown subcommand \"", &shown, "\" (valid: health-check; without one the connector runs)", &hint].concat()
}

/// The one of our variables whose name is close to this one, which is not ours.
#[cold]
pub(super) fn misspelt(rows: &[Row], name: &str) -> Option<String> {
    if !name.starts_with("BATON_") {
        return None;
    }
    let mut best = (FAR, None);
    for row in rows {
        let variable = row.variable();
        let distance = match name.strip_suffix("_FILE") {
            Some(name) if row.secret.is_some() && name == variable => 0,
            _ => distance(name, &variable),
        };
        if distance < best.0 {
            best = (distance, Some(variable));
        }
    }
    best.1.filter(|_| best.0 > 0)
}

fn suggestion(text: &str, words: &[&str]) -> String {
    nearest(text, &mut words.iter().copied()).map(|word| ["; did you mean ", word, "?"].concat()).unwrap_or_default()
}

/// With this many different letters, two words have nothing to do with each other.
const FAR: usize = 3;

/// The word that was probably meant.
fn nearest<'a>(text: &str, words: &mut dyn Iterator<Item = &'a str>) -> Option<&'a str> {
    // Two different letters are most of a short word.
    let mut best = (FAR.min(1 + text.len() / 2), None);
    for word in words {
        // People often remember only the last part of a name, or its first letter.
        let last = split_last(word, b'-').map_or(word, |(_, last)| last);
        let distance = match text.len() {
            0 => FAR,
            1 if last.starts_with(text) => 0,
            1 => FAR,
            _ if last == text => 0,
            _ => distance(text, word),
        };
        if distance < best.0 {
            best = (distance, Some(word));
        }
    }
    best.1
}

/// The parts before and after the last `mark`.
fn split_last(text: &str, mark: u8) -> Option<(&str, &str)> {
    let at = text.bytes().rposition(|byte| byte == mark)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// How many letters must be inserted, removed or replaced. Case does not count, and `_` equals `-`.
fn distance(a: &str, b: &str) -> usize {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (place, x) in a.bytes().enumerate() {
        let mut diagonal = place;
        let mut left = place + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let above = *cell;
            left = (diagonal + usize::from(plain(x) != plain(y))).min(left + 1).min(above + 1);
            (diagonal, *cell) = (above, left);
        }
    }
    row.last().copied().unwrap_or_default()
}

/// What a person typed: one line, of bounded length, safe for a terminal.
pub(super) fn printable(text: &OsStr) -> String {
    const MAX_SHOWN: usize = 200;
    const CUT: &str = "...";
    let bytes = text.as_encoded_bytes();
    let (bytes, cut) =
        if bytes.len() > MAX_SHOWN { (bytes.get(..MAX_SHOWN - CUT.len()).unwrap_or_default(), CUT) } else { (bytes, "") };
    let mut out = String::new();
    escape_for_terminal(&mut out, bytes);
    out.push_str(cut);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_probably_meant_is_close() {
        let words = ["passwd", "sync-interval", "health-check", "health-check-port", "health-check-bind-address", "timeout"];
        for (text, expected) in [
            ("heath-check", Some("health-check")),
            ("Health-Check", Some("health-check")),
            ("health_check", Some("health-check")),
            ("health-chek-port", Some("health-check-port")),
            ("port", Some("health-check-port")),
            ("interval", Some("sync-interval")),
            ("t", Some("timeout")),
            ("p", Some("passwd")),
            ("bogus", None),
            ("x", None),
            ("", None),
            ("h\u{e9}alth-check", Some("health-check")),
        ] {
            assert_eq!(nearest(text, &mut words.into_iter()), expected, "{text}");
        }
        assert_eq!(nearest("up", &mut ["on"].into_iter()), None, "all of a short word differs");
        assert_eq!(nearest("c", &mut ["abc", "a-cd"].into_iter()), Some("a-cd"));
        assert_eq!((distance("", "abc"), distance("abc", "abc"), distance("kitten", "sitting")), (3, 0, 3));
        assert_eq!((distance("a", ""), distance("abc", "")), (1, 3));
    }

    #[test]
    fn a_hint_is_given_for_the_mistake_that_was_made() {
        let table = crate::cli::table::Table::new(&[], &crate::config::Config::default()).unwrap();
        let port = table.row("health-check-port", false).unwrap();
        let quotes = "; the quotes are part of the value";
        let service = "; Kubernetes sets it for a Service of that name: write enableServiceLinks: false in the pod";
        for (text, source, expected) in [
            ("\"8081\"", Source::Variable, quotes),
            ("'8081'", Source::Flag, quotes),
            ("\"8081'", Source::Flag, ""),
            ("8081x", Source::Flag, ""),
            ("tcp://10.0.0.1:80", Source::Variable, service),
            ("tcp://10.0.0.1:80", Source::Flag, ""),
        ] {
            assert_eq!(hint(port, text, source), expected, "{text}");
        }
    }

    #[test]
    fn a_variable_that_is_nearly_ours_is_told_apart_from_ours() {
        let rows = [crate::cli::Setting::secret("token").row, crate::cli::Setting::text("domain", "HOST").row];
        for (name, expected) in [
            ("BATON_TOKEN", None),
            ("BATON_TOKEN_FILE", None),
            ("BATON_DOMAIN", None),
            ("BATON_TOKN", Some("BATON_TOKEN")),
            ("BATON_DOMIAN", Some("BATON_DOMAIN")),
            ("BATON_DOMAIN_FILE", None),
            ("BATON_LICENSE", None),
            ("TOKEN", None),
        ] {
            assert_eq!(misspelt(&rows, name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn what_was_typed_is_cut_when_it_is_long() {
        assert_eq!(printable("x".repeat(200).as_ref()), "x".repeat(200));
        assert_eq!(printable("x".repeat(201).as_ref()), "x".repeat(197) + "...");
    }
}
