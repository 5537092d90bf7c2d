//! Arguments of the commands that find, show and write memories.

use std::path::PathBuf;

use cairn_domain::kind::Kind;
use cairn_domain::truth::Truth;
use clap::{Args, ValueEnum};

use crate::cli::fields::Assignment;
use crate::cli::moment::Moment;

/// How much of a list to show.
#[derive(Debug, Clone, Args)]
pub struct PageArgs {
    /// How many to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Where to go on: `next_cursor` of an earlier answer
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
}

/// `cairn search`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn search watering the garden
  cairn search \"pressure regulator\" --kind task --tag house
  cairn search budget --truth user --updated-after 2w
  cairn search budget --json | jq -r '.hits[].title'")]
pub struct SearchArgs {
    /// What to look for
    #[arg(required = true, value_name = "WORDS")]
    pub words: Vec<String>,
    /// Only these kinds: note, task, person, project, event, place, daily
    #[arg(short, long, value_name = "KIND", value_delimiter = ',')]
    pub kind: Vec<Kind>,
    /// Only with these tags
    #[arg(short, long, value_name = "TAG", value_delimiter = ',')]
    pub tag: Vec<String>,
    /// Only what is at least this true: 1 to 5, or user, automation, ai-local, ai-network, ai-cloud
    #[arg(long, value_name = "LEVEL")]
    pub truth: Option<Truth>,
    /// Only memories linked with this one
    #[arg(long, value_name = "MEMORY")]
    pub linked_to: Option<String>,
    /// Only changed after
    #[arg(long, value_name = "TIME")]
    pub updated_after: Option<Moment>,
    /// Only changed before
    #[arg(long, value_name = "TIME")]
    pub updated_before: Option<Moment>,
    /// How many to show, 200 at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub limit: u32,
}

/// `cairn show`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn show \"Garden plan\"
  cairn show 0192a3f2 --as-of yesterday
  cairn show 0192a3f2 --as-of 1041          as the log stood at position 1041
  cairn show \"Garden plan\" --body > plan.md")]
pub struct ShowArgs {
    /// The memory: its id, the start of its id, or its title
    #[arg(value_name = "MEMORY")]
    pub memory: String,
    /// As it was at a time or a log position
    #[arg(long, value_name = "TIME|POSITION")]
    pub as_of: Option<Moment>,
    /// Print the text alone
    #[arg(long)]
    pub body: bool,
}

/// `cairn list`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn list --kind task,project
  cairn list --kind task --where status=todo --where due_before=2026-12-01 --sort due
  cairn list --tag garden --updated-after 7d
  cairn list --title plan --sort title --order asc
  cairn list -q --limit 1000                ids alone")]
pub struct ListArgs {
    /// Only these kinds: note, task, person, project, event, place, daily
    #[arg(short, long, value_name = "KIND", value_delimiter = ',')]
    pub kind: Vec<Kind>,
    /// Only with these tags
    #[arg(short, long, value_name = "TAG", value_delimiter = ',')]
    pub tag: Vec<String>,
    /// Only with this in the title
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// Only what is at least this true: 1 to 5, or user, automation, ai-local, ai-network, ai-cloud
    #[arg(long, value_name = "LEVEL")]
    pub truth: Option<Truth>,
    /// Only memories linked with this one
    #[arg(long, value_name = "MEMORY")]
    pub linked_to: Option<String>,
    /// Only where a typed field fits; needs one kind. For tasks: status, priority, due_after, due_before, assigned_to;
    /// for people: email, organization, role; for projects: status, from, until; for events: start_after, start_before,
    /// location; for places: place_type; for daily logs: from, until
    #[arg(short, long = "where", value_name = "NAME=VALUE", value_parser = filter)]
    pub filters: Vec<(String, String)>,
    /// Memories that were put away: without them, only them, or both
    #[arg(long, value_name = "WHICH", default_value = "no")]
    pub archived: Archived,
    /// Only changed after
    #[arg(long, value_name = "TIME")]
    pub updated_after: Option<Moment>,
    /// Only changed before
    #[arg(long, value_name = "TIME")]
    pub updated_before: Option<Moment>,
    /// Only made after
    #[arg(long, value_name = "TIME")]
    pub created_after: Option<Moment>,
    /// Only made before
    #[arg(long, value_name = "TIME")]
    pub created_before: Option<Moment>,
    /// What to sort by
    #[arg(long, value_name = "BY", default_value = "updated")]
    pub sort: Sort,
    /// Which way [default: desc for times, asc for titles]
    #[arg(long, value_name = "ORDER")]
    pub order: Option<Order>,
    /// How much to show.
    #[command(flatten)]
    pub page: PageArgs,
}

fn filter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected a filter such as status=todo".to_owned()),
    }
}

/// Which memories, by whether they were put away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Archived {
    /// Only those that were not.
    No,
    /// Only those that were.
    Only,
    /// Both.
    Any,
}

/// What a list is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// The last change.
    Updated,
    /// The first event.
    Created,
    /// The title.
    Title,
    /// The time it is about: when a task is due, an event starts, the day of a log.
    Due,
}

/// Which way a list is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// The smallest first.
    Asc,
    /// The largest first.
    Desc,
}

/// `cairn tags`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  cairn tags\n  cairn tags --limit 5")]
pub struct TagsArgs {
    /// How many to show [default: all]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
}

/// Changes that `set` makes and `suggest` proposes.
#[derive(Debug, Clone, Default, Args)]
pub struct Changes {
    /// A new title
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// A new text, from a file, or from stdin with `-`
    #[arg(long, value_name = "FILE|-")]
    pub body: Option<PathBuf>,
    /// A new kind: note, task, person, project, event, place, daily
    #[arg(short, long, value_name = "KIND")]
    pub kind: Option<Kind>,
    /// A tag to add
    #[arg(short, long, value_name = "TAG", value_delimiter = ',')]
    pub tag: Vec<String>,
    /// A tag to take away
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub untag: Vec<String>,
}

/// At which level and from where a write is made.
#[derive(Debug, Clone, Default, Args)]
pub struct ProvenanceArgs {
    /// Write at this level: 1 to 5, or user, automation, ai-local, ai-network, ai-cloud; never above the token's
    #[arg(long, value_name = "LEVEL")]
    pub truth: Option<Truth>,
    /// Where it comes from, such as ai-cloud:anthropic/claude
    #[arg(long, value_name = "ORIGIN")]
    pub origin: Option<String>,
}

/// `cairn add`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn add \"The drip line needs a pressure regulator\" --tag garden
  cairn add --kind task --title \"Buy a regulator\" --field due_date=2026-12-01 --field priority=high
  pbpaste | cairn add - --title \"From the clipboard\"
  cairn add --kind person --title \"Ada Lovelace\" --field role=mathematician --link \"Analytical Engine\"")]
pub struct AddArgs {
    /// The text, or `-` to read it from stdin
    #[arg(value_name = "TEXT|-")]
    pub text: Option<String>,
    /// Its kind: note, task, person, project, event, place, daily
    #[arg(short, long, value_name = "KIND", default_value = "note")]
    pub kind: Kind,
    /// Its title [default: the first line of the text]
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// A tag
    #[arg(short, long, value_name = "TAG", value_delimiter = ',')]
    pub tag: Vec<String>,
    /// A field: `name=value`, or `name:=json`
    #[arg(short, long = "field", value_name = "NAME=VALUE")]
    pub fields: Vec<Assignment>,
    /// A memory to link to
    #[arg(long, value_name = "MEMORY")]
    pub link: Vec<String>,
    /// At which level and from where.
    #[command(flatten)]
    pub provenance: ProvenanceArgs,
}

/// `cairn set`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn set \"Buy a regulator\" status=completed
  cairn set \"Buy a regulator\" due_date=              an empty value clears the field
  cairn set 0192a3f2 rating:=4 attendees=Ada,Grace     `:=` takes JSON; lists take commas
  cairn set \"Garden plan\" --title \"Garden plan 2027\" --tag 2027 --untag 2026
  cairn show \"Garden plan\" --body | sed s/May/June/ | cairn set \"Garden plan\" --body -")]
pub struct SetArgs {
    /// The memory: its id, the start of its id, or its title
    #[arg(value_name = "MEMORY")]
    pub memory: String,
    /// Fields: `name=value`, `name=` to clear, or `name:=json`
    #[arg(value_name = "NAME=VALUE")]
    pub fields: Vec<Assignment>,
    /// Other changes.
    #[command(flatten)]
    pub changes: Changes,
    /// Only if the memory is still at this revision
    #[arg(long, value_name = "N")]
    pub if_revision: Option<u64>,
    /// At which level and from where.
    #[command(flatten)]
    pub provenance: ProvenanceArgs,
}

/// `cairn link`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn link \"Buy a regulator\" \"Garden plan\"
  cairn link \"Kick-off\" \"Ada Lovelace\" --relation attendee
  cairn link \"Buy a regulator\" \"Garden plan\" --remove")]
pub struct LinkArgs {
    /// The memory that links
    #[arg(value_name = "FROM")]
    pub from: String,
    /// The memory it links to
    #[arg(value_name = "TO")]
    pub to: String,
    /// What the link means
    #[arg(short, long, value_name = "WORD", default_value = "relates_to")]
    pub relation: String,
    /// Take the link away
    #[arg(long)]
    pub remove: bool,
}

/// `cairn undo`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn undo \"Garden plan\"                 the last command
  cairn undo \"Garden plan\" --command ID    one that `cairn history` lists")]
pub struct UndoArgs {
    /// The memory: its id, the start of its id, or its title
    #[arg(value_name = "MEMORY")]
    pub memory: String,
    /// The command to undo, by its id or the start of it
    #[arg(long, value_name = "ID")]
    pub command: Option<String>,
}

/// `cairn forget`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn forget \"Old list\"                  put away; `cairn restore` brings it back
  cairn forget \"Old list\" --erase          destroy for good, here and in every read model")]
pub struct ForgetArgs {
    /// The memories: id, start of an id, or title
    #[arg(required = true, value_name = "MEMORY")]
    pub memories: Vec<String>,
    /// Destroy the content for good; nothing brings it back
    #[arg(long)]
    pub erase: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// `cairn erase`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn erase \"Old list\"                   destroy for good, here and in every read model
  cairn erase \"Old list\" --everywhere      and have everybody destroy it with whom it is shared

Everywhere: the nodes of those who have the space are told, and `cairn receipts` shows which of them know. What people
have copied from it, and backups, no node can call back. In another brain's space you can erase what you began; its owner's node
tells the others.")]
pub struct EraseArgs {
    /// The memories: id, start of an id, or title
    #[arg(required = true, value_name = "MEMORY")]
    pub memories: Vec<String>,
    /// Have everybody destroy it with whom it is shared
    #[arg(long)]
    pub everywhere: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}
