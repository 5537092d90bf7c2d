//! Brains on a bad network, driven through the engine: connections break, frames are lost, clocks differ, brains crash and start again, some are restored from
//! old backups, one lies. Whatever happened: once all meet again, all hold the same, nothing that an honest brain has said is lost, and what was
//! erased is nowhere. Each run follows from its seed, which a failure names; `TEST_CAIRN_SEED` runs one alone, `TEST_CAIRN_SEEDS`
//! all below that number, `TEST_CAIRN_FIRST` those from one on.

#[path = "network/agreed.rs"]
mod agreed;
#[path = "network/keys.rs"]
mod keys;
#[path = "network/liar.rs"]
mod liar;
#[path = "network/node.rs"]
mod node;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cairn_domain::event::{FieldClaimed, MemoryEvent};
use cairn_domain::field::FieldName;
use cairn_domain::id::{EventId, MemoryId};
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use cairn_sync::control::{Control, Decision, Role};
use cairn_sync::engine::{Effect, Input, MAX_AHEAD_MS, News, Offer, Peer, Said};
use cairn_sync::entry::Entry;
use cairn_sync::key::{BrainKey, DeviceKey, Epoch, Hash, SpaceId};
use cairn_sync::shared::SharedEvent;
use cairn_sync::wire::Frame;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use node::Node;

const SEEDS: u64 = 2_000;
const STEPS: usize = 160;
/// More than that in one world, frames or entries that brains say, and they never come to an end.
const MAX_FRAMES: usize = 200_000;
const MAX_SAID: usize = 5_000;

struct World {
    seed: u64,
    random: StdRng,
    nodes: Vec<Node>,
    space: SpaceId,
    /// Frames on their way, by link, in order.
    links: BTreeMap<(usize, usize), VecDeque<Bytes>>,
    forked: bool,
    frames: usize,
    said: usize,
    /// A brain that keeps for others what it may not read.
    relay: Option<usize>,
    /// Whether the others meet nobody but the relay.
    star: bool,
    /// What the liar has said in the owner's name, with its first key.
    theft: Option<Entry>,
    /// What the liar has said about the space in the owner's name, with the key before the one of now.
    usurpation: Vec<Entry>,
    /// Whether the owner changes its key often.
    restless: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let count = if random.random_bool(0.1) { random.random_range(7..=12) } else { random.random_range(2..=6) };
        // The owner has a second device, perhaps.
        let twin = (count > 3 && random.random_bool(0.3)).then_some(2);
        let brain = |number| if Some(number) == twin { 0 } else { number };
        let mut nodes: Vec<Node> = (0..count).map(|number| Node::new(number, brain(number))).collect();
        // Some clocks are ahead of others, by more than is taken in at once.
        for node in &mut nodes {
            node.clock += if random.random_bool(0.2) { random.random_range(0..2 * MAX_AHEAD_MS) } else { 0 };
        }
        let known: Vec<(BrainKey, Peer)> = nodes
            .iter()
            .map(|node| {
                let same = nodes.iter().filter(|other| other.brain() == node.brain());
                let devices = same.map(|node| (node.device(), Vec::new())).collect();
                (node.brain(), Peer { name: "A brain".into(), devices, blocked: false })
            })
            .collect();
        for node in &mut nodes {
            known.iter().for_each(|(brain, peer)| node.engine.restore_peer(*brain, peer.clone()));
        }
        let relay = (count > 2 && random.random_bool(0.4)).then_some(1);
        let star = relay.is_some() && random.random_bool(0.5);
        let restless = random.random_bool(0.1);
        let first = nodes[0].engine.create_space("Garden", nodes[0].at()).expect("a name");
        let space = first[0].space();
        let mut world = Self {
            seed,
            random,
            nodes,
            space,
            links: BTreeMap::new(),
            forked: false,
            frames: 0,
            said: 0,
            relay,
            star,
            theft: None,
            usurpation: Vec::new(),
            restless,
        };
        world.say(0, first);
        world
    }

    fn start(&mut self, who: usize, epoch: Epoch) {
        self.cut(who);
        let known: Vec<(BrainKey, Peer)> =
            self.nodes[who].engine.peers().iter().map(|(brain, peer)| (*brain, peer.clone())).collect();
        self.nodes[who].start(epoch);
        for (brain, peer) in known {
            self.nodes[who].engine.restore_peer(brain, peer);
        }
    }

    fn input(&mut self, who: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = self.nodes[who].clock;
            for effect in self.nodes[who].engine.handle(input, now) {
                inputs.extend(self.carry_out(who, effect));
            }
        }
    }

    fn carry_out(&mut self, who: usize, effect: Effect) -> Option<Input> {
        let node = &mut self.nodes[who];
        match effect {
            Effect::Send { device, frame } => {
                self.frames += 1;
                assert!(self.frames < MAX_FRAMES, "seed {}: they never come to rest", self.seed);
                let to = self.of(device);
                if let Some(link) = self.links.get_mut(&(who, to)) {
                    link.push_back(frame);
                }
            }
            Effect::Close { device } => {
                let other = self.of(device);
                self.disconnect(who, other);
            }
            Effect::Keep(entries) => entries.into_iter().for_each(|entry| node.disk.keep(entry)),
            Effect::Erase { memories, .. } => node.disk.erase(memories),
            Effect::KeepCertificate { certificate, .. } => {
                node.disk.certificates.insert((certificate.brain(), certificate.epoch()), certificate);
            }
            Effect::Load(load) => {
                let range = (load.chain, load.from)..=(load.chain, u64::MAX);
                let entries = node.disk.entries.range(range).take(load.limit).map(|(_, entry)| entry.clone());
                let entries = entries.collect();
                return Some(Input::Loaded { load, entries });
            }
            Effect::KeepRoster(roster) => drop(node.disk.rosters.insert(roster.brain(), roster)),
            Effect::KeepFork(fork) => node.disk.forks.push(fork),
            Effect::Tell(News::EpochLost) => node.epoch_lost = true,
            Effect::Tell(News::Offered { grant, .. }) => drop(node.grants.insert(grant)),
            Effect::Tell(News::Unsound { device, why }) => {
                let liar = self.nodes.len() - 1;
                assert_eq!(self.of(device), liar, "an honest brain is taken for a liar: {why}");
            }
            Effect::Tell(News::OtherKey(brain)) => panic!("nobody has named another key of {brain}"),
            Effect::Restand { .. }
            | Effect::Recount { .. }
            | Effect::KeepReceipt { .. }
            | Effect::KeepPeer { .. }
            | Effect::Dial { .. }
            | Effect::Tell(
                News::Online(_)
                | News::Offline(_)
                | News::Refused { .. }
                | News::QuotaUsedUp(_)
                | News::KeyChanged(_)
                | News::Joining { .. }
                | News::CertificateWanted { .. }
                | News::Certified { .. }
                | News::Joined { .. },
            ) => {}
        }
        None
    }

    fn of(&self, device: DeviceKey) -> usize {
        self.nodes.iter().position(|node| node.device() == device).expect("a device of this world")
    }

    fn connect(&mut self, one: usize, other: usize) {
        let apart = self.star && ![one, other].contains(&1);
        if one == other || apart || self.links.contains_key(&(one, other)) {
            return;
        }
        self.links.insert((one, other), VecDeque::new());
        self.links.insert((other, one), VecDeque::new());
        let (first, second) = (self.nodes[one].device(), self.nodes[other].device());
        self.input(one, Input::Connected { device: second });
        self.input(other, Input::Connected { device: first });
    }

    fn disconnect(&mut self, one: usize, other: usize) {
        if self.links.remove(&(one, other)).is_none() {
            return;
        }
        self.links.remove(&(other, one));
        let (first, second) = (self.nodes[one].device(), self.nodes[other].device());
        self.input(one, Input::Disconnected { device: second });
        self.input(other, Input::Disconnected { device: first });
    }

    fn cut(&mut self, who: usize) {
        for other in 0..self.nodes.len() {
            self.disconnect(who, other);
        }
    }

    /// Keeps what a brain says, then lets it go.
    fn say(&mut self, who: usize, entries: Vec<Entry>) {
        self.said += entries.len();
        assert!(self.said < MAX_SAID, "seed {}: brain {who} never comes to the end", self.seed);
        let node = &mut self.nodes[who];
        entries.iter().for_each(|entry| node.disk.keep(entry.clone()));
        self.input(who, Input::Said(entries));
    }

    fn step(&mut self) {
        let who = self.random.random_range(0..self.nodes.len());
        let other = self.random.random_range(0..self.nodes.len());
        self.nodes[who].clock += self.random.random_range(0..50);
        if self.restless && self.nodes[who].brain() == self.nodes[0].brain() && self.random.random_bool(0.2) {
            return self.change_key(who);
        }
        match self.random.random_range(0..49) {
            0..16 => self.deliver(),
            16..22 => self.write(who),
            22..25 => self.connect(who, other),
            25..27 => self.disconnect(who, other),
            27..30 => self.offer(),
            30..33 => self.decide(who),
            33 => self.revoke(),
            34 => self.restart(who),
            35 => self.nodes[who].backup = Some(self.nodes[who].disk.clone()),
            36 => self.restore(who),
            37 => self.input(who, Input::Tick),
            38 => self.fork(),
            39 => self.erase(),
            40 => self.wish(who),
            41..43 => self.answer(),
            43..45 => self.lose(),
            45 => self.tell_key(),
            46 => self.retire(),
            47 => self.change_key(who),
            _ => self.babble(),
        }
        self.renew();
        self.succeed();
    }

    /// A frame arrives: the next one of any link.
    fn deliver(&mut self) {
        let waiting: Vec<(usize, usize)> =
            self.links.iter().filter(|(_, link)| !link.is_empty()).map(|(link, _)| *link).collect();
        let Some(&(from, to)) = waiting.choose(&mut self.random) else { return };
        let Some(bytes) = self.links.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return };
        let device = self.nodes[from].device();
        // Both ways of taking one, by turns.
        let input = match bytes.len() % 2 {
            0 => Input::Frame { device, bytes },
            _ => Input::Read { device, frame: Box::new(Frame::read_ahead(bytes)) },
        };
        self.input(to, input);
    }

    /// A frame is lost, and the connection goes on. What it begins with is not: without that it is none.
    fn lose(&mut self) {
        let is_hello = |bytes: &Bytes| matches!(Frame::parse(bytes.clone()), Ok(Some(Frame::Hello(_))));
        let waiting = self.links.iter().filter(|(_, link)| link.front().is_some_and(|frame| !is_hello(frame)));
        let waiting: Vec<(usize, usize)> = waiting.map(|(link, _)| *link).collect();
        if let Some(link) = waiting.choose(&mut self.random) {
            self.links.get_mut(link).and_then(VecDeque::pop_front);
        }
    }

    fn write(&mut self, who: usize) {
        let said: Vec<Said> = (0..self.random.random_range(1..4)).map(|_| self.claim(who)).collect();
        let node = &self.nodes[who];
        // Who may not write, says nothing.
        if let Ok(entries) = node.engine.publish(self.space, &[said], node.clock) {
            self.say(who, entries);
        }
    }

    fn claim(&mut self, who: usize) -> Said {
        let id = EventId::new(Uuid::from_u128(self.random.random()));
        let value = Value::from(self.random.random::<u32>().to_string().as_str());
        let claimed = FieldClaimed { field: FieldName::title(), value, supersedes: vec![], accepts: None };
        let event = SharedEvent::of(id, MemoryEvent::FieldClaimed(claimed)).expect("it is shared");
        let memory = MemoryId::new(Uuid::from_u128(self.random.random_range(1..5)));
        Said { memory, at: self.nodes[who].at(), truth: Truth::User, event }
    }

    fn offer(&mut self) {
        let to = self.random.random_range(0..self.nodes.len());
        let roles = [Role::Relay, Role::Read, Role::Suggest, Role::Write, Role::Admin];
        let role = *roles.choose(&mut self.random).expect("some");
        let role = self.role(to, role);
        let expires_at = self.random.random_bool(0.2).then(|| self.random.random_range(1_000..4_000));
        let offer = Offer { to: self.nodes[to].brain(), role, expires_at, reshare: false };
        let owner = self.speaker();
        if let Ok(entries) = self.nodes[owner].engine.offer(self.space, offer, self.nodes[owner].at()) {
            self.say(owner, entries);
        }
    }

    /// Who is a relay is never more.
    fn role(&self, of: usize, role: Role) -> Role {
        if self.relay == Some(of) { Role::Relay } else { role }
    }

    /// The relay is let keep things for others, and agrees, as soon as it hears of it.
    fn employ_relay(&mut self) {
        let Some(relay) = self.relay else { return };
        let (brain, now) = (self.nodes[relay].brain(), self.nodes[relay].clock);
        let owner = self.speaker();
        if self.nodes[owner].engine.replica().role_of(self.space, brain, now).is_some() {
            return;
        }
        let offer = Offer { to: brain, role: Role::Relay, expires_at: None, reshare: false };
        self.connect(owner, relay);
        if let Ok(entries) = self.nodes[owner].engine.offer(self.space, offer, self.nodes[owner].at()) {
            self.say(owner, entries);
        }
        self.arrive();
        let rules = self.nodes[relay].engine.replica().space(self.space);
        let grants = rules.into_iter().flat_map(|rules| rules.grants());
        let open: Vec<Hash> =
            grants.filter(|(_, grant)| grant.to == brain && grant.holds(now)).map(|(hash, _)| *hash).collect();
        for grant in open {
            let node = &self.nodes[relay];
            if let Ok(entries) = node.engine.decide(self.space, grant, Decision::Accepted, node.at()) {
                self.say(relay, entries);
            }
        }
    }

    /// Everything that is on its way arrives.
    fn arrive(&mut self) {
        while self.links.values().any(|link| !link.is_empty()) {
            self.deliver();
            self.renew();
            self.succeed();
        }
    }

    fn decide(&mut self, who: usize) {
        let Some(grant) = self.nodes[who].grants.pop_first() else { return };
        let decision = if self.random.random_bool(0.9) { Decision::Accepted } else { Decision::Declined };
        let node = &self.nodes[who];
        if let Ok(entries) = node.engine.decide(self.space, grant, decision, node.at()) {
            self.say(who, entries);
        }
    }

    fn revoke(&mut self) {
        let owner = self.speaker();
        let Some(space) = self.nodes[owner].engine.replica().space(self.space) else { return };
        let grants: Vec<Hash> = space.grants().keys().copied().collect();
        let Some(grant) = grants.choose(&mut self.random) else { return };
        if let Ok(entries) = self.nodes[owner].engine.revoke(self.space, *grant, self.nodes[owner].at()) {
            self.say(owner, entries);
        }
    }

    /// The owner has a memory destroyed wherever it is.
    fn erase(&mut self) {
        let memory = MemoryId::new(Uuid::from_u128(self.random.random_range(1..5)));
        let erased = Control::Erased { memory };
        let owner = self.speaker();
        if let Ok(entries) = self.nodes[owner].engine.control(self.space, &erased, self.nodes[owner].at()) {
            self.say(owner, entries);
            self.nodes[owner].disk.erase([memory]);
        }
    }

    fn wish(&mut self, who: usize) {
        let grants = self.nodes[who].engine.replica().space(self.space);
        let grants: Vec<Hash> = grants.into_iter().flat_map(|space| space.grants().keys().copied()).collect();
        let memory = MemoryId::new(Uuid::from_u128(self.random.random_range(1..5)));
        let to = self.random.random_range(0..self.nodes.len());
        let role = *[Role::Read, Role::Write, Role::Admin].choose(&mut self.random).expect("some");
        let (role, to) = (self.role(to, role), self.nodes[to].brain());
        let wish = match (self.random.random_range(0..3), grants.choose(&mut self.random)) {
            (0, _) => Control::Erased { memory },
            (1, Some(grant)) => Control::Revoked { grant: *grant, accepted: Vec::new() },
            _ => Control::Offered { to, role, expires_at: None, reshare: false },
        };
        let node = &self.nodes[who];
        if let Ok(entries) = node.engine.wish(self.space, &wish, node.at(), node.clock) {
            self.say(who, entries);
        }
    }

    fn answer(&mut self) {
        let owner = self.speaker();
        let Some(wish) = self.nodes[owner].engine.wishes().pop() else { return };
        let granted = self.random.random_bool(0.8);
        if let Ok(entries) = self.nodes[owner].engine.answer(&wish, granted, self.nodes[owner].at()) {
            self.say(owner, entries);
            if let Control::Erased { memory } = wish.control
                && granted
            {
                self.nodes[owner].disk.erase([memory]);
            }
        }
    }

    /// The owner tells readers a key for relays, where that is due.
    fn tell_key(&mut self) {
        let owner = self.speaker();
        let node = &self.nodes[owner];
        if !node.engine.key_is_due(self.space, node.clock) {
            return;
        }
        if let Ok(entries) = node.engine.tell_key(self.space, self.random.random(), node.at(), node.clock) {
            self.say(owner, entries);
        }
    }

    /// The owner's second device is to write no more, and does not heed it.
    fn retire(&mut self) {
        let speaker = self.speaker();
        let (owner, twin) = (&self.nodes[speaker], &self.nodes[self.nodes.len().min(3) - 1]);
        if self.nodes.len() > 3
            && twin.brain() == owner.brain()
            && let Ok(entries) = owner.engine.retire(self.space, owner.brain(), twin.device(), owner.at())
        {
            self.say(speaker, entries);
        }
    }

    fn restart(&mut self, who: usize) {
        let epoch = self.nodes[who].epoch();
        self.start(who, epoch);
    }

    /// A brain is restored from an old backup: it does not know by itself that it has said more.
    fn restore(&mut self, who: usize) {
        let Some(backup) = self.nodes[who].backup.take() else { return };
        self.nodes[who].disk = backup;
        let epoch = Epoch(self.random.random());
        self.begin_epoch(who, epoch);
        self.restart(who);
        self.resume(who);
    }

    /// Those who heard that they were restored begin another epoch.
    fn renew(&mut self) {
        for who in 0..self.nodes.len() {
            if std::mem::take(&mut self.nodes[who].epoch_lost) {
                self.go_on_anew(who);
            }
        }
    }

    fn go_on_anew(&mut self, who: usize) {
        let epoch = Epoch(self.random.random());
        self.begin_epoch(who, epoch);
        let node = &mut self.nodes[who];
        let certificate = node.disk.certificates[&(node.brain(), epoch)].clone();
        node.engine.renew(certificate);
        self.resume(who);
    }

    fn begin_epoch(&mut self, who: usize, epoch: Epoch) {
        let node = &mut self.nodes[who];
        node.clock += 1;
        let certificate = node.secret().certify(node.device(), epoch, node.clock);
        node.disk.certificates.insert((certificate.brain(), epoch), certificate);
    }

    fn resume(&mut self, who: usize) {
        let node = &self.nodes[who];
        if let Ok(entries) = node.engine.resume(self.space, node.at()) {
            self.say(who, entries);
        }
    }

    /// All meet, and everything arrives, until nothing is new.
    fn settle(&mut self) {
        let latest = self.nodes.iter().map(|node| node.clock).max().expect("some");
        self.nodes.iter_mut().for_each(|node| node.clock = latest);
        for round in 0..10 {
            for who in 0..self.nodes.len() {
                for other in 0..self.nodes.len() {
                    self.connect(who, other);
                }
            }
            self.arrive();
            if round == 1 {
                self.regain_key();
                self.arrive();
            }
            if round > 0 {
                self.employ_relay();
            }
            self.tell_key();
            for who in 0..self.nodes.len() {
                self.nodes[who].clock += 31_000;
                self.input(who, Input::Tick);
            }
        }
        while self.links.values().any(|link| !link.is_empty()) {
            self.deliver();
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    let said = agreed::said(&world);
    world.settle();
    agreed::check(&world, &said, seed);
}

#[test]
fn brains_on_a_bad_network_come_to_hold_the_same() {
    if let Ok(seed) = std::env::var("TEST_CAIRN_SEED") {
        return run(seed.parse().expect("a number"));
    }
    let seeds = std::env::var("TEST_CAIRN_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    let first = std::env::var("TEST_CAIRN_FIRST").map_or(0, |first| first.parse().expect("a number"));
    let next = AtomicU64::new(first);
    let work = || {
        let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds);
        std::iter::from_fn(take).for_each(|seed| {
            if seed > 0 && seed.is_multiple_of(SEEDS) {
                println!("up to seed {seed}");
            }
            run(seed);
        });
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
}
