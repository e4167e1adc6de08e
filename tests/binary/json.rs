//! A strict reader of the JSON that the program writes: objects and strings (RFC 8259), no white
//! space between them, and no control characters, not even where JSON would allow them.

use std::iter::Peekable;
use std::str::Chars;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Text(String),
    Object(Vec<(String, Json)>),
}

/// The value that `text` is, the whole of it.
pub(crate) fn parse(text: &str) -> Result<Json, String> {
    let mut rest = text.chars().peekable();
    let value = value(&mut rest)?;
    match rest.next() {
        None => Ok(value),
        Some(c) => Err(format!("{c:?} after the end")),
    }
}

impl Json {
    /// A member of an object, and of the objects in it: `details.error`.
    pub(crate) fn at(&self, path: &str) -> Option<&str> {
        let member = path.split('.').try_fold(self, |json, name| match json {
            Json::Object(members) => members.iter().find(|(member, _)| member == name).map(|(_, value)| value),
            Json::Text(_) => None,
        })?;
        match member {
            Json::Text(text) => Some(text),
            Json::Object(_) => None,
        }
    }

    /// The names in an object, in their order.
    pub(crate) fn names(&self) -> Vec<&str> {
        match self {
            Json::Object(members) => members.iter().map(|(name, _)| &**name).collect(),
            Json::Text(_) => Vec::new(),
        }
    }
}

type Rest<'a> = Peekable<Chars<'a>>;

fn value(rest: &mut Rest<'_>) -> Result<Json, String> {
    match rest.peek() {
        Some('{') => object(rest),
        _ => Ok(Json::Text(string(rest)?)),
    }
}

fn object(rest: &mut Rest<'_>) -> Result<Json, String> {
    let mut members: Vec<(String, Json)> = Vec::new();
    expect(rest, '{')?;
    if rest.next_if_eq(&'}').is_some() {
        return Ok(Json::Object(members));
    }
    loop {
        let name = string(rest)?;
        expect(rest, ':')?;
        if members.iter().any(|(other, _)| *other == name) {
            return Err(format!("{name:?} twice"));
        }
        members.push((name, value(rest)?));
        match rest.next() {
            Some(',') => {}
            Some('}') => return Ok(Json::Object(members)),
            other => return Err(format!("{other:?} behind a member")),
        }
    }
}

fn string(rest: &mut Rest<'_>) -> Result<String, String> {
    let mut text = String::new();
    expect(rest, '"')?;
    loop {
        text.push(match rest.next().ok_or("an open string")? {
            '"' => return Ok(text),
            '\\' => match rest.next().ok_or("an open escape")? {
                c @ ('"' | '\\' | '/') => c,
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                // Nothing the program escapes is beyond the first plane.
                'u' => char::from_u32(hex(rest)?).ok_or("half a character")?,
                c => return Err(format!("an escape of {c:?}")),
            },
            c if c.is_control() => return Err(format!("a bare {c:?}")),
            c => c,
        });
    }
}

fn hex(rest: &mut Rest<'_>) -> Result<u32, String> {
    (0..4).try_fold(0, |number, _| {
        let digit = rest.next().and_then(|c| c.to_digit(16)).ok_or("not four digits")?;
        Ok(number * 16 + digit)
    })
}

fn expect(rest: &mut Rest<'_>, wanted: char) -> Result<(), String> {
    match rest.next() {
        Some(c) if c == wanted => Ok(()),
        other => Err(format!("{other:?} instead of {wanted:?}")),
    }
}

#[test]
fn the_reader_is_strict() {
    let json = parse(r#"{"a":"x\"\\\u001b\n","b":{"c":"é","d":{}}}"#).unwrap();
    assert_eq!(json.names(), ["a", "b"]);
    assert_eq!((json.at("a"), json.at("b.c"), json.at("b"), json.at("b.x")), (Some("x\"\\\u{1b}\n"), Some("é"), None, None));
    for bad in [
        "",
        "{",
        "}",
        "{}{}",
        "{} ",
        "{a:\"b\"}",
        "{\"a\":\"b\",}",
        "{\"a\" :\"b\"}",
        "{\"a\":\"b\",\"a\":\"c\"}",
        "\"a",
        "\"\\x41\"",
        "\"\\u00g0\"",
        "\"\\ud800\"",
        "\"\u{1b}\"",
        "\"\u{9b}\"",
        "{\"a\":\"b\"",
        "{\"a\":b}",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}
