//! What somebody has kept, signed.

use cairn_proto::sync as proto;
use ed25519_dalek::{Signer, SigningKey};
use prost::Message;

use super::{Head, InvalidFrame, array, copy, packed, space, unpacked};
use crate::key::{DeviceKey, SpaceId, Tag};

/// What a receipt's signed bytes begin with.
const RECEIPT_DOMAIN: &[u8] = b"cairn receipt 1\0";

/// What somebody has kept of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The space.
    pub space: SpaceId,
    /// How far.
    pub heads: Vec<Head>,
    /// When, by the receiver's clock, in milliseconds since 1970.
    pub at: u64,
    /// The receiving device's signature over all of that.
    pub signature: [u8; 64],
}

impl Receipt {
    /// Signs one.
    pub fn sign(space: SpaceId, heads: Vec<Head>, at: u64, device: &SigningKey) -> Self {
        let signature = device.sign(&signed(space, &heads, at)).to_bytes();
        Self { space, heads, at, signature }
    }

    /// How far somebody has a chain, by this.
    pub fn reached(&self, chain: Tag) -> Option<u64> {
        self.heads.iter().find(|head| head.chain == chain).map(|head| head.number)
    }

    /// Whether a device has signed it.
    pub fn is_of(&self, device: DeviceKey) -> bool {
        device.has_signed(&signed(self.space, &self.heads, self.at), &self.signature)
    }

    /// As it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        receipt(self).encode_to_vec()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// See [`InvalidFrame`].
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidFrame> {
        read_receipt(proto::Receipt::decode(bytes).map_err(|_| InvalidFrame::Malformed)?)
    }
}

fn signed(space: SpaceId, heads: &[Head], at: u64) -> Vec<u8> {
    [RECEIPT_DOMAIN, space.bytes(), &at.to_be_bytes(), &packed(heads)].concat()
}

pub(super) fn receipt(receipt: &Receipt) -> proto::Receipt {
    proto::Receipt {
        space: copy(receipt.space.bytes()),
        chains: packed(&receipt.heads).into(),
        at: receipt.at,
        signature: copy(&receipt.signature),
    }
}

pub(super) fn read_receipt(receipt: proto::Receipt) -> Result<Receipt, InvalidFrame> {
    let signature = array(&receipt.signature, "signature")?;
    Ok(Receipt { space: space(&receipt.space)?, heads: unpacked(&receipt.chains)?, at: receipt.at, signature })
}
