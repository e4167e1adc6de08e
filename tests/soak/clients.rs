//! The clients: those that ask, those that only disturb, and what became of both.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use baton_health::{Endpoint, Probe};

use crate::moods::{Answer, History};

const BETWEEN_PROBES: Duration = Duration::from_millis(2);
const BETWEEN_DISTURBANCES: Duration = Duration::from_millis(5);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

/// More than the server has places.
const STALLED: usize = 200;

/// The ways to disturb.
pub(crate) const WAYS: usize = 4;

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) probes: [AtomicUsize; 3],
    pub(crate) disturbances: [AtomicUsize; WAYS],
    /// Answers that no mood allowed, the first of them as text.
    pub(crate) wrong: Mutex<Vec<String>>,
    pub(crate) lost: Mutex<Vec<String>>,
}

impl Counts {
    fn all(&self) -> impl Iterator<Item = usize> {
        self.probes.iter().chain(&self.disturbances).map(|count| count.load(Ordering::Relaxed))
    }

    pub(crate) fn any_is_zero(&self) -> bool {
        self.all().any(|count| count == 0)
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = Endpoint::ALL.map(Endpoint::name).into_iter().chain(["stalled", "reset", "without a body", "nonsense"]);
        for (place, (name, count)) in names.zip(self.all()).enumerate() {
            write!(f, "{}{count} {name}", if place == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

fn note(list: &Mutex<Vec<String>>, text: String) {
    list.lock().expect("nobody panics with it").push(text);
}

/// One probe, and whether a mood allowed its answer.
pub(crate) fn ask(address: SocketAddr, endpoint: Endpoint, history: &History, counts: &Counts) -> Answer {
    let begun = history.begin(endpoint);
    let answer = Answer::of(Probe::new(address).endpoint(endpoint).run());
    match &answer {
        Answer::Lost(error) => note(&counts.lost, format!("{error}, in {:?}", history.since(begun))),
        answer if !history.allows(begun, endpoint, answer) => {
            note(&counts.wrong, format!("{endpoint:?}: {answer:?}, in {:?}", history.since(begun)));
        }
        _ => {}
    }
    let place = Endpoint::ALL.iter().position(|other| *other == endpoint).unwrap_or(0);
    counts.probes[place].fetch_add(1, Ordering::Relaxed);
    answer
}

pub(crate) fn ask_until(done: &AtomicBool, address: SocketAddr, endpoint: Endpoint, history: &History, counts: &Counts) {
    while !done.load(Ordering::SeqCst) {
        ask(address, endpoint, history, counts);
        thread::sleep(BETWEEN_PROBES);
    }
}

pub(crate) fn disturb_until(done: &AtomicBool, address: SocketAddr, way: usize, counts: &Counts) {
    let mut stalled = VecDeque::new();
    let mut random = Random(0x9e37_79b9_7f4a_7c15 + way as u64);
    while !done.load(Ordering::SeqCst) {
        let Ok(stream) = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) else { continue };
        match way {
            0 => {
                let _ = (&stream).write_all(b"GET /health HTTP/1.1\r\nHo");
                stalled.push_back(stream);
                stalled.drain(..stalled.len().saturating_sub(STALLED));
            }
            1 => {
                // Closing with an unread answer resets the connection.
                let _ = (&stream).write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
                let _ = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.peek(&mut [0]));
            }
            2 => {
                let _ = (&stream).write_all(b"POST /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n");
            }
            _ => speak_nonsense(&stream, &mut random, &counts.wrong),
        }
        counts.disturbances[way].fetch_add(1, Ordering::Relaxed);
        thread::sleep(BETWEEN_DISTURBANCES);
    }
}

/// Random bytes, which begin like a request now and then. Only a client error may answer them.
fn speak_nonsense(mut stream: &TcpStream, random: &mut Random, wrong: &Mutex<Vec<String>>) {
    let starts: [&[u8]; 4] = [b"", b"GET /health HTTP/1.1\r\n", b"\x16\x03\x01", b"GET /live HTTP/1.1\r\nHost: a\r\n"];
    let mut bytes = starts[random.below(starts.len())].to_vec();
    // No byte that could end a line as HTTP has it, so that a head never happens to be whole.
    bytes.extend((0..random.below(9000)).map(|_| random.below(256) as u8).filter(|byte| *byte != b'\n'));
    let _ = stream.write_all(&bytes).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
    let mut answer = Vec::new();
    let read = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.read_to_end(&mut answer));
    let in_time = !read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    if !in_time || !(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.1 50")) {
        note(wrong, format!("nonsense: {:?}", String::from_utf8_lossy(&answer)));
    }
}

/// Xorshift: the same bytes in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
