//! Tests that count threads or memory need a process of their own: they run in a child that is this
//! same program with one test in it.

use std::env;
use std::process::Command;

const CHILD: &str = "BATON_TEST_ALONE";

/// True in the process that the test has for itself. Elsewhere it runs that process, and fails with it.
#[track_caller]
pub(crate) fn is_alone(test: &str) -> bool {
    if env::var_os(CHILD).is_some_and(|name| name == test) {
        return true;
    }
    let program = env::current_exe().expect("a path");
    let runner = env::var("BATON_TEST_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace().map(Into::into).chain([program.into_os_string()]);
    let mut command = Command::new(words.next().expect("the program at least"));
    command.args(words).args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, test);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    let ran = text.contains("1 passed");
    assert!(output.status.success() && ran, "{}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    false
}

/// How many threads of that name this process has, where the system tells.
pub(crate) fn threads_named(name: &str) -> Option<usize> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    Some(names.filter(|found| found.trim_end() == name).count())
}

/// Bytes of memory this process has in use, where the system tells.
pub(crate) fn resident_bytes() -> Option<usize> {
    const PAGE: usize = 4096;
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split(' ').nth(1)?.parse::<usize>().ok()? * PAGE)
}
