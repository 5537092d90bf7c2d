//! What the tests need on the machine.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

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

/// Makes sure that PostgreSQL's server programs are there: on Debian, from its own packages.
///
/// # Errors
/// When they cannot be installed.
pub fn postgres() -> Result<()> {
    if cairn_testkit::postgres::is_installed() {
        return Ok(());
    }
    if !can_install() {
        bail!(
            "the tests need PostgreSQL's server programs (15 or newer) in /usr/lib/postgresql; please install them"
        );
    }
    install("PostgreSQL", &["postgresql"])
}

/// Looks for what makes networks and moves clocks, and installs it where one may. Tests that lack it say that they were not run.
pub fn networks() {
    let is_there = |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    if ["ip", "nft", "faketime"].into_iter().all(is_there) || !can_install() {
        return;
    }
    if let Err(error) = install("what makes networks and moves clocks", &["iproute2", "nftables", "faketime"]) {
        eprintln!("{error:#}; the tests that need it are left out");
    }
}

fn can_install() -> bool {
    Command::new("apt-get").arg("--version").stdout(Stdio::null()).status().is_ok()
}

fn install(what: &str, packages: &[&str]) -> Result<()> {
    let mut update = Command::new("apt-get");
    run(&format!("look for {what}"), update.args(["update", "-qq"]))?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages);
    // PostgreSQL's would start a server for the whole machine; the tests start their own.
    install.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").stdout(Stdio::null());
    run(&format!("install {what}"), &mut install)
}
