//! What makes a device's key a brain's: a certificate for one device and one epoch.

use ed25519_dalek::{Signer, SigningKey};

use crate::key::{BrainKey, DeviceKey, Epoch, Verifier};
use crate::succession::{BrainSecret, MAX_KEYS, STEP_BYTES, Succession};

/// What the signed bytes begin with, so that nothing else that a brain signs can pass for a certificate.
const DOMAIN: &[u8] = b"cairn certificate 1\0";
/// How many bytes one has on the wire at least: brain, device, epoch, the moment and the signature. One by a later key has that key's
/// succession after it.
pub const CERTIFICATE_BYTES: usize = 32 + 32 + 16 + 8 + 64;

/// A brain's word that a device writes for it in an epoch. One that exists is sound: its signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    brain: BrainKey,
    device: DeviceKey,
    epoch: Epoch,
    made_at: u64,
    signature: [u8; 64],
    verifier: Verifier,
    /// The keys up to the one that has signed it; nothing but the brain's first where that has.
    succession: Succession,
}

/// Who writes in an epoch, and which key of the brain's has said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer {
    /// The device.
    pub device: DeviceKey,
    /// The key.
    pub key: BrainKey,
    /// How many keys of the brain's were before that one.
    pub generation: usize,
}

/// Bytes that are no certificate, or one that the brain has not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no certificate that its brain has signed")]
pub struct InvalidCertificate;

impl Certificate {
    /// Certifies a device for an epoch with a brain's first key, at a moment in milliseconds since 1970.
    pub fn make(brain: &SigningKey, device: DeviceKey, epoch: Epoch, made_at: u64) -> Self {
        BrainSecret::first(brain.clone()).certify(device, epoch, made_at)
    }

    pub(crate) fn signed_by(secret: &BrainSecret, device: DeviceKey, epoch: Epoch, made_at: u64) -> Self {
        let brain = secret.brain();
        let signature = secret.key().sign(&signed(brain, device, epoch, made_at)).to_bytes();
        let verifier = device.verifier().expect("a device's key is sound");
        let succession = match secret.succession().generation() {
            0 => Succession::first(brain),
            _ => secret.succession().clone(),
        };
        Self { brain, device, epoch, made_at, signature, verifier, succession }
    }

    /// The brain.
    pub fn brain(&self) -> BrainKey {
        self.brain
    }

    /// The device.
    pub fn device(&self) -> DeviceKey {
        self.device
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// When it was made, by the brain's clock, in milliseconds since 1970.
    pub fn made_at(&self) -> u64 {
        self.made_at
    }

    /// Who writes in the epoch.
    pub fn writer(&self) -> Writer {
        let (key, generation) = (self.succession.current(), self.succession.generation());
        Writer { device: self.device, key, generation }
    }

    /// The keys of the brain up to the one that has signed it.
    pub fn succession(&self) -> &Succession {
        &self.succession
    }

    /// Whether the device has signed these bytes.
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        self.verifier.has_signed(bytes, signature)
    }

    /// As it goes over the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (made_at, succession) = (self.made_at.to_be_bytes(), self.succession.to_bytes());
        let parts: [&[u8]; 6] =
            [self.brain.bytes(), self.device.bytes(), &self.epoch.0, &made_at, &self.signature, &succession];
        parts.concat()
    }

    /// Reads one and checks its signature.
    ///
    /// # Errors
    /// [`InvalidCertificate`].
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidCertificate> {
        if bytes.len() > CERTIFICATE_BYTES + MAX_KEYS * STEP_BYTES {
            return Err(InvalidCertificate);
        }
        let (bytes, later) = bytes.split_first_chunk::<CERTIFICATE_BYTES>().ok_or(InvalidCertificate)?;
        let (brain, rest) = bytes.split_first_chunk().expect("it is long enough");
        let (device, rest) = rest.split_first_chunk().expect("it is long enough");
        let (epoch, rest) = rest.split_first_chunk().expect("it is long enough");
        let (made_at, rest) = rest.split_first_chunk().expect("it is long enough");
        let signature = rest.try_into().expect("it is long enough");
        let brain = BrainKey::parse(*brain).ok_or(InvalidCertificate)?;
        let device = DeviceKey::named(*device);
        let verifier = device.verifier().ok_or(InvalidCertificate)?;
        let (epoch, made_at) = (Epoch(*epoch), u64::from_be_bytes(*made_at));
        let succession = Succession::parse(brain, later).map_err(|_| InvalidCertificate)?;
        // One by the first key says nothing of others.
        let is_short = succession.generation() > 0 || later.is_empty();
        match is_short && succession.current().has_signed(&signed(brain, device, epoch, made_at), &signature) {
            true => Ok(Self { brain, device, epoch, made_at, signature, verifier, succession }),
            false => Err(InvalidCertificate),
        }
    }
}

fn signed(brain: BrainKey, device: DeviceKey, epoch: Epoch, made_at: u64) -> Vec<u8> {
    [DOMAIN, brain.bytes(), device.bytes(), &epoch.0, &made_at.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_holds_as_the_brain_has_signed_it_and_no_byte_otherwise() {
        let brain = SigningKey::from_bytes(&[1; 32]);
        let device = DeviceKey::of(&SigningKey::from_bytes(&[2; 32]));
        let made = Certificate::make(&brain, device, Epoch([3; 16]), 1_790_000_000_000);
        let next = SigningKey::from_bytes(&[4; 32]);
        let prepared = Succession::first(BrainKey::of(&brain)).prepare(&brain, BrainKey::of(&next));
        let changed = prepared.and_then(|prepared| prepared.change(&next)).expect("changed");
        let later = BrainSecret::of(next, changed).expect("it signs now").certify(device, Epoch([3; 16]), 1);
        assert_eq!((made.writer().generation, later.writer().generation), (0, 1));
        assert_eq!((made.brain(), later.brain()), (BrainKey::of(&brain), BrainKey::of(&brain)));
        for made in [made, later] {
            let bytes = made.to_bytes();
            assert_eq!(Certificate::parse(&bytes), Ok(made));
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                assert_eq!(Certificate::parse(&changed), Err(InvalidCertificate), "byte {at}");
            }
            assert_eq!(Certificate::parse(&bytes[1..]), Err(InvalidCertificate));
            assert_eq!(Certificate::parse(&bytes[..bytes.len() - 1]), Err(InvalidCertificate));
        }
    }
}
