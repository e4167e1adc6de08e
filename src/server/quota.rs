//! Quotas for requests that wait for the connector.

use crate::sync::{AtomicUsize, Ordering};

/// Limits how many requests may wait for the same thing at once.
#[derive(Debug)]
pub(crate) struct Quota {
    most: usize,
    inside: AtomicUsize,
}

/// A permit of a quota. Dropping it gives it back.
pub(crate) struct Permit<'a>(&'a Quota);

impl Quota {
    pub(crate) fn new(most: usize) -> Quota {
        Quota { most: most.max(1), inside: AtomicUsize::new(0) }
    }

    pub(crate) fn enter(&self) -> Option<Permit<'_>> {
        let permit = Permit(self);
        (self.inside.fetch_add(1, Ordering::Relaxed) < self.most).then_some(permit)
    }

    /// How many have a permit.
    #[cfg(test)]
    pub(crate) fn inside(&self) -> usize {
        self.inside.load(Ordering::Relaxed)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}
