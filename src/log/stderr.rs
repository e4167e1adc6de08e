//! Lines on standard error: their form, and writing them without waiting for a reader.

#[cfg(unix)]
use std::env;
#[cfg(unix)]
use std::fs::File;
use std::io;
#[cfg(feature = "cli")]
use std::io::IsTerminal;
#[cfg(not(unix))]
use std::io::Write;
#[cfg(unix)]
use std::os::{fd::AsFd, unix::fs::MetadataExt};
#[cfg(any(unix, feature = "cli"))]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, TryLockError};
use std::thread;
#[cfg(unix)]
use std::time::Instant;
use std::time::{Duration, SystemTime};

use crate::date::rfc3339;
use crate::event::{Event, Level};
use crate::json::{json_member, json_string};
#[cfg(unix)]
use crate::sys;
#[cfg(unix)]
use crate::text::push_digits;

/// The form of a line.
#[cfg(feature = "cli")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Text,
}

/// The lowest level that is logged.
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// The program whose lines are text.
#[cfg(feature = "cli")]
static TEXT_OF: OnceLock<&'static str> = OnceLock::new();

/// Sets the form and the lowest level of lines. Without a form, it depends on whether standard error is a
/// terminal.
#[cfg(feature = "cli")]
pub(crate) fn configure(program: &'static str, format: Option<Format>, level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
    let format = format.unwrap_or_else(|| if io::stderr().is_terminal() { Format::Text } else { Format::Json });
    if format == Format::Text {
        TEXT_OF.get_or_init(|| program);
    }
}

pub(super) fn is_enabled(level: Level) -> bool {
    level as u8 >= LEVEL.load(Ordering::Relaxed)
}

/// Writes an event as one line.
pub(super) fn write(event: &Event<'_>) {
    write_text(&line(event));
}

/// Writes whole lines, or loses them if standard error takes nothing for a while: health checks and shutdown must not
/// wait for a reader.
pub(crate) fn write_text(lines: &str) {
    const TRIES: usize = 100;
    const PAUSE: Duration = Duration::from_millis(1);

    for _ in 0..TRIES {
        match OUTPUT.try_lock() {
            Ok(mut output) => return output.write(lines),
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner().write(lines),
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
        }
    }
    LOST.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn line(event: &Event<'_>) -> String {
    let (priority, word) = match event.level() {
        Level::Debug => ("<7>", "debug"),
        Level::Info => ("<6>", "info"),
        Level::Warn => ("<4>", "warn"),
        Level::Error => ("<3>", "error"),
    };
    let mut line = String::new();
    if is_journal() {
        line.push_str(priority);
    }
    #[cfg(feature = "cli")]
    if let Some(program) = TEXT_OF.get() {
        push_text(&mut line, event, word, program);
        return line;
    }
    line.push_str("{\"time\":\"");
    rfc3339(&mut line, SystemTime::now());
    line.extend(["\",\"level\":\"", word, "\",\"msg\":"]);
    json_string(&mut line, event.message());
    event.for_each_field(|name, value| json_member(&mut line, name, &value.to_string()));
    line.push_str("}\n");
    line
}

/// A line for people: `2025-01-31T12:00:00Z info listening address=127.0.0.1:8081`. An error that ends the program looks
/// like a usage error, which ends it too.
#[cfg(feature = "cli")]
fn push_text(line: &mut String, event: &Event<'_>, level: &str, program: &str) {
    let mut text = String::new();
    if let Event::Failed { what, reason } = event {
        text.extend([program, ": cannot ", what, ": ", reason]);
    } else {
        rfc3339(&mut text, SystemTime::now());
        text.extend([" ", level, " ", event.message()]);
        event.for_each_field(|name, value| text.extend([" ", name, "=", &value.to_string()]));
    }
    crate::text::escape_for_terminal(line, text.as_bytes());
    line.push('\n');
}

static OUTPUT: Mutex<Output> = Mutex::new(Output { torn: false });

/// Lines lost since the last one that was written.
static LOST: AtomicUsize = AtomicUsize::new(0);

/// Standard error.
struct Output {
    /// Only a part of the last line was written.
    torn: bool,
}

impl Output {
    fn write(&mut self, text: &str) {
        const LONGEST: Duration = Duration::from_millis(100);

        let lost = LOST.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let fields = &[("count", &*lost.to_string())];
            // Nothing waits again for a reader that it has waited for in vain.
            if !self.put(&line(&Event::Message { level: Level::Warn, message: "log lines lost", fields }), Duration::ZERO) {
                LOST.fetch_add(lost + 1, Ordering::Relaxed);
                return;
            }
        }
        if !self.put(text, LONGEST) {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes a line and returns whether all of it was written. A torn line before it is ended first. Each piece may
    /// take `longest`.
    fn put(&mut self, text: &str, longest: Duration) -> bool {
        if self.torn {
            if write_to_stderr(b"\n", longest) == 0 {
                return false;
            }
            self.torn = false;
        }
        for piece in text.as_bytes().chunks(PIECE) {
            let written = write_to_stderr(piece, longest);
            self.torn |= written > 0;
            if written < piece.len() {
                return false;
            }
        }
        self.torn = false;
        true
    }
}

/// Writes a piece of a line to standard error, unless that takes longer than `longest`. Returns how many bytes
/// were written.
#[cfg(unix)]
fn write_to_stderr(piece: &[u8], longest: Duration) -> usize {
    sys::write_until(sys::STDERR, piece, Instant::now() + longest).0
}

#[cfg(unix)]
use crate::sys::PIPE_BUF as PIECE;

/// This may block: std cannot tell whether a write would.
#[cfg(not(unix))]
fn write_to_stderr(piece: &[u8], _: Duration) -> usize {
    if io::stderr().write_all(piece).is_ok() { piece.len() } else { 0 }
}

#[cfg(not(unix))]
const PIECE: usize = 4096;

/// Whether standard error is a stream of the systemd journal, which reads priorities (sd-daemon(3)). If it
/// is, `JOURNAL_STREAM` contains its device and inode.
#[cfg(unix)]
fn is_journal() -> bool {
    static IS_JOURNAL: OnceLock<bool> = OnceLock::new();
    *IS_JOURNAL.get_or_init(|| {
        let Some(stream) = env::var_os("JOURNAL_STREAM") else { return false };
        let file = io::stderr().as_fd().try_clone_to_owned().map(File::from).and_then(|file| file.metadata());
        let Ok(file) = file else { return false };
        let mut own = String::new();
        push_digits(&mut own, file.dev(), 1);
        own.push(':');
        push_digits(&mut own, file.ino(), 1);
        stream == *own
    })
}

#[cfg(not(unix))]
fn is_journal() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: Event<'_> = Event::Message {
        level: Level::Warn,
        message: "it \"broke\"",
        fields: &[("reason", "two\nlines"), ("path", "/etc/passwd"), ("empty", "")],
    };

    #[test]
    fn a_line_is_one_json_object() {
        let line = line(&EVENT);
        let (time, rest) = line.split_at("{\"time\":\"2025-01-31T12:00:00Z\"".len());
        assert!(time.starts_with("{\"time\":\"2") && time.ends_with("Z\""), "{time}");
        let expected = r#","level":"warn","msg":"it \"broke\"","reason":"two\nlines","path":"/etc/passwd","empty":""}"#;
        assert_eq!(rest.strip_suffix('\n'), Some(expected));
    }

    #[test]
    #[cfg(feature = "cli")]
    fn a_line_for_people_is_one_line_too() {
        let text = |event| {
            let mut line = String::new();
            push_text(&mut line, event, "warn", "program");
            line
        };
        let line = text(&EVENT);
        let (time, rest) = line.split_at("2025-01-31T12:00:00Z".len());
        assert!(time.starts_with('2') && time.ends_with('Z'), "{time}");
        assert_eq!(rest, " warn it \"broke\" reason=two\\x0alines path=/etc/passwd empty=\n");
        assert_eq!(text(&Event::Failed { what: "listen", reason: "no\x1b" }), "program: cannot listen: no\\x1b\n");
    }

    #[test]
    fn each_level_has_a_word() {
        for (level, word) in [(Level::Debug, "debug"), (Level::Info, "info"), (Level::Warn, "warn"), (Level::Error, "error")] {
            let line = line(&Event::Message { level, message: "x", fields: &[] });
            assert!(line.ends_with(&format!(",\"level\":\"{word}\",\"msg\":\"x\"}}\n")), "{line}");
        }
    }

    #[test]
    fn details_are_not_logged_unless_they_are_asked_for() {
        assert!(!is_enabled(Level::Debug));
        assert!(is_enabled(Level::Info) && is_enabled(Level::Warn) && is_enabled(Level::Error));
    }
}
