//! Starts a process.

use std::io;
use std::process::{Child, Command};

/// How many times Wine may fail to start one process.
const ATTEMPTS: usize = 5;

/// Windows' ERROR_INTERNAL_ERROR. Wine gives it when a new process ends before it has loaded its program, which is
/// rare: none of 4,500 did.
const NOT_BEGUN: i32 = 1359;

pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut attempts = 1;
    loop {
        match command.spawn() {
            Err(error) if cfg!(windows) && attempts < ATTEMPTS && error.raw_os_error() == Some(NOT_BEGUN) => attempts += 1,
            started => return started,
        }
    }
}
