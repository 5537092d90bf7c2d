//! `cairn completions`

use clap::CommandFactory;

use crate::cli::args::{Cli, CompletionsArgs};
use crate::cli::error::CliError;
use crate::cli::screen::Screen;

/// Prints what a shell needs to complete the command line.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(screen: &Screen, args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "cairn", &mut script);
    screen.print(&String::from_utf8_lossy(&script))
}
