//! The `cairn` program: a brain node, and the command line that talks to it.

mod bench;
mod brain;
mod cli;
mod config;
mod data_folder;
mod exporter;
mod http;
mod importer;
mod tokens;
mod up;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

/// Requests, folds and the index allocate a great deal from many threads, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => {
            eprintln!("error: the runtime does not start: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> ExitCode {
    let Cli { global, command } = cli;
    let ended = match command {
        Command::Up(args) => up::up(&global, args).await,
        Command::Bench(args) => bench::bench(&global, args).await,
        Command::Client(command) => {
            return match cli::run(&global, command).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => cli::report(&global, &error),
            };
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
