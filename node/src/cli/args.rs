//! What can be asked for on the command line.

mod device;
mod follow;
mod key;
mod manage;
mod memory;
mod review;
mod sharing;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::follow::{FollowArgs, FollowCommand, FollowInviteArgs, PromoteArgs};
pub use self::manage::{
    CompletionsArgs, ExportArgs, ExportFormat, ImportArgs, ProjectionsArgs, ProjectionsCommand, RebuildArgs,
    ReplayArgs, ReplayStart, TokenArgs, TokenCommand, TokenCreateArgs, TokenRevokeArgs,
};
pub use self::memory::{
    AddArgs, Archived, Changes, EraseArgs, ForgetArgs, LinkArgs, ListArgs, Order, ProvenanceArgs, SearchArgs,
    SetArgs, ShowArgs, Sort, TagsArgs, UndoArgs,
};
pub use self::review::{
    AcceptArgs, DiffArgs, HistoryArgs, RejectArgs, RestoreArgs, SuggestArgs, SuggestionsArgs, TimelineArgs,
};

pub use self::device::{DeviceArgs, DeviceCommand, DeviceRemoveArgs};
pub use self::key::{KeyArgs, KeyCommand, KeyPrepareArgs};
pub use self::sharing::{
    PeerAcceptArgs, PeerArgs, PeerCommand, PeerInviteArgs, ShareArgs, ShareCommand, ShareRevokeArgs, SpaceArgs,
    SpaceChooseArgs, SpaceCommand,
};

/// What stands under `cairn --help`.
const AFTER_HELP: &str = "\
Examples:
  cairn up --import ~/vault            start a node and import a folder of notes
  cairn search \"watering the garden\"   find memories by meaning and by words
  cairn show \"Garden plan\"             one memory, with where each value came from
  cairn suggestions                    what AI agents propose, beside what you have now
  cairn --json status | jq .head       every command speaks JSON

A memory is named by its id, by the start of its id (4 characters or more), or by its title.
Times are `2026-11-21`, `2026-11-21T09:30:00Z`, `09:30`, `today`, `yesterday`, or an age: `90s`, `2h`, `3d`, `4w`.

Exit codes:
  0  done
  1  it failed
  2  the command line is wrong, or a name fits more than one memory
  3  no node is running
  4  there is no such thing
  5  refused: the token is missing, unknown, expired or not allowed to
  6  conflict: it was changed meanwhile";

/// Keeps what you know and what your AI agents suggest, and shows where every value came from.
#[derive(Debug, Parser)]
#[command(name = "cairn", version, after_help = AFTER_HELP, max_term_width = 110)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Print JSON: exactly the data of the API's answer
    #[arg(long, global = true)]
    pub json: bool,
    /// The data folder [default: $XDG_DATA_HOME/cairn or ~/.local/share/cairn]
    #[arg(long, global = true, env = "CAIRN_DATA", hide_env_values = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The node to talk to, instead of the one that runs on the data folder
    #[arg(long, global = true, env = "CAIRN_URL", hide_env_values = true, value_name = "URL")]
    pub url: Option<String>,
    /// The token to act with, instead of the owner's
    #[arg(long, global = true, env = "CAIRN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// When to use colour; `auto` means on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    pub color: ColorChoice,
    /// Show times as dates instead of ages
    #[arg(long, global = true)]
    pub absolute: bool,
    /// Print ids alone, no progress and no hints
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a node and serve until told to stop
    #[command(display_order = 0)]
    Up(UpArgs),
    /// Bring the tables of the database up to this program, and end; `up` does so by itself
    #[command(display_order = 99)]
    Migrate(MigrateArgs),
    /// Ask the running node.
    #[command(flatten)]
    Client(ClientCommand),
    /// Follow another machine of yours as a hot standby; invite one, or see how far they are
    #[command(display_order = 60)]
    Follow(FollowArgs),
    /// Make a standby's folder the primary's
    #[command(display_order = 61)]
    Promote(PromoteArgs),
    /// Measure this machine: every figure beside the limit it is measured against
    #[command(display_order = 100)]
    Bench(BenchArgs),
}

/// What the running node is asked for.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Find memories by meaning and by words
    #[command(display_order = 1)]
    Search(SearchArgs),
    /// Show a memory, now or as it was
    #[command(display_order = 2)]
    Show(ShowArgs),
    /// List memories
    #[command(display_order = 3, visible_alias = "ls")]
    List(ListArgs),
    /// List tags with how many memories have them
    #[command(display_order = 4)]
    Tags(TagsArgs),
    /// Show what happened, the latest first
    #[command(display_order = 5)]
    Timeline(TimelineArgs),
    /// Write a memory down
    #[command(display_order = 10, visible_alias = "note")]
    Add(AddArgs),
    /// Change a memory's fields, title, text, tags or kind
    #[command(display_order = 11)]
    Set(SetArgs),
    /// Link two memories, or take a link away
    #[command(display_order = 12)]
    Link(LinkArgs),
    /// Undo the last command on a memory, or the one named
    #[command(display_order = 13)]
    Undo(UndoArgs),
    /// Put memories away, or destroy them for good with --erase
    #[command(display_order = 14)]
    Forget(ForgetArgs),
    /// Destroy memories for good, with --everywhere also where they are shared
    Erase(EraseArgs),
    /// Bring memories back that were put away
    #[command(display_order = 15)]
    Restore(RestoreArgs),
    /// Show what happened to a memory, or where a field's value came from
    #[command(display_order = 20)]
    History(HistoryArgs),
    /// Show how a memory changed between two points
    #[command(display_order = 21)]
    Diff(DiffArgs),
    /// Suggest a change without making it
    #[command(display_order = 30)]
    Suggest(SuggestArgs),
    /// List suggestions that wait for your decision
    #[command(display_order = 31)]
    Suggestions(SuggestionsArgs),
    /// Accept suggestions, or one side of a conflict
    #[command(display_order = 32)]
    Accept(AcceptArgs),
    /// Turn suggestions down, for good
    #[command(display_order = 33)]
    Reject(RejectArgs),
    /// List fields on which equally true values disagree
    #[command(display_order = 34)]
    Conflicts,
    /// Import a folder of Markdown notes (Obsidian or Logseq)
    #[command(display_order = 40)]
    Import(ImportArgs),
    /// Write everything out, as JSON lines or as a Markdown vault
    #[command(display_order = 41)]
    Export(ExportArgs),
    /// Print the event log as JSON lines
    #[command(display_order = 42)]
    Replay(ReplayArgs),
    /// Invite, meet and block other brains
    #[command(display_order = 45)]
    Peer(PeerArgs),
    /// List the brains that are known
    #[command(display_order = 45)]
    Peers,
    /// Let other nodes of yours write for this brain
    #[command(display_order = 45)]
    Device(DeviceArgs),
    /// Have another key sign for this brain, where one is lost or stolen
    #[command(display_order = 45)]
    Key(KeyArgs),
    /// Begin spaces, and choose which memories are in them
    #[command(display_order = 46)]
    Space(SpaceArgs),
    /// Share a space with another brain, take what is offered, or end what was granted
    #[command(display_order = 47)]
    Share(ShareArgs),
    /// List what is shared with whom
    #[command(display_order = 48)]
    Shares,
    /// List who has received what, as they have signed it
    #[command(display_order = 49)]
    Receipts,
    /// Show what this node relays for others, and which relays keep it reachable
    #[command(display_order = 49)]
    Relay,
    /// Make, list and revoke tokens for agents and programs
    #[command(display_order = 50)]
    Token(TokenArgs),
    /// Look after the read models
    #[command(display_order = 51)]
    Projections(ProjectionsArgs),
    /// Show how the node is doing
    #[command(display_order = 52, after_help = "Examples:\n  cairn status\n  cairn status --json | jq .head")]
    Status,
    /// Check the whole log against its hashes
    #[command(
        display_order = 53,
        after_help = "Exits with 1 and names the first bad position when the log is damaged."
    )]
    Verify,
    /// Print completions for a shell
    #[command(display_order = 101)]
    Completions(CompletionsArgs),
}

/// `cairn migrate`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  DATABASE_URL=postgres://cairn:secret@db.example/cairn cairn migrate

It takes a lock, so several may run at once; one of them works. A database of a newer cairn is refused.")]
pub struct MigrateArgs {
    /// The configuration file [default: cairn.toml in the data folder]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `cairn up`. The data folder is in [`Global::data`].
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn up                                 start on the default data folder
  cairn up --import ~/vault                and import a folder of notes
  cairn up --data ./brain --listen 127.0.0.1:8000")]
pub struct UpArgs {
    /// Where to answer HTTP [default: 127.0.0.1:7411]
    #[arg(long, env = "CAIRN_LISTEN", hide_env_values = true, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// The configuration file [default: cairn.toml in the data folder]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A folder of notes to import once the node is up; may be given more than once
    #[arg(long, value_name = "DIR")]
    pub import: Vec<PathBuf>,
    /// How to write the log: text or json [default: text]
    #[arg(long, env = "CAIRN_LOG", hide_env_values = true, value_name = "FORMAT", hide_possible_values = true)]
    pub log: Option<LogFormat>,
}

/// How the node writes its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `cairn bench`. Whether to print JSON is in [`Global::json`].
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn bench --quick                      a first impression in about a minute
  cairn bench --only append search         some of the figures
  cairn bench --memories 10000 200000 --json > figures.json")]
pub struct BenchArgs {
    /// Smaller sizes and shorter runs
    #[arg(long)]
    pub quick: bool,
    /// Only these measurements
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub only: Vec<String>,
    /// How many memories to search among; may be several
    #[arg(long, value_name = "N", num_args = 1..)]
    pub memories: Vec<usize>,
    /// A folder of notes to ask questions about
    #[arg(long, value_name = "DIR")]
    pub vault: Option<PathBuf>,
    /// Leave what was written, to look into it
    #[arg(long)]
    pub keep: bool,
}
