//! Parses the texts of settings: numbers, switches, times, levels.

use crate::event::Level;
use crate::text::{parse_digits, push_digits};

/// The words of Go's `strconv.ParseBool`, as the Go connectors use it.
pub(super) fn boolean(text: &str) -> Option<bool> {
    if ["1", "t", "T", "true", "TRUE", "True"].contains(&text) {
        Some(true)
    } else if ["0", "f", "F", "false", "FALSE", "False"].contains(&text) {
        Some(false)
    } else {
        None
    }
}

/// Only decimal digits: no sign, no space, and no leading zero, which some programs read as octal.
pub(super) fn whole_number(text: &str) -> Option<u64> {
    if text.len() > 1 && text.starts_with('0') { None } else { parse_digits(text.as_bytes()) }
}

/// The units of a time, in milliseconds.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// The milliseconds of `30s`, `5m`, `1h30m` or `500ms`; a number without a unit is in seconds.
pub(super) fn duration(text: &str) -> Option<u64> {
    if let Some(seconds) = whole_number(text) {
        return seconds.checked_mul(1000);
    }
    let (mut rest, mut sum) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit = rest.bytes().skip(digits).take_while(u8::is_ascii_alphabetic).count();
        let (number, unit) = (rest.get(..digits)?, rest.get(digits..digits + unit)?);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(whole_number(number)?.checked_mul(*factor)?)?;
        rest = rest.get(digits + unit.len()..)?;
    }
    (!text.is_empty()).then_some(sum)
}

/// A time in milliseconds, in the largest unit that makes it a whole number.
pub(super) fn push_duration(out: &mut String, time: u64) {
    let largest = UNITS.iter().rev().find(|(_, factor)| time >= *factor && time % factor == 0);
    let (unit, factor) = largest.unwrap_or(&("s", 1000));
    push_digits(out, time / factor, 1);
    out.push_str(unit);
}

/// As in the Go connectors, case does not count. Their levels that end the process mean `error` here.
pub(super) fn level(text: &str) -> Option<Level> {
    const WORDS: [(&str, Level); 8] = [
        ("debug", Level::Debug),
        ("info", Level::Info),
        ("warn", Level::Warn),
        ("warning", Level::Warn),
        ("error", Level::Error),
        ("dpanic", Level::Error),
        ("panic", Level::Error),
        ("fatal", Level::Error),
    ];
    WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, level)| *level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_booleans_are_plain() {
        for (text, expected) in [("0", Some(0)), ("10", Some(10)), ("18446744073709551615", Some(u64::MAX))] {
            assert_eq!(whole_number(text), expected);
        }
        for text in ["", "00", "01", "+1", "-1", " 1", "1 ", "1_000", "0x1", "1.0", "\u{661}", "18446744073709551616"] {
            assert_eq!(whole_number(text), None, "{text:?}");
        }
        for (words, expected) in [
            (&["1", "t", "T", "true", "TRUE", "True"][..], Some(true)),
            (&["0", "f", "F", "false", "FALSE", "False"], Some(false)),
            (&["", "yes", "no", "on", "off", "tRUE", "fALSE", "2", "true ", "01"], None),
        ] {
            for word in words {
                assert_eq!(boolean(word), expected, "{word:?}");
            }
        }
    }

    #[test]
    fn times_have_units_and_seconds_need_none() {
        for (text, milliseconds, shown) in [
            ("0", 0, "0s"),
            ("5", 5000, "5s"),
            ("90s", 90_000, "90s"),
            ("60", 60_000, "1m"),
            ("1m30s", 90_000, "90s"),
            ("24h", 86_400_000, "24h"),
            ("1500ms", 1500, "1500ms"),
            ("1s500ms", 1500, "1500ms"),
        ] {
            let mut out = String::new();
            push_duration(&mut out, milliseconds);
            assert_eq!((duration(text), &*out), (Some(milliseconds), shown), "{text}");
        }
        for text in ["", "s", "5 s", "05s", "-5s", "1.5s", "5S", "5d", "5s ", "5s5", "1h-5m", "18446744073709551615h"] {
            assert_eq!(duration(text), None, "{text:?}");
        }
    }
}
