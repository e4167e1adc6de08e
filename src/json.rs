//! JSON strings (RFC 8259), written and read.

use std::str::Chars;

use crate::text::push_hex;

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

/// The JSON string at the start of `json`, and the text after it. `None` if there is none.
pub(crate) fn read_string(json: &str) -> Option<(String, &str)> {
    let mut chars = json.strip_prefix('"')?.chars();
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' => return Some((text, chars.as_str())),
            '\\' => text.push(escaped(&mut chars)?),
            '\0'..='\u{1f}' => return None,
            c => text.push(c),
        }
    }
}

/// The character that an escape stands for, after its backslash.
fn escaped(chars: &mut Chars<'_>) -> Option<char> {
    Some(match chars.next()? {
        c @ ('"' | '\\' | '/') => c,
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => match four_digits(chars)? {
            // Characters beyond the first 65,536 are written as two surrogates.
            high @ 0xd800..=0xdbff => match (chars.next()?, chars.next()?, four_digits(chars)?) {
                ('\\', 'u', low @ 0xdc00..=0xdfff) => char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))?,
                _ => return None,
            },
            code => char::from_u32(code)?,
        },
        _ => return None,
    })
}

fn four_digits(chars: &mut Chars<'_>) -> Option<u32> {
    (0..4).try_fold(0, |code, _| Some(code << 4 | chars.next()?.to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let read = read_string(json);
            assert_eq!(read.as_ref().map(|(text, rest)| (&**text, *rest)), expected, "{json}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let last = if cfg!(miri) { '\u{ff}' } else { '\u{3000}' };
        for c in ('\0'..=last).chain('\u{fff0}'..='\u{1_000f}') {
            let json = text(|out| json_string(out, &String::from(c)));
            assert_eq!(read_string(&json), Some((String::from(c), "")), "{json}");
        }
    }

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn json_strings_are_valid_whatever_they_hold() {
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
