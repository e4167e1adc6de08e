//! What the health check costs, beside its peers on the same machine: `cargo bench`.
//!
//! Prints tables: sizes, system calls, the CPU of a probe, and what the server takes per request,
//! at rest, under load and with stalled clients. Runs on Linux, on loopback only, in about three minutes;
//! `cargo bench --bench cost -- --quick` takes a quarter of that. What is missing on the machine is left out, and
//! named at the end.
//!
//! A whole run also keeps the figures of the README in `benches/figures.txt` and draws `docs/cost.svg` from them;
//! `cargo bench --bench cost -- --draw` only draws.

#[cfg(target_os = "linux")]
mod builds;
#[cfg(target_os = "linux")]
mod drawing;
#[cfg(target_os = "linux")]
mod figures;
#[cfg(target_os = "linux")]
mod peers;
#[cfg(target_os = "linux")]
mod probe;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
mod stats;

#[cfg(target_os = "linux")]
use builds::{Build, builds};

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("These measurements read /proc: they run on Linux only.");
}

#[cfg(target_os = "linux")]
fn main() {
    if std::env::args().any(|argument| argument == "--draw") {
        return figures::draw();
    }
    let quick = std::env::args().any(|argument| argument == "--quick");
    let mut skipped = Vec::new();
    let builds = builds(&mut skipped);
    let scratch = std::env::temp_dir().join(format!("baton-health-bench-{}", std::process::id()));
    if let Err(error) = std::fs::create_dir_all(&scratch) {
        println!("cannot create {}: {error}", scratch.display());
        return;
    }

    println!("\n## Sizes");
    stats::table(&["build", "bytes"], builds.iter().map(|build| vec![build.name.into(), build.bytes.to_string()]));
    builds.iter().for_each(|build| figures::add(figures::Panel::Size, build.name, build.bytes as f64 / 1000.0));
    figures::add_sizes_of_others();
    probe::run(&builds, &scratch, quick, &mut skipped);
    server::run(&builds, &scratch, quick, &mut skipped);

    println!("\nMachines are shared: trust counts and ratios, not microseconds.");
    for what in skipped {
        println!("Left out: {what}");
    }
    let _ = std::fs::remove_dir_all(&scratch);
    if !quick {
        figures::keep();
    }
}
