//! The other programs, as far as the machine has them.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{PATIENCE, Running, ask, is_there, wait};

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

/// nginx, answering 200 with as long a body as ours and doing nothing else.
pub(crate) fn nginx(scratch: &Path, skipped: &mut Vec<String>) -> Option<(Running, SocketAddr)> {
    let started = is_there("nginx").then(|| start_nginx(scratch)).flatten();
    if started.is_none() {
        skipped.push("nginx (not installed, or does not start)".into());
    }
    started
}

fn start_nginx(scratch: &Path) -> Option<(Running, SocketAddr)> {
    const BODY: &str = r#"{"status":"healthy","timestamp":"2025-01-31T12:00:00Z"}"#;
    // Free now, and nobody else is expected to want it before nginx does.
    let address = TcpListener::bind(("127.0.0.1", 0)).ok()?.local_addr().ok()?;
    let directory = scratch.join("nginx");
    fs::create_dir_all(&directory).ok()?;
    let path = directory.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {path}/{kind};\n"))
        .collect();
    let configuration = format!(
        "daemon off;\nworker_processes 1;\npid {path}/pid;\nerror_log /dev/null crit;\nevents {{ worker_connections 4096; }}\n\
         http {{\naccess_log off;\n{temporary}server {{\nlisten {address} backlog=1024;\ndefault_type application/json;\n\
         location / {{ return 200 '{BODY}\\n'; }}\n}}\n}}\n"
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, configuration).ok()?;
    let running = Running::start(Command::new("nginx").arg("-p").arg(&directory).arg("-c").arg(&file))?;
    // An answer, not just a connection: that has to wait for the worker.
    wait(PATIENCE, || ask(address, "/").is_some()).then_some((running, address))
}
