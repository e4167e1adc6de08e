//! The two forms of time that the program writes, read back into seconds since 1970.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that was set").as_secs()
}

/// `1994-11-06T08:49:37Z` (RFC 3339), and no other form of it.
pub(crate) fn rfc3339(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-');
    let (year, month, day) = (number(date.next()?, 4)?, number(date.next()?, 2)?, number(date.next()?, 2)?);
    if date.next().is_some() { None } else { seconds(year, month, day, time) }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110), with the right day of the week.
pub(crate) fn http(text: &str) -> Option<u64> {
    let (weekday, rest) = text.strip_suffix(" GMT")?.split_once(", ")?;
    let mut parts = rest.split(' ');
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().zip(1..).find(|(name, _)| **name == month)?.1;
    let seconds = seconds(number(year, 4)?, month, number(day, 2)?, time)?;
    let right = DAYS.get((seconds / 86_400 % 7) as usize)? == &weekday && parts.next().is_none();
    right.then_some(seconds)
}

fn seconds(year: u64, month: u64, day: u64, time: &str) -> Option<u64> {
    let mut time = time.split(':');
    let (hours, minutes, seconds) = (number(time.next()?, 2)?, number(time.next()?, 2)?, number(time.next()?, 2)?);
    if time.next().is_some() || hours > 23 || minutes > 59 || seconds > 59 || day == 0 || day > length(year, month)? {
        return None;
    }
    // Counted one by one, so that this has nothing in common with how the program does it.
    let years: u64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let months: u64 = (1..month).filter_map(|month| length(year, month)).sum();
    Some((years + months + day - 1) * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

fn leap(year: u64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn length(year: u64, month: u64) -> Option<u64> {
    match month {
        2 => Some(if leap(year) { 29 } else { 28 }),
        4 | 6 | 9 | 11 => Some(30),
        1..=12 => Some(31),
        _ => None,
    }
}

fn number(text: &str, digits: usize) -> Option<u64> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[test]
fn times_are_read_by_the_calendar() {
    assert_eq!(rfc3339("1994-11-06T08:49:37Z"), Some(784_111_777));
    assert_eq!(http("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
    assert_eq!(rfc3339("2024-02-29T00:00:00Z"), Some(1_709_164_800));
    for bad in
        ["2023-02-29T00:00:00Z", "1994-11-06 08:49:37Z", "1994-11-06T08:49:37", "1994-11-06T08:49:37.0Z", "94-11-06T08:49:37Z"]
    {
        assert_eq!(rfc3339(bad), None, "{bad}");
    }
    for bad in ["Mon, 06 Nov 1994 08:49:37 GMT", "Sun, 6 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT"] {
        assert_eq!(http(bad), None, "{bad}");
    }
}
