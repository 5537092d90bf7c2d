//! What it costs two brains to sync, without network and disk: `cargo run --release -p cairn-sync --example figures`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

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
use cairn_sync::engine::{Effect, Engine, Identity, Input, Offer, Peer, Said};
use cairn_sync::entry::{Entry, Lane};
use cairn_sync::key::{BrainKey, DeviceKey, Epoch, SpaceId};
use cairn_sync::shared::SharedEvent;
use cairn_sync::wire::Frame;
use ed25519_dalek::SigningKey;
use uuid::Uuid;

/// The memories that are shared: one event each.
const MEMORIES: u128 = 100_000;
/// What comes new afterwards.
const NEW: u128 = 1_000;
const NOW: u64 = 1_790_000_000_000;

struct Side {
    engine: Engine,
    device: DeviceKey,
    disk: BTreeMap<ChainId, Vec<Entry>>,
    /// What the engine took.
    busy: Duration,
    sent: Vec<Bytes>,
    /// How many entries came.
    came: usize,
}

impl Side {
    fn new(number: u8) -> Self {
        let (brain, device) = (SigningKey::from_bytes(&[number; 32]), SigningKey::from_bytes(&[number + 9; 32]));
        let own = DeviceKey::of(&device);
        let certificate = Certificate::make(&brain, own, Epoch([number; 16]), NOW);
        let engine = Engine::new(Identity { device, certificate, name: "A brain".into(), addresses: vec![] });
        Self { engine, device: own, disk: BTreeMap::new(), busy: Duration::ZERO, sent: Vec::new(), came: 0 }
    }

    fn knows(&mut self, other: &Self) {
        let devices = BTreeMap::from([(other.device, vec![])]);
        let peer = Peer { name: "A brain".into(), devices, blocked: false };
        self.engine.restore_peer(other.engine.brain(), peer);
    }

    fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            #[allow(clippy::disallowed_methods, reason = "this measures; the engine itself knows no clock")]
            let began = Instant::now();
            let effects = self.engine.handle(input, NOW);
            self.busy += began.elapsed();
            for effect in effects {
                match effect {
                    Effect::Send { frame, .. } => self.sent.push(frame),
                    Effect::Keep(entries) => self.keep(entries),
                    Effect::Load(load) => {
                        let kept = self.disk.get(&load.chain).map(Vec::as_slice).unwrap_or_default();
                        let from = usize::try_from(load.from - 1).unwrap_or(usize::MAX).min(kept.len());
                        let entries = kept[from..].iter().take(load.limit).cloned().collect();
                        inputs.push_back(Input::Loaded { load, entries });
                    }
                    _ => {}
                }
            }
        }
    }

    fn keep(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.disk.entry(chain_of(&entry)).or_default().push(entry);
        }
    }

    fn say(&mut self, entries: Vec<Entry>) {
        self.keep(entries.clone());
        self.input(Input::Said(entries));
    }

    fn publish(&mut self, space: SpaceId, numbers: std::ops::Range<u128>) -> usize {
        let mut payload = 0;
        for start in numbers.clone().step_by(500) {
            let part = start..(start + 500).min(numbers.end);
            let said: Vec<Vec<Said>> = part.map(|number| vec![said(number)]).collect();
            let entries = self.engine.publish(space, &said, NOW).expect("it may");
            payload += entries.iter().filter_map(Entry::payload).map(|payload| payload.len() - 18).sum::<usize>();
            self.say(entries);
        }
        payload
    }
}

fn said(number: u128) -> Said {
    let id = EventId::new(Uuid::from_u128(0x019a_0000_0000_7000_8000_0000_0000_0000 + number));
    let memory = MemoryId::new(Uuid::from_u128(0x019b_0000_0000_7000_8000_0000_0000_0000 + number));
    let value = Value::from(format!("Memory number {number} of the garden").as_str());
    let claimed = FieldClaimed { field: FieldName::title(), value, supersedes: vec![], accepts: None };
    let event = SharedEvent::of(id, MemoryEvent::FieldClaimed(claimed)).expect("it is shared");
    let millis = NOW - 1_000_000 + u64::try_from(number).unwrap_or(0);
    Said { memory, at: Hlc { millis, counter: 0 }, truth: Truth::User, event }
}

/// How many entries a frame brings.
fn entries_of(frame: &Bytes) -> usize {
    match Frame::parse(frame.clone()) {
        Ok(Some(Frame::Batch(batch))) => batch.len(),
        _ => 0,
    }
}

/// Carries frames to and fro until there are none. Gives round trips and bytes.
fn settle(one: &mut Side, other: &mut Side) -> (usize, usize) {
    let (mut trips, mut bytes) = (0, 0);
    loop {
        let (there, back) = (std::mem::take(&mut one.sent), std::mem::take(&mut other.sent));
        if there.is_empty() && back.is_empty() {
            return (trips / 2, bytes);
        }
        trips += 1;
        bytes += there.iter().chain(&back).map(Bytes::len).sum::<usize>();
        let (first, second) = (one.device, other.device);
        other.came += there.iter().map(entries_of).sum::<usize>();
        there.into_iter().for_each(|bytes| other.input(Input::Frame { device: first, bytes }));
        back.into_iter().for_each(|bytes| one.input(Input::Frame { device: second, bytes }));
    }
}

fn connect(one: &mut Side, other: &mut Side) {
    let (first, second) = (one.device, other.device);
    one.input(Input::Connected { device: second });
    other.input(Input::Connected { device: first });
}

fn disconnect(one: &mut Side, other: &mut Side) {
    let (first, second) = (one.device, other.device);
    one.input(Input::Disconnected { device: second });
    other.input(Input::Disconnected { device: first });
    (one.sent, other.sent) = (Vec::new(), Vec::new());
}

fn main() {
    let (mut anna, mut bert) = (Side::new(1), Side::new(2));
    anna.knows(&bert);
    bert.knows(&anna);
    let at = Hlc { millis: NOW, counter: 0 };
    let begun = anna.engine.create_space("Garden", at).expect("a name");
    let space = begun[0].space();
    anna.say(begun);
    let to: BrainKey = bert.engine.brain();
    let offer = Offer { to, role: Role::Write, expires_at: None, reshare: false };
    let offered = anna.engine.offer(space, offer, at).expect("it is the owner's");
    let grant = offered[0].hash();
    anna.say(offered);
    anna.publish(space, 0..MEMORIES);
    connect(&mut anna, &mut bert);
    settle(&mut anna, &mut bert);
    let accepted = bert.engine.decide(space, grant, Decision::Accepted, at).expect("it is offered");
    (anna.busy, bert.busy) = (Duration::ZERO, Duration::ZERO);
    bert.say(accepted);
    let (_, bytes) = settle(&mut anna, &mut bert);
    let kept: usize =
        bert.disk.iter().filter(|(id, _)| id.lane == Lane::Content).map(|(_, kept)| kept.len()).sum();
    assert_eq!(kept, MEMORIES as usize, "all arrived");
    let rate = MEMORIES as f64 / bert.busy.as_secs_f64();
    println!(
        "first sync        {MEMORIES} entries, {:.1} MB, {rate:.0} a second on the receiving core",
        bytes as f64 / 1e6
    );
    let kept = bert.disk.iter().filter(|(chain, _)| chain.author != to).map(|(_, kept)| kept.len());
    let twice = bert.came - kept.sum::<usize>();
    println!(
        "                  {:.0} ms on the sending one, {twice} entries sent twice",
        anna.busy.as_secs_f64() * 1e3
    );
    disconnect(&mut anna, &mut bert);
    (anna.busy, bert.busy) = (Duration::ZERO, Duration::ZERO);
    connect(&mut anna, &mut bert);
    let (trips, bytes) = settle(&mut anna, &mut bert);
    let busy = anna.busy.max(bert.busy).as_secs_f64() * 1e3;
    println!(
        "nothing new       {bytes} bytes both ways, {trips} round trips, {busy:.2} ms of processor time a side"
    );
    disconnect(&mut anna, &mut bert);
    let payload = anna.publish(space, MEMORIES..MEMORIES + NEW);
    connect(&mut anna, &mut bert);
    let (trips, bytes) = settle(&mut anna, &mut bert);
    let overhead = (bytes - payload) as f64 / NEW as f64;
    println!(
        "{NEW} new          {bytes} bytes, {overhead:.0} bytes an event besides what it says, {trips} round trips"
    );
}
