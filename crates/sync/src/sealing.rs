//! Payloads for those who keep them and may not read them: sealed under a key of the space that its owner tells the devices of its readers.
//!
//! A key is told in an entry of the owner's about the space ([`Keyed`]): wrapped for each device, under what that device and the owner's have
//! in common (X25519 over their signing keys), and with the key before it wrapped under itself, so that who has the newest can read all.

use bytes::Bytes;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::entry::{Entry, Header};
use crate::key::{DeviceKey, Hash, SpaceId, Tag};

/// The most devices that a key is told.
pub const MAX_KEYED_DEVICES: usize = 1_024;
/// How many bytes a sealed payload has more than the payload: the key's name before it, and what proves that it is whole.
pub const SEALED_BYTES: usize = 16 + 16;

/// What makes the key's name of a key.
const NAME: &str = "cairn space key name 1";
/// What makes the key that wraps another one for a device.
const WRAP: &str = "cairn space key wrap 1";

/// A key of a space. Its name gives nothing of it away, and belongs to no other key.
#[derive(Clone, PartialEq, Eq)]
pub struct SpaceKey([u8; 32]);

/// A key that the owner of a space tells the devices of its readers. A payload of the owner's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyed {
    /// The key's name.
    pub key: Tag,
    /// The owner's device that tells it.
    pub by: DeviceKey,
    /// The key as each device can read it.
    pub to: Vec<KeyedDevice>,
    /// The key before it, for whoever has this one; none for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Wrapped>,
}

/// A key as one device can read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyedDevice {
    /// Which device.
    pub device: DeviceKey,
    /// The key.
    pub wrapped: WrappedKey,
}

/// A key, and what can be read with another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrapped {
    /// The key's name.
    pub key: Tag,
    /// The key.
    pub wrapped: WrappedKey,
}

/// A key under another one: 32 bytes, and 16 that prove them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrappedKey([u8; 48]);

impl Serialize for WrappedKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for WrappedKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = hex::decode(String::deserialize(deserializer)?).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("a wrapped key has 96 hexadecimal digits"))
    }
}

impl std::fmt::Debug for SpaceKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SpaceKey({})", hex::encode(self.name().0))
    }
}

impl Drop for SpaceKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl SpaceKey {
    /// A key of random bytes.
    pub const fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// Its name.
    pub fn name(&self) -> Tag {
        Hash::new(blake3::derive_key(NAME, &self.0)).tag()
    }

    /// Tells the key to devices, in the name of one of the owner's; with the key before it.
    pub fn tell(&self, space: SpaceId, by: &SigningKey, devices: &[DeviceKey], before: Option<&Self>) -> Keyed {
        let to = devices.iter().filter_map(|device| {
            let wrap = shared(space, by, *device, DeviceKey::of(by), *device)?;
            Some(KeyedDevice { device: *device, wrapped: wrap.wrap(self) })
        });
        let before = before.map(|before| Wrapped { key: before.name(), wrapped: self.wrap(before) });
        Keyed { key: self.name(), by: DeviceKey::of(by), to: to.collect(), before }
    }

    /// Puts another key under this one. The nonce is that key's name: nothing else is ever put under this one with it.
    fn wrap(&self, other: &Self) -> WrappedKey {
        let sealed = self.cipher().encrypt(&nonce(&other.name().0), other.0.as_slice());
        WrappedKey(sealed.ok().and_then(|sealed| sealed.try_into().ok()).expect("32 bytes become 48"))
    }

    fn unwrap(&self, name: Tag, wrapped: &WrappedKey) -> Option<Self> {
        let bytes = self.cipher().decrypt(&nonce(&name.0), wrapped.0.as_slice()).ok()?;
        let key = Self(bytes.try_into().ok()?);
        (key.name() == name).then_some(key)
    }

    /// Seals the payload of an entry, where it has one: always the same way, so that nothing is learnt from doing it twice.
    pub fn seal(&self, entry: &Entry) -> Option<Bytes> {
        let hash = entry.hash();
        let message = Payload { msg: entry.payload()?, aad: hash.bytes() };
        let sealed = self.cipher().encrypt(&nonce(hash.bytes()), message).ok()?;
        Some([self.name().0.as_slice(), &sealed].concat().into())
    }

    /// Opens the sealed payload of an entry; none where it was not sealed for it under this key.
    pub fn open(&self, entry: Hash, sealed: &[u8]) -> Option<Bytes> {
        let sealed = sealed.strip_prefix(&self.name().0)?;
        let message = Payload { msg: sealed, aad: entry.bytes() };
        self.cipher().decrypt(&nonce(entry.bytes()), message).ok().map(Bytes::from)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(Key::from_slice(&self.0))
    }
}

/// The key that something was sealed under.
pub fn sealed_under(sealed: &[u8]) -> Option<Tag> {
    sealed.first_chunk().map(|name| Tag(*name))
}

/// Whether a sealed payload has the length that an entry's has.
pub(crate) fn fits(header: &Header, sealed: &[u8]) -> bool {
    sealed.len() == header.payload_bytes as usize + SEALED_BYTES
}

impl Keyed {
    /// The key, as one of the devices it is told to reads it.
    pub fn open(&self, space: SpaceId, device: &SigningKey) -> Option<SpaceKey> {
        let own = DeviceKey::of(device);
        let told = self.to.iter().find(|told| told.device == own)?;
        shared(space, device, self.by, self.by, own)?.unwrap(self.key, &told.wrapped)
    }

    /// The key before it, for whoever has this one.
    pub fn before(&self, key: &SpaceKey) -> Option<SpaceKey> {
        let before = self.before.as_ref()?;
        key.unwrap(before.key, &before.wrapped)
    }
}

/// What two devices have in common, for keys of a space that one tells the other.
fn shared(space: SpaceId, own: &SigningKey, other: DeviceKey, from: DeviceKey, to: DeviceKey) -> Option<SpaceKey> {
    let common = other.in_common(own)?;
    let parts: [&[u8]; 4] = [&common, space.bytes(), from.bytes(), to.bytes()];
    Some(SpaceKey(blake3::derive_key(WRAP, &parts.concat())))
}

fn nonce(bytes: &[u8]) -> XNonce {
    let mut nonce = XNonce::default();
    let length = bytes.len().min(nonce.len());
    nonce[..length].copy_from_slice(&bytes[..length]);
    nonce
}

#[cfg(test)]
mod tests {
    use cairn_domain::clock::Hlc;
    use cairn_domain::id::MemoryId;
    use cairn_domain::truth::Truth;
    use uuid::Uuid;

    use super::*;
    use crate::entry::EntryKind;
    use crate::key::{BrainKey, Epoch};

    fn device(of: u8) -> SigningKey {
        SigningKey::from_bytes(&[of; 32])
    }

    fn space() -> SpaceId {
        SpaceId::new(Hash::of(b"garden"))
    }

    fn entry(number: u64, payload: &'static str) -> Entry {
        let header = Header {
            space: Some(space()),
            author: BrainKey::of(&device(1)),
            epoch: Epoch([3; 16]),
            number,
            previous: Hash::NONE,
            grant: Hash::NONE,
            at: Hlc { millis: 1, counter: 0 },
            truth: Truth::User,
            kind: EntryKind::Claim,
            memory: MemoryId::new(Uuid::nil()),
            preceding: 0,
            following: 0,
            payload_bytes: 0,
            payload: Hash::NONE,
        };
        Entry::sign(header, Bytes::from_static(payload.as_bytes()), &device(1)).expect("small")
    }

    #[test]
    fn who_is_told_a_key_opens_what_was_sealed_under_it_and_those_before_it() {
        let [one, two] = [[1; 32], [2; 32]].map(SpaceKey::new);
        let (reader, other) = (device(5), device(6));
        let first = one.tell(space(), &device(1), &[DeviceKey::of(&other)], None);
        let second = two.tell(space(), &device(1), &[DeviceKey::of(&reader)], Some(&one));
        let read: Keyed = serde_json::from_slice(&serde_json::to_vec(&second).expect("json")).expect("json");
        assert_eq!(read, second);
        assert_eq!(first.open(space(), &reader), None, "it was not told that one");
        let newest = second.open(space(), &reader).expect("it was told");
        assert_eq!(newest, two);
        assert_eq!(second.before(&newest), Some(one.clone()));
        assert_eq!(first.open(space(), &other), Some(one.clone()));
        assert_eq!(second.open(space(), &other), None, "it is no reader any more");
        assert_eq!(second.before(&one), None, "the key before opens nothing that comes later");
        assert_eq!(second.open(SpaceId::new(Hash::of(b"cellar")), &reader), None, "it is another space's");
    }

    #[test]
    fn what_was_sealed_is_opened_for_the_entry_it_was_sealed_for_and_not_changed() {
        let key = SpaceKey::new([1; 32]);
        let (one, other) = (entry(1, "roses"), entry(2, "roses"));
        let sealed = key.seal(&one).expect("it has a payload");
        assert!(fits(one.header(), &sealed));
        assert_eq!(key.seal(&one), Some(sealed.clone()));
        assert_eq!(sealed_under(&sealed), Some(key.name()));
        assert!(!sealed.windows(5).any(|bytes| bytes == b"roses"));
        assert_eq!(key.open(one.hash(), &sealed).as_deref(), Some(b"roses".as_slice()));
        assert_eq!(key.open(other.hash(), &sealed), None);
        assert_eq!(SpaceKey::new([2; 32]).open(one.hash(), &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            assert_eq!(key.open(one.hash(), &changed), None, "byte {at}");
        }
    }
}
