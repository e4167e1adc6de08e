//! A setting as an author declares it: a constant that knows its type.

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::found::{Secret, Value};
use super::row::{Default, Kind, Row};
use super::secret;
use crate::deadline::milliseconds;

/// A setting of a connector: a flag `--name=VALUE` and a variable `BATON_NAME`, whose value is a `T`.
///
/// A setting is a constant. It is declared to the [`App`](crate::App), and read with
/// [`Settings::get`](crate::Settings::get). The flag beats the variable, the variable beats the
/// default, and an empty variable counts as unset. A setting without a default is required, unless it
/// is [optional](Setting::optional).
///
/// | constructor | value | allowed |
/// |---|---|---|
/// | [`text`](Setting::text) | `String` | any text that is not empty |
/// | [`number`](Setting::number) | `u64` | a whole number, in a range |
/// | [`switch`](Setting::switch) | `bool` | `--name`, `--name=true`, `--name=false`; off by default |
/// | [`choice`](Setting::choice) | `&'static str` | one of some words |
/// | [`duration`](Setting::duration) | [`Duration`] | `30s`, `5m`, `1h30m`, `500ms`; a bare number is seconds |
/// | [`path`](Setting::path) | [`PathBuf`] | any path the system allows, UTF-8 or not |
/// | [`list`](Setting::list) | `Vec<String>` | parts between commas; the flag can be repeated; empty by default |
/// | [`secret`](Setting::secret) | [`Secret`] | `BATON_NAME`, or a file named by `--name-file` or `BATON_NAME_FILE` |
///
/// ```
/// use baton_health::{App, Secret, Setting};
/// use std::time::Duration;
///
/// const DOMAIN: Setting<String> =
///     Setting::text("domain", "HOST").help("Where the accounts are");
/// const PAGE_SIZE: Setting<u64> =
///     Setting::number("page-size", "COUNT").range(1..=1000).default(100);
/// const DRY_RUN: Setting<bool> = Setting::switch("dry-run").help("Change nothing");
/// const INTERVAL: Setting<Duration> =
///     Setting::duration("interval").default(Duration::from_secs(60));
/// const TOKEN: Setting<Option<Secret>> =
///     Setting::secret("token").help("What to sign in with").optional();
///
/// let app = App::new("baton-directory", "1")
///     .setting(&DOMAIN)
///     .setting(&PAGE_SIZE)
///     .setting(&DRY_RUN)
///     .setting(&INTERVAL)
///     .setting(&TOKEN);
/// let flags = ["--domain=example.com", "--interval=5m"];
/// let settings = app.try_parse_from(flags, &[("BATON_PAGE_SIZE", "50")])?;
/// assert_eq!(settings.get(&DOMAIN), "example.com");
/// assert_eq!(settings.get(&PAGE_SIZE), 50);
/// assert!(!settings.get(&DRY_RUN));
/// assert_eq!(settings.get(&INTERVAL), Duration::from_secs(300));
/// assert_eq!(settings.get(&TOKEN), None);
/// # Ok::<(), baton_health::UsageError>(())
/// ```
///
/// A name may contain a-z, 0-9 and `-` between them. A bad name, an empty range, and a default outside of it panic, so
/// they do not compile in a constant:
///
/// ```compile_fail
/// # use baton_health::Setting;
/// const PAGE_SIZE: Setting<u64> =
///     Setting::number("page-size", "COUNT").range(1..=1000).default(0);
/// # PAGE_SIZE.help("");
/// ```
#[must_use = "a setting has to be declared to the App"]
pub struct Setting<T> {
    pub(super) row: Row,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Setting<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Setting<T> {}

impl<T> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Setting").field(&self.row.name).finish()
    }
}

const fn typed<T>(row: Row) -> Setting<T> {
    Setting { row, value: PhantomData }
}

impl Setting<String> {
    /// Text that is not empty. `placeholder` stands for the value in `--help`.
    ///
    /// ```
    /// # use baton_health::{App, Setting};
    /// const DOMAIN: Setting<String> =
    ///     Setting::text("domain", "HOST").default("example.com");
    /// let app = App::new("baton-directory", "1").setting(&DOMAIN);
    /// assert_eq!(app.try_parse_from([""; 0], &[])?.get(&DOMAIN), "example.com");
    /// # Ok::<(), baton_health::UsageError>(())
    /// ```
    #[track_caller]
    pub const fn text(name: &'static str, placeholder: &'static str) -> Setting<String> {
        typed(Row::new(name, placeholder, Kind::Text, Default::Required))
    }

    /// The value if the setting is not given.
    pub const fn default(mut self, text: &'static str) -> Setting<String> {
        self.row.default = Default::Text(text);
        self
    }
}

impl Setting<u64> {
    /// A whole number, without a sign or a leading zero. Any that fits, unless [`range`](Setting::range) says less.
    ///
    /// ```
    /// # use baton_health::{App, Setting};
    /// const PAGE_SIZE: Setting<u64> =
    ///     Setting::number("page-size", "COUNT").range(1..=1000).default(100);
    /// let app = App::new("baton-directory", "1").setting(&PAGE_SIZE);
    /// assert_eq!(app.try_parse_from(["--page-size=50"], &[])?.get(&PAGE_SIZE), 50);
    /// assert!(app.try_parse_from(["--page-size=0"], &[]).is_err());
    /// # Ok::<(), baton_health::UsageError>(())
    /// ```
    #[track_caller]
    pub const fn number(name: &'static str, placeholder: &'static str) -> Setting<u64> {
        typed(Row::new(name, placeholder, Kind::Number(0, u64::MAX), Default::Required))
    }

    /// Allows only numbers in this range.
    ///
    /// # Panics
    ///
    /// If the range is empty or the default is outside of it.
    #[track_caller]
    pub const fn range(mut self, range: RangeInclusive<u64>) -> Setting<u64> {
        assert!(*range.start() <= *range.end(), "the range of a setting is empty");
        self.row.kind = Kind::Number(*range.start(), *range.end());
        self.checked()
    }

    /// The value if the setting is not given.
    ///
    /// # Panics
    ///
    /// If it is outside of the range.
    #[track_caller]
    pub const fn default(mut self, number: u64) -> Setting<u64> {
        self.row.default = Default::Number(number);
        self.checked()
    }

    #[track_caller]
    const fn checked(self) -> Setting<u64> {
        if let (Kind::Number(least, most), Default::Number(number)) = (self.row.kind, self.row.default) {
            assert!(least <= number && number <= most, "the default of a setting is outside of its range");
        }
        self
    }
}

impl Setting<bool> {
    /// A switch, off by default. Its variable takes the words that the flag takes after `=`: `true`, `t`, `1`, `false`,
    /// `f`, `0`, in small letters, in capitals or with one capital at the start.
    ///
    /// ```
    /// # use baton_health::{App, Setting};
    /// const DRY_RUN: Setting<bool> = Setting::switch("dry-run");
    /// let app = App::new("baton-directory", "1").setting(&DRY_RUN);
    /// assert!(app.try_parse_from(["--dry-run"], &[])?.get(&DRY_RUN));
    /// let variables = [("BATON_DRY_RUN", "true")];
    /// assert!(!app.try_parse_from(["--dry-run=false"], &variables)?.get(&DRY_RUN));
    /// # Ok::<(), baton_health::UsageError>(())
    /// ```
    #[track_caller]
    pub const fn switch(name: &'static str) -> Setting<bool> {
        typed(Row::new(name, "", Kind::Switch, Default::Text("false")))
    }

    /// The value if the setting is not given.
    pub const fn default(mut self, on: bool) -> Setting<bool> {
        self.row.default = Default::Text(if on { "true" } else { "false" });
        self
    }
}

impl Setting<&'static str> {
    /// One of these words.
    ///
    /// ```
    /// # use baton_health::{App, Setting};
    /// const MODE: Setting<&str> =
    ///     Setting::choice("mode", "MODE", &["full", "delta"]).default("full");
    /// let app = App::new("baton-directory", "1").setting(&MODE);
    /// assert_eq!(app.try_parse_from(["--mode=delta"], &[])?.get(&MODE), "delta");
    /// assert!(app.try_parse_from(["--mode=none"], &[]).is_err());
    /// # Ok::<(), baton_health::UsageError>(())
    /// ```
    #[track_caller]
    pub const fn choice(name: &'static str, placeholder: &'static str, words: &'static [&'static str]) -> Setting<&'static str> {
        typed(Row::new(name, placeholder, Kind::Choice(words), Default::Required))
    }

    /// The value if the setting is not given: one of the words. Another one makes [`App`](crate::App) panic.
    pub const fn default(mut self, word: &'static str) -> Setting<&'static str> {
        self.row.default = Default::Text(word);
        self
    }
}

impl Setting<Duration> {
    /// A time, to the millisecond: numbers with the units `h`, `m`, `s` and `ms`. A bare number is seconds.
    ///
    /// ```
    /// # use baton_health::{App, Setting};
    /// # use std::time::Duration;
    /// const INTERVAL: Setting<Duration> =
    ///     Setting::duration("interval").default(Duration::from_secs(60));
    /// let app = App::new("baton-directory", "1").setting(&INTERVAL);
    /// let settings = app.try_parse_from(["--interval=1h30m"], &[])?;
    /// assert_eq!(settings.get(&INTERVAL), Duration::from_secs(5400));
    /// # Ok::<(), baton_health::UsageError>(())
    /// ```
    #[track_caller]
    pub const fn duration(name: &'static str) -> Setting<Duration> {
        typed(Row::new(name, "TIME", Kind::Duration(0, u64::MAX), Default::Required))
    }

    /// Allows only times in this range.
    ///
    /// # Panics
    ///
    /// If the range is empty or the default is outside of it.
    #[track_caller]
    pub const fn range(mut self, range: RangeInclusive<Duration>) -> Setting<Duration> {
        let (least, most) = (milliseconds(*range.start()), milliseconds(*range.end()));
        assert!(least <= most, "the range of a setting is empty");
        self.row.kind = Kind::Duration(least, most);
        self.checked()
    }

    /// The value if the setting is not given.
    ///
    /// # Panics
    ///
    /// If it is outside of the range.
    #[track_caller]
    pub const fn default(mut self, time: Duration) -> Setting<Duration> {
        self.row.default = Default::Duration(milliseconds(time));
        self.checked()
    }

    #[track_caller]
    const fn checked(self) -> Setting<Duration> {
        if let (Kind::Duration(least, most), Default::Duration(time)) = (self.row.kind, self.row.default) {
            assert!(least <= time && time <= most, "the default of a setting is outside of its range");
        }
        self
    }
}

impl Setting<PathBuf> {
    /// A path, in any bytes that the system allows. Whether it exists is for the connector to find out.
    ///
    /// ```
    /// # use baton_health::{App, Setting};
    /// # use std::path::PathBuf;
    /// const FILE: Setting<PathBuf> = Setting::path("file", "FILE").default("/etc/passwd");
    /// let app = App::new("baton-directory", "1").setting(&FILE);
    /// assert!(app.try_parse_from([""; 0], &[])?.get(&FILE).is_absolute());
    /// # Ok::<(), baton_health::UsageError>(())
    /// ```
    #[track_caller]
    pub const fn path(name: &'static str, placeholder: &'static str) -> Setting<PathBuf> {
        typed(Row::new(name, placeholder, Kind::Path, Default::Required))
    }

    /// The value if the setting is not given.
    pub const fn default(mut self, path: &'static str) -> Setting<PathBuf> {
        self.row.default = Default::Text(path);
        self
    }
}

impl Setting<Vec<String>> {
    /// A list: `--name=a,b`, or `--name=a --name=b`. Spaces around a part do not count. Empty by default.
    ///
    /// ```
    /// # use baton_health::{App, Setting};
    /// const GROUPS: Setting<Vec<String>> = Setting::list("groups", "NAMES");
    /// let app = App::new("baton-directory", "1").setting(&GROUPS);
    /// let settings = app.try_parse_from(["--groups=a,b", "--groups=c"], &[])?;
    /// assert_eq!(settings.get(&GROUPS), ["a", "b", "c"]);
    /// # Ok::<(), baton_health::UsageError>(())
    /// ```
    #[track_caller]
    pub const fn list(name: &'static str, placeholder: &'static str) -> Setting<Vec<String>> {
        typed(Row::new(name, placeholder, Kind::List, Default::Text("")))
    }

    /// The value if the setting is not given.
    pub const fn default(mut self, list: &'static str) -> Setting<Vec<String>> {
        self.row.default = Default::Text(list);
        self
    }
}

impl Setting<Secret> {
    /// A secret: from its variable, or from a file that `--name-file` or `BATON_NAME_FILE` names, since other users of
    /// a machine can read command lines. Giving two of these is an error, as is a file that is empty, not UTF-8 or
    /// larger than 64 KiB. The file's last newline is not part of the secret. The secret is in no error message, and
    /// its type does not print it: see [`Secret`].
    #[track_caller]
    pub const fn secret(name: &'static str) -> Setting<Secret> {
        let mut row = Row::new(name, "FILE", Kind::Secret, Default::Required);
        row.secret = Some(secret::find);
        typed(row)
    }
}

impl<T: Value> Setting<T> {
    /// Makes the value an `Option`, which is `None` if the setting is not given. This replaces a default.
    ///
    /// ```
    /// # use baton_health::{App, Setting};
    /// const DOMAIN: Setting<Option<String>> =
    ///     Setting::text("domain", "HOST").optional();
    /// let app = App::new("baton-directory", "1").setting(&DOMAIN);
    /// assert_eq!(app.try_parse_from([""; 0], &[])?.get(&DOMAIN), None);
    /// # Ok::<(), baton_health::UsageError>(())
    /// ```
    pub const fn optional(mut self) -> Setting<Option<T>> {
        self.row.default = Default::Absent("");
        typed(self.row)
    }

    /// Says in `--help` what the setting is for, in a few words without a full stop. Empty by default.
    pub const fn help(mut self, help: &'static str) -> Setting<T> {
        self.row.help = help;
        self
    }

    /// Adds a flag of one letter: `-d VALUE` for `short('d')`. `h`, `v` and `V` are taken; [`App`](crate::App) panics
    /// if a letter is taken.
    ///
    /// ```
    /// # use baton_health::{App, Setting};
    /// const DOMAIN: Setting<String> =
    ///     Setting::text("domain", "HOST").short('d').variable("DIRECTORY_DOMAIN");
    /// let app = App::new("baton-directory", "1").setting(&DOMAIN);
    /// let settings = app.try_parse_from(["-d", "example.com"], &[])?;
    /// assert_eq!(settings.get(&DOMAIN), "example.com");
    /// let settings = app.try_parse_from([""; 0], &[("DIRECTORY_DOMAIN", "example.org")])?;
    /// assert_eq!(settings.get(&DOMAIN), "example.org");
    /// # Ok::<(), baton_health::UsageError>(())
    /// ```
    pub const fn short(mut self, letter: char) -> Setting<T> {
        self.row.short = Some(letter);
        self
    }

    /// Reads this variable instead of `BATON_` and the setting's name in capitals. [`App`](crate::App) panics if
    /// another setting has it.
    pub const fn variable(mut self, name: &'static str) -> Setting<T> {
        self.row.variable = Some(name);
        self
    }
}
