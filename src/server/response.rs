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

/// The answer to a question from `peer`, or `None` if it takes a wait.
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
        Ok(endpoint) => validation.ask(endpoint, question.wait),
        Err(status) => return refuse(status, question.head_only()),
    };
    answer(question, peer, &verdict)
}

/// The answer to a question from `peer`, or a 503 with this error if it takes a wait.
pub(crate) fn without_asking(validation: &Validation, question: &Question, peer: IpAddr, error: &CheckError) -> Vec<u8> {
    known(validation, question, peer).unwrap_or_else(|| answer(question, peer, &Err(error.clone())))
}

impl Question {
    fn head_only(&self) -> bool {
        self.method == Method::Head
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
    // Its requests then have that name in Host. A forwarded request comes from a client elsewhere.
    let trusted = peer.to_canonical().is_loopback() && question.host == Host::Literal && !question.forwarded;
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
}
