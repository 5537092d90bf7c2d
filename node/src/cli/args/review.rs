//! Arguments of the commands that look back, suggest and decide.

use cairn_domain::truth::Truth;
use clap::Args;

use super::memory::{Changes, PageArgs, ProvenanceArgs};
use crate::cli::fields::Assignment;
use crate::cli::moment::Moment;

/// `cairn restore`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  cairn list --archived only\n  cairn restore \"Old list\"")]
pub struct RestoreArgs {
    /// The memories: id, start of an id, or title
    #[arg(required = true, value_name = "MEMORY")]
    pub memories: Vec<String>,
}

/// `cairn timeline`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn timeline --from yesterday
  cairn timeline --truth user --limit 100
  cairn timeline --from 2026-11-01 --to 2026-11-08 --json")]
pub struct TimelineArgs {
    /// From this time on
    #[arg(long, value_name = "TIME")]
    pub from: Option<Moment>,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    pub to: Option<Moment>,
    /// Only what this principal did, by its id
    #[arg(long, value_name = "ID")]
    pub principal: Option<String>,
    /// Only what was written at this level: 1 to 5, or user, automation, ai-local, ai-network, ai-cloud
    #[arg(long, value_name = "LEVEL")]
    pub truth: Option<Truth>,
    /// How much to show.
    #[command(flatten)]
    pub page: PageArgs,
}

/// `cairn history`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn history \"Garden plan\"
  cairn history \"Buy a regulator\" --field due_date    where the value came from, step by step")]
pub struct HistoryArgs {
    /// The memory: its id, the start of its id, or its title
    #[arg(value_name = "MEMORY")]
    pub memory: String,
    /// Where this field's value came from
    #[arg(short, long, value_name = "NAME")]
    pub field: Option<String>,
    /// How much to show.
    #[command(flatten)]
    pub page: PageArgs,
}

/// `cairn diff`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn diff \"Garden plan\"                        what the last change did
  cairn diff \"Garden plan\" --from yesterday
  cairn diff \"Garden plan\" --from 3 --to 7        between two revisions
  cairn diff \"Garden plan\" --from position:1041")]
pub struct DiffArgs {
    /// The memory: its id, the start of its id, or its title
    #[arg(value_name = "MEMORY")]
    pub memory: String,
    /// From this time, revision, or `position:N` [default: before the last change]
    #[arg(long, value_name = "POINT")]
    pub from: Option<Moment>,
    /// To this time, revision, or `position:N` [default: now]
    #[arg(long, value_name = "POINT")]
    pub to: Option<Moment>,
}

/// `cairn suggest`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn suggest \"Buy a regulator\" --field due_date=2026-12-05
  cairn suggest \"Garden plan\" --body draft.md --origin ai-cloud:anthropic/claude --truth ai-cloud
  CAIRN_TOKEN=$CLAUDE cairn suggest \"Garden plan\" --tag irrigation

A suggestion is written at the token's level, the owner's own at level 2 (automation) unless --truth says lower.
It never replaces a value of higher truth; where there is none, it becomes the value.")]
pub struct SuggestArgs {
    /// The memory: its id, the start of its id, or its title
    #[arg(value_name = "MEMORY")]
    pub memory: String,
    /// A field: `name=value`, `name=` to clear, or `name:=json`
    #[arg(short, long = "field", value_name = "NAME=VALUE")]
    pub fields: Vec<Assignment>,
    /// Other changes.
    #[command(flatten)]
    pub changes: Changes,
    /// At which level and from where.
    #[command(flatten)]
    pub provenance: ProvenanceArgs,
}

/// `cairn suggestions`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn suggestions
  cairn suggestions \"Garden plan\"
  cairn accept 0192b7c1                     what to do with one")]
pub struct SuggestionsArgs {
    /// Only about this memory
    #[arg(value_name = "MEMORY")]
    pub memory: Option<String>,
    /// How much to show.
    #[command(flatten)]
    pub page: PageArgs,
}

/// `cairn accept`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn accept 0192b7c1
  cairn accept 0192b7c1 --edit 2026-12-06   accept, but with another value
  cairn accept --all")]
pub struct AcceptArgs {
    /// The suggestions: ids or starts of ids
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub ids: Vec<String>,
    /// Accept this value instead of the suggested one; `-` reads it from stdin
    #[arg(long, value_name = "VALUE", conflicts_with = "all")]
    pub edit: Option<String>,
    /// All that wait
    #[arg(long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// `cairn reject`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn reject 0192b7c1
  cairn reject --all --yes

The same value from the same principal is not suggested again.")]
pub struct RejectArgs {
    /// The suggestions: ids or starts of ids
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub ids: Vec<String>,
    /// All that wait
    #[arg(long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}
