//! Which answer a request gets: the endpoints' words, and who may read the connector's.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::checks::{Checks, Failure};
use crate::endpoint::Endpoint;
use crate::http::{self, Host, Method, Request, Status};
use crate::report::{self, Details};

/// What a request asks, without the bytes that say it.
pub(crate) struct Question {
    method: Method,
    endpoint: Option<Endpoint>,
    host: Host,
    wait: Option<Duration>,
}

impl From<Request<'_>> for Question {
    fn from(request: Request<'_>) -> Question {
        let wait = request.wait.map(|seconds| Duration::from_secs(seconds.into()));
        Question { method: request.method, endpoint: Endpoint::from_path(request.path), host: request.host, wait }
    }
}

/// The answer to a question from `peer`, into `out`; `text` is for the body. Whoever has
/// to wait for the connector asks `may_wait` first.
pub(crate) fn answer(
    checks: &Arc<Checks>,
    question: &Question,
    peer: IpAddr,
    may_wait: &dyn Fn() -> bool,
    text: &mut String,
    out: &mut Vec<u8>,
) {
    let head_only = match question.method {
        Method::Other => return refuse(Status::MethodNotAllowed, false, text, out),
        Method::Head => true,
        Method::Get => false,
    };
    let Some(endpoint) = question.endpoint else { return refuse(Status::NotFound, head_only, text, out) };
    let outcome = match endpoint {
        Endpoint::Health => checks.health(question.wait, may_wait),
        Endpoint::Ready => checks.ready(may_wait),
        Endpoint::Live => Ok(()),
    };
    // A web page can point a name of its own at our loopback address and read what we say; it
    // cannot keep that name out of Host.
    let trusted = peer.to_canonical().is_loopback() && question.host == Host::Literal;
    let reason = outcome.as_ref().err().map(ToString::to_string);
    let details = outcome.as_ref().err().map(|failure| details(endpoint, failure, trusted, reason.as_deref().unwrap_or_default()));
    let status = if details.is_none() { Status::Ok } else { Status::Unavailable };
    let now = SystemTime::now();
    text.clear();
    report::body(text, endpoint, now, details);
    respond(status, now, text, head_only, out);
}

/// The wire format's words for a failure. Only a client that may have it gets the connector's own text.
fn details<'a>(endpoint: Endpoint, failure: &Failure, trusted: bool, reason: &'a str) -> Details<'a> {
    let (error, name) = match (failure, endpoint) {
        (Failure::Absent, _) => ("failed to get connector client", None),
        (_, Endpoint::Health) => ("connector validation failed", Some("validation_error")),
        (_, _) => ("connector is not ready", Some("readiness_error")),
    };
    let may_have = trusted || !matches!(failure, Failure::Said(_));
    Details { error, reason: name.filter(|_| may_have).map(|name| (name, reason)) }
}

/// An answer that is not about the connector.
pub(crate) fn refuse(status: Status, head_only: bool, text: &mut String, out: &mut Vec<u8>) {
    text.clear();
    for part in ["{\"error\":\"", status.line(), "\"}\n"] {
        text.push_str(part);
    }
    respond(status, SystemTime::now(), text, head_only, out);
}

fn respond(status: Status, now: SystemTime, body: &mut String, head_only: bool, out: &mut Vec<u8>) {
    let body_len = body.len();
    // The date is written behind the body and taken away again: one buffer less.
    report::http_date(body, now);
    let (content, date) = body.split_at_checked(body_len).unwrap_or_default();
    out.clear();
    http::response_head(out, status, date, body_len);
    if !head_only {
        out.extend_from_slice(content.as_bytes());
    }
}
