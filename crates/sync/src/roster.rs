//! The devices of a brain, as its key has signed them. Who has the newest roster knows which devices write for the brain, and which do not any more.

use ed25519_dalek::{Signer, SigningKey};

use crate::key::{BrainKey, DeviceKey};
use crate::succession::{BrainSecret, Succession};

/// What the signed bytes begin with.
const DOMAIN: &[u8] = b"cairn roster 1\0";
/// The most devices of a brain.
pub const MAX_DEVICES: usize = 16;
/// How many bytes one has besides its devices.
const FIXED_BYTES: usize = 32 + 8 + 64;

/// A brain's word about its devices. One that exists is sound: its signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    brain: BrainKey,
    number: u64,
    devices: Vec<DeviceKey>,
    signature: [u8; 64],
    /// The keys of the brain, the last of which has signed it.
    succession: Succession,
}

/// Bytes that are no roster, or one that the brain has not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no list of devices that its brain has signed")]
pub struct InvalidRoster;

impl Roster {
    /// Signs one with a brain's first key. At most [`MAX_DEVICES`] devices are in it.
    pub fn sign(brain: &SigningKey, number: u64, devices: Vec<DeviceKey>) -> Self {
        BrainSecret::first(brain.clone()).list(number, devices)
    }

    pub(crate) fn signed_by(secret: &BrainSecret, number: u64, mut devices: Vec<DeviceKey>) -> Self {
        devices.sort_unstable();
        devices.dedup();
        devices.truncate(MAX_DEVICES);
        let (brain, succession) = (secret.brain(), secret.succession().clone());
        let signature = secret.key().sign(&signed(brain, number, &devices)).to_bytes();
        Self { brain, number, devices, signature, succession }
    }

    /// Whether it holds where another one is known: it is by a later key, or by the same one and later; and nothing of what is known
    /// about the brain's keys is otherwise in it.
    pub fn holds_before(&self, known: &Self) -> bool {
        let place = |roster: &Self| (roster.succession.generation(), roster.number);
        self.succession.goes_on_from(&known.succession) && place(self) > place(known)
    }

    /// The keys of the brain, the last of which has signed it.
    pub fn succession(&self) -> &Succession {
        &self.succession
    }

    /// Whose devices they are.
    pub fn brain(&self) -> BrainKey {
        self.brain
    }

    /// How many were signed before it, at least.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The devices.
    pub fn devices(&self) -> &[DeviceKey] {
        &self.devices
    }

    /// As it goes over the wire, and as it is kept, beside the succession of the brain's keys.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.brain.bytes().as_slice(), &self.number.to_be_bytes(), &self.signature, &packed(&self.devices)]
            .concat()
    }

    /// Reads one and checks its signature.
    ///
    /// # Errors
    /// [`InvalidRoster`].
    pub fn parse(bytes: &[u8], succession: &[u8]) -> Result<Self, InvalidRoster> {
        if bytes.len() > FIXED_BYTES + 32 * MAX_DEVICES {
            return Err(InvalidRoster);
        }
        let (brain, rest) = bytes.split_first_chunk().ok_or(InvalidRoster)?;
        let (number, rest) = rest.split_first_chunk().ok_or(InvalidRoster)?;
        let (signature, rest) = rest.split_first_chunk().ok_or(InvalidRoster)?;
        let (devices, []) = rest.as_chunks::<32>() else { return Err(InvalidRoster) };
        let devices: Option<Vec<DeviceKey>> = devices.iter().map(|device| DeviceKey::parse(*device)).collect();
        let (devices, number) = (devices.ok_or(InvalidRoster)?, u64::from_be_bytes(*number));
        let brain = BrainKey::parse(*brain).ok_or(InvalidRoster)?;
        let succession = Succession::parse(brain, succession).map_err(|_| InvalidRoster)?;
        match succession.current().has_signed(&signed(brain, number, &devices), signature) {
            true => Ok(Self { brain, number, devices, signature: *signature, succession }),
            false => Err(InvalidRoster),
        }
    }
}

fn packed(devices: &[DeviceKey]) -> Vec<u8> {
    devices.iter().flat_map(|device| *device.bytes()).collect()
}

fn signed(brain: BrainKey, number: u64, devices: &[DeviceKey]) -> Vec<u8> {
    [DOMAIN, brain.bytes(), &number.to_be_bytes(), &packed(devices)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roster_holds_as_the_brain_has_signed_it_and_no_byte_otherwise() {
        let brain = SigningKey::from_bytes(&[1; 32]);
        let devices = [2, 3].map(|of| DeviceKey::of(&SigningKey::from_bytes(&[of; 32])));
        let made = Roster::sign(&brain, 7, vec![devices[1], devices[0], devices[1]]);
        assert_eq!(made.devices().len(), 2);
        let bytes = made.to_bytes();
        assert_eq!(Roster::parse(&bytes, &[]), Ok(made.clone()));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(Roster::parse(&changed, &[]), Err(InvalidRoster), "byte {at}");
        }
        assert_eq!(Roster::parse(&bytes[1..], &[]), Err(InvalidRoster));
        assert_eq!(Roster::parse(&[0; 2_000], &[]), Err(InvalidRoster));
        // By a later key it holds before whatever the first one goes on to list.
        let next = SigningKey::from_bytes(&[4; 32]);
        let prepared =
            Succession::first(BrainKey::of(&brain)).prepare(&brain, BrainKey::of(&next)).expect("prepared");
        let changed = prepared.change(&next).expect("changed");
        let later = BrainSecret::of(next, changed.clone()).expect("it signs now").list(1, vec![devices[0]]);
        assert_eq!(Roster::parse(&later.to_bytes(), &changed.to_bytes()), Ok(later.clone()));
        assert_eq!(Roster::parse(&later.to_bytes(), &[]), Err(InvalidRoster));
        let old = Roster::sign(&brain, 99, devices.to_vec());
        assert!(later.holds_before(&made) && later.holds_before(&old));
        assert!(!old.holds_before(&later) && !later.holds_before(&later) && old.holds_before(&made));
    }
}
