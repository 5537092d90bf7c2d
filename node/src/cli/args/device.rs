//! Arguments of `cairn device`.

use clap::{Args, Subcommand};

use super::sharing::{PeerAcceptArgs, PeerInviteArgs};

/// `cairn device`
#[derive(Debug, Clone, Args)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  cairn device invite                     prints a link and a QR code for another node of yours
  cairn device join cairn://device/...    on the other node, which has shared nothing yet
  cairn device list
  cairn device remove 5f1d7a84            it is lost: what it says from now on counts for nothing

Another device writes for the same brain: others see one peer. It is in all spaces of the brain. What is in no space stays
on the device it was written on; to have a copy of everything, use `cairn follow`."
)]
pub struct DeviceArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DeviceCommand,
}

/// What to do about devices.
#[derive(Debug, Clone, Subcommand)]
pub enum DeviceCommand {
    /// Let another node of yours in: prints a link that works once
    Invite(PeerInviteArgs),
    /// Become a device of the brain that made the link
    Join(PeerAcceptArgs),
    /// List the devices that write for this brain
    #[command(visible_alias = "ls")]
    List,
    /// Have a device write no more
    Remove(DeviceRemoveArgs),
}

/// `cairn device remove`
#[derive(Debug, Clone, Args)]
pub struct DeviceRemoveArgs {
    /// The start of its key
    #[arg(value_name = "DEVICE")]
    pub device: String,
}
