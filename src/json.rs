//! JSON strings (RFC 8259), written and read.

use crate::text::{after_start, push_hex};

/// Writes a JSON string (RFC 8259 section 7). Control characters are escaped, also those that JSON
/// allows (DEL and C1), so that a terminal can show the text as it is.
pub(crate) fn json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // All control characters are below U+00A0.
            _ if c.is_control() => {
                out.push_str("\\u00");
                push_hex(out, u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// Writes one more member of an object: its name and its value, a string.
pub(crate) fn json_member(out: &mut String, name: &str, value: &str) {
    out.push(',');
    json_string(out, name);
    out.push(':');
    json_string(out, value);
}

/// Decodes the JSON string at the start of `json` into `text`, and returns the bytes after it. `None` if
/// `json` does not start with a whole string. Bytes that are not UTF-8 stay as they are.
pub(crate) fn read_string<'a>(json: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut bytes = json.strip_prefix(b"\"")?;
    loop {
        let (&byte, rest) = bytes.split_first()?;
        bytes = rest;
        match byte {
            b'"' => return Some(bytes),
            b'\\' => bytes = read_escape(bytes, text)?,
            0..=0x1f => return None,
            _ => text.push(byte),
        }
    }
}

/// Decodes an escape into `text`, and returns the bytes after it. `json` starts after the backslash.
fn read_escape<'a>(json: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&byte, rest) = json.split_first()?;
    text.push(match byte {
        b'"' | b'\\' | b'/' => byte,
        b'b' => b'\x08',
        b'f' => b'\x0c',
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return read_code(rest, text),
        _ => return None,
    });
    Some(rest)
}

/// Decodes the digits of a `\u` escape into `text`, and returns the bytes after it. JSON writes a character
/// beyond U+FFFF as two such escapes, the surrogates.
fn read_code<'a>(json: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (mut code, mut rest) = four_digits(json)?;
    if let 0xd800..=0xdbff = code {
        let (low @ 0xdc00..=0xdfff, after) = four_digits(after_start(rest, b"\\u")?)? else { return None };
        (code, rest) = (0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00), after);
    }
    let c = char::from_u32(code)?;
    text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    Some(rest)
}

fn four_digits(json: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = json.split_at_checked(4)?;
    let mut code = 0;
    for &digit in digits {
        code = code << 4 | char::from(digit).to_digit(16)?;
    }
    Some((code, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<(String, &str)> {
        let mut text = Vec::new();
        let rest = read_string(json.as_bytes(), &mut text)?;
        Some((String::from_utf8(text).unwrap(), std::str::from_utf8(rest).unwrap()))
    }

    #[test]
    fn strings_are_read_to_their_end_or_refused() {
        for (json, expected) in [
            (r#""""#, Some(("", ""))),
            (r#""plain",1"#, Some(("plain", ",1"))),
            (r#""a\"\\\/b" "#, Some(("a\"\\/b", " "))),
            (r#""\b\f\n\r\t""#, Some(("\u{8}\u{c}\n\r\t", ""))),
            (r#""\u0000\u00e9\uFFFD\ud83d\udc4b""#, Some(("\0\u{e9}\u{fffd}\u{1f44b}", ""))),
            ("\"\u{7f}\u{9b}\u{1f44b}\"", Some(("\u{7f}\u{9b}\u{1f44b}", ""))),
            ("", None),
            ("plain", None),
            (" \"a\"", None),
            ("\"a", None),
            ("\"a\n\"", None),
            ("\"\u{1f}\"", None),
            (r#""\"#, None),
            (r#""\""#, None),
            (r#""\x41""#, None),
            (r#""\u""#, None),
            (r#""\u00g0""#, None),
            (r#""\u+041""#, None),
            (r#""\u004""#, None),
            (r#""\ud83d""#, None),
            (r#""\ud83d\n""#, None),
            (r#""\ud83d\ud83d""#, None),
            (r#""\udc4b""#, None),
        ] {
            assert_eq!(read(json), expected.map(|(text, rest)| (text.to_owned(), rest)), "{json}");
        }
    }

    #[test]
    fn written_strings_are_read_back() {
        let last = if cfg!(miri) { '\u{ff}' } else { '\u{3000}' };
        for c in ('\0'..=last).chain('\u{fff0}'..='\u{1_000f}') {
            let json = text(|out| json_string(out, &String::from(c)));
            assert_eq!(read(&json), Some((String::from(c), "")), "{json}");
        }
    }

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn json_strings_are_valid_for_any_text() {
        for (input, expected) in [
            ("", r#""""#),
            ("plain", r#""plain""#),
            ("\"\\/", r#""\"\\/""#),
            ("a\nb\rc\td", r#""a\nb\rc\td""#),
            ("\0\u{1}\u{1f} \u{1b}[31m", r#""\u0000\u0001\u001f \u001b[31m""#),
            ("\u{7f}\u{80}\u{9b}\u{a0}", "\"\\u007f\\u0080\\u009b\u{a0}\""),
            ("grüße 👋 \u{2028}", "\"grüße 👋 \u{2028}\""),
        ] {
            assert_eq!(text(|out| json_string(out, input)), expected);
        }
    }
}
