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

/// Threads that stand in `accept`. Two, so that taking one connection never leaves nobody there. More
/// only take turns, which costs switches between them: on two processors, four answer 6 % fewer
/// requests per second than two.
pub(crate) const STANDING: usize = 2;

/// Threads that stand in `accept` while many connections stall: another is then needed so often that
/// starting one each time would take longer than the stalled clients do.
pub(crate) const MAX_STANDING: usize = 4;

/// How long a connection's head is waited for before somebody else is got into `accept`. Most heads
/// come with the connection or right behind it, and the thread is back sooner than another is started.
pub(crate) const PATIENCE: Duration = Duration::from_millis(2);

/// With as many debtors many stall, and that patience is over: the head of one more will not come either.
pub(crate) const FEW_DEBTORS: usize = 4;

/// How long `accept` is left alone when there are no descriptors and nobody to take one from.
pub(crate) const BACKOFF: Duration = Duration::from_millis(50);

/// How long everything must have been to be had before a shortage counts as over, and is logged anew.
pub(crate) const CALM: Duration = Duration::from_secs(5);

/// What a connection may take for its head when no thread could be left in `accept` behind it:
/// until it is done, nobody else is answered.
pub(crate) const ALONE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long, at shutdown, connections may still owe what they owe before they are closed: a head
/// or a close already under way arrives in this time, and a stalled one delays nothing for longer.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_millis(250);

/// How much earlier than a client's patience ends (`Prefer: wait`) it gets its 503, so that the
/// answer still arrives: a quarter of it, at most this. Longer than the 100 ms for which a
/// container that used up its CPU quota is not scheduled.
pub(crate) const ANSWER_MARGIN: Duration = Duration::from_millis(500);

/// What `validate` must have taken before it is logged that a client did not wait for it: half of
/// what the most impatient client can say, so that nobody else writes our log.
pub(crate) const LONG: Duration = Duration::from_millis(500);

const _: () = assert!(cfg!(fuzzing) || USUAL_HEAD <= MAX_REQUEST_HEAD);
const _: () = assert!(STANDING >= 2 && STANDING <= MAX_STANDING);
const _: () = assert!(MAX_ERROR_TEXT < MAX_SHOWN_BODY, "the probe shows the whole of our own error texts");
const _: () = assert!(DRAIN_GRACE.as_millis() < ANSWER_MARGIN.as_millis());
const _: () = assert!(BACKOFF.as_millis() < CALM.as_millis());
const _: () = assert!(6 * MAX_ERROR_TEXT + 512 < MAX_OWN_BODY, "the probe understands our own error texts when all is escaped");
