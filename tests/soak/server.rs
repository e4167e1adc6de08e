//! The process under test: a server whose connector does what the lines of standard input say. Each is answered with
//! `done` on standard output. It ends with standard input.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use baton_health::{BoxError, Config, Connector, HealthServer, Level, log};

use crate::moods::{Kind, Mood};

/// Verdicts are reused for this long.
const TTL: Duration = Duration::from_millis(100);

struct Moody {
    mood: Mutex<Mood>,
    changed: Condvar,
}

impl Moody {
    fn new(mood: Mood) -> Arc<Moody> {
        Arc::new(Moody { mood: Mutex::new(mood), changed: Condvar::new() })
    }

    fn change(&self, mood: Mood) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
        self.changed.notify_all();
    }
}

impl Connector for Moody {
    fn validate(&self) -> Result<(), BoxError> {
        let mood = self.mood.lock().unwrap_or_else(PoisonError::into_inner);
        let mood = *self.changed.wait_while(mood, |mood| mood.kind == Kind::Hangs).unwrap_or_else(PoisonError::into_inner);
        match mood.kind {
            Kind::Fails => Err(mood.text().into()),
            Kind::Panics => panic!("{}", mood.text()),
            Kind::Healthy | Kind::Hangs | Kind::NotReady => Ok(()),
        }
    }

    fn ready(&self) -> Result<(), BoxError> {
        let mood = *self.mood.lock().unwrap_or_else(PoisonError::into_inner);
        if mood.kind == Kind::NotReady { Err(mood.text().into()) } else { Ok(()) }
    }
}

pub(crate) fn serve() -> Result<(), BoxError> {
    // What std's own hook writes waits for whoever reads the log.
    std::panic::set_hook(Box::new(|panic| log(Level::Error, "panicked", &[("error", &panic.to_string())])));
    let mut config = Config::default();
    config.address.set_port(0);
    config.validate_ttl = TTL;
    let server = HealthServer::bind(config)?;
    let mut connector = Moody::new(Mood { kind: Kind::Healthy, number: 0 });
    let mut replaced = Vec::new();
    server.attach(connector.clone());
    println!("{}", server.local_addr());
    for line in io::stdin().lines() {
        let line = line?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("mood", mood) => connector.change(Mood::parse(mood).ok_or("no mood")?),
            ("attach", mood) => {
                let new = Moody::new(Mood::parse(mood).ok_or("no mood")?);
                server.attach(new.clone());
                replaced.push(std::mem::replace(&mut connector, new));
            }
            // Those that hang return, and say that they are healthy.
            ("release", _) => {
                replaced.drain(..).for_each(|connector| connector.change(Mood { kind: Kind::Healthy, number: 0 }));
            }
            ("log", bytes) => log(Level::Info, "as asked", &[("text", &"x".repeat(bytes.parse()?))]),
            _ => return Err(line.into()),
        }
        println!("done");
        io::stdout().flush()?;
    }
    server.drain();
    Ok(())
}
