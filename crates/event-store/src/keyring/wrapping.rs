//! How keys are encrypted where they are kept.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::RawKey;
use crate::port::StoreError;
use crate::sqlite::failure::unavailable;

const NONCE_BYTES: usize = 24;
/// What the probe is encrypted for, in place of a slot's number.
pub(super) const PROBE: &[u8] = b"probe";

/// The key that encrypts all others.
pub(super) struct Wrapping(XChaCha20Poly1305);

impl Wrapping {
    pub(super) fn new(key: &RawKey) -> Self {
        Self(XChaCha20Poly1305::new((&**key).into()))
    }

    pub(super) fn wrap(&self, purpose: &[u8], key: &[u8; 32]) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; NONCE_BYTES];
        random(&mut nonce)?;
        let payload = Payload { msg: key, aad: purpose };
        let encrypted = self.0.encrypt(XNonce::from_slice(&nonce), payload).expect("32 bytes are not too long");
        Ok([&nonce[..], &encrypted].concat())
    }

    pub(super) fn unwrap(&self, purpose: &[u8], wrapped: &[u8]) -> Option<RawKey> {
        let (nonce, encrypted) = wrapped.split_at_checked(NONCE_BYTES)?;
        let payload = Payload { msg: encrypted, aad: purpose };
        let key = Zeroizing::new(self.0.decrypt(XNonce::from_slice(nonce), payload).ok()?);
        Some(Zeroizing::new(key.as_slice().try_into().ok()?))
    }

    /// A fresh key for a slot, and how it is kept.
    pub(super) fn make(&self, slot: u32) -> Result<(RawKey, Vec<u8>), StoreError> {
        let mut key = Zeroizing::new([0; 32]);
        random(&mut key[..])?;
        let wrapped = self.wrap(&slot.to_le_bytes(), &key)?;
        Ok((key, wrapped))
    }
}

/// Fills with random bytes of the operating system.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), StoreError> {
    getrandom::fill(bytes).map_err(|error| unavailable(format!("the system has no random bytes ({error})")))
}
