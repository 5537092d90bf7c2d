//! Arguments of the commands about a standby.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `cairn follow`
#[derive(Debug, Clone, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  cairn follow invite                                   on the primary: a link for one machine
  cairn --data ~/standby follow cairn://follow/...      on the other: follows until Ctrl-C
  cairn --data ~/standby follow                         goes on, after a restart
  cairn follow status                                   on either: how far it is
  cairn --data ~/standby promote                        takes over; then `cairn --data ~/standby up`

Whoever has the link before it is used gets the whole brain: pass it on over a channel you trust."
)]
pub struct FollowArgs {
    /// The link, the first time
    #[arg(value_name = "LINK")]
    pub link: Option<String>,
    /// The configuration file [default: cairn.toml in the data folder]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What else to do.
    #[command(subcommand)]
    pub command: Option<FollowCommand>,
}

/// What to do about followers.
#[derive(Debug, Clone, Subcommand)]
pub enum FollowCommand {
    /// Invite a machine of yours to follow this one: prints a link that works once
    Invite(FollowInviteArgs),
    /// Show how far followers are, or how far this standby is
    Status,
    /// Forget a follower: it gets nothing more
    Forget(FollowForgetArgs),
}

/// `cairn follow invite`
#[derive(Debug, Clone, Args)]
pub struct FollowInviteArgs {
    /// For how many minutes the link can be used
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_080))]
    pub minutes: u32,
}

/// `cairn follow forget`
#[derive(Debug, Clone, Args)]
pub struct FollowForgetArgs {
    /// Its name, or the start of its key
    #[arg(value_name = "FOLLOWER")]
    pub follower: String,
}

/// `cairn promote`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  cairn --data ~/standby promote           the primary hands over if it is there
  cairn --data ~/standby promote --force   although events are known to be lost with the primary

A primary that cannot be reached goes on taking writes until it hears of this: stop it, or keep its clients away.")]
pub struct PromoteArgs {
    /// Take over although this machine lacks events that the primary had; or make a replaced node the primary again
    #[arg(long)]
    pub force: bool,
    /// The configuration file [default: cairn.toml in the data folder]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
