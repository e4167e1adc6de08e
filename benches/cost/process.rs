//! Processes and what the kernel says of them, through /proc.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes, short enough to notice that something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A pause of someone who looks again and again.
const GLANCE: Duration = Duration::from_micros(50);

/// A child that does not outlive its owner.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // nginx would leave its worker behind if it were killed outright.
        signal("TERM", self.0.id());
        if !wait(PATIENCE, || matches!(self.0.try_wait(), Ok(Some(_)))) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Option<Running> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok().map(Running)
    }
}

/// std cannot send signals; a shell can.
pub(crate) fn signal(name: &str, pid: u32) {
    let _ = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).stderr(Stdio::null()).status();
}

/// Looks again and again, until `done` or the time is up.
pub(crate) fn wait(time: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > time {
            return false;
        }
        thread::sleep(GLANCE);
    }
    true
}

/// A connector under `wrapper`, if there is one, and the address from its first log line.
pub(crate) fn daemon(program: &Path, wrapper: &[&str]) -> Option<(Running, SocketAddr)> {
    daemon_at(Ipv4Addr::LOCALHOST.into(), program, wrapper)
}

/// The same, listening there.
pub(crate) fn daemon_at(ip: IpAddr, program: &Path, wrapper: &[&str]) -> Option<(Running, SocketAddr)> {
    let mut command = match wrapper {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    command.args(["--health-check", "--health-check-port=0", &format!("--health-check-bind-address={ip}")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = Running(command.spawn().ok()?);
    let mut log = BufReader::new(running.0.stderr.take()?);
    let mut line = String::new();
    log.read_line(&mut line).ok()?;
    let address = line.split("\"address\":\"").nth(1)?.split('"').next()?.parse().ok()?;
    // The log is read to its end, so that its writer never waits.
    thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    wait(PATIENCE, || ask(reachable(address), "/ready").is_some()).then_some((running, address))
}

/// Where this machine reaches a server that listens on all its addresses.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { (Ipv4Addr::LOCALHOST, address.port()).into() } else { address }
}

/// One request on a connection of its own; how long a 200 took to come.
pub(crate) fn ask(address: SocketAddr, path: &str) -> Option<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = Vec::with_capacity(1024);
    stream.read_to_end(&mut answer).ok()?;
    answer.starts_with(b"HTTP/1.1 200 ").then(|| start.elapsed())
}

/// A process and its children: nginx serves from one.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    std::iter::once(pid).chain(children.split_whitespace().filter_map(|child| child.parse().ok()).flat_map(family)).collect()
}

/// Resident memory in kB, and threads, of a process and its children.
pub(crate) fn memory(pid: u32) -> (u64, usize) {
    let mut sums = (0, 0);
    for pid in family(pid) {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let rss = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
        sums.0 += rss.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
        sums.1 += fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    }
    sums
}

/// The CPU time in ms that a process and its children have taken, ended threads included; in steps of 10 ms.
pub(crate) fn cpu_ms(pid: u32) -> f64 {
    // Linux tells user space 100 ticks a second, whatever it uses itself.
    const TICK_MS: u64 = 10;
    let ticks = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        // utime and stime are the fields 14 and 15 of all, 3 being the first after the name.
        after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>()
    };
    (family(pid).into_iter().map(ticks).sum::<u64>() * TICK_MS) as f64
}

/// Runs a command to its end: wall and CPU time in us, or `None` when it fails. Between its end and
/// the moment its parent takes note of it, the kernel tells its CPU time to the nanosecond.
pub(crate) fn run_once(command: &mut Command) -> Option<(f64, f64)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().ok()?;
    // Its output ends when it does, or just before.
    let _ = child.stdout.take().map(|mut output| std::io::copy(&mut output, &mut std::io::sink()));
    let stat = format!("/proc/{}/stat", child.id());
    let ended =
        || fs::read_to_string(&stat).map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")));
    let over = wait(PATIENCE, ended);
    let wall = start.elapsed();
    let cpu = fs::read_to_string(format!("/proc/{}/schedstat", child.id())).ok();
    if !over {
        let _ = child.kill();
    }
    let success = child.wait().ok()?.success();
    let cpu = cpu?.split_whitespace().next()?.parse::<f64>().ok()? / 1000.0;
    (over && success).then_some((wall.as_secs_f64() * 1e6, cpu))
}

/// Where a program is, if it is there to be run.
pub(crate) fn found(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// Whether such a program is there to be run.
pub(crate) fn is_there(program: &str) -> bool {
    found(program).is_some()
}
