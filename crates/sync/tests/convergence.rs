//! Brains that hear of entries in any order, twice, or only later, come to hold the same; and who says two things at once is proven to have.
//!
//! Every run follows from its seed, which a failure names; `TEST_CAIRN_SEED` runs one alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use cairn_domain::clock::Hlc;
use cairn_domain::id::MemoryId;
use cairn_domain::truth::Truth;
use cairn_sync::chain::{Chain, ChainId, chain_of};
use cairn_sync::control::{Accepted, Control, Role};
use cairn_sync::entry::{Entry, EntryKind, Header, Lane};
use cairn_sync::key::{BrainKey, Epoch, Hash, SpaceId};
use cairn_sync::replica::{Effect, Replica};
use cairn_sync::space::Standing;
use ed25519_dalek::SigningKey;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

const SEEDS: u64 = 400;

/// A brain with what it keeps.
struct Brain {
    key: SigningKey,
    epoch: Epoch,
    clock: u64,
    replica: Replica,
    kept: BTreeMap<(ChainId, u64), Entry>,
}

impl Brain {
    fn new(number: u8) -> Self {
        Self {
            key: SigningKey::from_bytes(&[number + 1; 32]),
            epoch: Epoch([number; 16]),
            clock: 0,
            replica: Replica::default(),
            kept: BTreeMap::new(),
        }
    }

    fn name(&self) -> BrainKey {
        BrainKey::of(&self.key)
    }

    /// Takes an entry, and does all that follows from it. Gives the proofs that others must see.
    fn receive(&mut self, entry: Entry) -> Vec<Entry> {
        let mut proofs = Vec::new();
        let mut effects = VecDeque::from(self.replica.receive(entry));
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Keep(entry) => {
                    let place = (chain_of(&entry), entry.header().number);
                    assert!(self.kept.insert(place, entry).is_none(), "an entry is kept once");
                }
                Effect::Compare(other) => {
                    let kept = self.kept[&(chain_of(&other), other.header().number)].clone();
                    effects.extend(self.replica.compared(&kept, &other));
                }
                Effect::Forked(fork) => {
                    assert!(fork.is_proof());
                    proofs.extend([*fork.known, *fork.other]);
                }
                // Whatever is missing comes when the brains meet.
                Effect::Ask { .. } | Effect::SpaceChanged(_) => {}
            }
        }
        proofs
    }

    /// Signs the entries of one publication.
    fn publish(&mut self, space: Option<SpaceId>, grant: Hash, parts: &[(EntryKind, Vec<u8>)]) -> Vec<Entry> {
        let lane = parts[0].0.lane();
        let id = space.map(|space| ChainId { space, author: self.name(), epoch: self.epoch, lane });
        let chain = id.and_then(|id| self.replica.chain(id));
        let (mut number, mut previous) = chain.map_or((0, Hash::NONE), |chain| (chain.number(), chain.hash()));
        let last = parts.len() - 1;
        let mut entries = Vec::new();
        for (at, (kind, payload)) in parts.iter().enumerate() {
            number += 1;
            let header = Header {
                space,
                author: self.name(),
                epoch: self.epoch,
                number,
                previous,
                grant,
                at: Hlc { millis: self.clock, counter: 0 },
                truth: Truth::User,
                kind: *kind,
                memory: MemoryId::new(Uuid::nil()),
                preceding: u16::try_from(at).expect("few"),
                following: u16::try_from(last - at).expect("few"),
                payload_bytes: 0,
                payload: Hash::NONE,
            };
            let entry = Entry::sign(header, Bytes::from(payload.clone()), &self.key).expect("small");
            previous = entry.hash();
            entries.push(entry);
        }
        entries
    }

    /// Everything that a reader sees of a space, and what it counts for.
    fn seen(&self, space: SpaceId) -> BTreeMap<(ChainId, u64), (Hash, String)> {
        let rules = self.replica.space(space);
        let mut seen = BTreeMap::new();
        for chain in self.replica.chains(space) {
            for (place, entry) in self.kept.range((chain.id(), 0)..=(chain.id(), chain.complete())) {
                let standing = rules.map(|rules| rules.standing(entry.header(), None));
                seen.insert(*place, (entry.hash(), format!("{standing:?}")));
            }
        }
        seen
    }
}

/// Some brains, and what is on its way between them.
struct World {
    random: StdRng,
    brains: Vec<Brain>,
    space: SpaceId,
    grants: BTreeMap<usize, Hash>,
    /// What the owner has said last about the space.
    control: Hash,
    /// For whom.
    letters: Vec<(usize, Entry)>,
    /// Whether the last brain has said two things at once.
    forked: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let count = random.random_range(2..=6);
        let mut brains: Vec<Brain> = (0..count).map(Brain::new).collect();
        let created = Control::SpaceCreated { name: "Garden".into() }.to_bytes();
        let first = brains[0].publish(None, Hash::NONE, &[(EntryKind::Control, created)]);
        let mut world = Self {
            random,
            space: first[0].space(),
            brains,
            grants: BTreeMap::new(),
            control: first[0].hash(),
            letters: Vec::new(),
            forked: false,
        };
        world.say(0, first);
        world
    }

    /// A brain has said something: it keeps it, and some hear of it now, some twice.
    fn say(&mut self, who: usize, entries: Vec<Entry>) {
        for entry in entries {
            self.brains[who].receive(entry.clone());
            self.send(who, &entry);
        }
    }

    fn send(&mut self, from: usize, entry: &Entry) {
        for to in (0..self.brains.len()).filter(|to| *to != from) {
            for _ in 0..[0, 1, 1, 2][self.random.random_range(0..4)] {
                self.letters.push((to, entry.clone()));
            }
        }
    }

    fn step(&mut self) {
        let who = self.random.random_range(0..self.brains.len());
        self.brains[who].clock += self.random.random_range(0..50);
        match self.random.random_range(0..20) {
            0..8 => self.hear(),
            8..14 => self.write(who),
            14..16 => self.offer(),
            16 => self.revoke(),
            17 => self.begin_epoch(who),
            18 => self.meet(),
            _ => self.fork(),
        }
    }

    /// Something that is on its way arrives, whichever.
    fn hear(&mut self) {
        if self.letters.is_empty() {
            return;
        }
        let (to, entry) = self.letters.swap_remove(self.random.random_range(0..self.letters.len()));
        for proof in self.brains[to].receive(entry) {
            self.send(to, &proof);
        }
    }

    fn write(&mut self, who: usize) {
        let grant = self.grants.get(&who).copied().unwrap_or(Hash::NONE);
        let parts: Vec<_> = (0..self.random.random_range(1..4))
            .map(|_| (EntryKind::Claim, self.random.random::<[u8; 8]>().to_vec()))
            .collect();
        // A brain that has forked its chain cannot go on with it, but in another epoch.
        let entries = self.brains[who].publish(Some(self.space), grant, &parts);
        self.say(who, entries);
    }

    /// As a device does that was restored. The owner says where the space goes on.
    fn begin_epoch(&mut self, who: usize) {
        self.brains[who].epoch = Epoch(self.random.random());
        if who == 0 {
            self.control(&Control::Resumed { after: self.control });
        }
    }

    fn control(&mut self, control: &Control) -> Hash {
        let entries =
            self.brains[0].publish(Some(self.space), Hash::NONE, &[(EntryKind::Control, control.to_bytes())]);
        self.control = entries[0].hash();
        self.say(0, entries);
        self.control
    }

    fn offer(&mut self) {
        let to = self.random.random_range(0..self.brains.len());
        let role = *[Role::Read, Role::Suggest, Role::Write].choose(&mut self.random).expect("some");
        let expires_at = self.random.random_bool(0.3).then(|| self.random.random_range(0..2_000));
        let name = self.brains[to].name();
        let grant = self.control(&Control::Offered { to: name, role, expires_at, reshare: false });
        self.grants.insert(to, grant);
    }

    fn revoke(&mut self) {
        let grants: Vec<(usize, Hash)> = self.grants.iter().map(|(who, grant)| (*who, *grant)).collect();
        let Some(&(who, grant)) = grants.choose(&mut self.random) else { return };
        let name = self.brains[who].name();
        let chains = self.brains[0].replica.chains(self.space);
        let chains = chains.filter(|chain| (chain.id().author, chain.id().lane) == (name, Lane::Content));
        let accepted =
            chains.map(|chain| Accepted { epoch: chain.id().epoch, number: chain.complete() }).collect();
        self.control(&Control::Revoked { grant, accepted });
    }

    /// The last brain, if it is no honest one, says two things with one number: one to some, the other to the rest.
    fn fork(&mut self) {
        let liar = self.brains.len() - 1;
        if liar == 0 || self.brains.len() < 3 {
            return;
        }
        let grant = self.grants.get(&liar).copied().unwrap_or(Hash::NONE);
        let mut branch = |says: &[u8]| {
            self.brains[liar].publish(Some(self.space), grant, &[(EntryKind::Claim, says.to_vec())]).remove(0)
        };
        let (one, other) = (branch(b"yes"), branch(b"no"));
        for to in 0..liar {
            let told = if to % 2 == 0 { &one } else { &other };
            self.letters.push((to, told.clone()));
        }
        self.brains[liar].receive(one);
        self.forked = true;
    }

    /// One brain gives another all it has, and the proofs of forks.
    fn meet(&mut self) {
        let (one, other) =
            (self.random.random_range(0..self.brains.len()), self.random.random_range(0..self.brains.len()));
        self.exchange(one, other);
    }

    fn exchange(&mut self, from: usize, to: usize) {
        let forks = self.brains[from].replica.chains(self.space).filter_map(Chain::fork);
        let proofs = forks.flat_map(|fork| [&*fork.known, &*fork.other]);
        let entries: Vec<Entry> = self.brains[from].kept.values().chain(proofs).cloned().collect();
        for entry in entries {
            for proof in self.brains[to].receive(entry) {
                self.send(to, &proof);
            }
        }
    }

    /// Everything arrives, and everybody meets everybody, until nothing is new.
    fn settle(&mut self) {
        while !self.letters.is_empty() {
            self.hear();
        }
        for _ in 0..3 {
            for from in 0..self.brains.len() {
                for to in (0..self.brains.len()).filter(|to| *to != from) {
                    self.exchange(from, to);
                }
            }
            while !self.letters.is_empty() {
                self.hear();
            }
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..150 {
        world.step();
    }
    world.settle();
    let space = world.space;
    let (first, others) = world.brains.split_first().expect("some");
    let wanted = first.seen(space);
    assert!(!wanted.is_empty());
    for other in others {
        assert_eq!(other.replica.space(space), first.replica.space(space), "seed {seed}: who may do what");
        let seen = other.seen(space);
        let differs = seen.iter().find(|(place, what)| wanted.get(place) != Some(what));
        assert_eq!(
            differs,
            None,
            "seed {seed}: {} entries are seen, and {} by the owner",
            seen.len(),
            wanted.len()
        );
        assert_eq!(seen.len(), wanted.len(), "seed {seed}");
    }
    let liar = world.brains.last().expect("some").name();
    let forks: Vec<BTreeSet<ChainId>> = world
        .brains
        .iter()
        .map(|brain| {
            brain.replica.chains(space).filter(|chain| chain.fork().is_some()).map(|chain| chain.id()).collect()
        })
        .collect();
    for (who, found) in forks.iter().enumerate() {
        assert_eq!(found, &forks[0], "seed {seed}: brain {who} has other proofs");
        assert!(found.iter().all(|chain| chain.author == liar), "seed {seed}: an honest brain stands accused");
    }
    assert_eq!(world.forked, !forks[0].is_empty(), "seed {seed}: the fork is proven");
    // What an honest brain has said is seen by all.
    for brain in &world.brains[..world.brains.len() - usize::from(world.forked)] {
        let own = brain.kept.iter().filter(|((chain, _), _)| chain.author == brain.name());
        for (place, entry) in own {
            assert_eq!(
                wanted.get(place).map(|(hash, _)| *hash),
                Some(entry.hash()),
                "seed {seed}: a write was lost"
            );
        }
    }
}

#[test]
fn brains_come_to_hold_the_same_whatever_the_order() {
    if let Ok(seed) = std::env::var("TEST_CAIRN_SEED") {
        return run(seed.parse().expect("a number"));
    }
    for seed in 0..SEEDS {
        run(seed);
    }
}

#[test]
fn who_may_not_write_is_kept_and_not_counted() {
    let mut world = World::new(1);
    let stranger = world.brains.len() - 1;
    world.write(stranger);
    world.settle();
    let counted = |brain: &Brain| {
        let rules = brain.replica.space(world.space).expect("it has begun");
        let counts =
            |entry: &&Entry| matches!(rules.standing(entry.header(), None), Standing::Full | Standing::Suggestion);
        brain.kept.values().filter(counts).count()
    };
    for brain in &world.brains {
        assert!(brain.kept.len() > 1);
        assert_eq!(counted(brain), 1, "the owner's first entry alone");
    }
}
