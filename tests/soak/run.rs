//! Ten minutes of everything at once: probes beside clients that stall, reset and speak nonsense, a `validate` that
//! fails, panics, hangs and is replaced, limits that change, and a log that is not read for a while. Every answer is
//! compared with what the connector's state allowed while the client waited. In the end the process holds what it held
//! at the start. `.ci/soak` runs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod clients;
mod moods;
mod process;
mod server;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use baton_health::{BoxError, Endpoint};

use clients::{Counts, WAYS, ask, ask_until, disturb_until};
use moods::{History, Kind, Mood};
use process::{Holds, Process, until};

/// How long a mood lasts after all clients have to notice it.
const BETWEEN_MOODS: Duration = Duration::from_millis(500);

/// The main thread, which waits for orders, and the acceptors.
const THREADS_AT_REST: usize = 3;

/// Soft limits: the usual one, and those that 64 connections and their threads exceed.
const DESCRIPTORS: usize = 1024;
const FEW_DESCRIPTORS: usize = 40;
const THREADS: usize = 1024;
const FEW_THREADS: usize = 10;

/// Bytes of a log line that does not fit into a pipe, and kB that a process may hold more in the end.
const LONG_LINE: usize = 200_000;
const GROWTH: usize = 64;

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    let result = match argument.as_deref() {
        Some("serve") => server::serve(),
        Some(seconds) => seconds.parse().map_err(Into::into).and_then(|seconds| soak(Duration::from_secs(seconds))),
        None => Err("usage: soak SECONDS".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn soak(time: Duration) -> Result<(), BoxError> {
    let (history, counts) = (History::default(), Counts::default());
    history.begins(Mood { kind: Kind::Healthy, number: 0 });
    let mut driver = Driver { process: Process::start()?, history: &history, counts: &counts, moods: 0 };
    // The first round touches everything once.
    driver.beside_clients(Driver::round)?;
    let first = driver.at_rest()?;
    println!("at the start: {first:?}");
    let (start, mut rounds) = (Instant::now(), 1);
    driver.beside_clients(|driver| {
        while start.elapsed() < time {
            driver.round()?;
            rounds += 1;
        }
        Ok(())
    })?;
    let last = driver.at_rest()?;
    println!("at the end:   {last:?}");
    driver.verdict(rounds, first, last)
}

/// Changes what the server lives with, step by step.
struct Driver<'a> {
    process: Process,
    history: &'a History,
    counts: &'a Counts,
    moods: u32,
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Driver<'_> {
    /// Does the work while clients ask and disturb.
    fn beside_clients(&mut self, work: impl FnOnce(&mut Self) -> Result<(), BoxError>) -> Result<(), BoxError> {
        let (address, history, counts, done) = (self.process.address, self.history, self.counts, AtomicBool::new(false));
        thread::scope(|scope| {
            let done = &done;
            let _done = SetOnDrop(done);
            for endpoint in Endpoint::ALL.into_iter().chain([Endpoint::Health]) {
                scope.spawn(move || ask_until(done, address, endpoint, history, counts));
            }
            for way in 0..WAYS {
                scope.spawn(move || disturb_until(done, address, way, counts));
            }
            work(self)
        })
    }

    fn round(&mut self) -> Result<(), BoxError> {
        for kind in [Kind::Fails, Kind::Healthy, Kind::Panics, Kind::NotReady, Kind::Hangs, Kind::Fails, Kind::Hangs] {
            self.change("mood", kind)?;
        }
        // The connector that hangs is replaced. Later it returns, and its verdict is worth nothing.
        self.change("attach", Kind::Fails)?;
        self.process.order("release")?;
        thread::sleep(BETWEEN_MOODS);
        self.change("attach", Kind::Healthy)?;

        self.process.limit("nofile", FEW_DESCRIPTORS)?;
        self.change("mood", Kind::Fails)?;
        self.change("mood", Kind::Healthy)?;
        self.process.limit("nofile", DESCRIPTORS)?;

        self.history.threads_are_scarce(true);
        self.process.limit("nproc", FEW_THREADS)?;
        self.change("mood", Kind::Fails)?;
        self.change("mood", Kind::Healthy)?;
        self.process.limit("nproc", THREADS)?;
        self.change("mood", Kind::Fails)?;
        self.history.threads_are_scarce(false);

        let gaps = self.process.log.gaps();
        // The reader stops behind the next line.
        let lines = self.process.log.lines();
        self.process.log.stopped.store(true, Ordering::SeqCst);
        self.process.order("log 1")?;
        until("the reader to stop", || self.process.log.lines() > lines)?;
        self.process.order(&format!("log {LONG_LINE}"))?;
        for kind in [Kind::Panics, Kind::NotReady, Kind::Fails, Kind::Healthy] {
            self.change("mood", kind)?;
        }
        self.process.log.stopped.store(false, Ordering::SeqCst);
        // Each change of the verdict is a line, and the first that can be written says that others were lost. The reader
        // may not be there yet for the first one.
        for kind in [Kind::Fails, Kind::Healthy, Kind::Fails, Kind::Healthy] {
            self.change("mood", kind)?;
        }
        if self.process.log.gaps() > gaps { Ok(()) } else { Err("no line about lost lines".into()) }
    }

    /// Gives the connector, or another one, a mood of that kind, and waits until a client notices.
    fn change(&mut self, order: &str, kind: Kind) -> Result<(), BoxError> {
        self.moods += 1;
        let mood = Mood { kind, number: self.moods };
        self.history.begins(mood);
        self.process.order(&format!("{order} {}", mood.text()))?;
        self.history.has_changed(Endpoint::Ready);
        if order == "attach" {
            // A verdict of the connector that was replaced is never used again.
            self.history.has_changed(Endpoint::Health);
        }
        let address = self.process.address;
        until(&format!("a client to notice {mood:?}"), || {
            mood.allows(Endpoint::Health, &ask(address, Endpoint::Health, self.history, self.counts))
        })?;
        self.history.has_changed(Endpoint::Health);
        thread::sleep(BETWEEN_MOODS);
        Ok(())
    }

    /// What the process holds once all clients have gone.
    fn at_rest(&self) -> Result<Holds, BoxError> {
        until("the threads to end", || self.process.holds().is_ok_and(|holds| holds.threads == THREADS_AT_REST))?;
        self.process.holds()
    }

    fn verdict(self, rounds: usize, first: Holds, last: Holds) -> Result<(), BoxError> {
        let (log, counts) = (std::sync::Arc::clone(&self.process.log), self.counts);
        self.process.end()?;
        let (wrong, lost) = (counts.wrong.lock().unwrap(), counts.lost.lock().unwrap());
        let broken = log.broken.lock().unwrap();
        println!("{rounds} rounds, {} moods; probes and disturbances of each kind: {counts}", self.moods);
        println!(
            "{} wrong, {} lost; {} lines of log, {} of them about lost ones",
            wrong.len(),
            lost.len(),
            log.lines(),
            log.gaps()
        );
        for list in [&*wrong, &*lost, &*broken] {
            if let Some(text) = list.first() {
                return Err(format!("{} wrong, lost or broken, the first of them: {text}", list.len()).into());
            }
        }
        if counts.any_is_zero() {
            return Err("a client did nothing".into());
        }
        if (first.threads, first.descriptors) != (last.threads, last.descriptors) {
            return Err("threads or descriptors are left".into());
        }
        if last.anonymous > first.anonymous + GROWTH {
            return Err(format!("the process holds {} kB more than at the start", last.anonymous - first.anonymous).into());
        }
        Ok(())
    }
}
