//! Tests that count threads or memory need a process of their own. Such a test starts this program again
//! as a child that runs only this test.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::spawn::spawn;
use crate::wait::until;

const CHILD: &str = "BATON_TEST_ALONE";

/// True in the test's own process. Elsewhere this starts that process, and panics if it fails.
#[track_caller]
pub(crate) fn in_own_process(test: &str) -> bool {
    if env::var_os(CHILD).is_some_and(|name| name == test) {
        return true;
    }
    let program = env::current_exe().expect("a path");
    let runner = env::var("BATON_TEST_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace().map(Into::into).chain([program.into_os_string()]);
    let mut command = Command::new(words.next().expect("the program at least"));
    command.args(words).args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, test);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn(&mut command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let output = child.wait_with_output().expect("a child of ours");
    let text = String::from_utf8_lossy(&output.stdout);
    let ran = text.contains("1 passed");
    assert!(output.status.success() && ran, "{}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    false
}

/// This process in Linux's `/proc`. Wine shows that directory to Windows programs, but knows no names of threads.
fn own(file: &str) -> Option<PathBuf> {
    cfg!(target_os = "linux").then(|| Path::new("/proc/self").join(file))
}

/// The number of threads in this process whose names start so, if the system tells.
pub(crate) fn threads_named(start: &str) -> Option<usize> {
    let tasks = std::fs::read_dir(own("task")?).ok()?;
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    Some(names.filter(|found| found.starts_with(start)).count())
}

/// The bytes of memory that this process uses, if the system tells.
pub(crate) fn resident_bytes() -> Option<usize> {
    const PAGE: usize = 4096;
    let pages = std::fs::read_to_string(own("statm")?).ok()?;
    Some(pages.split(' ').nth(1)?.parse::<usize>().ok()? * PAGE)
}

/// Waits until every other thread of this process sleeps and none has run between two checks. The server has
/// then done all it can with what clients have sent. Returns at once if the system cannot tell.
#[track_caller]
pub(crate) fn until_all_sleep() {
    let mut before = None;
    until("every other thread to sleep", || {
        let Some(now) = sleepers() else { return own("task").is_none_or(|tasks| !tasks.exists()) };
        let same = before.as_ref() == Some(&now);
        before = Some(now);
        same
    });
}

/// All other threads with their numbers of context switches, if all of them sleep.
fn sleepers() -> Option<Vec<(OsString, Vec<String>)>> {
    let this = std::fs::read_link("/proc/thread-self").ok()?.file_name()?.to_owned();
    let others = std::fs::read_dir(own("task")?).ok()?.map(|task| task.map(|task| task.file_name()));
    let others = others.filter(|name| name.as_ref().is_ok_and(|name| *name != this));
    let switches = others.map(|name| {
        let name = name.ok()?;
        let status = std::fs::read_to_string(own("task")?.join(&name).join("status")).ok()?;
        let sleeps = status.lines().any(|line| line.starts_with("State:\tS"));
        let counts = status.lines().filter(|line| line.contains("ctxt_switches")).map(str::to_owned).collect();
        sleeps.then_some((name, counts))
    });
    switches.collect()
}
