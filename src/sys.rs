//! The only unsafe code: what the C library has and std has no words for.
#![allow(unsafe_code, reason = "std has no signals, no poll, and no standard output without a buffer")]

use std::ffi::{c_int, c_short};
use std::io::{self, ErrorKind};
use std::time::Instant;

use crate::deadline::{left, milliseconds};

#[cfg(feature = "cli")]
pub(crate) const STDOUT: c_int = 1;
pub(crate) const STDERR: c_int = 2;

/// What a pipe takes in one piece, and has room for when it has any (POSIX: at least 512 bytes).
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
    fn sysconf(name: c_int) -> std::ffi::c_long;
}

#[cfg(any(target_os = "linux", target_os = "android"))]
unsafe extern "C" {
    fn setsockopt(socket: c_int, level: c_int, name: c_int, value: *const std::ffi::c_void, size: std::ffi::c_uint) -> c_int;
    fn listen(socket: c_int, backlog: c_int) -> c_int;
}

/// Writes some of `bytes`, and returns how many; `None` is an error, which the system remembers.
pub(crate) fn write_some(descriptor: c_int, bytes: &[u8]) -> Option<usize> {
    // SAFETY: the pointer and the length are those of a slice. A descriptor that is not open is an
    // error of the call.
    usize::try_from(unsafe { write(descriptor, bytes.as_ptr(), bytes.len()) }).ok()
}

/// Waits until `descriptor` takes [`PIPE_BUF`] bytes without blocking, or has an error that a write will tell.
/// After `deadline` it looks once.
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

/// Calls `wait` with what is left until `deadline`, in milliseconds, as often as a signal interrupts it.
fn retry_interrupted(deadline: Instant, mut wait: impl FnMut(c_int) -> io::Result<bool>) -> io::Result<()> {
    loop {
        let timeout = left(deadline).map_or(0, |left| c_int::try_from(milliseconds(left).saturating_add(1)).unwrap_or(c_int::MAX));
        match wait(timeout) {
            Ok(true) => return Ok(()),
            Ok(false) if timeout < c_int::MAX => return Err(ErrorKind::TimedOut.into()),
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            // However often a signal comes, the deadline holds.
            Err(_) if timeout == 0 => return Err(ErrorKind::TimedOut.into()),
            _ => {}
        }
    }
}

/// Writes all of `bytes`, without a buffer and not beyond `deadline`, and returns how many were written.
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

/// The number of descriptors this process may have, where the system says so.
pub(crate) fn descriptor_limit() -> Option<usize> {
    const SC_OPEN_MAX: c_int = if cfg!(any(target_os = "linux", target_os = "solaris", target_os = "illumos")) { 4 } else { 5 };
    if cfg!(target_os = "android") {
        return None;
    }
    // SAFETY: it takes any number, and answers -1 to those it does not know.
    usize::try_from(unsafe { sysconf(SC_OPEN_MAX) }).ok()
}

/// Gives a listening socket a longer backlog, and with `defer` has the system accept a connection only when
/// its client has sent something, or has been silent for about a second. Where the system knows neither, the
/// server works without.
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

    /// A signal's handler: a function, or one of the two numbers that are none.
    type Handler = usize;
    const SIG_IGN: Handler = 1;
    const SIG_ERR: Handler = usize::MAX;

    // `signal` restarts interrupted calls, as `sigaction` with SA_RESTART does, and unlike `struct sigaction`
    // it looks the same everywhere. On illumos it takes the handler away when it is called: a second signal
    // always ends the process there.
    unsafe extern "C" {
        fn signal(number: c_int, handler: Handler) -> Handler;
        fn sigemptyset(set: *mut SignalSet) -> c_int;
        fn sigaddset(set: *mut SignalSet, number: c_int) -> c_int;
        fn pthread_sigmask(how: c_int, set: *const SignalSet, before: *mut c_void) -> c_int;
        fn _exit(code: c_int) -> !;
    }

    /// Has `handler` called for that signal, and says whether the signal was ignored before. A handler may call
    /// only async-signal-safe functions (POSIX.1-2017 section 2.4.3): of those here, `write_some` and `exit_at_once`.
    pub(crate) fn handle(number: c_int, handler: extern "C" fn(c_int)) -> io::Result<bool> {
        // SAFETY: the handler is a function that lives for ever.
        match unsafe { signal(number, handler as Handler) } {
            SIG_ERR => Err(io::Error::last_os_error()),
            before => Ok(before == SIG_IGN),
        }
    }

    /// Has that signal ignored. A signal that does not exist is ignored as it is.
    pub(crate) fn ignore(number: c_int) {
        // SAFETY: it takes any number.
        unsafe { signal(number, SIG_IGN) };
    }

    /// Sent for a write beyond `RLIMIT_FSIZE`. Where it is ignored, the write fails instead.
    pub(crate) const SIGXFSZ: c_int =
        if cfg!(any(target_arch = "mips", target_arch = "mips64", target_os = "illumos", target_os = "solaris")) { 31 } else { 25 };

    /// Lets these signals through to this thread and those it starts, whatever the parent process blocked.
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

    /// Ends the process, now: nothing is flushed, dropped or waited for.
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
        let failed = retry_interrupted(Instant::now(), |_| Err(ErrorKind::OutOfMemory.into()));
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::OutOfMemory);
    }
}
