//! What both parsers promise for all bytes. The unit tests hold them to it with generated heads, the
//! targets in `fuzz/` with whatever reaches new code.

use std::fmt::Debug;

use crate::http::{self, Host, Method, Request, Response};
use crate::limits::{MAX_REQUEST_HEAD, MAX_RESPONSE_HEAD};

/// Panics if the parser of request heads breaks a promise for `bytes`.
pub(crate) fn request(bytes: &[u8]) {
    let bytes = &followed(bytes)[..];
    let Some((len, verdict)) = decision(bytes, http::request) else {
        assert!(bytes.len() < MAX_REQUEST_HEAD, "still waiting beyond the limit");
        return;
    };
    assert!(len <= MAX_REQUEST_HEAD, "decided late: {len}");
    let Ok(request) = verdict else { return };
    assert_eq!(request.len, len, "not decided with the last byte of the head");
    is_clean(&bytes[..len]);

    let written = written_request(&request);
    if written.len() <= MAX_REQUEST_HEAD {
        assert_eq!(http::request(&written), Ok(Some(Request { len: written.len(), ..request })), "{}", written.escape_ascii());
    }
    let bare = without_cr(&bytes[..len]);
    assert_eq!(http::request(&bare), Ok(Some(Request { len: bare.len(), ..request })), "{}", bare.escape_ascii());
}

/// Panics if the parser of answers' heads breaks a promise for `bytes`.
pub(crate) fn response(bytes: &[u8]) {
    let bytes = &followed(bytes)[..];
    let Some((len, verdict)) = decision(bytes, http::response) else {
        assert!(bytes.len() < MAX_RESPONSE_HEAD, "still waiting beyond the limit");
        return;
    };
    assert!(len <= MAX_RESPONSE_HEAD, "decided late: {len}");
    let Ok(response) = verdict else { return };
    assert_eq!(response.len, len, "not decided with the last byte of the head");
    assert!((100..1000).contains(&response.status), "no status code: {}", response.status);
    is_clean(&bytes[..len]);

    let written = written_response(&response);
    if written.len() <= MAX_RESPONSE_HEAD {
        assert_eq!(http::response(&written), Ok(Some(Response { len: written.len(), ..response })), "{}", written.escape_ascii());
    }
    let bare = without_cr(&bytes[..len]);
    assert_eq!(http::response(&bare), Ok(Some(Response { len: bare.len(), ..response })), "{}", bare.escape_ascii());
}

/// What may follow on the same connection: it must not change what was said before it.
fn followed(bytes: &[u8]) -> Vec<u8> {
    let tails: [&[u8]; 5] = [b"", b"\0", b"\n\n", b"\r\n\r\nGET", b": x\r\nHost: b\r\n\r\n"];
    [bytes, tails[bytes.len() % tails.len()]].concat()
}

/// The verdict and the number of bytes it takes, or `None` while more are needed. It comes with the same
/// byte however they were split, and stays, whatever follows.
fn decision<'a, T, E>(bytes: &'a [u8], parse: fn(&'a [u8]) -> Result<Option<T>, E>) -> Option<(usize, Result<T, E>)>
where
    Result<Option<T>, E>: Debug + PartialEq,
{
    let decides = |&end: &usize| !matches!(parse(&bytes[..end]), Ok(None));
    let first = (0..=bytes.len()).find(decides)?;
    let verdict = parse(&bytes[..first]);
    for end in [first + 1, first + 2, first.midpoint(bytes.len()), bytes.len()] {
        let longer = &bytes[..end.clamp(first, bytes.len())];
        assert_eq!(parse(longer), verdict, "{first} bytes decide {}", longer.escape_ascii());
    }
    Some((first, verdict.transpose()?))
}

/// No control character but the tab gets through, and a CR only before LF.
fn is_clean(head: &[u8]) {
    for (at, &byte) in head.iter().enumerate() {
        let clean = match byte {
            b'\r' => head.get(at + 1) == Some(&b'\n'),
            b'\n' | b'\t' => true,
            _ => !byte.is_ascii_control(),
        };
        assert!(clean, "{byte} at {at} in {}", head.escape_ascii());
    }
}

/// The CR at a line's end is optional (RFC 9112 section 2.2), and says nothing.
fn without_cr(head: &[u8]) -> Vec<u8> {
    head.iter().copied().filter(|&byte| byte != b'\r').collect()
}

/// The plainest head that says the same.
fn written_request(request: &Request<'_>) -> Vec<u8> {
    let host: &[u8] = match request.host {
        Host::Missing => b"",
        Host::Literal => b"127.0.0.1",
        Host::Name => b"name",
    };
    let (method, target): (&[u8], &[u8]) = match (request.method, request.path) {
        (Method::Get, path) => (b"GET", path),
        (Method::Head, path) => (b"HEAD", path),
        (Method::Other, b"*") => (b"OPTIONS", b"*"),
        (Method::Other, b"") => (b"CONNECT", host),
        (Method::Other, path) => (b"PUT", path),
    };
    let mut head = [method, b" ", target].concat();
    if request.host == Host::Missing {
        head.extend_from_slice(b" HTTP/1.0\r\n");
    } else {
        head.extend_from_slice(&[b" HTTP/1.1\r\nHost: ", host, b"\r\n"].concat());
    }
    if let Some(seconds) = request.wait {
        head.extend_from_slice(format!("Prefer: wait={seconds}\r\n").as_bytes());
    }
    if request.content {
        head.extend_from_slice(b"Content-Length: 1\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The plainest head that says the same.
fn written_response(response: &Response<'_>) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} ", response.status).into_bytes();
    head.extend_from_slice(response.reason);
    head.extend_from_slice(b"\r\n");
    if let Some(length) = response.length {
        head.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}
