//! Deadlines for a whole exchange: every read and write gets the time that is left. Only this file
//! sets timeouts.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

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
pub(crate) fn milliseconds(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1000).saturating_add(time.subsec_millis().into())
}

/// A deadline that no process lives to see.
#[cfg(feature = "cli")]
pub(crate) fn never() -> Instant {
    after(Instant::now(), Duration::MAX)
}

/// One side of an exchange, reading and writing until `deadline` and not beyond.
#[derive(Debug)]
pub(crate) struct Timed<'a, S = TcpStream> {
    pub(crate) stream: &'a S,
    pub(crate) deadline: Instant,
}

/// A stream whose reads and writes take a timeout. Tests use a script in its place.
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
    /// Reads at least a byte; `Ok(0)` is the end of the stream.
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

/// The longest timeout for one call: some systems refuse years.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Timed<'_> {
    /// Reads for at most `patience`, and not beyond the deadline. `None` means that nothing has arrived
    /// yet: unlike after an error, the stream can be read again, on every system.
    ///
    /// # Errors
    ///
    /// `TimedOut` at the deadline, else what [`read`](Timed::read) says.
    #[expect(dead_code, reason = "for the server's first read")]
    pub(crate) fn read_soon(&self, buffer: &mut [u8], patience: Duration) -> io::Result<Option<usize>> {
        self.read_soon_by(cfg!(windows), buffer, patience)
    }

    /// After a receive timeout Winsock calls the state of the socket indeterminate, and a byte that
    /// arrives at that moment may be lost. Reads that do not block are free of that, so there the wait
    /// is made of short pauses between them.
    fn read_soon_by(&self, polling: bool, buffer: &mut [u8], patience: Duration) -> io::Result<Option<usize>> {
        let deadline = self.deadline.min(after(Instant::now(), patience));
        let soon = Timed { stream: self.stream, deadline };
        match if polling { soon.poll(buffer) } else { soon.read(buffer) } {
            Err(error) if error.kind() == ErrorKind::TimedOut && deadline < self.deadline => Ok(None),
            result => result.map(Some),
        }
    }

    fn poll(&self, buffer: &mut [u8]) -> io::Result<usize> {
        const PAUSE: Duration = Duration::from_micros(500);
        self.stream.set_nonblocking(true)?;
        let result = loop {
            match io::Read::read(&mut &*self.stream, buffer) {
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => match left(self.deadline) {
                    Ok(left) => thread::sleep(left.min(PAUSE)),
                    Err(error) => break Err(error),
                },
                result => break result,
            }
        };
        self.stream.set_nonblocking(false)?;
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// Answers one scripted result a call, and notes the timeouts it was given.
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
    fn a_call_that_ends_early_is_made_again_with_what_time_is_left() {
        for kind in [ErrorKind::Interrupted, ErrorKind::WouldBlock] {
            let script = Script::new(vec![Err(kind.into()), Ok(3)]);
            assert_eq!(timed(&script).read(&mut [0; 8]).unwrap(), 3);
            let timeouts = script.timeouts.borrow();
            assert!(timeouts.len() == 2 && timeouts[1] <= timeouts[0] && timeouts[0] <= Duration::from_secs(60));
        }
    }

    #[test]
    fn no_timeout_is_longer_than_a_system_takes() {
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
    fn everything_is_written_or_it_is_an_error() {
        let script = Script::new(vec![Ok(2), Ok(1)]);
        timed(&script).write_all(b"abc").unwrap();
        assert_eq!(script.calls.get(), 2);
        let script = Script::new(vec![Ok(0)]);
        assert_eq!(timed(&script).write_all(b"abc").unwrap_err().kind(), ErrorKind::WriteZero);
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn after_a_first_read_in_vain_every_byte_still_arrives() {
        const SHORT: Duration = Duration::from_millis(2);
        const LONG: Duration = Duration::from_secs(60);
        for polling in [false, true] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, _) = listener.accept().unwrap();
            let timed = Timed { stream: &stream, deadline: after(Instant::now(), LONG) };
            let mut buffer = [0; 8];
            for patience in [SHORT, Duration::ZERO] {
                assert_eq!(timed.read_soon_by(polling, &mut buffer, patience).unwrap(), None, "polling: {polling}");
            }
            let late = Timed { stream: &stream, deadline: Instant::now() };
            let error = late.read_soon_by(polling, &mut buffer, SHORT).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "polling: {polling}");
            io::Write::write_all(&mut client, b"abc").unwrap();
            assert_eq!(timed.read_soon_by(polling, &mut buffer, LONG).unwrap(), Some(3), "polling: {polling}");
            // The stream blocks again: this read waits for the byte that is written meanwhile.
            let writer = thread::spawn(move || io::Write::write_all(&mut client, b"d").map(|()| client));
            assert_eq!(timed.read(&mut buffer).unwrap(), 1, "polling: {polling}");
            drop(writer.join().unwrap().unwrap());
            assert_eq!(timed.read_soon_by(polling, &mut buffer, LONG).unwrap(), Some(0), "polling: {polling}");
        }
    }

    #[test]
    fn a_timeout_too_long_to_add_up_is_still_in_the_future() {
        let now = Instant::now();
        assert!(after(now, Duration::MAX) > now + Duration::from_secs(3600));
        assert_eq!(after(now, Duration::from_secs(1)), now + Duration::from_secs(1));
    }
}
