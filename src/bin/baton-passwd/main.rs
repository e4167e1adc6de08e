//! The reference connector: syncs the users, groups and memberships of a Unix host.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod accounts;
mod arena;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use accounts::{Accounts, Kind, Unusable};
use baton_health::{App, BoxError, Connector, Level, Setting, Settings, Stop, log};

#[global_allocator]
static ARENA: arena::Arena = arena::Arena::new();

const PASSWD: Setting<PathBuf> = Setting::path("passwd", "FILE").default("/etc/passwd").help("Where the users are");
const GROUP: Setting<PathBuf> = Setting::path("group", "FILE").default("/etc/group").help("Where the groups are");
const SYNC_INTERVAL: Setting<Duration> = Setting::duration("sync-interval")
    .range(Duration::from_secs(1)..=Duration::from_secs(86400))
    .default(Duration::from_secs(60))
    .help("Time between two rounds of syncing");

struct Passwd {
    passwd: PathBuf,
    group: PathBuf,
    interval: Duration,
    /// The accounts of the last sync.
    accounts: Mutex<Accounts>,
}

impl Passwd {
    fn connect(settings: &Settings) -> Result<Passwd, BoxError> {
        let (passwd, group, interval) = (settings.get(&PASSWD), settings.get(&GROUP), settings.get(&SYNC_INTERVAL));
        let accounts = Accounts::read(&passwd, &group).map_err(|error| {
            let origin = settings.origin(if error.file().as_os_str() == passwd.as_os_str() { &PASSWD } else { &GROUP });
            [&error.to_string(), " (", &origin, ")"].concat()
        })?;
        log_counts("read accounts", &accounts);
        Ok(Passwd { passwd, group, interval, accounts: Mutex::new(accounts) })
    }

    fn read(&self) -> Result<Accounts, Unusable> {
        Accounts::read(&self.passwd, &self.group)
    }

    fn sync(&self) -> Result<(), Unusable> {
        let now = self.read()?;
        let mut synced = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        synced.changes(&now, |change, kind, name| {
            log(Level::Info, &[kind.word(), " ", change.word()].concat(), &[("name", name)]);
        });
        *synced = now;
        Ok(())
    }
}

impl Connector for Passwd {
    fn validate(&self) -> Result<(), BoxError> {
        self.read()?;
        Ok(())
    }

    fn serve(&self, stop: &Stop) -> Result<(), BoxError> {
        let mut failing = false;
        while !stop.wait_for(self.interval) {
            let synced = self.sync();
            match &synced {
                Ok(()) if failing => log(Level::Info, "sync works again", &[]),
                // The failure may pass, and `/health` reports it. So the daemon goes on, and logs it once.
                Err(error) if !failing => log(Level::Warn, "sync failed", &[("reason", &error.to_string())]),
                _ => {}
            }
            failing = synced.is_err();
        }
        Ok(())
    }
}

fn log_counts(message: &str, accounts: &Accounts) {
    let count = |kind| accounts.count(kind).to_string();
    let (users, groups, memberships) = (count(Kind::User), count(Kind::Group), count(Kind::Membership));
    log(Level::Info, message, &[("users", &users), ("groups", &groups), ("memberships", &memberships)]);
}

fn main() -> ExitCode {
    App::new("baton-passwd", env!("CARGO_PKG_VERSION"))
        .about("Syncs the users, groups and memberships of a Unix host")
        .setting(&PASSWD)
        .setting(&GROUP)
        .setting(&SYNC_INTERVAL)
        .run(Passwd::connect)
}
