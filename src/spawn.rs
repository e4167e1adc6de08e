//! Starting a thread: in one place, since every kind of closure it is compiled for costs a kilobyte.

use std::io;
use std::thread::Builder;

/// Runs `work` on a thread of that name, with a stack of the usual size: connectors' code runs on it.
pub(crate) fn spawn(name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    Builder::new().name(name.to_owned()).spawn(work).map(drop)
}
