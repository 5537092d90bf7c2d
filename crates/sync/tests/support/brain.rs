//! Two engines that talk, frame by frame.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use cairn_domain::clock::Hlc;
use cairn_domain::event::{FieldClaimed, MemoryEvent};
use cairn_domain::field::FieldName;
use cairn_domain::id::{EventId, MemoryId};
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use cairn_sync::certificate::Certificate;
use cairn_sync::chain::{ChainId, chain_of};
use cairn_sync::control::{Decision, Role};
use cairn_sync::engine::{Effect, Engine, Identity, Input, News, Offer, Peer, Said};
use cairn_sync::entry::{Entry, Lane};
use cairn_sync::key::{BrainKey, DeviceKey, Epoch, Hash, SpaceId};
use cairn_sync::shared::SharedEvent;
use ed25519_dalek::SigningKey;
use uuid::Uuid;

pub const NOW: u64 = 1_790_000_000_000;

pub struct Brain {
    pub engine: Engine,
    pub other: DeviceKey,
    pub kept: BTreeMap<(ChainId, u64), Entry>,
    pub offered: Option<(SpaceId, Hash)>,
    pub space: Option<SpaceId>,
    pub grant: Option<Hash>,
    pub said: u32,
}

pub fn keys(number: u8) -> (SigningKey, SigningKey) {
    (SigningKey::from_bytes(&[number; 32]), SigningKey::from_bytes(&[number + 100; 32]))
}

impl Brain {
    pub fn new(number: u8, other: u8) -> Self {
        let (brain, device) = keys(number);
        let certificate = Certificate::make(&brain, DeviceKey::of(&device), Epoch([number; 16]), NOW);
        let name = format!("Brain {number}");
        let mut engine = Engine::new(Identity { device, certificate, name, addresses: Vec::new() });
        let (other_brain, other) = keys(other);
        let other = DeviceKey::of(&other);
        let peer =
            Peer { name: "The other".into(), devices: BTreeMap::from([(other, Vec::new())]), blocked: false };
        engine.restore_peer(BrainKey::of(&other_brain), peer);
        Self { engine, other, kept: BTreeMap::new(), offered: None, space: None, grant: None, said: 0 }
    }

    /// Does a step of its own, and gives the frames that follow.
    pub fn act(&mut self, step: &str, to: BrainKey) -> Vec<Bytes> {
        let at = Hlc { millis: NOW, counter: 0 };
        let entries = match step {
            "begin" => self.engine.create_space("Garden", at),
            "offer" => {
                let offer = Offer { to, role: Role::Write, expires_at: None, reshare: false };
                self.engine.offer(self.space.expect("it has begun"), offer, at)
            }
            "accept" => {
                let (space, grant) = self.offered.expect("it was offered");
                self.space = Some(space);
                self.engine.decide(space, grant, Decision::Accepted, at)
            }
            "write" => {
                let said: Vec<Said> = (0..3).map(|_| self.claim(at)).collect();
                self.engine.publish(self.space.expect("it has a part"), &[said], NOW)
            }
            "revoke" => self.engine.revoke(self.space.expect("it is its own"), self.grant.expect("given"), at),
            other => panic!("nobody does {other}"),
        };
        let entries = entries.expect("it may");
        let last = entries.last().expect("something is said");
        self.space = Some(last.space());
        if step == "offer" {
            self.grant = Some(last.hash());
        }
        self.keep(&entries);
        self.input(Input::Said(entries))
    }

    pub fn claim(&mut self, at: Hlc) -> Said {
        self.said += 1;
        let id = EventId::new(Uuid::from_u128(u128::from(self.said)));
        let value = Value::from(format!("Tomatoes {}", self.said).as_str());
        let claimed = FieldClaimed { field: FieldName::title(), value, supersedes: vec![], accepts: None };
        let event = SharedEvent::of(id, MemoryEvent::FieldClaimed(claimed)).expect("it is shared");
        Said { memory: MemoryId::new(Uuid::from_u128(7)), at, truth: Truth::User, event }
    }

    pub fn keep(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.kept.insert((chain_of(entry), entry.header().number), entry.clone());
        }
    }

    pub fn input(&mut self, input: Input) -> Vec<Bytes> {
        let (mut inputs, mut frames) = (VecDeque::from([input]), Vec::new());
        while let Some(input) = inputs.pop_front() {
            for effect in self.engine.handle(input, NOW) {
                match effect {
                    Effect::Send { frame, .. } => frames.push(frame),
                    Effect::Keep(entries) => self.keep(&entries),
                    Effect::Load(load) => {
                        let range = (load.chain, load.from)..=(load.chain, u64::MAX);
                        let entries = self.kept.range(range).take(load.limit).map(|(_, entry)| entry.clone());
                        let entries = entries.collect();
                        inputs.push_back(Input::Loaded { load, entries });
                    }
                    Effect::Tell(News::Offered { space, grant }) => self.offered = Some((space, grant)),
                    Effect::Tell(News::Refused { reason, .. }) => panic!("it is refused: {reason:?}"),
                    Effect::Tell(News::Unsound { why, .. }) => panic!("it is taken for a liar: {why}"),
                    Effect::Close { .. } => panic!("it is cut off"),
                    _ => {}
                }
            }
        }
        frames
    }

    pub fn hear(&mut self, frame: Bytes) -> Vec<Bytes> {
        self.input(Input::Frame { device: self.other, bytes: frame })
    }

    pub fn meet(&mut self) -> Vec<Bytes> {
        self.input(Input::Connected { device: self.other })
    }

    /// What it has of the space, by author and lane.
    pub fn holds(&self) -> BTreeMap<(BrainKey, Lane), u64> {
        let mut held = BTreeMap::new();
        for (chain, _) in self.kept.keys() {
            *held.entry((chain.author, chain.lane)).or_default() += 1;
        }
        held
    }
}

pub fn two() -> [Brain; 2] {
    [Brain::new(1, 2), Brain::new(2, 1)]
}

pub fn brains() -> [BrainKey; 2] {
    [1, 2].map(|number| BrainKey::of(&keys(number).0))
}
