//! A brain in the simulation: what it has on its disk, and the engine that is made of that.

use std::collections::{BTreeMap, BTreeSet};

use cairn_domain::clock::Hlc;
use cairn_domain::id::MemoryId;
use cairn_sync::certificate::Certificate;
use cairn_sync::chain::{ChainId, Fork, chain_of};
use cairn_sync::engine::{Engine, Identity};
use cairn_sync::entry::{Entry, Lane};
use cairn_sync::key::{BrainKey, DeviceKey, Epoch, Hash, SpaceId};
use cairn_sync::roster::Roster;
use ed25519_dalek::SigningKey;

/// What a brain has on its disk.
#[derive(Clone, Default)]
pub struct Disk {
    pub certificates: BTreeMap<(BrainKey, Epoch), Certificate>,
    pub entries: BTreeMap<(ChainId, u64), Entry>,
    pub forks: Vec<Fork>,
    pub erased: BTreeSet<MemoryId>,
    pub rosters: BTreeMap<BrainKey, Roster>,
}

impl Disk {
    pub fn keep(&mut self, entry: Entry) {
        let place = (chain_of(&entry), entry.header().number);
        let entry = if self.erased.contains(&entry.header().memory) { entry.erased() } else { entry };
        assert!(self.entries.insert(place, entry).is_none(), "an entry is kept once");
    }

    pub fn erase(&mut self, memories: impl IntoIterator<Item = MemoryId>) {
        self.erased.extend(memories);
        for entry in self.entries.values_mut().filter(|entry| self.erased.contains(&entry.header().memory)) {
            *entry = entry.clone().erased();
        }
    }
}

pub struct Node {
    pub key: SigningKey,
    pub device: SigningKey,
    pub disk: Disk,
    pub backup: Option<Disk>,
    pub engine: Engine,
    pub clock: u64,
    pub epoch_lost: bool,
    pub grants: BTreeSet<Hash>,
    /// The keys of the brain that it has.
    pub keys: Vec<BrainKey>,
}

impl Node {
    pub fn new(number: u8, brain: u8) -> Self {
        let key = SigningKey::from_bytes(&[brain + 1; 32]);
        let device = SigningKey::from_bytes(&[number + 101; 32]);
        let own = identity(&key, &device, Epoch([number; 16]), 0);
        let (mut disk, backup) = (Disk::default(), None);
        disk.certificates.insert((own.certificate.brain(), own.certificate.epoch()), own.certificate.clone());
        let mut engine = Engine::new(own);
        let grants = BTreeSet::new();
        // The owner's second device does not have the key.
        let keys = if number == brain { vec![BrainKey::of(&key)] } else { Vec::new() };
        engine.set_keys(keys.clone());
        Self { key, device, disk, backup, engine, clock: 1_000, epoch_lost: false, grants, keys }
    }

    pub fn brain(&self) -> BrainKey {
        BrainKey::of(&self.key)
    }

    pub fn device(&self) -> DeviceKey {
        DeviceKey::of(&self.device)
    }

    pub fn at(&self) -> Hlc {
        Hlc { millis: self.clock, counter: 0 }
    }

    /// Starts from what is on the disk, in an epoch.
    pub fn start(&mut self, epoch: Epoch) {
        let mut own = identity(&self.key, &self.device, epoch, self.clock);
        if let Some(made) = self.disk.certificates.get(&(self.brain(), epoch)) {
            own.certificate = made.clone();
        }
        let mut engine = Engine::new(own);
        engine.set_keys(self.keys.clone());
        self.disk.rosters.values().for_each(|roster| engine.restore_roster(roster.clone()));
        self.disk.certificates.values().for_each(|made| drop(engine.restore_certificate(made.clone())));
        let mut last: BTreeMap<ChainId, &Entry> = BTreeMap::new();
        for ((chain, _), entry) in &self.disk.entries {
            match chain.lane {
                Lane::Control => engine.restore_control(entry.clone()),
                Lane::Content => drop(last.insert(*chain, entry)),
            }
        }
        last.values().for_each(|entry| engine.restore_content(entry));
        self.disk.forks.iter().for_each(|fork| engine.restore_fork(fork));
        let erased: Vec<MemoryId> =
            engine.replica().spaces().flat_map(|space| space.erased().keys().copied()).collect();
        self.disk.erase(erased);
        self.engine = engine;
        self.epoch_lost = false;
    }

    pub fn epoch(&self) -> Epoch {
        let own = self.disk.certificates.values().filter(|made| made.device() == self.device());
        let first = Epoch([self.device.to_bytes()[0] - 101; 16]);
        own.max_by_key(|made| made.made_at()).map_or(first, Certificate::epoch)
    }

    /// Everything that is kept of a space, and what it counts for, but for entries under a grant that there is not: who came to know the space
    /// later has never heard of those.
    pub fn seen(&self, space: SpaceId) -> BTreeMap<(ChainId, u64), (Hash, String)> {
        let replica = self.engine.replica();
        let of_space = self.disk.entries.iter().filter(|((chain, _), _)| chain.space == space);
        let counted = of_space
            .filter(|((chain, number), _)| replica.chain(*chain).is_some_and(|chain| *number <= chain.complete()));
        counted
            .map(|(place, entry)| {
                (*place, (entry.hash(), format!("{:?}", replica.standing(space, entry.header()))))
            })
            .filter(|(_, (_, standing))| standing != "Held(NoGrant)")
            .collect()
    }
}

pub fn identity(key: &SigningKey, device: &SigningKey, epoch: Epoch, at: u64) -> Identity {
    let certificate = Certificate::make(key, DeviceKey::of(device), epoch, at);
    Identity { device: device.clone(), certificate, name: "A brain".into(), addresses: Vec::new() }
}
