//! Promises that both parsers keep for all bytes. The unit tests check them with generated heads, the
//! targets in `fuzz/` with heads that reach new code.

use std::fmt::Debug;

use super::request::{self, Host, Method, Request};
use super::response::{self, Response};
use crate::limits::{MAX_REQUEST_HEAD, MAX_RESPONSE_HEAD};

/// Panics if the parser of request heads breaks a promise for `bytes`.
pub(crate) fn check_request(bytes: &[u8]) {
    let bytes = &followed(bytes)[..];
    let Some((len, verdict)) = decision(bytes, request::parse) else {
        assert!(bytes.len() < MAX_REQUEST_HEAD, "still waiting beyond the limit");
        return;
    };
    assert!(len <= MAX_REQUEST_HEAD, "decided late: {len}");
    let Ok(request) = verdict else { return };
    assert_eq!(request.len, len, "not decided with the last byte of the head");
    is_clean(&bytes[..len]);

    let written = written_request(&request);
    if written.len() <= MAX_REQUEST_HEAD {
        assert_eq!(request::parse(&written), Ok(Some(Request { len: written.len(), ..request })), "{}", written.escape_ascii());
    }
    let bare = without_cr(&bytes[..len]);
    assert_eq!(request::parse(&bare), Ok(Some(Request { len: bare.len(), ..request })), "{}", bare.escape_ascii());
}

/// Panics if the parser of answers' heads breaks a promise for `bytes`.
pub(crate) fn check_response(bytes: &[u8]) {
    let bytes = &followed(bytes)[..];
    let Some((len, verdict)) = decision(bytes, response::parse) else {
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
        assert_eq!(response::parse(&written), Ok(Some(Response { len: written.len(), ..response })), "{}", written.escape_ascii());
    }
    let bare = without_cr(&bytes[..len]);
    assert_eq!(response::parse(&bare), Ok(Some(Response { len: bare.len(), ..response })), "{}", bare.escape_ascii());
}

/// `bytes` and more on the same connection, which must not change the verdict.
fn followed(bytes: &[u8]) -> Vec<u8> {
    let tails: [&[u8]; 5] = [b"", b"\0", b"\n\n", b"\r\n\r\nGET", b": x\r\nHost: b\r\n\r\n"];
    [bytes, tails[bytes.len() % tails.len()]].concat()
}

/// The number of bytes that decide, and the verdict; `None` while more bytes are needed. Panics if a later
/// byte changes the verdict.
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

/// Panics if the parser accepted a control character other than the tab, or a CR without LF.
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

/// The head without the CRs at the ends of its lines, which are optional (RFC 9112 section 2.2).
fn without_cr(head: &[u8]) -> Vec<u8> {
    head.iter().copied().filter(|&byte| byte != b'\r').collect()
}

/// The plainest head with the same meaning.
fn written_request(request: &Request<'_>) -> Vec<u8> {
    let host: &[u8] = match request.host {
        Host::Missing => b"",
        Host::Literal => b"127.0.0.1",
        Host::Name => b"name",
    };
    let (method, target): (&[u8], &[u8]) = match (request.method, request.path) {
        (Method::Get, path) => (b"GET", path),
        (Method::Head, path) => (b"HEAD", path),
        (Method::Options, path) => (b"OPTIONS", path),
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
    if request.forwarded {
        head.extend_from_slice(b"Via: 1.1 a\r\n");
    }
    if request.content {
        head.extend_from_slice(b"Content-Length: 1\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The plainest head with the same meaning.
fn written_response(response: &Response<'_>) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} ", response.status).into_bytes();
    head.extend_from_slice(response.reason);
    head.extend_from_slice(b"\r\n");
    if let Some(length) = response.length {
        head.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
    }
    if let Some(location) = response.location {
        head.extend_from_slice(&[b"Location: ", location, b"\r\n"].concat());
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Generates heads, the same ones in every run.
    struct Heads(u64);

    impl Heads {
        /// xorshift64 (Marsaglia, 2003).
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 16) as usize % limit
        }

        fn one_of<'a>(&mut self, pieces: &[&'a [u8]]) -> &'a [u8] {
            pieces[self.below(pieces.len())]
        }

        /// One of `heads` with a few mutations, or pieces of HTTP in random order.
        fn next(&mut self, heads: &[&[u8]]) -> Vec<u8> {
            if self.below(4) == 0 {
                let pieces: Vec<&[u8]> = (0..self.below(24)).map(|_| self.one_of(PIECES)).collect();
                return pieces.concat();
            }
            let mut head = self.one_of(heads).to_vec();
            for _ in 0..self.below(4) {
                let (a, b) = (self.below(head.len() + 1), self.below(head.len() + 1));
                let range = a.min(b)..a.max(b).min(a.min(b) + 16);
                let new = match self.below(5) {
                    0 => Vec::new(),
                    1 => vec![self.below(256) as u8],
                    2 => head[range.clone()].repeat(2),
                    3 => self.one_of(heads).to_vec(),
                    _ => self.one_of(PIECES).to_vec(),
                };
                let end = if self.below(2) == 0 { range.start } else { range.end };
                head.splice(range.start..end, new);
            }
            head
        }
    }

    #[rustfmt::skip]
    const PIECES: &[&[u8]] = &[
        b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b":", b",", b"/", b"?", b"#", b"*", b"@", b"[::1]", b"\0", b"\x80", b"0", b"9",
        b"GET", b"HEAD ", b"OPTIONS * ", b"CONNECT a:1 ", b"http://a", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"HTTP/1.1 ", b"200 OK",
        b"Host: a\r\n", b"Host: 127.0.0.1\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Prefer: wait=3\r\n",
        b"Forwarded: for=a\r\n", b"X-Forwarded-For: a\r\n", b"Location: /\r\n",
    ];

    const REQUESTS: &[&[u8]] = &[
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:8081\r\nPrefer: wait=5\r\n\r\n",
        b"HEAD http://a.b/live?c HTTP/1.0\nPrefer: x, wait=\"7\";y\n\n",
        b"\r\nPOST / HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 3\r\n\r\nabc",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"CONNECT [::1]:443 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
    ];

    const RESPONSES: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.0 503\nX:\n\n{}",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404  \xe9\r\nServer: a b\r\n\r\n",
    ];

    #[test]
    fn generated_heads_do_not_break_a_promise() {
        let mut heads = Heads(0x9e37_79b9_7f4a_7c15);
        let mut accepted = 0;
        let rounds = if cfg!(miri) { 100 } else { 10_000 };
        for _ in 0..rounds {
            let head = heads.next(REQUESTS);
            check_request(&head);
            accepted += usize::from(matches!(request::parse(&head), Ok(Some(_))));
            check_response(&heads.next(RESPONSES));
        }
        assert!(
            (rounds / 5..rounds * 4 / 5).contains(&accepted),
            "the generated heads should be neither all valid nor all invalid: {accepted} valid"
        );
    }
}
