//! What is to hold once all have met.

use std::collections::BTreeMap;

use cairn_domain::id::MemoryId;
use cairn_sync::chain::ChainId;
use cairn_sync::control::{Control, Role};
use cairn_sync::entry::{Entry, EntryKind, Header, Lane};
use cairn_sync::key::{BrainKey, Hash, SpaceId};
use cairn_sync::space::{Reason, Standing};

use super::World;
use super::node::Node;

/// What a brain has said: the hash of each entry by its place.
pub type SaidBy = BTreeMap<(ChainId, u64), Hash>;

/// What each brain has said and kept so far.
pub fn said(world: &World) -> Vec<SaidBy> {
    let own = |node: &Node| {
        let own = node.disk.entries.iter().filter(|((chain, _), _)| chain.author == node.brain());
        own.map(|(place, entry)| (*place, entry.hash())).collect()
    };
    world.nodes.iter().map(own).collect()
}

/// Panics, naming the seed, where something does not hold of brains that have met. `said` is what each had said before.
pub fn check(world: &World, said: &[SaidBy], seed: u64) {
    erased_is_gone(world, seed);
    only_readers_read(world, seed);
    all_hold_the_same(world, seed);
    nothing_is_lost(world, said, seed);
    nobody_honest_stands_accused(world, seed);
}

fn erased_is_gone(world: &World, seed: u64) {
    for node in &world.nodes {
        let rules = node.engine.replica().space(world.space);
        let erased: Vec<MemoryId> = rules.into_iter().flat_map(|rules| rules.erased().keys().copied()).collect();
        let is_there = |entry: &&Entry| {
            let is_there = entry.payload().is_some() || entry.sealed().is_some();
            is_there && erased.contains(&entry.header().memory)
        };
        let left = node.disk.entries.values().find(is_there).map(Entry::header);
        assert_eq!(left, None, "seed {seed}: what was erased is still there");
    }
}

fn only_readers_read(world: &World, seed: u64) {
    let owner = &world.nodes[0];
    for (who, node) in world.nodes.iter().enumerate() {
        for entry in node.disk.entries.values().filter(|entry| entry.payload().is_some()) {
            let header = entry.header();
            let may_read = header.kind.lane() == Lane::Control
                || header.author == node.brain()
                // What it says in the clear to whom it should not, it has told itself.
                || world.liar().is_some_and(|liar| world.nodes[liar].brain() == header.author)
                || world.theft.as_ref().is_some_and(|theft| theft.hash() == entry.hash())
                || node.brain() == owner.brain()
                || has_been_reader(owner, world.space, node.brain());
            assert!(may_read, "seed {seed}: brain {who} has only kept it for others, and can read {header:?}");
        }
    }
}

/// Who has a part in the space has the same rules, sees the same, and can open what is kept.
fn all_hold_the_same(world: &World, seed: u64) {
    let (space, now) = (world.space, latest(world));
    let (owner, others) = world.nodes.split_first().expect("some");
    let wanted = owner.seen(space);
    let rules = |node: &Node| node.engine.replica().space(space).cloned();
    for (who, other) in (1..).zip(others).filter(|(who, _)| !is_apart(world, *who)) {
        let is_owner = other.brain() == owner.brain();
        if !is_owner && owner.engine.replica().grant_of(space, other.brain(), now).is_none() {
            continue;
        }
        assert_eq!(rules(other), rules(owner), "seed {seed}: brain {who} has other rules");
        let seen = other.seen(space);
        let differs = seen.iter().find(|(place, what)| wanted.get(place) != Some(what));
        assert_eq!(differs, None, "seed {seed}: brain {who} sees something else");
        let lacks: Vec<_> = wanted.keys().filter(|place| !seen.contains_key(place)).collect();
        assert!(lacks.is_empty(), "seed {seed}: brain {who} lacks {lacks:?}");
        if Some(who) != world.liar() {
            let own_words = world.liar().map(|liar| world.nodes[liar].brain());
            let lost = closed(other, space, now).filter(|header| Some(header.author) != own_words);
            assert_eq!(lost, None, "seed {seed}: brain {who} was kept from what was said");
        }
    }
}

/// What honest brains had said is where they keep it, and at the owner's if they have a part in the space.
fn nothing_is_lost(world: &World, said: &[SaidBy], seed: u64) {
    let (space, now, owner) = (world.space, latest(world), &world.nodes[0]);
    let wanted = owner.seen(space);
    for (who, said) in said.iter().enumerate().filter(|(who, _)| Some(*who) != world.liar()) {
        let node = &world.nodes[who];
        let grant = owner.engine.replica().grant_of(space, node.brain(), now);
        let readable = (node.brain() == owner.brain() || grant.is_some()) && !is_apart(world, who);
        for (place, hash) in said {
            // What was said under a grant that the owner never let take effect here stays where it is.
            let kept = node.disk.entries.get(place);
            assert_eq!(kept.map(Entry::hash), Some(*hash), "seed {seed}: brain {who} has lost what it said");
            let Some(entry) = kept.filter(|_| readable) else { continue };
            let standing = owner.engine.replica().standing(space, entry.header());
            let counts = standing != Standing::Held(Reason::NoGrant);
            assert!(
                !counts || wanted.contains_key(place),
                "seed {seed}: what brain {who} said at {place:?} was lost"
            );
        }
    }
}

fn nobody_honest_stands_accused(world: &World, seed: u64) {
    for node in &world.nodes {
        for chain in node.engine.replica().chains(world.space).filter(|chain| chain.fork().is_some()) {
            let author = world.nodes.iter().position(|node| node.brain() == chain.id().author);
            assert_eq!(author, world.liar(), "seed {seed}: an honest brain stands accused");
        }
    }
}

/// By the clock that is ahead of the others.
fn latest(world: &World) -> u64 {
    world.nodes.iter().map(|node| node.clock).max().expect("some")
}

/// One relay takes nothing from another, and one that is no more than that can seal nothing: who meets nobody else neither gets nor gives.
fn is_apart(world: &World, who: usize) -> bool {
    let role = world.nodes[0].engine.replica().role_of(world.space, world.nodes[who].brain(), latest(world));
    world.star && world.relay != Some(who) && role == Some(Role::Relay)
}

/// An entry that a brain should be able to open, or to keep sealed as a relay, and cannot.
fn closed(node: &Node, space: SpaceId, now: u64) -> Option<Header> {
    let rules = node.engine.replica().space(space).expect("it has a part");
    let is_relay = node.engine.replica().role_of(space, node.brain(), now) == Some(Role::Relay);
    let lost = |entry: &&Entry| {
        let opened = node.engine.opened(space, vec![(*entry).clone()]);
        let is_there = opened[0].payload().is_some() || is_relay && entry.sealed().is_some();
        !is_there && !rules.erased().contains_key(&entry.header().memory)
    };
    node.disk.entries.values().find(lost).map(|entry| entry.header().clone())
}

/// Whether a brain was ever let read what is in a space.
fn has_been_reader(owner: &Node, space: SpaceId, brain: BrainKey) -> bool {
    let grants = owner.engine.replica().space(space).into_iter().flat_map(|rules| rules.grants().values());
    let control = owner.disk.entries.values().filter(|entry| entry.header().kind == EntryKind::Control);
    let void = control.filter_map(|entry| Control::parse(entry.payload()?).ok());
    let offered = void.filter_map(|control| match control {
        Control::Offered { to, role, .. } => Some((to, role)),
        _ => None,
    });
    grants.map(|grant| (grant.to, grant.role)).chain(offered).any(|(to, role)| to == brain && role >= Role::Read)
}
