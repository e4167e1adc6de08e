//! What the author of a connector implements.

use std::error::Error;

use crate::stop::Stop;

/// Any error a connector wants to report; `?` converts into it from everything that is an error.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A connector: something that can say whether it works, and has work of its own to do.
///
/// Only [`validate`](Connector::validate) has to be written. The methods are called from several
/// threads, at the same time as each other; a connector keeps what it changes behind a lock.
///
/// ```
/// use baton_health::{BoxError, Connector};
///
/// struct Upstream;
///
/// impl Connector for Upstream {
///     fn validate(&self) -> Result<(), BoxError> {
///         Err("upstream says no".into())
///     }
/// }
/// ```
pub trait Connector: Send + Sync + 'static {
    /// Whether the connector can really do its work: what `/health` asks.
    ///
    /// It may ask upstream, block and take its time: it runs on a thread of its own, at most once
    /// at a time, and everyone who asks meanwhile gets the same verdict, which is then reused for
    /// [`Config::validate_ttl`](crate::Config::validate_ttl). When it has taken
    /// [`Config::validate_timeout`](crate::Config::validate_timeout), or longer than the client
    /// will wait, the client is told so; the call itself goes on and is not started a second time,
    /// so one that hangs costs one thread. Give whatever it calls a timeout of its own.
    ///
    /// # Errors
    ///
    /// An error makes `/health` answer 503. Its text, and that of its
    /// [sources](std::error::Error::source), is logged whole; clients on loopback get the first
    /// KiB of it, clients elsewhere none, since such texts tend to hold names and tokens.
    ///
    /// # Panics
    ///
    /// A panic is a 503 like an error, and the next call works (where panics unwind; in a program
    /// built with `panic = "abort"` it ends the process).
    fn validate(&self) -> Result<(), BoxError>;

    /// Whether the connector can take requests now: what `/ready` asks, once the connector exists.
    ///
    /// Must be quick and must not ask upstream: it runs on the thread of the request, and for as
    /// long as it takes it holds one of the places for requests. The default says yes.
    ///
    /// # Errors
    ///
    /// An error, or a panic, makes `/ready` answer 503.
    fn ready(&self) -> Result<(), BoxError> {
        Ok(())
    }

    /// The connector's own work, for as long as the daemon lives. The default waits for `stop`.
    ///
    /// Returns soon after `stop` is requested: the process does not wait longer than
    /// [`Config::drain_timeout`](crate::Config::drain_timeout), of which the last half second is for
    /// answers under way; it then logs that, and ends. Returning earlier ends the daemon.
    ///
    /// When `serve` has returned, for whatever reason, `stop` is requested, so threads and tasks that
    /// wait for a clone of it end, and the destructor may wait for them. The process waits for the
    /// destructor until `drain_timeout` is over.
    ///
    /// # Errors
    ///
    /// An error, or a panic, is logged and ends the daemon with exit code 1. Trouble that may pass
    /// is no reason to return: log it, try again later, and let `validate` report it.
    fn serve(&self, stop: &Stop) -> Result<(), BoxError> {
        stop.wait();
        Ok(())
    }
}

/// An error's text followed by those of its [sources](std::error::Error::source), as logs and answers show
/// it. A source whose text is already the end is not repeated.
///
/// ```
/// let error: baton_health::BoxError = "boom".into();
/// assert_eq!(baton_health::explain(&*error), "boom");
/// ```
#[must_use]
pub fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many errors already end in the text of their cause.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The message of a panic, if it has one.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "no message"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|layer| layer as _)
        }
    }

    #[test]
    fn an_error_is_explained_by_its_sources() {
        let refused = || Some(Box::new(Layer("connection refused", None)));
        assert_eq!(explain(&Layer("boom", None)), "boom");
        assert_eq!(explain(&Layer("cannot sign in", refused())), "cannot sign in: connection refused");
        assert_eq!(explain(&Layer("GET /me: connection refused", refused())), "GET /me: connection refused");
    }

    #[test]
    fn a_panic_says_what_it_said() {
        assert_eq!(panic_text(&"static"), "static");
        assert_eq!(panic_text(&String::from("owned")), "owned");
        assert_eq!(panic_text(&42_u8), "no message");
    }
}
