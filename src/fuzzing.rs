//! The functions behind the targets in `fuzz/`. Each one turns any bytes into what the program would read
//! or print, checks the promises about that, and returns it, so that a target can compare it with another
//! program's result. The unit tests run these functions on the targets' seeds.
#![allow(missing_docs, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "it is a test")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::{Duration, UNIX_EPOCH};

use crate::address::Address;
use crate::date::{http_date, rfc3339};
use crate::http::properties::{check_request, check_response};
use crate::http::request::{self, Method};
use crate::http::response;
use crate::json::{json_string, read_string};
use crate::limits::{MAX_REQUEST_HEAD, MAX_RESPONSE_HEAD};
use crate::probe::details;
use crate::text::{bounded, escape_for_terminal};

/// A parsed head of a message.
#[derive(Debug)]
pub struct Head<'a> {
    pub len: usize,
    /// The method of a request, empty if the server refuses that method. The reason phrase of an answer.
    pub text: &'a [u8],
    /// The status of an answer.
    pub status: u16,
}

/// The length that both kinds of head may have.
pub const MAX_HEAD: usize = if MAX_REQUEST_HEAD < MAX_RESPONSE_HEAD { MAX_REQUEST_HEAD } else { MAX_RESPONSE_HEAD };

/// The head of a request, or the status line that refuses it.
pub fn request_head(bytes: &[u8]) -> Result<Option<Head<'_>>, &'static str> {
    check_request(bytes);
    let parsed = request::parse(bytes).map_err(request::Status::line)?;
    Ok(parsed.map(|request| {
        let method: &[u8] = match request.method {
            Method::Get => b"GET",
            Method::Head => b"HEAD",
            Method::Options => b"OPTIONS",
            Method::Other => b"",
        };
        Head { len: request.len, text: method, status: 0 }
    }))
}

/// The head of an answer, or that it is not HTTP/1.
pub fn response_head(bytes: &[u8]) -> Result<Option<Head<'_>>, &'static str> {
    check_response(bytes);
    let parsed = response::parse(bytes).map_err(|_| "not HTTP/1")?;
    Ok(parsed.map(|response| Head { len: response.len, text: response.reason, status: response.status }))
}

/// Checks that addresses are read and printed as std reads and prints them.
pub fn address(bytes: &[u8]) {
    let (numbers, text) = bytes.split_at(bytes.len().min(24));
    let mut number = [0; 24];
    number[..numbers.len()].copy_from_slice(numbers);
    let (ip, rest) = number.split_at(16);
    let (ip, port) = (<[u8; 16]>::try_from(ip).expect("16 bytes"), u16::from_le_bytes([rest[0], rest[1]]));
    let scope = u32::from_le_bytes([rest[2], rest[3], rest[4], rest[5]]);
    let v6 = SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, scope);
    let v4 = SocketAddrV4::new(Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]), port);
    for address in [SocketAddr::V6(v6), SocketAddr::V4(v4)] {
        assert_eq!(Address(address).to_string(), address.to_string());
        let mut host = String::new();
        Address(address).push_host(&mut host);
        assert_eq!(host, SocketAddr::new(address.ip(), port).to_string(), "a zone in Host");
    }
    #[cfg(feature = "cli")]
    if let Ok(text) = std::str::from_utf8(text) {
        // Std reads an address in brackets only if a port follows, and then accepts a zone too.
        let in_brackets = || Some(IpAddr::V6(*format!("{text}:0").parse::<SocketAddrV6>().ok()?.ip()));
        let expected = match text {
            _ if text.eq_ignore_ascii_case("localhost") => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            _ if text.starts_with('[') && !text.contains('%') => in_brackets(),
            _ => text.parse().ok(),
        };
        assert_eq!(crate::address::parse_ip(text), expected, "{text:?}");
    }
}

/// A time in seconds since 1970, and its two dates.
pub fn date(bytes: &[u8]) -> (u64, String, String) {
    /// One day more than the years with four digits have.
    const SECONDS: u64 = 253_402_387_200;
    let mut number = [0; 8];
    number.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let seconds = u64::from_le_bytes(number) % SECONDS;
    let now = UNIX_EPOCH + Duration::from_secs(seconds);
    let (mut iso, mut http) = (String::new(), String::new());
    rfc3339(&mut iso, now);
    http_date(&mut http, now);
    assert_eq!((iso.len(), http.len()), ("1994-11-06T08:49:37Z".len(), "Sun, 06 Nov 1994 08:49:37 GMT".len()));
    // The same time of the same day and year.
    assert_eq!((&iso[11..19], &iso[8..10], &iso[..4]), (&http[17..25], &http[5..7], &http[12..16]), "{iso} {http}");
    (seconds, iso, http)
}

/// A text, and the JSON string that is written for it.
pub fn written_json(bytes: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut json = String::new();
    json_string(&mut json, &text);
    assert!(!json.contains(char::is_control), "{json:?}");
    assert_eq!(read_json(&json), Some((text.clone(), "")));

    let (start, mark) = bounded(&text, 16);
    assert!(start.len() + mark.len() <= 16 && text.starts_with(start) && mark.is_empty() == (start == text), "{text:?}");
    (text, json)
}

/// The text of a JSON string, and what follows it.
pub fn read_json(json: &str) -> Option<(String, &str)> {
    let mut text = Vec::new();
    let rest = std::str::from_utf8(read_string(json.as_bytes(), &mut text)?).expect("the end of a text");
    assert!(json.ends_with(rest) && json[..json.len() - rest.len()].ends_with('"'), "{json:?}");
    Some((String::from_utf8(text).expect("text from text"), rest))
}

/// The text that the probe reads from a body, if it is a health server's.
pub fn body(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut shown = String::new();
    escape_for_terminal(&mut shown, bytes);
    assert!(!shown.contains(char::is_control), "{shown:?}");
    assert!(shown.len() <= 4 * bytes.len(), "{} bytes of {}", shown.len(), bytes.len());
    details(bytes)
}

/// A message, a name and a value, and the line of the log that contains them.
pub fn log_line(bytes: &[u8]) -> ([String; 3], String) {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.splitn(3, '\u{1}').map(str::to_owned);
    let parts = [(); 3].map(|()| parts.next().unwrap_or_default());
    let line = crate::log::line(crate::event::Level::Info, &parts[0], &[(&parts[1], &parts[2])]);
    let inside = line.strip_suffix('\n').expect("a line");
    assert!(!inside.contains(char::is_control), "{line:?}");
    (parts, line)
}

/// Parses a command line and an environment, given as lines.
#[cfg(feature = "cli")]
pub fn command(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (arguments, variables) = text.split_once("\n\n").unwrap_or((&text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let variables: Vec<(&str, std::ffi::OsString)> = variables.map(|(name, value)| (name, value.into())).collect();
    if let Err(problem) = crate::cli::try_parse(arguments.lines().map(Into::into).collect(), &variables) {
        assert!(!problem.is_empty() && !problem.contains(char::is_control), "{problem:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    type Target = fn(&[u8]);
    const TARGETS: &[(&str, Target)] = &[
        ("request_head", |bytes| drop(request_head(bytes))),
        ("response_head", |bytes| drop(response_head(bytes))),
        ("address", address),
        ("date", |bytes| drop(date(bytes))),
        ("json", |bytes| {
            written_json(bytes);
            read_json(&String::from_utf8_lossy(bytes));
        }),
        ("body", |bytes| drop(body(bytes))),
        ("log_line", |bytes| drop(log_line(bytes))),
        #[cfg(feature = "cli")]
        ("command", command),
    ];

    #[test]
    #[cfg_attr(miri, ignore = "slow: it parses each prefix of each head")]
    fn the_seeds_of_the_fuzz_targets_do_not_break_a_promise() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        if !fuzz.exists() {
            eprintln!("the published package has no seeds");
            return;
        }
        for (name, target) in TARGETS {
            let folder = fuzz.join("seeds").join(name);
            let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
            let mut count = 0;
            for file in files {
                let path = file.unwrap().path();
                // Names which seed it was, if the target panics.
                eprintln!("{}", path.display());
                target(&std::fs::read(path).unwrap());
                count += 1;
            }
            assert!(count > 0, "no seeds in {}", folder.display());
        }
    }
}
