//! Secrets as containers get them: from a variable, or from a file that a flag or another variable names.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};

use super::mistakes::printable;
use super::row::{Environment, Row, Source};

/// Bytes in a secret's file. A longer file is an error: it is probably not the secret.
const MAX_FILE: u64 = 64 * 1024;

/// The secret and where it came from, if it was given.
///
/// # Errors
///
/// The message, if there are two sources or the file cannot be used.
pub(super) fn find(row: &Row, file: Option<&OsStr>, environment: Environment<'_>) -> Result<Option<(OsString, Source)>, String> {
    let [variable, file_variable] = [Source::Variable, Source::FileVariable].map(|source| row.origin(source));
    let read = |name: &str| environment(name).filter(|value| !value.is_empty());
    let file = match file {
        Some(path) => Some((path.to_owned(), Source::FileFlag)),
        None => read(&file_variable).map(|path| (path, Source::FileVariable)),
    };
    match (read(&variable), file) {
        (Some(_), Some((_, source))) => Err([&variable, " and ", &row.origin(source), " are both set: one is enough"].concat()),
        (Some(value), None) => match value.to_str() {
            Some(_) => Ok(Some((value, Source::Variable))),
            None => Err(["invalid ", &variable, ": expected UTF-8"].concat()),
        },
        (None, Some((path, source))) => match contents(&path) {
            Ok(text) => Ok(Some((text.into(), source))),
            Err(error) => Err([&row.origin(source), " ", &printable(&path), ": ", &error.to_string()].concat()),
        },
        (None, None) => Ok(None),
    }
}

fn contents(path: &OsStr) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::other("larger than 64 KiB"));
    }
    let line = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
    let length = line.map_or(text.len(), str::len);
    text.truncate(length);
    if text.is_empty() { Err(io::Error::other("the file is empty")) } else { Ok(text) }
}
