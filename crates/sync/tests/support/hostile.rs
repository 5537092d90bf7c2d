//! What a peer that means harm can send, driven by bytes that a test or a fuzzer has chosen.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_domain::clock::Hlc;
use cairn_domain::id::MemoryId;
use cairn_domain::truth::Truth;
use cairn_sync::certificate::Certificate;
use cairn_sync::chain::{ChainId, Fork, chain_of};
use cairn_sync::control::{Accepted, Control, Decision, Role};
use cairn_sync::engine::{Effect, Engine, Identity, Input, Offer, Peer};
use cairn_sync::entry::{Entry, EntryKind, Header};
use cairn_sync::key::{BrainKey, DeviceKey, Epoch, Hash, SpaceId, Tag};
use cairn_sync::roster::Roster;
use cairn_sync::sealing::SEALED_BYTES;
use cairn_sync::shared::SharedEvent;
use cairn_sync::succession::{BrainSecret, STEP_BYTES, Succession};
use cairn_sync::wire::{Batch, Frame, Head, KnownPeer, Pull, Receipt, SpaceHeads};
use ed25519_dalek::SigningKey;
use uuid::Uuid;

/// The most that one input does: a fuzzer likes long ones.
const MAX_STEPS: usize = 64;
/// The most effects that follow from one frame.
const MAX_EFFECTS: usize = 4_096;
const NOW: u64 = 1_790_000_000_000;
const EPOCH: Epoch = Epoch([3; 16]);

/// Reads bytes as a frame, and as all that a frame can hold. What can be read says the same when it is written and read again.
pub fn frame(data: &[u8]) {
    if let Ok(Some(frame)) = Frame::parse(Bytes::copy_from_slice(data)) {
        let written = frame.to_bytes();
        let again = Frame::parse(written.clone()).expect("what was written reads").expect("it is of a known kind");
        assert_eq!(again.to_bytes(), written);
        let ahead = Frame::read_ahead(written).expect("it reads").expect("it is of a known kind");
        if let (Frame::Batch(mut batch), Frame::Batch(mut ahead)) = (frame, ahead) {
            let made = batch.certificate.clone().unwrap_or_else(|| Mallory::new().certificate);
            assert_eq!(batch.open(&made), ahead.open(&made));
        }
    }
    let _ = Receipt::parse(data);
}

/// A brain's second key.
fn changed(first: SigningKey, next: u8) -> BrainSecret {
    let (known, next) = (Succession::first(BrainKey::of(&first)), SigningKey::from_bytes(&[next; 32]));
    let prepared = known.prepare(&first, BrainKey::of(&next)).expect("none was named");
    BrainSecret::of(next.clone(), prepared.change(&next).expect("it was named")).expect("it signs now")
}

/// Reads bytes as a header, a certificate and the payloads of entries.
pub fn payload(data: &[u8]) {
    if let Ok(header) = Header::parse(data) {
        assert_eq!(header.to_bytes(), data);
    }
    if let Ok(certificate) = Certificate::parse(data) {
        assert_eq!(certificate.to_bytes(), data);
    }
    // With whatever keys there may be before it.
    for (keys, list) in [(&data[..0], data)].into_iter().chain(data.split_at_checked(2 * STEP_BYTES)) {
        if let Ok(roster) = Roster::parse(list, keys) {
            assert_eq!((roster.to_bytes(), roster.succession().to_bytes()), (list.to_vec(), keys.to_vec()));
        }
    }
    if let Ok(control) = Control::parse(data) {
        assert_eq!(Control::parse(&control.to_bytes()).expect("its own bytes"), control);
    }
    if let Ok(said) = SharedEvent::parse(data) {
        let written = said.to_bytes().expect("what was read fits");
        assert_eq!(SharedEvent::parse(&written).expect("its own bytes").to_bytes().expect("it fits"), written);
    }
}

/// A peer that has a part in the other one's space, and one of its own, and signs whatever it likes.
struct Mallory {
    device: SigningKey,
    certificate: Certificate,
}

impl Mallory {
    fn new() -> Self {
        let (brain, device) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let certificate = Certificate::make(&brain, DeviceKey::of(&device), EPOCH, NOW);
        Self { device, certificate }
    }
}

/// Bytes, taken from the front. What is not there is zero.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, self.0), |(first, rest)| (*first, rest));
        self.0 = rest;
        first
    }

    fn bytes(&mut self, count: usize) -> Bytes {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        Bytes::copy_from_slice(taken)
    }

    /// Small numbers, and those at the ends.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => u64::MAX / 2,
            253 => 1 << 32,
            small => u64::from(small),
        }
    }
}

/// The brain that is attacked, with what it keeps.
struct Victim {
    engine: Engine,
    kept: BTreeMap<(ChainId, u64), Entry>,
    /// Its own space, where the peer may write.
    space: SpaceId,
    grant: Hash,
    peer: DeviceKey,
    /// What the peer has signed, to be said again, forked and gone on from.
    said: Vec<Entry>,
}

impl Victim {
    fn new(mallory: &Mallory) -> Self {
        let (brain, device) = (SigningKey::from_bytes(&[3; 32]), SigningKey::from_bytes(&[4; 32]));
        let certificate = Certificate::make(&brain, DeviceKey::of(&device), EPOCH, NOW);
        let name = "A brain".to_owned();
        let mut engine = Engine::new(Identity { device, certificate, name: name.clone(), addresses: Vec::new() });
        let peer = DeviceKey::of(&mallory.device);
        let known = Peer { name, devices: BTreeMap::from([(peer, Vec::new())]), blocked: false };
        engine.restore_peer(mallory.certificate.brain(), known);
        let at = Hlc { millis: NOW, counter: 0 };
        let begun = engine.create_space("Garden", at).expect("a name");
        let (space, grant, kept, said) = (begun[0].space(), Hash::NONE, BTreeMap::new(), Vec::new());
        let mut victim = Self { engine, kept, space, grant, peer, said };
        victim.say(begun);
        let (to, role) = (mallory.certificate.brain(), Role::Write);
        let offered = victim.engine.offer(space, Offer { to, role, expires_at: None, reshare: false }, at);
        let offered = offered.expect("it is its own");
        victim.grant = offered[0].hash();
        victim.say(offered);
        victim.input(Input::Connected { device: peer });
        let hello = Frame::Hello(cairn_sync::wire::Hello {
            oldest: cairn_sync::wire::OLDEST_VERSION,
            newest: cairn_sync::wire::NEWEST_VERSION,
            certificate: mallory.certificate.clone(),
            name: "Mallory".to_owned(),
            addresses: Vec::new(),
        });
        victim.frame(hello.to_bytes());
        victim
    }

    fn say(&mut self, entries: Vec<Entry>) {
        self.keep(entries.clone());
        self.input(Input::Said(entries));
    }

    fn keep(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let place = (chain_of(&entry), entry.header().number);
            assert!(self.kept.insert(place, entry).is_none(), "an entry is kept once");
        }
    }

    fn frame(&mut self, bytes: Bytes) {
        let device = self.peer;
        // Both ways of taking one, by turns.
        self.input(match bytes.len() % 2 {
            0 => Input::Frame { device, bytes },
            _ => Input::Read { device, frame: Box::new(Frame::read_ahead(bytes)) },
        });
    }

    fn input(&mut self, input: Input) {
        let (mut inputs, mut count) = (vec![input], 0);
        while let Some(input) = inputs.pop() {
            let effects = self.engine.handle(input, NOW);
            count += effects.len();
            assert!(count < MAX_EFFECTS, "one frame has {count} effects");
            for effect in effects {
                match effect {
                    Effect::Keep(entries) => self.keep(entries),
                    Effect::Load(load) => {
                        let range = (load.chain, load.from)..=(load.chain, u64::MAX);
                        let entries = self.kept.range(range).take(load.limit).map(|(_, entry)| entry.clone());
                        let entries = entries.collect();
                        inputs.push(Input::Loaded { load, entries });
                    }
                    _ => {}
                }
            }
        }
    }
}

/// An entry of the peer's, as it likes.
fn sign(mallory: &Mallory, victim: &Victim, choices: &mut Choices<'_>) -> Entry {
    let before = match choices.byte() {
        0 => None,
        pick => victim.said.len().checked_sub(usize::from(pick)).and_then(|at| victim.said.get(at)),
    };
    let (space, grant) = match choices.byte() % 4 {
        0 => (None, Hash::NONE),
        1 => (before.map(Entry::space), Hash::NONE),
        2 => (Some(SpaceId::new(Hash::of(b"another"))), victim.grant),
        _ => (Some(victim.space), victim.grant),
    };
    let (kind, follows) = (EntryKind::of(choices.byte()), choices.byte());
    let (number, previous) = match (follows, before) {
        (0..200, Some(before)) => (before.header().number.saturating_add(1), before.hash()),
        (200..230, Some(before)) => (before.header().number, before.header().previous),
        (0..230, None) => (1, Hash::NONE),
        _ => (choices.number(), Hash::of(&[choices.byte()])),
    };
    let header = Header {
        space,
        author: mallory.certificate.brain(),
        epoch: EPOCH,
        number,
        previous,
        grant,
        at: Hlc { millis: NOW - 100 + choices.number() % 200, counter: 0 },
        truth: Truth::ALL[usize::from(choices.byte()) % Truth::ALL.len()],
        kind,
        memory: MemoryId::new(Uuid::from_u128(u128::from(choices.byte()))),
        preceding: u16::from(choices.byte() / 64),
        following: u16::from(choices.byte() / 64),
        payload_bytes: 0,
        payload: Hash::NONE,
    };
    let payload = said(victim, choices, mallory.certificate.brain());
    let entry = Entry::sign(header, payload, &mallory.device).expect("it fits");
    match choices.byte() {
        251.. => entry.erased(),
        246..=250 => {
            let sealed = vec![choices.byte(); entry.header().payload_bytes as usize + SEALED_BYTES];
            entry.with_sealed(Some(sealed.into()))
        }
        _ => entry,
    }
}

fn said(victim: &Victim, choices: &mut Choices<'_>, own: BrainKey) -> Bytes {
    let memory = MemoryId::new(Uuid::from_u128(1));
    let control = match choices.byte() {
        0 => Control::SpaceCreated { name: "Mine".to_owned() },
        1 => Control::Offered { to: victim.engine.brain(), role: Role::Write, expires_at: None, reshare: true },
        2 => Control::Offered { to: own, role: Role::Admin, expires_at: None, reshare: true },
        3 => Control::Revoked { grant: victim.grant, accepted: Vec::new() },
        4 => Control::Erased { memory },
        5 => Control::Answered { wish: Hash::of(&[choices.byte()]), granted: true },
        6 => Control::Resumed { after: victim.said.last().map_or(Hash::NONE, Entry::hash) },
        7 => Control::Renamed { name: "Theirs".to_owned() },
        8 => return serde_json::to_vec(&Decision::Accepted).expect("a plain word").into(),
        _ => {
            let count = usize::from(choices.byte());
            return choices.bytes(count);
        }
    };
    control.to_bytes().into()
}

/// A peer sends what it likes, one thing after the other: whatever that is, it takes nothing of the other one's and brings it to no fall.
pub fn engine(data: &[u8]) {
    let (mallory, mut choices) = (Mallory::new(), Choices(data));
    let mut victim = Victim::new(&mallory);
    let own = victim.engine.brain();
    let own_entries = |victim: &Victim| victim.kept.keys().filter(|(chain, _)| chain.author == own).count();
    let (space, before) = (victim.space, own_entries(&victim));
    let rules = victim.engine.replica().space(space).cloned();
    let mut steps = 0;
    while !choices.0.is_empty() && steps < MAX_STEPS {
        steps += 1;
        match choices.byte() % 8 {
            0 => {
                let count = usize::from(choices.byte()) * 2;
                victim.frame(choices.bytes(count));
            }
            1..=3 => {
                let mut entries = vec![sign(&mallory, &victim, &mut choices)];
                victim.said.extend(entries.iter().cloned());
                while choices.byte() > 200 && entries.len() < 8 {
                    let entry = sign(&mallory, &victim, &mut choices);
                    victim.said.push(entry.clone());
                    entries.push(entry);
                }
                let (certificate, asked) = (choices.byte() % 4 > 0, choices.byte() % 2 > 0);
                let certificate = certificate.then(|| mallory.certificate.clone());
                let (batch, _) = Batch::of(chain_of(&entries[0]), &entries, certificate, asked);
                victim.frame(Frame::Batch(batch).to_bytes());
            }
            4 => {
                let known: Vec<Tag> = victim.kept.keys().map(|(chain, _)| chain.tag()).collect();
                let mut tag = || match choices.byte() {
                    pick if !known.is_empty() && pick < 200 => known[usize::from(pick) % known.len()],
                    other => Tag([other; 16]),
                };
                let (chain, forked) = (tag(), vec![tag()]);
                let head = Head { chain, number: choices.number(), hash: Tag([choices.byte(); 16]) };
                let space = if choices.byte() % 2 == 0 { space } else { SpaceId::new(Hash::of(b"unheard of")) };
                victim.frame(Frame::Heads(vec![SpaceHeads { space, heads: vec![head], forked }]).to_bytes());
            }
            5 => {
                let known: Vec<Tag> = victim.kept.keys().map(|(chain, _)| chain.tag()).collect();
                let chain = known[usize::from(choices.byte()) % known.len()];
                victim.frame(Frame::Pull(Pull { space, chain, from: choices.number() }).to_bytes());
            }
            6 => {
                let (one, other) = (sign(&mallory, &victim, &mut choices), sign(&mallory, &victim, &mut choices));
                let fork = Fork { known: Box::new(one), other: Box::new(other) };
                victim.frame(Frame::Proof(fork, mallory.certificate.clone()).to_bytes());
            }
            _ => match choices.byte() % 6 {
                3 => {
                    let devices = (0..choices.byte() % 20)
                        .map(|_| DeviceKey::of(&SigningKey::from_bytes(&[choices.byte(); 32])));
                    let devices: Vec<DeviceKey> = devices.collect();
                    let secret = SigningKey::from_bytes(&[if choices.byte() > 200 { 3 } else { 1 }; 32]);
                    // It has not the key of the other brain.
                    let secret =
                        if BrainKey::of(&secret) == own { SigningKey::from_bytes(&[7; 32]) } else { secret };
                    let roster = match choices.byte() % 3 {
                        0 => changed(secret, choices.byte()).list(choices.number(), devices),
                        _ => Roster::sign(&secret, choices.number(), devices),
                    };
                    victim.frame(Frame::Roster(roster).to_bytes());
                }
                4 => {
                    let brain = BrainKey::of(&SigningKey::from_bytes(&[choices.byte(); 32]));
                    let devices = BTreeMap::from([(victim.peer, vec!["/ip4/192.0.2.7".to_owned()])]);
                    let known = KnownPeer { brain, name: "Somebody".to_owned(), devices };
                    victim.frame(Frame::KnownPeers(vec![known]).to_bytes());
                }
                5 => {
                    let epoch = Epoch([choices.byte(); 16]);
                    victim.frame(Frame::Certify { epoch }.to_bytes());
                    let certificate = mallory.certificate.clone();
                    victim.frame(Frame::Certified { certificate, name: "Mallory".to_owned() }.to_bytes());
                }
                0 => victim.input(Input::Tick),
                1 => victim.input(Input::Disconnected { device: victim.peer }),
                _ => victim.input(Input::Connected { device: victim.peer }),
            },
        }
    }
    assert_eq!(own_entries(&victim), before, "nobody else speaks for it");
    assert_eq!(victim.engine.replica().space(space).cloned(), rules, "nobody else says what holds in its space");
    assert!(!victim.engine.is_forked(), "it stands accused of what it has not said");
}

/// What a fuzzer begins with: each kind of frame, each kind of payload, and some ways to act.
#[allow(dead_code, reason = "fuzzers begin with what it has written")]
pub fn seeds() -> [(&'static str, Vec<Vec<u8>>); 3] {
    let mallory = Mallory::new();
    let mut victim = Victim::new(&mallory);
    let certificate = mallory.certificate.clone();
    let space = victim.space;
    let claim = br#"{"field":"title","value":"Tomatoes"}"#;
    let shared = |code: u8, data: &[u8]| [&[1; 16], [code, 1].as_slice(), data].concat();
    let later = changed(SigningKey::from_bytes(&[1; 32]), 9);
    let payloads = vec![
        Control::SpaceCreated { name: "Garden".to_owned() }.to_bytes(),
        Control::Offered { to: certificate.brain(), role: Role::Admin, expires_at: Some(NOW), reshare: true }
            .to_bytes(),
        Control::Revoked { grant: victim.grant, accepted: Vec::new() }.to_bytes(),
        Control::Erased { memory: MemoryId::new(Uuid::from_u128(1)) }.to_bytes(),
        Control::Answered { wish: Hash::NONE, granted: true }.to_bytes(),
        Control::Resumed { after: Hash::NONE }.to_bytes(),
        shared(1, br#"{"kind":"note"}"#),
        shared(2, claim),
        shared(3, br#"{"field":"title","claim":"01010101-0101-0101-0101-010101010101"}"#),
        shared(5, br#"{"field":"title","suggestion":"01010101-0101-0101-0101-010101010101"}"#),
        certificate.to_bytes(),
        Roster::sign(&SigningKey::from_bytes(&[1; 32]), 1, vec![certificate.device()]).to_bytes(),
        later.certify(certificate.device(), certificate.epoch(), 1).to_bytes(),
        [later.succession().to_bytes(), later.list(1, vec![certificate.device()]).to_bytes()].concat(),
        Control::Succeeded {
            brain: certificate.brain(),
            key: later.succession().current(),
            generation: 1,
            devices: vec![certificate.device()],
            accepted: vec![Accepted { epoch: certificate.epoch(), number: 7 }],
            decided: Vec::new(),
        }
        .to_bytes(),
        victim.kept.values().next().map(|entry| entry.header().to_bytes().to_vec()).unwrap_or_default(),
    ];
    let acting: Vec<Vec<u8>> = (0..16_u8)
        .map(|seed| blake3::Hasher::new().update(&[seed]).finalize_xof())
        .map(|mut bytes| {
            let mut data = vec![0; 300];
            bytes.fill(&mut data);
            data
        })
        .collect();
    for data in &acting {
        let mut choices = Choices(data);
        let entry = sign(&mallory, &victim, &mut choices);
        victim.said.push(entry);
    }
    let batch = |entries: &[Entry]| Batch::of(chain_of(&entries[0]), entries, Some(certificate.clone()), false).0;
    let heads: Vec<Head> = victim
        .said
        .iter()
        .map(|entry| Head { chain: chain_of(entry).tag(), number: 1, hash: entry.hash().tag() })
        .collect();
    let (known, other) = (Box::new(victim.said[0].clone()), Box::new(victim.said[1].clone()));
    let pull = Pull { space, chain: heads[0].chain, from: 1 };
    let receipt = Receipt::sign(space, heads.clone(), NOW, &mallory.device);
    let (oldest, newest) = (cairn_sync::wire::OLDEST_VERSION, cairn_sync::wire::NEWEST_VERSION);
    let addresses = vec!["/ip4/192.0.2.1/udp/7412/quic-v1".to_owned()];
    let hello = cairn_sync::wire::Hello {
        oldest,
        newest,
        certificate: certificate.clone(),
        name: "M".to_owned(),
        addresses,
    };
    let frames = [
        Frame::Hello(hello),
        Frame::Pair { secret: Bytes::from_static(&[7; 16]) },
        Frame::Paired,
        Frame::Heads(vec![SpaceHeads { space, heads: heads.clone(), forked: vec![heads[0].chain] }]),
        Frame::Pull(pull),
        Frame::Batch(batch(&victim.said[..1])),
        Frame::Batch(batch(&victim.said)),
        Frame::Batch(Batch::nothing(pull)),
        Frame::Receipt(receipt),
        Frame::Proof(Fork { known, other }, certificate.clone()),
        Frame::Refused(cairn_sync::wire::Refusal::Limit),
    ];
    [
        ("frame", frames.iter().map(|frame| frame.to_bytes().to_vec()).collect()),
        ("payload", payloads),
        ("engine", acting),
    ]
}
