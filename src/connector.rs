//! What the author of a connector implements.

use std::error::Error;
use std::iter;

use crate::limits::MAX_SOURCES;
use crate::stop::Stop;

/// Any error that a connector reports. `?` converts strings and every error type that is `Send`, `Sync` and `'static`
/// to it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A connector: it does its own work, and can tell whether that works.
///
/// Only [`validate`](Connector::validate) is required. Several threads call the methods at the same time, so
/// a connector keeps the data it changes behind a lock.
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
    /// Checks whether the connector can really do its work. `/health` asks this.
    ///
    /// It may call upstream and block: it runs on a thread of its own (or that of a request, if none can be started),
    /// one run at a time. All clients that ask during a run get its verdict, which is then reused for
    /// [`Config::validate_ttl`](crate::Config::validate_ttl). If a run takes longer than
    /// [`Config::validate_timeout`](crate::Config::validate_timeout), or than the client will wait, the client gets
    /// 503. The run itself goes on, and no other run starts beside it, so a run that hangs costs one thread. Give every
    /// call to upstream a timeout of its own; [`Checks`](crate::Checks) divides one among several.
    ///
    /// # Errors
    ///
    /// An error makes `/health` answer 503. The server logs the whole text of the error and its
    /// [sources](std::error::Error::source). Clients on loopback get the first KiB of the text. Clients elsewhere
    /// get none of it, since such texts often contain names and tokens.
    ///
    /// # Panics
    ///
    /// A panic is a 503 like an error, and the next call works. In a program built with `panic = "abort"` a
    /// panic ends the process.
    fn validate(&self) -> Result<(), BoxError>;

    /// Checks whether the connector can take requests now. `/ready` asks this once the connector exists.
    ///
    /// It must be quick and must not call upstream, since it runs on the request's thread and occupies one of
    /// the places for connections. The default returns `Ok`.
    ///
    /// # Errors
    ///
    /// An error, or a panic, makes `/ready` answer 503.
    fn ready(&self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Does the connector's own work, for as long as the daemon lives. The default waits for `stop`.
    ///
    /// It must return soon after `stop` is requested: with the defaults within 4.5 s. `stop` interrupts nothing, so
    /// give each call to upstream a shorter timeout, and ask [`Stop::is_requested`] between two of them. The process
    /// waits until half a second (at most half of the time) before the end of
    /// [`Config::drain_timeout`](crate::Config::drain_timeout), and keeps that half second for answers under way. If
    /// `serve` has not returned by then, the process logs that and ends. If `serve` returns before `stop` is requested,
    /// the daemon ends.
    ///
    /// `stop` is requested whenever `serve` has returned, even after an error or a panic. So threads and tasks that
    /// wait for a clone of it end, and the destructor may wait for them. The process waits for the destructor until
    /// `drain_timeout` is over.
    ///
    /// # Errors
    ///
    /// An error or a panic is logged and ends the daemon with exit code 1. Do not return for a failure that may
    /// pass: log it, try again later, and let `validate` report it.
    fn serve(&self, stop: &Stop) -> Result<(), BoxError> {
        stop.wait();
        Ok(())
    }
}

/// A connector whose checks are two functions, for [`HealthServer::attach_fn`](crate::HealthServer::attach_fn).
pub(crate) struct Functions<V, R> {
    pub(crate) validate: V,
    pub(crate) ready: R,
}

impl<V, R> Connector for Functions<V, R>
where
    V: Fn() -> Result<(), BoxError> + Send + Sync + 'static,
    R: Fn() -> Result<(), BoxError> + Send + Sync + 'static,
{
    fn validate(&self) -> Result<(), BoxError> {
        (self.validate)()
    }

    fn ready(&self) -> Result<(), BoxError> {
        (self.ready)()
    }
}

/// An error's text followed by those of its [sources](std::error::Error::source), as logs and answers show it. HTTP
/// clients often say the reason only in a source. A source with whose text the result already ends is not repeated, and
/// those beyond the 32nd are left out.
///
/// ```
/// let error: baton_health::BoxError = "boom".into();
/// assert_eq!(baton_health::explain(&*error), "boom");
/// ```
#[must_use]
pub fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in iter::successors(error.source(), |&cause| cause.source()).take(MAX_SOURCES) {
        let cause_text = cause.to_string();
        // Many errors already end in the text of their cause.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
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
    fn an_errors_text_includes_its_sources() {
        let refused = || Some(Box::new(Layer("connection refused", None)));
        assert_eq!(explain(&Layer("boom", None)), "boom");
        assert_eq!(explain(&Layer("cannot sign in", refused())), "cannot sign in: connection refused");
        assert_eq!(explain(&Layer("GET /me: connection refused", refused())), "GET /me: connection refused");
    }

    #[derive(Debug)]
    struct OwnSource;

    impl fmt::Display for OwnSource {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("again")
        }
    }

    impl Error for OwnSource {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&OwnSource)
        }
    }

    #[test]
    fn an_error_that_is_its_own_source_has_a_text() {
        assert_eq!(explain(&OwnSource), "again");
    }

    struct Plain;

    impl Connector for Plain {
        fn validate(&self) -> Result<(), BoxError> {
            Ok(())
        }
    }

    #[test]
    fn without_work_of_its_own_a_connector_is_ready_and_waits_to_be_stopped() {
        let stop = Stop::default();
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| Plain.serve(&stop));
            assert!(Plain.ready().is_ok());
            for _ in 0..100 {
                std::thread::yield_now();
            }
            assert!(!serving.is_finished());
            stop.request();
            assert!(serving.join().unwrap().is_ok());
        });
    }

    #[test]
    fn a_panics_message_is_its_payloads_text() {
        assert_eq!(panic_text(&"static"), "static");
        assert_eq!(panic_text(&String::from("owned")), "owned");
        assert_eq!(panic_text(&42_u8), "no message");
    }
}
