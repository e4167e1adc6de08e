//! The grammar of HTTP/1.1 heads that both parsers share (RFC 9112, RFC 9110), over plain bytes: no
//! sockets, no clocks.
//!
//! Both parsers are pure functions of all bytes that have arrived so far. `Ok(None)` means that more
//! bytes are needed. An error is final. A parser decides at the first byte that allows a decision, so the
//! result does not depend on how the bytes were split on the way.

use crate::text::after_start;

#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
pub(crate) mod request;
pub(crate) mod response;

/// These bytes are not HTTP/1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// `HTTP/` digit `.` digit (RFC 9112 section 2.3).
pub(crate) fn version_of(text: &[u8]) -> Option<(u8, u8)> {
    match after_start(text, b"HTTP/")? {
        [major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9'] => Some((major - b'0', minor - b'0')),
        _ => None,
    }
}

/// The bytes before a mark, and the bytes after it.
pub(crate) type Halves<'a> = (&'a [u8], &'a [u8]);

/// The first line and the bytes after it, or `None` while its end has not arrived. The line ends in LF,
/// with or without a CR before it (RFC 9112 section 2.2). Any other CR, and every byte that is not
/// `allowed`, is an error as soon as it arrives.
pub(crate) fn line(bytes: &[u8], allowed: impl Fn(u8) -> bool) -> Result<Option<Halves<'_>>, Malformed> {
    let Some((text, rest)) = bytes.iter().position(|&byte| !allowed(byte)).and_then(|at| bytes.split_at_checked(at)) else {
        return Ok(None);
    };
    match rest {
        [b'\n', after @ ..] | [b'\r', b'\n', after @ ..] => Ok(Some((text, after))),
        b"\r" => Ok(None),
        _ => Err(Malformed),
    }
}

/// Hands each field's name and value to `note`, up to the empty line that ends a head. Returns the bytes after that
/// line, or `None` while it has not arrived.
pub(crate) fn fields<'a>(
    mut rest: &'a [u8],
    note: &mut dyn FnMut(&'a [u8], &'a [u8]) -> Result<(), Malformed>,
) -> Result<Option<&'a [u8]>, Malformed> {
    while let Some((text, after)) = line(rest, is_field_content)? {
        if text.is_empty() {
            return Ok(Some(after));
        }
        let (name, value) = field(text)?;
        note(name, value)?;
        rest = after;
    }
    Ok(None)
}

/// `field-name ":" OWS field-value OWS` (RFC 9112 section 5). A space before the colon fails, and so does a
/// folded line: in both cases the text before the colon is not a token.
fn field(text: &[u8]) -> Result<Halves<'_>, Malformed> {
    let (name, value) = split(text, b':').ok_or(Malformed)?;
    if is_token(name) { Ok((name, value.trim_ascii())) } else { Err(Malformed) }
}

/// The bytes before and after the first `mark`.
pub(crate) fn split(bytes: &[u8], mark: u8) -> Option<Halves<'_>> {
    let at = bytes.iter().position(|&byte| byte == mark)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// Everything but control characters, the tab excepted (RFC 9110 section 5.5).
pub(crate) fn is_field_content(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// A token (RFC 9110 section 5.6.2): methods and field names.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
