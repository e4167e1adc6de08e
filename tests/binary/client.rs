//! A client of the health server: bytes out, an answer in.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::json::{self, Json};
use crate::program::PATIENCE;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the fields, without the empty line behind them.
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

/// Sends those bytes, and reads until the server closes.
pub(crate) fn ask(address: SocketAddr, request: &str) -> Answer {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).expect("the server takes a request");
    answer(stream)
}

pub(crate) fn answer(mut stream: TcpStream) -> Answer {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer, and then the end of the connection");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status line: {text:?}"));
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// An ordinary GET, as probes send it.
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    let answer = ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    assert_eq!(answer.field("Content-Length"), Some(&*answer.body.len().to_string()), "{answer:?}");
    answer
}

impl Answer {
    /// The one field of that name, spelled like that.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values =
            self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(": ")).filter(|(other, _)| *other == name);
        let value = values.next().map(|(_, value)| value);
        assert!(values.next().is_none(), "{name} twice: {self:?}");
        value
    }

    pub(crate) fn json(&self) -> Json {
        let line = self.body.strip_suffix('\n').unwrap_or_else(|| panic!("no newline at the end: {self:?}"));
        json::parse(line).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
