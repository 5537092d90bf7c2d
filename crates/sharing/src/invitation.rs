//! Invitations as links, and fingerprints as words.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cairn_sync::key::{BrainKey, DeviceKey, Hash};

use crate::error::SharingError;

/// How every link begins.
const PREFIX: &str = "cairn://pair/";
/// How every link for a device of one's own begins.
const DEVICE_PREFIX: &str = "cairn://device/";
/// The version of what follows.
const VERSION: u8 = 1;
/// How many bytes an invitation's secret has.
pub const SECRET_BYTES: usize = 16;
/// The most addresses in a link.
const MAX_ADDRESSES: usize = 16;
/// The longest link.
const MAX_LINK_BYTES: usize = 8 * 1024;
/// How many words a fingerprint has: 11 bits each.
const WORDS: usize = 6;

/// What a link says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationLink {
    /// Who invites.
    pub brain: BrainKey,
    /// The device to be met.
    pub device: DeviceKey,
    /// What proves that one was invited.
    pub secret: [u8; SECRET_BYTES],
    /// Until when, in milliseconds since 1970.
    pub expires_at: u64,
    /// Where the device can be found.
    pub addresses: Vec<String>,
    /// Whether whoever takes it up becomes a device of the inviting brain, and no peer.
    pub for_device: bool,
}

impl InvitationLink {
    /// As people pass it on.
    pub fn to_link(&self) -> String {
        let addresses = self.addresses.iter().take(MAX_ADDRESSES).cloned().collect::<Vec<_>>().join("\n");
        let parts: [&[u8]; 6] = [
            &[VERSION],
            self.brain.bytes(),
            self.device.bytes(),
            &self.secret,
            &self.expires_at.to_be_bytes(),
            addresses.as_bytes(),
        ];
        let prefix = if self.for_device { DEVICE_PREFIX } else { PREFIX };
        format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(parts.concat()))
    }

    /// Reads a link.
    ///
    /// # Errors
    /// [`SharingError::InvalidInvitation`].
    pub fn parse(link: &str) -> Result<Self, SharingError> {
        read(link.trim()).ok_or(SharingError::InvalidInvitation)
    }
}

fn read(link: &str) -> Option<InvitationLink> {
    let for_device = link.starts_with(DEVICE_PREFIX);
    let text = link.strip_prefix(DEVICE_PREFIX).or_else(|| link.strip_prefix(PREFIX));
    let text = text.filter(|text| text.len() <= MAX_LINK_BYTES)?;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    let rest = bytes.strip_prefix(&[VERSION])?;
    let (brain, rest) = rest.split_first_chunk::<32>()?;
    let (device, rest) = rest.split_first_chunk::<32>()?;
    let (secret, rest) = rest.split_first_chunk::<SECRET_BYTES>()?;
    let (expires_at, rest) = rest.split_first_chunk::<8>()?;
    let addresses = std::str::from_utf8(rest).ok()?;
    let addresses = addresses.split('\n').filter(|address| !address.is_empty()).take(MAX_ADDRESSES);
    Some(InvitationLink {
        brain: BrainKey::parse(*brain)?,
        device: DeviceKey::parse(*device)?,
        secret: *secret,
        expires_at: u64::from_be_bytes(*expires_at),
        addresses: addresses.map(str::to_owned).collect(),
        for_device,
    })
}

/// Words that two brains have in common: both sides see the same ones, and who stands between them sees others.
pub fn words(one: BrainKey, other: BrainKey) -> Vec<&'static str> {
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    let hash = Hash::of(&[b"cairn fingerprint 1\0", first.bytes().as_slice(), second.bytes()].concat());
    let list = bip39::Language::English.word_list();
    let bits = |at: usize| {
        let bit = |at: usize| usize::from(hash.bytes()[at / 8] >> (7 - at % 8) & 1);
        (at * 11..(at + 1) * 11).fold(0, |number, at| number << 1 | bit(at))
    };
    (0..WORDS).map(|at| list[bits(at)]).collect()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn brain(of: u8) -> BrainKey {
        BrainKey::of(&SigningKey::from_bytes(&[of; 32]))
    }

    #[test]
    fn a_link_is_read_as_it_was_written() {
        let link = InvitationLink {
            brain: brain(1),
            device: DeviceKey::of(&SigningKey::from_bytes(&[2; 32])),
            secret: [7; SECRET_BYTES],
            expires_at: 1_790_000_000_000,
            addresses: vec!["/ip4/192.0.2.7/udp/7402/quic-v1".into(), "/ip4/192.0.2.7/tcp/7402".into()],
            for_device: false,
        };
        for for_device in [false, true] {
            let link = InvitationLink { for_device, ..link.clone() };
            assert_eq!(InvitationLink::parse(&format!(" {}\n", link.to_link())).expect("reads"), link);
        }
        for wrong in ["", "https://example.org", "cairn://pair/", "cairn://pair/AA", "cairn://pair/%%%"] {
            assert!(InvitationLink::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn both_sides_see_the_same_words_and_others_see_others() {
        assert_eq!(words(brain(1), brain(2)), words(brain(2), brain(1)));
        assert_ne!(words(brain(1), brain(2)), words(brain(1), brain(3)));
        assert_eq!(words(brain(1), brain(2)).len(), WORDS);
    }
}
