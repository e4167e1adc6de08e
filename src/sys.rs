//! The only unsafe code of the library: calls of the C library that std does not offer.
#![allow(unsafe_code, reason = "std has no signals, no poll, and no standard output without a buffer")]

use std::ffi::{c_int, c_short};
use std::io::{self, ErrorKind};
use std::time::Instant;

use crate::deadline::{left, milliseconds};

#[cfg(feature = "cli")]
pub(crate) const STDOUT: c_int = 1;
pub(crate) const STDERR: c_int = 2;

/// Bytes that a pipe takes in one piece. A pipe that is writable has room for them (POSIX: at least 512).
pub(crate) const PIPE_BUF: usize = if cfg!(any(target_os = "linux", target_os = "android")) { 4096 } else { 512 };

#[repr(C)]
struct PollFd {
    descriptor: c_int,
    events: c_short,
    happened: c_short,
}

/// `nfds_t`.
#[cfg(any(target_os = "linux", target_os = "android"))]
type FileCount = std::ffi::c_ulong;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
type FileCount = std::ffi::c_uint;

unsafe extern "C" {
    fn write(descriptor: c_int, bytes: *const u8, count: usize) -> isize;
    fn poll(files: *mut PollFd, count: FileCount, milliseconds: c_int) -> c_int;
    #[cfg(feature = "cli")]
    fn ioctl(descriptor: c_int, request: Request, ...) -> c_int;
    fn sysconf(name: c_int) -> std::ffi::c_long;
}

/// The type of `ioctl`'s request; musl has an `int`.
#[cfg(all(feature = "cli", target_env = "musl"))]
type Request = c_int;
#[cfg(all(feature = "cli", not(target_env = "musl")))]
type Request = std::ffi::c_ulong;

#[cfg(any(target_os = "linux", target_os = "android"))]
unsafe extern "C" {
    fn setsockopt(socket: c_int, level: c_int, name: c_int, value: *const std::ffi::c_void, size: std::ffi::c_uint) -> c_int;
    fn listen(socket: c_int, backlog: c_int) -> c_int;
}

/// Writes some of `bytes` and returns how many. `None` is an error, for `io::Error::last_os_error`.
pub(crate) fn write_some(descriptor: c_int, bytes: &[u8]) -> Option<usize> {
    // SAFETY: the pointer and the length are those of a slice. A descriptor that is not open is an
    // error of the call.
    usize::try_from(unsafe { write(descriptor, bytes.as_ptr(), bytes.len()) }).ok()
}

/// Waits until `descriptor` takes [`PIPE_BUF`] bytes without blocking, or has an error that a write will
/// return. After `deadline` it checks once.
///
/// # Errors
///
/// `TimedOut` when the time is up.
pub(crate) fn wait_writable(descriptor: c_int, deadline: Instant) -> io::Result<()> {
    const POLLOUT: c_short = 4;
    retry_interrupted(deadline, |timeout| {
        let mut file = PollFd { descriptor, events: POLLOUT, happened: 0 };
        // SAFETY: the pointer is to one entry, which lives until the call returns.
        match unsafe { poll(&raw mut file, 1, timeout) } {
            0 => Ok(false),
            1.. => Ok(true),
            _ => Err(io::Error::last_os_error()),
        }
    })
}

/// Calls `wait` with the milliseconds left until `deadline`, and again after each interruption by a signal.
fn retry_interrupted(deadline: Instant, mut wait: impl FnMut(c_int) -> io::Result<bool>) -> io::Result<()> {
    loop {
        let timeout = left(deadline).map_or(0, |left| c_int::try_from(milliseconds(left).saturating_add(1)).unwrap_or(c_int::MAX));
        match wait(timeout) {
            Ok(true) => return Ok(()),
            Ok(false) if timeout < c_int::MAX => return Err(ErrorKind::TimedOut.into()),
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            // The deadline must hold even if signals keep interrupting the wait.
            Err(_) if timeout == 0 => return Err(ErrorKind::TimedOut.into()),
            _ => {}
        }
    }
}

/// Writes all of `bytes` without a buffer, until `deadline`. Returns how many were written.
pub(crate) fn write_until(descriptor: c_int, bytes: &[u8], deadline: Instant) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest @ [_, ..]) = bytes.get(written..) {
        if let Err(error) = wait_writable(descriptor, deadline) {
            return (written, Err(error));
        }
        match write_some(descriptor, rest.get(..PIPE_BUF).unwrap_or(rest)) {
            Some(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Some(count) => written += count,
            None => match io::Error::last_os_error() {
                error if error.kind() == ErrorKind::Interrupted && left(deadline).is_ok() => {}
                error => return (written, Err(error)),
            },
        }
    }
    (written, Ok(()))
}

/// The columns of a terminal. `None` if the descriptor is none, or if this system's `ioctl` number is unknown.
#[cfg(feature = "cli")]
pub(crate) fn columns(descriptor: c_int) -> Option<usize> {
    const NARROWEST: u16 = 40;
    // On these processors Linux has the numbers of BSD.
    const BSD_NUMBERS: bool = cfg!(any(
        target_arch = "powerpc",
        target_arch = "powerpc64",
        target_arch = "mips",
        target_arch = "mips64",
        target_arch = "sparc64"
    ));
    let request: Request = if cfg!(any(target_os = "solaris", target_os = "illumos")) {
        return None;
    } else if cfg!(any(target_os = "linux", target_os = "android")) && !BSD_NUMBERS {
        0x5413
    } else {
        0x4008_7468
    };
    let mut size = [0_u16; 4];
    // SAFETY: the answer is four 16-bit numbers: rows, columns and two that are not used.
    let known = unsafe { ioctl(descriptor, request, &raw mut size) } == 0;
    (known && size[1] >= NARROWEST).then_some(size[1].into())
}

/// The number of descriptors that this process may have, if the system has such a limit.
pub(crate) fn descriptor_limit() -> Option<usize> {
    const SC_OPEN_MAX: c_int = if cfg!(any(target_os = "linux", target_os = "solaris", target_os = "illumos")) { 4 } else { 5 };
    if cfg!(target_os = "android") {
        return None;
    }
    // SAFETY: it takes any number, and answers -1 to those it does not know.
    usize::try_from(unsafe { sysconf(SC_OPEN_MAX) }).ok()
}

/// Gives a listening socket a longer backlog. With `defer` the system hands over a connection only when its
/// client has sent something or has been silent for about a second. Errors are ignored, since the server works
/// without both.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn tune_listener(socket: &std::net::TcpListener, backlog: c_int, defer: bool) {
    use std::os::fd::AsRawFd;
    const IPPROTO_TCP: c_int = 6;
    const TCP_DEFER_ACCEPT: c_int = 9;
    let second: c_int = 1;
    let size = size_of::<c_int>() as std::ffi::c_uint;
    if defer {
        // SAFETY: the option's value is an int, which lives until the call returns.
        unsafe { setsockopt(socket.as_raw_fd(), IPPROTO_TCP, TCP_DEFER_ACCEPT, (&raw const second).cast(), size) };
    }
    // SAFETY: it takes any descriptor and any number.
    unsafe { listen(socket.as_raw_fd(), backlog) };
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn tune_listener(_: &std::net::TcpListener, _: c_int, _: bool) {}

/// Signals, and an end that a handler may call.
#[cfg(feature = "cli")]
pub(crate) mod signal {
    use std::ffi::{c_int, c_void};
    use std::io;

    /// At least a `sigset_t`: the largest, Linux's, has 128 bytes.
    type SignalSet = [u64; 16];

    /// A signal's handler: a function, or one of the special numbers below.
    type Handler = usize;
    const SIG_IGN: Handler = 1;
    const SIG_ERR: Handler = usize::MAX;

    // `signal` restarts interrupted calls, as `sigaction` with SA_RESTART does. Unlike `struct sigaction` it
    // is the same on every system. On illumos it removes the handler after one signal, so a second signal
    // always ends the process there.
    unsafe extern "C" {
        fn signal(number: c_int, handler: Handler) -> Handler;
        fn sigemptyset(set: *mut SignalSet) -> c_int;
        fn sigaddset(set: *mut SignalSet, number: c_int) -> c_int;
        fn pthread_sigmask(how: c_int, set: *const SignalSet, before: *mut c_void) -> c_int;
        fn _exit(code: c_int) -> !;
    }

    /// Installs `handler` for a signal, and returns whether the signal was ignored before. A handler may call only
    /// async-signal-safe functions (POSIX.1-2017 section 2.4.3): in this file, `write_some` and `exit_at_once`.
    pub(crate) fn handle(number: c_int, handler: extern "C" fn(c_int)) -> io::Result<bool> {
        // SAFETY: the handler is a function that lives for ever.
        match unsafe { signal(number, handler as Handler) } {
            SIG_ERR => Err(io::Error::last_os_error()),
            before => Ok(before == SIG_IGN),
        }
    }

    /// Ignores a signal. This does nothing for a signal that does not exist.
    pub(crate) fn ignore(number: c_int) {
        // SAFETY: it takes any number.
        unsafe { signal(number, SIG_IGN) };
    }

    /// The signal for a write beyond `RLIMIT_FSIZE`. If it is ignored, the write fails instead.
    pub(crate) const SIGXFSZ: c_int =
        if cfg!(any(target_arch = "mips", target_arch = "mips64", target_os = "illumos", target_os = "solaris")) { 31 } else { 25 };

    /// Unblocks these signals for this thread and the threads it starts. The parent process may have blocked them.
    pub(crate) fn unblock(numbers: &[c_int]) {
        const SIG_UNBLOCK: c_int =
            if cfg!(all(any(target_os = "linux", target_os = "android"), not(any(target_arch = "mips", target_arch = "mips64")))) {
                1
            } else {
                2
            };
        let mut set = [0; 16];
        // SAFETY: the set is as large as any; the old one is not asked for.
        unsafe {
            sigemptyset(&raw mut set);
            for &number in numbers {
                sigaddset(&raw mut set, number);
            }
            pthread_sigmask(SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        }
    }

    /// Ends the process at once: it flushes nothing, drops nothing and waits for nothing.
    pub(crate) fn exit_at_once(code: c_int) -> ! {
        // SAFETY: it takes any code, and never returns.
        unsafe { _exit(code) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::after;
    use std::time::Duration;

    #[test]
    fn a_signal_does_not_end_a_wait() {
        let deadline = after(Instant::now(), Duration::from_secs(60));
        let mut answers = vec![Ok(true), Err(ErrorKind::Interrupted.into()), Err(ErrorKind::Interrupted.into())];
        let waited = retry_interrupted(deadline, |timeout| {
            assert!((1..=60_001).contains(&timeout), "{timeout}");
            answers.pop().unwrap()
        });
        assert!(waited.is_ok() && answers.is_empty(), "{waited:?}");
    }

    #[test]
    fn a_wait_ends_when_its_time_is_up_or_the_descriptor_is_bad() {
        let timed_out = retry_interrupted(Instant::now(), |timeout| Ok(timeout != 0));
        assert_eq!(timed_out.unwrap_err().kind(), ErrorKind::TimedOut);
        let interrupted = retry_interrupted(Instant::now(), |_| Err(ErrorKind::Interrupted.into()));
        assert_eq!(interrupted.unwrap_err().kind(), ErrorKind::TimedOut);
        let failed = retry_interrupted(Instant::now(), |_| Err(ErrorKind::OutOfMemory.into()));
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::OutOfMemory);
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn what_a_full_or_closed_socket_takes_is_counted() {
        use std::os::fd::AsRawFd;
        use std::os::unix::net::UnixStream;
        let deadline = || after(Instant::now(), Duration::from_secs(60));
        let (reader, writer) = UnixStream::pair().unwrap();
        let descriptor = writer.as_raw_fd();
        let bytes = vec![0; 2 * PIPE_BUF + 1];
        assert!(matches!(write_until(descriptor, b"", deadline()), (0, Ok(()))));
        assert!(matches!(write_until(descriptor, &bytes, deadline()), (count, Ok(())) if count == bytes.len()));
        writer.set_nonblocking(true).unwrap();
        let mut filled = bytes.len();
        let error = loop {
            let (count, result) = write_until(descriptor, &bytes, Instant::now());
            filled += count;
            if let Err(error) = result {
                break error;
            }
        };
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{error}");
        drop(reader);
        let (count, result) = write_until(descriptor, &bytes, deadline());
        assert_eq!((count, result.unwrap_err().kind()), (0, ErrorKind::BrokenPipe));
        assert_eq!(write_some(-1, b"x"), None);
        assert!(filled > bytes.len());
    }

    #[test]
    #[cfg(feature = "cli")]
    #[cfg_attr(miri, ignore = "signals")]
    fn a_signal_that_cannot_be_handled_is_an_error() {
        extern "C" fn nothing(_: c_int) {}
        const SIGKILL: c_int = 9;
        assert_eq!(signal::handle(SIGKILL, nothing).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
