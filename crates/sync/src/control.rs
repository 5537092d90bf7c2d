//! What the owner of a space decides, and what those decide who are offered something: the payloads of such entries.

use cairn_domain::id::MemoryId;
use serde::{Deserialize, Serialize};

use crate::key::{BrainKey, DeviceKey, Epoch, Hash};
use crate::roster::MAX_DEVICES;
use crate::sealing::{Keyed, MAX_KEYED_DEVICES};
use crate::succession::MAX_KEYS;

/// The longest name of a space in characters.
pub const MAX_NAME_CHARS: usize = 200;
/// The most chains that a revocation names.
pub const MAX_ACCEPTED: usize = 256;

/// What a grant lets a brain do. Each role holds those below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Keep what is sealed for others, and pass it on.
    Relay,
    /// Read.
    Read,
    /// Suggest: whatever it claims waits for a decision.
    Suggest,
    /// Write, at the level it signs.
    Write,
    /// Write, and have the owner's node grant and revoke.
    Admin,
}

/// What the owner says about the space, and what others wish that the owner said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Control {
    /// The space begins. Always the first entry, and never another one.
    SpaceCreated {
        /// What people call it.
        name: String,
    },
    /// It is called something else.
    Renamed {
        /// The new name.
        name: String,
    },
    /// A brain is offered a role. The grant is named by the hash of this entry.
    Offered {
        /// Whom.
        to: BrainKey,
        /// What it may do.
        role: Role,
        /// Until when, in milliseconds since 1970; `None` for no end.
        expires_at: Option<u64>,
        /// Whether it may pass on what it reads.
        reshare: bool,
    },
    /// A grant ends.
    Revoked {
        /// Which.
        grant: Hash,
        /// What the owner had accepted of the grant's brain by then: nothing after it counts.
        accepted: Vec<Accepted>,
    },
    /// A memory is to be destroyed wherever it is, for good, but with whoever began it.
    Erased {
        /// Which.
        memory: MemoryId,
    },
    /// A wish was answered. One that was granted was repeated in the owner's name before.
    Answered {
        /// The entry that holds it.
        wish: Hash,
        /// Whether it was granted.
        granted: bool,
    },
    /// A device does not write for a brain any more.
    Retired {
        /// Whose it was.
        brain: BrainKey,
        /// The device.
        device: DeviceKey,
        /// What the owner had accepted of what it shared by then: nothing after it counts, and nothing of other epochs of the device.
        accepted: Vec<Accepted>,
        /// And of what it has decided.
        decided: Vec<Accepted>,
    },
    /// A brain has another key: what devices say that an earlier one has certified counts where they are among those that the brain has listed under
    /// the new one, and as far as the owner had it by then.
    Succeeded {
        /// The brain.
        brain: BrainKey,
        /// The key.
        key: BrainKey,
        /// How many keys it had before that one.
        generation: usize,
        /// The devices.
        devices: Vec<DeviceKey>,
        /// What the owner had of what others of its devices shared: nothing after it counts.
        accepted: Vec<Accepted>,
        /// And of what they had decided.
        decided: Vec<Accepted>,
    },
    /// The devices of readers are told a key, under which they give payloads to those who keep them and may not read them.
    Keyed(Keyed),
    /// The owner writes in another epoch from here on. Control entries of the one before count up to the one named.
    Resumed {
        /// The last control entry of the epoch before that counts.
        after: Hash,
    },
}

/// How far a chain had been accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The epoch.
    pub epoch: Epoch,
    /// The number of the last entry.
    pub number: u64,
}

/// What a brain says to an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It takes it.
    Accepted,
    /// It does not.
    Declined,
}

/// A payload that says nothing that is known here, or too much.
#[derive(Debug, thiserror::Error)]
pub enum InvalidControl {
    /// It cannot be read.
    #[error("it is nothing that an owner says")]
    Unknown(#[source] serde_json::Error),
    /// A name is empty or too long.
    #[error("a name has from 1 to {MAX_NAME_CHARS} characters")]
    Name,
    /// It names no memory: entries about the space itself are about none.
    #[error("it names no memory")]
    Memory,
    /// It tells a key to too many devices.
    #[error("it tells a key to more than {MAX_KEYED_DEVICES} devices")]
    Devices,
    /// It names a key that no brain can come to have, or too many devices of a brain.
    #[error("a brain has at most {MAX_KEYS} keys and {MAX_DEVICES} devices")]
    Succession,
    /// It names too many chains.
    #[error("it names more than {MAX_ACCEPTED} chains")]
    Accepted,
}

impl Control {
    /// Reads a payload.
    ///
    /// # Errors
    /// See [`InvalidControl`].
    pub fn parse(payload: &[u8]) -> Result<Self, InvalidControl> {
        let control: Self = serde_json::from_slice(payload).map_err(InvalidControl::Unknown)?;
        match &control {
            Self::SpaceCreated { name } | Self::Renamed { name } => {
                let chars = name.chars().count();
                if chars == 0 || chars > MAX_NAME_CHARS {
                    return Err(InvalidControl::Name);
                }
            }
            Self::Revoked { accepted, .. }
            | Self::Retired { accepted, .. }
            | Self::Retired { decided: accepted, .. }
            | Self::Succeeded { accepted, .. }
            | Self::Succeeded { decided: accepted, .. }
                if accepted.len() > MAX_ACCEPTED =>
            {
                return Err(InvalidControl::Accepted);
            }
            Self::Erased { memory } if memory.uuid().is_nil() => return Err(InvalidControl::Memory),
            Self::Succeeded { generation, devices, .. }
                if devices.len() > MAX_DEVICES || !(1..MAX_KEYS).contains(generation) =>
            {
                return Err(InvalidControl::Succession);
            }
            Self::Keyed(keyed) if keyed.to.len() > MAX_KEYED_DEVICES => return Err(InvalidControl::Devices),
            Self::Revoked { .. }
            | Self::Retired { .. }
            | Self::Succeeded { .. }
            | Self::Keyed(_)
            | Self::Offered { .. }
            | Self::Erased { .. }
            | Self::Answered { .. }
            | Self::Resumed { .. } => {}
        }
        Ok(control)
    }

    /// As a payload.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain fields")
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn roles_hold_those_below_them() {
        assert!(Role::Relay < Role::Read && Role::Read < Role::Suggest);
        assert!(Role::Suggest < Role::Write && Role::Write < Role::Admin);
    }

    #[test]
    fn a_payload_is_read_as_it_was_written_and_its_bounds_are_kept() {
        let revoked = Control::Revoked {
            grant: Hash::of(b"grant"),
            accepted: vec![Accepted { epoch: Epoch([3; 16]), number: 7 }],
        };
        assert_eq!(Control::parse(&revoked.to_bytes()).expect("reads"), revoked);
        let named = |chars: usize| Control::Renamed { name: "x".repeat(chars) }.to_bytes();
        Control::parse(&named(MAX_NAME_CHARS)).expect("long enough");
        assert!(matches!(Control::parse(&named(MAX_NAME_CHARS + 1)), Err(InvalidControl::Name)));
        assert!(matches!(Control::parse(&named(0)), Err(InvalidControl::Name)));
        let none = Control::Erased { memory: MemoryId::new(Uuid::nil()) };
        assert!(matches!(Control::parse(&none.to_bytes()), Err(InvalidControl::Memory)));
        assert!(matches!(Control::parse(b"{\"type\":\"dissolved\"}"), Err(InvalidControl::Unknown(_))));
    }
}
