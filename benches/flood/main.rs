//! What a flood does to a server: clients that stall and are renewed without pause, from this machine and from others,
//! while probes ask. `cargo bench --bench flood` compares our server with nginx, Go and hyper in the largest floods;
//! `-- --all` runs all of them, `--probes NUMBER` sends so many in each, and `--beside NAME,..` has only these other
//! servers. Fails if our server loses a probe.
//!
//! Runs on Linux: as root in network namespaces of its own, otherwise on loopback. A flooder holds up to 2,000
//! connections, so `ulimit -n` has to be 4,096 or more.
#![allow(dead_code, reason = "some modules are those of the other measurements")]

#[cfg(target_os = "linux")]
#[path = "../cost/builds.rs"]
mod builds;
#[cfg(target_os = "linux")]
mod cases;
#[cfg(target_os = "linux")]
mod crowd;
#[cfg(target_os = "linux")]
mod network;
#[cfg(target_os = "linux")]
#[path = "../cost/peers.rs"]
mod peers;
#[cfg(target_os = "linux")]
#[path = "../cost/process.rs"]
mod process;
#[cfg(target_os = "linux")]
#[path = "../cost/stats.rs"]
mod stats;

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("A flood is measured through /proc and in network namespaces: it runs on Linux only.");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has_role = arguments.first().is_some_and(|first| ["flooder", "prober"].contains(&&**first));
    let result = if has_role { crowd::play(&arguments) } else { cases::run(&arguments) };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}
