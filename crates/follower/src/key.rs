//! Who a machine is to its primary and its followers: an ed25519 key of its own, which is not the brain's.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::FollowError;
use crate::state::write_private;

/// A machine as others know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineKey(pub [u8; 32]);

/// This machine.
#[derive(Clone)]
pub struct Machine {
    seed: Zeroizing<[u8; 32]>,
    /// What others know it by.
    pub key: MachineKey,
}

impl Machine {
    /// Reads the machine's key from a file, or makes one there that only its owner can read.
    ///
    /// # Errors
    /// When the file is damaged, or cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, FollowError> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let damaged = || FollowError::Damaged {
                    path: path.to_owned(),
                    reason: "it is not a key of 64 hexadecimal digits".into(),
                };
                let mut seed = Zeroizing::new([0; 32]);
                hex::decode_to_slice(text.trim(), &mut seed[..]).map_err(|_| damaged())?;
                Ok(Self::of(seed))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let seed = Zeroizing::new(random()?);
                write_private(path, Zeroizing::new(hex::encode(&seed[..])).as_bytes())?;
                Ok(Self::of(seed))
            }
            Err(source) => Err(FollowError::File { path: path.to_owned(), source }),
        }
    }

    fn of(seed: Zeroizing<[u8; 32]>) -> Self {
        let key = MachineKey(SigningKey::from_bytes(&seed).verifying_key().to_bytes());
        Self { seed, key }
    }

    /// The secret, as TLS takes it: PKCS #8, version 1 (RFC 8410).
    pub(crate) fn pkcs8(&self) -> Vec<u8> {
        const HEAD: [u8; 16] =
            [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        [&HEAD[..], &self.seed[..]].concat()
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("key", &self.key).finish_non_exhaustive()
    }
}

/// How a public key of ed25519 begins as TLS shows it: its `SubjectPublicKeyInfo` (RFC 8410).
const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl MachineKey {
    /// The key in a raw public key of TLS; none where it is of another kind.
    pub(crate) fn of_spki(spki: &[u8]) -> Option<Self> {
        spki.strip_prefix(&SPKI_HEAD[..])?.try_into().ok().map(Self)
    }
}

impl fmt::Display for MachineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for MachineKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut key = [0; 32];
        hex::decode_to_slice(text, &mut key).map_err(|_| "a key has 64 hexadecimal digits")?;
        Ok(Self(key))
    }
}

impl TryFrom<String> for MachineKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MachineKey> for String {
    fn from(key: MachineKey) -> Self {
        key.to_string()
    }
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], FollowError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| FollowError::Random(error.to_string()))?;
    Ok(bytes)
}
