//! Several devices of one brain. The one that has the brain's key lets others in, gives them certificates, and says when one writes no more.

use std::collections::{BTreeMap, VecDeque};

use cairn_sync::certificate::Certificate;
use cairn_sync::control::Control;
use cairn_sync::engine::{Effect, Engine, Identity, Input, Peer};
use cairn_sync::key::{BrainKey, DeviceKey, Epoch, Hash};
use cairn_sync::roster::{MAX_DEVICES, Roster};
use cairn_sync::succession::BrainSecret;
use tracing::{info, warn};

use super::{Service, now, random};
use crate::error::SharingError;
use crate::keeper::Keeper;

impl Service {
    /// A certificate of the brain's for a device and an epoch; none where this device does not have the brain's key.
    fn certificate(&self, device: DeviceKey, epoch: Epoch) -> Option<Certificate> {
        self.secret().map(|secret| secret.certify(device, epoch, now()))
    }

    /// The brain's devices with some more, or some less, as they are said from here on. Their number goes on from the clock, so that a
    /// brain that was restored does not say an old one again.
    pub(super) fn roster(&self, secret: &BrainSecret, change: impl FnOnce(&mut Vec<DeviceKey>)) -> Roster {
        let known = self.engine.roster();
        let mut devices = known.map_or_else(|| vec![self.engine.own_device()], |known| known.devices().to_vec());
        change(&mut devices);
        secret.list(known.map_or(1, |known| known.number() + 1).max(now()), devices)
    }

    /// Keeps, and tells everybody, which the brain's devices are from here on.
    pub(super) async fn list(
        &mut self,
        secret: &BrainSecret,
        change: impl FnOnce(&mut Vec<DeviceKey>),
    ) -> Result<(), SharingError> {
        let roster = self.roster(secret, change);
        self.keeper.keep_roster(&roster, None, None).await?;
        let effects = self.engine.say_roster(roster, now());
        self.carry_out(effects, &mut VecDeque::new()).await
    }

    /// Lets a device in that has shown the secret of an invitation.
    pub(super) async fn let_in(
        &mut self,
        device: DeviceKey,
        epoch: Epoch,
        invitation: Hash,
    ) -> Result<(), SharingError> {
        let full = self.engine.roster().is_some_and(|roster| roster.devices().len() >= MAX_DEVICES);
        let certificate =
            self.certificate(device, epoch).filter(|_| self.engine.may_certify(device, epoch) && !full);
        let Some((certificate, secret)) = certificate.zip(self.secret()) else {
            warn!(%device, "a device is not let in: it has had too many certificates, or there are too many devices");
            return Ok(());
        };
        let roster = self.roster(&secret, |devices| devices.push(device));
        self.keeper.keep_roster(&roster, Some(&certificate), Some(invitation)).await?;
        info!(%device, "another device is one of this brain's");
        let mut effects = vec![self.engine.certify(device, &certificate)];
        effects.extend(self.engine.say_roster(roster, now()));
        Box::pin(self.carry_out(effects, &mut VecDeque::new())).await
    }

    /// Gives a device of this brain's a certificate for another epoch.
    pub(super) async fn certify(&mut self, device: DeviceKey, epoch: Epoch) -> Result<(), SharingError> {
        let Some(roster) = self.engine.roster().filter(|roster| roster.devices().contains(&device)) else {
            return Ok(());
        };
        let Some(certificate) = self.certificate(device, epoch).filter(|_| self.engine.may_certify(device, epoch))
        else {
            warn!(%device, "a device of this brain gets no certificate: it has had too many, or the epoch is another's");
            return Ok(());
        };
        self.keeper.keep_roster(roster, Some(&certificate), None).await?;
        let effect = self.engine.certify(device, &certificate);
        Box::pin(self.carry_out(vec![effect], &mut VecDeque::new())).await
    }

    /// Says nothing more in spaces before there is a certificate for another epoch, and asks for it.
    pub(super) async fn want_epoch(&mut self) -> Result<(), SharingError> {
        self.engine.give_up_epoch();
        let epoch = match self.wanted {
            Some(epoch) => epoch,
            None => {
                let epoch = Epoch(random()?);
                self.keeper.keep_wanted(epoch).await?;
                *self.wanted.insert(epoch)
            }
        };
        self.ask_for_certificate(epoch);
        Ok(())
    }

    /// Asks the device that has the brain's key for a certificate.
    pub(super) fn ask_for_certificate(&self, epoch: Epoch) {
        for effect in self.engine.ask_for_certificate(epoch) {
            if let Effect::Send { device, frame } = effect {
                self.transport.send(device, frame);
            }
        }
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
        let peer = Peer { name, devices: BTreeMap::from([(device, addresses)]), blocked: false };
        self.keeper.keep_joined(&certificate, &peer).await?;
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
        self.engine.set_keys(self.secrets.iter().map(BrainKey::of).collect());
        self.selections = self.keeper.restore(&mut self.engine).await?;
        self.choose_on().await?;
        self.brain.send_replace(brain);
        Ok(())
    }

    /// Whether this node knows no other brain and no space.
    pub(super) fn shares_nothing(&self) -> bool {
        self.engine.peers().is_empty() && self.engine.replica().spaces().next().is_none()
    }

    /// Has a device of this brain's write no more, anywhere.
    pub(super) async fn remove_device(&mut self, device: DeviceKey) -> Result<(), SharingError> {
        let secret = self.secret().ok_or(SharingError::NotTheKey)?;
        let listed = self.engine.roster().is_some_and(|roster| roster.devices().contains(&device));
        if !listed || device == self.engine.own_device() {
            return Err(SharingError::NoDevice(device));
        }
        self.list(&secret, |devices| devices.retain(|listed| *listed != device)).await?;
        self.retire().await
    }

    /// Says in all spaces which devices of this brain write no more, or has their owners say so, as far as that was not done yet.
    pub(super) async fn retire(&mut self) -> Result<(), SharingError> {
        if !self.engine.has_the_key() {
            return Ok(());
        }
        let brain = self.engine.brain();
        for (space, device) in self.engine.to_be_retired() {
            if !self.asked.insert((space, device)) {
                continue;
            }
            let retired = Control::Retired { brain, device, accepted: Vec::new(), decided: Vec::new() };
            let said = |this: &Self| Ok(this.engine.retire(space, brain, device, this.keeper.stamp().hlc)?);
            match self.say_or_wish(space, &retired, said).await {
                Ok(_) => {}
                // It has no part in that space any more, or cannot speak now; it is tried again after a start.
                Err(SharingError::CannotSay(why)) => {
                    warn!(%space, %device, %why, "it cannot be said that a device writes no more");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
