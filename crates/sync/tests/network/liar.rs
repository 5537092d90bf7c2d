//! What the last brain says that is not so.

use bytes::Bytes;
use cairn_domain::clock::Hlc;
use cairn_domain::id::MemoryId;
use cairn_domain::truth::Truth;
use cairn_sync::chain::chain_of;
use cairn_sync::control::{Control, Role};
use cairn_sync::engine::{MAX_AHEAD_MS, Said};
use cairn_sync::entry::{Entry, EntryKind, Header, Lane};
use cairn_sync::key::{Epoch, Hash, SpaceId, Tag};
use cairn_sync::wire::{Batch, Frame, Head, Pull, SpaceHeads};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use uuid::Uuid;

use super::World;
use super::node::{Node, identity};

impl World {
    pub fn liar(&self) -> Option<usize> {
        (self.nodes.len() > 2).then_some(self.nodes.len() - 1)
    }

    /// The last brain says two things with one number: one to some, the other to the rest.
    pub fn fork(&mut self) {
        let Some(liar) = self.liar() else { return };
        let mut some = || (0..self.random.random_range(1..4)).map(|_| self.claim(liar)).collect::<Vec<Said>>();
        let (one, other) = (some(), some());
        let node = &self.nodes[liar];
        let branch = |said: Vec<Said>| node.engine.publish(self.space, &[said], node.clock);
        let (Ok(one), Ok(other)) = (branch(one), branch(other)) else { return };
        let certificate = node.disk.certificates.get(&(node.brain(), node.epoch())).cloned();
        let certificate =
            certificate.unwrap_or_else(|| identity(&node.key, &node.device, node.epoch(), 0).certificate);
        let (lie, _) = Batch::of(chain_of(&other[0]), &other, Some(certificate), false);
        let (links, random) = (&self.links, &mut self.random);
        let told: Vec<usize> =
            (0..liar).filter(|to| links.contains_key(&(liar, *to)) && random.random_bool(0.5)).collect();
        for to in &told {
            let frame = Frame::Batch(lie.clone()).to_bytes();
            self.links.get_mut(&(liar, *to)).expect("it is there").push_back(frame);
        }
        self.forked |= !told.is_empty();
        self.say(liar, one);
    }

    /// The last brain sends what is no frame, or none that makes sense.
    pub fn babble(&mut self) {
        let Some(liar) = self.liar() else { return };
        let to = self.random.random_range(0..liar);
        let node = &self.nodes[liar];
        let bytes: Bytes = match self.random.random_range(0..9) {
            0 => (0..self.random.random_range(1..200)).map(|_| self.random.random::<u8>()).collect(),
            1 => Frame::Paired.to_bytes(),
            2 => self.forged(liar),
            3 => self.heads(),
            4 => {
                let from = *[0, 1, u64::MAX, u64::MAX / 2].choose(&mut self.random).expect("some");
                let chain = node.disk.entries.keys().next().map_or(Tag([7; 16]), |(chain, _)| chain.tag());
                Frame::Pull(Pull { space: self.space, chain, from }).to_bytes()
            }
            5 => self.stripped(liar),
            6 => self.stolen(liar),
            7 => self.usurped(liar),
            // Something that it has sent before, or something of another brain's.
            _ => {
                let entries: Vec<&Entry> = node.disk.entries.values().collect();
                let Some(entry) = entries.choose(&mut self.random) else { return };
                let chain = chain_of(entry);
                let certificate = node.engine.certificate(chain.author, chain.epoch).cloned();
                Frame::Batch(Batch::of(chain, &[(*entry).clone()], certificate, false).0).to_bytes()
            }
        };
        if let Some(link) = self.links.get_mut(&(liar, to)) {
            link.push_back(bytes);
        }
    }

    /// Many chains that there are not, and that are long.
    pub fn heads(&mut self) -> Bytes {
        let head =
            |random: &mut StdRng| Head { chain: Tag(random.random()), number: u64::MAX, hash: Tag([1; 16]) };
        let heads = (0..40).map(|_| head(&mut self.random)).collect();
        let forked = vec![Tag(self.random.random())];
        Frame::Heads(vec![SpaceHeads { space: self.space, heads, forked }]).to_bytes()
    }

    /// What another brain has said, without what it says.
    pub fn stripped(&mut self, liar: usize) -> Bytes {
        let node = &self.nodes[liar];
        let entries: Vec<&Entry> =
            node.disk.entries.values().filter(|entry| entry.header().kind.lane() == Lane::Content).collect();
        let Some(entry) = entries.choose(&mut self.random) else { return Bytes::new() };
        let chain = chain_of(entry);
        let certificate = node.engine.certificate(chain.author, chain.epoch).cloned();
        Frame::Batch(Batch::of(chain, &[(*entry).clone().erased()], certificate, false).0).to_bytes()
    }

    /// Something in the owner's name that its first key, which the liar has by now, lets its device say.
    pub fn stolen(&mut self, liar: usize) -> Bytes {
        let said = self.claim(liar);
        let (owner, node) = (&self.nodes[0], &self.nodes[liar]);
        if owner.engine.succession(owner.brain()).generation() == 0 {
            return Bytes::new();
        }
        let payload = said.event.to_bytes().expect("small");
        let header = Header {
            kind: said.event.kind(),
            memory: said.memory,
            ..in_the_name_of(owner, self.space, Epoch([200; 16]), node.at())
        };
        let entry = self.theft.get_or_insert_with(|| Entry::sign(header, payload, &node.device).expect("small"));
        let made = identity(&owner.key, &node.device, Epoch([200; 16]), 0).certificate;
        Frame::Batch(Batch::of(chain_of(entry), std::slice::from_ref(entry), Some(made), false).0).to_bytes()
    }

    /// The space, taken over in the owner's name with the key before the one of now, which the liar has by now: from any word on, and late by the clock.
    pub fn usurped(&mut self, liar: usize) -> Bytes {
        let (owner, node) = (&self.nodes[0], &self.nodes[liar]);
        let control = node.disk.entries.values().filter(|entry| {
            let header = entry.header();
            header.kind == EntryKind::Control && header.author == owner.brain()
        });
        let control: Vec<Hash> = control.map(Entry::hash).collect();
        let generation = owner.engine.succession(owner.brain()).generation();
        let Some((before, after)) = generation.checked_sub(1).zip(control.choose(&mut self.random).copied())
        else {
            return Bytes::new();
        };
        let made = owner.secret_before(before).certify(node.device(), Epoch([201; 16]), 0);
        if self.usurpation.is_empty() {
            let at = Hlc { millis: node.clock + self.random.random_range(0..MAX_AHEAD_MS), counter: 0 };
            for said in [Control::Resumed { after }, Control::Renamed { name: "Nobody's".into() }] {
                let last = self.usurpation.last();
                let header = Header {
                    number: last.map_or(1, |last| last.header().number + 1),
                    previous: last.map_or(Hash::NONE, Entry::hash),
                    ..in_the_name_of(owner, self.space, Epoch([201; 16]), at)
                };
                let entry = Entry::sign(header, said.to_bytes().into(), &node.device).expect("small");
                self.usurpation.push(entry);
            }
        }
        Frame::Batch(Batch::of(chain_of(&self.usurpation[0]), &self.usurpation, Some(made), false).0).to_bytes()
    }

    /// An entry in the owner's name that the liar has signed.
    pub fn forged(&self, liar: usize) -> Bytes {
        let (owner, node) = (&self.nodes[0], &self.nodes[liar]);
        let header = Header {
            number: 2,
            previous: Hash::of(b"one"),
            ..in_the_name_of(owner, self.space, owner.epoch(), node.at())
        };
        let to = node.brain();
        let control = Control::Offered { to, role: Role::Admin, expires_at: None, reshare: true };
        let entry = Entry::sign(header, control.to_bytes().into(), &node.device).expect("small");
        let chain = chain_of(&entry);
        let made = identity(&owner.key, &owner.device, owner.epoch(), 0).certificate;
        Frame::Batch(Batch::of(chain, &[entry], Some(made), false).0).to_bytes()
    }
}

/// The head of the first entry about a space that a brain says in an epoch.
fn in_the_name_of(owner: &Node, space: SpaceId, epoch: Epoch, at: Hlc) -> Header {
    Header {
        space: Some(space),
        author: owner.brain(),
        epoch,
        number: 1,
        previous: Hash::NONE,
        grant: Hash::NONE,
        at,
        truth: Truth::User,
        kind: EntryKind::Control,
        memory: MemoryId::new(Uuid::nil()),
        preceding: 0,
        following: 0,
        payload_bytes: 0,
        payload: Hash::NONE,
    }
}
