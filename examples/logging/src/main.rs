//! A program that logs with `tracing`, the events of its health server too. It runs until its standard input ends.
//!
//! ```console
//! $ cargo run -- 127.0.0.1:8081
//! 2025-01-31T12:00:00.000000Z  INFO baton_health: listening address="127.0.0.1:8081"
//! ```

use std::error::Error;
use std::sync::Arc;
use std::{env, io};

use baton_health::{Config, HealthServer};

fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let mut config = Config::default();
    if let Some(address) = env::args().nth(1) {
        config.address = address.parse()?;
    }
    config.on_event = Arc::new(baton_health_logging::to_tracing);
    let server = HealthServer::bind(config)?;
    server.attach_fn(|| Ok(()), || Ok(()));
    tracing::info!("working");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
