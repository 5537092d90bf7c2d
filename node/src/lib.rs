//! The `cairn` program, a brain node and the command line that talks to it, and `cairn-projector`, which keeps read models
//! in servers up with the log for nodes that leave it to others, and `cairn-federation`, which meets other brains for them. All are made
//! of the same parts.

mod bench;
mod beside;
mod brain;
mod cli;
mod config;
mod data_folder;
mod database;
mod exporter;
mod federation;
mod federator;
mod follow;
mod gateway;
mod http;
mod importer;
mod kafka;
mod log;
mod projector;
mod tokens;
mod turns;
mod up;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, FollowArgs};
use federator::FederationArgs;
use projector::ProjectorArgs;

/// Requests, folds and the index allocate a great deal from many threads, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The program `cairn`.
pub fn cairn() -> ExitCode {
    let cli = Cli::parse();
    on_runtime(run(cli))
}

/// The program `cairn-projector`.
pub fn cairn_projector() -> ExitCode {
    let args = ProjectorArgs::parse();
    on_runtime(async move { ended(projector::run(args).await) })
}

/// The program `cairn-federation`.
pub fn cairn_federation() -> ExitCode {
    let args = FederationArgs::parse();
    on_runtime(async move { ended(federator::run(args).await) })
}

fn on_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            eprintln!("error: the runtime does not start: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> ExitCode {
    let Cli { global, command } = cli;
    ended(match command {
        Command::Up(args) => up::up(&global, args).await,
        Command::Migrate(args) => database::migrate(&global, &args).await,
        Command::Bench(args) => bench::bench(&global, args).await,
        Command::Promote(args) => follow::promote(&global, &args).await,
        Command::Follow(args @ FollowArgs { command: None, .. }) => follow::follow(&global, args).await,
        Command::Follow(FollowArgs { command: Some(command), .. }) => {
            return match cli::follow(&global, command).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => cli::report(&global, &error),
            };
        }
        Command::Client(command) => {
            return match cli::run(&global, command).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => cli::report(&global, &error),
            };
        }
    })
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
