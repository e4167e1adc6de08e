//! The other programs, as far as the machine has them.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::builds::target;
use crate::process::{PATIENCE, Running, ask, is_there, reachable, wait};

/// Compiles the floor that probes are measured against.
pub(crate) fn floor(scratch: &Path) -> Option<PathBuf> {
    let (source, program) = (scratch.join("floor.c"), scratch.join("floor"));
    fs::write(&source, include_str!("floor.c")).ok()?;
    let mut cc = Command::new("cc");
    cc.args(["-Os", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pie", "-no-pie", "-s", "-o"]);
    let compiled = cc.arg(&program).arg(&source).stdin(Stdio::null()).stderr(Stdio::null()).status();
    compiled.is_ok_and(|status| status.success()).then_some(program)
}

/// Probes that others wrote, each asking for the same.
pub(crate) fn probes(address: SocketAddr, skipped: &mut Vec<String>) -> Vec<(&'static str, Command)> {
    let url = format!("http://{address}/health");
    let mut found = Vec::new();
    for (name, program, arguments) in
        [("busybox wget", "busybox", &["wget", "-q", "-O", "/dev/null"][..]), ("curl", "curl", &["-fsS", "-o", "/dev/null"])]
    {
        if is_there(program) {
            let mut command = Command::new(program);
            command.args(arguments).arg(&url);
            found.push((name, command));
        } else {
            skipped.push(format!("{program} (not installed)"));
        }
    }
    found
}

/// A server that others wrote, answering 200 with as long a body as ours and doing nothing else.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    start: Box<dyn Fn(SocketAddr) -> Option<Running>>,
}

const BODY: &str = r#"{"status":"healthy","timestamp":"2025-01-31T12:00:00Z"}"#;

impl Server {
    /// Starts it there, on a port that is free now and that nobody else is expected to want before it does.
    pub(crate) fn start(&self, ip: IpAddr) -> Option<(Running, SocketAddr)> {
        let address = TcpListener::bind((ip, 0)).ok()?.local_addr().ok()?;
        let running = (self.start)(address)?;
        // An answer, not just a connection: nginx has to wait for its worker.
        wait(PATIENCE, || ask(reachable(address), "/").is_some()).then_some((running, address))
    }
}

/// Those servers that the machine has: nginx, Go's net/http and hyper. nginx keeps memory for each of its connections from
/// the start, and gets so many.
pub(crate) fn servers(scratch: &Path, connections: usize, skipped: &mut Vec<String>) -> Vec<Server> {
    let mut found = Vec::new();
    if is_there("nginx") {
        let directory = scratch.join("nginx");
        found.push(Server { name: "nginx", start: Box::new(move |address| start_nginx(&directory, address, connections)) });
    } else {
        skipped.push("nginx (not installed)".into());
    }
    match go(scratch) {
        Some(program) => found.push(Server { name: "Go net/http", start: Box::new(move |address| with_body(&program, address)) }),
        None => skipped.push("Go net/http (no go, or it does not compile)".into()),
    }
    let program = target().join("hyper/release/hyper-peer");
    if program.is_file() {
        found.push(Server { name: "hyper", start: Box::new(move |address| with_body(&program, address)) });
    } else {
        let command = "cargo build --release --manifest-path benches/peers/hyper/Cargo.toml --target-dir target/hyper";
        skipped.push(format!("hyper; it is made by: {command}"));
    }
    found
}

/// Compiles the server in Go.
fn go(scratch: &Path) -> Option<PathBuf> {
    let (source, program) = (scratch.join("server.go"), scratch.join("server-in-go"));
    fs::write(&source, include_str!("../peers/server.go")).ok()?;
    let mut go = Command::new("go");
    go.args(["build", "-ldflags=-s -w", "-o"]).arg(&program).arg(&source).env("CGO_ENABLED", "0").current_dir(scratch);
    let compiled = go.stdin(Stdio::null()).stderr(Stdio::null()).status();
    compiled.is_ok_and(|status| status.success()).then_some(program)
}

fn with_body(program: &Path, address: SocketAddr) -> Option<Running> {
    Running::start(Command::new(program).arg(address.to_string()).arg(BODY))
}

fn start_nginx(directory: &Path, address: SocketAddr, connections: usize) -> Option<Running> {
    fs::create_dir_all(directory).ok()?;
    let path = directory.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {path}/{kind};\n"))
        .collect();
    let configuration = format!(
        "daemon off;\nworker_processes 1;\nworker_rlimit_nofile {connections};\npid {path}/pid;\nerror_log /dev/null crit;\n\
         events {{ worker_connections {connections}; }}\n\
         http {{\naccess_log off;\nclient_header_timeout 5s;\n{temporary}server {{\nlisten {address} backlog=4096;\n\
         default_type application/json;\nlocation / {{ return 200 '{BODY}\\n'; }}\n}}\n}}\n"
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, configuration).ok()?;
    Running::start(Command::new("nginx").arg("-p").arg(directory).arg("-c").arg(&file))
}
