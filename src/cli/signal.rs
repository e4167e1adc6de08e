//! SIGTERM and SIGINT become a message to the main thread.
//!
//! A handler may do next to nothing, so it writes one byte to a socket that the main thread reads
//! from; the rest of the program sends its own messages the same way. Elsewhere than on Unix, std
//! knows no signals: there the system ends the process its own way.

/// What the main thread is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Message {
    /// Please finish: the first signal.
    Terminate = 1,
    /// The connector's thread has ended.
    Finished = 2,
    /// The health server cannot go on.
    Dead = 3,
}

impl Message {
    fn from_byte(byte: u8) -> Option<Message> {
        [Message::Terminate, Message::Finished, Message::Dead].into_iter().find(|message| *message as u8 == byte)
    }
}

pub(crate) use system::{Inbox, Sender, install};

#[cfg(unix)]
mod system {
    use std::ffi::c_int;
    use std::io::{self, Write};
    use std::mem;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
    use std::time::Instant;

    use crate::cli::signal::Message;
    use crate::deadline::Timed;
    use crate::sys;

    // The same numbers on every Unix that Rust knows.
    const SIGINT: c_int = 2;
    const SIGTERM: c_int = 15;

    static SIGNALLED: AtomicBool = AtomicBool::new(false);
    static OUTBOX: AtomicI32 = AtomicI32::new(-1);

    extern "C" fn on_signal(number: c_int) {
        // Whoever asks twice does not want to wait. As PID 1 the default action would do nothing.
        if SIGNALLED.swap(true, Ordering::Relaxed) {
            sys::exit_at_once(128 + number);
        }
        // It cannot fail: there is room for more messages than there are.
        sys::write_some(OUTBOX.load(Ordering::Relaxed), &[Message::Terminate as u8]);
    }

    /// Where messages are sent.
    #[derive(Clone, Debug)]
    pub(crate) struct Sender(Arc<UnixStream>);

    /// Where messages arrive.
    #[derive(Debug)]
    pub(crate) struct Inbox(UnixStream);

    /// From now on SIGTERM and SIGINT are messages; a second one ends the process at once.
    pub(crate) fn install() -> io::Result<(Sender, Inbox)> {
        let (inbox, outbox) = UnixStream::pair()?;
        let outbox = Arc::new(outbox);
        OUTBOX.store(outbox.as_raw_fd(), Ordering::Relaxed);
        // A signal may come as long as the process lives: the descriptor must stay what it is.
        mem::forget(Arc::clone(&outbox));
        for number in [SIGTERM, SIGINT] {
            sys::handle(number, on_signal)?;
        }
        Ok((Sender(outbox), Inbox(inbox)))
    }

    impl Sender {
        pub(crate) fn send(&self, message: Message) {
            // It fails when nobody reads any more: the main thread is on its way out.
            let _ = (&*self.0).write(&[message as u8]);
        }
    }

    impl Inbox {
        /// The next message, or `None` if none comes until `deadline`.
        pub(crate) fn receive(&self, deadline: Instant) -> Option<Message> {
            let mut byte = [0];
            match (Timed { stream: &self.0, deadline }).read(&mut byte) {
                Ok(1) => Message::from_byte(byte[0]),
                _ => None,
            }
        }
    }
}

#[cfg(not(unix))]
mod system {
    use std::io;
    use std::sync::mpsc;
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
        pub(crate) fn receive(&self, deadline: Instant) -> Option<Message> {
            Message::from_byte(self.0.recv_timeout(left(deadline).ok()?).ok()?)
        }
    }
}
