//! Arguments of the commands that share memories with other brains.

use clap::{Args, Subcommand, ValueEnum};

/// `cairn peer`
#[derive(Debug, Clone, Args)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  cairn peer invite                     prints a link and a QR code; pass it on to one person
  cairn peer accept cairn://pair/...    on the other node
  cairn peer list                       who is known, with words to compare
  cairn peer block anna                 nothing goes to her or comes from her any more"
)]
pub struct PeerArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PeerCommand,
}

/// What to do about other brains.
#[derive(Debug, Clone, Subcommand)]
pub enum PeerCommand {
    /// Invite somebody: prints a link that works once
    Invite(PeerInviteArgs),
    /// Take up somebody's invitation
    Accept(PeerAcceptArgs),
    /// List the brains that are known
    #[command(visible_alias = "ls")]
    List,
    /// Have nothing to do with a brain any more
    Block(PeerNameArgs),
    /// Have to do with a blocked brain again
    Unblock(PeerNameArgs),
}

/// `cairn peer invite`
#[derive(Debug, Clone, Args)]
pub struct PeerInviteArgs {
    /// For how many minutes it can be taken up
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_080))]
    pub minutes: u32,
    /// Print no QR code
    #[arg(long)]
    pub no_qr: bool,
}

/// `cairn peer accept`
#[derive(Debug, Clone, Args)]
pub struct PeerAcceptArgs {
    /// The link
    #[arg(value_name = "LINK")]
    pub link: String,
    /// Do not wait until the other brain is met
    #[arg(long)]
    pub no_wait: bool,
}

/// A peer.
#[derive(Debug, Clone, Args)]
pub struct PeerNameArgs {
    /// Its name, or the start of its key
    #[arg(value_name = "PEER")]
    pub peer: String,
}

/// `cairn space`
#[derive(Debug, Clone, Args)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  cairn space create Garden --tag garden     all memories with the tag, as long as they have it
  cairn space choose Garden --tag plants     others from now on
  cairn space list

What is private stays here: memories with the field `private` set, fields whose name begins with `private`,
and links to memories that are not in the space."
)]
pub struct SpaceArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: SpaceCommand,
}

/// What to do about spaces.
#[derive(Debug, Clone, Subcommand)]
pub enum SpaceCommand {
    /// Begin a space
    Create(SpaceChooseArgs),
    /// Choose which memories are in a space, in place of what was chosen before
    Choose(SpaceChooseArgs),
    /// List spaces
    #[command(visible_alias = "ls")]
    List,
}

/// `cairn space create` and `cairn space choose`
#[derive(Debug, Clone, Args)]
pub struct SpaceChooseArgs {
    /// Its name; to choose, also the start of its id
    #[arg(value_name = "SPACE")]
    pub space: String,
    /// All memories with this tag are in it, as long as they have it
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// A memory that is in it besides; may be given more than once
    #[arg(long, value_name = "MEMORY")]
    pub memory: Vec<String>,
}

/// `cairn share`
#[derive(Debug, Clone, Args)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  cairn share Garden --with anna --role write --expires 90
  cairn share accept Garden             on anna's node
  cairn share revoke Garden --with anna
  cairn shares                          what is shared with whom

Roles: relay (keep it sealed for those who are seldom online at once, and read nothing), read, suggest (what they write
waits for your decision), write, admin (write, and have your node share the space with others). A revocation stops what comes after it; what was delivered stays with those who have it, and
`cairn receipts` says what that is. `cairn erase --everywhere` has a memory destroyed by everybody who has it."
)]
pub struct ShareArgs {
    /// What to do instead of sharing.
    #[command(subcommand)]
    pub command: Option<ShareCommand>,
    /// The space: its name, or the start of its id
    #[arg(value_name = "SPACE", required = true)]
    pub space: Option<String>,
    /// With whom: a peer's name, or the start of its key
    #[arg(long, value_name = "PEER", required = true)]
    pub with: Option<String>,
    /// What they may do
    #[arg(long, value_name = "ROLE", default_value = "read")]
    pub role: ShareRole,
    /// After how many days it ends
    #[arg(long, value_name = "DAYS", value_parser = days)]
    pub expires: Option<u32>,
    /// They may share it with others, who may do no more than they
    #[arg(long)]
    pub reshare: bool,
}

/// What to do about what is shared.
#[derive(Debug, Clone, Subcommand)]
pub enum ShareCommand {
    /// Take what is offered
    Accept(ShareSpaceArgs),
    /// Do not take what is offered, or leave the space
    Decline(ShareSpaceArgs),
    /// End what was granted
    Revoke(ShareRevokeArgs),
    /// Do what a member of a space wishes, as `cairn shares` lists it
    Grant(ShareWishArgs),
    /// Do not do what a member of a space wishes
    Deny(ShareWishArgs),
}

/// A space.
#[derive(Debug, Clone, Args)]
pub struct ShareSpaceArgs {
    /// Its name, or the start of its id
    #[arg(value_name = "SPACE")]
    pub space: String,
}

/// `cairn share revoke`
#[derive(Debug, Clone, Args)]
pub struct ShareRevokeArgs {
    /// The space: its name, or the start of its id
    #[arg(value_name = "SPACE")]
    pub space: String,
    /// Whose part in it ends
    #[arg(long, value_name = "PEER")]
    pub with: String,
}

/// A wish.
#[derive(Debug, Clone, Args)]
pub struct ShareWishArgs {
    /// The start of its id
    #[arg(value_name = "WISH")]
    pub wish: String,
}

/// What somebody may do in a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShareRole {
    /// Keep it for others, sealed.
    Relay,
    /// Read.
    Read,
    /// Suggest.
    Suggest,
    /// Write.
    Write,
    /// Write, and have others take part.
    Admin,
}

impl ShareRole {
    /// As the API spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Read => "read",
            Self::Suggest => "suggest",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

/// Days, as `90` or `90d`.
fn days(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('d').unwrap_or(text).parse().ok();
    number
        .filter(|days| (1..=3_650).contains(days))
        .ok_or_else(|| "expected 1 to 3650 days, such as 90d".to_owned())
}
