//! What becomes of entries that others send: which can be used, where they belong, and whether a chain has forked.

use super::{Effect, Engine, Load, MAX_AHEAD_MS, MAX_EPOCHS, MAX_HEADS, News, Why};
use crate::certificate::Certificate;
use crate::chain::{Chain, ChainId, Fork, chain_of};
use crate::entry::{Entry, EntryKind, HEADER_BYTES, Lane};
use crate::key::{BrainKey, DeviceKey, SpaceId, Tag};
use crate::replica;
use crate::wire::{Batch, Frame, Head, InvalidFrame, Pull, Receipt};

impl Engine {
    pub(super) fn receive(
        &mut self,
        device: DeviceKey,
        brain: BrainKey,
        batch: Batch,
        now: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), InvalidFrame> {
        let (place, before) = ((batch.space, batch.chain), effects.len());
        let mut asked = false;
        if let Some(session) = self.sessions.get_mut(&device) {
            let chain = (batch.space, batch.chain);
            if batch.asked {
                asked = session.pulling.remove(&chain).is_some();
            } else if session.heads.len() < MAX_HEADS {
                // Where it is of no use yet, it is asked for when it is.
                let number = batch.first + batch.len() as u64 - u64::from(!batch.is_empty());
                let head =
                    session.heads.entry(chain).or_insert(Head { chain: batch.chain, number, hash: Tag([0; 16]) });
                head.number = head.number.max(number);
            }
        }
        let reached = self.reached(place.0, place.1);
        let taken = self.take_batch(device, brain, batch, now, effects);
        if asked
            && self.reached(place.0, place.1) == reached
            && let Some(session) = self.sessions.get_mut(&device)
        {
            session.stalled.insert(place, now);
        }
        // What comes next is asked for before what came is kept, so that it comes meanwhile.
        let asking = effects.len();
        self.want(device, now, effects);
        self.pump(device, now, effects);
        effects[before..].rotate_left(asking - before);
        taken
    }

    /// Whether this brain has taken as much of an author's as one may have it keep in a day. What is said about a space is always heard.
    pub(super) fn takes_no_more(&self, chain: ChainId, now: u64) -> bool {
        chain.lane == Lane::Content && self.quota.is_used_up(chain.author, now)
    }

    /// How far this brain has a chain, whole publications or not.
    fn reached(&self, space: SpaceId, chain: Tag) -> u64 {
        let chain = self.tags.get(&(space, chain)).and_then(|chain| self.replica.chain(*chain));
        chain.map_or(0, Chain::number)
    }

    fn take_batch(
        &mut self,
        device: DeviceKey,
        brain: BrainKey,
        mut batch: Batch,
        now: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), InvalidFrame> {
        if batch.is_empty() {
            // There is nothing to be had, whatever was said before.
            if let Some(session) = self.sessions.get_mut(&device) {
                session.heads.remove(&(batch.space, batch.chain));
            }
            return Ok(());
        }
        let known = self.tags.get(&(batch.space, batch.chain)).copied();
        let known_author = known.and_then(|chain| self.certificates.get(&(chain.author, chain.epoch)));
        let Some(certificate) = batch.certificate.as_ref().or(known_author).cloned() else {
            // It comes along with what is asked for.
            return Ok(());
        };
        if known.is_some_and(|chain| self.takes_no_more(chain, now)) {
            return Ok(());
        }
        let has_begun = self.replica.space(batch.space).is_some();
        // Whoever passes on what somebody says about a space of theirs, they have said it.
        let offers = batch.first == 1 && self.may_offer(certificate.brain(), brain);
        let is_member = self.is_member(batch.space, certificate.brain());
        if !(has_begun && is_member || !has_begun && offers) {
            // Whoever wrote it has no part in the space, as far as this brain knows; it may learn more.
            return Ok(());
        }
        if !self.fits(&certificate) {
            return Err(InvalidFrame::Unsound("certificate"));
        }
        let entries = self.opened(batch.space, batch.open(&certificate)?);
        let entries = self.usable(brain, batch.space, entries)?;
        let Some(chain) = entries.first().map(chain_of) else { return Ok(()) };
        if has_begun && !self.wants(batch.space, Some(chain.lane), now) || !has_begun && !begins(&entries) {
            return Ok(());
        }
        let epochs = self.replica.chains(chain.space);
        let epochs = epochs.filter(|known| {
            (known.id().author, known.id().lane) == (chain.author, chain.lane) && known.number() > 0
        });
        let epochs = epochs.count();
        if known.is_none() && epochs >= MAX_EPOCHS {
            return Ok(());
        }
        if !has_begun && chain.author != self.brain() && !self.peers.contains_key(&chain.author) {
            self.passed_on.insert(batch.space, brain);
        }
        self.admit(device, chain, certificate, entries, now, effects);
        Ok(())
    }

    /// Entries up to the first that cannot be used. A payload is left out by its author, by the owner of the space, and by anybody where
    /// the owner has said that the memory is erased: others could take away what was said. What is said about the space is never erased, and
    /// only the owner says it.
    fn usable(&self, by: BrainKey, space: SpaceId, mut entries: Vec<Entry>) -> Result<Vec<Entry>, InvalidFrame> {
        let rules = self.replica.space(space);
        let owner = rules.map(crate::space::Space::owner);
        for (at, entry) in entries.iter().enumerate() {
            let (kind, author) = (entry.header().kind, entry.header().author);
            if kind == EntryKind::Control && owner.is_some_and(|owner| owner != author)
                || kind.lane() == Lane::Control && entry.payload().is_none()
            {
                return Err(InvalidFrame::Unsound("payload"));
            }
            let erased = |memory| rules.is_some_and(|rules| rules.erased().contains_key(memory));
            // What is sealed can be checked by those alone who can open it: others take it from nobody who could not have made it.
            if entry.payload().is_none() && by != author && Some(by) != owner && !erased(&entry.header().memory) {
                // Somebody else has it, or the owner's word about it comes.
                entries.truncate(at);
                break;
            }
        }
        Ok(entries)
    }

    /// Takes entries that were checked alone.
    fn admit(
        &mut self,
        device: DeviceKey,
        chain: ChainId,
        certificate: Certificate,
        mut entries: Vec<Entry>,
        now: u64,
        effects: &mut Vec<Effect>,
    ) {
        let state = self.replica.chain(chain);
        let (reached, hash) = state.map_or((0, crate::key::Hash::NONE), |chain| (chain.number(), chain.hash()));
        if let Some(session) = self.sessions.get_mut(&device) {
            let last = entries.last().map_or(0, |entry| entry.header().number);
            let theirs = session.reached.entry(chain).or_default();
            *theirs = (*theirs).max(last);
            // What they send now they need not be sent, and what comes after it they want.
            session.following.insert(chain);
        }
        if let Some(fork) = state.and_then(Chain::fork) {
            entries.retain(|entry| entry.header().number < fork.number());
        }
        // What is known must be the very same.
        let behind = entries.iter().take_while(|entry| entry.header().number <= reached).count();
        let rest = entries.split_off(behind);
        let same = entries.last().is_none_or(|last| last.header().number == reached && last.hash() == hash);
        if !same {
            let Some(from) = entries.first().map(|entry| entry.header().number) else { return };
            effects.push(Effect::Load(Load { chain, from, limit: behind, why: Why::Compared(device, entries) }));
            return;
        }
        let Some(first) = rest.first() else { return };
        if first.header().number > reached + 1 {
            // Something before it is missing; it is asked for because the head says so.
            return;
        }
        if first.header().previous != hash {
            self.search(device, chain, reached, effects);
            return;
        }
        let early = |entry: &Entry| entry.header().at.millis > now.saturating_add(MAX_AHEAD_MS);
        let timely: Vec<Entry> = rest.into_iter().take_while(|entry| !early(entry)).collect();
        if timely.is_empty() {
            return;
        }
        if (chain.author, chain.epoch) == (self.brain(), self.own.certificate.epoch()) {
            // Nobody but this device can have signed it, and it does not know of it.
            self.lose_epoch(effects);
        }
        self.take_certificate(&certificate, effects);
        // The first entries of a chain may be of a publication that has not come whole, and is not kept yet.
        let known = self.certificates.get(&(chain.author, chain.epoch)).cloned();
        let first = known.filter(|_| !self.heads.contains_key(&chain));
        self.take_in(device, chain, first, timely, now, effects);
    }

    fn take_in(
        &mut self,
        device: DeviceKey,
        chain: ChainId,
        certificate: Option<Certificate>,
        entries: Vec<Entry>,
        now: u64,
        effects: &mut Vec<Effect>,
    ) {
        let offered_before = self.offers_to_own(chain.space);
        let from = effects.len();
        self.absorb(entries, effects);
        let kept: Vec<Entry> = effects[from..]
            .iter()
            .filter_map(|effect| match effect {
                Effect::Keep(entries) => Some(entries.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        let bytes = kept.iter().map(|entry| HEADER_BYTES + entry.header().payload_bytes as usize).sum();
        let is_others = chain.lane == Lane::Content && chain.author != self.brain();
        if is_others && self.quota.take(chain.author, bytes, now) {
            effects.push(Effect::Tell(News::QuotaUsedUp(chain.author)));
        }
        if let Some(certificate) = certificate.filter(|_| !kept.is_empty()) {
            effects.insert(from, Effect::KeepCertificate { space: chain.space, certificate });
        }
        if let Some(head) = self.heads.get(&chain).copied().filter(|_| !kept.is_empty()) {
            let receipt = Receipt::sign(chain.space, vec![head], now, &self.own.device);
            effects.push(Effect::Send { device, frame: Frame::Receipt(receipt).to_bytes() });
        }
        for grant in self.offers_to_own(chain.space) {
            if !offered_before.contains(&grant) {
                effects.push(Effect::Tell(News::Offered { space: chain.space, grant }));
            }
        }
        self.spread(&kept, now, effects);
    }

    /// Grants to this brain that it has not decided on.
    fn offers_to_own(&self, space: SpaceId) -> Vec<crate::key::Hash> {
        let Some(rules) = self.replica.space(space) else { return Vec::new() };
        let own = rules.grants().iter().filter(|(_, grant)| grant.to == self.brain());
        let open = own.filter(|(hash, _)| self.replica.decision(space, **hash).is_none());
        open.map(|(hash, _)| *hash).collect()
    }

    /// Compares what came with what is kept by the same numbers.
    pub(super) fn compare(
        &mut self,
        device: DeviceKey,
        chain: ChainId,
        kept: &[Entry],
        others: Vec<Entry>,
        effects: &mut Vec<Effect>,
    ) {
        let first = others.first().map(|entry| (entry.header().number, entry.header().previous));
        let differing = kept.iter().zip(&others).find(|(kept, other)| kept.hash() != other.hash());
        let Some((known, other)) = differing else { return };
        // The place of the fork is where what came before is the same.
        let sought = first.filter(|(number, previous)| {
            known.header().number == *number && *number > 1 && known.header().previous != *previous
        });
        self.found_fork(chain, known, other, effects);
        self.partial.remove(&chain);
        self.accuse(chain, effects);
        if self.is_forked() {
            self.lose_epoch(effects);
        }
        if sought.is_some() {
            self.search(device, chain, known.header().number - 1, effects);
        }
    }

    /// Takes note of two entries with one number; says whether that is news.
    fn found_fork(&mut self, chain: ChainId, known: &Entry, other: &Entry, effects: &mut Vec<Effect>) -> bool {
        let before = self.replica.space(chain.space).cloned().map(Box::new);
        let complete = |engine: &Self| engine.replica.chain(chain).map_or(0, Chain::complete);
        let was = complete(self);
        let found = self.replica.compared(known, other).into_iter().find_map(|effect| match effect {
            replica::Effect::Forked(fork) => Some(fork),
            _ => None,
        });
        let Some(fork) = found else { return false };
        let is = complete(self);
        match chain.lane {
            Lane::Control => effects.push(Effect::Restand { before, space: chain.space }),
            // An earlier fork may give back what a later one took away.
            Lane::Content if was != is => {
                effects.push(Effect::Recount { chain, from: was.min(is) + 1, to: was.max(is) });
            }
            Lane::Content => {}
        }
        effects.push(Effect::KeepFork(fork));
        true
    }

    /// Shows everybody who is there the proof of a fork.
    fn accuse(&mut self, chain: ChainId, effects: &mut Vec<Effect>) {
        let Some(frame) = self.proof(chain).map(|proof| proof.to_bytes()) else { return };
        for (device, session) in &self.sessions {
            if session.brain.is_some() {
                effects.push(Effect::Send { device: *device, frame: frame.clone() });
            }
        }
    }

    /// Asks for entries up to a number, further back each time, until the place is found from which on they differ.
    pub(super) fn search(&mut self, device: DeviceKey, chain: ChainId, number: u64, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&device) else { return };
        let step = session.searching.entry(chain).or_insert(1);
        let from = number.saturating_sub(*step - 1).max(1);
        *step = step.saturating_mul(16);
        let pull = Pull { space: chain.space, chain: chain.tag(), from };
        effects.push(Effect::Send { device, frame: Frame::Pull(pull).to_bytes() });
    }

    pub(super) fn proven(
        &mut self,
        brain: BrainKey,
        fork: &Fork,
        certificate: Certificate,
        now: u64,
        effects: &mut Vec<Effect>,
    ) {
        let chain = chain_of(&fork.known);
        if !self.fits(&certificate) {
            return;
        }
        if !self.wants(chain.space, None, now)
            || !self.may_know(brain, chain, now)
            || !self.is_member(chain.space, chain.author)
        {
            return;
        }
        self.take_certificate(&certificate, effects);
        self.tags.insert((chain.space, chain.tag()), chain);
        if self.found_fork(chain, &fork.known, &fork.other, effects) {
            self.partial.remove(&chain);
            self.accuse(chain, effects);
            if self.is_forked() {
                self.lose_epoch(effects);
            }
        }
    }
}

/// Whether entries are the beginning of a space.
fn begins(entries: &[Entry]) -> bool {
    entries
        .first()
        .is_some_and(|first| first.header().space.is_none() && crate::space::Space::begin(first).is_ok())
}
