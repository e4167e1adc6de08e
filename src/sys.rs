//! The only unsafe code: what the C library has and std has no words for.
#![allow(unsafe_code, reason = "std has no signals, and no standard output without a buffer")]

use std::ffi::{c_int, c_short};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

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

// `signal` restarts interrupted calls, as `sigaction` with SA_RESTART does, on every system that
// Rust's std supports; and unlike `struct sigaction` it looks the same on all of them.
unsafe extern "C" {
    fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
    fn write(descriptor: c_int, bytes: *const u8, count: usize) -> isize;
    fn _exit(code: c_int) -> !;
    fn poll(files: *mut PollFd, count: FileCount, milliseconds: c_int) -> c_int;
    fn fcntl(descriptor: c_int, command: c_int, ...) -> c_int;
    fn sysconf(name: c_int) -> std::ffi::c_long;
}

#[cfg(any(target_os = "linux", target_os = "android"))]
unsafe extern "C" {
    fn setsockopt(socket: c_int, level: c_int, name: c_int, value: *const std::ffi::c_void, size: std::ffi::c_uint) -> c_int;
    fn listen(socket: c_int, backlog: c_int) -> c_int;
}

/// Has `handler` called for that signal. It must do only what may be done in one (POSIX,
/// "Async-signal concepts"): of what is here, that is everything but this function.
pub(crate) fn handle(number: c_int, handler: extern "C" fn(c_int)) -> io::Result<()> {
    const SIG_ERR: usize = usize::MAX;
    // SAFETY: the handler is a function that lives for ever.
    match unsafe { signal(number, handler) } {
        SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Writes some of `bytes`, and returns how many; `None` is an error, which the system remembers.
pub(crate) fn write_some(descriptor: c_int, bytes: &[u8]) -> Option<usize> {
    // SAFETY: the pointer and the length are those of a slice. A descriptor that is not open is an
    // error of the call.
    usize::try_from(unsafe { write(descriptor, bytes.as_ptr(), bytes.len()) }).ok()
}

/// Whether a little can be written without waiting for longer than that; or whether trying tells why not.
pub(crate) fn can_write(descriptor: c_int, milliseconds: c_int) -> bool {
    const POLLOUT: c_short = 4;
    let mut file = PollFd { descriptor, events: POLLOUT, happened: 0 };
    // SAFETY: the pointer is to one entry, which lives until the call returns.
    unsafe { poll(&raw mut file, 1, milliseconds) > 0 }
}

/// Ends the process, now: nothing is flushed, dropped or waited for.
pub(crate) fn exit_at_once(code: c_int) -> ! {
    // SAFETY: it takes any code, and never returns.
    unsafe { _exit(code) }
}

const STDOUT: c_int = 1;

/// The program was started without standard output. std opens /dev/null in its place, and what is
/// written there fails no more; so this has to be found out before, and stays so.
static WITHOUT_STDOUT: AtomicBool = AtomicBool::new(false);

#[cfg_attr(miri, allow(dead_code))]
extern "C" fn look_for_stdout() {
    const F_GETFD: c_int = 1;
    // SAFETY: this command takes nothing more, and fails only for a descriptor that is not open.
    if unsafe { fcntl(STDOUT, F_GETFD) } < 0 {
        WITHOUT_STDOUT.store(true, Ordering::Relaxed);
    }
}

// SAFETY: the section is an array of pointers to functions, which are called before `main` (System V ABI,
// "Initialization and Termination Functions"). This one needs nothing that std prepares.
#[cfg(not(miri))]
#[used]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
static BEFORE_MAIN: extern "C" fn() = look_for_stdout;

/// Writes all of `text` to standard output. `io::stdout()` would do it with a buffer, whose upkeep
/// costs the probe more than the word that it has to write.
pub(crate) fn print(mut text: &[u8]) -> io::Result<()> {
    const EBADF: i32 = 9;
    if WITHOUT_STDOUT.load(Ordering::Relaxed) {
        return Err(io::Error::from_raw_os_error(EBADF));
    }
    while !text.is_empty() {
        match write_some(STDOUT, text) {
            Some(0) => return Err(io::ErrorKind::WriteZero.into()),
            Some(count) => text = text.get(count..).unwrap_or_default(),
            None => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(())
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
