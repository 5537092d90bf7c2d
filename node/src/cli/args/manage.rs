//! Arguments of the commands that move data in and out and look after the node.

use std::path::PathBuf;

use cairn_domain::truth::Truth;
use cairn_projector::Workers;
use clap::{Args, Subcommand, ValueEnum};

/// `cairn import`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn import ~/vault
  cairn import ~/vault --dry-run            what it would do
  cairn import ~/vault --prune              and put away what is gone from the folder

Importing again costs nothing for files that did not change, and never overwrites what you edited in Cairn.")]
pub struct ImportArgs {
    /// The folder, on the machine of the node
    #[arg(value_name = "FOLDER")]
    pub path: PathBuf,
    /// Put memories away whose file is gone
    #[arg(long)]
    pub prune: bool,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

/// `cairn export`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn export > brain.jsonl
  cairn export --format markdown --out ~/brain-vault")]
pub struct ExportArgs {
    /// jsonl: one memory a line; markdown: a vault that imports again to the same memories
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    pub format: ExportFormat,
    /// The file, or for markdown the folder [default: stdout]
    #[arg(short, long, value_name = "PATH", required_if_eq("format", "markdown"))]
    pub out: Option<PathBuf>,
}

/// What an export looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// One memory a line.
    Jsonl,
    /// A folder of Markdown files.
    Markdown,
}

/// `cairn replay`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn replay --from 1000 --to 1100
  cairn replay --type memory.field_claimed | jq .data
  cairn replay --follow --from now          live, from now on")]
pub struct ReplayArgs {
    /// The first position, or `now` for what comes after the last event there is
    #[arg(long, value_name = "POSITION|now", value_parser = replay_start)]
    pub from: Option<ReplayStart>,
    /// The last position
    #[arg(long, value_name = "POSITION")]
    pub to: Option<u64>,
    /// Only streams that start with this, such as memory-
    #[arg(long, value_name = "PREFIX")]
    pub stream: Option<String>,
    /// Only this type, or all that start with it when it ends in a dot, such as memory.
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: Option<String>,
    /// Go on with new events as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Stop after this many
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

/// Where a replay starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayStart {
    /// At a position.
    Position(u64),
    /// After the last event there is.
    Now,
}

fn replay_start(text: &str) -> Result<ReplayStart, String> {
    if text == "now" {
        return Ok(ReplayStart::Now);
    }
    text.parse().map(ReplayStart::Position).map_err(|_| "expected a position such as 1041, or now".to_owned())
}

/// `cairn token`
#[derive(Debug, Clone, Args)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What to do with tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Make a token; its secret is shown once
    Create(TokenCreateArgs),
    /// List all tokens
    #[command(visible_alias = "ls")]
    List,
    /// Revoke a token: from now on it is refused
    Revoke(TokenRevokeArgs),
}

/// `cairn token create`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn token create --name claude --ceiling ai-cloud
  cairn token create --name cron --ceiling automation --expires-in-days 90
  CLAUDE=$(cairn token create --name claude --ceiling ai-cloud -q)")]
pub struct TokenCreateArgs {
    /// What to call it
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// The highest truth it may write at: 1 to 5, or user, automation, ai-local, ai-network, ai-cloud
    #[arg(long, value_name = "LEVEL")]
    pub ceiling: Truth,
    /// Where its writes come from, such as ai-cloud:anthropic/claude
    #[arg(long, value_name = "ORIGIN")]
    pub origin: Option<String>,
    /// After how many days it stops working [default: never]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub expires_in_days: Option<u32>,
}

/// `cairn token revoke`
#[derive(Debug, Clone, Args)]
pub struct TokenRevokeArgs {
    /// The token: its id, the start of its id, or its name
    // Not called `token`: that is the global option, and the two would be one argument.
    #[arg(value_name = "ID|NAME")]
    pub name: String,
}

/// `cairn projections`
#[derive(Debug, Clone, Args)]
#[command(disable_help_subcommand = true)]
#[command(after_help = "\
Examples:
  cairn projections
  cairn projections rebuild memories
  cairn projections back memories           when the new build is not what it should be")]
pub struct ProjectionsArgs {
    /// What to do; lists them when nothing is said.
    #[command(subcommand)]
    pub command: Option<ProjectionsCommand>,
}

/// What to do with read models.
#[derive(Debug, Clone, Subcommand)]
pub enum ProjectionsCommand {
    /// List them with position, lag and speed
    #[command(visible_alias = "ls")]
    List,
    /// Build a new generation beside the one that serves, then swap it in
    Rebuild(RebuildArgs),
    /// Give up a rebuild; what it did is kept for the next one
    Cancel(BuildName),
    /// Let the build before serve again, once it has what came in since
    Back(BackArgs),
    /// Delete the build before, which is kept as the way back
    DropPrevious(BuildName),
    /// Fold nothing more into it until it is resumed; it answers from what it has
    Pause(BuildName),
    /// Let a paused one go on from where it stands
    Resume(BuildName),
    /// Compare with what a fresh fold of the log gives
    Verify(BuildName),
}

/// A read model, by its name.
#[derive(Debug, Clone, Args)]
pub struct BuildName {
    /// The read model
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// `cairn projections rebuild`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Ctrl-C leaves the rebuild running in the node, unless --cancel is given.")]
pub struct RebuildArgs {
    /// The read model
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Start again instead of going on with a rebuild that was given up
    #[arg(long)]
    pub from_scratch: bool,
    /// Fold the log once more before the new build serves, and refuse it where the two differ
    #[arg(long)]
    pub verify: bool,
    /// How many workers fold, each the memories of its own partition
    #[arg(long, value_name = "N", default_value = "1", value_parser = workers)]
    pub parallel: Workers,
    /// Ctrl-C cancels the rebuild
    #[arg(long)]
    pub cancel: bool,
}

fn workers(text: &str) -> Result<Workers, String> {
    let count: usize = text.parse().map_err(|_| "expected a number".to_owned())?;
    Workers::try_from(count).map_err(|error| error.to_string())
}

/// `cairn projections back`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Going back again returns to the build that serves now. Something erased in between deletes the build before.")]
pub struct BackArgs {
    /// The read model
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// `cairn completions`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn completions bash > ~/.local/share/bash-completion/completions/cairn
  cairn completions zsh > ~/.zfunc/_cairn
  cairn completions fish > ~/.config/fish/completions/cairn.fish")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}
