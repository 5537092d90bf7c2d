use std::fmt;

use libp2p::PeerId;

/// What stands before the 32 bytes of the key in a peer id: an identity multihash (code 0) of 36 bytes, which are
/// a protobuf of the key's type (ed25519 is 1) and its bytes.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// A device, named by its ed25519 public key: 32 bytes, as in RFC 8032. Shown as 64 hexadecimal digits.
///
/// Not every 32 bytes are a point of the curve. That is not checked here, because nobody can prove to own such a key:
/// a peer that is named so cannot be connected to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerKey([u8; 32]);

/// A peer whose key is of another type than ed25519. Such peers are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("peer {0} has no ed25519 key")]
pub struct NotEd25519(pub PeerId);

impl PeerKey {
    /// The device with this public key.
    pub const fn from_bytes(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// How libp2p names this device.
    pub fn peer_id(&self) -> PeerId {
        let bytes = [&PEER_ID_PREFIX[..], &self.0].concat();
        PeerId::from_bytes(&bytes).expect("an identity multihash of 36 bytes is a peer id")
    }
}

impl From<PeerKey> for PeerId {
    fn from(key: PeerKey) -> Self {
        key.peer_id()
    }
}

impl TryFrom<PeerId> for PeerKey {
    type Error = NotEd25519;

    fn try_from(peer: PeerId) -> Result<Self, NotEd25519> {
        let bytes = peer.to_bytes();
        let key = bytes.strip_prefix(&PEER_ID_PREFIX).and_then(|key| <[u8; 32]>::try_from(key).ok());
        key.map(Self).ok_or(NotEd25519(peer))
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;

    #[test]
    fn a_key_and_its_peer_id_name_each_other() {
        for seed in 0..32 {
            let pair = Keypair::ed25519_from_bytes([seed; 32]).expect("32 bytes are a secret key");
            let public = pair.public().try_into_ed25519().expect("made as an ed25519 key").to_bytes();
            let key = PeerKey::from_bytes(public);
            assert_eq!(key.peer_id(), pair.public().to_peer_id());
            assert_eq!(PeerKey::try_from(key.peer_id()), Ok(key));
        }
    }

    #[test]
    fn a_peer_id_of_another_key_is_refused() {
        // The right length with another type, and a hash instead of a key, as RSA peers have it.
        let mut bytes = PeerKey::from_bytes([7; 32]).peer_id().to_bytes();
        bytes[3] = 2;
        let secp256k1 = PeerId::from_bytes(&bytes).expect("still an identity multihash");
        assert_eq!(PeerKey::try_from(secp256k1), Err(NotEd25519(secp256k1)));
        let rsa: PeerId = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC".parse().expect("a peer id");
        assert_eq!(PeerKey::try_from(rsa), Err(NotEd25519(rsa)));
    }
}
