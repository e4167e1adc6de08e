//! A verdict and a time become the JSON body; JSON strings; RFC 3339 and HTTP dates; addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::endpoint::Endpoint;
use crate::limits::MAX_ERROR_TEXT;

/// Why an endpoint answers 503, in the words of the wire format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Details<'a> {
    /// `details.error`: which check failed.
    pub(crate) error: &'a str,
    /// A second member of `details` with the reason, where there is one and the client may have it.
    pub(crate) reason: Option<(&'a str, &'a str)>,
}

/// The body of an endpoint's answer, newline included.
pub(crate) fn body(out: &mut String, endpoint: Endpoint, now: SystemTime, failure: Option<Details<'_>>) {
    out.push_str("{\"status\":\"");
    out.push_str(if failure.is_some() { endpoint.bad_word() } else { endpoint.good_word() });
    out.push_str("\",\"timestamp\":\"");
    Civil::new(now).rfc3339(out);
    out.push('"');
    if let Some(Details { error, reason }) = failure {
        out.push_str(",\"details\":{\"error\":");
        json_string(out, error);
        if let Some((name, text)) = reason {
            out.push(',');
            json_string(out, name);
            out.push(':');
            let (text, cut) = bounded(text, MAX_ERROR_TEXT);
            json_string_with(out, text, cut);
        }
        out.push('}');
    }
    out.push_str("}\n");
}

/// As much of `text` as fits into `max` bytes, and what marks it as cut.
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

/// A JSON string (RFC 8259 section 7). Control characters are escaped, those of a terminal
/// (DEL, C1) too, so that it can be shown as it is.
pub(crate) fn json_string(out: &mut String, text: &str) {
    json_string_with(out, text, "");
}

fn json_string_with(out: &mut String, text: &str, end: &str) {
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

/// Bytes from elsewhere as text for a terminal: in one line, control characters escaped.
pub(crate) fn printable(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                out.push_str("\\x");
                push_hex(out, u32::from(c));
            } else {
                out.push(c);
            }
        }
        if !chunk.invalid().is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// An address as [`SocketAddr`] itself prints it, which costs 5 kB of program more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address(pub(crate) SocketAddr);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.push(&mut text);
        f.write_str(&text)
    }
}

impl Address {
    pub(crate) fn push(self, out: &mut String) {
        match self.0.ip() {
            IpAddr::V4(ip) => push_ipv4(out, ip),
            IpAddr::V6(ip) => {
                out.push('[');
                push_ipv6(out, ip);
                if let SocketAddr::V6(address) = self.0 {
                    if address.scope_id() != 0 {
                        out.push('%');
                        push_digits(out, address.scope_id().into(), 1);
                    }
                }
                out.push(']');
            }
        }
        out.push(':');
        push_digits(out, self.0.port().into(), 1);
    }
}

fn push_ipv4(out: &mut String, ip: Ipv4Addr) {
    for (place, byte) in ip.octets().into_iter().enumerate() {
        if place > 0 {
            out.push('.');
        }
        push_digits(out, byte.into(), 1);
    }
}

/// The text that RFC 5952 wants: lower case, no leading zeros, and the first of the longest runs of
/// zeros as `::`, unless it is a single one. IPv4 inside of IPv6 is shown as such (section 5).
fn push_ipv6(out: &mut String, ip: Ipv6Addr) {
    if let Some(ip) = ip.to_ipv4_mapped() {
        out.push_str("::ffff:");
        return push_ipv4(out, ip);
    }
    let segments = ip.segments();
    let zeros = |from: usize| segments.iter().skip(from).take_while(|&&segment| segment == 0).count();
    let (mut start, mut count) = (segments.len(), 1);
    for from in 0..segments.len() {
        if zeros(from) > count {
            (start, count) = (from, zeros(from));
        }
    }
    let mut colon = false;
    for (place, &segment) in segments.iter().enumerate() {
        if place == start {
            out.push_str("::");
            colon = false;
        } else if !(start..start + count).contains(&place) {
            if colon {
                out.push(':');
            }
            colon = true;
            let mut shift = 12;
            while shift > 0 && segment >> shift == 0 {
                shift -= 4;
            }
            for shift in (0..=shift).rev().step_by(4) {
                out.extend(char::from_digit(u32::from(segment) >> shift & 0xf, 16));
            }
        }
    }
}

/// The two low hexadecimal digits.
fn push_hex(out: &mut String, number: u32) {
    for shift in [4, 0] {
        out.extend(char::from_digit(number >> shift & 0xf, 16));
    }
}

/// The HTTP date of `now`, as in `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7).
pub(crate) fn http_date(out: &mut String, now: SystemTime) {
    Civil::new(now).http(out);
}

/// `now` in UTC, as in `1994-11-06T08:49:37Z` (RFC 3339), whole seconds.
pub(crate) fn rfc3339(out: &mut String, now: SystemTime) {
    Civil::new(now).rfc3339(out);
}

/// A point in time on the proleptic Gregorian calendar, UTC.
#[derive(Debug, PartialEq, Eq)]
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    weekday: usize,
    second_of_day: u64,
}

/// The last second that has a four-digit year; a clock beyond it reads as this.
const LAST_SECOND: u64 = 253_402_300_799;

impl Civil {
    /// A clock before 1970 reads as 1970.
    fn new(now: SystemTime) -> Civil {
        Civil::from_unix(now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    fn from_unix(seconds: u64) -> Civil {
        let seconds = seconds.min(LAST_SECOND);
        let days = seconds / 86_400;
        // Years that begin in March put the leap day last; 719,468 days lie between 0000-03-01 and
        // 1970-01-01, and 146,097 in 400 years. 153 days make five months from March on.
        let since = days + 719_468;
        let era = since / 146_097;
        let day_of_era = since % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Civil {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            // 1970-01-01 was a Thursday.
            weekday: ((days + 4) % 7) as usize,
            second_of_day: seconds % 86_400,
        }
    }

    fn rfc3339(&self, out: &mut String) {
        push_digits(out, self.year, 4);
        out.push('-');
        push_digits(out, self.month, 2);
        out.push('-');
        push_digits(out, self.day, 2);
        out.push('T');
        self.push_time(out);
        out.push('Z');
    }

    fn http(&self, out: &mut String) {
        const WEEKDAYS: &str = "SunMonTueWedThuFriSat";
        const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
        let three = |names: &'static str, at: usize| names.get(3 * at..3 * at + 3).unwrap_or_default();
        out.push_str(three(WEEKDAYS, self.weekday));
        out.push_str(", ");
        push_digits(out, self.day, 2);
        out.push(' ');
        out.push_str(three(MONTHS, self.month as usize - 1));
        out.push(' ');
        push_digits(out, self.year, 4);
        out.push(' ');
        self.push_time(out);
        out.push_str(" GMT");
    }

    fn push_time(&self, out: &mut String) {
        push_digits(out, self.second_of_day / 3600, 2);
        out.push(':');
        push_digits(out, self.second_of_day / 60 % 60, 2);
        out.push(':');
        push_digits(out, self.second_of_day % 60, 2);
    }
}

/// `number` in decimal, with leading zeros up to `width` digits.
pub(crate) fn push_digits(out: &mut String, number: u64, width: u32) {
    if number > 9 || width > 1 {
        push_digits(out, number / 10, width.saturating_sub(1));
    }
    out.push(char::from(b'0' + (number % 10) as u8));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn addresses_are_printed_as_std_prints_them() {
        let same = |address: SocketAddr| assert_eq!(Address(address).to_string(), address.to_string());
        for text in
            ["127.0.0.1:0", "0.0.0.0:65535", "255.255.255.255:8081", "10.9.100.199:80", "[::]:1", "[::1]:10", "[fe80::1%7]:80"]
        {
            assert_eq!(Address(text.parse().unwrap()).to_string(), text);
        }
        // Every pattern of zeros, digits of every length, IPv4 in IPv6, and what only looks like it.
        for zeros in (0..=255_u8).step_by(if cfg!(miri) { 15 } else { 1 }) {
            for digits in [1_u16, 0xf, 0x10, 0xab, 0x100, 0x1000, 0xffff] {
                let segments = std::array::from_fn(|place| if zeros >> place & 1 == 1 { 0 } else { digits });
                same(SocketAddr::new(Ipv6Addr::from(segments).into(), u16::from(zeros) * 257));
            }
        }
        for segments in [[0, 0, 0, 0, 0, 0xffff, 0x102, 0xfffe], [0, 0, 0, 0, 0xffff, 0, 1, 2], [0, 0, 0, 0, 0, 0, 0x102, 0x304]] {
            same(SocketAddr::new(Ipv6Addr::from(segments).into(), 80));
        }
    }

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn dates_have_known_answers() {
        for (seconds, iso, http) in [
            (0, "1970-01-01T00:00:00Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "1994-11-06T08:49:37Z", "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "2000-02-28T23:59:59Z", "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "2000-02-29T00:00:00Z", "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "2000-03-01T00:00:00Z", "Wed, 01 Mar 2000 00:00:00 GMT"),
            (978_307_199, "2000-12-31T23:59:59Z", "Sun, 31 Dec 2000 23:59:59 GMT"),
            (1_709_164_800, "2024-02-29T00:00:00Z", "Thu, 29 Feb 2024 00:00:00 GMT"),
            (1_740_787_199, "2025-02-28T23:59:59Z", "Fri, 28 Feb 2025 23:59:59 GMT"),
            (1_740_787_200, "2025-03-01T00:00:00Z", "Sat, 01 Mar 2025 00:00:00 GMT"),
            (2_147_483_648, "2038-01-19T03:14:08Z", "Tue, 19 Jan 2038 03:14:08 GMT"),
            (4_107_542_399, "2100-02-28T23:59:59Z", "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "2100-03-01T00:00:00Z", "Mon, 01 Mar 2100 00:00:00 GMT"),
            (LAST_SECOND, "9999-12-31T23:59:59Z", "Fri, 31 Dec 9999 23:59:59 GMT"),
            (LAST_SECOND + 1, "9999-12-31T23:59:59Z", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(text(|out| rfc3339(out, at(seconds))), iso, "{seconds}");
            assert_eq!(text(|out| http_date(out, at(seconds))), http, "{seconds}");
        }
        assert_eq!(text(|out| rfc3339(out, UNIX_EPOCH - Duration::from_secs(1))), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = Civil::from_unix(0);
        for day in 1..LAST_SECOND / 86_400 {
            // A day in every week, and every day around the turn of each century, is enough.
            if day % 7 != 0 && day % 36_524 > 3 {
                before = Civil::from_unix(day * 86_400);
                continue;
            }
            let civil = Civil::from_unix(day * 86_400);
            let next_day = (civil.year, civil.month, civil.day) == (before.year, before.month, before.day + 1);
            let next_month = civil.day == 1 && (civil.month == before.month + 1 || (civil.month, before.month) == (1, 12));
            assert!(next_day || next_month, "{before:?} {civil:?}");
            assert_eq!(civil.weekday, (before.weekday + 1) % 7);
            before = civil;
        }
    }

    #[test]
    fn bodies_are_those_of_the_wire_format() {
        let said = Some(Details { error: "connector validation failed", reason: Some(("validation_error", "boom")) });
        let absent = Some(Details { error: "failed to get connector client", reason: None });
        for (endpoint, failure, expected) in [
            (Endpoint::Health, None, r#"{"status":"healthy","timestamp":"1970-01-01T00:00:00Z"}"#),
            (Endpoint::Ready, None, r#"{"status":"ready","timestamp":"1970-01-01T00:00:00Z"}"#),
            (Endpoint::Live, None, r#"{"status":"alive","timestamp":"1970-01-01T00:00:00Z"}"#),
            (
                Endpoint::Health,
                said,
                r#"{"status":"unhealthy","timestamp":"1970-01-01T00:00:00Z","details":{"error":"connector validation failed","validation_error":"boom"}}"#,
            ),
            (
                Endpoint::Health,
                absent,
                r#"{"status":"unhealthy","timestamp":"1970-01-01T00:00:00Z","details":{"error":"failed to get connector client"}}"#,
            ),
            (
                Endpoint::Ready,
                absent,
                r#"{"status":"not_ready","timestamp":"1970-01-01T00:00:00Z","details":{"error":"failed to get connector client"}}"#,
            ),
        ] {
            assert_eq!(text(|out| body(out, endpoint, UNIX_EPOCH, failure)), format!("{expected}\n"));
        }
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

    #[test]
    fn long_texts_are_cut_between_characters_and_say_so() {
        for (input, max, expected) in [
            ("abcdef", 6, ("abcdef", "")),
            ("abcdefg", 6, ("abc", "...")),
            ("ab\u{20ac}defg", 6, ("ab", "...")),
            ("abcdefg", 2, ("", "...")),
            ("", 0, ("", "")),
        ] {
            assert_eq!(bounded(input, max), expected, "{input} {max}");
        }
        let long = text(|out| {
            let reason = "\u{e9}".repeat(MAX_ERROR_TEXT);
            let details = Details { error: "x", reason: Some(("validation_error", &reason)) };
            body(out, Endpoint::Health, UNIX_EPOCH, Some(details));
        });
        assert!(long.ends_with("\u{e9}...\"}}\n"), "{long}");
        assert!(long.len() < MAX_ERROR_TEXT + 150);
    }

    #[test]
    fn text_for_a_terminal_has_no_control_characters() {
        for (input, expected) in [
            (&b"plain \xc3\xa9"[..], "plain \u{e9}"),
            (b"a\r\nb\x1b[2J\x7f", "a\\x0d\\x0ab\\x1b[2J\\x7f"),
            (b"\xc2\x9b1m", "\\x9b1m"),
            (b"\xff\xfe!", "\u{fffd}\u{fffd}!"),
        ] {
            assert_eq!(text(|out| printable(out, input)), expected);
        }
    }
}
