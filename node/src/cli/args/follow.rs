//! Arguments of the commands about a standby.

use std::net::SocketAddr;
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
  cairn follow aside                                    what only a replaced primary had
  cairn --data ~/standby promote                        takes over

The standby answers reads, and refuses writes. After a restart `cairn up` does the same as `cairn follow`, whatever the folder has become.
Whoever has the link before it is used gets the whole brain: pass it on over a channel you trust."
)]
pub struct FollowArgs {
    /// The link, the first time. One that was used here before changes nothing
    #[arg(value_name = "LINK")]
    pub link: Option<String>,
    // Without the environment's variable, which the configuration has anyway: it would count as given beside a subcommand.
    /// Where to answer HTTP [default: 127.0.0.1:7411]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
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
    /// Show the events that only this machine had when it was replaced
    Aside,
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
  cairn --data ~/standby promote           the primary hands over if it is there; the standby that runs goes on as the primary
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
