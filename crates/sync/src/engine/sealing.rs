//! Entries for relays, which keep what they may not read: payloads are sealed on their way there, and opened by readers on their way back.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use cairn_domain::clock::Hlc;

use super::{CannotSay, Engine};
use crate::chain::ChainId;
use crate::control::{Control, Decision, Role};
use crate::entry::{Entry, Lane};
use crate::key::{BrainKey, DeviceKey, SpaceId, Tag};
use crate::sealing::{MAX_KEYED_DEVICES, SpaceKey, sealed_under};

/// How often readers are told another key because one of them has one more device, in milliseconds.
const KEY_EVERY_MS: u64 = 60 * 60 * 1_000;

/// The keys of a space that this device can read.
type Keys = BTreeMap<Tag, SpaceKey>;

impl Engine {
    /// Whether readers of a space that this brain owns have to be told another key: there is a relay, and others than before may read.
    pub fn key_is_due(&self, space: SpaceId, now: u64) -> bool {
        let Some(rules) = self.replica.space(space).filter(|_| self.speaks_for(space)) else {
            return false;
        };
        let has_relay = self.members(space, now).any(|(_, role)| role == Role::Relay);
        if !has_relay {
            return false;
        }
        let Some(keyed) = rules.key() else { return true };
        let told: BTreeSet<DeviceKey> = keyed.to.iter().map(|to| to.device).collect();
        let readers = self.readers(space, now);
        // Who reads no more has to be shut out, and whom nobody told anything is waiting. One more device of somebody's can wait a while: who
        // goes on naming others must not fill the chain.
        let gone = told.iter().any(|device| !readers.contains(device));
        let is_told = |brain: BrainKey| self.devices_of(brain).iter().any(|device| told.contains(device));
        let new = self.reading(space, now).any(|brain| !is_told(brain) && !self.devices_of(brain).is_empty());
        let later = now.abs_diff(rules.keyed_at()) >= KEY_EVERY_MS;
        gone || new || later && told != readers
    }

    /// Tells the readers of a space that this brain owns another key, made of random bytes.
    ///
    /// # Errors
    /// See [`CannotSay`].
    pub fn tell_key(&self, space: SpaceId, random: [u8; 32], at: Hlc, now: u64) -> Result<Vec<Entry>, CannotSay> {
        let before = self.keys(space);
        let rules = self.replica.space(space).ok_or(CannotSay::NoSpace)?;
        let before = rules.key().and_then(|keyed| before.get(&keyed.key));
        let devices: Vec<DeviceKey> = self.readers(space, now).into_iter().collect();
        let keyed = SpaceKey::new(random).tell(space, &self.own.device, &devices, before);
        self.control(space, &Control::Keyed(keyed), at)
    }

    /// Whether this brain may read what is in a space.
    pub fn may_read(&self, space: SpaceId, now: u64) -> bool {
        let is_owner = self.replica.space(space).is_some_and(|rules| rules.owner() == self.brain());
        is_owner || self.replica.role_of(space, self.brain(), now).is_some_and(|role| role >= Role::Read)
    }

    /// Those who have a grant that holds and have not declined it, with what it lets them do.
    fn members(&self, space: SpaceId, now: u64) -> impl Iterator<Item = (BrainKey, Role)> {
        let grants = self.replica.space(space).into_iter().flat_map(|rules| rules.grants());
        let holds = grants.filter(move |(hash, grant)| {
            grant.holds(now) && self.replica.decision(space, **hash) != Some(Decision::Declined)
        });
        holds.map(|(_, grant)| (grant.to, grant.role))
    }

    /// Those who may read what is in a space.
    fn reading(&self, space: SpaceId, now: u64) -> impl Iterator<Item = BrainKey> {
        let members = self.members(space, now).filter(|(_, role)| *role >= Role::Read).map(|(brain, _)| brain);
        members.chain([self.brain()])
    }

    /// The devices of those who may read what is in a space.
    fn readers(&self, space: SpaceId, now: u64) -> BTreeSet<DeviceKey> {
        let mut readers: BTreeSet<DeviceKey> =
            self.reading(space, now).flat_map(|brain| self.devices_of(brain)).collect();
        while readers.len() > MAX_KEYED_DEVICES {
            readers.pop_last();
        }
        readers
    }

    /// The devices that write for a brain, as far as they are known here.
    fn devices_of(&self, brain: BrainKey) -> BTreeSet<DeviceKey> {
        let certified = self.certificates_of(brain).map(crate::certificate::Certificate::device);
        let known =
            certified.chain(self.peers.get(&brain).into_iter().flat_map(|peer| peer.devices.keys().copied()));
        known.filter(|device| self.is_device_of(*device, brain)).collect()
    }

    /// All keys of a space that this device can read: those it was told, and those before them.
    fn keys(&self, space: SpaceId) -> Keys {
        let mut keys = Keys::new();
        let Some(rules) = self.replica.space(space) else { return keys };
        // The newest leads to most of the others.
        for keyed in rules.key().into_iter().chain(rules.keys().values()) {
            let mut next = Some(keyed).filter(|keyed| !keys.contains_key(&keyed.key));
            let mut key = next.and_then(|keyed| keyed.open(space, &self.own.device));
            while let (Some(keyed), Some(read)) = (next, key.take()) {
                next = keyed.before.as_ref().and_then(|before| rules.keys().get(&before.key));
                key = keyed.before(&read).filter(|before| !keys.contains_key(&before.name()));
                keys.insert(keyed.key, read);
            }
        }
        keys
    }

    /// Entries as a brain may have them: as they are, or sealed. Those after the first that cannot be sealed are left out.
    pub(super) fn as_readable_for<'a>(
        &self,
        brain: BrainKey,
        chain: ChainId,
        entries: &'a [Entry],
        now: u64,
    ) -> Cow<'a, [Entry]> {
        let is_relay = || self.replica.role_of(chain.space, brain, now) == Some(Role::Relay);
        if chain.lane == Lane::Control || !is_relay() {
            return Cow::Borrowed(entries);
        }
        let keys = self.keys(chain.space);
        let key = self.replica.space(chain.space).and_then(|rules| keys.get(&rules.key()?.key));
        let sealed = entries.iter().map_while(|entry| match (entry.payload(), key) {
            // What was erased is erased there, too.
            (None, _) => Some(entry.clone()),
            (Some(_), key) => Some(entry.clone().with_sealed(Some(key?.seal(entry)?))),
        });
        Cow::Owned(sealed.collect())
    }

    /// Entries that came from a relay, opened as far as this device can.
    pub fn opened(&self, space: SpaceId, entries: Vec<Entry>) -> Vec<Entry> {
        if entries.iter().all(|entry| entry.sealed().is_none()) {
            return entries;
        }
        let keys = self.keys(space);
        let open = |entry: Entry| {
            let key = entry.sealed().and_then(|sealed| Some((keys.get(&sealed_under(sealed)?)?, sealed)));
            match key.and_then(|(key, sealed)| key.open(entry.hash(), sealed)) {
                Some(payload) => entry.clone().opened(payload).unwrap_or(entry),
                None => entry,
            }
        };
        entries.into_iter().map(open).collect()
    }
}
