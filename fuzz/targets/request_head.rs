//! Heads of requests, beside httparse.
#![no_main]

use baton_health::fuzzing::{self, MAX_HEAD};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let ours = fuzzing::request_head(bytes);
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEAD];
    let mut theirs = httparse::Request::new(&mut headers);
    let parsed = theirs.parse(bytes);
    match (&ours, parsed) {
        (Ok(None), Ok(httparse::Status::Complete(len))) => panic!("whole with {len} bytes, and we wait"),
        (Ok(Some(head)), Ok(httparse::Status::Complete(len))) => {
            assert_eq!(head.len, len);
            let method = theirs.method.unwrap_or_default().as_bytes();
            let known = [&b"GET"[..], b"HEAD", b"OPTIONS"].contains(&method);
            assert_eq!(head.text, if known { method } else { b"" });
        }
        // httparse knows 1.0 and 1.1 only; any 1.x is HTTP/1 (RFC 9110 section 2.5).
        (Ok(Some(_)), Err(httparse::Error::Version)) => {}
        (Ok(Some(_)), other) => panic!("accepted, and httparse says {other:?}"),
        (Err(status), Ok(httparse::Status::Complete(len))) => {
            assert!(is_explained(&theirs, len), "{status}, and httparse accepts {theirs:?}");
        }
        (Ok(None) | Err(_), _) => {}
    }
});

/// Whether a request that httparse accepts breaks a rule above its grammar, or one that it does not check.
fn is_explained(request: &httparse::Request<'_, '_>, len: usize) -> bool {
    let path = request.path.unwrap_or_default();
    // Our limit, and forms of the target other than a plain path.
    if len > MAX_HEAD || !path.starts_with('/') || path.contains('#') || !path.is_ascii() || request.method == Some("CONNECT") {
        return true;
    }
    // Framing is checked as RFC 9112 section 6.3 wants it.
    let is = |header: &httparse::Header<'_>, name: &str| header.name.eq_ignore_ascii_case(name);
    let frames = |header: &httparse::Header<'_>| is(header, "content-length") || is(header, "transfer-encoding");
    if request.headers.iter().any(frames) {
        return true;
    }
    // One Host, and a valid one; with HTTP/1.0 none is fine (RFC 9112 section 3.2).
    let plain = |value: &[u8]| value.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(byte));
    let mut hosts = request.headers.iter().filter(|header| is(header, "host"));
    match (hosts.next(), hosts.next()) {
        (None, _) => request.version == Some(1),
        (Some(host), None) => !plain(host.value),
        (Some(_), Some(_)) => true,
    }
}
