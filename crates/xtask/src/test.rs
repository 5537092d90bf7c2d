//! Running every test, and saying what was not tested.

use std::fs;

use anyhow::{Result, anyhow, bail};
use cairn_testkit::postgres::{CLUSTER_VARIABLE, Cluster, Settings};
use clap::Args;

use crate::steps::{self, cargo};
use crate::tools;

/// What no test of this repository covers, wherever it runs.
const NEVER_TESTED: &[&str] = &[
    "a real power cut: SIGKILL loses no page cache, so only the order of fsync and answer is tested, not the disk",
    "systems other than Linux",
];

/// The end-to-end tests that say nothing of files, and so are run again with everything in PostgreSQL.
const ON_BOTH: &str = "package(cairn-tests) & (binary(bad_input) | binary(bad_vaults) | binary(cli) | binary(durability) \
     | binary(import_export) | binary(openapi) | binary(truth))";

/// Which tests to run.
#[derive(Debug, Args)]
pub struct Options {
    /// Take short cuts in the long tests.
    #[arg(long)]
    fast: bool,
    /// Only tests whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Installs what the tests need and runs them; the last line counts them.
///
/// # Errors
/// When something does not build, or a test fails.
pub fn run(options: &Options) -> Result<()> {
    tools::nextest()?;
    tools::postgres()?;
    tools::networks();
    let notes = tempfile::NamedTempFile::new()?;
    // The end-to-end tests start the program, which cargo builds only when asked to. Programs and tests are built
    // together, so that both use the same build of each dependency.
    steps::run("build the programs and the tests", &mut cargo(["build", "--workspace", "--bins", "--tests"]))?;
    // One private server for the whole run, gone with it; each test makes a database of its own.
    let postgres = postgres()?;
    let mut counts = Counts::default();
    let mut nextest = cargo(["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests", "pass"]);
    nextest.env("TEST_CAIRN_NOT_TESTED", notes.path()).env("TEST_CAIRN_FAST", if options.fast { "1" } else { "" });
    if let Some(postgres) = &postgres {
        nextest.env(CLUSTER_VARIABLE, postgres.url());
    }
    if let Some(only) = &options.only {
        nextest.arg("--").arg(only);
    }
    let mut sound = steps::watch("tests", &mut nextest, |line| counts.add(nextest_summary(line)))?;
    let mut again = cargo(["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests", "pass"]);
    again.args(["-E", ON_BOTH]).env("TEST_CAIRN_DATABASE", "postgres");
    again.env("TEST_CAIRN_NOT_TESTED", notes.path()).env("TEST_CAIRN_FAST", "1");
    if let (Some(postgres), None) = (&postgres, &options.only) {
        again.env(CLUSTER_VARIABLE, postgres.url());
        sound &= steps::watch("tests of the node over PostgreSQL", &mut again, |line| {
            counts.add(nextest_summary(line));
        })?;
    }
    if options.only.is_none() {
        let mut examples = cargo(["test", "--doc", "--workspace", "--no-fail-fast"]);
        sound &= steps::watch("documentation examples", &mut examples, |line| counts.add(libtest_summary(line)))?;
    }
    report(options, &fs::read_to_string(notes.path())?, counts);
    if !sound || counts.failed > 0 {
        bail!("the tests failed");
    }
    Ok(())
}

/// A server that the environment does not name already.
fn postgres() -> Result<Option<Cluster>> {
    if std::env::var_os(CLUSTER_VARIABLE).is_some_and(|url| !url.is_empty()) {
        return Ok(None);
    }
    Cluster::start(&Settings::default()).map(Some).map_err(|reason| anyhow!("no private PostgreSQL: {reason}"))
}

fn report(options: &Options, notes: &str, counts: Counts) {
    let mut omitted: Vec<&str> = notes.lines().collect();
    if options.fast {
        omitted.push("the full number of kills and random operations: --fast takes short cuts");
    }
    if options.only.is_some() {
        omitted.push("everything that --only leaves out");
    }
    omitted.extend(NEVER_TESTED);
    println!("\nNot tested:");
    for line in omitted {
        println!("  - {line}");
    }
    println!("\n{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
}

impl Counts {
    fn add(&mut self, more: Option<Self>) {
        let more = more.unwrap_or_default();
        self.passed += more.passed;
        self.failed += more.failed;
        self.skipped += more.skipped;
    }
}

/// Reads `Summary [ 1.0s] 6 tests run: 4 passed (1 slow), 1 failed, 1 timed out, 2 skipped`.
fn nextest_summary(line: &str) -> Option<Counts> {
    let (_, counts) = line.trim_start().strip_prefix("Summary [")?.split_once(" run: ")?;
    let mut total = Counts::default();
    // What stands in brackets says more about the number before it.
    for part in counts.split(", ") {
        let Some((number, what)) = part.trim().split_once(' ') else { continue };
        let Ok(number) = number.trim_start_matches('(').parse::<u64>() else { continue };
        match what.split_whitespace().next() {
            Some("passed") => total.passed += number,
            Some("failed" | "timed" | "exec") => total.failed += number,
            Some("skipped") => total.skipped += number,
            _ => {}
        }
    }
    Some(total)
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn libtest_summary(line: &str) -> Option<Counts> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        let part = counts.split("; ").find_map(|part| part.trim().strip_suffix(what))?;
        part.trim().parse::<u64>().ok()
    };
    Some(Counts { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runners_closing_lines_are_counted() {
        let line =
            "     Summary [   0.037s] 9 tests run: 6 passed (2 slow, 1 leaky), 2 failed, 1 timed out, 4 skipped";
        assert_eq!(nextest_summary(line), Some(Counts { passed: 6, failed: 3, skipped: 4 }));
        let line = "     Summary [   0.037s] 6/9 tests run: 6 passed, 0 skipped";
        assert_eq!(nextest_summary(line), Some(Counts { passed: 6, failed: 0, skipped: 0 }));
        let line = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(libtest_summary(line), Some(Counts { passed: 3, failed: 0, skipped: 1 }));
        assert_eq!(nextest_summary("PASS [ 0.008s] something"), None);
    }
}
