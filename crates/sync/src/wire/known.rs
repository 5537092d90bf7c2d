//! Brains that one device of a brain tells another one about.

use std::collections::BTreeMap;

use cairn_proto::sync as proto;

use super::{InvalidFrame, MAX_NAME_BYTES, array, copy, limited, limited_addresses};
use crate::key::{BrainKey, DeviceKey};
use crate::roster::MAX_DEVICES;

/// The most addresses of a device that are told on, and the most bytes of one: so that a frame holds them all.
const MAX_TOLD_ADDRESSES: usize = 4;
const MAX_TOLD_ADDRESS_BYTES: usize = 128;

/// A brain that a device knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPeer {
    /// Which.
    pub brain: BrainKey,
    /// What its owner calls it.
    pub name: String,
    /// Its devices, and where each was last found.
    pub devices: BTreeMap<DeviceKey, Vec<String>>,
}

pub(super) fn known_peer(known: &KnownPeer) -> proto::KnownPeer {
    let devices = known.devices.iter().take(MAX_DEVICES).map(|(device, addresses)| proto::KnownDevice {
        device: copy(device.bytes()),
        addresses: addresses
            .iter()
            .filter(|address| address.len() <= MAX_TOLD_ADDRESS_BYTES)
            .take(MAX_TOLD_ADDRESSES)
            .cloned()
            .collect(),
    });
    proto::KnownPeer { brain: copy(known.brain.bytes()), name: known.name.clone(), devices: devices.collect() }
}

pub(super) fn read_known_peer(known: proto::KnownPeer) -> Result<KnownPeer, InvalidFrame> {
    limited(known.name.len(), MAX_NAME_BYTES, "bytes of a name")?;
    limited(known.devices.len(), MAX_DEVICES, "devices")?;
    let brain = BrainKey::parse(array(&known.brain, "brain")?).ok_or(InvalidFrame::Unsound("brain"))?;
    let device = |known: proto::KnownDevice| {
        limited_addresses(&known.addresses)?;
        let device = DeviceKey::parse(array(&known.device, "device")?).ok_or(InvalidFrame::Unsound("device"))?;
        Ok((device, known.addresses))
    };
    let devices = known.devices.into_iter().map(device).collect::<Result<_, InvalidFrame>>()?;
    Ok(KnownPeer { brain, name: known.name, devices })
}
