//! The figures that the README shows: kept in a file, and drawn from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::drawing::{self, Bar, Chart};
use crate::process::found;

/// One chart of the drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Panel {
    /// kB of the file, libraries included.
    Size,
    /// Resident kB of a probe.
    ProbeMemory,
    /// Processor time of a probe, as a ratio to the C floor.
    Probe,
    /// Resident kB of the daemon at rest.
    Memory,
    /// Requests per second, as a ratio to nginx.
    Requests,
}

const PANELS: [Panel; 5] = [Panel::Size, Panel::Probe, Panel::ProbeMemory, Panel::Memory, Panel::Requests];

impl Panel {
    fn name(self) -> &'static str {
        match self {
            Panel::Size => "size",
            Panel::ProbeMemory => "probe-memory",
            Panel::Probe => "probe-cpu",
            Panel::Memory => "memory",
            Panel::Requests => "requests",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Panel::Size => "Size of the program",
            Panel::ProbeMemory => "Memory of a probe",
            Panel::Probe => "Processor time of a probe, C without a library = 1",
            Panel::Memory => "Memory of the daemon at rest",
            Panel::Requests => "Requests per second, nginx = 1",
        }
    }

    /// What is drawn, from top to bottom.
    fn subjects(self) -> &'static [&'static str] {
        match self {
            Panel::Size | Panel::ProbeMemory => &["smallest", "static", "busybox wget", "curl"],
            Panel::Probe => &["C floor", "smallest", "static", "busybox wget", "curl"],
            Panel::Memory | Panel::Requests => &["smallest", "static", "hyper", "Go net/http", "nginx"],
        }
    }

    fn shown(self, value: f64) -> String {
        match self {
            Panel::Size | Panel::ProbeMemory | Panel::Memory if value >= 1000.0 => format!("{:.1} MB", value / 1000.0),
            Panel::Size | Panel::ProbeMemory | Panel::Memory => format!("{value:.0} kB"),
            Panel::Probe | Panel::Requests if value >= 10.0 => format!("{value:.0}"),
            Panel::Probe | Panel::Requests => format!("{value:.2}"),
        }
    }
}

/// What a subject is called in the drawing, and whether it is ours.
fn label(subject: &str) -> (&str, bool) {
    match subject {
        "static" => ("static build", true),
        "smallest" => ("smallest build", true),
        "C floor" => ("C without a library", false),
        other => (other, false),
    }
}

/// What was measured so far: panel, subject, value.
static MEASURED: Mutex<Vec<(Panel, String, f64)>> = Mutex::new(Vec::new());

/// Notes a figure. Those of subjects that are not drawn are left aside.
pub(crate) fn add(panel: Panel, subject: &str, value: f64) {
    if value.is_finite() {
        MEASURED.lock().unwrap_or_else(PoisonError::into_inner).push((panel, subject.to_owned(), value));
    }
}

/// Notes the sizes of other probes: the program's file and the libraries that it loads.
pub(crate) fn add_sizes_of_others() {
    for (name, program) in [("busybox wget", "busybox"), ("curl", "curl")] {
        let Some(path) = found(program) else { continue };
        let listed = Command::new("ldd").arg(&path).stderr(Stdio::null()).output();
        let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let libraries = listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
        let bytes: u64 = libraries.chain([path]).filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum();
        add(Panel::Size, name, bytes as f64 / 1000.0);
    }
}

/// Keeps the figures and draws them, if every subject of the drawing was measured.
pub(crate) fn keep() {
    let measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = String::new();
    for panel in PANELS {
        for subject in panel.subjects() {
            match measured.iter().find(|(of, other, _)| *of == panel && other == subject) {
                Some((_, _, value)) => text += &format!("{}\t{subject}\t{value:.2}\n", panel.name()),
                None => return println!("{DRAWN} stays as it is: no {} of {subject}", panel.name()),
            }
        }
    }
    match fs::write(file(KEPT), text) {
        Ok(()) => draw(),
        Err(error) => println!("{KEPT}: {error}"),
    }
}

const KEPT: &str = "benches/figures.txt";
const DRAWN: &str = "docs/cost.svg";

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Draws the figures that were kept.
pub(crate) fn draw() {
    let text = match fs::read_to_string(file(KEPT)) {
        Ok(text) => text,
        Err(error) => return println!("{KEPT}: {error}"),
    };
    let charts: Vec<Chart<'_>> = PANELS.iter().map(|panel| chart(*panel, &text)).collect();
    match fs::write(file(DRAWN), drawing::draw(&charts)) {
        Ok(()) => println!("{DRAWN} is drawn from {KEPT}"),
        Err(error) => println!("{DRAWN}: {error}"),
    }
}

fn chart(panel: Panel, kept: &str) -> Chart<'static> {
    let bars = panel.subjects().iter().filter_map(|subject| {
        let start = format!("{}\t{subject}\t", panel.name());
        let value = kept.lines().find_map(|line| line.strip_prefix(&start))?.parse().ok()?;
        let (label, ours) = label(subject);
        Some(Bar { label, ours, value, shown: panel.shown(value) })
    });
    Chart { title: panel.title(), bars: bars.collect() }
}
