//! One setting: its flag, its variable, its default, its line in `--help`, and what it allows.

use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;

use crate::address::parse_ip;
use crate::endpoint::Endpoint;
use crate::text::{escape_for_terminal, push_digits};

/// A setting of a connector: a flag `--name=VALUE` and a variable `BATON_NAME`.
///
/// The flag beats the variable, the variable beats the default, and an empty variable counts as
/// unset. A setting whose name is taken (`help`, `health-check`, `endpoint`, `timeout` ..) or given
/// twice, or whose default is out of its range, is refused when the program starts.
///
/// ```
/// use baton_health::Setting;
///
/// let settings = [
///     Setting::required("domain", "HOST").help("Where the accounts are"),
///     Setting::new("page-size", "COUNT", "100").range(1..=1000).help("Accounts asked for at once"),
///     Setting::flag("dry-run").help("Change nothing"),
///     Setting::secret("token").help("What to sign in with"),
/// ];
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a setting has to be given to the App"]
pub struct Setting {
    pub(crate) name: &'static str,
    placeholder: &'static str,
    pub(crate) default: Option<&'static str>,
    help: &'static str,
    pub(crate) kind: Kind,
    pub(crate) scope: Scope,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Flag,
    Secret,
    /// From the one to the other.
    Number(u64, u64),
    Address,
    Endpoint,
}

/// Who reads a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Connector,
    Server,
    Both,
    Probe,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Flag,
    Variable,
    Default,
}

impl Setting {
    const fn row(name: &'static str, placeholder: &'static str, default: Option<&'static str>, kind: Kind) -> Setting {
        Setting { name, placeholder, default, help: "", kind, scope: Scope::Connector }
    }

    /// A setting with a default; `placeholder` stands for its value in `--help`. One that may be left
    /// out has the default `""`.
    pub const fn new(name: &'static str, placeholder: &'static str, default: &'static str) -> Setting {
        Setting::row(name, placeholder, Some(default), Kind::Text)
    }

    /// A setting without which the connector does not start.
    pub const fn required(name: &'static str, placeholder: &'static str) -> Setting {
        Setting::row(name, placeholder, None, Kind::Text)
    }

    /// A switch, off by default: `--name`, `--name=true` or `--name=false`.
    pub const fn flag(name: &'static str) -> Setting {
        Setting::row(name, "", Some("false"), Kind::Flag)
    }

    /// A setting without which the connector does not start, and which nobody gets to see: it comes
    /// from its variable only, since other users of a machine can read command lines, and it is
    /// never part of an error message.
    pub const fn secret(name: &'static str) -> Setting {
        Setting::row(name, "", None, Kind::Secret)
    }

    /// Says what the setting is for, in a few words without a full stop.
    pub const fn help(mut self, help: &'static str) -> Setting {
        self.help = help;
        self
    }

    /// Allows whole numbers in this range only; [`Settings::number`](crate::Settings::number) then reads it.
    /// It makes no difference to a secret or a switch.
    pub const fn range(mut self, range: RangeInclusive<u64>) -> Setting {
        // A secret stays one, whatever else it is, and so does a switch.
        if !matches!(self.kind, Kind::Secret | Kind::Flag) {
            self.kind = Kind::Number(*range.start(), *range.end());
        }
        self
    }

    pub(crate) const fn kind(mut self, kind: Kind) -> Setting {
        self.kind = kind;
        self
    }

    pub(crate) const fn scope(mut self, scope: Scope) -> Setting {
        self.scope = scope;
        self
    }

    /// The variable. The probe's own settings have none: they are said where the probe is started.
    pub(crate) fn variable(&self) -> Option<String> {
        if self.scope == Scope::Probe {
            return None;
        }
        let mut name = ["BATON_", self.name].concat().into_bytes();
        for byte in &mut name {
            *byte = if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() };
        }
        // Still the same text: only ASCII was changed.
        String::from_utf8(name).ok()
    }

    /// What is allowed, for an error message.
    pub(crate) fn allowed(&self) -> String {
        match self.kind {
            Kind::Flag => "true or false (also 1 t T TRUE True, 0 f F FALSE False)".into(),
            Kind::Number(from, to) => {
                let mut text = String::from("a whole number from ");
                push_range(&mut text, from, to);
                text.push_str(" in plain digits");
                text
            }
            Kind::Address => "an IP address or localhost".into(),
            Kind::Endpoint => "health, ready or live".into(),
            Kind::Text | Kind::Secret => "a text that is not empty".into(),
        }
    }

    /// Whether `value` is one of those allowed.
    pub(crate) fn allows(&self, value: &str) -> bool {
        match self.kind {
            // Empty is a value only where it is the default.
            Kind::Text | Kind::Secret => !value.is_empty() || self.default == Some(""),
            Kind::Flag => boolean(value).is_some(),
            Kind::Number(from, to) => whole_number(value).is_some_and(|number| (from..=to).contains(&number)),
            Kind::Address => parse_ip(value).is_some(),
            Kind::Endpoint => Endpoint::from_name(value).is_some(),
        }
    }

    /// `value` as text, if it is allowed. An error is the one line to show.
    pub(crate) fn checked(&self, value: OsString, source: Source) -> Result<String, String> {
        let text = match value.into_string() {
            Ok(text) => text,
            Err(value) => return Err(self.invalid(source, &value, "expected UTF-8")),
        };
        if self.allows(&text) {
            return Ok(text);
        }
        if self.kind == Kind::Endpoint {
            let [health, ready, live] = Endpoint::ALL.map(Endpoint::name);
            return Err(["invalid endpoint: ", &shown(text.as_ref()), " (valid: ", health, ", ", ready, ", ", live, ")"].concat());
        }
        Err(self.invalid(source, text.as_ref(), &["expected ", &self.allowed()].concat()))
    }

    /// The one line about a value that is not allowed.
    pub(crate) fn invalid(&self, source: Source, value: &OsStr, problem: &str) -> String {
        let variable = self.variable().filter(|_| source == Source::Variable);
        let name = variable.unwrap_or_else(|| ["--", self.name].concat());
        match self.kind {
            Kind::Secret => ["invalid ", &name, ": ", problem].concat(),
            _ => ["invalid ", &name, " \"", &shown(value), "\": ", problem].concat(),
        }
    }

    pub(crate) fn help_line(&self, out: &mut String) {
        let variable = self.variable().unwrap_or_default();
        let (open, value, close) = match self.kind {
            Kind::Secret => ("", "", ""),
            Kind::Flag => ("  --", "[=true|false]", ", "),
            _ => ("  --", self.placeholder, ", "),
        };
        let name = if self.kind == Kind::Secret { "  " } else { self.name };
        let equals = if matches!(self.kind, Kind::Secret | Kind::Flag) { "" } else { "=" };
        let close = if variable.is_empty() { "" } else { close };
        for part in [open, name, equals, value, close, &variable, "\n      ", self.help] {
            out.push_str(part);
        }
        if let Kind::Number(from, to) = self.kind {
            out.push_str(" (");
            push_range(out, from, to);
            out.push(')');
        }
        match self.default {
            Some(default) => out.extend([" [default: ", default, "]\n"]),
            None => out.push_str(" [required]\n"),
        }
    }
}

fn push_range(out: &mut String, from: u64, to: u64) {
    push_digits(out, from, 1);
    out.push_str(" to ");
    push_digits(out, to, 1);
}

/// What somebody typed, in one line, bounded and fit for a terminal.
pub(crate) fn shown(text: &OsStr) -> String {
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

/// The words of Go's `strconv.ParseBool`, which the Go connectors read booleans with.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Decimal digits only: no sign, no space, and no leading zero, which others read as octal.
pub(crate) fn whole_number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_booleans_are_plain() {
        for (text, expected) in [("0", Some(0)), ("10", Some(10)), ("18446744073709551615", Some(u64::MAX))] {
            assert_eq!(whole_number(text), expected);
        }
        for text in ["", "00", "01", "+1", "-1", " 1", "1 ", "1_000", "0x1", "1.0", "\u{661}", "18446744073709551616"] {
            assert_eq!(whole_number(text), None, "{text:?}");
        }
        for (words, expected) in [
            (&["1", "t", "T", "true", "TRUE", "True"][..], Some(true)),
            (&["0", "f", "F", "false", "FALSE", "False"], Some(false)),
            (&["", "yes", "no", "on", "off", "tRUE", "fALSE", "2", "true ", "01"], None),
        ] {
            for word in words {
                assert_eq!(boolean(word), expected, "{word:?}");
            }
        }
    }
}
