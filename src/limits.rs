//! The limits that are not settings: each with its unit, its reason, and what happens beyond it.

use std::time::Duration;

/// Bytes in a head while fuzzing: a fuzzer would hardly ever reach the real limits.
const SHORT: usize = 192;

/// Bytes in a request's head, leading empty lines and the closing one included. Beyond it: 414 when
/// the request line alone is longer, else 431. Probes send 150 bytes, browsers rarely 4 KiB.
pub(crate) const MAX_REQUEST_HEAD: usize = if cfg!(fuzzing) { SHORT } else { 8 * 1024 };

/// Bytes in the head of an answer to the probe, 1xx heads before it included. Beyond it: not HTTP.
pub(crate) const MAX_RESPONSE_HEAD: usize = if cfg!(fuzzing) { SHORT } else { 16 * 1024 };

/// Bytes of a body that the probe shows if the status is not 200: half of the 4 KiB that Docker keeps of a
/// check's output. Beyond it: cut, and marked as cut.
pub(crate) const MAX_SHOWN_BODY: usize = 2 * 1024;

/// Bytes of a body that the probe reads if it starts like a health server's. Beyond it: shown like any
/// other body.
pub(crate) const MAX_OWN_BODY: usize = 8 * 1024;

/// Bytes of a redirect's `Location` that the probe shows. Beyond it: cut, and marked as cut.
pub(crate) const MAX_SHOWN_LOCATION: usize = 256;

/// Bytes of an error's text that a client gets. Beyond it: cut, and marked as cut.
pub(crate) const MAX_ERROR_TEXT: usize = 1024;

/// Bytes of a head that are read at once: most heads are shorter.
pub(crate) const USUAL_HEAD: usize = 1024;

/// Threads that accept connections on each listening socket. With two, one accepts while the other works. On two
/// processors, four threads answer 6 % fewer requests per second.
pub(crate) const ACCEPTORS: usize = 2;

/// How long an acceptor waits for a request head. Most heads arrive with their connection or just after it,
/// and handing a connection over costs more than twice as much processor time as answering it.
pub(crate) const HEAD_GRACE: Duration = Duration::from_millis(2);

/// While fewer connections are idle, acceptors wait for heads. With more the server assumes a flood.
pub(crate) const FEW_IDLE: usize = 4;

/// With this many evicted connections still open, acceptors wait: otherwise a flood opens descriptors
/// faster than the server closes them. With 8, a flood delays the slowest of a hundred probes three times as long.
pub(crate) const MAX_EVICTING: usize = 32;

/// The same if the process may have few descriptors.
#[cfg(unix)]
pub(crate) const FEW_EVICTING: usize = 8;

/// Connections that may wait to be accepted. A flood overflows the 128 that std asks for, and a client
/// then repeats its attempt only after a second. The system may allow fewer.
#[cfg(unix)]
pub(crate) const BACKLOG: i32 = 4096;

/// Descriptors that the server leaves to the rest of the process where the limit is low: standard streams,
/// listeners, signals, connections in hand or about to close (20), and the connector's own.
#[cfg(unix)]
pub(crate) const RESERVED_DESCRIPTORS: usize = 32;

/// How long a thread of the waiting room waits for another connection before the thread ends.
pub(crate) const THREAD_IDLE: Duration = Duration::from_secs(2);

/// The longest pause of an acceptor before it accepts again: after an error, or while too many evicted
/// connections are open. A connection that closes ends the pause.
pub(crate) const BACKOFF: Duration = Duration::from_millis(50);

/// After this many connections in a row that were gone before they were accepted, acceptors pause after each one: a
/// system that reports nothing else must not keep a processor busy.
pub(crate) const MANY_GONE: u32 = 100;

/// Unknown errors of `accept` in a row before the listener counts as failed: 5 seconds, with a pause of
/// [`BACKOFF`] after each.
pub(crate) const MAX_UNKNOWN_ERRORS: u32 = 100;

/// How many sources of an error are shown. A wrong `source` may return the error itself, without end.
pub(crate) const MAX_SOURCES: usize = 32;

/// A shortage is over after this long in which every descriptor and thread could be had.
pub(crate) const CALM: Duration = Duration::from_secs(5);

/// How long an acceptor waits for the client of a connection for which no thread could be started.
pub(crate) const ON_ACCEPTOR_TIMEOUT: Duration = Duration::from_secs(1);

/// How long connections may stay idle at shutdown before they are closed. A head or a close that is under
/// way arrives in this time, and a stalled client delays the shutdown no longer.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_millis(250);

/// A client gets its 503 this long before the end of its wait (`Prefer: wait`), so that the answer still
/// arrives; after three quarters of a short wait. Longer than the 100 ms for which a container that has used
/// up its CPU quota is not scheduled.
pub(crate) const ANSWER_MARGIN: Duration = Duration::from_millis(500);

const _: () = assert!(cfg!(fuzzing) || USUAL_HEAD <= MAX_REQUEST_HEAD);
const _: () = assert!(ACCEPTORS >= 2);
const _: () = assert!(MAX_ERROR_TEXT < MAX_SHOWN_BODY, "the probe shows our own error texts whole");
const _: () = assert!(DRAIN_GRACE.as_millis() < ANSWER_MARGIN.as_millis());
const _: () = assert!(BACKOFF.as_millis() < CALM.as_millis());
const _: () =
    assert!(6 * MAX_ERROR_TEXT + 512 < MAX_OWN_BODY, "the probe reads our own error texts whole even if every byte is escaped");
