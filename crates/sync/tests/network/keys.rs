//! Keys of brains that follow each other. The words of the next one are known to all devices of a brain, as its owner has them on paper.

use cairn_sync::key::BrainKey;
use cairn_sync::succession::{BrainSecret, Succession};
use ed25519_dalek::SigningKey;

use super::World;
use super::node::Node;

/// The key of a brain that comes after some.
fn secret(first: &SigningKey, before: usize) -> SigningKey {
    match before {
        0 => first.clone(),
        _ => SigningKey::from_bytes(blake3::keyed_hash(&first.to_bytes(), &before.to_be_bytes()).as_bytes()),
    }
}

impl Node {
    /// The key that signs for its brain, as far as it knows.
    pub fn secret(&self) -> BrainSecret {
        let known = self.engine.succession(self.brain());
        BrainSecret::of(secret(&self.key, known.generation()), known).expect("they follow each other")
    }

    /// A key that has signed for its brain.
    pub fn secret_before(&self, generation: usize) -> BrainSecret {
        let mut keys = Succession::first(self.brain());
        for before in 0..generation {
            let (key, next) = (secret(&self.key, before), secret(&self.key, before + 1));
            let prepared = keys.prepare(&key, BrainKey::of(&next)).expect("none was named");
            keys = prepared.change(&next).expect("it is the one that was named");
        }
        BrainSecret::of(secret(&self.key, generation), keys).expect("they follow each other")
    }
}

impl World {
    /// A brain names its next key, or puts the one that is named in place, at any device.
    pub fn change_key(&mut self, who: usize) {
        let node = &self.nodes[who];
        let (known, secret_now) = (node.engine.succession(node.brain()), node.secret());
        let next = secret(&node.key, known.generation() + 1);
        if known.is_prepared() {
            let changed = known.change(&next).expect("it is the one that was named");
            self.put_in_place(who, next, changed);
        } else if known.generation() < 3 {
            let prepared = known.prepare(secret_now.key(), BrainKey::of(&next)).expect("none was named");
            self.list(who, &BrainSecret::of(secret_now.key().clone(), prepared).expect("it is the same"));
        }
    }

    /// Where nobody speaks for the space, because the one who did was restored, the owner puts the key in place again.
    pub fn regain_key(&mut self) {
        let speaks = |node: &Node| node.engine.speaks_for(self.space);
        if !self.nodes.iter().any(speaks) {
            let known = self.nodes[0].engine.succession(self.nodes[0].brain());
            let key = secret(&self.nodes[0].key, known.generation());
            self.put_in_place(0, key, known);
        }
    }

    fn put_in_place(&mut self, who: usize, key: SigningKey, keys: Succession) {
        let made = BrainSecret::of(key, keys).expect("it signs now");
        self.list(who, &made);
        let node = &mut self.nodes[who];
        node.keys.push(made.succession().current());
        node.engine.set_keys(node.keys.clone());
        self.go_on_anew(who);
        self.succeed();
    }

    /// Lists all devices of a brain with a key.
    fn list(&mut self, who: usize, secret: &BrainSecret) {
        let brain = self.nodes[who].brain();
        let devices = self.nodes.iter().filter(|node| node.brain() == brain).map(Node::device).collect();
        let node = &mut self.nodes[who];
        node.clock += 1;
        let number = node.engine.roster().map_or(0, |known| known.number()).max(node.clock) + 1;
        let (roster, now) = (secret.list(number, devices), node.clock);
        node.disk.rosters.insert(brain, roster.clone());
        for effect in node.engine.say_roster(roster, now) {
            drop(self.carry_out(who, effect));
        }
    }

    /// Whoever speaks for the space says which brains have another key.
    pub fn succeed(&mut self) {
        for who in 0..self.nodes.len() {
            if self.nodes[who].engine.lists_by_an_old_key() {
                let secret = self.nodes[who].secret();
                self.list(who, &secret);
            }
            for (space, brain) in self.nodes[who].engine.to_be_succeeded() {
                let node = &self.nodes[who];
                if let Ok(entries) = node.engine.succeed(space, brain, node.at()) {
                    self.say(who, entries);
                }
            }
        }
    }

    /// Who speaks for the space: the owner's first device, or one that has taken it over.
    pub fn speaker(&self) -> usize {
        self.nodes.iter().position(|node| node.engine.speaks_for(self.space)).unwrap_or(0)
    }
}
