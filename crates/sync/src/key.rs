//! Keys, hashes and names made of them. All are parsed once, and are what they say from then on.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what} of 64 hexadecimal digits")]
pub struct InvalidHex {
    /// What was expected.
    pub what: &'static str,
    /// The text as it was given, cut to 80 characters.
    pub text: String,
}

macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The bytes.
            pub const fn bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({}…)"), hex::encode(&self.0[..4]))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        impl FromStr for $name {
            type Err = InvalidHex;

            fn from_str(text: &str) -> Result<Self, InvalidHex> {
                let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
                bytes.and_then(Self::parse).ok_or_else(|| InvalidHex {
                    what: $what,
                    text: text.chars().take(80).collect(),
                })
            }
        }
    };
}

bytes32!(
    /// A BLAKE3 hash.
    Hash,
    "a hash"
);

bytes32!(
    /// A space: the hash of its first entry.
    SpaceId,
    "a space"
);

bytes32!(
    /// A brain: the first public key it had. A point of the curve that is not weak.
    BrainKey,
    "a brain's key"
);

bytes32!(
    /// The public key of a device that writes for a brain. A point of the curve that is not weak.
    DeviceKey,
    "a device's key"
);

impl Hash {
    /// Its first 16 bytes, which tell apart what nobody has made to collide.
    pub fn tag(&self) -> Tag {
        Tag(*self.0.first_chunk().expect("a hash is longer"))
    }

    /// What stands where there is nothing before.
    pub const NONE: Self = Self([0; 32]);

    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).into())
    }

    /// One that was made elsewhere.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    #[allow(clippy::unnecessary_wraps, reason = "keys are checked, hashes are not")]
    const fn parse(bytes: [u8; 32]) -> Option<Self> {
        Some(Self(bytes))
    }
}

impl SpaceId {
    /// The space that an entry begins.
    pub const fn new(first: Hash) -> Self {
        Self(first.0)
    }

    #[allow(clippy::unnecessary_wraps, reason = "keys are checked, hashes are not")]
    const fn parse(bytes: [u8; 32]) -> Option<Self> {
        Some(Self(bytes))
    }
}

/// The first half of a hash, where the whole would be too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub [u8; 16]);

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = hex::decode(String::deserialize(deserializer)?).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| D::Error::custom("a tag has 32 hexadecimal digits"))
    }
}

/// A key that others can use: with a weak one, a signature would fit more than one message.
fn sound(bytes: &[u8; 32]) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak())
}

/// A sound key, made ready to check signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verifier(VerifyingKey);

impl Verifier {
    /// Whether the key has signed these bytes.
    pub(crate) fn has_signed(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(bytes, &Signature::from_bytes(signature)).is_ok()
    }
}

macro_rules! verifying {
    ($name:ident) => {
        impl $name {
            /// The public key of a secret one.
            pub fn of(key: &SigningKey) -> Self {
                Self(key.verifying_key().to_bytes())
            }

            /// A key as its bytes; none where they are no key, or a weak one.
            pub fn parse(bytes: [u8; 32]) -> Option<Self> {
                sound(&bytes).map(|_| Self(bytes))
            }

            /// A key that is compared with a sound one before anything follows from it.
            pub(crate) fn named(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The key, made ready to check many signatures.
            pub(crate) fn verifier(&self) -> Option<Verifier> {
                sound(&self.0).map(Verifier)
            }

            /// Whether the key has signed these bytes.
            pub fn has_signed(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
                self.verifier().is_some_and(|key| key.has_signed(bytes, signature))
            }
        }
    };
}

verifying!(BrainKey);
verifying!(DeviceKey);

impl DeviceKey {
    /// What it has in common with another device, and with no third one (X25519).
    pub(crate) fn in_common(&self, with: &SigningKey) -> Option<[u8; 32]> {
        sound(&self.0).map(|key| (with.to_scalar() * key.to_montgomery()).to_bytes())
    }
}

/// A run of a device's writing: random, taken anew by each device and after each restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub [u8; 16]);

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = hex::decode(String::deserialize(deserializer)?).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| D::Error::custom("an epoch has 32 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked_and_hashes_are_not() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let brain = BrainKey::of(&key);
        assert_eq!(brain.to_string().parse(), Ok(brain));
        // The neutral element, of which everything is signed.
        let weak = hex::encode([[1].as_slice(), &[0; 31]].concat());
        assert!(weak.parse::<BrainKey>().is_err());
        assert!(weak.parse::<Hash>().is_ok());
        assert!("12".parse::<Hash>().is_err());
        assert_eq!(serde_json::from_str::<BrainKey>(&format!("\"{brain}\"")).expect("a key"), brain);
        assert!(serde_json::from_str::<BrainKey>(&format!("\"{weak}\"")).is_err());
    }

    #[test]
    fn only_the_key_that_signed_has_signed() {
        use ed25519_dalek::Signer;
        let (key, other) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
        let signature = key.sign(b"words").to_bytes();
        assert!(DeviceKey::of(&key).has_signed(b"words", &signature));
        assert!(!DeviceKey::of(&key).has_signed(b"other words", &signature));
        assert!(!DeviceKey::of(&other).has_signed(b"words", &signature));
    }
}
