//! The events worth logging.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::address::Address;

/// How much attention a line needs, from the least to the most.
///
/// ```
/// use baton_health::Level;
/// assert!(Level::Debug < Level::Info && Level::Warn < Level::Error);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// A detail that helps to find a mistake. Logged only with `--log-level=debug`.
    Debug,
    /// Something worked.
    Info,
    /// Something failed, and the process goes on.
    Warn,
    /// Something failed, and the process ends or cannot do its work.
    Error,
}

/// Something worth logging in a health server or the program around it. An ordinary request is not an event.
///
/// Its [`Display`](fmt::Display) is a line of text for a log of your own. For a log with fields there are
/// [`level`](Event::level), [`message`](Event::message) and [`for_each_field`](Event::for_each_field).
///
/// ```
/// use baton_health::{Config, Event, Level};
/// use std::sync::Arc;
///
/// let mut config = Config::default();
/// config.on_event = Arc::new(|event| {
///     if event.level() >= Level::Warn {
///         eprintln!("health: {event}");
///     }
/// });
/// assert_eq!(Event::Unhealthy { reason: "no connection" }.to_string(), "unhealthy reason=no connection");
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The server listens on this address. For port 0 it has the port that the system chose.
    Listening {
        /// The address.
        address: SocketAddr,
    },
    /// Building the connector takes a while. Logged once.
    Connecting,
    /// The connector is still not built. Logged at growing intervals.
    StillConnecting {
        /// How long it has taken so far.
        elapsed: Duration,
    },
    /// The connector exists, so `/ready` and `/health` can ask it.
    Connected,
    /// `/health` answers 200, for the first time or again.
    Healthy,
    /// `/health` answers 503, for the first time or again.
    Unhealthy {
        /// The whole reason.
        reason: &'a str,
    },
    /// `/ready` answers 200, for the first time or again.
    Ready,
    /// The connector's `ready` says no, for the first time or again.
    NotReady {
        /// The whole reason.
        reason: &'a str,
    },
    /// Some code panicked.
    Panicked {
        /// The panic's message and place, if they are known.
        message: &'a str,
    },
    /// The system has run out of something that the server needs. The server goes on with what it has.
    /// Logged once, until [`Event::Recovered`].
    ResourceExhausted {
        /// What the server tried.
        what: &'a str,
        /// What the system said.
        error: &'a io::Error,
    },
    /// The shortage that [`Event::ResourceExhausted`] reported has passed.
    Recovered,
    /// The server can accept no more connections. Probes get no answer from now on, so the process should
    /// end. [`App`](crate::App) ends it.
    ListenerFailed {
        /// What the system said.
        error: &'a io::Error,
    },
    /// The process shuts down, after a request to finish or because it cannot go on.
    Draining,
    /// The connector's `serve` has returned `Ok`.
    Finished,
    /// The connector's `serve` or its destructor did not return in time. The process ends without it.
    Abandoned,
    /// The daemon failed.
    Failed {
        /// What was tried.
        what: &'a str,
        /// The whole reason.
        reason: &'a str,
    },
    /// A line of the connector's own, from a call of [`log`](crate::log()).
    Message {
        /// How much attention the line needs.
        level: Level,
        /// The text of the line.
        message: &'a str,
        /// The names and values of its fields.
        fields: &'a [(&'a str, &'a str)],
    },
}

impl Event<'_> {
    /// How much attention the event needs.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Event::Panicked { .. } | Event::ListenerFailed { .. } | Event::Failed { .. } => Level::Error,
            Event::Unhealthy { .. }
            | Event::NotReady { .. }
            | Event::ResourceExhausted { .. }
            | Event::StillConnecting { .. }
            | Event::Abandoned => Level::Warn,
            Event::Message { level, .. } => *level,
            _ => Level::Info,
        }
    }

    /// A fixed text for each kind of event, to search a log for.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Event::Listening { .. } => "listening",
            Event::Connecting => "connecting",
            Event::StillConnecting { .. } => "still connecting",
            Event::Connected => "connected",
            Event::Healthy => "healthy",
            Event::Unhealthy { .. } => "unhealthy",
            Event::Ready => "ready",
            Event::NotReady { .. } => "not ready",
            Event::Panicked { .. } => "panicked",
            Event::ResourceExhausted { .. } => "short of resources",
            Event::Recovered => "recovered",
            Event::ListenerFailed { .. } => "listener failed",
            Event::Draining => "draining",
            Event::Finished => "finished",
            Event::Abandoned => "connector did not finish in time",
            Event::Failed { .. } => "failed",
            Event::Message { message, .. } => message,
        }
    }

    /// Calls `each` with the name and value of each field, for a log that has fields of its own.
    ///
    /// Every kind of event has the same fields each time, in the same order: `address`, `seconds`, `reason`, `what` and
    /// `error` are the only names. Only [`Event::Message`] has others, those that [`log`](crate::log()) was given.
    ///
    /// ```
    /// use baton_health::Event;
    ///
    /// let mut fields = Vec::new();
    /// let event = Event::Failed { what: "connect", reason: "connection refused" };
    /// event.for_each_field(|name, value| fields.push((name.to_owned(), value.to_string())));
    /// assert_eq!(fields, [("what".into(), "connect".into()), ("error".into(), "connection refused".into())]);
    /// ```
    pub fn for_each_field(&self, mut each: impl FnMut(&str, &dyn fmt::Display)) {
        self.visit(&mut each);
    }

    fn visit(&self, each: &mut dyn FnMut(&str, &dyn fmt::Display)) {
        match self {
            Event::Listening { address } => each("address", &Address(*address)),
            Event::StillConnecting { elapsed } => each("seconds", &elapsed.as_secs()),
            Event::Unhealthy { reason } | Event::NotReady { reason } => each("reason", reason),
            Event::Panicked { message } => each("error", message),
            Event::ResourceExhausted { what, error } => {
                each("what", what);
                each("error", error);
            }
            Event::ListenerFailed { error } => each("error", error),
            Event::Failed { what, reason } => {
                each("what", what);
                each("error", reason);
            }
            Event::Message { fields, .. } => fields.iter().for_each(|(name, value)| each(name, value)),
            _ => {}
        }
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())?;
        let mut result = Ok(());
        self.for_each_field(|name, value| result = result.and_then(|()| write!(f, " {name}={value}")));
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_displays_as_one_line_of_text() {
        let error = io::Error::other("no more");
        let event = Event::ResourceExhausted { what: "accept", error: &error };
        assert_eq!(event.to_string(), "short of resources what=accept error=no more");
        assert_eq!(Event::Healthy.to_string(), "healthy");
        assert_eq!((event.level(), Event::StillConnecting { elapsed: Duration::from_secs(3) }.level()), (Level::Warn, Level::Warn));
        assert!(Level::Debug < Level::Info && Level::Info < Level::Warn && Level::Warn < Level::Error);
    }

    #[test]
    fn each_event_has_its_level_and_its_fields() {
        let (error, address) = (io::Error::other("no more"), SocketAddr::from(([127, 0, 0, 1], 80)));
        let elapsed = Duration::from_secs(3);
        for (event, level, text) in [
            (Event::Listening { address }, Level::Info, "listening address=127.0.0.1:80"),
            (Event::Connecting, Level::Info, "connecting"),
            (Event::StillConnecting { elapsed }, Level::Warn, "still connecting seconds=3"),
            (Event::Unhealthy { reason: "boom" }, Level::Warn, "unhealthy reason=boom"),
            (Event::NotReady { reason: "boom" }, Level::Warn, "not ready reason=boom"),
            (Event::Panicked { message: "boom" }, Level::Error, "panicked error=boom"),
            (
                Event::ResourceExhausted { what: "accept", error: &error },
                Level::Warn,
                "short of resources what=accept error=no more",
            ),
            (Event::ListenerFailed { error: &error }, Level::Error, "listener failed error=no more"),
            (Event::Failed { what: "serve", reason: "boom" }, Level::Error, "failed what=serve error=boom"),
            (Event::Message { level: Level::Debug, message: "x", fields: &[("a", "1"), ("b", "2")] }, Level::Debug, "x a=1 b=2"),
        ] {
            assert_eq!((event.level(), &*event.to_string()), (level, text));
        }
    }
}
