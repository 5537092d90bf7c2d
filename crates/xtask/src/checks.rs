//! Everything that must hold of the code before its tests are worth running.

use anyhow::Result;

use crate::steps::{self, cargo};

/// Format, lints, documentation and layering.
///
/// # Errors
/// At the first that does not hold.
pub fn run() -> Result<()> {
    steps::run("format", &mut cargo(["fmt", "--all", "--check"]))?;
    let mut clippy = cargo(["clippy", "--workspace", "--all-targets", "--quiet"]);
    steps::run("lints", clippy.args(["--", "-D", "warnings"]))?;
    let mut documentation = cargo(["doc", "--workspace", "--no-deps", "--quiet"]);
    steps::run("documentation", documentation.env("RUSTDOCFLAGS", "-D warnings"))?;
    // All packages are named, so that dependencies are built as the tests will need them, once.
    steps::run("layering", &mut cargo(["test", "--quiet", "--workspace", "--test", "layering"]))
}
