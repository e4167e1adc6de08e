//! Turns a request into a question, and its verdict into the bytes of an answer. Decides which clients may read the
//! connector's text.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::validation::{CheckError, Verdict};
use crate::date::{http_date, rfc3339};
use crate::endpoint::Endpoint;
use crate::http::request::{Host, Method, Request, Status};
use crate::json::{json_member, json_string};
use crate::text::push_digits;

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

/// The answer to a question from `peer`, in the memory of `spare`.
pub(crate) fn answer(spare: Vec<u8>, question: &Question, peer: IpAddr, verdict: &Verdict) -> Vec<u8> {
    // A web page can point its own host name at our loopback address and read the answer (DNS rebinding).
    // Its requests then have that name in Host.
    let trusted = !question.is_remote(peer) && question.host == Host::Literal;
    let status = if verdict.is_ok() { Status::Ok } else { Status::Unavailable };
    let now = SystemTime::now();
    let text = body(question.endpoint, now, verdict, trusted);
    respond(spare, status, question.method == Method::Options, now, &text, question.method == Method::Head)
}

/// Bytes reserved for a body: enough if there is no failure to describe.
const USUAL_BODY: usize = 128;

/// Bytes reserved for an answer: enough if there is no failure to describe.
const USUAL_ANSWER: usize = 384;

/// The body of an endpoint's answer, newline included.
fn body(endpoint: Endpoint, now: SystemTime, verdict: &Verdict, trusted: bool) -> String {
    let mut out = String::with_capacity(USUAL_BODY);
    out.push_str("{\"status\":\"");
    out.push_str(if verdict.is_ok() { endpoint.ok_status() } else { endpoint.failed_status() });
    out.push_str("\",\"timestamp\":\"");
    rfc3339(&mut out, now);
    out.push('"');
    if let Err(error) = verdict {
        push_details(&mut out, endpoint, error, trusted);
    }
    out.push_str("}\n");
    out
}

/// Writes why an endpoint answers 503, in the words of the wire format: which check failed, and the reason. Only a
/// trusted client gets the connector's own text.
fn push_details(out: &mut String, endpoint: Endpoint, error: &CheckError, trusted: bool) {
    let (failed, name) = match endpoint {
        _ if matches!(error, CheckError::NoConnector) => ("failed to get connector client", None),
        Endpoint::Health => ("connector validation failed", Some("validation_error")),
        // `/live` never fails.
        Endpoint::Ready | Endpoint::Live => ("connector is not ready", Some("readiness_error")),
    };
    let may_read = trusted || !matches!(error, CheckError::Reported(_));
    out.push_str(",\"details\":{\"error\":");
    json_string(out, failed);
    if let Some(name) = name.filter(|_| may_read) {
        json_member(out, name, &error.to_string());
    }
    out.push('}');
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
    respond(Vec::new(), status, status == Status::MethodNotAllowed, SystemTime::now(), &text, head_only)
}

/// The bytes of an answer, in the memory of `spare`. `allow` adds the list of methods that the server answers.
fn respond(mut spare: Vec<u8>, status: Status, allow: bool, now: SystemTime, body: &str, head_only: bool) -> Vec<u8> {
    spare.clear();
    let mut out = String::from_utf8(spare).unwrap_or_default();
    out.reserve(USUAL_ANSWER.max(body.len() + 256));
    out.push_str("HTTP/1.1 ");
    out.push_str(status.line());
    out.push_str("\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nConnection: close\r\nDate: ");
    http_date(&mut out, now);
    if allow {
        out.push_str("\r\nAllow: GET, HEAD, OPTIONS");
    }
    out.push_str("\r\nContent-Length: ");
    push_digits(&mut out, body.len() as u64, 1);
    out.push_str("\r\n\r\n");
    if !head_only {
        out.push_str(body);
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::validation::Validation;
    use super::*;
    use crate::http::request::{asks_for_head, parse};
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    #[test]
    fn bodies_follow_the_wire_format() {
        let reported = || Err(CheckError::Reported("boom".into()));
        for (endpoint, verdict, trusted, expected) in [
            (Endpoint::Health, Ok(()), true, r#"{"status":"healthy","timestamp":"1970-01-01T00:00:00Z"}"#),
            (Endpoint::Ready, Ok(()), true, r#"{"status":"ready","timestamp":"1970-01-01T00:00:00Z"}"#),
            (Endpoint::Live, Ok(()), true, r#"{"status":"alive","timestamp":"1970-01-01T00:00:00Z"}"#),
            (
                Endpoint::Health,
                reported(),
                true,
                r#"{"status":"unhealthy","timestamp":"1970-01-01T00:00:00Z","details":{"error":"connector validation failed","validation_error":"boom"}}"#,
            ),
            (
                Endpoint::Health,
                reported(),
                false,
                r#"{"status":"unhealthy","timestamp":"1970-01-01T00:00:00Z","details":{"error":"connector validation failed"}}"#,
            ),
            (
                Endpoint::Health,
                Err(CheckError::NoConnector),
                true,
                r#"{"status":"unhealthy","timestamp":"1970-01-01T00:00:00Z","details":{"error":"failed to get connector client"}}"#,
            ),
            (
                Endpoint::Ready,
                Err(CheckError::NoConnector),
                true,
                r#"{"status":"not_ready","timestamp":"1970-01-01T00:00:00Z","details":{"error":"failed to get connector client"}}"#,
            ),
        ] {
            assert_eq!(body(endpoint, UNIX_EPOCH, &verdict, trusted), format!("{expected}\n"));
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
            Ok(question) => answer(b"old".to_vec(), &question, peer.parse().unwrap(), &check(question.endpoint, question.wait)?),
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
}
