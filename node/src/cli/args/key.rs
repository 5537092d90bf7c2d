//! Arguments of `cairn key`.

use clap::{Args, Subcommand};

/// `cairn key`
#[derive(Debug, Clone, Args)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  cairn key show
  cairn key prepare       shows 24 words: keep them on paper, away from this machine
  cairn key change        asks for them, on any device of the brain that you still have

The key says which devices write for your brain. Prepare the next one before you need it: when a machine is lost or a key stolen,
the words put it in place, and whoever has the old key can do nothing with it. What wraps the keys of memories (`brain.key`) is
another matter and stays."
)]
pub struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What to do about the key.
#[derive(Debug, Clone, Subcommand)]
pub enum KeyCommand {
    /// Show the key that signs for this brain, and whether the next one is prepared
    Show,
    /// Make the key that comes next: shows its words, and names it to your peers
    Prepare(KeyPrepareArgs),
    /// Put the prepared key in place, by its words: from the terminal or standard input
    Change,
}

/// `cairn key prepare`
#[derive(Debug, Clone, Args)]
pub struct KeyPrepareArgs {
    /// Do not ask whether the words were written down
    #[arg(long, short)]
    pub yes: bool,
}
