//! A connector whose code misbehaves, in the way that the variable MISBEHAVIOUR names. What it does besides,
//! the lines of its standard input say; each is answered with `done` on standard output.
#![allow(unsafe_code, reason = "it breaks descriptors that are not its own")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use baton_health::{App, BoxError, Config, Connector, Event, Level, Settings, Stop, log};

struct Misbehaving {
    how: String,
    /// What its destructor waits for.
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn main() -> ExitCode {
    let how = env::var("MISBEHAVIOUR").unwrap_or_default();
    let mut config = Config::default();
    match &*how {
        "on_event panics" => config.on_event = Arc::new(|_| panic!("no log today")),
        "on_event panics with its lock" => {
            let lock = Mutex::new(());
            config.on_event = Arc::new(move |_| {
                let _guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
                panic!("no log today");
            });
        }
        "its log is its own" | "connect panics, its log is its own" => {
            config.on_event = Arc::new(|event| eprintln!("own: {event}"))
        }
        "its log blocks" => {
            let usual = Arc::clone(&config.on_event);
            config.on_event = Arc::new(move |event| match event {
                Event::Listening { .. } | Event::Connected => usual(event),
                _ => Stop::default().wait(),
            });
        }
        "the destructor hangs" | "the destructor hangs after serve failed" => config.drain_timeout = Duration::from_millis(700),
        _ => {}
    }
    App::new("misbehaving", "1").config(config).run_with_stop(move |_: &Settings, stop: &Stop| connect(how, stop))
}

fn connect(how: String, stop: &Stop) -> Result<Misbehaving, BoxError> {
    if how == "connect gives up when asked" {
        stop.wait();
        return Err("upstream is down".into());
    }
    if how.starts_with("connect panics") {
        panic!("no connection");
    }
    Ok(Misbehaving { how, thread: Mutex::default() })
}

impl Connector for Misbehaving {
    fn validate(&self) -> Result<(), BoxError> {
        match &*self.how {
            "validate panics" | "on_event panics" => panic!("validate went wrong"),
            _ => Ok(()),
        }
    }

    fn ready(&self) -> Result<(), BoxError> {
        match &*self.how {
            "its log blocks" => panic!("ready went wrong"),
            _ => Ok(()),
        }
    }

    fn serve(&self, stop: &Stop) -> Result<(), BoxError> {
        let wait_for = |stop: Stop| *self.thread.lock().unwrap() = Some(thread::spawn(move || stop.wait()));
        match &*self.how {
            "serve panics" => std::panic::panic_any(PanicsAgain),
            "serve returns" => return Ok(()),
            "serve fails while a thread waits" => {
                wait_for(stop.clone());
                return Err("upstream is gone".into());
            }
            "the destructor hangs after serve failed" => {
                wait_for(Stop::default());
                return Err("upstream is gone".into());
            }
            "the destructor hangs" => wait_for(Stop::default()),
            _ => {}
        }
        thread::spawn(obey);
        stop.wait();
        // Work that takes a moment to finish.
        let _ = Stop::default().wait_for(Duration::from_millis(100));
        log(Level::Info, "work finished", &[]);
        Ok(())
    }
}

impl Drop for Misbehaving {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.lock().unwrap().take() {
            thread.join().unwrap();
        }
        log(Level::Info, "dropped", &[]);
    }
}

/// A panic's payload whose destructor panics too.
struct PanicsAgain;

impl Drop for PanicsAgain {
    fn drop(&mut self) {
        panic!("and again");
    }
}

fn obey() {
    for line in io::stdin().lines() {
        let line = line.unwrap();
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("log", length) => log(Level::Info, "as asked", &[("text", &"x".repeat(length.parse().unwrap()))]),
            #[cfg(target_os = "linux")]
            ("break", what) => descriptors::break_one(what),
            _ => panic!("{line}"),
        }
        println!("done");
        io::stdout().flush().unwrap();
    }
}

#[cfg(target_os = "linux")]
mod descriptors {
    use std::fs;
    use std::mem::ManuallyDrop;
    use std::net::{Shutdown, TcpStream};
    use std::os::fd::FromRawFd;
    use std::os::unix::net::UnixStream;

    unsafe extern "C" {
        fn dup(descriptor: i32) -> i32;
        fn dup2(from: i32, to: i32) -> i32;
    }

    /// The open descriptors whose link starts like that.
    fn open(start: &str) -> Vec<i32> {
        let mut found: Vec<i32> = fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().into_string().unwrap().parse().ok())
            .filter(|number| {
                fs::read_link(format!("/proc/self/fd/{number}")).is_ok_and(|link| link.to_string_lossy().starts_with(start))
            })
            .filter(|number| *number > 2)
            .collect();
        found.sort_unstable();
        found
    }

    pub(super) fn break_one(what: &str) {
        match what {
            // A socket with an address of its own and without a peer is the one that listens.
            "listener" => {
                for number in open("socket:") {
                    // SAFETY: it is open, and stays open.
                    let socket = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(number) });
                    if socket.local_addr().is_ok() && socket.peer_addr().is_err() {
                        return socket.shutdown(Shutdown::Both).unwrap();
                    }
                }
            }
            // The two ends of the pair that signals are sent through, in the order in which they were made.
            "inbox" => {
                // SAFETY: it is open, and stays open.
                let socket = ManuallyDrop::new(unsafe { UnixStream::from_raw_fd(unix_sockets()[0]) });
                socket.shutdown(Shutdown::Both).unwrap();
            }
            // Its other end must not notice.
            "outbox" => {
                let null = fs::File::open("/dev/null").unwrap();
                // SAFETY: both are open; what is made here stays open.
                unsafe {
                    assert!(dup(unix_sockets()[1]) > 0);
                    assert!(dup2(std::os::fd::AsRawFd::as_raw_fd(&null), unix_sockets()[1]) > 0);
                }
            }
            _ => panic!("{what}"),
        }
    }

    fn unix_sockets() -> Vec<i32> {
        let is_unix = |number: &i32| {
            // SAFETY: it is open, and stays open.
            ManuallyDrop::new(unsafe { UnixStream::from_raw_fd(*number) }).local_addr().is_ok()
        };
        open("socket:").into_iter().filter(is_unix).collect()
    }
}
