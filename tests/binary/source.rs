//! What the reference connector reads, in a directory of its own that goes away with it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::daemon::Daemon;
use crate::program::program;

pub(crate) const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/sh\n";
pub(crate) const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:root\n";

pub(crate) struct Source {
    dir: PathBuf,
}

impl Source {
    /// A healthy one.
    pub(crate) fn new() -> Source {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = env::temp_dir().join(format!("baton-passwd-test-{}-{count}", process::id()));
        fs::create_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let source = Source { dir };
        source.put("passwd", PASSWD);
        source.put("group", GROUP);
        source
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).into_os_string().into_string().expect("a temporary directory with an ordinary name")
    }

    /// Puts a file in its place as a whole: whoever reads sees what was there before, or all of this.
    pub(crate) fn put(&self, name: &str, contents: impl AsRef<[u8]>) {
        let new = self.path("new");
        fs::write(&new, contents).expect("a file can be written");
        fs::rename(new, self.path(name)).expect("a file can be moved");
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("a file can be removed");
    }

    /// A program that reads from here.
    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = program(arguments);
        command.env("BATON_PASSWD", self.path("passwd")).env("BATON_GROUP", self.path("group"));
        command
    }

    /// A connector that reads from here, with its health check on any free port.
    pub(crate) fn daemon(&self, arguments: &[&str]) -> Daemon {
        let mut command = self.program(arguments);
        Daemon::start(command.env("BATON_HEALTH_CHECK", "true").env("BATON_HEALTH_CHECK_PORT", "0"))
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // What is left behind in a temporary directory is not worth failing for.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Named pipes: reading one waits, for as long as the test likes.
#[cfg(unix)]
pub(crate) mod pipe {
    use std::fs::{self, File, OpenOptions};
    use std::process::Command;
    use std::sync::mpsc;
    use std::thread;

    use super::Source;
    use crate::program::{PATIENCE, run};

    impl Source {
        /// Puts a named pipe in the place of a file: who reads it hangs.
        pub(crate) fn put_pipe(&self, name: &str) {
            let new = self.path("new");
            let made = run(Command::new("mkfifo").arg(&new));
            assert_eq!(made.code, Some(0), "{made:?}");
            fs::rename(new, self.path(name)).expect("a pipe can be moved");
        }

        /// Waits until somebody has opened the pipe to read it. They go on when what this returns
        /// has been written to and dropped.
        pub(crate) fn wait_for_reader(&self, name: &str) -> File {
            let (sender, receiver) = mpsc::channel();
            let path = self.path(name);
            // Opening waits for a reader; on a thread, so that this is bounded too.
            thread::spawn(move || sender.send(OpenOptions::new().write(true).open(path)));
            receiver.recv_timeout(PATIENCE).expect("somebody opens the pipe").expect("it can be written to")
        }
    }
}
