//! Floods: clients that stall, and are renewed without pause, while probes ask one after the other.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{self, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::builds::{Build, builds};
use crate::network::{ADDRESSES, Clients, is_allowed, listen, server_address};
use crate::peers::{self, Server};
use crate::process::{Running, daemon_at, memory, reachable};
use crate::stats::quantile;

/// Our own server has to answer all probes, however long that takes.
const NO_LIMIT: Duration = Duration::from_secs(3600);

/// More than all flooders hold.
const MOST_CONNECTIONS: usize = 16384;

#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    Loopback,
    /// One other machine.
    One,
    /// Many other machines, more than the server keeps connections.
    Many,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    flooders: usize,
    /// Connections that each flooder holds.
    held: usize,
    from: From,
    /// Probes come from a machine of their own, and not from loopback.
    probed_from_elsewhere: bool,
}

/// What became of the probes.
#[derive(Default)]
struct Outcome {
    microseconds: Vec<f64>,
    lost: Vec<String>,
    /// Stalled connections that were made, each second.
    rate: f64,
    at_the_end: (u64, usize),
}

fn cases(few: bool, clients: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for from in [From::Loopback, From::One, From::Many] {
        for (flooders, held) in [(1, 500), (3, 500), (1, 2000), (3, 2000)] {
            let probed_from_elsewhere = false;
            if !few || held * flooders == 6000 {
                cases.push(Case { flooders, held, from, probed_from_elsewhere });
            }
            if from != From::Loopback && held * flooders == 6000 {
                cases.push(Case { flooders, held, from, probed_from_elsewhere: true });
            }
        }
    }
    cases.retain(|case| clients || case.from == From::Loopback);
    cases
}

/// The floods that the arguments ask for and this machine allows. Fails if our server loses a probe.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    const USUAL: usize = 500;
    let is_set = |name: &str| arguments.iter().any(|argument| argument == name);
    let own_network = is_set("--own-network");
    if !own_network && is_allowed() {
        let own = env::current_exe().map_err(|error| error.to_string())?;
        let status = Command::new("unshare").arg("--net").arg(own).args(arguments).arg("--own-network").status();
        return status.is_ok_and(|status| status.success()).then_some(()).ok_or_else(|| "the floods failed".into());
    }
    let clients = if own_network { Some(Clients::new().ok_or("cannot set up a network for the floods")?) } else { None };
    let value_of = |name: &str| arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1));
    let probes = match value_of("--probes") {
        Some(probes) => probes.parse().map_err(|error| format!("{probes}: {error}"))?,
        None => USUAL,
    };
    let mut skipped = Vec::new();
    if clients.is_none() {
        skipped.push("floods from other machines (network namespaces need root, unshare, nsenter and ip)".into());
    }
    let scratch = env::temp_dir().join(format!("baton-health-flood-{}", process::id()));
    fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let builds = builds(&mut Vec::new());
    let mut peers = peers::servers(&scratch, MOST_CONNECTIONS, &mut skipped);
    if let Some(names) = value_of("--beside") {
        peers.retain(|peer| names.split(',').any(|name| name == peer.name));
    }
    let build = builds.first().ok_or("no build")?;
    let result = compare(build, &peers, probes, !is_set("--all"), clients.as_ref(), &mut skipped);
    for what in skipped {
        println!("Left out: {what}");
    }
    let _ = fs::remove_dir_all(&scratch);
    result
}

fn compare(
    build: &Build,
    peers: &[Server],
    probes: usize,
    few: bool,
    clients: Option<&Clients>,
    skipped: &mut Vec<String>,
) -> Result<(), String> {
    println!("\n## Floods: {} probes beside half-sent requests that are renewed without pause", probes);
    let head = ["flood", "server", "lost", "of", "p50 ms", "p99 ms", "most ms", "over 1 s", "stalled/s", "kB / threads"];
    println!("{}", line(head.map(String::from)));
    // A server that lets probes wait gets fewer of them.
    let limit = Duration::from_secs(5) + probes as u32 * Duration::from_millis(2);
    for case in cases(few, clients.is_some()) {
        let start = || daemon_at(listen(clients), &build.path, &[]);
        let outcome = case.run(probes, NO_LIMIT, start(), None, clients);
        let outcome = outcome.ok_or_else(|| format!("{case}: our server or the flood does not start"))?;
        outcome.print(&case, build.name);
        if !outcome.lost.is_empty() {
            return Err(format!("{case}: our server lost {} probes", outcome.lost.len()));
        }
        // What the flooders and the flooded server leave of the processors: no server can answer faster than that.
        if let Some((_running, quiet)) = start() {
            match case.run(probes, limit, start(), Some(quiet.port()), clients) {
                Some(outcome) => outcome.print(&case, "(not flooded)"),
                None => return Err(format!("{case}: our second server or the flood does not start")),
            }
        }
        for peer in peers {
            match case.run(probes, limit, peer.start(listen(clients)), None, clients) {
                Some(outcome) => outcome.print(&case, peer.name),
                None => skipped.push(format!("{}, {case}: it does not start, or the flood does not", peer.name)),
            }
        }
    }
    Ok(())
}

impl Case {
    /// Probes the server during the flood, for as long as `time` at most, or in its place the server on the port
    /// `instead`. `None` if anything does not start.
    fn run(
        &self,
        probes: usize,
        time: Duration,
        server: Option<(Running, SocketAddr)>,
        instead: Option<u16>,
        clients: Option<&Clients>,
    ) -> Option<Outcome> {
        let (running, address) = server?;
        let port = address.port();
        let targets: Vec<SocketAddr> = match self.from {
            From::Loopback => vec![reachable(address)],
            From::One => vec![server_address(1, port)],
            From::Many => (1..=ADDRESSES).map(|number| server_address(number, port)).collect(),
        };
        let from = clients.filter(|_| self.from != From::Loopback);
        let flooder = || Role::start(&["flooder".into(), self.held.to_string()], &targets, from);
        let mut flooders = (0..self.flooders).map(|_| flooder()).collect::<Option<Vec<_>>>()?;
        let made = |flooders: &mut [Role]| flooders.iter_mut().map(Role::number).sum::<Option<f64>>();
        let before = made(&mut flooders)?;

        let start = Instant::now();
        let asked = if self.probed_from_elsewhere { server_address(ADDRESSES + 1, port) } else { reachable(address) };
        let asked = SocketAddr::new(asked.ip(), instead.unwrap_or(port));
        let words = ["prober".into(), probes.to_string(), time.as_secs().to_string()];
        let mut prober = Role::start(&words, &[asked], clients.filter(|_| self.probed_from_elsewhere))?;
        let mut lines = String::new();
        prober.output.read_to_string(&mut lines).ok()?;
        let mut outcome = Outcome { at_the_end: memory(running.0.id()), ..Outcome::default() };
        for line in lines.lines() {
            match line.parse() {
                Ok(time) => outcome.microseconds.push(time),
                Err(_) => outcome.lost.push(line.to_owned()),
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        flooders.iter_mut().for_each(|flooder| drop(flooder.process.0.stdin.take()));
        outcome.rate = (made(&mut flooders)? - before) / seconds;
        Some(outcome)
    }
}

/// This program in another role.
struct Role {
    process: Running,
    output: BufReader<ChildStdout>,
}

impl Role {
    fn start(words: &[String], addresses: &[SocketAddr], clients: Option<&Clients>) -> Option<Role> {
        let own = env::current_exe().ok()?;
        let mut command = clients.map_or_else(|| Command::new(&own), |clients| clients.command(&own));
        command.args(words).args(addresses.iter().map(SocketAddr::to_string));
        let mut process = Running(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?);
        let output = BufReader::new(process.0.stdout.take()?);
        Some(Role { process, output })
    }

    /// The number on the next line that it prints.
    fn number(&mut self) -> Option<f64> {
        let mut line = String::new();
        self.output.read_line(&mut line).ok()?;
        line.trim().parse().ok()
    }
}

/// Printed as it comes, since all floods together take their time.
fn line(cells: [String; 10]) -> String {
    let [case, server, rest @ ..] = cells;
    let rest: String = rest.iter().map(|cell| format!(" {cell:>9}")).collect();
    format!("{case:<45} {server:<13}{rest}")
}

impl Outcome {
    fn print(&self, case: &Case, server: &str) {
        println!("{}", line(self.row(case, server)));
        if let Some(first) = self.lost.first() {
            println!("    {first}");
        }
    }

    fn row(&self, case: &Case, server: &str) -> [String; 10] {
        let milliseconds = |part| format!("{:.1}", quantile(&self.microseconds, part) / 1e3);
        let slow = self.microseconds.iter().filter(|time| **time > 1e6).count();
        let (kilobytes, threads) = self.at_the_end;
        [
            case.to_string(),
            server.into(),
            self.lost.len().to_string(),
            (self.lost.len() + self.microseconds.len()).to_string(),
            milliseconds(0.5),
            milliseconds(0.99),
            milliseconds(1.0),
            slow.to_string(),
            format!("{:.0}", self.rate),
            format!("{kilobytes} / {threads}"),
        ]
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let from = match self.from {
            From::Loopback => "loopback",
            From::One => "another",
            From::Many => "100 others",
        };
        let probed = if self.probed_from_elsewhere { ", probes from another" } else { "" };
        write!(f, "{} x {} from {from}{probed}", self.flooders, self.held)
    }
}
