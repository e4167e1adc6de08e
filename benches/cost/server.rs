//! What the server costs: per request, at rest, after load, and with stalled clients.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::figures::{self, Panel};
use crate::process::{PATIENCE, Running, ask, cpu_ms, daemon, family, is_there, memory, signal, wait};
use crate::stats::{figure, median, paired, quantile, ratio, spread, table};
use crate::{Build, peers};

/// Clients that start a request and never finish it; within the usual 1,024 descriptors of a process.
const STALLED: usize = 500;

/// Enough for all clients here.
const NGINX_CONNECTIONS: usize = 4096;

struct Subject {
    name: &'static str,
    running: Running,
    address: SocketAddr,
    at_rest: (u64, usize),
    latency: Vec<f64>,
    cpu: f64,
    throughput: Vec<f64>,
    /// CPU per request, for each of [`AT_ONCE`].
    cpu_at_once: [Vec<f64>; AT_ONCE.len()],
}

/// So many clients at once. The throughput is that of the second.
const AT_ONCE: [usize; 4] = [1, 16, 64, 256];

pub(crate) fn run(builds: &[Build], scratch: &Path, quick: bool, skipped: &mut Vec<String>) {
    let mut subjects = Vec::new();
    let peers = peers::servers(scratch, NGINX_CONNECTIONS, skipped);
    let others = peers.iter().map(|peer| (peer.name, peer.start(Ipv4Addr::LOCALHOST.into())));
    let own = builds.iter().map(|build| (build.name, daemon(&build.path, &[])));
    for (name, started) in others.chain(own) {
        let Some((running, address)) = started else {
            skipped.push(format!("{name} (does not start)"));
            continue;
        };
        let at_rest = memory(running.0.id());
        let [latency, throughput] = [Vec::new(), Vec::new()];
        subjects.push(Subject { name, running, address, at_rest, latency, cpu: 0.0, throughput, cpu_at_once: Default::default() });
    }
    let Some(baseline) = subjects.first().map(|subject| subject.name) else { return };

    in_sequence(&mut subjects, if quick { 5 } else { 20 });
    let after_sequence: Vec<_> = subjects.iter().map(|subject| memory(subject.running.0.id())).collect();
    if is_there("wrk") {
        at_once(&mut subjects, if quick { 2 } else { 5 });
    } else {
        skipped.push("requests at once (wrk is not installed)".into());
    }

    println!("\n## The server, a new connection for every request; ratios to {baseline}");
    let first = &subjects[0];
    table(
        &["server", "us (p10-p90)", "ratio", "p99 us", "CPU us", "ratio", "requests/s (p10-p90)", "ratio"],
        subjects.iter().map(|subject| {
            let requests = subject.latency.len() as f64;
            figures::add(Panel::Memory, subject.name, subject.at_rest.0 as f64);
            figures::add(Panel::Requests, subject.name, paired(&subject.throughput, &first.throughput));
            vec![
                subject.name.into(),
                spread(&subject.latency),
                ratio(median(&subject.latency) / median(&first.latency)),
                format!("{:.0}", quantile(&subject.latency, 0.99)),
                format!("{:.1}", subject.cpu * 1000.0 / requests),
                ratio(subject.cpu / first.cpu),
                spread(&subject.throughput),
                ratio(paired(&subject.throughput, &first.throughput)),
            ]
        }),
    );

    println!("\n## CPU of the server per request in us, and its ratio to {baseline}, with so many clients at once");
    table(
        &["server", "1", "ratio", "16", "ratio", "64", "ratio", "256", "ratio"],
        subjects.iter().map(|subject| {
            let all = subject.cpu_at_once.iter().zip(&first.cpu_at_once);
            let cells = all.flat_map(|(cpu, nginx)| [figure(median(cpu) * 1000.0, 1), ratio(paired(cpu, nginx))]);
            std::iter::once(subject.name.to_owned()).chain(cells).collect()
        }),
    );

    println!("\n## The server: resident memory in kB / threads, and what {STALLED} stalled clients do to others");
    let rows: Vec<Vec<String>> = subjects
        .iter()
        .zip(after_sequence)
        .map(|(subject, after)| {
            let of = |(kilobytes, threads): (u64, usize)| format!("{kilobytes} / {threads}");
            let under_load = memory(subject.running.0.id());
            let (stalled, answered, slowest) = with_stalled(subject);
            let probes = format!("{answered} of {PROBES}, <= {slowest:.1} ms");
            vec![subject.name.into(), of(subject.at_rest), of(after), of(under_load), of(stalled), probes]
        })
        .collect();
    table(&["server", "at rest", "in sequence", "at once", "stalled", "probes answered"], rows.into_iter());

    if is_there("strace") {
        println!("\n## System calls for a request");
        for build in builds {
            if let Some(calls) = system_calls(build, scratch) {
                println!("{}: {calls}", build.name);
            }
        }
    }
}

/// One request after the other, in batches that take turns.
fn in_sequence(subjects: &mut [Subject], rounds: usize) {
    const BATCH: usize = 1000;
    for round in 0..rounds {
        for offset in 0..subjects.len() {
            let at = (round + offset) % subjects.len();
            let subject = &mut subjects[at];
            let before = cpu_ms(subject.running.0.id());
            let times = (0..BATCH).filter_map(|_| ask(subject.address, "/health"));
            subject.latency.extend(times.map(|time| time.as_secs_f64() * 1e6));
            subject.cpu += cpu_ms(subject.running.0.id()) - before;
        }
    }
}

/// Many clients at once, a second at a time.
fn at_once(subjects: &mut [Subject], rounds: usize) {
    for round in 0..rounds {
        for (place, clients) in AT_ONCE.into_iter().enumerate() {
            for offset in 0..subjects.len() {
                let at = (round + offset) % subjects.len();
                let subject = &mut subjects[at];
                let url = format!("http://{}/health", subject.address);
                let clients = format!("-c{clients}");
                let before = cpu_ms(subject.running.0.id());
                let output = Command::new("wrk").args(["-t1", &clients, "-d1s", "-H", "Connection: close", &url]).output();
                let cpu = cpu_ms(subject.running.0.id()) - before;
                let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
                let figure = |word: &str| -> f64 { word.parse().unwrap_or(f64::NAN) };
                let words: Vec<&str> = text.split_whitespace().collect();
                // "20012 requests in 1.00s, 3.21MB read", and "Requests/sec: 19993.21".
                let before_word =
                    |word: &str| words.iter().position(|other| *other == word).and_then(|at| words.get(at.checked_sub(1)?));
                let requests = before_word("requests").map_or(f64::NAN, |word| figure(word));
                subject.cpu_at_once[place].push(cpu / requests);
                if place == 1 {
                    let rate = words.iter().position(|word| *word == "Requests/sec:").and_then(|at| words.get(at + 1));
                    subject.throughput.push(rate.map_or(f64::NAN, |word| figure(word)));
                }
            }
        }
    }
}

const PROBES: usize = 20;

/// Memory and threads while clients stall, how many of [`PROBES`] are answered meanwhile, and the slowest in ms.
fn with_stalled(subject: &Subject) -> ((u64, usize), usize, f64) {
    let mut clients = Vec::new();
    for _ in 0..STALLED {
        if let Ok(mut stream) = TcpStream::connect_timeout(&subject.address, PATIENCE) {
            let _ = stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
            clients.push(stream);
        }
    }
    let times: Vec<f64> =
        (0..PROBES).filter_map(|_| ask(subject.address, "/health")).map(|time| time.as_secs_f64() * 1e3).collect();
    let stalled = memory(subject.running.0.id());
    drop(clients);
    (stalled, times.len(), quantile(&times, 1.0))
}

/// The calls of 200 requests more, divided by 200.
fn system_calls(build: &Build, scratch: &Path) -> Option<f64> {
    const MORE: usize = 200;
    let trace = scratch.join("server.strace");
    let output = trace.to_str()?;
    let mut counts = Vec::new();
    for requests in [10, 10 + MORE] {
        let (mut running, address) = daemon(&build.path, &["strace", "-f", "-qq", "-o", output])?;
        for _ in 0..requests {
            ask(address, "/live")?;
        }
        // strace ends when what it traces does.
        family(running.0.id()).into_iter().skip(1).for_each(|pid| signal("TERM", pid));
        wait(PATIENCE, || matches!(running.0.try_wait(), Ok(Some(_))));
        let lines = fs::read_to_string(&trace).ok()?;
        counts.push(lines.lines().filter(|line| !line.contains(" resumed>")).count() as f64);
    }
    Some((counts.last()? - counts.first()?) / MORE as f64)
}
