//! Measuring the release program on this machine.

use std::process::Command;

use anyhow::Result;

use crate::steps::{self, cargo, root};

/// Builds the release program and lets it measure itself.
///
/// # Errors
/// When it does not build, or a measurement fails.
pub fn run(arguments: &[String]) -> Result<()> {
    steps::run("release build", &mut cargo(["build", "--release", "--package", "cairn-node"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let mut bench = Command::new(target.join("release/cairn"));
    steps::run("bench", bench.arg("bench").args(arguments).current_dir(root()))
}
