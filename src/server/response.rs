//! Turns a request into a question, and its verdict into the bytes of an answer. Decides which clients may read the
//! connector's text.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::validation::{CheckError, Verdict};
use crate::date::{http_date, rfc3339};
use crate::endpoint::Endpoint;
use crate::http::request::{Host, Method, Request, Status};
use crate::json::json_string;

/// What a request asks, without a reference to its bytes.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) endpoint: Endpoint,
    /// How long the client says it will wait.
    pub(crate) wait: Option<Duration>,
    method: Method,
    host: Host,
    forwarded: bool,
}

impl TryFrom<Request<'_>> for Question {
    /// The status that refuses the request.
    type Error = Status;

    fn try_from(request: Request<'_>) -> Result<Question, Status> {
        let Request { method, path, host, forwarded, .. } = request;
        let endpoint = match method {
            Method::Other => return Err(Status::MethodNotAllowed),
            // `OPTIONS *` asks whether the server responds (RFC 9110 section 9.3.7), as `/live` does.
            _ if path == b"*" => Endpoint::Live,
            Method::Get | Method::Head | Method::Options => Endpoint::from_path(path).ok_or(Status::NotFound)?,
        };
        let wait = request.wait.map(|seconds| Duration::from_secs(seconds.into()));
        Ok(Question { endpoint, wait, method, host, forwarded })
    }
}

impl Question {
    /// Whether it comes from another machine, perhaps through a proxy on this one.
    pub(crate) fn is_remote(&self, peer: IpAddr) -> bool {
        self.forwarded || !peer.to_canonical().is_loopback()
    }
}

/// The answer to a question from `peer`.
pub(crate) fn answer(question: &Question, peer: IpAddr, verdict: &Verdict) -> Vec<u8> {
    let endpoint = question.endpoint;
    // A web page can point its own host name at our loopback address and read the answer (DNS rebinding).
    // Its requests then have that name in Host.
    let trusted = !question.is_remote(peer) && question.host == Host::Literal;
    let reason = verdict.as_ref().err().map(ToString::to_string);
    let details = verdict.as_ref().err().map(|error| details(endpoint, error, trusted, reason.as_deref().unwrap_or_default()));
    let status = if details.is_none() { Status::Ok } else { Status::Unavailable };
    let now = SystemTime::now();
    let mut text = String::with_capacity(USUAL_BODY);
    body(&mut text, endpoint, now, details);
    respond(status, question.method == Method::Options, now, &text, question.method == Method::Head)
}

/// Bytes reserved for a body: enough if there is no failure to describe.
const USUAL_BODY: usize = 128;

/// Bytes reserved for an answer: enough if there is no failure to describe.
const USUAL_ANSWER: usize = 384;

/// The wire format's words for a failure. Only a trusted client gets the connector's own text.
fn details<'a>(endpoint: Endpoint, error: &CheckError, trusted: bool, reason: &'a str) -> Details<'a> {
    let (text, name) = match endpoint {
        _ if matches!(error, CheckError::NoConnector) => ("failed to get connector client", None),
        Endpoint::Health => ("connector validation failed", Some("validation_error")),
        // `/live` never fails.
        Endpoint::Ready | Endpoint::Live => ("connector is not ready", Some("readiness_error")),
    };
    let may_have = trusted || !matches!(error, CheckError::Reported(_));
    Details { error: text, reason: name.filter(|_| may_have).map(|name| (name, reason)) }
}

/// An answer that refuses a request without a check.
pub(crate) fn refuse(status: Status, head_only: bool) -> Vec<u8> {
    let mut text = ["{\"error\":\"", status.line()].concat();
    if status == Status::NotFound {
        for (place, endpoint) in Endpoint::ALL.into_iter().enumerate() {
            text.push_str(if place == 0 { "\",\"endpoints\":\"" } else { ", " });
            text.push_str(endpoint.path());
        }
    }
    text.push_str("\"}\n");
    respond(status, status == Status::MethodNotAllowed, SystemTime::now(), &text, head_only)
}

fn respond(status: Status, allow: bool, now: SystemTime, body: &str, head_only: bool) -> Vec<u8> {
    let mut date = String::with_capacity(32);
    http_date(&mut date, now);
    let mut out = Vec::with_capacity(USUAL_ANSWER.max(body.len() + 256));
    response_head(&mut out, status, allow, &date, body.len());
    if !head_only {
        out.extend_from_slice(body.as_bytes());
    }
    out
}

/// Why an endpoint answers 503, in the words of the wire format.
#[derive(Clone, Copy, Debug)]
struct Details<'a> {
    /// `details.error`: which check failed.
    error: &'a str,
    /// A second member of `details`: its name, and the reason. Absent if the client may not read it.
    reason: Option<(&'a str, &'a str)>,
}

/// The body of an endpoint's answer, newline included.
fn body(out: &mut String, endpoint: Endpoint, now: SystemTime, failure: Option<Details<'_>>) {
    out.push_str("{\"status\":\"");
    out.push_str(if failure.is_some() { endpoint.failed_status() } else { endpoint.ok_status() });
    out.push_str("\",\"timestamp\":\"");
    rfc3339(out, now);
    out.push('"');
    if let Some(Details { error, reason }) = failure {
        out.push_str(",\"details\":{\"error\":");
        json_string(out, error);
        if let Some((name, text)) = reason {
            out.push(',');
            json_string(out, name);
            out.push(':');
            json_string(out, text);
        }
        out.push('}');
    }
    out.push_str("}\n");
}

/// Everything before the body. `date` is the HTTP date (RFC 9110 section 6.6.1). `allow` adds the list of
/// methods that the server answers.
fn response_head(out: &mut Vec<u8>, status: Status, allow: bool, date: &str, body_len: usize) {
    for part in [
        "HTTP/1.1 ",
        status.line(),
        "\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nConnection: close\r\nDate: ",
        date,
        if allow { "\r\nAllow: GET, HEAD, OPTIONS" } else { "" },
        "\r\nContent-Length: ",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
    push_number(out, body_len);
    out.extend_from_slice(b"\r\n\r\n");
}

fn push_number(out: &mut Vec<u8>, number: usize) {
    if number >= 10 {
        push_number(out, number / 10);
    }
    out.push(b'0' + (number % 10) as u8);
}

#[cfg(test)]
mod tests {
    use super::super::validation::Validation;
    use super::*;
    use crate::http::request::{asks_for_head, parse};
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn bodies_follow_the_wire_format() {
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

    const HERE: &str = "127.0.0.1";
    const ELSEWHERE: &str = "192.0.2.1";

    struct Boom;

    impl crate::connector::Connector for Boom {
        fn validate(&self) -> Result<(), crate::connector::BoxError> {
            Err("boom".into())
        }
    }

    /// The answer to a request, or `None` if `check` has no verdict.
    fn answered(
        request: &str,
        peer: &str,
        check: impl FnOnce(Endpoint, Option<Duration>) -> Option<Verdict>,
    ) -> Option<(String, String, bool)> {
        let answer = match Question::try_from(parse(request.as_bytes()).unwrap().unwrap()) {
            Ok(question) => answer(&question, peer.parse().unwrap(), &check(question.endpoint, question.wait)?),
            Err(status) => refuse(status, asks_for_head(request.as_bytes())),
        };
        Some(parts(answer))
    }

    /// An answer's status line and body, and whether it lists the methods.
    fn parts(answer: Vec<u8>) -> (String, String, bool) {
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.lines().next().unwrap().strip_prefix("HTTP/1.1 ").unwrap();
        (status.to_owned(), body.to_owned(), head.contains("\r\nAllow: "))
    }

    #[test]
    fn a_question_is_answered_refused_or_takes_a_wait() {
        // However slow this machine is, the first verdict is reused.
        let config = crate::config::Config { validate_ttl: std::time::Duration::from_secs(3600), ..Default::default() };
        let validation = Arc::new(Validation::new(&config, crate::log::Log(Arc::new(|_| ()))));
        validation.attach(Arc::new(Boom));
        let boom = "connector validation failed\",\"validation_error\":\"boom\"";
        // Method, target and the field after Host; the peer; whether it takes a wait; status, a part of the body, Allow.
        for (line, field, peer, waits, status, part, allow) in [
            ("GET /live", "", HERE, false, "200 OK", "alive", false),
            ("HEAD /live", "", HERE, false, "200 OK", "", false),
            ("OPTIONS /live", "", HERE, false, "200 OK", "alive", true),
            ("OPTIONS *", "", HERE, false, "200 OK", "alive", true),
            ("GET /ready", "", HERE, true, "200 OK", "ready", false),
            ("GET /health", "", HERE, true, "503 Service Unavailable", boom, false),
            ("HEAD /health", "", HERE, true, "503 Service Unavailable", "", false),
            ("GET /health", "Forwarded: for=_x\r\n", HERE, true, "503 Service Unavailable", "failed\"}", false),
            ("GET /health", "", ELSEWHERE, true, "503 Service Unavailable", "failed\"}", false),
            ("GET http://a/health", "", HERE, true, "503 Service Unavailable", "failed\"}", false),
            ("POST /health", "", HERE, false, "405 Method Not Allowed", "{\"error\":\"405 Method Not Allowed\"}\n", true),
            ("GET /x", "", HERE, false, "404 Not Found", "\",\"endpoints\":\"/health, /ready, /live\"}\n", false),
            ("HEAD /x", "", HERE, false, "404 Not Found", "", false),
        ] {
            let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{field}\r\n");
            let expected = answered(&request, peer, |endpoint, wait| validation.known(endpoint, wait));
            let asked = answered(&request, peer, |endpoint, wait| Some(validation.ask(endpoint, wait, false)));
            let (answer, body, lists_methods) = asked.unwrap();
            assert_eq!((&*answer, lists_methods), (status, allow), "{line}");
            assert!(body.contains(part) && body.is_empty() == part.is_empty(), "{line}: {body}");
            // After the first verdict, `/health` takes no wait any more.
            let is_first = line == "GET /health" && field.is_empty() && peer == HERE;
            assert_eq!(expected.is_none(), waits && (is_first || line == "GET /ready"), "{line}");
            if let Some((known_answer, known_body, known_lists)) = expected {
                // Only the second of the timestamp may differ.
                assert_eq!((known_answer, known_body.len(), known_lists), (answer, body.len(), lists_methods), "{line}");
            }
        }
    }

    #[test]
    fn an_error_of_the_servers_own_is_no_secret() {
        let line = " HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let answer =
            |path: &str, peer: &str, error: CheckError| answered(&[path, line].concat(), peer, |_, _| Some(Err(error))).unwrap();
        assert!(answer("GET /health", HERE, CheckError::NoConnector).1.contains("failed to get connector client\"}"));
        for (path, text) in [("GET /health", "\"validation_error\":\"too many"), ("GET /ready", "\"readiness_error\":\"too many")] {
            for peer in [HERE, ELSEWHERE] {
                let (status, body, _) = answer(path, peer, CheckError::Busy);
                assert!(status.starts_with("503 ") && body.contains(text), "{body}");
            }
        }
    }

    #[test]
    fn a_client_is_remote_if_it_is_elsewhere_or_behind_a_proxy() {
        for (field, peer, remote) in [
            ("", HERE, false),
            ("", "::1", false),
            ("", "::ffff:127.0.0.1", false),
            ("Via: 1.1 proxy\r\n", HERE, true),
            ("", ELSEWHERE, true),
            ("", "::ffff:192.0.2.1", true),
        ] {
            let request = format!("GET /live HTTP/1.1\r\nHost: a\r\n{field}\r\n");
            let question = Question::try_from(parse(request.as_bytes()).unwrap().unwrap()).unwrap();
            assert_eq!(question.is_remote(peer.parse().unwrap()), remote, "{field} {peer}");
        }
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 9, 10, 11, 99, 100, 109, 1_234_567_890] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
