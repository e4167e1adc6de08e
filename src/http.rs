//! HTTP/1.1 heads over plain bytes (RFC 9112, RFC 9110): no sockets, no clocks.
//!
//! Both parsers are pure functions of all bytes that have come so far. `Ok(None)` means that more
//! are needed; an error is final, whatever may follow. They decide on the shortest prefix that
//! decides, so it makes no difference how the bytes were split on their way.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::limits::{MAX_REQUEST_HEAD, MAX_RESPONSE_HEAD};

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
    /// Code and reason phrase, as the status line has them (RFC 9110 section 15, RFC 6585).
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

/// What a request says, as far as this server cares.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    /// The target's path, without the query; `*` for the asterisk form, empty for the authority form.
    pub(crate) path: &'a [u8],
    /// How the client addressed us.
    pub(crate) host: Host,
    /// `Prefer: wait=SECONDS` (RFC 7240 section 4.3).
    pub(crate) wait: Option<u32>,
    /// The head announces content: the client may go on sending.
    pub(crate) content: bool,
    /// Bytes in the head.
    pub(crate) len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Other,
}

/// What a `Host` field, or the authority of an absolute-form target, names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Host {
    /// No host at all: HTTP/1.0.
    #[default]
    Missing,
    /// An IP address or `localhost`: no name that somebody else's resolver could point at us.
    Literal,
    /// Any other name.
    Name,
}

/// What keeps a line, or a field, from being HTTP.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl From<Malformed> for Status {
    fn from(_: Malformed) -> Status {
        Status::BadRequest
    }
}

/// The head of a request. An error is the status to refuse it with.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<Request<'_>>, Status> {
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

    let mut fields = RequestFields::default();
    loop {
        match line(rest, is_field_content)? {
            None => return more(Status::HeadTooLarge),
            Some(([], after)) => {
                rest = after;
                break;
            }
            Some((text, after)) => {
                rest = after;
                let (name, value) = field(text)?;
                fields.note(name, value)?;
            }
        }
    }
    let content = fields.content()?;
    // Only HTTP/1.0 may come without Host (RFC 9112 section 3.2).
    if minor > 0 && fields.host == Host::Missing {
        return Err(Status::BadRequest);
    }
    // The authority of an absolute-form target stands in for Host (RFC 9112 section 3.2.2).
    let host = authority.unwrap_or(fields.host);
    Ok(Some(Request { method, path, host, wait: fields.wait, content, len: window.len() - rest.len() }))
}

struct RequestLine<'a> {
    method: Method,
    path: &'a [u8],
    authority: Option<Host>,
    minor: u8,
}

/// `method SP request-target SP HTTP-version` (RFC 9112 section 3), single spaces only.
fn request_line(text: &[u8]) -> Result<RequestLine<'_>, Status> {
    let (method, rest) = split(text, b' ').ok_or(Malformed)?;
    let (target, version) = split(rest, b' ').ok_or(Malformed)?;
    if !is_token(method) || target.is_empty() {
        return Err(Status::BadRequest);
    }
    let (major, minor) = version_of(version).ok_or(Malformed)?;
    if major != 1 {
        return Err(Status::VersionNotSupported);
    }
    let (path, authority) = match (method, target) {
        // The authority form is CONNECT's, the asterisk form is OPTIONS' (RFC 9112 sections 3.2.3 and 3.2.4).
        (b"CONNECT", _) => (&b""[..], Some(host(target)?)),
        (b"OPTIONS", b"*") => (target, None),
        _ => path(target)?,
    };
    let method = match method {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        _ => Method::Other,
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

/// `HTTP/` digit `.` digit (RFC 9112 section 2.3).
fn version_of(text: &[u8]) -> Option<(u8, u8)> {
    match text.strip_prefix(b"HTTP/")? {
        [major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9'] => Some((major - b'0', minor - b'0')),
        _ => None,
    }
}

/// What has been seen of the fields that matter.
#[derive(Default)]
struct RequestFields<'a> {
    host: Host,
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
        if name.eq_ignore_ascii_case(b"host") {
            // More than one Host, or one that is no host, is refused (RFC 9112 section 3.2).
            if self.host != Host::Missing {
                return Err(Malformed);
            }
            self.host = host(value)?;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            for member in value.split(|&byte| byte == b',') {
                self.note_length(member.trim_ascii())?;
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.codings.seen = true;
            for member in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
                self.codings.note(member);
            }
        } else if name.eq_ignore_ascii_case(b"prefer") {
            for member in value.split(|&byte| byte == b',') {
                // The first of several counts (RFC 7240 section 2).
                self.wait = self.wait.or_else(|| wait(member));
            }
        }
        Ok(())
    }

    /// The same length may be repeated, a different one may not (RFC 9112 section 6.3). It may have
    /// any number of digits; none of it is ever read, so all that matters is whether it is zero.
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

    /// Whether content is announced, after what makes its framing doubtful has been refused.
    fn content(&self) -> Result<bool, Status> {
        let codings = &self.codings;
        if !codings.seen {
            return Ok(self.length.is_some_and(|length| !length.is_empty()));
        }
        // Both lengths at once are how requests are smuggled; a final coding other than chunked
        // leaves the length unknown (RFC 9112 sections 6.1 and 6.3).
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

/// The seconds in a preference `wait=SECONDS`, quoted or not, parameters left aside (RFC 7240 section 4.3).
fn wait(member: &[u8]) -> Option<u32> {
    let preference = split(member, b';').map_or(member, |(preference, _)| preference);
    let (name, value) = split(preference, b'=')?;
    let value = value.trim_ascii();
    let digits = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    if !name.trim_ascii().eq_ignore_ascii_case(b"wait") || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // More seconds than fit are more than anyone waits.
    Some(str::parse(std::str::from_utf8(digits).ok()?).unwrap_or(u32::MAX))
}

/// `uri-host [ ":" port ]` (RFC 9110 section 7.2); an empty host is allowed there.
fn host(value: &[u8]) -> Result<Host, Malformed> {
    let (name, port, literal) = if let Some(rest) = value.strip_prefix(b"[") {
        let (address, port) = split(rest, b']').ok_or(Malformed)?;
        if parse::<Ipv6Addr>(address).is_none() {
            return Err(Malformed);
        }
        (address, port, true)
    } else {
        let (name, port) = value.split_at(value.iter().position(|&byte| byte == b':').unwrap_or(value.len()));
        if !name.iter().all(|&byte| is_name_byte(byte)) {
            return Err(Malformed);
        }
        (name, port, name.eq_ignore_ascii_case(b"localhost") || parse::<Ipv4Addr>(name).is_some())
    };
    match port {
        [] => {}
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {}
        _ => return Err(Malformed),
    }
    Ok(if literal && !name.is_empty() { Host::Literal } else { Host::Name })
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    pub(crate) reason: &'a [u8],
    /// `Content-Length`, when there is one that fits.
    pub(crate) length: Option<u64>,
    /// Bytes in the head.
    pub(crate) len: usize,
}

/// The head of an answer, as strictly as it takes to be sure that it is one.
pub(crate) fn response(bytes: &[u8]) -> Result<Option<Response<'_>>, Malformed> {
    let window = bytes.get(..MAX_RESPONSE_HEAD).unwrap_or(bytes);
    let more = || if bytes.len() < MAX_RESPONSE_HEAD { Ok(None) } else { Err(Malformed) };

    // What cannot become a status line is not waited for: the far side may be silent from here on.
    let start = b"HTTP/1.";
    if !window.iter().zip(start).all(|(byte, expected)| byte == expected) {
        return Err(Malformed);
    }
    let Some((first, mut rest)) = line(window, is_field_content)? else { return more() };
    let (status, reason) = status_line(first).ok_or(Malformed)?;
    let mut length = None;
    loop {
        match line(rest, is_field_content)? {
            None => return more(),
            Some(([], after)) => return Ok(Some(Response { status, reason, length, len: window.len() - after.len() })),
            Some((text, after)) => {
                rest = after;
                let (name, value) = field(text)?;
                if name.eq_ignore_ascii_case(b"content-length") {
                    length = parse(value);
                }
            }
        }
    }
}

/// `HTTP-version SP 3DIGIT [ SP reason-phrase ]` (RFC 9112 section 4); the last space may be missing.
fn status_line(text: &[u8]) -> Option<(u16, &[u8])> {
    let (version, rest) = split(text, b' ')?;
    let (1, _) = version_of(version)? else { return None };
    let (code, reason) = split(rest, b' ').unwrap_or((rest, b""));
    match code {
        [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => Some((parse(code)?, reason)),
        _ => None,
    }
}

/// What stands before something, and what after it.
type Halves<'a> = (&'a [u8], &'a [u8]);

/// The first line and what follows it, or `None` while its end has not come. The line ends in LF,
/// with or without a CR before it (RFC 9112 section 2.2); any other CR, and every byte that is not
/// `allowed`, makes it malformed as soon as it has come.
fn line(bytes: &[u8], allowed: fn(u8) -> bool) -> Result<Option<Halves<'_>>, Malformed> {
    let (text, after) = match split(bytes, b'\n') {
        Some((text, after)) => (text, Some(after)),
        None => (bytes, None),
    };
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if !text.iter().all(|&byte| allowed(byte)) {
        return Err(Malformed);
    }
    Ok(after.map(|after| (text, after)))
}

/// `field-name ":" OWS field-value OWS` (RFC 9112 section 5). Space before the colon and lines
/// that continue the one before have no token in front of their colon, and fail by that.
fn field(text: &[u8]) -> Result<Halves<'_>, Malformed> {
    let (name, value) = split(text, b':').ok_or(Malformed)?;
    if is_token(name) { Ok((name, value.trim_ascii())) } else { Err(Malformed) }
}

/// What stands before and after the first `mark`.
fn split(bytes: &[u8], mark: u8) -> Option<Halves<'_>> {
    let at = bytes.iter().position(|&byte| byte == mark)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// What follows `prefix`, whose case does not matter.
fn after_prefix<'a>(bytes: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = bytes.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn parse<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Visible ASCII and the space.
fn is_request_line(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// Everything but control characters, the tab excepted (RFC 9110 section 5.5).
fn is_field_content(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// A token (RFC 9110 section 5.6.2): methods and field names.
fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// What a registered name is made of (RFC 3986 section 3.2.2).
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

/// A whole answer but for the body itself, which comes after it unless the request was HEAD.
/// `date` is the HTTP date (RFC 9110 section 6.6.1). A refused method is told which ones are not.
pub(crate) fn response_head(out: &mut Vec<u8>, status: Status, date: &str, body_len: usize) {
    for part in [
        "HTTP/1.1 ",
        status.line(),
        "\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nConnection: close\r\nDate: ",
        date,
        if status == Status::MethodNotAllowed { "\r\nAllow: GET, HEAD" } else { "" },
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
