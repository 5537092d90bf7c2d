//! What makes a device's key a brain's: a certificate for one device and one epoch.

use ed25519_dalek::{Signer, SigningKey};

use crate::key::{BrainKey, DeviceKey, Epoch, Verifier};

/// What the signed bytes begin with, so that nothing else that a brain signs can pass for a certificate.
const DOMAIN: &[u8] = b"cairn certificate 1\0";
/// How many bytes one has on the wire: brain, device, epoch, the moment and the signature.
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
}

/// Bytes that are no certificate, or one that the brain has not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no certificate that its brain has signed")]
pub struct InvalidCertificate;

impl Certificate {
    /// Certifies a device for an epoch, at a moment in milliseconds since 1970.
    pub fn make(brain: &SigningKey, device: DeviceKey, epoch: Epoch, made_at: u64) -> Self {
        let name = BrainKey::of(brain);
        let signature = brain.sign(&signed(name, device, epoch, made_at)).to_bytes();
        let verifier = device.verifier().expect("a secret key's public one is sound");
        Self { brain: name, device, epoch, made_at, signature, verifier }
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

    /// Whether the device has signed these bytes.
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        self.verifier.has_signed(bytes, signature)
    }

    /// As it goes over the wire.
    pub fn to_bytes(&self) -> [u8; CERTIFICATE_BYTES] {
        let parts: [&[u8]; 5] =
            [self.brain.bytes(), self.device.bytes(), &self.epoch.0, &self.made_at.to_be_bytes(), &self.signature];
        parts.concat().try_into().expect("the parts add up")
    }

    /// Reads one and checks its signature.
    ///
    /// # Errors
    /// [`InvalidCertificate`].
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidCertificate> {
        let bytes: &[u8; CERTIFICATE_BYTES] = bytes.try_into().map_err(|_| InvalidCertificate)?;
        let (brain, rest) = bytes.split_first_chunk().expect("it is long enough");
        let (device, rest) = rest.split_first_chunk().expect("it is long enough");
        let (epoch, rest) = rest.split_first_chunk().expect("it is long enough");
        let (made_at, rest) = rest.split_first_chunk().expect("it is long enough");
        let signature = rest.try_into().expect("it is long enough");
        let brain = BrainKey::parse(*brain).ok_or(InvalidCertificate)?;
        let device = DeviceKey::named(*device);
        let verifier = device.verifier().ok_or(InvalidCertificate)?;
        let (epoch, made_at) = (Epoch(*epoch), u64::from_be_bytes(*made_at));
        match brain.has_signed(&signed(brain, device, epoch, made_at), &signature) {
            true => Ok(Self { brain, device, epoch, made_at, signature, verifier }),
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
        let bytes = made.to_bytes();
        assert_eq!(Certificate::parse(&bytes), Ok(made));
        for at in 0..bytes.len() {
            let mut changed = bytes;
            changed[at] ^= 1;
            assert_eq!(Certificate::parse(&changed), Err(InvalidCertificate), "byte {at}");
        }
        assert_eq!(Certificate::parse(&bytes[1..]), Err(InvalidCertificate));
    }
}
