//! What `--help` shows.

use super::row::{Default, Kind, Row, Scope};
use super::table::Table;

const SECTIONS: [(&str, Scope); 5] = [
    ("Connector", Scope::Connector),
    ("Health check server", Scope::Server),
    ("Where the server listens, and health-check asks", Scope::Both),
    ("health-check", Scope::Probe),
    ("Log", Scope::Log),
];

impl Table {
    /// Wraps lines at `width` characters. A longer word stays whole.
    #[cold]
    pub(super) fn help(&self, program: &str, version: &str, about: &str, width: usize) -> String {
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
        for (title, scope) in &SECTIONS {
            let rows = self.rows.iter().filter(|row| row.scope == *scope);
            for (count, row) in rows.enumerate() {
                if count == 0 {
                    out.extend(["\n", title, ":\n"]);
                }
                names(&mut out, row);
                wrap(&mut out, description(row).trim_start(), width);
            }
        }
        out.push_str(
            "\nOther:\n  -h, --help\n      Show this\n  -V, --version\n      Show the version\n\n\
             A flag beats its variable, a variable its default. An empty variable counts as\n\
             unset. If a flag is given twice, the last value is used (a list takes all);\n\
             each must be valid.\n\n\
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

/// The line with a setting's flag and variable.
fn names(out: &mut String, row: &Row) {
    let variable = row.variable();
    if row.secret.is_some() {
        out.extend(["  ", &variable, ", ", &variable, "_FILE, --", row.name, "-file=", row.placeholder, "\n"]);
        return;
    }
    out.push_str("  ");
    if let Some(letter) = row.short {
        out.push('-');
        out.push(letter);
        out.push_str(", ");
    }
    out.extend(["--", row.name]);
    match row.kind {
        Kind::Switch => out.push_str("[=true|false]"),
        _ => out.extend(["=", row.placeholder]),
    }
    if !variable.is_empty() {
        out.extend([", ", &variable]);
    }
    out.push('\n');
}

fn description(row: &Row) -> String {
    let mut text = row.help.to_owned();
    if let Kind::Choice(words) = row.kind {
        for (place, word) in words.iter().enumerate() {
            text.extend([if place == 0 { " (" } else { ", " }, word]);
        }
        text.push(')');
    }
    let before = text.len();
    row.push_range(&mut text, " (");
    if text.len() > before {
        text.push(')');
    }
    match row.default {
        Default::Required => text.push_str(" [required]"),
        Default::Absent(described) if !described.is_empty() => text.extend([" [default: ", described, "]"]),
        _ => {
            let default = row.default_text();
            if !default.is_empty() {
                text.extend([" [default: ", &default, "]"]);
            }
        }
    }
    text
}

/// Appends `text` in indented lines.
fn wrap(out: &mut String, text: &str, width: usize) {
    const INDENT: &str = "      ";
    let mut column = usize::MAX;
    for word in text.split(' ') {
        if column.saturating_add(1 + word.len()) > width {
            if column != usize::MAX {
                out.push('\n');
            }
            out.push_str(INDENT);
            column = INDENT.len();
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_wrapped_between_words() {
        let wrapped = |text, width| {
            let mut out = String::new();
            wrap(&mut out, text, width);
            out
        };
        assert_eq!(wrapped("one two three", 80), "      one two three\n");
        assert_eq!(wrapped("one two three", 14), "      one two\n      three\n");
        assert_eq!(wrapped("one two three", 1), "      one\n      two\n      three\n");
        assert_eq!(wrapped("", 80), "      \n");
        assert_eq!(wrapped("one two three", 13), "      one two\n      three\n", "it fits exactly");
        assert_eq!(wrapped("one two three", 12), "      one\n      two\n      three\n");
        assert_eq!(wrapped("a b c d", 11), "      a b c\n      d\n");
    }

    #[test]
    fn each_section_has_one_title_and_each_setting_what_is_known_of_it() {
        use crate::cli::Setting;
        let rows = [
            Setting::text("region", "NAME").optional().help("Where").row,
            Setting::choice("mode", "MODE", &["fast", "safe"]).default("safe").help("How").row,
        ];
        let help = Table::new(&rows, &crate::config::Config::default()).unwrap().help("program", "1", "", 80);
        let own = "  --region=NAME, BATON_REGION\n      Where\n  --mode=MODE, BATON_MODE\n      How (fast, safe) [default: safe]\n";
        assert!(help.contains(own), "{help}");
        for (title, _) in SECTIONS {
            assert!(help.matches(&["\n", title, ":\n"].concat()).count() <= 1, "{help}");
        }
        assert_eq!(help.matches(":\n").count(), 4 + SECTIONS.len(), "{help}");
    }

    #[test]
    fn a_setting_with_a_letter_shows_it_first() {
        let rows = [crate::cli::Setting::list("groups", "NAMES").short('g').row];
        let help = Table::new(&rows, &crate::config::Config::default()).unwrap().help("program", "1", "", 80);
        assert!(help.contains("-g, --groups=NAMES"), "{help}");
    }
}
