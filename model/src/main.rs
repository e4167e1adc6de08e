//! Runs the server's bookkeeping of connections and its validation under a model checker: the product's own
//! files, compiled with threads, locks, condition variables and a clock that a scheduler controls.
//!
//! `cargo run --release -- [SCHEDULES [NAME]]` runs each scenario whose name contains NAME that many times.
//! A failure prints the seed of its schedule: `SHUTTLE_RANDOM_SEED=SEED cargo run --release -- 1 NAME` repeats it.
#![allow(dead_code, missing_docs, reason = "the product's files are more than is under test, and documented there")]

#[path = "../../src/address.rs"]
mod address;
#[path = "../../src/config.rs"]
mod config;
#[path = "../../src/connector.rs"]
mod connector;
#[path = "../../src/deadline.rs"]
mod deadline;
#[path = "../../src/endpoint.rs"]
mod endpoint;
#[path = "../../src/event.rs"]
mod event;
#[path = "../../src/limits.rs"]
mod limits;
#[path = "../../src/stop.rs"]
mod stop;
#[path = "../../src/text.rs"]
mod text;

mod server;

// In place of the product's files of these names.
mod log;
mod spawn;
mod sync;

mod check;
mod crowd;
mod rooms;
mod schedule;
mod validations;

use std::time::Instant;

use crate::check::Scenario;

/// Schedules of each scenario, unless the command line says otherwise.
const SCHEDULES: usize = 20_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let schedules = arguments.next().map_or(SCHEDULES, |text| text.parse().expect("a number of schedules"));
    let name = arguments.next().unwrap_or_default();
    let scenarios: Vec<Scenario> = rooms::SCENARIOS.iter().chain(validations::SCENARIOS).copied().collect();
    let chosen: Vec<Scenario> = scenarios.into_iter().filter(|scenario| scenario.name.contains(&name)).collect();
    assert!(!chosen.is_empty(), "no scenario is called {name}");
    let (started, mut total) = (Instant::now(), 0);
    for scenario in &chosen {
        let started = Instant::now();
        let ran = check::run(scenario, schedules);
        println!("{:<58} {ran:>8} schedules {:>6.1} s", scenario.name, started.elapsed().as_secs_f64());
        total += ran;
    }
    println!("{} scenarios, {total} schedules, {:.0} s, no failure", chosen.len(), started.elapsed().as_secs_f64());
}
