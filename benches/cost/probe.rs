//! What one probe costs.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use crate::figures::{self, Panel};
use crate::process::{self, PATIENCE, Running, daemon, is_there, memory, run_once, wait};
use crate::stats::{median, paired, ratio, spread, table};
use crate::{Build, peers};

struct Subject {
    name: String,
    command: Command,
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

pub(crate) fn run(builds: &[Build], scratch: &Path, quick: bool, skipped: &mut Vec<String>) {
    let Some((_server, address)) = builds.first().and_then(|build| daemon(&build.path, &[])) else {
        return skipped.push("the probe: no server to ask".into());
    };
    let mut subjects = Vec::new();
    let mut add = |name: String, command: Command| subjects.push(Subject { name, command, wall: Vec::new(), cpu: Vec::new() });
    match peers::floor(scratch) {
        Some(floor) => {
            let mut command = Command::new(&floor);
            command.arg(address.port().to_string());
            add("C floor".into(), command);
            add("start and end alone".into(), Command::new(floor));
        }
        None => skipped.push("the C floor (no cc, or none for this machine): ratios are to the first row".into()),
    }
    for build in builds {
        add(build.name.into(), ours(build, address));
    }
    for (name, command) in peers::probes(address, skipped) {
        add(name.into(), command);
    }

    let rounds = if quick { 50 } else { 300 };
    for round in 0..rounds {
        // Starting elsewhere in each round, so that none always follows the same one.
        for offset in 0..subjects.len() {
            let at = (round + offset) % subjects.len();
            let subject = &mut subjects[at];
            let Some((wall, cpu)) = run_once(&mut subject.command) else {
                return skipped.push(format!("the probe: {} failed", subject.name));
            };
            subject.wall.push(wall);
            subject.cpu.push(cpu);
        }
    }
    // The C library's `posix_spawn` resets every signal in the child: a tenth of a millisecond that all rows share.
    println!("\n## A probe, {rounds} of each in turn; CPU of the whole process, starting it included");
    let head = ["probe", "CPU us (p10-p90)", "ratio", "wall us (p10-p90)", "ratio"];
    let Some(first) = subjects.first() else { return };
    table(
        &head,
        subjects.iter().map(|subject| {
            let (cpu, wall) = (ratio(paired(&subject.cpu, &first.cpu)), ratio(paired(&subject.wall, &first.wall)));
            figures::add(Panel::Probe, &subject.name, paired(&subject.cpu, &first.cpu));
            vec![subject.name.clone(), spread(&subject.cpu), cpu, spread(&subject.wall), wall]
        }),
    );

    println!("\n## A probe, counted");
    if !is_there("strace") {
        skipped.push("system calls (strace is not installed)".into());
    }
    let calls = |build: &Build| system_calls(&mut ours(build, address), scratch).map_or("?".into(), |count| count.to_string());
    let kilobytes = |name: &str, command: &dyn Fn(SocketAddr) -> Option<Command>| match waiting_memory(command) {
        Some(kilobytes) => {
            figures::add(Panel::ProbeMemory, name, kilobytes);
            format!("{kilobytes:.0}")
        }
        None => "?".into(),
    };
    let own = builds
        .iter()
        .map(|build| vec![build.name.into(), calls(build), kilobytes(build.name, &|address| Some(ours(build, address)))]);
    let others = peers::probes(address, &mut Vec::new()).into_iter().map(|(name, _)| {
        let command = |address| peers::probes(address, &mut Vec::new()).into_iter().find(|(other, _)| *other == name);
        vec![name.into(), "-".into(), kilobytes(name, &|address| Some(command(address)?.1))]
    });
    table(&["probe", "system calls", "memory kB"], own.chain(others));
}

fn ours(build: &Build, address: SocketAddr) -> Command {
    let mut command = Command::new(&build.path);
    command.args(["health-check", &format!("--health-check-port={}", address.port())]);
    command
}

/// Everything after `execve`, to `exit_group`.
fn system_calls(probe: &mut Command, scratch: &Path) -> Option<usize> {
    let trace = scratch.join("probe.strace");
    let mut strace = Command::new("strace");
    strace.arg("-qq").arg("-o").arg(&trace).arg(probe.get_program()).args(probe.get_args());
    run_once(&mut strace)?;
    Some(fs::read_to_string(&trace).ok()?.lines().count().saturating_sub(1))
}

/// The resident memory of a probe that has asked and waits for its answer: nearly all it ever takes.
fn waiting_memory(command: &dyn Fn(SocketAddr) -> Option<Command>) -> Option<f64> {
    let silent = TcpListener::bind(("127.0.0.1", 0)).ok()?;
    let address = silent.local_addr().ok()?;
    let mut samples = Vec::new();
    for _ in 0..5 {
        let probe = Running::start(&mut command(address)?)?;
        let (mut stream, _) = silent.accept().ok()?;
        stream.set_read_timeout(Some(process::PATIENCE)).ok()?;
        std::io::Read::read(&mut stream, &mut [0; 1024]).ok()?;
        // Asleep again, it has set its last time limit and waits.
        let stat = format!("/proc/{}/stat", probe.0.id());
        wait(PATIENCE, || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") S ")));
        samples.push(memory(probe.0.id()).0 as f64);
    }
    Some(median(&samples))
}
