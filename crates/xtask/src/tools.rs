//! What the tests need on the machine.

use std::process::Stdio;

use anyhow::Result;

use crate::steps::{cargo, run};

/// The test runner that is installed where there is none: a version known to build with the workspace's Rust.
const NEXTEST_VERSION: &str = "0.9.143";

/// Makes sure that cargo-nextest is there; whatever version is there already will do.
///
/// # Errors
/// When it cannot be built.
pub fn nextest() -> Result<()> {
    let present = cargo(["nextest", "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if present {
        return Ok(());
    }
    let mut install = cargo(["install", "cargo-nextest", "--locked", "--version", NEXTEST_VERSION]);
    // Without its self-update, which fetches from elsewhere; unoptimised, because building it is what takes long.
    install.args(["--no-default-features", "--features", "default-no-update", "--profile", "dev"]);
    run("install cargo-nextest", &mut install)
}
