//! Several devices of one brain: who is one, who speaks for a space, and what they tell each other.

use std::collections::BTreeSet;

use super::{Effect, Engine, Input, MAX_EPOCHS, News, Peer};
use crate::certificate::{Certificate, Writer};
use crate::chain::{Chain, ChainId};
use crate::control::{Accepted, MAX_ACCEPTED};
use crate::entry::Lane;
use crate::key::{BrainKey, DeviceKey, Epoch, Hash, SpaceId};
use crate::roster::{MAX_DEVICES, Roster};
use crate::wire::{Frame, InvalidFrame, KnownPeer, MAX_KNOWN_PEERS};

/// The most brains that a device learns of from another one of its brain.
const MAX_PEERS: usize = 1_024;
/// How often another brain's list of devices is taken in, in milliseconds, unless one is gone.
const ROSTER_EVERY_MS: u64 = 60_000;

impl Engine {
    /// Takes note of a brain's devices that are kept.
    pub fn restore_roster(&mut self, roster: Roster) {
        self.note_succession(roster.succession());
        self.rosters.insert(roster.brain(), roster);
    }

    /// The devices of this brain, if it has ever said that there are others.
    pub fn roster(&self) -> Option<&Roster> {
        self.rosters.get(&self.brain())
    }

    /// Whether this device speaks for a space of this brain's: it began it, or takes it over with a later key. Others of the brain's devices wish
    /// that it says something.
    pub fn speaks_for(&self, space: SpaceId) -> bool {
        let owned = self.replica.space(space).is_some_and(|rules| rules.owner() == self.brain());
        let speaker = self.replica.speaking(space).and_then(|epoch| self.certificate(self.brain(), epoch));
        let own = self.own.certificate.writer();
        owned
            && speaker.map(Certificate::writer).is_none_or(|speaker| match speaker.device == own.device {
                true => speaker.generation <= own.generation,
                false => self.has_the_key() && speaker.generation < own.generation,
            })
    }

    /// Whether this device speaks for a space, and what it has said about it in its epoch is not what others go on from: in another epoch of its own,
    /// before it was restored, it went on later by its clock, or it has taken the space over with a later key. Whatever it says about the space in this epoch
    /// counts for nothing, so that it has to begin another one.
    pub(super) fn is_passed_over(&self, space: SpaceId) -> bool {
        let (author, epoch) = (self.brain(), self.own.certificate.epoch());
        let own = self.replica.chain(ChainId { space, author, epoch, lane: Lane::Control });
        let has_spoken = own.is_some_and(|own| own.number() > 0);
        has_spoken && self.replica.speaking(space) != Some(epoch) && self.speaks_for(space)
    }

    /// Has another epoch begun where that is due.
    pub(super) fn find_passed_over(&mut self, effects: &mut Vec<Effect>) {
        if !self.epoch_lost && self.replica.spaces().any(|space| self.is_passed_over(space.id())) {
            self.lose_epoch(effects);
        }
    }

    /// This device.
    pub fn own_device(&self) -> DeviceKey {
        DeviceKey::of(&self.own.device)
    }

    /// Whether this device has made a chain.
    pub fn is_by_this_device(&self, chain: ChainId) -> bool {
        let maker = self.certificate(chain.author, chain.epoch).map(Certificate::device);
        maker == Some(self.own_device())
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
        self.take_roster(roster, now, &mut effects);
        for device in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.tell_devices(device, &mut effects);
        }
        effects.extend(self.handle(Input::Tick, now));
        effects
    }

    /// Whether a device of this brain's may have a certificate for an epoch: it is one, the epoch is no other device's, and it has not had
    /// too many.
    pub fn may_certify(&self, device: DeviceKey, epoch: Epoch) -> bool {
        let of_device = self.certificates_of(self.brain()).filter(|made| made.device() == device).count();
        let known = self.certificate(self.brain(), epoch);
        known.is_none_or(|known| known.device() == device) && of_device < MAX_EPOCHS / 2
    }

    /// Gives a device a certificate: one that it asked for, or that it was invited to. With its first, it comes again as this brain's.
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

    /// Tells somebody who is there about this brain's devices and their own, and a device of this brain about everybody else too.
    pub(super) fn tell_devices(&self, device: DeviceKey, effects: &mut Vec<Effect>) {
        let Some(brain) = self.sessions.get(&device).and_then(|session| session.brain) else { return };
        let own = self.brain();
        let mut frames = Vec::new();
        if brain == own {
            let known = self.peers.iter().filter(|(_, peer)| !peer.blocked).take(MAX_PEERS);
            let known: Vec<KnownPeer> = known
                .map(|(brain, peer)| KnownPeer {
                    brain: *brain,
                    name: peer.name.clone(),
                    devices: peer.devices.clone(),
                })
                .collect();
            frames.extend(known.chunks(MAX_KNOWN_PEERS).map(|part| Frame::KnownPeers(part.to_vec())));
        }
        // A brain that was restored learns its own from others.
        let rosters = self.rosters.values().filter(|roster| {
            brain == own || [own, brain].contains(&roster.brain()) || self.is_news_for(roster, brain)
        });
        frames.extend(rosters.cloned().map(Frame::Roster));
        effects.extend(frames.iter().map(|frame| Effect::Send { device, frame: frame.to_bytes() }));
    }

    pub(super) fn hear_devices(
        &mut self,
        device: DeviceKey,
        brain: BrainKey,
        frame: Frame,
        now: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), InvalidFrame> {
        let is_own = brain == self.brain();
        match frame {
            Frame::Roster(roster) => {
                // Of others it is no news any more, where the owner's word has come since.
                if is_own || [brain, self.brain()].contains(&roster.brain()) || self.is_news_for(&roster, brain) {
                    self.take_roster(roster, now, effects);
                }
            }
            Frame::KnownPeers(known) if is_own => {
                known.into_iter().for_each(|known| self.take_known(known, effects));
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

    /// Takes note of a brain that another device of this one knows.
    fn take_known(&mut self, known: KnownPeer, effects: &mut Vec<Effect>) {
        let own = self.own_device();
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&known.brain) {
            return;
        }
        let listed = |device: &DeviceKey| *device != own && self.is_device_of(*device, known.brain);
        let devices: Vec<_> = known.devices.into_iter().filter(|(device, _)| listed(device)).collect();
        let peer = self.peers.entry(known.brain).or_default();
        let before = peer.clone();
        if peer.name.is_empty() {
            peer.name = known.name;
        }
        for (device, addresses) in devices {
            if peer.devices.len() < MAX_DEVICES || peer.devices.contains_key(&device) {
                let known = peer.devices.entry(device).or_default();
                if known.is_empty() {
                    *known = addresses;
                }
            }
        }
        if *peer != before {
            let peer = peer.clone();
            effects.push(Effect::KeepPeer { brain: known.brain, peer, invitation: None });
        }
    }

    /// Does what kept rosters say about peers that are kept: the node may have stopped between the two.
    pub fn heed_rosters(&mut self) {
        for roster in self.rosters.clone().into_values() {
            if let Some(peer) = self.as_listed(&roster) {
                self.peers.insert(roster.brain(), peer);
            }
        }
    }

    /// A peer with the devices that its brain has listed; none where it is not known.
    fn as_listed(&self, roster: &Roster) -> Option<Peer> {
        let brain = roster.brain();
        let mut peer = self.peers.get(&brain).cloned().or((brain == self.brain()).then(Peer::default))?;
        let listed: BTreeSet<DeviceKey> = roster.devices().iter().copied().collect();
        peer.devices.retain(|device, _| listed.contains(device));
        for device in listed.into_iter().filter(|device| *device != self.own_device()) {
            peer.devices.entry(device).or_default();
        }
        Some(peer)
    }

    fn take_roster(&mut self, roster: Roster, now: u64, effects: &mut Vec<Effect>) {
        let brain = roster.brain();
        let known = self.rosters.get(&brain);
        if self.contradicts(roster.succession()) {
            effects.push(Effect::Tell(News::OtherKey(brain)));
            return;
        }
        if known.is_some_and(|known| !roster.holds_before(known)) {
            return;
        }
        if roster.succession().generation() > self.succession(brain).generation() {
            effects.push(Effect::Tell(News::KeyChanged(brain)));
        }
        // Who says so again and again fills no log with it; that one is gone, or that there is another key, is heard at once.
        let went = known.is_some_and(|known| {
            let gone = known.devices().iter().any(|device| !roster.devices().contains(device));
            gone || known.succession() != roster.succession()
        });
        let soon = self.rosters_at.get(&brain).is_some_and(|at| now.abs_diff(*at) < ROSTER_EVERY_MS);
        if soon && !went && brain != self.brain() {
            return;
        }
        let peer = self.as_listed(&roster);
        if peer.is_none() && !self.shares_with(brain) {
            return;
        }
        effects.push(Effect::KeepRoster(roster.clone()));
        for (device, session) in &mut self.sessions {
            if session.brain == Some(brain) && !roster.devices().contains(device) {
                // Nothing that it has sent by now is heard any more.
                session.brain = None;
                effects.push(Effect::Close { device: *device });
            }
        }
        self.rosters_at.insert(brain, now);
        self.note_succession(roster.succession());
        self.rosters.insert(brain, roster);
        if let Some(peer) = peer {
            self.peers.insert(brain, peer.clone());
            effects.push(Effect::KeepPeer { brain, peer, invitation: None });
        }
    }

    /// Devices of this brain's that write no more by its own word, and of which that was not said yet in a space that it has a part in.
    pub fn to_be_retired(&self) -> Vec<(SpaceId, DeviceKey)> {
        let Some(roster) = self.roster() else { return Vec::new() };
        let gone: BTreeSet<DeviceKey> = self
            .certificates_of(self.brain())
            .map(Certificate::device)
            .filter(|device| !roster.devices().contains(device))
            .collect();
        let spaces = self.replica.spaces().filter(|space| self.is_member(space.id(), self.brain()));
        let of = |space: &crate::space::Space| {
            let open = gone.iter().filter(|device| !space.has_retired(self.brain(), **device));
            open.map(|device| (space.id(), *device)).collect::<Vec<_>>()
        };
        spaces.flat_map(of).collect()
    }

    /// The epochs of some writers of a brain's, with how far this brain has what it said in a space in each, in one lane.
    pub(super) fn said_by(
        &self,
        space: SpaceId,
        brain: BrainKey,
        wrote: impl Fn(Writer) -> bool,
        lane: Lane,
    ) -> Vec<Accepted> {
        let epochs = self.certificates_of(brain).filter(|made| wrote(made.writer())).map(Certificate::epoch);
        let reached =
            |epoch| self.replica.chain(ChainId { space, author: brain, epoch, lane }).map_or(0, Chain::complete);
        let said = epochs.map(|epoch| Accepted { epoch, number: reached(epoch) });
        said.filter(|said| said.number > 0).take(MAX_ACCEPTED).collect()
    }

    /// Whether the secret of an invitation lets in a device of this brain's own.
    pub(super) fn invites_device(&self, secret: Hash) -> bool {
        self.invitations.get(&secret).is_some_and(|invitation| invitation.device)
    }
}
