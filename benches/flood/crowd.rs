//! The two roles of a flood, each in a process of its own: one stalls, one probes.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use baton_health::{Endpoint, Probe};

const HALF_A_HEAD: &[u8] = b"GET /live HTTP/1.1\r\nHo";

/// A flooder does not let a busy server slow it down.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(2);

/// Every lost probe takes its whole timeout, so a prober that has lost so many stops.
const LOST_ENOUGH: usize = 20;

/// Plays the role that the arguments name, until it is over: `flooder HELD ADDRESS..` or `prober COUNT SECONDS ADDRESS`.
pub(crate) fn play(arguments: &[String]) -> Result<(), String> {
    let number = |text: &String| text.parse::<u32>().map_err(|error| format!("{text}: {error}"));
    let address = |text: &String| text.parse::<SocketAddr>().map_err(|error| format!("{text}: {error}"));
    match arguments {
        [role, held, addresses @ ..] if role == "flooder" => {
            flood(number(held)? as usize, &addresses.iter().map(address).collect::<Result<Vec<_>, _>>()?)
        }
        [role, count, seconds, one] if role == "prober" => {
            probe(number(count)? as usize, Duration::from_secs(number(seconds)?.into()), address(one)?)
        }
        _ => Err(format!("no role for {arguments:?}")),
    }
}

/// Keeps the newest `held` of the connections that send half a head, and makes new ones without pause, until
/// standard input ends. Says how many it has made when it has tried so many times, and again in the end.
fn flood(held: usize, addresses: &[SocketAddr]) -> Result<(), String> {
    static DONE: AtomicBool = AtomicBool::new(false);
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        DONE.store(true, Ordering::Relaxed);
    });
    let mut clients = VecDeque::with_capacity(held + 1);
    let (mut made, mut given_up) = (0_usize, 0_usize);
    for address in addresses.iter().cycle() {
        if DONE.load(Ordering::Relaxed) {
            break;
        }
        match TcpStream::connect_timeout(address, CONNECT_TIMEOUT) {
            Ok(mut client) => {
                // It fails if the server has had enough of it already.
                let _ = client.write_all(HALF_A_HEAD);
                clients.push_back(client);
                made += 1;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::ConnectionReset) => given_up += 1,
            Err(error) => return Err(format!("a flooder with {made} connections: {error}")),
        }
        if made + given_up == held {
            println!("{made}");
        }
        if clients.len() > held {
            clients.pop_front();
        }
    }
    println!("{made}");
    Ok(())
}

/// So many probes, one after the other, as the program asks them, or as many as the time allows: a line with the
/// microseconds each took, or with why it was lost.
fn probe(count: usize, time: Duration, address: SocketAddr) -> Result<(), String> {
    let (mut lines, mut lost) = (String::new(), 0);
    let begun = Instant::now();
    for number in 0..count {
        let endpoint = [Endpoint::Live, Endpoint::Health][number % 2];
        let start = Instant::now();
        let line = match Probe::new(address).endpoint(endpoint).run() {
            Ok(()) => start.elapsed().as_micros().to_string(),
            Err(error) => {
                lost += 1;
                error.to_string().replace('\n', " ")
            }
        };
        lines += &(line + "\n");
        if lost == LOST_ENOUGH || begun.elapsed() > time {
            break;
        }
    }
    io::stdout().write_all(lines.as_bytes()).map_err(|error| error.to_string())
}
