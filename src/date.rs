//! Dates in UTC: RFC 3339 for bodies and the log, and the HTTP date (RFC 9110).

use std::time::{SystemTime, UNIX_EPOCH};

use crate::text::push_digits;

/// Writes `now` as an HTTP date, as in `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7).
pub(crate) fn http_date(out: &mut String, now: SystemTime) {
    UtcDateTime::new(now).http(out);
}

/// Writes `now` in whole seconds, as in `1994-11-06T08:49:37Z` (RFC 3339).
pub(crate) fn rfc3339(out: &mut String, now: SystemTime) {
    UtcDateTime::new(now).rfc3339(out);
}

/// A point in time on the proleptic Gregorian calendar, UTC.
#[derive(Debug, PartialEq, Eq)]
struct UtcDateTime {
    year: u64,
    month: u64,
    day: u64,
    weekday: usize,
    second_of_day: u64,
}

/// The last second with a four-digit year. A later clock is read as this second, since neither format has five digits.
const LAST_SECOND: u64 = 253_402_300_799;

impl UtcDateTime {
    /// A clock before 1970 is read as 1970.
    fn new(now: SystemTime) -> UtcDateTime {
        UtcDateTime::from_unix(now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    fn from_unix(seconds: u64) -> UtcDateTime {
        let seconds = seconds.min(LAST_SECOND);
        let days = seconds / 86_400;
        // Counting years from March puts the leap day last. There are 719,468 days from 0000-03-01 to
        // 1970-01-01, 146,097 days in 400 years, and 153 days in five months from March on.
        let since = days + 719_468;
        let era = since / 146_097;
        let day_of_era = since % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        UtcDateTime {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
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
        let mut before = UtcDateTime::from_unix(0);
        for day in 1..LAST_SECOND / 86_400 {
            // One day a week is enough, and every day around the turn of each century.
            if day % 7 != 0 && day % 36_524 > 3 {
                before = UtcDateTime::from_unix(day * 86_400);
                continue;
            }
            let date = UtcDateTime::from_unix(day * 86_400);
            let next_day = (date.year, date.month, date.day) == (before.year, before.month, before.day + 1);
            let next_month = date.day == 1 && (date.month == before.month + 1 || (date.month, before.month) == (1, 12));
            assert!(next_day || next_month, "{before:?} {date:?}");
            assert_eq!(date.weekday, (before.weekday + 1) % 7);
            before = date;
        }
    }
}
