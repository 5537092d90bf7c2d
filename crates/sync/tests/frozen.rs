//! An older peer still works: what a build of before has said to another one, byte by byte, is said to this one.
//!
//! `tests/frozen/*.txt` hold such talks, each recorded by the build that its name says. A line is a step of one side's own (`A! offer`), or a
//! frame of one side (`B> 0a…`). A talk is never recorded anew: a new version adds a file.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

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

const NOW: u64 = 1_790_000_000_000;
/// What both do, in this order, each after everything before it has arrived.
const STEPS: [&str; 8] =
    ["A! begin", "A! offer", "meet", "B! accept", "A! write", "B! write", "A! revoke", "A! write"];

struct Brain {
    engine: Engine,
    other: DeviceKey,
    kept: BTreeMap<(ChainId, u64), Entry>,
    offered: Option<(SpaceId, Hash)>,
    space: Option<SpaceId>,
    grant: Option<Hash>,
    said: u32,
}

fn keys(number: u8) -> (SigningKey, SigningKey) {
    (SigningKey::from_bytes(&[number; 32]), SigningKey::from_bytes(&[number + 100; 32]))
}

impl Brain {
    fn new(number: u8, other: u8) -> Self {
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
    fn act(&mut self, step: &str, to: BrainKey) -> Vec<Bytes> {
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

    fn claim(&mut self, at: Hlc) -> Said {
        self.said += 1;
        let id = EventId::new(Uuid::from_u128(u128::from(self.said)));
        let value = Value::from(format!("Tomatoes {}", self.said).as_str());
        let claimed = FieldClaimed { field: FieldName::title(), value, supersedes: vec![], accepts: None };
        let event = SharedEvent::of(id, MemoryEvent::FieldClaimed(claimed)).expect("it is shared");
        Said { memory: MemoryId::new(Uuid::from_u128(7)), at, truth: Truth::User, event }
    }

    fn keep(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.kept.insert((chain_of(entry), entry.header().number), entry.clone());
        }
    }

    fn input(&mut self, input: Input) -> Vec<Bytes> {
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

    fn hear(&mut self, frame: Bytes) -> Vec<Bytes> {
        self.input(Input::Frame { device: self.other, bytes: frame })
    }

    fn meet(&mut self) -> Vec<Bytes> {
        self.input(Input::Connected { device: self.other })
    }

    /// What it has of the space, by author and lane.
    fn holds(&self) -> BTreeMap<(BrainKey, Lane), u64> {
        let mut held = BTreeMap::new();
        for (chain, _) in self.kept.keys() {
            *held.entry((chain.author, chain.lane)).or_default() += 1;
        }
        held
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen")
}

fn two() -> [Brain; 2] {
    [Brain::new(1, 2), Brain::new(2, 1)]
}

fn brains() -> [BrainKey; 2] {
    [1, 2].map(|number| BrainKey::of(&keys(number).0))
}

/// Lets two talk, and writes down what they say.
fn record() -> String {
    let (mut sides, names, mut talk) = (two(), ["A", "B"], String::new());
    for step in STEPS {
        let mut waiting: VecDeque<(usize, Bytes)> = VecDeque::new();
        talk.push_str(step);
        talk.push('\n');
        match step.split_once("! ") {
            Some((who, what)) => {
                let who = usize::from(who == "B");
                waiting.extend(sides[who].act(what, brains()[1 - who]).into_iter().map(|frame| (who, frame)));
            }
            None => {
                for (who, side) in sides.iter_mut().enumerate() {
                    waiting.extend(side.meet().into_iter().map(|frame| (who, frame)));
                }
            }
        }
        while let Some((from, frame)) = waiting.pop_front() {
            writeln!(talk, "{}> {}", names[from], hex::encode(&frame)).expect("into a string");
            let to = 1 - from;
            waiting.extend(sides[to].hear(frame).into_iter().map(|frame| (to, frame)));
        }
    }
    talk
}

/// This build takes one side of a talk; the other side says what it said then. Gives what it holds at the end.
fn replay(talk: &str, side: &str) -> Brain {
    let who = usize::from(side == "B");
    let mut brain = two().into_iter().nth(who).expect("there are two");
    for line in talk.lines() {
        if line == "meet" {
            brain.meet();
        } else if let Some(what) = line.strip_prefix(&format!("{side}! ")) {
            brain.act(what, brains()[1 - who]);
        } else if let Some((from, frame)) = line.split_once("> ")
            && from != side
        {
            brain.hear(hex::decode(frame).expect("hexadecimal").into());
        }
    }
    brain
}

#[test]
fn this_build_shares_with_those_before_it() {
    let [a, b] = brains();
    let mut talks = 0;
    for file in std::fs::read_dir(folder()).expect("the talks are there") {
        let path = file.expect("it is there").path();
        let talk = std::fs::read_to_string(&path).expect("it reads");
        let owner = replay(&talk, "A").holds();
        assert_eq!(owner[&(b, Lane::Content)], 3, "{}: what the older member wrote", path.display());
        assert_eq!(owner[&(b, Lane::Control)], 1, "{}: that it has accepted", path.display());
        let member = replay(&talk, "B");
        let held = member.holds();
        assert_eq!(
            held[&(a, Lane::Content)],
            3,
            "{}: what the older owner wrote, until it revoked",
            path.display()
        );
        assert_eq!(held[&(a, Lane::Control)], 3, "{}: that it has revoked", path.display());
        let space = member.engine.replica().spaces().next().expect("one is shared");
        assert!(space.grants().values().all(|grant| grant.revoked.is_some()));
        talks += 1;
    }
    assert!(talks > 0, "there are talks");
}

/// Writes down what two of this build say. Run alone, with `--ignored`, once for each version of the protocol.
#[test]
#[ignore = "it writes down a talk of this build"]
fn write_down_a_talk() {
    std::fs::create_dir_all(folder()).expect("a folder");
    std::fs::write(folder().join(concat!("protocol-", env!("CARGO_PKG_VERSION"), ".txt")), record())
        .expect("written");
}
