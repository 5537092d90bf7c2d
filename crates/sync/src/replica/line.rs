//! The owner's chains of several epochs, as one line.

use std::collections::BTreeMap;

use cairn_domain::clock::Hlc;

use super::{Held, Writers};
use crate::certificate::Writer;
use crate::chain::ChainId;
use crate::control::Control;
use crate::entry::{Entry, Lane};
use crate::key::{BrainKey, Hash};
use crate::space::Space;

/// What the owner's chains make.
pub(super) struct Line {
    pub(super) space: Space,
    /// The last entry that counts.
    pub(super) last: Hash,
    /// The chains that count, in order.
    pub(super) chains: Vec<ChainId>,
}

/// The space that the owner's entries make: those of the epoch it was begun in, up to where a later epoch goes on, and so on. Where several
/// go on from one chain, the one that leads to the latest key of the owner's counts, so that an earlier key takes nothing from a later one; and of those the
/// one that was begun last by the owner's clock. All of them are of the device that began the space: another one of the owner's takes it over only
/// with a later key. Of what does not count, erasures do, also of another device that had a later key.
pub(super) fn line(chains: &BTreeMap<ChainId, Held>, writers: &Writers) -> Option<Line> {
    let begins = |held: &Held| held.counted().next().and_then(|first| Space::begin(first).ok());
    let (mut id, mut space) = chains.iter().find_map(|(id, held)| Some((*id, begins(held)?)))?;
    let owner = space.owner();
    let device = |id: &ChainId| writer(writers, *id).map(|writer| writer.device);
    let successors = Successors::of(owner, chains, writers);
    let mut passed = vec![id];
    loop {
        let entries: Vec<&Entry> = chains[&id].counted().collect();
        let next = successors.next(id);
        let until = next.map_or(entries.len(), |next| next.place + 1);
        // The first entry of each chain has done its part: it begins the space, or goes on with it.
        for entry in entries[..until].iter().skip(1) {
            // What says nothing that the space takes changes nothing, anywhere.
            let _ = space.take(entry);
        }
        let last = entries[until - 1].hash();
        entries[until..].iter().for_each(|entry| space.take_void(entry));
        let Some(next) = next else {
            let speakers: Vec<_> = passed.iter().map(device).collect();
            for (id, held) in chains.iter().filter(|(id, _)| id.author == owner && !passed.contains(id)) {
                let is_speaker = speakers.contains(&device(id));
                // With a later key, another device may have been taken for the one that speaks.
                let by_later_key = writer(writers, *id).filter(|writer| writer.generation > 0);
                let holds = |entry: &&Entry| {
                    let place = (id.epoch, Lane::Control);
                    let holds = |writer| !space.is_cut_off(owner, writer, place, entry.header().number);
                    is_speaker || by_later_key.is_some_and(holds)
                };
                let void: Vec<&Entry> = held.counted().filter(holds).collect();
                void.into_iter().for_each(|entry| space.take_void(entry));
            }
            return Some(Line { space, last, chains: passed });
        };
        passed.push(next.chain);
        id = next.chain;
    }
}

fn writer(writers: &Writers, id: ChainId) -> Option<Writer> {
    writers.get(&(id.author, id.epoch)).copied()
}

fn generation(writers: &Writers, id: ChainId) -> usize {
    writer(writers, id).map_or(0, |writer| writer.generation)
}

/// Which chains of an owner's go on from which.
struct Successors(BTreeMap<ChainId, Vec<Successor>>);

/// A chain that goes on from another one. Of several, the last in this order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Successor {
    /// The latest key that it leads to, itself or by what goes on from it.
    reaches: usize,
    generation: usize,
    at: Hlc,
    first: Hash,
    chain: ChainId,
    /// After which entry of the other one, counted from 0.
    place: usize,
}

impl Successors {
    fn of(owner: BrainKey, chains: &BTreeMap<ChainId, Held>, writers: &Writers) -> Self {
        let mut successors: BTreeMap<ChainId, Vec<Successor>> = BTreeMap::new();
        let owned = || chains.iter().filter(|(id, _)| id.author == owner && id.lane == Lane::Control);
        // By the entry that they go on after, so that all entries are looked at once.
        let mut begun: BTreeMap<Hash, Vec<(ChainId, &Entry)>> = BTreeMap::new();
        for (id, held) in owned() {
            let first = held.counted().next();
            if let Some((first, after)) = first.and_then(|first| Some((first, resumed(first)?))) {
                begun.entry(after).or_default().push((*id, first));
            }
        }
        let device = |id| writer(writers, id).map(|writer| writer.device);
        for (before, held) in owned().filter(|_| !begun.is_empty()) {
            for (place, entry) in held.counted().enumerate() {
                for (chain, first) in begun.get(&entry.hash()).into_iter().flatten() {
                    let (earlier, generation) = (generation(writers, *before), generation(writers, *chain));
                    // One of the same device as the one before, or by a later key.
                    let same = generation == earlier && device(*chain) == device(*before);
                    if generation > earlier || same {
                        let (at, first, chain) = (first.header().at, first.hash(), *chain);
                        let successor = Successor { reaches: generation, generation, at, first, chain, place };
                        successors.entry(*before).or_default().push(successor);
                    }
                }
            }
        }
        let mut made = Self(successors);
        let reach: BTreeMap<ChainId, usize> = made.all().map(|of| (of.chain, made.reach(of))).collect();
        made.0.values_mut().flatten().for_each(|of| of.reaches = reach[&of.chain]);
        made
    }

    fn all(&self) -> impl Iterator<Item = &Successor> {
        self.0.values().flatten()
    }

    /// What goes on from what is a tree: an entry names another one by its hash.
    fn reach(&self, of: &Successor) -> usize {
        let later = self.0.get(&of.chain).into_iter().flatten();
        later.map(|later| self.reach(later)).max().unwrap_or(0).max(of.generation)
    }

    /// The chain that counts after another one.
    fn next(&self, chain: ChainId) -> Option<Successor> {
        self.0.get(&chain)?.iter().max().copied()
    }
}

/// Which entry this one goes on after, where it begins another epoch of the owner's.
fn resumed(first: &Entry) -> Option<Hash> {
    match Control::parse(first.payload()?).ok()? {
        Control::Resumed { after } => Some(after),
        Control::SpaceCreated { .. }
        | Control::Renamed { .. }
        | Control::Offered { .. }
        | Control::Revoked { .. }
        | Control::Erased { .. }
        | Control::Keyed(_)
        | Control::Retired { .. }
        | Control::Succeeded { .. }
        | Control::Answered { .. } => None,
    }
}
