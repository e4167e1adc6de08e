//! Server and probe in a program that has its own command line, its own threads and its own log.
//! Needs no feature, and so no other package.
//!
//! ```console
//! $ embedded serve 127.0.0.1:8081 < numbers.txt
//! $ embedded probe 127.0.0.1:8081
//! ```
//!
//! The program adds up the numbers on its standard input, a line each, and is healthy as long as
//! they are numbers.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use baton_health::{BoxError, Config, Endpoint, HealthServer, Probe};

#[derive(Default)]
struct Adder {
    lines: AtomicUsize,
    sum: AtomicI64,
    trouble: Mutex<Option<String>>,
}

impl Adder {
    fn validate(&self) -> Result<(), BoxError> {
        match &*self.trouble.lock().map_err(|_| "the lock is poisoned")? {
            Some(trouble) => Err(trouble.clone().into()),
            None => Ok(()),
        }
    }

    fn ready(&self) -> Result<(), BoxError> {
        if self.lines.load(Ordering::Relaxed) == 0 { Err("no line yet".into()) } else { Ok(()) }
    }

    fn add(&self, line: &str) {
        let number = self.lines.fetch_add(1, Ordering::Relaxed) + 1;
        let trouble = match line.trim().parse() {
            Ok(summand) => {
                self.sum.fetch_add(summand, Ordering::Relaxed);
                None
            }
            Err(error) => Some(format!("line {number}: {error}")),
        };
        if let Ok(mut slot) = self.trouble.lock() {
            *slot = trouble;
        }
    }
}

fn serve(address: SocketAddr) -> Result<(), BoxError> {
    let mut config = Config::default();
    config.address = address;
    config.validate_ttl = Duration::ZERO;
    // The program's own log: here, plain lines.
    config.on_event = Arc::new(|event| eprintln!("health: {event}"));
    // Listens from here on. It is dropped, and so drained, at the end of this function.
    let server = HealthServer::bind(config)?;
    let adder = Arc::new(Adder::default());
    let (health, readiness) = (Arc::clone(&adder), Arc::clone(&adder));
    server.attach_fn(move || health.validate(), move || readiness.ready());
    for line in io::stdin().lines() {
        adder.add(&line?);
    }
    println!("{}", adder.sum.load(Ordering::Relaxed));
    Ok(())
}

fn probe(address: SocketAddr) -> Result<(), BoxError> {
    for endpoint in Endpoint::ALL {
        Probe::new(address).endpoint(endpoint).timeout(Duration::from_secs(2)).run()?;
        println!("{}", endpoint.ok_status());
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => address.parse().map_err(BoxError::from).and_then(serve),
        ["probe", address] => address.parse().map_err(BoxError::from).and_then(probe),
        _ => Err("usage: embedded serve|probe IP:PORT".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embedded: {error}");
            ExitCode::FAILURE
        }
    }
}
