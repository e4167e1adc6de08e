//! What the settings of a running connector are.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::address::{DEFAULT_ADDRESS, DEFAULT_PORT, parse_ip};
use crate::cli::setting::{Kind, Setting, Source, boolean, whole_number};
use crate::connector::BoxError;

/// What the settings of a running connector are.
#[derive(Default)]
pub struct Settings {
    values: Vec<Value>,
}

struct Value {
    row: Setting,
    text: Cow<'static, str>,
    source: Source,
}

impl fmt::Debug for Settings {
    /// The names only: values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.iter().map(|value| value.row.name)).finish()
    }
}

impl Settings {
    /// The value of a setting: given, or its default.
    ///
    /// # Panics
    ///
    /// When no [`Setting`] of that name was given to the [`App`](crate::App). What is required is
    /// there by the time anyone can ask.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        &self.value(name).text
    }

    /// The value of a setting with a [`range`](Setting::range).
    ///
    /// # Panics
    ///
    /// When no such [`Setting`] was given to the [`App`](crate::App), or it has no range.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        match (&self.value(name).row.kind, whole_number(self.get(name))) {
            (Kind::Number(..), Some(number)) => number,
            _ => misused(name, "has no range"),
        }
    }

    /// Whether a [`flag`](Setting::flag) is on, or another setting was given rather than left at its default.
    ///
    /// # Panics
    ///
    /// When no [`Setting`] of that name was given to the [`App`](crate::App).
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        let value = self.value(name);
        match value.row.kind {
            Kind::Flag => boolean(&value.text) == Some(true),
            _ => value.source != Source::Default,
        }
    }

    /// The value of a setting as a `T`.
    ///
    /// # Errors
    ///
    /// What `T` says of a value it cannot be made from, behind the flag or variable and the value.
    ///
    /// # Panics
    ///
    /// When no [`Setting`] of that name was given to the [`App`](crate::App).
    pub fn parse<T>(&self, name: &str) -> Result<T, BoxError>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let value = self.value(name);
        value
            .text
            .parse()
            .map_err(|error: T::Err| value.row.invalid(value.source, OsStr::new(&*value.text), &error.to_string()).into())
    }

    fn value(&self, name: &str) -> &Value {
        match self.values.iter().find(|value| value.row.name == name) {
            Some(value) => value,
            None => misused(name, "was not given to the App"),
        }
    }

    pub(crate) fn push(&mut self, row: Setting, text: Cow<'static, str>, source: Source) {
        self.values.push(Value { row, text, source });
    }

    /// The address and port that those two settings say.
    pub(crate) fn socket_address(&self, bind_address: &str, port: &str) -> SocketAddr {
        let ip = parse_ip(self.get(bind_address)).unwrap_or(DEFAULT_ADDRESS);
        SocketAddr::new(ip, self.get(port).parse().unwrap_or(DEFAULT_PORT))
    }
}

/// The author's mistake, which the first run finds; documented where it can happen.
#[allow(clippy::panic)]
fn misused(name: &str, how: &str) -> ! {
    panic!("the setting {name} {how}")
}
