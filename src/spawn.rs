//! Starts threads. It takes a boxed closure, since each closure type of its own costs a kilobyte of code.

use std::io;
use std::thread::Builder;

/// Runs `work` on a thread of that name. The stack has std's default size, since connectors' code runs on it.
pub(crate) fn spawn(name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    Builder::new().name(name.to_owned()).spawn(work).map(drop)
}
