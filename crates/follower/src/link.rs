//! The link that a second machine is invited with.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::FollowError;
use crate::key::MachineKey;

const PREFIX: &str = "cairn://follow/";
/// The first byte; another one is of a newer version.
const VERSION: u8 = 1;
/// The most addresses in a link.
const MAX_ADDRESSES: usize = 8;
/// The longest address, in bytes.
const MAX_ADDRESS_BYTES: usize = 255;
/// The longest link that is looked at, in bytes.
const MAX_LINK_BYTES: usize = 4 * 1024;

/// An invitation to follow. Whoever holds it before it was used gets the whole brain.
#[derive(Clone, PartialEq, Eq)]
pub struct FollowLink {
    /// The brain.
    pub brain: Uuid,
    /// Who invites.
    pub key: MachineKey,
    /// Shown once, by the machine that follows.
    pub secret: Zeroizing<[u8; 16]>,
    /// Until when, in milliseconds since 1970.
    pub expires_at: u64,
    /// Where the inviting node can be reached, as `host:port`.
    pub addresses: Vec<String>,
}

impl FollowLink {
    /// What tells it from other links, and gives nothing away.
    pub fn hash(&self) -> String {
        blake3::Hash::from(blake3::derive_key("cairn 2026-11 follow link", &self.secret[..])).to_hex().to_string()
    }
}

impl fmt::Debug for FollowLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { brain, key, expires_at, addresses, .. } = self;
        f.debug_struct("FollowLink")
            .field("brain", brain)
            .field("key", key)
            .field("expires_at", expires_at)
            .field("addresses", addresses)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for FollowLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Zeroizing::new(vec![VERSION]);
        bytes.extend_from_slice(self.brain.as_bytes());
        bytes.extend_from_slice(&self.key.0);
        bytes.extend_from_slice(&self.secret[..]);
        bytes.extend_from_slice(&self.expires_at.to_be_bytes());
        for address in self.addresses.iter().take(MAX_ADDRESSES) {
            let text = &address.as_bytes()[..address.len().min(MAX_ADDRESS_BYTES)];
            bytes.push(text.len() as u8);
            bytes.extend_from_slice(text);
        }
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes[..]))
    }
}

impl FromStr for FollowLink {
    type Err = FollowError;

    fn from_str(text: &str) -> Result<Self, FollowError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(FollowError::Link("it begins otherwise"))?;
        if encoded.len() > MAX_LINK_BYTES {
            return Err(FollowError::Link("it is too long"));
        }
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| FollowError::Link("a letter is wrong"))?;
        let bytes = Zeroizing::new(bytes);
        let short = || FollowError::Link("its end is missing");
        let (version, rest) = bytes.split_first().ok_or_else(short)?;
        if *version != VERSION {
            return Err(FollowError::Link("it is of another version of cairn"));
        }
        let (brain, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
        let (key, rest) = rest.split_first_chunk::<32>().ok_or_else(short)?;
        let (secret, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
        let (expires_at, mut rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let mut addresses = Vec::new();
        while let Some((length, more)) = rest.split_first() {
            let (address, more) = more.split_at_checked(usize::from(*length)).ok_or_else(short)?;
            let address = std::str::from_utf8(address).map_err(|_| FollowError::Link("an address is no text"))?;
            addresses.push(address.to_owned());
            rest = more;
        }
        if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
            return Err(FollowError::Link("it has no address, or too many"));
        }
        let (brain, key, secret) = (Uuid::from_bytes(*brain), MachineKey(*key), Zeroizing::new(*secret));
        Ok(Self { brain, key, secret, expires_at: u64::from_be_bytes(*expires_at), addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_says_again_what_was_put_in_and_nothing_else_is_one() {
        let addresses = vec!["127.0.0.1:7413".to_owned(), "[::1]:7413".to_owned()];
        let secret = Zeroizing::new([7; 16]);
        let link = FollowLink {
            brain: Uuid::from_u128(5),
            key: MachineKey([3; 32]),
            secret,
            expires_at: 1_234_567,
            addresses,
        };
        let text = link.to_string();
        assert_eq!(text.parse::<FollowLink>().expect("it is one"), link);
        for length in 0..text.len() {
            // Shorter by a whole address it still is one.
            if let Ok(shorter) = text[..length].parse::<FollowLink>() {
                assert!(shorter.addresses.len() < link.addresses.len());
            }
        }
        assert!("cairn://pair/AQID".parse::<FollowLink>().is_err());
        assert!(!format!("{link:?}").contains("secret"));
    }
}
