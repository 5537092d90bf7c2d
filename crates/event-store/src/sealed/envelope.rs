//! The sealed form of data: a version byte, the key's slot (4 bytes, little endian), a nonce (24 bytes), ciphertext.

use bytes::Bytes;
use chacha20poly1305::XNonce;
use chacha20poly1305::aead::{Aead, Payload};

use crate::event::{NewEvent, RecordedEvent, Snapshot};
use crate::keyring::{StreamKey, random};
use crate::port::StoreError;
use crate::sqlite::failure::corrupt;

/// The version of the envelope. JSON never begins with this byte.
const VERSION: u8 = 1;
const SLOT: std::ops::Range<usize> = 1..5;
const NONCE: std::ops::Range<usize> = 5..29;

/// The slot of the key that something is sealed with.
pub(super) fn slot_of(sealed: &[u8]) -> Result<u32, StoreError> {
    match (sealed.first(), sealed.get(SLOT)) {
        (Some(&VERSION), Some(&[a, b, c, d])) if sealed.len() >= NONCE.end => Ok(u32::from_le_bytes([a, b, c, d])),
        _ => Err(corrupt("sealed data is no envelope; run `cairn verify`, then restore a backup")),
    }
}

/// Seals an event's data. The same event always gives the same bytes, so that a repeated append is recognised.
///
/// The nonce is a keyed hash of everything that is encrypted or bound, under a key of its own. Two different inputs
/// get the same nonce only if 192 bits of BLAKE3 collide, which is as unlikely as with random nonces; the same input
/// gets the same nonce and the same ciphertext, which tells no more than that it is the same event again (its id is
/// bound). There is no counter or random generator whose failure could make a nonce serve two messages.
pub(super) fn seal_event(key: &StreamKey, slot: u32, stream: &str, event: &NewEvent) -> Bytes {
    let bound = bound_to_event(slot, stream, event.id.as_bytes(), &event.event_type, event.schema_version);
    let mut hasher = blake3::Hasher::new_keyed(&key.nonce_key);
    hasher.update(&(bound.len() as u64).to_le_bytes()).update(&bound).update(&event.data);
    let mut nonce = [0; NONCE.end - NONCE.start];
    hasher.finalize_xof().fill(&mut nonce);
    encrypt(key, slot, &nonce, &bound, &event.data)
}

/// The data of a sealed event.
pub(super) fn open_event(key: &StreamKey, event: &RecordedEvent) -> Result<Bytes, StoreError> {
    let slot = slot_of(&event.data)?;
    let bound = bound_to_event(slot, &event.stream, event.id.as_bytes(), &event.event_type, event.schema_version);
    decrypt(key, &bound, &event.data).ok_or_else(|| {
        let position = event.position;
        corrupt(format!(
            "the event at position {position} cannot be decrypted; run `cairn verify`, then restore a backup"
        ))
    })
}

/// Seals a snapshot. It is replaced often and never repeated, so its nonce is random.
pub(super) fn seal_snapshot(
    key: &StreamKey,
    slot: u32,
    stream: &str,
    snapshot: &Snapshot,
) -> Result<Snapshot, StoreError> {
    let mut nonce = [0; NONCE.end - NONCE.start];
    random(&mut nonce)?;
    let data = encrypt(key, slot, &nonce, &bound_to_snapshot(slot, stream, snapshot), &snapshot.data);
    Ok(Snapshot { data, ..*snapshot })
}

/// A sealed snapshot as it was.
pub(super) fn open_snapshot(key: &StreamKey, stream: &str, sealed: &Snapshot) -> Result<Snapshot, StoreError> {
    let bound = bound_to_snapshot(slot_of(&sealed.data)?, stream, sealed);
    let data = decrypt(key, &bound, &sealed.data);
    let data = data.ok_or_else(|| corrupt(format!("the snapshot of {stream} cannot be decrypted; delete it")))?;
    Ok(Snapshot { data, ..*sealed })
}

fn encrypt(key: &StreamKey, slot: u32, nonce: &[u8], bound: &[u8], data: &[u8]) -> Bytes {
    let payload = Payload { msg: data, aad: bound };
    let encrypted =
        key.cipher.encrypt(XNonce::from_slice(nonce), payload).expect("events are shorter than 256 GiB");
    [&[VERSION][..], &slot.to_le_bytes(), nonce, &encrypted].concat().into()
}

fn decrypt(key: &StreamKey, bound: &[u8], sealed: &[u8]) -> Option<Bytes> {
    let (nonce, encrypted) = (sealed.get(NONCE)?, sealed.get(NONCE.end..)?);
    let payload = Payload { msg: encrypted, aad: bound };
    key.cipher.decrypt(XNonce::from_slice(nonce), payload).ok().map(Bytes::from)
}

/// What the ciphertext is good for: this event and no other. Each part is preceded by its length, so that no two
/// different events ever bind to the same bytes.
fn bound_to_event(slot: u32, stream: &str, id: &[u8; 16], event_type: &str, schema_version: u16) -> Vec<u8> {
    bound(&[
        b"event",
        &slot.to_le_bytes(),
        stream.as_bytes(),
        id,
        event_type.as_bytes(),
        &schema_version.to_le_bytes(),
    ])
}

fn bound_to_snapshot(slot: u32, stream: &str, snapshot: &Snapshot) -> Vec<u8> {
    let (revision, format) = (snapshot.revision.0.to_le_bytes(), snapshot.format.to_le_bytes());
    bound(&[b"snapshot", &slot.to_le_bytes(), stream.as_bytes(), &revision, &format])
}

fn bound(parts: &[&[u8]]) -> Vec<u8> {
    let mut bound = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        bound.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bound.extend_from_slice(part);
    }
    bound
}
