//! Parses the head of a request, for the server.

use super::{Malformed, fields, is_token, line, split, version_of};
use crate::address::parse_ip;
use crate::limits::MAX_REQUEST_HEAD;
use crate::text::parse_digits;

/// The status codes this server answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    UriTooLong,
    HeadTooLarge,
    NotImplemented,
    Unavailable,
    VersionNotSupported,
}

impl Status {
    /// Code and reason phrase for the status line (RFC 9110 section 15, RFC 6585).
    pub(crate) const fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RequestTimeout => "408 Request Timeout",
            Status::UriTooLong => "414 URI Too Long",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::NotImplemented => "501 Not Implemented",
            Status::Unavailable => "503 Service Unavailable",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// The parts of a request that this server uses.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    /// The target's path, without the query; `*` for the asterisk form, empty for the authority form.
    pub(crate) path: &'a [u8],
    /// How the client addressed the server.
    pub(crate) host: Host,
    /// A proxy passed the request on, so the peer is not the client.
    pub(crate) forwarded: bool,
    /// `Prefer: wait=SECONDS` (RFC 7240 section 4.3).
    pub(crate) wait: Option<u32>,
    /// The head announces content, so the client may still be sending.
    pub(crate) content: bool,
    /// Bytes in the head.
    pub(crate) len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Options,
    Other,
}

/// What a `Host` field, or the authority of an absolute-form target, names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Host {
    /// No host at all: HTTP/1.0.
    #[default]
    Missing,
    /// An IP address or `localhost`: an attacker's resolver cannot point these at the server.
    Literal,
    /// Any other name.
    Name,
}

impl From<Malformed> for Status {
    fn from(_: Malformed) -> Status {
        Status::BadRequest
    }
}

/// Parses the head of a request. An error is the status that refuses it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Request<'_>>, Status> {
    let window = bytes.get(..MAX_REQUEST_HEAD).unwrap_or(bytes);
    let more = |beyond: Status| if bytes.len() < MAX_REQUEST_HEAD { Ok(None) } else { Err(beyond) };

    // Empty lines before the request line are skipped (RFC 9112 section 2.2).
    let mut rest = window;
    let first = loop {
        match line(rest, is_request_line)? {
            None => return more(Status::UriTooLong),
            Some(([], after)) => rest = after,
            Some((first, after)) => {
                rest = after;
                break first;
            }
        }
    };
    let RequestLine { method, path, authority, minor } = request_line(first)?;

    let mut read = RequestFields::default();
    let Some(rest) = fields(rest, &mut |name, value| read.note(name, value))? else { return more(Status::HeadTooLarge) };
    let content = read.content()?;
    // Only HTTP/1.0 may come without Host (RFC 9112 section 3.2).
    if minor > 0 && read.host == Host::Missing {
        return Err(Status::BadRequest);
    }
    // The authority of an absolute-form target replaces Host (RFC 9112 section 3.2.2).
    let host = authority.unwrap_or(read.host);
    let RequestFields { forwarded, wait, .. } = read;
    Ok(Some(Request { method, path, host, forwarded, wait, content, len: window.len() - rest.len() }))
}

/// Whether these bytes, complete or not, start a HEAD request: its answer has no body (RFC 9110 section 9.3.2).
pub(crate) fn asks_for_head(bytes: &[u8]) -> bool {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
    bytes.get(start..).unwrap_or_default().starts_with(b"HEAD ")
}

struct RequestLine<'a> {
    method: Method,
    path: &'a [u8],
    authority: Option<Host>,
    minor: u8,
}

/// `method SP request-target SP HTTP-version` (RFC 9112 section 3), single spaces only.
fn request_line(text: &[u8]) -> Result<RequestLine<'_>, Status> {
    let (name, rest) = split(text, b' ').ok_or(Malformed)?;
    let (target, version) = split(rest, b' ').ok_or(Malformed)?;
    if !is_token(name) || target.is_empty() {
        return Err(Status::BadRequest);
    }
    let (major, minor) = version_of(version).ok_or(Malformed)?;
    if major != 1 {
        return Err(Status::VersionNotSupported);
    }
    let method = match name {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"OPTIONS" => Method::Options,
        _ => Method::Other,
    };
    let (path, authority) = match method {
        // The authority form is CONNECT's, the asterisk form is OPTIONS' (RFC 9112 sections 3.2.3 and 3.2.4).
        Method::Other if name == b"CONNECT" => (&b""[..], Some(host(target)?)),
        Method::Options if target == b"*" => (target, None),
        _ => path(target)?,
    };
    Ok(RequestLine { method, path, authority, minor })
}

/// The path of an origin-form or absolute-form target, without the query, and the latter's authority.
fn path(target: &[u8]) -> Result<(&[u8], Option<Host>), Malformed> {
    // A fragment never travels (RFC 9110 section 7.1).
    if target.contains(&b'#') {
        return Err(Malformed);
    }
    let (path, authority) = if target.starts_with(b"/") {
        (target, None)
    } else {
        let rest = after_prefix(target, b"http://").or_else(|| after_prefix(target, b"https://")).ok_or(Malformed)?;
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        // An http URI with an empty host is invalid (RFC 9110 section 4.2.1).
        if authority.is_empty() || authority.starts_with(b":") {
            return Err(Malformed);
        }
        (path, Some(host(authority)?))
    };
    let path = split(path, b'?').map_or(path, |(path, _)| path);
    Ok((if path.is_empty() { b"/" } else { path }, authority))
}

/// The fields that the server uses, as read so far.
#[derive(Default)]
struct RequestFields<'a> {
    host: Host,
    forwarded: bool,
    wait: Option<u32>,
    length: Option<&'a [u8]>,
    codings: Codings,
}

#[derive(Default)]
struct Codings {
    seen: bool,
    chunked: usize,
    chunked_last: bool,
    foreign: bool,
}

impl<'a> RequestFields<'a> {
    fn note(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Malformed> {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        let note: fn(&mut Self, &'a [u8]) -> Result<(), Malformed> = if is(b"host") {
            // A second Host or an invalid one is refused (RFC 9112 section 3.2).
            if self.host != Host::Missing {
                return Err(Malformed);
            }
            self.host = host(value)?;
            return Ok(());
        } else if is(b"content-length") {
            Self::note_length
        } else if is(b"transfer-encoding") {
            Self::note_coding
        } else if is(b"prefer") {
            Self::note_preference
        } else {
            self.forwarded |= is_proxys(name);
            return Ok(());
        };
        // These fields are lists (RFC 9110 section 5.6.1).
        value.split(|&byte| byte == b',').try_for_each(|member| note(self, member.trim_ascii()))
    }

    /// Repeated lengths must be equal (RFC 9112 section 6.3). The server never reads the content, so it only
    /// tells zero from other lengths, and accepts any number of digits.
    fn note_length(&mut self, digits: &'a [u8]) -> Result<(), Malformed> {
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Malformed);
        }
        let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
        let length = digits.get(zeros..).unwrap_or(digits);
        match self.length.replace(length) {
            Some(other) if other != length => Err(Malformed),
            _ => Ok(()),
        }
    }

    fn note_coding(&mut self, member: &[u8]) -> Result<(), Malformed> {
        self.codings.seen = true;
        if !member.is_empty() {
            self.codings.note(member);
        }
        Ok(())
    }

    /// The first of several preferences counts (RFC 7240 section 2).
    fn note_preference(&mut self, member: &[u8]) -> Result<(), Malformed> {
        self.wait = self.wait.or_else(|| wait(member));
        Ok(())
    }

    /// Whether the head announces content. An error refuses ambiguous framing.
    fn content(&self) -> Result<bool, Status> {
        let codings = &self.codings;
        if !codings.seen {
            return Ok(self.length.is_some_and(|length| !length.is_empty()));
        }
        // A Content-Length beside Transfer-Encoding allows request smuggling. A final coding other than
        // chunked leaves the length unknown (RFC 9112 sections 6.1 and 6.3).
        if self.length.is_some() || codings.chunked != 1 || !codings.chunked_last {
            return Err(Status::BadRequest);
        }
        if codings.foreign { Err(Status::NotImplemented) } else { Ok(true) }
    }
}

impl Codings {
    fn note(&mut self, member: &[u8]) {
        self.chunked_last = member.eq_ignore_ascii_case(b"chunked");
        if self.chunked_last {
            self.chunked += 1;
        } else {
            self.foreign = true;
        }
    }
}

/// The seconds in a preference `wait=SECONDS`, quoted or not; parameters are ignored (RFC 7240 section 4.3).
fn wait(member: &[u8]) -> Option<u32> {
    let preference = split(member, b';').map_or(member, |(preference, _)| preference);
    let (name, value) = split(preference, b'=')?;
    let value = value.trim_ascii();
    let digits = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    if !name.trim_ascii().eq_ignore_ascii_case(b"wait") || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // A number that does not fit means "as long as it takes".
    Some(parse_digits(digits).and_then(|seconds| seconds.try_into().ok()).unwrap_or(u32::MAX))
}

/// Whether proxies add a field of this name (RFC 7239; RFC 9110 section 7.6.3; custom).
fn is_proxys(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [b"forwarded", b"via", b"x-real-ip", b"x-forwarded-"];
    NAMES.iter().any(|start| after_prefix(name, start).is_some_and(|rest| rest.is_empty() || start.ends_with(b"-")))
}

/// `uri-host [ ":" port ]` (RFC 9110 section 7.2); the host may be empty there.
fn host(value: &[u8]) -> Result<Host, Malformed> {
    let has_brackets = value.starts_with(b"[");
    let end = value.iter().position(|&byte| byte == if has_brackets { b']' } else { b':' });
    let (name, port) = value.split_at(end.map_or(value.len(), |end| end + usize::from(has_brackets)));
    let is_literal = std::str::from_utf8(name).is_ok_and(|name| parse_ip(name).is_some());
    // Brackets are only for IPv6 addresses.
    if !is_literal && (has_brackets || !name.iter().all(|&byte| is_name_byte(byte))) {
        return Err(Malformed);
    }
    match port {
        [] => {}
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {}
        _ => return Err(Malformed),
    }
    Ok(if is_literal { Host::Literal } else { Host::Name })
}

/// The bytes after `prefix`, in upper or lower case.
fn after_prefix<'a>(bytes: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = bytes.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Visible ASCII and the space.
fn is_request_line(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// A byte of a registered name (RFC 3986 section 3.2.2).
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Result<(), Status> = Ok(());
    const BAD: Result<(), Status> = Err(Status::BadRequest);

    /// `Ok(())` for a plain GET of `/` with a literal host, else the status that refuses the request.
    fn verdict(head: &[u8]) -> Result<(), Status> {
        let request = parse(head)?.expect("undecided");
        assert_eq!(
            request,
            Request {
                method: Method::Get,
                path: b"/",
                host: Host::Literal,
                forwarded: false,
                wait: None,
                content: false,
                len: head.len()
            }
        );
        Ok(())
    }

    #[test]
    fn valid_request_lines_are_parsed_and_others_refused() {
        let bad = Err(Status::BadRequest);
        let version = Err(Status::VersionNotSupported);
        for (line, expected) in [
            // RFC 9112 section 3: single spaces, no others; token, target, version.
            ("GET / HTTP/1.1", Ok((Method::Get, "/"))),
            ("HEAD / HTTP/1.1", Ok((Method::Head, "/"))),
            ("GET  / HTTP/1.1", bad),
            ("GET /  HTTP/1.1", bad),
            ("GET\t/\tHTTP/1.1", bad),
            (" GET / HTTP/1.1", bad),
            ("GET / HTTP/1.1 ", bad),
            ("GET / x HTTP/1.1", bad),
            ("GET HTTP/1.1", bad),
            ("GET", bad),
            (" ", bad),
            // Methods are case-sensitive tokens (RFC 9110 section 9.1).
            ("get / HTTP/1.1", Ok((Method::Other, "/"))),
            ("POST / HTTP/1.1", Ok((Method::Other, "/"))),
            ("M-SEARCH / HTTP/1.1", Ok((Method::Other, "/"))),
            ("!#$%&'*+-.^_`|~09AZaz / HTTP/1.1", Ok((Method::Other, "/"))),
            ("G(T / HTTP/1.1", bad),
            ("G:T / HTTP/1.1", bad),
            ("G@T / HTTP/1.1", bad),
            ("\"GET\" / HTTP/1.1", bad),
            // HTTP/0.9, other versions, and texts that are not a version (RFC 9112 section 2.3).
            ("GET /", bad),
            ("GET / HTTP/1.0", Ok((Method::Get, "/"))),
            ("GET / HTTP/1.2", Ok((Method::Get, "/"))),
            ("GET / HTTP/1.9", Ok((Method::Get, "/"))),
            ("GET / HTTP/0.9", version),
            ("GET / HTTP/2.0", version),
            ("GET / HTTP/3.0", version),
            ("GET / HTTP/9.9", version),
            ("GET / HTTP/2", bad),
            ("GET / HTTP/1", bad),
            ("GET / HTTP/1.", bad),
            ("GET / HTTP/.1", bad),
            ("GET / HTTP/1.10", bad),
            ("GET / HTTP/01.1", bad),
            ("GET / HTTP/1,1", bad),
            ("GET / http/1.1", bad),
            ("GET / HTTPS/1.1", bad),
            ("GET / ICY/1.1", bad),
            // Origin form (RFC 9112 section 3.2.1): the query is dropped, everything else stays as it is.
            ("GET /health HTTP/1.1", Ok((Method::Get, "/health"))),
            ("GET /health?verbose=1 HTTP/1.1", Ok((Method::Get, "/health"))),
            ("GET /health?a?b/c HTTP/1.1", Ok((Method::Get, "/health"))),
            ("GET /? HTTP/1.1", Ok((Method::Get, "/"))),
            ("GET /health/ HTTP/1.1", Ok((Method::Get, "/health/"))),
            ("GET //health HTTP/1.1", Ok((Method::Get, "//health"))),
            ("GET /a/../health HTTP/1.1", Ok((Method::Get, "/a/../health"))),
            ("GET /%68ealth HTTP/1.1", Ok((Method::Get, "/%68ealth"))),
            ("GET /#fragment HTTP/1.1", bad),
            ("GET health HTTP/1.1", bad),
            ("GET ?a HTTP/1.1", bad),
            ("GET /h\u{e9}alth HTTP/1.1", bad),
            ("GET /\u{7f} HTTP/1.1", bad),
            // Absolute form (section 3.2.2).
            ("GET http://127.0.0.1/live HTTP/1.1", Ok((Method::Get, "/live"))),
            ("GET HTTP://127.0.0.1:8081/live?q HTTP/1.1", Ok((Method::Get, "/live"))),
            ("GET https://[::1]:1/live HTTP/1.1", Ok((Method::Get, "/live"))),
            ("GET http://127.0.0.1 HTTP/1.1", Ok((Method::Get, "/"))),
            ("GET http://127.0.0.1?q HTTP/1.1", Ok((Method::Get, "/"))),
            ("GET http:// HTTP/1.1", bad),
            ("GET http:///live HTTP/1.1", bad),
            ("GET http://:80/live HTTP/1.1", bad),
            ("GET http://user@127.0.0.1/live HTTP/1.1", bad),
            ("GET http://127.0.0.1:x/live HTTP/1.1", bad),
            ("GET http://127.0.0.1/#live HTTP/1.1", bad),
            ("GET http:/live HTTP/1.1", bad),
            ("GET ftp://127.0.0.1/live HTTP/1.1", bad),
            // Authority form and asterisk form belong to one method each (sections 3.2.3 and 3.2.4).
            ("CONNECT 127.0.0.1:443 HTTP/1.1", Ok((Method::Other, ""))),
            ("CONNECT / HTTP/1.1", bad),
            ("CONNECT http://127.0.0.1/ HTTP/1.1", bad),
            ("GET 127.0.0.1:443 HTTP/1.1", bad),
            ("OPTIONS * HTTP/1.1", Ok((Method::Options, "*"))),
            ("OPTIONS / HTTP/1.1", Ok((Method::Options, "/"))),
            ("OPTIONS /health HTTP/1.0", Ok((Method::Options, "/health"))),
            ("options / HTTP/1.1", Ok((Method::Other, "/"))),
            ("OPTIONS *x HTTP/1.1", bad),
            ("GET * HTTP/1.1", bad),
            ("HEAD * HTTP/1.1", bad),
        ] {
            for end in ["\r\n", "\n"] {
                let head = [line, end, "Host: 127.0.0.1", end, end].concat();
                let parsed = parse(head.as_bytes()).map(|request| request.expect(line));
                let found = parsed.map(|request| (request.method, std::str::from_utf8(request.path).unwrap()));
                assert_eq!(found, expected, "{line:?}");
            }
        }
    }

    #[test]
    fn requests_are_accepted_or_refused_byte_for_byte() {
        for (head, expected) in [
            (&b"GET / HTTP/1.1\r\nHost: [::1]:8081\r\n\r\n"[..], OK),
            // Empty lines before the request line, and bare LF, are tolerated (RFC 9112 section 2.2).
            (b"\r\n\r\n\nGET / HTTP/1.1\nHost: localhost\n\n", OK),
            (b"\r\n GET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
            // A bare CR (same section) and other control characters (RFC 9110 section 5.5) are not.
            (b"\rGET / HTTP/1.1\r\nHost: ::\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\rHost: a\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", BAD),
            (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x1b[2J\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x0b\r\n\r\n", BAD),
            // Tabs and bytes beyond ASCII are valid field content.
            (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\tb\xff\xc3\xa9\r\n\r\n", OK),
            // No space before the colon, no line folding, no line without a colon (RFC 9112 sections 5.1 and 5.2).
            (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tfolded: b\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", BAD),
            // Names are tokens (RFC 9110 section 5.1).
            (b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX Y: x\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX@Y: x\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX\xe9: x\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n!#$%&'*+-.^_`|~0Az: x\r\nEmpty:\r\n\r\n", OK),
            (b"GET / HTTP/1.1\r\nhOST:\t127.0.0.1 \t\r\n\r\n", OK),
            // Unknown expectations may be ignored (RFC 9110 section 10.1.1).
            (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n\r\n", OK),
            (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: the unexpected\r\n\r\n", OK),
            // Not HTTP/1 at all: HTTP/2 (RFC 9113 section 3.4), TLS, SSH, a PROXY header, HTTP/0.9, nothing.
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Err(Status::VersionNotSupported)),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", BAD),
            (b"\x80\x2e\x01\x00\x02", BAD),
            (b"SSH-2.0-OpenSSH_9.2\r\n", BAD),
            (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", BAD),
            (b"GET /\r\n", BAD),
            (b"\0", BAD),
        ] {
            assert_eq!(verdict(head), expected, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn bytes_that_cannot_become_a_request_are_refused_at_once() {
        for start in [&b"\0"[..], b"\x16\x03", b"GET /\x7f", b"GET /\r\r", b"\r\r", b"GET / HTTP/1.1\r\nHost: a\r\nX\0"] {
            assert_eq!(parse(start), Err(Status::BadRequest), "{}", start.escape_ascii());
        }
        for start in [&b""[..], b"\r", b"\r\n", b"G", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\n\r", b"GET / HTTP/1.1\r\nHost"] {
            assert_eq!(parse(start), Ok(None), "{}", start.escape_ascii());
        }
    }

    /// The host of a request with these fields, or the status that refuses it.
    fn host_in(version: &str, fields: &str) -> Result<Host, Status> {
        let head = ["GET / HTTP/", version, "\r\n", fields, "\r\n"].concat();
        parse(head.as_bytes()).map(|request| request.expect("undecided").host)
    }

    #[test]
    fn hosts_are_literals_names_or_malformed() {
        for (value, expected) in [
            ("127.0.0.1", Ok(Host::Literal)),
            ("127.0.0.1:8081", Ok(Host::Literal)),
            ("127.0.0.1:", Ok(Host::Literal)),
            ("192.0.2.1", Ok(Host::Literal)),
            ("localhost", Ok(Host::Literal)),
            ("LocalHost:8081", Ok(Host::Literal)),
            ("[::1]", Ok(Host::Literal)),
            ("[::1]:8081", Ok(Host::Literal)),
            ("[::ffff:127.0.0.1]", Ok(Host::Literal)),
            // Names that a resolver may point anywhere, and numbers that count as names.
            ("localhost.", Ok(Host::Name)),
            ("localhost.example", Ok(Host::Name)),
            ("127.0.0.1.example", Ok(Host::Name)),
            ("127.1", Ok(Host::Name)),
            ("0177.0.0.1", Ok(Host::Name)),
            ("2130706433", Ok(Host::Name)),
            ("a_b-c.d~e%2Ff!$&'()*+,;=", Ok(Host::Name)),
            ("example:99999999", Ok(Host::Name)),
            // Clients send an empty host for a target without authority (RFC 9110 section 7.2).
            ("", Ok(Host::Name)),
            (":80", Ok(Host::Name)),
            // Malformed hosts are refused (RFC 9112 section 3.2).
            ("a b", Err(Status::BadRequest)),
            ("a, b", Err(Status::BadRequest)),
            ("a/b", Err(Status::BadRequest)),
            ("a?b", Err(Status::BadRequest)),
            ("a#b", Err(Status::BadRequest)),
            ("user@a", Err(Status::BadRequest)),
            ("http://a", Err(Status::BadRequest)),
            ("a\\b", Err(Status::BadRequest)),
            ("<a>", Err(Status::BadRequest)),
            ("\"a\"", Err(Status::BadRequest)),
            ("gr\u{fc}n", Err(Status::BadRequest)),
            ("a:b", Err(Status::BadRequest)),
            ("a:80:80", Err(Status::BadRequest)),
            ("a:-1", Err(Status::BadRequest)),
            ("::1", Err(Status::BadRequest)),
            ("[::1", Err(Status::BadRequest)),
            ("::1]", Err(Status::BadRequest)),
            ("[::1]x", Err(Status::BadRequest)),
            ("[::1]:x", Err(Status::BadRequest)),
            ("[]", Err(Status::BadRequest)),
            ("[127.0.0.1]", Err(Status::BadRequest)),
            ("[fe80::1%25eth0]", Err(Status::BadRequest)),
        ] {
            assert_eq!(host_in("1.1", &["Host: ", value, "\r\n"].concat()), expected, "{value:?}");
        }
    }

    #[test]
    fn a_request_has_one_host_and_http_1_0_may_have_none() {
        let bad = Err(Status::BadRequest);
        for (version, fields, expected) in [
            ("1.0", "", Ok(Host::Missing)),
            ("1.1", "", bad),
            ("1.2", "", bad),
            ("1.1", "X-Host: a\r\n", bad),
            ("1.1", "Host: a\r\nHost: a\r\n", bad),
            ("1.0", "Host: a\r\nhost: b\r\n", bad),
            ("1.1", "Host:\r\nHost:\r\n", bad),
            ("1.0", "Host: a b\r\n", bad),
        ] {
            assert_eq!(host_in(version, fields), expected, "{version} {fields:?}");
        }
        // The target's authority replaces Host, but Host is still required and checked (section 3.2.2).
        for (authority, host, expected) in [
            ("127.0.0.1", "Host: evil.example\r\n", Ok(Host::Literal)),
            ("evil.example", "Host: 127.0.0.1\r\n", Ok(Host::Name)),
            ("127.0.0.1", "Host: a b\r\n", bad),
            ("127.0.0.1", "", bad),
        ] {
            let head = ["GET http://", authority, "/ HTTP/1.1\r\n", host, "\r\n"].concat();
            assert_eq!(parse(head.as_bytes()).map(|request| request.unwrap().host), expected, "{head:?}");
        }
    }

    #[test]
    fn content_is_announced_refused_or_absent() {
        let long_zero = ["Content-Length: ", &"0".repeat(4000)].concat();
        let huge = ["Content-Length: ", &"9".repeat(4000)].concat();
        for (fields, expected) in [
            ("", Ok(false)),
            // Content-Length (RFC 9110 section 8.6): digits, any number of them.
            ("Content-Length: 0", Ok(false)),
            ("Content-Length: 000", Ok(false)),
            (&long_zero, Ok(false)),
            ("Content-Length: 1", Ok(true)),
            ("content-length:10", Ok(true)),
            ("Content-Length: 18446744073709551616", Ok(true)),
            (&huge, Ok(true)),
            ("Content-Length:", Err(Status::BadRequest)),
            ("Content-Length: -1", Err(Status::BadRequest)),
            ("Content-Length: +1", Err(Status::BadRequest)),
            ("Content-Length: 0x1", Err(Status::BadRequest)),
            ("Content-Length: 1.0", Err(Status::BadRequest)),
            ("Content-Length: 1 2", Err(Status::BadRequest)),
            ("Content-Length: \u{661}", Err(Status::BadRequest)),
            // A length may be repeated, but only with the same value (RFC 9112 section 6.3).
            ("Content-Length: 5\r\nContent-Length: 5", Ok(true)),
            ("Content-Length: 5, 5", Ok(true)),
            ("Content-Length: 5, 05", Ok(true)),
            ("Content-Length: 5, 6", Err(Status::BadRequest)),
            ("Content-Length: 5\r\nContent-Length: 6", Err(Status::BadRequest)),
            ("Content-Length: 0\r\nContent-Length: 6", Err(Status::BadRequest)),
            ("Content-Length: 5,", Err(Status::BadRequest)),
            // Transfer-Encoding (sections 6.1 and 6.3): chunked once and last, nothing unknown, no length beside it.
            ("Transfer-Encoding: chunked", Ok(true)),
            ("transfer-encoding: CHUNKED", Ok(true)),
            ("Transfer-Encoding: , chunked ,", Ok(true)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5", Err(Status::BadRequest)),
            ("Content-Length: 0\r\nTransfer-Encoding: chunked", Err(Status::BadRequest)),
            ("Transfer-Encoding: chunked, chunked", Err(Status::BadRequest)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Err(Status::BadRequest)),
            ("Transfer-Encoding: gzip", Err(Status::BadRequest)),
            ("Transfer-Encoding: identity", Err(Status::BadRequest)),
            ("Transfer-Encoding: chunked, gzip", Err(Status::BadRequest)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip", Err(Status::BadRequest)),
            ("Transfer-Encoding: chunked;x=y", Err(Status::BadRequest)),
            ("Transfer-Encoding: xchunked", Err(Status::BadRequest)),
            ("Transfer-Encoding:", Err(Status::BadRequest)),
            ("Transfer-Encoding: gzip, chunked", Err(Status::NotImplemented)),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", Err(Status::NotImplemented)),
        ] {
            let head = ["GET / HTTP/1.1\r\nHost: a\r\n", fields, "\r\n\r\n"].concat();
            assert_eq!(parse(head.as_bytes()).map(|request| request.unwrap().content), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_client_may_say_how_long_it_waits() {
        for (fields, expected) in [
            ("Prefer: wait=10", Some(10)),
            ("prefer: WAIT=0", Some(0)),
            ("Prefer: wait = 10", Some(10)),
            ("Prefer: wait=\"10\"", Some(10)),
            ("Prefer: wait=10; foo=bar", Some(10)),
            ("Prefer: respond-async, wait=10", Some(10)),
            ("Prefer: respond-async\r\nPrefer: wait=10", Some(10)),
            ("Prefer: wait=10\r\nPrefer: wait=20", Some(10)),
            ("Prefer: wait=10, wait=20", Some(10)),
            ("Prefer: wait=x, wait=20", Some(20)),
            ("Prefer: wait=4294967295", Some(u32::MAX)),
            ("Prefer: wait=99999999999999999999", Some(u32::MAX)),
            // Preferences that make no sense are ignored (RFC 7240 section 2).
            ("Prefer: wait", None),
            ("Prefer: wait=", None),
            ("Prefer: wait=\"", None),
            ("Prefer: wait=\"\"", None),
            ("Prefer: wait=-1", None),
            ("Prefer: wait=+1", None),
            ("Prefer: wait=1.5", None),
            ("Prefer: await=1", None),
            ("Prefer:", None),
            ("X-Prefer: wait=1", None),
        ] {
            let head = ["GET / HTTP/1.1\r\nHost: a\r\n", fields, "\r\n\r\n"].concat();
            assert_eq!(parse(head.as_bytes()).unwrap().unwrap().wait, expected, "{fields:?}");
        }
    }

    #[test]
    fn a_proxys_fields_mark_a_request_as_forwarded() {
        for (fields, expected) in [
            ("", false),
            ("Forwarded: for=192.0.2.1", true),
            ("forwarded:", true),
            ("Via: 1.1 proxy", true),
            ("X-Real-IP: 192.0.2.1", true),
            ("X-Forwarded-For: 192.0.2.1", true),
            ("x-FORWARDED-proto: https", true),
            ("X-Forwarded-: a", true),
            ("Accept: */*\r\nX-Forwarded-Host: a\r\nConnection: close", true),
            ("X-Forwarded: a", false),
            ("X-Forwarde-For: a", false),
            ("Viaduct: a", false),
            ("X-Via: a", false),
            ("X-Real-IPs: a", false),
            ("User-Agent: Via Forwarded", false),
        ] {
            let head = ["GET / HTTP/1.1\r\nHost: a\r\n", fields, "\r\n", if fields.is_empty() { "" } else { "\r\n" }].concat();
            assert_eq!(parse(head.as_bytes()).unwrap().unwrap().forwarded, expected, "{fields:?}");
        }
    }

    /// `start`, then `fill` times `a`, then `end`.
    fn long(start: &str, fill: usize, end: &str) -> Vec<u8> {
        [start, &"a".repeat(fill), end].concat().into_bytes()
    }

    #[test]
    fn heads_end_at_the_limit() {
        const LINE: &str = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ";
        let room = MAX_REQUEST_HEAD - LINE.len() - 4;
        assert_eq!(verdict(&long(LINE, room, "\r\n\r\n")), OK);
        for (fill, end) in [(room + 1, "\r\n\r\n"), (room + 3, "\n\n"), (room + 4, ""), (100_000, "\r\n\r\n")] {
            assert_eq!(parse(&long(LINE, fill, end)), Err(Status::HeadTooLarge), "{fill}");
        }
        assert_eq!(parse(&long(LINE, room + 3, "")), Ok(None));
        let many = ["GET / HTTP/1.1\r\nHost: a\r\n", &"a:b\r\n".repeat(MAX_REQUEST_HEAD / 5)].concat();
        assert_eq!(parse(many.as_bytes()), Err(Status::HeadTooLarge));

        let room = MAX_REQUEST_HEAD - "GET / HTTP/1.0\n\n".len();
        assert_eq!(parse(&long("GET /", room, " HTTP/1.0\n\n")).unwrap().unwrap().path.len(), 1 + room);
        assert_eq!(parse(&long("GET /", room + 1, " HTTP/1.0\n\n")), Err(Status::HeadTooLarge));
        for (fill, end) in [(room + 2, " HTTP/1.0\n\n"), (MAX_REQUEST_HEAD - 5, ""), (100_000, "")] {
            assert_eq!(parse(&long("GET /", fill, end)), Err(Status::UriTooLong), "{fill}");
        }
        assert_eq!(parse(&long("GET /", MAX_REQUEST_HEAD - 6, "")), Ok(None));
        assert_eq!(parse(&b"\r\n".repeat(MAX_REQUEST_HEAD / 2)), Err(Status::UriTooLong));
        assert_eq!(
            parse(&long("GET / HTTP/1.0\r\nX: ", 10_000, "\0")),
            Err(Status::HeadTooLarge),
            "the parser ignores bytes beyond the limit"
        );
    }
}
