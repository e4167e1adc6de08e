//! What threads share and wait with, and the clock they wait by: std's. The model checker in `model/`
//! compiles the files that use it with a module of its own in this place.

pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use std::time::Instant;
