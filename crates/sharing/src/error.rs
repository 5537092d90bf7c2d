//! Why something about sharing cannot be done.

use cairn_command::{CommandError, LoadError};
use cairn_domain::id::MemoryId;
use cairn_event_store::{AppendError, Position, StoreError};
use cairn_sync::engine::CannotSay;
use cairn_sync::key::{BrainKey, DeviceKey, Hash, SpaceId};
use cairn_sync::roster::MAX_DEVICES;
use cairn_sync::succession::InvalidSuccession;

/// Why something about sharing cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum SharingError {
    /// The log does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log refused an append.
    #[error("the log refused what was to be kept")]
    Append(#[from] AppendError),
    /// A memory cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A command was not carried out.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The log holds what cannot be read.
    #[error("what is kept at position {position} of the log about a space cannot be read")]
    Damaged {
        /// Where.
        position: Position,
    },
    /// It cannot be said.
    #[error(transparent)]
    CannotSay(#[from] CannotSay),
    /// There is no such peer.
    #[error("brain {0} is not a peer; see `cairn peer list`")]
    NoPeer(BrainKey),
    /// There is no such space.
    #[error("there is no space {0}; see `cairn space list`")]
    NoSpace(SpaceId),
    /// The memory is in no space.
    #[error("memory {0} is shared with nobody; `cairn erase` without --everywhere destroys it")]
    NotShared(MemoryId),
    /// Another brain began the memory.
    #[error(
        "memory {0} was begun by another brain, in another brain's space: only these two can erase it everywhere; `cairn erase` destroys it here"
    )]
    NotBegunHere(MemoryId),
    /// Nobody wishes such a thing, or it was answered.
    #[error("there is no open wish {0}; see `cairn shares`")]
    NoWish(Hash),
    /// The text is no invitation.
    #[error(
        "this is no invitation; it begins with `cairn://pair/`, or with `cairn://device/` for a device of your own"
    )]
    InvalidInvitation,
    /// The invitation has expired.
    #[error("this invitation has expired; ask for another one")]
    Expired,
    /// One cannot invite oneself.
    #[error("this invitation is this brain's own")]
    Own,
    /// Only the device with the brain's key lets others in and has them write no more.
    #[error("this node is another device of the brain; do that where the brain's key is, see `cairn device list`")]
    NotTheKey,
    /// The keys of a brain do not follow each other so.
    #[error("{0}; see `cairn key show`")]
    Succession(#[from] InvalidSuccession),
    /// The words are no key.
    #[error("these are not the 24 words of a key, in their order; `cairn key prepare` has shown them")]
    InvalidWords,
    /// The key cannot be kept.
    #[error("the file of the brain's later key cannot be read or written: {0}; see CAIRN_SHARING_KEY")]
    KeyNotKept(std::io::Error),
    /// There is no such device of this brain's, or it is this one.
    #[error("brain has no other device {0}; see `cairn device list`")]
    NoDevice(DeviceKey),
    /// A brain has no more devices than that.
    #[error("a brain has at most {MAX_DEVICES} devices; remove one first, see `cairn device list`")]
    TooManyDevices,
    /// What shares something already cannot become a device of another brain.
    #[error(
        "this node shares something already; only one that knows no other brain and no space can become a device of another brain"
    )]
    SharesAlready,
    /// The link is for something else.
    #[error("this link lets in {0}")]
    OtherInvitation(&'static str),
    /// The service has stopped.
    #[error("sharing has stopped; see the node's log for why, and start it again")]
    Stopped,
}
