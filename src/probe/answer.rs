//! Describes an answer other than 200. The same failure gets the same text every time.

use super::error::ProbeErrorKind;
use crate::deadline::Timed;
use crate::endpoint::OVERDUE;
use crate::http::response::Response;
use crate::json::read_string;
use crate::limits::{MAX_OWN_BODY, MAX_SHOWN_BODY, MAX_SHOWN_LOCATION};
use crate::text::{after_start, escape_for_terminal, times_start};

/// The error for an answer whose status is not 200. `rest` is what has arrived after its head.
pub(super) fn status(timed: &Timed<'_>, head: &Response<'_>, rest: &[u8]) -> ProbeErrorKind {
    let location = head.location.filter(|_| (300..400).contains(&head.status)).unwrap_or_default();
    let body = read_body(timed, rest.to_vec(), head.length);
    let body = shown(&details(&body).unwrap_or(body), MAX_SHOWN_BODY);
    let reason = shown(head.reason, usize::MAX);
    ProbeErrorKind::Status { code: head.status, reason, location: shown(location, MAX_SHOWN_LOCATION), body }
}

/// Reads as much of the body as the probe shows, if it arrives in time.
fn read_body(timed: &Timed<'_>, mut body: Vec<u8>, length: Option<u64>) -> Vec<u8> {
    let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
    loop {
        // A body that looks like a health server's is read whole, since only a whole one can be parsed.
        let most = if body.starts_with(START.as_bytes()) { MAX_OWN_BODY } else { MAX_SHOWN_BODY + 1 };
        let (filled, wanted) = (body.len(), length.min(most));
        if filled >= wanted {
            body.truncate(wanted);
            return body;
        }
        body.resize(wanted, 0);
        match timed.read(body.get_mut(filled..).unwrap_or_default()) {
            Ok(count @ 1..) => body.truncate(filled + count),
            // The status is already known, so the probe reports what has arrived of the body.
            _ => {
                body.truncate(filled);
                return body;
            }
        }
    }
}

/// At most `max` bytes as one line, with control characters escaped and a cut marked.
fn shown(bytes: &[u8], max: usize) -> String {
    let bytes = bytes.trim_ascii();
    let mut shown = String::new();
    escape_for_terminal(&mut shown, bytes.get(..max).unwrap_or(bytes));
    if bytes.len() > max {
        shown.push_str("...");
    }
    shown
}

/// How a health server's body starts.
const START: &str = "{\"status\":\"";

/// The texts of a health server's body. The timestamp and the durations of a validation and of its checks are left
/// out: they change with every answer, and Kubernetes counts equal events but lists different ones.
pub(crate) fn details(body: &[u8]) -> Option<Vec<u8>> {
    let (mut said, mut ignored) = (Vec::new(), Vec::new());
    let rest = read_string(after_start(body, b"{\"status\":")?, &mut said)?;
    let mut rest = read_string(after_start(rest, b",\"timestamp\":")?, &mut ignored)?;
    if let Some(members) = after_start(rest, b",\"details\":{") {
        said.clear();
        rest = texts(members, &mut said, &mut ignored)?;
    }
    matches!(rest, b"}" | b"}\n").then_some(said)
}

/// Appends to `said` the values of an object whose members are all strings, and returns what follows it.
fn texts<'a>(mut rest: &'a [u8], said: &mut Vec<u8>, ignored: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = read_string(rest, ignored)?.strip_prefix(b":")?;
        if !said.is_empty() {
            said.extend_from_slice(b": ");
        }
        let start = said.len();
        rest = read_string(rest, said)?;
        let text = said.get(start..).unwrap_or_default();
        let kept = if is_overdue(text) { OVERDUE.len() } else { times_start(text) };
        said.truncate(start + kept);
        match rest.strip_prefix(b",") {
            Some(more) => rest = more,
            None => return rest.strip_prefix(b"}"),
        }
    }
}

/// Whether a text ends in the milliseconds that an overdue validation has taken so far.
fn is_overdue(text: &[u8]) -> bool {
    let time = after_start(text, OVERDUE.as_bytes()).and_then(|rest| after_start(rest, b" after ")?.strip_suffix(b" ms"));
    time.is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_is_marked() {
        assert_eq!((shown(b" abc\n", 3), shown(b"abcd", 3)), ("abc".into(), "abc...".into()));
    }

    #[test]
    fn a_health_servers_body_is_reduced_to_its_texts() {
        for (body, expected) in [
            (
                r#"{"status":"unhealthy","timestamp":"TS","details":{"error":"connector validation failed","validation_error":"boom"}}"#,
                Some("connector validation failed: boom"),
            ),
            (
                r#"{"status":"not_ready","timestamp":"TS","details":{"error":"failed to get connector client"}}"#,
                Some("failed to get connector client"),
            ),
            (r#"{"status":"unhealthy","timestamp":"TS"}"#, Some("unhealthy")),
            (r#"{"status":"x","timestamp":"TS","details":{"a":"","b":"c"}}"#, Some("c")),
            (r#"{"status":"x","timestamp":"TS","details":{"a":"\"\u00e9\n"}}"#, Some("\"\u{e9}\n")),
            (
                r#"{"status":"x","timestamp":"TS","details":{"e":"validation has not finished after 4521 ms"}}"#,
                Some("validation has not finished"),
            ),
            (
                r#"{"status":"x","timestamp":"TS","details":{"e":"validation has not finished after all"}}"#,
                Some("validation has not finished after all"),
            ),
            (
                r#"{"status":"x","timestamp":"TS","details":{"e":"a (times: b 1 ms)","f":"\u00e9: c (times: d 23 ms, e 4 ms)"}}"#,
                Some("a: \u{e9}: c"),
            ),
            (r#"{"status":"x","timestamp":"TS","details":{"e":"a (times: b 1 ms)...","f":"c"}}"#, Some("a (times: b 1 ms)...: c")),
            // Any other body is not a health server's.
            (r#"{"status":"x","timestamp":"TS","details":{}}"#, None),
            (r#"{"status":"x","timestamp":"TS","details":{"a":"b"},"more":1}"#, None),
            (r#"{"status":"x","timestamp":"TS","details":{"a":1}}"#, None),
            (r#"{"status":"x","timestamp":"TS","details":{"a":"b",}}"#, None),
            (r#"{"status":"x","timestamp":1}"#, None),
            (r#"{"status":"x"}"#, None),
            (r#"{"status": "x", "timestamp": "TS"}"#, None),
            (r#"{"timestamp":"TS","status":"x"}"#, None),
            (r#"{"status":"x","timestamp":"TS"}}"#, None),
            ("{\"status\":\"x\",\"timestamp\":\"TS\"}\x0c", None),
            (r#"{"status":"x","timestamp":"TS""#, None),
            (r#"{"error":"404 Not Found"}"#, None),
            ("", None),
        ] {
            for end in ["", "\n"] {
                let body = [body, end].concat();
                assert_eq!(details(body.as_bytes()).as_deref(), expected.map(str::as_bytes), "{body}");
            }
        }
        assert_eq!(details(b"{\"status\":\"\xff\",\"timestamp\":\"TS\"}").as_deref(), Some(&b"\xff"[..]));
    }
}
