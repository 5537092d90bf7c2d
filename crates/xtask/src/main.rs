//! Set-up, test and bench: everything a person runs.

mod bench;
mod checks;
mod steps;
mod test;
mod tools;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Set-up, test and bench: everything a person runs on a checkout of Cairn.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what the tests need and run all of them.
    Test(test::Options),
    /// Everything that must hold before a change lands: format, lints, documentation, layering, tests.
    Ci(test::Options),
    /// The same without the tests: format, lints, documentation, layering.
    Check,
    /// Build the release program and measure it on this machine.
    Bench {
        /// Passed on to `cairn bench`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Test(options) => test::run(&options),
        Task::Ci(options) => checks::run().and_then(|()| test::run(&options)),
        Task::Check => checks::run(),
        Task::Bench { arguments } => bench::run(&arguments),
    }
}
