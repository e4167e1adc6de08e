//! Quotas for requests that wait for the connector.

use crate::sync::{AtomicUsize, Ordering};

/// Limits how many requests may wait for the same thing at once. Clients on other machines may use up half of it, so
/// that they cannot keep out a probe on this machine.
#[derive(Debug)]
pub(crate) struct Quota {
    all: Limit,
    remote: Limit,
}

#[derive(Debug)]
struct Limit {
    most: usize,
    inside: AtomicUsize,
}

/// A permit of a quota. Dropping it gives it back.
pub(crate) struct Permit<'a> {
    _all: Inside<'a>,
    _remote: Option<Inside<'a>>,
}

struct Inside<'a>(&'a Limit);

impl Quota {
    /// A quota of `most`, but at least 1.
    pub(crate) fn new(most: usize) -> Quota {
        Quota { all: Limit::new(most), remote: Limit::new(most / 2) }
    }

    /// A permit for a client on this machine or, if `remote`, on another one.
    pub(crate) fn enter(&self, remote: bool) -> Option<Permit<'_>> {
        // This limit comes first, since a refused attempt counts for a moment too.
        let remote = if remote { Some(self.remote.enter()?) } else { None };
        Some(Permit { _all: self.all.enter()?, _remote: remote })
    }

    /// How many have a permit.
    #[cfg(test)]
    pub(crate) fn inside(&self) -> usize {
        self.all.inside.load(Ordering::Relaxed)
    }
}

impl Limit {
    fn new(most: usize) -> Limit {
        Limit { most: most.max(1), inside: AtomicUsize::new(0) }
    }

    fn enter(&self) -> Option<Inside<'_>> {
        let inside = Inside(self);
        (self.inside.fetch_add(1, Ordering::Relaxed) < self.most).then_some(inside)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}
