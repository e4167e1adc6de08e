//! One connection, from accept to close: one request, one answer.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::response::{self, Question};
use super::room::{Idle, Place, Room};
use super::slots::Network;
use super::validation::{CheckError, Checks};
use crate::deadline::{self, Timed, after};
use crate::http::request::{self, Status};
use crate::limits::{DRAIN_GRACE, MAX_REQUEST_HEAD, USUAL_HEAD};

/// A client's connection. It owns the socket, the deadline and what has arrived so far; its place in the
/// waiting room is beside it.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Shared with the room, for eviction.
    stream: Arc<TcpStream>,
    peer: IpAddr,
    /// How long the client has to send its head, and again to take the answer.
    timeout: Duration,
    /// When the current step has to be done.
    deadline: Instant,
    /// What has arrived of the head.
    head: Vec<u8>,
    /// What has not been sent of the answer.
    unsent: Vec<u8>,
    answered: bool,
    /// The client may still be sending, so closing would take the answer from it.
    more_to_come: bool,
}

pub(crate) type WaitingRoom = Room<Connection, Arc<TcpStream>>;
pub(crate) type WaitingPlace = Place<Connection, Arc<TcpStream>>;

/// How long a thread may wait on a connection's behalf.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience<'a> {
    /// An acceptor waits for the head until then, and for nothing else.
    Brief(Instant),
    /// A thread of the waiting room waits as long as the connection's own deadlines allow.
    InRoom(&'a WaitingPlace),
    /// An acceptor waits this long for the client, and as long as it takes for the connector, since there is
    /// no other thread.
    Alone(Duration),
}

/// Why serving stopped early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It goes on where waiting is allowed.
    MustWait,
    /// The connection is over: its client has gone, or has taken too long.
    Closed,
}

impl Connection {
    /// A connection that was accepted now, and has `timeout` to send its head.
    pub(crate) fn new(stream: TcpStream, peer: IpAddr, timeout: Duration) -> Connection {
        Connection {
            stream: Arc::new(stream),
            peer,
            timeout,
            deadline: after(Instant::now(), timeout),
            head: Vec::new(),
            unsent: Vec::new(),
            answered: false,
            more_to_come: false,
        }
    }

    /// Reads the head, decides, answers, and closes. After [`Stop::MustWait`] it can be called again with
    /// more patience, and goes on from there.
    pub(crate) fn serve(&mut self, checks: &Arc<Checks>, patience: Patience<'_>) -> Result<(), Stop> {
        self.prepare(patience)?;
        if !self.answered {
            let answer = match self.read_head(patience)? {
                Ok(question) => self.decide(checks, &question, patience).ok_or(Stop::MustWait)?,
                Err(status) => response::refuse(status, request::asks_for_head(&self.head)),
            };
            self.answer_with(answer);
            self.prepare(patience)?;
        }
        if let Patience::InRoom(place) = patience {
            // Whatever is left depends on the client, which may ask again before the place is given back.
            place.stays_idle(self.network(), Arc::clone(&self.stream));
        }
        self.write(patience)?;
        if self.more_to_come { self.linger(patience) } else { Ok(()) }
    }

    /// Answers a request that has to wait, but cannot. One that is not complete gets no answer.
    pub(crate) fn refuse_to_wait(&mut self, checks: &Checks, error: &CheckError) {
        if let (false, Ok(Some(request))) = (self.answered, request::parse(&self.head)) {
            let answer = response::without_waiting(checks, &request.into(), self.peer, error);
            self.answer_with(answer);
            let _ = self.write(Patience::Brief(Instant::now()));
        }
    }

    /// The answer, unless it takes more patience.
    fn decide(&self, checks: &Arc<Checks>, question: &Question, patience: Patience<'_>) -> Option<Vec<u8>> {
        match patience {
            Patience::Brief(_) => response::known(checks, question, self.peer),
            Patience::InRoom(_) | Patience::Alone(_) => Some(response::wait(checks, question, self.peer)),
        }
    }

    fn answer_with(&mut self, answer: Vec<u8>) {
        self.unsent = answer;
        self.answered = true;
        self.deadline = after(Instant::now(), self.timeout);
    }

    /// Has the socket block where that is allowed, for as long as the thread and the room have time.
    fn prepare(&mut self, patience: Patience<'_>) -> Result<(), Stop> {
        let most = match patience {
            Patience::Brief(_) => return Ok(()),
            Patience::Alone(time) => time,
            // At shutdown those who are idle are evicted once; the others have to end on their own.
            Patience::InRoom(place) if place.is_closing() => DRAIN_GRACE,
            Patience::InRoom(_) => self.timeout,
        };
        self.deadline = self.deadline.min(after(Instant::now(), most));
        deadline::block(&self.stream).map_err(|_| Stop::Closed)
    }

    /// Where the client comes from.
    pub(crate) fn network(&self) -> Network {
        Network::of(self.peer)
    }

    /// What it takes to evict the connection, if it waits for its client.
    pub(crate) fn idle_handle(&self) -> Option<Arc<TcpStream>> {
        let waits_for_connector = !self.answered && matches!(request::parse(&self.head), Ok(Some(_)));
        (!waits_for_connector).then(|| Arc::clone(&self.stream))
    }

    /// The question, or the status to refuse it with.
    fn read_head(&mut self, patience: Patience<'_>) -> Result<Result<Question, Status>, Stop> {
        let _idle = patience.place().map(|place| self.becomes_idle(place));
        loop {
            match request::parse(&self.head) {
                Ok(Some(request)) => {
                    self.more_to_come = request.content || self.head.len() > request.len;
                    return Ok(Ok(request.into()));
                }
                Ok(None) => {}
                Err(status) => return Ok(Err(self.refused(status))),
            }
            match self.read_more(patience) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(Stop::MustWait),
                // A client that sent nothing expects nothing.
                _ if self.head.is_empty() => return Err(Stop::Closed),
                Ok(0) if !patience.place().is_some_and(WaitingPlace::is_evicted) => {
                    return Ok(Err(self.refused(Status::BadRequest)));
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(Err(self.refused(Status::RequestTimeout))),
                _ => return Err(Stop::Closed),
            }
        }
    }

    fn refused(&mut self, status: Status) -> Status {
        self.more_to_come = true;
        status
    }

    /// Appends what arrives next to the head; `WouldBlock` means that it takes more patience.
    fn read_more(&mut self, patience: Patience<'_>) -> io::Result<usize> {
        let filled = self.head.len();
        let size = if filled < USUAL_HEAD { USUAL_HEAD } else { MAX_REQUEST_HEAD };
        self.head.try_reserve_exact(size - filled)?;
        self.head.resize(size, 0);
        let (stream, room) = (&*self.stream, self.head.get_mut(filled..).unwrap_or_default());
        let read = match patience {
            Patience::Brief(until) => deadline::read_briefly(stream, room, until),
            _ => Timed { stream, deadline: self.deadline }.read(room),
        };
        self.head.truncate(filled + *read.as_ref().unwrap_or(&0));
        read
    }

    fn write(&mut self, patience: Patience<'_>) -> Result<(), Stop> {
        let stream = &*self.stream;
        if let Patience::Brief(_) = patience {
            // Nearly always the answer fits into the socket's buffer.
            let written = deadline::write_briefly(stream, &self.unsent).map_err(|_| Stop::Closed)?;
            self.unsent.drain(..written);
            return if self.unsent.is_empty() { Ok(()) } else { Err(Stop::MustWait) };
        }
        let written = Timed { stream, deadline: self.deadline }.write_all(&self.unsent);
        self.unsent.clear();
        written.map_err(|_| Stop::Closed)
    }

    /// Takes what the client still sends until it closes. Closing earlier would reset the connection, and
    /// take the answer from the client (RFC 9112 section 9.6).
    fn linger(&mut self, patience: Patience<'_>) -> Result<(), Stop> {
        if let Patience::Brief(_) = patience {
            return Err(Stop::MustWait);
        }
        let stream = &*self.stream;
        if stream.shutdown(Shutdown::Write).is_ok() {
            let mut discarded = [0; 4096];
            while matches!(Timed { stream, deadline: self.deadline }.read(&mut discarded), Ok(1..)) {}
        }
        Ok(())
    }

    /// The connection can be evicted for as long as the result lives.
    fn becomes_idle<'a>(&self, place: &'a WaitingPlace) -> Idle<'a, Connection, Arc<TcpStream>> {
        place.idle(self.network(), Arc::clone(&self.stream))
    }
}

impl<'a> Patience<'a> {
    fn place(self) -> Option<&'a WaitingPlace> {
        match self {
            Patience::InRoom(place) => Some(place),
            _ => None,
        }
    }
}
