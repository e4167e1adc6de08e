//! Deadlines for a whole exchange: every read and write gets the time that is left. Only this file sets
//! the timeouts of reads and writes.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::sync::Instant;

/// The time that is left until `deadline`.
///
/// # Errors
///
/// `TimedOut` when no time is left.
pub(crate) fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(left),
        _ => Err(ErrorKind::TimedOut.into()),
    }
}

/// `start` + `time`, or a century after `start` if that is sooner.
pub(crate) fn after(start: Instant, time: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    start.checked_add(time.min(CENTURY)).unwrap_or(start)
}

/// `time` in whole milliseconds, in 64 bits: printing the 128 of `as_millis` takes a kilobyte of code.
pub(crate) const fn milliseconds(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1000).saturating_add(time.subsec_millis() as u64)
}

/// A deadline in the far future, for a wait without a limit.
#[cfg(feature = "cli")]
pub(crate) fn never() -> Instant {
    after(Instant::now(), Duration::MAX)
}

/// A stream whose reads and writes fail with `TimedOut` at `deadline`.
#[derive(Debug)]
pub(crate) struct Timed<'a, S = TcpStream> {
    pub(crate) stream: &'a S,
    pub(crate) deadline: Instant,
}

/// A stream whose reads and writes take a timeout. Tests use a script instead of a stream.
pub(crate) trait Timeouts {
    fn read_within(&self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize>;
    fn write_within(&self, bytes: &[u8], timeout: Duration) -> io::Result<usize>;
}

macro_rules! timeouts_of {
    ($stream:ty) => {
        impl Timeouts for $stream {
            fn read_within(&self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize> {
                self.set_read_timeout(Some(timeout))?;
                io::Read::read(&mut &*self, buffer)
            }

            fn write_within(&self, bytes: &[u8], timeout: Duration) -> io::Result<usize> {
                self.set_write_timeout(Some(timeout))?;
                io::Write::write(&mut &*self, bytes)
            }
        }
    };
}

timeouts_of!(TcpStream);
#[cfg(all(unix, feature = "cli"))]
timeouts_of!(std::os::unix::net::UnixStream);

impl<S: Timeouts> Timed<'_, S> {
    /// Reads at least one byte. `Ok(0)` is the end of the stream.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.retry(|timeout| self.stream.read_within(buffer, timeout))
    }

    /// Writes all of `bytes`.
    pub(crate) fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.retry(|timeout| self.stream.write_within(bytes, timeout))?;
            match bytes.get(written..) {
                Some(rest) if written > 0 => bytes = rest,
                _ => return Err(ErrorKind::WriteZero.into()),
            }
        }
        Ok(())
    }

    fn retry(&self, mut io: impl FnMut(Duration) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match io(left(self.deadline)?.min(LONGEST)) {
                // A timeout is `WouldBlock` on Unix, and `left` turns it into `TimedOut`; it is `TimedOut` on Windows.
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                result => return result,
            }
        }
    }
}

/// Reads what has arrived or arrives before `until`, or fails with `WouldBlock`. Afterwards the stream is
/// non-blocking until [`block`] is called.
///
/// The first read does not wait. Windows gets no second one: Winsock leaves a socket in an indeterminate
/// state after a read that timed out, and the server reads from this socket again.
pub(crate) fn read_briefly(mut stream: &TcpStream, buffer: &mut [u8], until: Instant) -> io::Result<usize> {
    stream.set_nonblocking(true)?;
    match retry_interrupted(|| io::Read::read(&mut stream, buffer)) {
        Err(error) if error.kind() == ErrorKind::WouldBlock && left(until).is_ok() && !cfg!(windows) => {}
        read => return read,
    }
    stream.set_nonblocking(false)?;
    let read = Timed { stream, deadline: until }.read(buffer);
    stream.set_nonblocking(true)?;
    read.map_err(|error| if error.kind() == ErrorKind::TimedOut { ErrorKind::WouldBlock.into() } else { error })
}

/// Whether shutting down a socket ends the reads that wait on it. It does not on Windows, nor in tests built
/// with `--cfg baton_portable_shutdown`.
pub(crate) const SHUTDOWN_ENDS_READS: bool = cfg!(not(any(windows, baton_portable_shutdown)));

/// Reads at least one byte before `deadline`, as [`Timed::read`] does, or ends as at the end of the stream once
/// `is_over` returns true and nothing has arrived.
///
/// It polls the stream, for systems where nothing else ends a read and where a stream is of no more use after a
/// read that timed out. Afterwards the stream blocks.
pub(crate) fn poll(mut stream: &TcpStream, buffer: &mut [u8], deadline: Instant, is_over: impl Fn() -> bool) -> io::Result<usize> {
    const LONGEST_PAUSE: Duration = Duration::from_millis(16);
    let mut pause = Duration::from_millis(1);
    stream.set_nonblocking(true)?;
    let read = loop {
        // What arrived before the end is still read.
        let over = is_over();
        match retry_interrupted(|| io::Read::read(&mut stream, buffer)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => break read,
        }
        if over {
            break Ok(0);
        }
        match left(deadline) {
            Ok(left) => thread::sleep(left.min(pause)),
            Err(error) => break Err(error),
        }
        pause = LONGEST_PAUSE.min(2 * pause);
    };
    stream.set_nonblocking(false)?;
    read
}

/// Writes as much as can be written without waiting, to a stream that does not block.
pub(crate) fn write_briefly(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match retry_interrupted(|| io::Write::write(&mut stream, bytes)) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}

/// Makes a stream blocking again, as [`Timed`] needs it.
pub(crate) fn block(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)
}

fn retry_interrupted(mut io: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match io() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The longest timeout for one call: some systems refuse years.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// Returns one scripted result for each call, and records the timeouts.
    struct Script {
        results: RefCell<Vec<io::Result<usize>>>,
        timeouts: RefCell<Vec<Duration>>,
        calls: Cell<usize>,
    }

    impl Script {
        fn new(results: Vec<io::Result<usize>>) -> Script {
            Script { results: RefCell::new(results), timeouts: RefCell::default(), calls: Cell::new(0) }
        }

        fn next(&self, timeout: Duration) -> io::Result<usize> {
            self.timeouts.borrow_mut().push(timeout);
            self.calls.set(self.calls.get() + 1);
            self.results.borrow_mut().remove(0)
        }
    }

    impl Timeouts for Script {
        fn read_within(&self, _: &mut [u8], timeout: Duration) -> io::Result<usize> {
            self.next(timeout)
        }

        fn write_within(&self, _: &[u8], timeout: Duration) -> io::Result<usize> {
            self.next(timeout)
        }
    }

    fn timed(stream: &Script) -> Timed<'_, Script> {
        Timed { stream, deadline: Instant::now() + Duration::from_secs(60) }
    }

    #[test]
    fn an_interrupted_call_is_repeated_with_the_time_that_is_left() {
        for kind in [ErrorKind::Interrupted, ErrorKind::WouldBlock] {
            let script = Script::new(vec![Err(kind.into()), Ok(3)]);
            assert_eq!(timed(&script).read(&mut [0; 8]).unwrap(), 3);
            let timeouts = script.timeouts.borrow();
            assert!(timeouts.len() == 2 && timeouts[1] <= timeouts[0] && timeouts[0] <= Duration::from_secs(60));
        }
    }

    #[test]
    fn no_timeout_is_longer_than_every_system_accepts() {
        let script = Script::new(vec![Ok(3)]);
        let patient = Timed { stream: &script, deadline: after(Instant::now(), Duration::MAX) };
        assert_eq!(patient.read(&mut [0; 8]).unwrap(), 3);
        assert_eq!(*script.timeouts.borrow(), [LONGEST]);
    }

    #[test]
    fn nothing_is_tried_after_the_deadline() {
        let script = Script::new(vec![Ok(1)]);
        let late = Timed { stream: &script, deadline: Instant::now() };
        assert_eq!(late.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(script.calls.get(), 0);
    }

    #[test]
    fn write_all_writes_every_byte_or_fails() {
        let script = Script::new(vec![Ok(2), Ok(1)]);
        timed(&script).write_all(b"abc").unwrap();
        assert_eq!(script.calls.get(), 2);
        let script = Script::new(vec![Ok(0)]);
        assert_eq!(timed(&script).write_all(b"abc").unwrap_err().kind(), ErrorKind::WriteZero);
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn after_a_brief_read_without_data_every_byte_still_arrives() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 8];
        for wait in [Duration::ZERO, Duration::from_millis(2)] {
            let error = read_briefly(&stream, &mut buffer, Instant::now() + wait).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{wait:?}");
        }
        block(&stream).unwrap();
        // This read waits for the bytes that are written meanwhile.
        let writer = std::thread::spawn(move || io::Write::write_all(&mut client, b"abc").map(|()| client));
        let timed = Timed { stream: &stream, deadline: after(Instant::now(), Duration::from_secs(60)) };
        assert_eq!(timed.read(&mut buffer).unwrap(), 3);
        drop(writer.join().unwrap().unwrap());
        assert_eq!(timed.read(&mut buffer).unwrap(), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn polling_ends_with_bytes_the_end_or_the_deadline() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 8];
        let (soon, late) = (Instant::now() + Duration::from_millis(40), after(Instant::now(), Duration::from_secs(60)));
        let timed_out = poll(&stream, &mut buffer, soon, || false).unwrap_err();
        assert_eq!((timed_out.kind(), Instant::now() >= soon), (ErrorKind::TimedOut, true));
        // The third time that it looks, a request has arrived and the connection is over.
        let looks = Cell::new(0);
        let is_over = || {
            looks.set(looks.get() + 1);
            if looks.get() == 3 {
                io::Write::write_all(&mut &client, b"abc").unwrap();
                stream.set_nonblocking(false).unwrap();
                assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
                stream.set_nonblocking(true).unwrap();
            }
            looks.get() >= 3
        };
        assert_eq!(poll(&stream, &mut buffer, late, is_over).unwrap(), 3);
        assert_eq!(poll(&stream, &mut buffer, late, || true).unwrap(), 0);
        io::Write::write_all(&mut client, b"d").unwrap();
        drop(client);
        // Afterwards the stream blocks.
        assert_eq!(io::Read::read(&mut &stream, &mut buffer).unwrap(), 1);
        assert_eq!(poll(&stream, &mut buffer, late, || false).unwrap(), 0);
    }

    #[test]
    fn a_deadline_beyond_the_clocks_range_is_still_in_the_future() {
        let now = Instant::now();
        assert!(after(now, Duration::MAX) > now + Duration::from_secs(3600));
        assert_eq!(after(now, Duration::from_secs(1)), now + Duration::from_secs(1));
    }

    #[test]
    fn an_interrupted_call_without_a_deadline_is_repeated() {
        let mut results =
            vec![Err(ErrorKind::BrokenPipe.into()), Ok(3), Err(ErrorKind::Interrupted.into()), Err(ErrorKind::Interrupted.into())];
        assert_eq!(retry_interrupted(|| results.pop().unwrap()).unwrap(), 3);
        assert_eq!(retry_interrupted(|| results.pop().unwrap()).unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert!(results.is_empty());
    }

    #[test]
    fn no_time_is_left_at_the_deadline() {
        let now = Instant::now();
        assert_eq!(left(now).unwrap_err().kind(), ErrorKind::TimedOut);
        let time = left(now + Duration::from_secs(60)).unwrap();
        assert!(time > Duration::from_secs(30) && time <= Duration::from_secs(60), "{time:?}");
    }

    #[test]
    fn milliseconds_are_whole() {
        for (time, expected) in [
            (Duration::ZERO, 0),
            (Duration::from_micros(1_999), 1),
            (Duration::from_millis(61_002), 61_002),
            (Duration::MAX, u64::MAX),
        ] {
            assert_eq!(milliseconds(time), expected, "{time:?}");
        }
    }

    #[test]
    #[cfg(feature = "cli")]
    fn never_is_after_years() {
        assert!(never() > Instant::now() + Duration::from_secs(10 * 365 * 24 * 60 * 60));
    }

    /// A client and the server's end of its connection.
    fn connected() -> (TcpStream, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    #[cfg(not(windows))]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_brief_read_waits_for_its_time_and_then_tells_what_happened() {
        let (mut client, stream) = connected();
        let mut buffer = [0; 8];
        let far = Instant::now() + Duration::from_secs(60);
        let writer = std::thread::spawn(move || io::Write::write_all(&mut client, b"abc").map(|()| client));
        assert_eq!(read_briefly(&stream, &mut buffer, far).unwrap(), 3);
        drop(writer.join().unwrap().unwrap());
        assert_eq!(read_briefly(&stream, &mut buffer, far).unwrap(), 0);
    }

    #[test]
    #[cfg(not(windows))]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_brief_read_gives_up_when_its_time_is_over_and_not_before() {
        const SHORT: Duration = Duration::from_millis(20);
        let (_client, stream) = connected();
        let start = Instant::now();
        assert_eq!(read_briefly(&stream, &mut [0], start + SHORT).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(start.elapsed() >= SHORT, "it does not wait");
    }

    /// A connection that the client has reset: it closed without reading a byte that had arrived.
    #[cfg(not(windows))]
    fn reset() -> TcpStream {
        let (client, mut stream) = connected();
        io::Write::write_all(&mut stream, b"x").unwrap();
        assert_eq!(client.peek(&mut [0]).unwrap(), 1);
        stream
    }

    #[test]
    #[cfg(not(windows))]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_brief_read_reports_a_connection_that_was_reset() {
        let error = read_briefly(&reset(), &mut [0], Instant::now() + Duration::from_secs(60)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted), "{error}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_brief_write_takes_what_fits() {
        let (client, stream) = connected();
        stream.set_nonblocking(true).unwrap();
        let bytes = vec![0; 1 << 20];
        while write_briefly(&stream, &bytes).unwrap() > 0 {}
        assert_eq!(write_briefly(&stream, &bytes).unwrap(), 0);
        // Bytes that nobody has read make this a reset.
        io::Write::write_all(&mut &client, b"x").unwrap();
        assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
        drop(client);
        let error = std::iter::repeat_with(|| write_briefly(&stream, &bytes)).find_map(Result::err).unwrap();
        assert!(
            matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted),
            "{error}"
        );
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_stream_blocks_again_after_a_brief_read() {
        const SHORT: Duration = Duration::from_millis(20);
        let (_client, stream) = connected();
        let mut buffer = [0; 8];
        read_briefly(&stream, &mut buffer, Instant::now()).unwrap_err();
        block(&stream).unwrap();
        let start = Instant::now();
        stream.read_within(&mut buffer, SHORT).unwrap_err();
        assert!(start.elapsed() >= SHORT / 2, "it does not wait");
    }

    #[test]
    fn an_error_ends_a_read_and_a_write() {
        let script = Script::new(vec![Err(ErrorKind::ConnectionReset.into()), Err(ErrorKind::BrokenPipe.into())]);
        assert_eq!(timed(&script).read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(timed(&script).write_all(b"abc").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    #[cfg(not(windows))]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_poll_reports_a_connection_that_was_reset() {
        let error = poll(&reset(), &mut [0], Instant::now() + Duration::from_secs(60), || false).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted), "{error}");
    }
}
