//! A network of two machines that are namespaces of this one: servers and loopback in this process's own, clients
//! with many addresses in another, behind a veth pair. The kernel removes both when their last process ends.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::{PATIENCE, Running, wait};

/// More than a server of ours keeps connections.
pub(crate) const ADDRESSES: u8 = 100;

/// The namespace of the clients, which lasts as long as its first process.
pub(crate) struct Clients(Running);

/// Whether the kernel lets this process have a network of its own.
pub(crate) fn is_allowed() -> bool {
    Command::new("unshare")
        .args(["--net", "ip", "link"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// An address of the server. A client that connects to it has an address that belongs to it alone.
pub(crate) fn server_address(number: u8, port: u16) -> SocketAddr {
    (Ipv4Addr::new(10, 83, 0, number), port).into()
}

impl Clients {
    /// Makes the namespace. This process must be in a network of its own.
    pub(crate) fn new() -> Option<Clients> {
        let clients = Clients(Running::start(Command::new("unshare").args(["--net", "sleep", "infinity"]))?);
        let network = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let pid = clients.0.0.id().to_string();
        wait(PATIENCE, || network(&pid).is_some_and(|other| Some(other) != network("self"))).then_some(())?;
        let own = |number| format!("address add 10.83.0.{number}/16 dev flood0\n");
        let other = |number| {
            format!("address add 10.83.1.{number}/16 dev flood1\nroute add 10.83.0.{number} dev flood1 src 10.83.1.{number}\n")
        };
        // One more than flooders use: the last one is a prober's.
        let numbers = 1..=ADDRESSES + 1;
        let begin = format!("link set lo up\nlink add flood0 type veth peer name flood1 netns {pid}\nlink set flood0 up\n");
        ip(Command::new("ip"), begin + &numbers.clone().map(own).collect::<String>())?;
        ip(clients.command(Path::new("ip")), "link set flood1 up\n".to_owned() + &numbers.map(other).collect::<String>())?;
        // A flooder with one address must not run out of ports.
        let ports = "echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range; echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse";
        let set = clients.command(Path::new("sh")).args(["-c", ports]).status();
        set.is_ok_and(|status| status.success()).then_some(clients)
    }

    /// `program` on the machine of the clients.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.0.id())).arg(program);
        command
    }
}

fn ip(mut command: Command, batch: String) -> Option<()> {
    let mut ip = command.args(["-batch", "-"]).stdin(Stdio::piped()).spawn().ok()?;
    ip.stdin.take()?.write_all(batch.as_bytes()).ok()?;
    ip.wait().ok()?.success().then_some(())
}

/// Where servers listen: where only this machine reaches them, or also its clients.
pub(crate) fn listen(clients: Option<&Clients>) -> IpAddr {
    if clients.is_some() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv4Addr::LOCALHOST.into() }
}
