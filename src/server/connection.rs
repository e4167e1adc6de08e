//! One connection, from accept to close: one request, one answer.

use std::io::{self, ErrorKind};
use std::mem;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::response::{self, Question};
use super::room::{Idle, Place, Room};
use super::slots::Network;
use super::validation::{CheckError, Validation, Verdict};
use crate::deadline::{self, SHUTDOWN_ENDS_READS, Timed, after, left};
use crate::http::request::{self, Status};
use crate::limits::{DRAIN_GRACE, MAX_REQUEST_HEAD, USUAL_HEAD};

/// A client's connection: the socket, its deadline and the bytes that have arrived. A [`WaitingPlace`]
/// is separate, since an acceptor serves connections without one.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Shared with the room, for eviction.
    stream: Arc<TcpStream>,
    peer: IpAddr,
    /// How long the client may take to send its head, and again to take the answer.
    timeout: Duration,
    /// When the current step must be finished.
    deadline: Instant,
    /// The bytes of the head that have arrived.
    head: Vec<u8>,
    /// The bytes of the answer that have not been sent. Before the answer, memory for it.
    unsent: Vec<u8>,
    answered: bool,
    /// The client may still be sending, so closing now could destroy the answer.
    more_to_come: bool,
}

pub(crate) type WaitingRoom = Room<Connection, Arc<TcpStream>>;
pub(crate) type WaitingPlace = Place<Connection, Arc<TcpStream>>;

/// How long the current thread may wait for a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience<'a> {
    /// An acceptor waits for the head until this instant, and for nothing else.
    Brief(Instant),
    /// A thread of the waiting room waits as long as the connection's own deadlines allow.
    InRoom(&'a WaitingPlace),
    /// No thread could be started, so an acceptor waits: this long for the client, and for the connector as long as it
    /// takes.
    OnAcceptor(Duration),
}

/// Why serving stopped early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// This thread may not wait any longer. Another thread has to go on.
    MustWait,
    /// The connection is over: its client has gone or has taken too long.
    Closed,
}

impl Connection {
    /// A connection that was accepted now. Its client has `timeout` to send the head. `spare` is memory for the answer.
    pub(crate) fn new(stream: TcpStream, peer: IpAddr, timeout: Duration, spare: Vec<u8>) -> Connection {
        Connection {
            stream: Arc::new(stream),
            peer,
            timeout,
            deadline: after(Instant::now(), timeout),
            head: Vec::new(),
            unsent: spare,
            answered: false,
            more_to_come: false,
        }
    }

    /// Reads the head, decides, answers, and closes. After [`Unfinished::MustWait`], a call with more patience
    /// continues where this one stopped.
    pub(crate) fn serve(&mut self, validation: &Arc<Validation>, patience: Patience<'_>) -> Result<(), Unfinished> {
        self.prepare(patience)?;
        if !self.answered {
            let answer = match self.read_head(patience)? {
                Ok(question) => {
                    let remote = question.is_remote(self.peer);
                    let verdict = verdict(validation, &question, remote, patience).ok_or(Unfinished::MustWait)?;
                    response::answer(mem::take(&mut self.unsent), &question, self.peer, &verdict)
                }
                Err(status) => response::refuse(status, request::asks_for_head(&self.head)),
            };
            self.answer_with(answer);
            self.prepare(patience)?;
        }
        if let Patience::InRoom(place) = patience {
            // From here on the connection only waits for its client. It must count as idle before the answer
            // is sent, since the client may then ask again at once and need the place.
            place.stays_idle(self.network(), Arc::clone(&self.stream));
        }
        self.write(patience)?;
        if self.more_to_come { self.linger(patience) } else { Ok(()) }
    }

    /// Answers a request that would have to wait, but must not. An incomplete request gets no answer.
    pub(crate) fn refuse_to_wait(&mut self, validation: &Validation, error: CheckError) {
        if let (false, Ok(Some(request))) = (self.answered, request::parse(&self.head)) {
            // A refused request has its answer already.
            if let Ok(question) = Question::try_from(request) {
                let verdict = validation.known(question.endpoint, question.wait).unwrap_or(Err(error));
                self.answer_with(response::answer(Vec::new(), &question, self.peer, &verdict));
                let _ = self.write(Patience::Brief(Instant::now()));
            }
        }
    }

    /// Closes the connection, and returns the memory of its answer for another one.
    pub(crate) fn into_spare(self) -> Vec<u8> {
        self.unsent
    }

    fn answer_with(&mut self, answer: Vec<u8>) {
        self.unsent = answer;
        self.answered = true;
        self.deadline = after(Instant::now(), self.timeout);
    }

    /// Makes the socket blocking if this thread may wait, and shortens the deadline to the time it has.
    fn prepare(&mut self, patience: Patience<'_>) -> Result<(), Unfinished> {
        let most = match patience {
            Patience::Brief(_) => return Ok(()),
            Patience::OnAcceptor(time) => time,
            // Shutdown evicts idle connections only once, so one that becomes idle later gets a short deadline.
            Patience::InRoom(place) if place.is_closing() => DRAIN_GRACE,
            Patience::InRoom(_) => self.timeout,
        };
        self.deadline = self.deadline.min(after(Instant::now(), most));
        deadline::block(&self.stream).map_err(|_| Unfinished::Closed)
    }

    /// The client's network, for eviction.
    pub(crate) fn network(&self) -> Network {
        Network::of(self.peer)
    }

    /// The handle to evict the connection with, if it waits for its client and not for the connector.
    pub(crate) fn idle_handle(&self) -> Option<Arc<TcpStream>> {
        let waits_for_connector = !self.answered && matches!(request::parse(&self.head), Ok(Some(_)));
        (!waits_for_connector).then(|| Arc::clone(&self.stream))
    }

    /// Reads the head, and returns the question or the status that refuses it.
    fn read_head(&mut self, patience: Patience<'_>) -> Result<Result<Question, Status>, Unfinished> {
        let _idle = patience.place().map(|place| self.becomes_idle(place));
        loop {
            match request::parse(&self.head) {
                Ok(Some(request)) => {
                    self.more_to_come |= request.content || self.head.len() > request.len;
                    return Ok(request.try_into());
                }
                Ok(None) => {}
                Err(status) => return Ok(Err(self.expects_more(status))),
            }
            match self.read_more(patience) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(Unfinished::MustWait),
                // A client that has sent nothing gets no answer.
                _ if self.head.is_empty() => return Err(Unfinished::Closed),
                Ok(0) if !patience.place().is_some_and(WaitingPlace::is_evicted) => {
                    return Ok(Err(self.expects_more(Status::BadRequest)));
                }
                // The server ends, so the client had less time than it was promised.
                Err(_) if patience.place().is_some_and(WaitingPlace::is_closing) => return Err(Unfinished::Closed),
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(Err(self.expects_more(Status::RequestTimeout))),
                _ => return Err(Unfinished::Closed),
            }
        }
    }

    /// Notes that the client may still be sending what was refused.
    fn expects_more(&mut self, status: Status) -> Status {
        self.more_to_come = true;
        status
    }

    /// Reads more bytes of the head. `WouldBlock` means that this thread must not wait for them.
    fn read_more(&mut self, patience: Patience<'_>) -> io::Result<usize> {
        let mut bytes = [0; USUAL_HEAD];
        let most = USUAL_HEAD.min(MAX_REQUEST_HEAD.saturating_sub(self.head.len()));
        let space = bytes.get_mut(..most).unwrap_or_default();
        let read = match patience {
            // With no time left, one read is enough: it has most likely taken all there is.
            Patience::Brief(until) if !self.head.is_empty() && left(until).is_err() => return Err(ErrorKind::WouldBlock.into()),
            Patience::Brief(until) => deadline::read_briefly(&self.stream, space, until)?,
            _ => patience.read(&self.stream, space, self.deadline)?,
        };
        // A read that takes all it can may have left bytes behind.
        self.more_to_come = read == most;
        self.head.try_reserve(read)?;
        self.head.extend_from_slice(space.get(..read).unwrap_or_default());
        Ok(read)
    }

    fn write(&mut self, patience: Patience<'_>) -> Result<(), Unfinished> {
        let stream = &*self.stream;
        if let Patience::Brief(_) = patience {
            // The answer nearly always fits into the socket's buffer.
            let written = deadline::write_briefly(stream, &self.unsent).map_err(|_| Unfinished::Closed)?;
            self.unsent.drain(..written);
            return if self.unsent.is_empty() { Ok(()) } else { Err(Unfinished::MustWait) };
        }
        let written = Timed { stream, deadline: self.deadline }.write_all(&self.unsent);
        self.unsent.clear();
        written.map_err(|_| Unfinished::Closed)
    }

    /// Discards what the client still sends, until the client closes. Closing earlier would reset the
    /// connection, and the client might lose the answer (RFC 9112 section 9.6).
    fn linger(&mut self, patience: Patience<'_>) -> Result<(), Unfinished> {
        if let Patience::Brief(_) = patience {
            return Err(Unfinished::MustWait);
        }
        if self.stream.shutdown(Shutdown::Write).is_ok() {
            let mut discarded = [0; 4096];
            while matches!(patience.read(&self.stream, &mut discarded, self.deadline), Ok(1..)) {}
        }
        Ok(())
    }

    /// Marks the connection idle, so that it can be evicted for as long as the result lives.
    fn becomes_idle<'a>(&self, place: &'a WaitingPlace) -> Idle<'a, Connection, Arc<TcpStream>> {
        place.idle(self.network(), Arc::clone(&self.stream))
    }
}

/// What the checks say, or `None` if that needs a wait that this thread must not make.
fn verdict(validation: &Arc<Validation>, question: &Question, remote: bool, patience: Patience<'_>) -> Option<Verdict> {
    let (endpoint, wait) = (question.endpoint, question.wait);
    match patience {
        Patience::Brief(_) => validation.known(endpoint, wait),
        Patience::OnAcceptor(_) => Some(validation.ask(endpoint, wait, remote)),
        Patience::InRoom(place) => validation.known(endpoint, wait).or_else(|| {
            place.stays_active();
            Some(validation.ask(endpoint, wait, remote))
        }),
    }
}

impl<'a> Patience<'a> {
    /// Waits for bytes until `deadline`, or until the connection is evicted.
    fn read(self, stream: &TcpStream, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        if SHUTDOWN_ENDS_READS {
            Timed { stream, deadline }.read(buffer)
        } else {
            deadline::poll(stream, buffer, deadline, || self.place().is_some_and(WaitingPlace::is_evicted))
        }
    }

    fn place(self) -> Option<&'a WaitingPlace> {
        match self {
            Patience::InRoom(place) => Some(place),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::connector::Functions;
    use crate::log::Log;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(20);
    const LIVE: &str = "GET /live HTTP/1.1\r\nHost: a\r\n\r\n";
    const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";

    fn validation() -> Arc<Validation> {
        let validation = Validation::new(&Config::default(), Log(Arc::new(|_| ())));
        validation.attach(Arc::new(Functions { validate: || Ok(()), ready: || Ok(()) }));
        Arc::new(validation)
    }

    /// A client that has sent this, and its connection.
    fn connection(sent: &str, timeout: Duration) -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(sent.as_bytes()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        (client, Connection::new(stream, peer.ip(), timeout, Vec::new()))
    }

    /// A room with this connection in it, which is idle.
    fn in_room(connection: Connection) -> (Arc<WaitingRoom>, Connection, WaitingPlace) {
        let room = Arc::new(Room::new(2, 2, 2, |_| ()));
        let (id, network, handle) = (room.arrival().0, connection.network(), connection.idle_handle());
        assert!(room.admit(connection, id, network, handle).unwrap().start_thread);
        let (connection, place) = room.next().unwrap();
        (room, connection, place)
    }

    /// What the client gets, once the server has closed the connection. A place has a handle of it too.
    fn answer<T>(mut client: TcpStream, connection: T) -> String {
        drop(connection);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn an_answer_that_does_not_fit_is_sent_by_the_thread_that_may_wait() {
        let (mut client, mut connection) = connection("", LONG);
        deadline::read_briefly(&connection.stream, &mut [0], Instant::now()).unwrap_err();
        let whole: Vec<u8> = (0..16_000_000_u32).map(|number| (number % 251) as u8).collect();
        connection.answer_with(whole.clone());
        let validation = validation();
        let soon = Patience::Brief(Instant::now());
        assert_eq!(connection.serve(&validation, soon), Err(Unfinished::MustWait));
        assert!(connection.unsent.len() < whole.len(), "some of it fits");
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).map(|_| bytes)
        });
        let (_room, mut connection, place) = in_room(connection);
        assert_eq!(connection.serve(&validation, Patience::InRoom(&place)), Ok(()));
        drop((connection, place));
        assert!(reader.join().unwrap().unwrap() == whole);
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_client_that_is_too_slow_is_told_so_unless_the_server_ends_or_it_has_sent_nothing() {
        for (sent, closing, expected) in [("GET", false, "HTTP/1.1 408 "), ("GET", true, ""), ("", false, ""), ("", true, "")] {
            let (client, connection) = connection(sent, SHORT);
            let (room, mut connection, place) = in_room(connection);
            if closing {
                room.close();
            }
            let served = connection.serve(&validation(), Patience::InRoom(&place));
            assert_eq!(served, if expected.is_empty() { Err(Unfinished::Closed) } else { Ok(()) });
            let text = answer(client, (connection, place));
            assert!(text.starts_with(expected) && text.is_empty() == expected.is_empty(), "{sent} {closing}: {text}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn at_shutdown_a_client_has_only_a_moment() {
        let (client, connection) = connection("GET", LONG);
        let (room, mut connection, place) = in_room(connection);
        room.close();
        assert_eq!(connection.serve(&validation(), Patience::InRoom(&place)), Err(Unfinished::Closed));
        assert_eq!(answer(client, (connection, place)), "");
    }

    // On Windows the client may see a reset in the place of the end.
    #[test]
    #[cfg(not(windows))]
    #[cfg_attr(miri, ignore = "sockets")]
    fn half_a_head_is_a_bad_request_unless_the_connection_was_evicted() {
        for (evicted, expected) in [(false, "HTTP/1.1 400 "), (true, "")] {
            let (client, connection) = connection("GET", LONG);
            let (room, mut connection, place) = in_room(connection);
            if evicted {
                room.evict_one().0.unwrap().shutdown(Shutdown::Read).unwrap();
                assert!(place.is_evicted());
            } else {
                client.shutdown(Shutdown::Write).unwrap();
            }
            let served = connection.serve(&validation(), Patience::InRoom(&place));
            assert_eq!(served, if evicted { Err(Unfinished::Closed) } else { Ok(()) });
            let text = answer(client, (connection, place));
            assert!(text.starts_with(expected) && text.is_empty() == expected.is_empty(), "{text}");
        }
    }

    // Elsewhere the system discards what has arrived.
    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_request_that_has_arrived_is_answered_after_an_eviction() {
        let (client, connection) = connection(LIVE, LONG);
        let (room, mut connection, place) = in_room(connection);
        room.evict_one().0.unwrap().shutdown(Shutdown::Read).unwrap();
        assert_eq!(connection.serve(&validation(), Patience::InRoom(&place)), Ok(()));
        assert!(answer(client, (connection, place)).starts_with("HTTP/1.1 200 "));
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn only_a_connection_that_waits_for_its_client_can_be_evicted() {
        let validation = validation();
        let soon = || Patience::Brief(Instant::now() + LONG);
        let (_client, mut connection) = connection("", LONG);
        assert!(connection.idle_handle().is_some(), "its head has not arrived");
        assert_eq!(connection.network(), Network::Loopback);
        connection.head = HEALTH.as_bytes().to_vec();
        assert_eq!(connection.serve(&validation, soon()), Err(Unfinished::MustWait));
        assert!(connection.idle_handle().is_none(), "it waits for the connector");
        connection.answer_with(Vec::new());
        assert!(connection.idle_handle().is_some(), "its answer is ready");
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn only_a_whole_request_without_an_answer_is_refused_to_wait() {
        let validation = validation();
        for (head, answered, expected) in [
            ("GET", false, ""),
            (HEALTH, false, "HTTP/1.1 503 "),
            (LIVE, false, "HTTP/1.1 200 "),
            (HEALTH, true, ""),
            ("x\r\n", false, ""),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false, ""),
        ] {
            let (client, mut connection) = connection("", LONG);
            connection.head = head.as_bytes().to_vec();
            connection.answered = answered;
            connection.refuse_to_wait(&validation, CheckError::Busy);
            let text = answer(client, connection);
            assert!(text.starts_with(expected) && text.is_empty() == expected.is_empty(), "{head}: {text}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn without_a_thread_an_acceptor_waits_for_the_connector_but_not_long_for_the_client() {
        let validation = validation();
        let on_acceptor = Patience::OnAcceptor(SHORT);
        for (sent, expected) in [("", ""), ("GET", "HTTP/1.1 408 "), (HEALTH, "HTTP/1.1 200 ")] {
            let (client, mut connection) = connection(sent, LONG);
            let served = connection.serve(&validation, on_acceptor);
            assert_eq!(served, if sent.is_empty() { Err(Unfinished::Closed) } else { Ok(()) });
            let text = answer(client, connection);
            assert!(text.starts_with(expected) && text.is_empty() == expected.is_empty(), "{sent}: {text}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn clients_elsewhere_leave_half_of_the_quota_to_those_here() {
        let ask = |validation: &Arc<Validation>, field: &str, in_a_room: bool| {
            let (client, mut connection) = connection(&format!("GET /ready HTTP/1.1\r\nHost: a\r\n{field}\r\n"), LONG);
            if in_a_room {
                let (_room, mut connection, place) = in_room(connection);
                connection.serve(validation, Patience::InRoom(&place)).unwrap();
                answer(client, (connection, place))
            } else {
                connection.serve(validation, Patience::OnAcceptor(LONG)).unwrap();
                answer(client, connection)
            }
        };
        const PROXY: &str = "Via: 1.1 proxy\r\n";
        for in_a_room in [false, true] {
            let config = Config { max_connections: 8, ..Config::default() };
            let validation = Arc::new(Validation::new(&config, Log(Arc::new(|_| ()))));
            // The first call of `ready` asks again, while its own client is inside.
            let inside = std::sync::Mutex::new(Some(Arc::downgrade(&validation)));
            let ready = move || {
                let first = inside.lock().unwrap().take();
                if let Some(validation) = first.and_then(|validation| validation.upgrade()) {
                    assert!(ask(&validation, PROXY, in_a_room).contains("too many"));
                    assert!(ask(&validation, "", in_a_room).contains("\"ready\""));
                }
                Ok(())
            };
            validation.attach(Arc::new(Functions { validate: || Ok(()), ready }));
            assert!(ask(&validation, PROXY, in_a_room).contains("\"ready\""));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn what_a_client_sends_beside_its_head_is_read_before_the_close() {
        let validation = validation();
        let filler = "x".repeat(USUAL_HEAD - "GET /live HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len());
        let one_read = ["GET /live HTTP/1.1\r\nHost: a\r\nX: ", &filler, "\r\n\r\n"].concat();
        let more = [
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
            &[LIVE, "x"].concat(),
            "x\r\n",
            "GET",
            // The bytes after the head are not read with it.
            &[&*one_read, LIVE].concat(),
        ]
        .map(str::to_owned);
        for (sent, lingers) in more.iter().map(|sent| (&**sent, true)).chain([(LIVE, false), (HEALTH, false)]) {
            let (client, connection) = connection(sent, SHORT);
            let (_room, mut connection, place) = in_room(connection);
            assert_eq!(connection.serve(&validation, Patience::InRoom(&place)), Ok(()), "{sent}");
            assert_eq!(connection.more_to_come, lingers, "{sent}");
            // So the client gets its answer, and no reset.
            assert!(answer(client, (connection, place)).starts_with("HTTP/1.1 "), "{sent}");
        }
        let (_client, mut connection) = connection("x\r\n", LONG);
        let soon = Patience::Brief(Instant::now() + LONG);
        assert_eq!(connection.serve(&validation, soon), Err(Unfinished::MustWait), "an acceptor does not wait for that");
    }
}
