//! The builds of this program that are measured.

use std::fs;
use std::path::{Path, PathBuf};

/// One way this program was built.
pub(crate) struct Build {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// Those builds that are there: the one cargo has just made, and the static ones beside it.
pub(crate) fn builds(skipped: &mut Vec<String>) -> Vec<Build> {
    let own = PathBuf::from(env!("CARGO_BIN_EXE_baton-passwd"));
    let target = target();
    let musl = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let release = |directory: &Path| directory.join(&musl).join("release/baton-passwd");
    let mut builds = Vec::new();
    for (name, path, command) in [
        ("static", release(&target), format!("cargo build --release --target {musl}")),
        (
            "smallest",
            release(&target.join("smallest")),
            format!("cargo +nightly build --release --config .cargo/smallest.toml --target {musl}"),
        ),
        ("this build", own.clone(), String::new()),
    ] {
        match fs::metadata(&path) {
            Ok(metadata) => builds.push(Build { name, path, bytes: metadata.len() }),
            Err(_) => skipped.push(format!("the {name} build; it is made by: {command}")),
        }
    }
    builds
}

/// Where cargo puts what it makes.
pub(crate) fn target() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_BIN_EXE_baton-passwd"));
    own.ancestors().nth(2).unwrap_or(&own).to_owned()
}
