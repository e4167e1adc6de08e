//! Std's locks, condition variables, atomics and clock. The model checker in `model/` compiles the files that
//! use them with a module of its own instead of this one.

pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use std::time::Instant;
