//! Turns a question into the bytes of its answer, and decides which clients may read the connector's text.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::validation::{CheckError, Validation, Verdict};
use crate::date::{http_date, rfc3339};
use crate::endpoint::Endpoint;
use crate::http::request::{Host, Method, Request, Status};
use crate::json::json_string;

/// What a request asks, without a reference to its bytes.
#[derive(Debug)]
pub(crate) struct Question {
    method: Method,
    endpoint: Option<Endpoint>,
    host: Host,
    forwarded: bool,
    wait: Option<Duration>,
}

impl From<Request<'_>> for Question {
    fn from(request: Request<'_>) -> Question {
        let wait = request.wait.map(|seconds| Duration::from_secs(seconds.into()));
        // `OPTIONS *` asks whether the server responds (RFC 9110 section 9.3.7), as `/live` does.
        let endpoint = if request.path == b"*" { Some(Endpoint::Live) } else { Endpoint::from_path(request.path) };
        Question { method: request.method, endpoint, host: request.host, forwarded: request.forwarded, wait }
    }
}

/// The answer to a question from `peer`, or `None` if it needs a wait.
pub(crate) fn known(validation: &Validation, question: &Question, peer: IpAddr) -> Option<Vec<u8>> {
    let verdict = match question.endpoint() {
        Ok(endpoint) => validation.known(endpoint, question.wait)?,
        Err(status) => return Some(refuse(status, question.head_only())),
    };
    Some(answer(question, peer, &verdict))
}

/// The answer to a question from `peer`. This may call the connector and wait for it.
pub(crate) fn ask(validation: &Arc<Validation>, question: &Question, peer: IpAddr) -> Vec<u8> {
    let verdict = match question.endpoint() {
        Ok(endpoint) => validation.ask(endpoint, question.wait, question.is_remote(peer)),
        Err(status) => return refuse(status, question.head_only()),
    };
    answer(question, peer, &verdict)
}

/// The answer to a question from `peer`, or a 503 with this error if it needs a wait.
pub(crate) fn without_asking(validation: &Validation, question: &Question, peer: IpAddr, error: &CheckError) -> Vec<u8> {
    known(validation, question, peer).unwrap_or_else(|| answer(question, peer, &Err(error.clone())))
}

impl Question {
    fn head_only(&self) -> bool {
        self.method == Method::Head
    }

    /// Whether it comes from another machine, perhaps through a proxy on this one.
    fn is_remote(&self, peer: IpAddr) -> bool {
        self.forwarded || !peer.to_canonical().is_loopback()
    }

    /// The endpoint that the client asks, or the status that refuses the question.
    fn endpoint(&self) -> Result<Endpoint, Status> {
        match self.method {
            Method::Other => Err(Status::MethodNotAllowed),
            Method::Get | Method::Head | Method::Options => self.endpoint.ok_or(Status::NotFound),
        }
    }
}

fn answer(question: &Question, peer: IpAddr, verdict: &Verdict) -> Vec<u8> {
    let endpoint = question.endpoint.unwrap_or_default();
    // A web page can point its own host name at our loopback address and read the answer (DNS rebinding).
    // Its requests then have that name in Host.
    let trusted = !question.is_remote(peer) && question.host == Host::Literal;
    let reason = verdict.as_ref().err().map(ToString::to_string);
    let details = verdict.as_ref().err().map(|error| details(endpoint, error, trusted, reason.as_deref().unwrap_or_default()));
    let status = if details.is_none() { Status::Ok } else { Status::Unavailable };
    let now = SystemTime::now();
    let mut text = String::with_capacity(USUAL_BODY);
    body(&mut text, endpoint, now, details);
    respond(status, question.method == Method::Options, now, &text, question.head_only())
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
    use super::*;
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

    fn question(request: &str) -> Question {
        crate::http::request::parse(request.as_bytes()).unwrap().unwrap().into()
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
            let (question, peer) = (question(&request), peer.parse().unwrap());
            let expected = known(&validation, &question, peer);
            let (answer, body, lists_methods) = parts(ask(&validation, &question, peer));
            assert_eq!((&*answer, lists_methods), (status, allow), "{line}");
            assert!(body.contains(part) && body.is_empty() == part.is_empty(), "{line}: {body}");
            // After the first verdict, `/health` takes no wait any more.
            let is_first = line == "GET /health" && field.is_empty() && peer.is_loopback();
            assert_eq!(expected.is_none(), waits && (is_first || line == "GET /ready"), "{line}");
            if let Some(known) = expected {
                // Only the second of the timestamp may differ.
                let (known_answer, known_body, known_lists) = parts(known);
                assert_eq!((known_answer, known_body.len(), known_lists), (answer, body.len(), lists_methods), "{line}");
            }
        }
    }

    #[test]
    fn without_asking_only_what_is_known_is_answered() {
        let validation = Validation::new(&crate::config::Config::default(), crate::log::Log(Arc::new(|_| ())));
        let answer = |line: &str, peer: &str| {
            let question = question(&format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            parts(without_asking(&validation, &question, peer.parse().unwrap(), &CheckError::Busy))
        };
        assert!(answer("GET /health", HERE).1.contains("failed to get connector client\"}"));
        validation.attach(Arc::new(Boom));
        assert_eq!(answer("GET /live", HERE).0, "200 OK");
        assert_eq!(answer("GET /x", HERE).0, "404 Not Found");
        for (path, text) in [("GET /health", "\"validation_error\":\"too many"), ("GET /ready", "\"readiness_error\":\"too many")] {
            // This text is not the connector's own, so it is not a secret.
            for peer in [HERE, ELSEWHERE] {
                let (status, body, _) = answer(path, peer);
                assert!(status.starts_with("503 ") && body.contains(text), "{body}");
            }
        }
    }

    #[test]
    fn clients_elsewhere_leave_half_of_the_quota_to_those_here() {
        let config = crate::config::Config { max_connections: 8, ..Default::default() };
        let validation = Arc::new(Validation::new(&config, crate::log::Log(Arc::new(|_| ()))));
        let answer = |validation: &Arc<Validation>, field: &str, peer: &str| {
            let question = question(&format!("GET /ready HTTP/1.1\r\nHost: localhost\r\n{field}\r\n"));
            parts(ask(validation, &question, peer.parse().unwrap())).1
        };
        // The first call of `ready` asks again, while its own client is inside.
        let inside = std::sync::Mutex::new(Some(Arc::downgrade(&validation)));
        let ready = move || {
            let first = inside.lock().unwrap().take();
            if let Some(validation) = first.and_then(|validation| validation.upgrade()) {
                assert!(answer(&validation, "", ELSEWHERE).contains("too many"));
                assert!(answer(&validation, "Via: 1.1 proxy\r\n", HERE).contains("too many"));
                assert!(answer(&validation, "", HERE).contains("\"ready\""));
                assert!(answer(&validation, "", "::ffff:127.0.0.1").contains("\"ready\""));
            }
            Ok(())
        };
        validation.attach(Arc::new(crate::connector::Functions { validate: || Ok(()), ready }));
        let first = answer(&validation, "", ELSEWHERE);
        assert!(first.contains("\"ready\""), "{first}");
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
