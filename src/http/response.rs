//! Parses the head of an answer, for the probe.

use super::{Malformed, fields, is_field_content, line, split, version_of};
use crate::limits::MAX_RESPONSE_HEAD;
use crate::text::parse_digits;

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    pub(crate) reason: &'a [u8],
    /// `Content-Length`, when it is a number that fits.
    pub(crate) length: Option<u64>,
    /// `Location`: where a redirect points.
    pub(crate) location: Option<&'a [u8]>,
    /// Bytes in the head.
    pub(crate) len: usize,
}

/// Parses the head of an answer, strictly enough to tell HTTP/1 from other protocols.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Response<'_>>, Malformed> {
    let window = bytes.get(..MAX_RESPONSE_HEAD).unwrap_or(bytes);
    let more = || if bytes.len() < MAX_RESPONSE_HEAD { Ok(None) } else { Err(Malformed) };

    // Decide at the first wrong byte: a server of another protocol may send no more until the client speaks.
    let start = b"HTTP/1.";
    if !window.iter().zip(start).all(|(byte, expected)| byte == expected) {
        return Err(Malformed);
    }
    let Some((first, rest)) = line(window, is_field_content)? else { return more() };
    let (status, reason) = status_line(first).ok_or(Malformed)?;
    let (mut length, mut location) = (None, None);
    let after = fields(rest, &mut |name, value| {
        if name.eq_ignore_ascii_case(b"content-length") && value.iter().all(u8::is_ascii_digit) {
            length = parse_digits(value);
        } else if name.eq_ignore_ascii_case(b"location") {
            location = Some(value);
        }
        Ok(())
    })?;
    let Some(after) = after else { return more() };
    Ok(Some(Response { status, reason, length, location, len: window.len() - after.len() }))
}

/// `HTTP-version SP 3DIGIT [ SP reason-phrase ]` (RFC 9112 section 4); the last space may be missing.
fn status_line(text: &[u8]) -> Option<(u16, &[u8])> {
    let (version, rest) = split(text, b' ')?;
    version_of(version)?;
    let (code, reason) = split(rest, b' ').unwrap_or((rest, b""));
    match code {
        [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => Some((parse_digits(code)?.try_into().ok()?, reason)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(start: &str, fill: usize, end: &str) -> Vec<u8> {
        [start, &"a".repeat(fill), end].concat().into_bytes()
    }

    #[test]
    fn valid_status_lines_are_parsed_and_others_refused() {
        for (line, expected) in [
            // RFC 9112 section 4, the last space being optional.
            ("HTTP/1.1 200 OK", Some((200, "OK"))),
            ("HTTP/1.0 200 OK", Some((200, "OK"))),
            ("HTTP/1.1 200 ", Some((200, ""))),
            ("HTTP/1.1 200", Some((200, ""))),
            ("HTTP/1.1 200  two", Some((200, " two"))),
            ("HTTP/1.1 100 Continue", Some((100, "Continue"))),
            ("HTTP/1.1 503 Service Unavailable", Some((503, "Service Unavailable"))),
            ("HTTP/1.1 599 \u{e9}t\u{e9}\ttabbed", Some((599, "\u{e9}t\u{e9}\ttabbed"))),
            ("HTTP/1.1 999", Some((999, ""))),
            ("HTTP/1.1 099", None),
            ("HTTP/1.1 000", None),
            ("HTTP/1.1 20", None),
            ("HTTP/1.1 2000", None),
            ("HTTP/1.1 20x", None),
            ("HTTP/1.1 +20", None),
            ("HTTP/1.1 -20", None),
            ("HTTP/1.1 200OK", None),
            ("HTTP/1.1 200\tOK", None),
            ("HTTP/1.1  200 OK", None),
            ("HTTP/1.1\t200 OK", None),
            ("HTTP/1.1", None),
            ("HTTP/1.1 ", None),
            ("HTTP/1.x 200 OK", None),
            ("HTTP/1.10 200 OK", None),
            ("HTTP/2.0 200 OK", None),
            ("HTTP/2 200", None),
            ("http/1.1 200 OK", None),
            ("ICY 200 OK", None),
            (" HTTP/1.1 200 OK", None),
            ("", None),
            ("HTTP/1.1 200 \u{1b}[32mOK", None),
            ("HTTP/1.1 200 O\0K", None),
            ("HTTP/1.1 200 O\rK", None),
        ] {
            for end in ["\r\n", "\n"] {
                let head = [line, end, end].concat();
                let expected = expected.map(|(status, reason)| {
                    Some(Response { status, reason: reason.as_bytes(), length: None, location: None, len: head.len() })
                });
                assert_eq!(parse(head.as_bytes()), expected.ok_or(Malformed), "{line:?}");
            }
        }
    }

    #[test]
    fn response_fields_are_checked_and_content_length_is_read() {
        let ok = |length| Ok(length);
        for (fields, expected) in [
            ("", ok(None)),
            ("Content-Length: 12\r\n", ok(Some(12))),
            ("content-length:\t12 \r\nX: \u{e9}\r\n", ok(Some(12))),
            ("Content-Length: 18446744073709551615\r\n", ok(Some(u64::MAX))),
            // A malformed length does no harm: the status is known, and the answer ends with the connection.
            ("Content-Length: 18446744073709551616\r\n", ok(None)),
            ("Content-Length: x\r\n", ok(None)),
            ("Content-Length: -1\r\n", ok(None)),
            ("Content-Length: +1\r\n", ok(None)),
            ("Content-Length:\r\n", ok(None)),
            ("no colon\r\n", Err(Malformed)),
            ("X : y\r\n", Err(Malformed)),
            (" X: y\r\n", Err(Malformed)),
            ("X: y\r\n folded\r\n", Err(Malformed)),
            ("X: \x1b[2J\r\n", Err(Malformed)),
            ("X: a\rb\r\n", Err(Malformed)),
            ("X: a\0b\r\n", Err(Malformed)),
            (": y\r\n", Err(Malformed)),
        ] {
            let head = ["HTTP/1.1 200 OK\r\n", fields, "\r\n"].concat();
            assert_eq!(parse(head.as_bytes()).map(|response| response.unwrap().length), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_redirects_location_is_read() {
        for (fields, expected) in [
            ("Location: http://a/b\r\n", Some("http://a/b")),
            ("location:\t/b \r\nX: y\r\n", Some("/b")),
            ("Location:\r\n", Some("")),
            ("Content-Location: /c\r\n", None),
            ("", None),
        ] {
            let head = ["HTTP/1.1 302 Found\r\n", fields, "\r\n"].concat();
            let location = parse(head.as_bytes()).unwrap().unwrap().location;
            assert_eq!(location, expected.map(str::as_bytes), "{fields:?}");
        }
    }

    #[test]
    fn bytes_that_cannot_become_a_response_are_refused_at_once() {
        for start in [&b"h"[..], b"\r", b"\n", b" ", b"HTTP/2", b"HTTP/1.1 2\0", b"SSH-", b"\x15\x03", b"<html>"] {
            assert_eq!(parse(start), Err(Malformed), "{}", start.escape_ascii());
        }
        for start in [&b""[..], b"H", b"HTTP/1.", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nX: y\r\n\r"] {
            assert_eq!(parse(start), Ok(None), "{}", start.escape_ascii());
        }
    }

    #[test]
    fn response_heads_end_at_the_limit() {
        const LINE: &str = "HTTP/1.1 200 OK\r\nX: ";
        let room = MAX_RESPONSE_HEAD - LINE.len() - 4;
        assert_eq!(parse(&long(LINE, room, "\r\n\r\n")).unwrap().unwrap().len, MAX_RESPONSE_HEAD);
        for (fill, end) in [(room + 1, "\r\n\r\n"), (room + 4, ""), (100_000, "")] {
            assert_eq!(parse(&long(LINE, fill, end)), Err(Malformed), "{fill}");
        }
        assert_eq!(parse(&long(LINE, room + 3, "")), Ok(None));
        assert_eq!(parse(&long("HTTP/1.1 200 ", 100_000, "\r\n\r\n")), Err(Malformed));
    }
}
