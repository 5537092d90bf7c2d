//! Several devices of one brain. The one that has the brain's key lets others in, gives them certificates, and says when one writes no more.

use std::collections::{BTreeMap, VecDeque};

use cairn_sync::certificate::Certificate;
use cairn_sync::control::Control;
use cairn_sync::engine::{Effect, Engine, Identity, Input, Peer};
use cairn_sync::key::{BrainKey, DeviceKey, Epoch, Hash, SpaceId};
use cairn_sync::roster::Roster;
use tracing::{info, warn};

use super::{Service, now, random};
use crate::error::SharingError;
use crate::keeper::Keeper;

impl Service {
    /// Whether this device has the key of the brain that it writes for.
    pub(super) fn has_the_key(&self) -> bool {
        BrainKey::of(&self.config.brain) == self.engine.brain()
    }

    /// A certificate of the brain's for a device and an epoch; none where this device does not have the brain's key.
    fn certificate(&self, device: DeviceKey, epoch: Epoch) -> Option<Certificate> {
        self.has_the_key().then(|| Certificate::make(&self.config.brain, device, epoch, now()))
    }

    /// The brain's devices with some more, or some less, as they are said from here on.
    fn roster(&self, change: impl FnOnce(&mut Vec<DeviceKey>)) -> Roster {
        let known = self.engine.roster();
        let mut devices = known.map_or_else(|| vec![self.engine.own_device()], |known| known.devices().to_vec());
        change(&mut devices);
        Roster::sign(&self.config.brain, known.map_or(1, |known| known.number() + 1), devices)
    }

    /// Lets a device in that has shown the secret of an invitation.
    pub(super) async fn let_in(
        &mut self,
        device: DeviceKey,
        epoch: Epoch,
        invitation: Hash,
    ) -> Result<(), SharingError> {
        let Some(certificate) = self.certificate(device, epoch) else { return Ok(()) };
        let roster = self.roster(|devices| devices.push(device));
        self.keeper.keep_roster(&roster, Some(invitation)).await?;
        info!(%device, "another device is one of this brain's");
        let mut effects = self.engine.let_in(device, &certificate);
        effects.extend(self.engine.say_roster(roster, now()));
        Box::pin(self.carry_out(effects, &mut VecDeque::new())).await
    }

    /// Gives a device of this brain's a certificate for another epoch.
    pub(super) fn certify(&mut self, device: DeviceKey, epoch: Epoch) {
        if let Some(certificate) = self.certificate(device, epoch)
            && let Effect::Send { device, frame } = self.engine.certify(device, &certificate)
        {
            self.transport.send(device, frame);
        }
    }

    /// Asks the device that has the brain's key for a certificate; until it has come, nothing is said in spaces.
    pub(super) fn ask_for_certificate(&mut self) -> Result<(), SharingError> {
        let epoch = match self.wanted {
            Some(epoch) => epoch,
            None => *self.wanted.insert(Epoch(random()?)),
        };
        for effect in self.engine.ask_for_certificate(epoch) {
            if let Effect::Send { device, frame } = effect {
                self.transport.send(device, frame);
            }
        }
        Ok(())
    }

    /// Goes on in the epoch that this device has asked for.
    pub(super) async fn certified(&mut self, certificate: Certificate) -> Result<Vec<Input>, SharingError> {
        if self.wanted != Some(certificate.epoch()) || certificate.brain() != self.engine.brain() {
            return Ok(Vec::new());
        }
        self.wanted = None;
        self.keeper.keep_epoch(&certificate).await?;
        self.go_on_in(certificate).await
    }

    /// Writes for another brain from here on. This device has shared nothing before.
    pub(super) async fn join(
        &mut self,
        certificate: Certificate,
        name: String,
        by: (DeviceKey, Vec<String>),
    ) -> Result<(), SharingError> {
        let (brain, (device, addresses)) = (certificate.brain(), by);
        if !self.shares_nothing() {
            warn!(%brain, "this node shares something by now; it does not become a device of another brain");
            return Ok(());
        }
        self.keeper.keep_epoch(&certificate).await?;
        let peer = Peer { name, devices: BTreeMap::from([(device, addresses)]), blocked: false };
        self.keeper.keep_peer(brain, &peer, None).await?;
        info!(%brain, "this node is a device of that brain from here on");
        self.transport.close(device);
        let handler = std::sync::Arc::clone(&self.keeper.handler);
        let name = peer.name;
        let identity = Identity {
            device: self.config.device.clone(),
            certificate,
            name,
            addresses: self.transport.addresses(),
        };
        self.keeper = Keeper::new(handler, brain);
        self.engine = Engine::new(identity);
        self.engine.set_quota(self.config.bytes_a_day);
        self.selections = self.keeper.restore(&mut self.engine).await?;
        self.brain.send_replace(brain);
        Ok(())
    }

    /// Whether this node knows no other brain and no space.
    pub(super) fn shares_nothing(&self) -> bool {
        self.engine.peers().is_empty() && self.engine.replica().spaces().next().is_none()
    }

    /// Has a device of this brain's write no more, anywhere.
    pub(super) async fn remove_device(&mut self, device: DeviceKey) -> Result<(), SharingError> {
        if !self.has_the_key() {
            return Err(SharingError::NotTheKey);
        }
        let listed = self.engine.roster().is_some_and(|roster| roster.devices().contains(&device));
        if !listed || device == self.engine.own_device() {
            return Err(SharingError::NoDevice(device));
        }
        let roster = self.roster(|devices| devices.retain(|listed| *listed != device));
        self.keeper.keep_roster(&roster, None).await?;
        let effects = self.engine.say_roster(roster, now());
        self.carry_out(effects, &mut VecDeque::new()).await?;
        let brain = self.engine.brain();
        let spaces: Vec<SpaceId> = self.engine.replica().spaces().map(cairn_sync::space::Space::id).collect();
        for space in spaces {
            let retired = Control::Retired { brain, device, accepted: Vec::new() };
            let said = |this: &Self| Ok(this.engine.retire(space, brain, device, this.keeper.stamp().hlc)?);
            match self.say_or_wish(space, &retired, said).await {
                Ok(_) => {}
                // It has no part in that space any more.
                Err(SharingError::CannotSay(why)) => {
                    warn!(%space, %why, "it cannot be said that a device writes no more")
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
