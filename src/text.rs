//! Text for people: digits, escapes for a terminal, and a bound on length.

/// Cuts `text` so that it fits into `max` bytes with the mark of the cut. Returns both parts; the mark is
/// empty if nothing was cut.
pub(crate) fn bounded(text: &str, max: usize) -> (&str, &'static str) {
    const CUT: &str = "...";
    if text.len() <= max {
        return (text, "");
    }
    let mut end = max.saturating_sub(CUT.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    (text.get(..end).unwrap_or_default(), CUT)
}

/// Whether a character breaks or reorders the line it is in: a separator of lines, or a mark of the direction of text
/// (UAX 9).
fn moves_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes untrusted bytes for a terminal, in one line and with control characters escaped. What is not UTF-8, or moves
/// the text around it, becomes the replacement character.
pub(crate) fn escape_for_terminal(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                out.push_str("\\x");
                push_hex(out, u32::from(c));
            } else {
                out.push(if moves_text(c) { char::REPLACEMENT_CHARACTER } else { c });
            }
        }
        if !chunk.invalid().is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// The bytes after `start`. One function for all lengths: std's is made anew for each.
pub(crate) fn after_start<'a>(bytes: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let (first, rest) = bytes.split_at_checked(start.len())?;
    (first == start).then_some(rest)
}

/// Writes the lowest two hexadecimal digits.
pub(crate) fn push_hex(out: &mut String, number: u32) {
    push_number(out, (number & 0xff).into(), 16, 2);
}

/// The number that decimal digits write, if it fits. One function for all sizes: each of std's is 300 bytes of code.
pub(crate) fn parse_digits(digits: &[u8]) -> Option<u64> {
    let mut number: u64 = 0;
    for digit in digits {
        let value = char::from(*digit).to_digit(10)?;
        number = number.checked_mul(10)?.checked_add(value.into())?;
    }
    if digits.is_empty() { None } else { Some(number) }
}

/// Writes `number` in decimal, with leading zeros up to `width` digits.
pub(crate) fn push_digits(out: &mut String, number: u64, width: u32) {
    push_number(out, number, 10, width);
}

/// Writes `number` to the base `radix`, which is at most 16, with leading zeros up to `width` digits.
pub(crate) fn push_number(out: &mut String, number: u64, radix: u64, width: u32) {
    if number >= radix || width > 1 {
        push_number(out, number / radix, radix, width.saturating_sub(1));
    }
    let digit = (number % radix) as u8;
    out.push(char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }));
}

/// What the times of [`Checks`](crate::Checks) begin with: `api: gone (times: token 3 ms, api 12 ms)`.
pub(crate) const TIMES: &str = " (times: ";

/// A text without the times at its end. The server leaves them out of a text that is too long, and the probe out of
/// every text.
pub(crate) fn without_times(text: &str) -> &str {
    text.get(..times_start(text.as_bytes())).unwrap_or(text)
}

/// Where the times in a text start. Its length if it has none.
pub(crate) fn times_start(text: &[u8]) -> usize {
    let start = text.windows(TIMES.len()).rposition(|window| window == TIMES.as_bytes());
    start.filter(|_| text.ends_with(b" ms)")).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters_and_marked() {
        for (input, max, expected) in [
            ("abcdef", 6, ("abcdef", "")),
            ("abcdefg", 6, ("abc", "...")),
            ("ab\u{20ac}defg", 6, ("ab", "...")),
            ("abcdefg", 2, ("", "...")),
            ("", 0, ("", "")),
        ] {
            assert_eq!(bounded(input, max), expected, "{input} {max}");
        }
    }

    #[test]
    fn times_are_left_out_only_at_the_end() {
        for (input, expected) in [
            ("api: gone (times: token 3 ms, api 12 ms)", "api: gone"),
            ("storage: index: gone (times: index 1 ms) (times: storage 2 ms)", "storage: index: gone (times: index 1 ms)"),
            (" (times: \u{e9} 3 ms)", ""),
            ("api: gone (times: token 3 ms), really", "api: gone (times: token 3 ms), really"),
            ("no answer (after 12 ms)", "no answer (after 12 ms)"),
            ("gone (times: 12 ms", "gone (times: 12 ms"),
            (" ms)", " ms)"),
            ("", ""),
        ] {
            assert_eq!(without_times(input), expected);
        }
    }

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn text_for_a_terminal_has_no_control_characters() {
        for (input, expected) in [
            (&b"plain \xc3\xa9"[..], "plain \u{e9}"),
            (b"a\r\nb\x1b[2J\x7f", "a\\x0d\\x0ab\\x1b[2J\\x7f"),
            (b"\xc2\x9b1m", "\\x9b1m"),
            (b"\xff\xfe!", "\u{fffd}\u{fffd}!"),
            ("\u{2029}a\u{202e}b\u{2066}c\u{61c}d\u{200f}".as_bytes(), "\u{fffd}a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}"),
            ("\u{2027}\u{200d}\u{202f}\u{206a}".as_bytes(), "\u{2027}\u{200d}\u{202f}\u{206a}"),
        ] {
            assert_eq!(text(|out| escape_for_terminal(out, input)), expected);
        }
    }
}
