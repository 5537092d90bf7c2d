//! Several devices of one brain: who is one, who speaks for a space, and what they tell each other.

use std::collections::BTreeSet;

use super::{Effect, Engine, Input, News, Peer};
use crate::certificate::Certificate;
use crate::key::{BrainKey, DeviceKey, Epoch, Hash, SpaceId};
use crate::roster::Roster;
use crate::wire::{Frame, InvalidFrame, KnownPeer, MAX_KNOWN_PEERS};

impl Engine {
    /// Takes note of a brain's devices that are kept.
    pub fn restore_roster(&mut self, roster: Roster) {
        self.rosters.insert(roster.brain(), roster);
    }

    /// The devices of this brain, if it has ever said that there are others.
    pub fn roster(&self) -> Option<&Roster> {
        self.rosters.get(&self.brain())
    }

    /// Whether this device speaks for a space of this brain's: it began it. Others of the brain's devices wish that it says something.
    pub fn speaks_for(&self, space: SpaceId) -> bool {
        let owned = self.replica.space(space).is_some_and(|rules| rules.owner() == self.brain());
        let speaker = self.replica.speaking(space).and_then(|epoch| self.certificate(self.brain(), epoch));
        owned && speaker.is_none_or(|speaker| speaker.device() == self.own_device())
    }

    /// This device.
    pub fn own_device(&self) -> DeviceKey {
        DeviceKey::of(&self.own.device)
    }

    /// Whether a device is there.
    pub fn is_there(&self, device: DeviceKey) -> bool {
        self.sessions.get(&device).is_some_and(|session| session.brain.is_some())
    }

    /// Whether a device writes for a brain, as far as that brain has said.
    pub(super) fn is_device_of(&self, device: DeviceKey, brain: BrainKey) -> bool {
        self.rosters.get(&brain).is_none_or(|roster| roster.devices().contains(&device))
    }

    /// Says who this brain's devices are from here on, and has nothing to do any more with those that are not.
    pub fn say_roster(&mut self, roster: Roster, now: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.take_roster(roster, &mut effects);
        for device in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.tell_devices(device, &mut effects);
        }
        effects.extend(self.handle(Input::Tick, now));
        effects
    }

    /// Lets a device in that has shown the secret of an invitation to become this brain's: it has its certificate.
    pub fn let_in(&mut self, device: DeviceKey, certificate: &Certificate) -> Vec<Effect> {
        self.restore_certificate(certificate.clone());
        let certified = Frame::Certified { certificate: certificate.clone(), name: self.own.name.clone() };
        vec![Effect::Send { device, frame: certified.to_bytes() }, Effect::Close { device }]
    }

    /// Gives a device of this brain's a certificate that it asked for.
    pub fn certify(&mut self, device: DeviceKey, certificate: &Certificate) -> Effect {
        self.restore_certificate(certificate.clone());
        let certified = Frame::Certified { certificate: certificate.clone(), name: self.own.name.clone() };
        Effect::Send { device, frame: certified.to_bytes() }
    }

    /// Asks the device that has the brain's key for a certificate for another epoch; what comes is told as [`News::Certified`].
    pub fn ask_for_certificate(&self, epoch: Epoch) -> Vec<Effect> {
        let own = self.sessions.iter().filter(|(_, session)| session.brain == Some(self.brain()));
        let frame = Frame::Certify { epoch }.to_bytes();
        own.map(|(device, _)| Effect::Send { device: *device, frame: frame.clone() }).collect()
    }

    /// Tells somebody who is there about this brain's devices, and a device of its own about everybody else too.
    pub(super) fn tell_devices(&self, device: DeviceKey, effects: &mut Vec<Effect>) {
        let Some(brain) = self.sessions.get(&device).and_then(|session| session.brain) else { return };
        let own = self.brain();
        let rosters = self.rosters.values().filter(|roster| roster.brain() == own || brain == own);
        effects.extend(
            rosters.map(|roster| Effect::Send { device, frame: Frame::Roster(roster.clone()).to_bytes() }),
        );
        if brain == own {
            let known = self.peers.iter().filter(|(_, peer)| !peer.blocked).take(MAX_KNOWN_PEERS);
            let known = known.map(|(brain, peer)| KnownPeer {
                brain: *brain,
                name: peer.name.clone(),
                devices: peer.devices.clone(),
            });
            for known in known {
                effects.push(Effect::Send { device, frame: Frame::KnownPeer(known).to_bytes() });
            }
        }
    }

    pub(super) fn hear_devices(
        &mut self,
        device: DeviceKey,
        brain: BrainKey,
        frame: Frame,
        effects: &mut Vec<Effect>,
    ) -> Result<(), InvalidFrame> {
        let is_own = brain == self.brain();
        match frame {
            Frame::Roster(roster) if roster.brain() == brain || is_own => self.take_roster(roster, effects),
            Frame::KnownPeer(known) if is_own => {
                let own = self.own_device();
                let listed = |device: &DeviceKey| *device != own && self.is_device_of(*device, known.brain);
                let devices: Vec<_> = known.devices.into_iter().filter(|(device, _)| listed(device)).collect();
                let peer = self.peers.entry(known.brain).or_default();
                let before = peer.clone();
                if peer.name.is_empty() {
                    peer.name = known.name;
                }
                for (device, addresses) in devices {
                    let known = peer.devices.entry(device).or_default();
                    if known.is_empty() {
                        *known = addresses;
                    }
                }
                if *peer != before {
                    let peer = peer.clone();
                    effects.push(Effect::KeepPeer { brain: known.brain, peer, invitation: None });
                }
            }
            Frame::Certify { epoch } if is_own => {
                effects.push(Effect::Tell(News::CertificateWanted { device, epoch }));
            }
            Frame::Certified { certificate, .. } if is_own && certificate.device() == self.own_device() => {
                effects.push(Effect::Tell(News::Certified { certificate }));
            }
            // It is about somebody else.
            _ => return Err(InvalidFrame::Unsound("list of devices")),
        }
        Ok(())
    }

    fn take_roster(&mut self, roster: Roster, effects: &mut Vec<Effect>) {
        let brain = roster.brain();
        if self.rosters.get(&brain).is_some_and(|known| known.number() >= roster.number()) {
            return;
        }
        let Some(mut peer) = self.peers.get(&brain).cloned().or((brain == self.brain()).then(Peer::default))
        else {
            return;
        };
        let listed: BTreeSet<DeviceKey> = roster.devices().iter().copied().collect();
        peer.devices.retain(|device, _| listed.contains(device));
        for device in listed.iter().filter(|device| **device != self.own_device()) {
            peer.devices.entry(*device).or_default();
        }
        let gone = self
            .sessions
            .iter()
            .filter(|(device, session)| session.brain == Some(brain) && !listed.contains(device));
        let gone: Vec<DeviceKey> = gone.map(|(device, _)| *device).collect();
        effects.push(Effect::KeepRoster(roster.clone()));
        effects.push(Effect::KeepPeer { brain, peer: peer.clone(), invitation: None });
        effects.extend(gone.into_iter().map(|device| Effect::Close { device }));
        self.rosters.insert(brain, roster);
        self.peers.insert(brain, peer);
    }

    /// The epochs of a device of a brain's, with how far this brain has what it said in a space in each.
    pub(super) fn said_by(
        &self,
        space: SpaceId,
        brain: BrainKey,
        device: DeviceKey,
    ) -> Vec<crate::control::Accepted> {
        let epochs = self.certificates_of(brain).filter(|made| made.device() == device).map(Certificate::epoch);
        let reached = |epoch| {
            let id = crate::chain::ChainId { space, author: brain, epoch, lane: crate::entry::Lane::Content };
            self.replica.chain(id).map_or(0, crate::chain::Chain::complete)
        };
        epochs.map(|epoch| crate::control::Accepted { epoch, number: reached(epoch) }).collect()
    }

    /// Whether the secret of an invitation lets in a device of this brain's own.
    pub(super) fn invites_device(&self, secret: Hash) -> bool {
        self.invitations.get(&secret).is_some_and(|invitation| invitation.device)
    }
}
