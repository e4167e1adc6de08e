//! Values of settings, read as their types.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::row::{Kind, Row, Source};
use super::value::{boolean, duration, whole_number};

/// A setting and its value.
pub(crate) struct Found {
    pub(super) row: Row,
    pub(super) text: OsString,
    pub(super) source: Source,
}

impl Found {
    pub(super) fn str(&self) -> &str {
        // All but paths have been checked to be UTF-8.
        self.text.to_str().unwrap_or_default()
    }
}

/// A type that a [`Setting`](crate::Setting) can have: `String`, `u64`, `bool`, `&'static str`,
/// [`Duration`], [`PathBuf`], `Vec<String>`, [`Secret`], or an `Option` of one. It cannot be implemented for other types.
pub trait Value: Read {}

impl<T: Read> Value for T {}

/// Seals [`Value`].
pub trait Read: Sized {
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn read(found: &Found) -> Option<Self>;
}

macro_rules! read {
    ($type:ty, $kind:pat, $found:ident => $value:expr) => {
        impl Read for $type {
            #[allow(private_interfaces)]
            fn read($found: &Found) -> Option<Self> {
                if matches!($found.row.kind, $kind) { $value } else { None }
            }
        }
    };
}

read!(String, Kind::Text, found => Some(found.str().to_owned()));
read!(u64, Kind::Number(..), found => whole_number(found.str()));
read!(bool, Kind::Switch, found => boolean(found.str()));
read!(Duration, Kind::Duration(..), found => duration(found.str()).map(Duration::from_millis));
read!(PathBuf, Kind::Path, found => Some(found.text.clone().into()));
read!(Secret, Kind::Secret, found => Some(Secret(found.str().to_owned())));
read!(&'static str, Kind::Choice(_), found => match found.row.kind {
    Kind::Choice(words) => words.iter().copied().find(|word| *word == found.str()),
    _ => None,
});
read!(Vec<String>, Kind::List, found => {
    Some(found.str().split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
});

impl<T: Read> Read for Option<T> {
    #[allow(private_interfaces)]
    fn read(found: &Found) -> Option<Self> {
        if found.source == Source::Absent { Some(None) } else { T::read(found).map(Some) }
    }
}

/// The value of a [secret setting](crate::Setting::secret): text that does not print itself.
///
/// ```
/// # use baton_health::{App, Secret, Setting};
/// const TOKEN: Setting<Secret> = Setting::secret("token");
/// let app = App::new("baton-directory", "1").setting(&TOKEN);
/// let settings = app.try_parse_from([""; 0], &[("BATON_TOKEN", "hunter2")])?;
/// let token = settings.get(&TOKEN);
/// assert_eq!(token.expose(), "hunter2");
/// assert_eq!(format!("{token:?}"), "Secret(..)");
/// # Ok::<(), baton_health::UsageError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text. Hand it to what needs it, and keep it out of logs and errors.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
