//! In place of the product's `spawn`: threads of the scheduler. A scenario may let some of them not start.

use std::cell::{Cell, RefCell};
use std::io;

use shuttle::rand::Rng;
use shuttle::thread::{self, JoinHandle};

thread_local! {
    static STARTED: RefCell<Vec<JoinHandle<()>>> = const { RefCell::new(Vec::new()) };
    static REFUSED: Cell<usize> = const { Cell::new(0) };
    /// Of so many threads one is refused at random; zero: none is.
    static ONE_REFUSED_OF: Cell<u32> = const { Cell::new(0) };
}

pub(crate) fn spawn(_: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    let odds = ONE_REFUSED_OF.get();
    if odds > 0 && shuttle::rand::thread_rng().gen_range(0..odds) == 0 {
        REFUSED.set(REFUSED.get() + 1);
        // A thread that is refused takes time too, in which others go on.
        thread::yield_now();
        return Err(io::ErrorKind::WouldBlock.into());
    }
    keep(thread::spawn(work));
    Ok(())
}

/// The run does not end before that thread.
pub(crate) fn keep(handle: JoinHandle<()>) {
    STARTED.with_borrow_mut(|started| started.push(handle));
}

/// A new run begins.
pub(crate) fn reset() {
    // A run that failed left handles behind, which belong to no scheduler any longer.
    STARTED.take().into_iter().for_each(std::mem::forget);
    REFUSED.set(0);
    ONE_REFUSED_OF.set(0);
}

/// From now on one of `odds` threads does not start.
pub(crate) fn refuse_one_of(odds: u32) {
    ONE_REFUSED_OF.set(odds);
}

/// How many threads did not start.
pub(crate) fn refused() -> usize {
    REFUSED.get()
}

/// Waits until all threads that were started have ended.
pub(crate) fn join_all() {
    while let Some(handle) = STARTED.with_borrow_mut(Vec::pop) {
        handle.join().expect("a thread of the server panicked");
    }
}
