//! An interruptible wait that means "please finish".

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::sync::{Condvar, Mutex};

/// A request to finish. A loop waits on it between two rounds of its work.
///
/// Clones share one request. It cannot be taken back.
///
/// ```
/// use baton_health::Stop;
/// use std::time::Duration;
///
/// let stop = Stop::default();
/// let worker = std::thread::spawn({
///     let stop = stop.clone();
///     move || while !stop.wait_for(Duration::from_secs(60)) { /* one round of work */ }
/// });
/// stop.request();
/// worker.join().unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Stop {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl Stop {
    /// Makes the request: every wait on any clone ends, now and later. Further calls change nothing.
    pub fn request(&self) {
        let (requested, changed) = &*self.shared;
        *requested.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Waits until the request comes.
    pub fn wait(&self) {
        while !self.wait_for(Duration::MAX) {}
    }

    /// Waits until the request comes, for `timeout` at most. Returns whether it came. After the request it returns at
    /// once.
    ///
    /// ```
    /// # use baton_health::Stop;
    /// # use std::time::Duration;
    /// let stop = Stop::default();
    /// assert!(!stop.wait_for(Duration::ZERO));
    /// stop.request();
    /// assert!(stop.wait_for(Duration::from_secs(60)));
    /// ```
    #[must_use = "false means that the time is up and the work goes on"]
    pub fn wait_for(&self, timeout: Duration) -> bool {
        let (requested, changed) = &*self.shared;
        let guard = requested.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(guard, timeout, |requested| !*requested);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether the request has come. A long round of work can check it from time to time.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reaches_every_clone_and_stays() {
        let stop = Stop::default();
        assert!(!stop.is_requested());
        assert!(!stop.wait_for(Duration::ZERO));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let stop = stop.clone();
                std::thread::spawn(move || stop.wait())
            })
            .collect();
        stop.request();
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert!(stop.is_requested());
        assert!(stop.wait_for(Duration::MAX), "a wait after the request returns at once");
    }
}
