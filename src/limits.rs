//! Every limit that nobody has to set: its unit, its reason, and what happens beyond it.

use std::time::Duration;

/// Bytes in a head while fuzzing: a fuzzer would hardly ever reach the real limits.
const SHORT: usize = 192;

/// Bytes in a request's head, leading empty lines and the closing one included. Beyond it: 414 when
/// the request line alone is longer, else 431. Probes send 150 bytes, browsers rarely 4 KiB.
pub(crate) const MAX_REQUEST_HEAD: usize = if cfg!(fuzzing) { SHORT } else { 8 * 1024 };

/// Bytes in the head of an answer to the probe, 1xx heads before it included. Beyond it: not HTTP.
pub(crate) const MAX_RESPONSE_HEAD: usize = if cfg!(fuzzing) { SHORT } else { 16 * 1024 };

/// Bytes of an unwelcome answer's body that the probe shows: what fits Docker's 4 KiB of health
/// log even when every byte has to be escaped to `\u{..}`. Beyond it: cut.
pub(crate) const MAX_SHOWN_BODY: usize = 2 * 1024;

/// Bytes of a body that the probe reads when it starts like a health server's. Beyond it: shown like
/// any other body.
pub(crate) const MAX_OWN_BODY: usize = 8 * 1024;

/// Bytes of a redirect's `Location` that the probe shows. Beyond it: cut, and marked as cut.
pub(crate) const MAX_SHOWN_LOCATION: usize = 256;

/// Bytes of an error's text that a client gets. Beyond it: cut, and marked as cut.
pub(crate) const MAX_ERROR_TEXT: usize = 1024;

/// Bytes a thread keeps for reading heads between requests: most heads fit without asking for more.
pub(crate) const USUAL_HEAD: usize = 1024;

/// Threads that accept connections. Two, so that one that is at work leaves the other one accepting; on
/// two processors four answer 6 % fewer requests per second.
pub(crate) const ACCEPTORS: usize = 2;

/// How long an acceptor waits for a request head. Most heads arrive with their connection or right behind
/// it, and handing a connection over costs more than twice as much processor time as answering it.
pub(crate) const HEAD_GRACE: Duration = Duration::from_millis(2);

/// With this many idle connections the server assumes a flood, and acceptors do not wait for heads.
pub(crate) const FEW_IDLE: usize = 4;

/// Connections that were told to go, and are not closed yet, before acceptors wait for them: a flood must
/// not open descriptors faster than they are closed.
pub(crate) const MAX_EVICTING: usize = 8;

/// Connections that may wait to be accepted. std asks for 128, which a flood overflows; a client then
/// repeats its connection attempt only after a second. The system may allow fewer.
#[cfg(unix)]
pub(crate) const BACKLOG: i32 = 4096;

/// Descriptors that are left to the rest of the process where they are few: standard streams, listeners,
/// signals, connections in hand or about to close (20), and the connector's own.
#[cfg(unix)]
pub(crate) const RESERVED_DESCRIPTORS: usize = 32;

/// How long a thread of the waiting room waits for another connection before it ends.
pub(crate) const THREAD_IDLE: Duration = Duration::from_secs(2);

/// How long acceptors pause when there are no descriptors and no connection to take one from.
pub(crate) const BACKOFF: Duration = Duration::from_millis(50);

/// Connections in a row that were gone before they were accepted, before acceptors pause after each: a
/// system that reports nothing else must not keep a processor busy.
pub(crate) const MANY_GONE: u32 = 100;

/// Errors of `accept` in a row that are not known to pass, before the listener counts as failed: at
/// [`BACKOFF`] each, 5 seconds.
pub(crate) const MAX_UNKNOWN_ERRORS: u32 = 100;

/// A shortage is over after this long without a failed allocation.
pub(crate) const CALM: Duration = Duration::from_secs(5);

/// How long an acceptor serves a connection for which there is no thread.
pub(crate) const ALONE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long, at shutdown, connections may stay idle before they are closed: a head or a close that is
/// under way arrives in this time, and a stalled one delays nothing for longer.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_millis(250);

/// How much earlier than a client's patience ends (`Prefer: wait`) it gets its 503, so that the
/// answer still arrives: a quarter of it, at most this. Longer than the 100 ms for which a
/// container that used up its CPU quota is not scheduled.
pub(crate) const ANSWER_MARGIN: Duration = Duration::from_millis(500);

const _: () = assert!(cfg!(fuzzing) || USUAL_HEAD <= MAX_REQUEST_HEAD);
const _: () = assert!(ACCEPTORS >= 2);
const _: () = assert!(MAX_ERROR_TEXT < MAX_SHOWN_BODY, "the probe shows the whole of our own error texts");
const _: () = assert!(DRAIN_GRACE.as_millis() < ANSWER_MARGIN.as_millis());
const _: () = assert!(BACKOFF.as_millis() < CALM.as_millis());
const _: () = assert!(6 * MAX_ERROR_TEXT + 512 < MAX_OWN_BODY, "the probe understands our own error texts when all is escaped");
