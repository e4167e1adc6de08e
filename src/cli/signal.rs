//! SIGTERM, SIGINT and SIGHUP become a message to the main thread.
//!
//! A signal handler may do very little. It writes one byte to a socket that the main thread reads. Other threads
//! send their messages in the same way. On systems other than Unix, std has no signals, and the system ends the
//! process in its own way.

/// A message to the main thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Message {
    /// The first signal: a request to finish.
    Terminate = 1,
    /// The connector's `serve` has returned, or will not be called.
    Finished = 2,
    /// The health server can accept no more connections.
    ListenerFailed = 3,
}

impl Message {
    fn from_byte(byte: u8) -> Option<Message> {
        [Message::Terminate, Message::Finished, Message::ListenerFailed].into_iter().find(|message| *message as u8 == byte)
    }
}

pub(crate) use system::{Inbox, Sender, install};

#[cfg(unix)]
mod system {
    use std::ffi::c_int;
    use std::io::{self, ErrorKind, Write};
    use std::mem;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
    use std::sync::{Arc, OnceLock};
    use std::time::Instant;

    use crate::cli::signal::Message;
    use crate::deadline::{Timed, milliseconds};
    use crate::sys;

    // These numbers are the same on every Unix that Rust supports.
    const SIGHUP: c_int = 1;
    const SIGINT: c_int = 2;
    const SIGTERM: c_int = 15;

    /// Signals within this time count as one request, since a process group and a wrapper that forwards signals may
    /// each send one.
    const SAME_REQUEST_MS: u32 = 500;

    static INSTALLED: OnceLock<Instant> = OnceLock::new();
    /// When the first signal came, in milliseconds after [`INSTALLED`]. 0 means that none has come.
    static SIGNALLED: AtomicU32 = AtomicU32::new(0);
    static OUTBOX: AtomicI32 = AtomicI32::new(-1);

    extern "C" fn on_signal(number: c_int) {
        // Reading the clock is async-signal-safe.
        let age = INSTALLED.get().map_or(0, |installed| milliseconds(installed.elapsed()) as u32).max(1);
        let first = SIGNALLED.compare_exchange(0, age, Ordering::Relaxed, Ordering::Relaxed);
        let ends_now = match first {
            Ok(_) => sys::write_some(OUTBOX.load(Ordering::Relaxed), &[Message::Terminate as u8]) != Some(1),
            Err(first) => age.wrapping_sub(first) >= SAME_REQUEST_MS,
        };
        if ends_now {
            // For PID 1 the default action would do nothing.
            sys::signal::exit_at_once(128 + number);
        }
    }

    /// Where messages are sent.
    #[derive(Clone, Debug)]
    pub(crate) struct Sender(Arc<UnixStream>);

    /// Where messages arrive.
    #[derive(Debug)]
    pub(crate) struct Inbox(UnixStream);

    /// From now on SIGTERM, SIGINT and SIGHUP become messages. A second signal, half a second later or more, ends the
    /// process at once.
    pub(crate) fn install() -> io::Result<(Sender, Inbox)> {
        let (inbox, outbox) = UnixStream::pair()?;
        let outbox = Arc::new(outbox);
        INSTALLED.get_or_init(Instant::now);
        OUTBOX.store(outbox.as_raw_fd(), Ordering::Relaxed);
        // A signal may come at any time, so this descriptor is never closed.
        mem::forget(Arc::clone(&outbox));
        for number in [SIGTERM, SIGINT, SIGHUP] {
            let was_ignored = sys::signal::handle(number, on_signal)?;
            // `nohup` ignores SIGHUP for the program it starts.
            if number == SIGHUP && was_ignored {
                sys::signal::ignore(number);
            }
        }
        sys::signal::unblock(&[SIGTERM, SIGINT, SIGHUP]);
        Ok((Sender(outbox), Inbox(inbox)))
    }

    impl Sender {
        pub(crate) fn send(&self, message: Message) {
            // This fails if the main thread no longer reads, because it is ending the process.
            let _ = (&*self.0).write(&[message as u8]);
        }
    }

    impl Inbox {
        /// The next message, or `None` if none comes until `deadline`.
        pub(crate) fn receive(&self, deadline: Instant) -> io::Result<Option<Message>> {
            let mut byte = [0];
            match (Timed { stream: &self.0, deadline }).read(&mut byte) {
                Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => Ok(Message::from_byte(byte[0])),
                Err(error) if error.kind() == ErrorKind::TimedOut => Ok(None),
                Err(error) => Err(error),
            }
        }
    }
}

#[cfg(not(unix))]
mod system {
    use std::io::{self, ErrorKind};
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::time::Instant;

    use crate::cli::signal::Message;
    use crate::deadline::left;

    /// Where messages are sent.
    #[derive(Clone, Debug)]
    pub(crate) struct Sender(mpsc::Sender<u8>);

    /// Where messages arrive.
    #[derive(Debug)]
    pub(crate) struct Inbox(mpsc::Receiver<u8>);

    pub(crate) fn install() -> io::Result<(Sender, Inbox)> {
        let (sender, receiver) = mpsc::channel();
        Ok((Sender(sender), Inbox(receiver)))
    }

    impl Sender {
        pub(crate) fn send(&self, message: Message) {
            let _ = self.0.send(message as u8);
        }
    }

    impl Inbox {
        pub(crate) fn receive(&self, deadline: Instant) -> io::Result<Option<Message>> {
            match self.0.recv_timeout(left(deadline).unwrap_or_default()) {
                Ok(byte) => Ok(Message::from_byte(byte)),
                Err(RecvTimeoutError::Timeout) => Ok(None),
                Err(RecvTimeoutError::Disconnected) => Err(ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}
