//! One setting, whatever its type: its names, its default, and what it allows.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::value::push_duration;
use crate::address::Address;
use crate::text::push_digits;

/// How the environment is read.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Finds a secret, given the value of its file's flag. A pointer, so that a program without secrets does not
/// have the code.
pub(super) type FindSecret = fn(&Row, Option<&OsStr>, Environment<'_>) -> Result<Option<(OsString, Source)>, String>;

#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    /// Its name if that is not `BATON_` and the setting's name.
    pub(super) variable: Option<&'static str>,
    pub(super) placeholder: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) default: Default,
    pub(super) scope: Scope,
    pub(super) secret: Option<FindSecret>,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Path,
    List,
    Switch,
    Secret,
    /// The least and the most.
    Number(u64, u64),
    /// In milliseconds.
    Duration(u64, u64),
    Choice(&'static [&'static str]),
    Address,
    Level,
}

/// The value of a setting that is not given.
#[derive(Clone, Copy)]
pub(super) enum Default {
    /// None: the setting is required.
    Required,
    /// None. `--help` shows this text instead.
    Absent(&'static str),
    Text(&'static str),
    Number(u64),
    /// In milliseconds.
    Duration(u64),
    Address(IpAddr),
}

/// Who reads a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Connector,
    Server,
    Both,
    Probe,
    Log,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Flag,
    Variable,
    /// A file that the flag `--NAME-file` names.
    FileFlag,
    /// A file that the variable `.._FILE` names.
    FileVariable,
    Default,
    Absent,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Row {
    pub(super) const fn new(name: &'static str, placeholder: &'static str, kind: Kind, default: Default) -> Row {
        check_name(name);
        Row { name, short: None, variable: None, placeholder, help: "", kind, default, scope: Scope::Connector, secret: None }
    }

    pub(super) const fn help(mut self, help: &'static str) -> Row {
        self.help = help;
        self
    }

    pub(super) const fn scope(mut self, scope: Scope) -> Row {
        self.scope = scope;
        self
    }

    /// The variable. It is empty for the probe's own settings: they are given where the probe is started.
    pub(super) fn variable(&self) -> String {
        match self.variable {
            _ if self.scope == Scope::Probe => String::new(),
            Some(variable) => variable.to_owned(),
            None => {
                let mut variable = String::from("BATON_");
                for letter in self.name.chars() {
                    variable.push(if letter == '-' { '_' } else { letter.to_ascii_uppercase() });
                }
                variable
            }
        }
    }

    /// The value of the variable, if it has one that is not empty.
    pub(super) fn read_variable(&self, environment: Environment<'_>) -> Option<OsString> {
        let variable = self.variable();
        if variable.is_empty() { None } else { environment(&variable).filter(|value| !value.is_empty()) }
    }

    /// The name under which a person set it.
    pub(super) fn origin(&self, source: Source) -> String {
        match source {
            Source::Flag | Source::Default | Source::Absent => ["--", self.name].concat(),
            Source::FileFlag => ["--", self.name, "-file"].concat(),
            Source::Variable => self.variable(),
            Source::FileVariable => [&*self.variable(), "_FILE"].concat(),
        }
    }

    /// The default as text. It is empty if there is none.
    pub(super) fn default_text(&self) -> String {
        let mut text = String::new();
        match self.default {
            Default::Required | Default::Absent(_) => {}
            Default::Text(default) => text.push_str(default),
            Default::Number(number) => push_digits(&mut text, number, 1),
            Default::Duration(time) => push_duration(&mut text, time),
            Default::Address(ip) => {
                Address(SocketAddr::new(ip, 0)).push(&mut text);
                text.truncate(text.len() - ":0".len());
            }
        }
        text
    }

    /// Appends `before` and the range, if there is one.
    pub(super) fn push_range(&self, out: &mut String, before: &str) {
        let (least, most, push): (_, _, fn(&mut String, u64)) = match self.kind {
            Kind::Number(least, most) => (least, most, |out, number| push_digits(out, number, 1)),
            Kind::Duration(least, most) => (least, most, push_duration),
            _ => return,
        };
        if (least, most) == (0, u64::MAX) {
            return;
        }
        out.push_str(before);
        push(out, least);
        if most == u64::MAX {
            out.push_str(" and up");
        } else {
            out.push_str(" to ");
            push(out, most);
        }
    }

    /// The allowed words.
    pub(super) fn words(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Choice(words) => words,
            Kind::Level => &LEVELS,
            _ => &[],
        }
    }
}

const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];

/// Names become variables, so other characters could turn two names into one variable.
const fn check_name(name: &str) {
    let bytes = name.as_bytes();
    assert!(!bytes.is_empty(), "a setting needs a name");
    let mut rest = bytes;
    while let [byte, others @ ..] = rest {
        assert!(
            matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'),
            "the name of a setting may contain only a-z, 0-9 and \"-\" between them"
        );
        rest = others;
    }
    assert!(
        !matches!(bytes.first(), Some(b'-')) && !matches!(bytes.last(), Some(b'-')),
        "the name of a setting may contain only a-z, 0-9 and \"-\" between them"
    );
}
