//! JSON strings (RFC 8259).

use crate::text::push_hex;

/// A JSON string (RFC 8259 section 7). Control characters are escaped, those of a terminal
/// (DEL, C1) too, so that it can be shown as it is.
pub(crate) fn json_string(out: &mut String, text: &str) {
    json_string_with(out, text, "");
}

pub(crate) fn json_string_with(out: &mut String, text: &str, end: &str) {
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
    out.push_str(end);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

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
