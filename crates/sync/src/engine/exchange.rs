//! What brains that know each other exchange: how far they are, entries, receipts and proofs.

use super::{
    Effect, Engine, Load, MAX_HEADS, MAX_OFFERED, MAX_PULLS, MAX_SERVING, News, PUSH_CREDIT, STALLED_MS, Why,
};
use crate::chain::{Chain, ChainId, chain_of};
use crate::entry::{Entry, Lane};
use crate::key::{BrainKey, DeviceKey, SpaceId, Tag};
use crate::wire::{
    Batch, Frame, Head, InvalidFrame, MAX_BATCH_ENTRIES, MAX_SPACES, PROOF, Pull, Receipt, SpaceHeads,
};

/// A part of a chain that is sent.
struct Part {
    chain: ChainId,
    /// The first number.
    from: u64,
    /// Whether it was asked for.
    asked: bool,
}

impl Engine {
    /// Tells somebody who is there how far this brain is with all that they may read.
    pub(super) fn greet(&mut self, device: DeviceKey, now: u64, effects: &mut Vec<Effect>) {
        if let Some(session) = self.sessions.get_mut(&device) {
            session.told_at = now;
        }
        let spaces: Vec<SpaceId> = self.replica.spaces().map(crate::space::Space::id).collect();
        self.tell_heads(device, &spaces, now, effects);
    }

    /// Tells somebody how far this brain is in some spaces; also that it has nothing in a space, so that they can tell what is missing.
    fn tell_heads(&mut self, device: DeviceKey, spaces: &[SpaceId], now: u64, effects: &mut Vec<Effect>) {
        let Some(brain) = self.sessions.get(&device).and_then(|session| session.brain) else { return };
        let heads: Vec<SpaceHeads> =
            spaces.iter().filter_map(|space| self.heads_for(brain, *space, now)).collect();
        let shown = heads.iter().flat_map(|of| of.heads.iter().map(|head| (of.space, head)));
        let shown = shown.filter_map(|(space, head)| Some((*self.tags.get(&(space, head.chain))?, head.number)));
        if let Some(session) = self.sessions.get_mut(&device) {
            session.shown.extend(shown);
        }
        for part in heads.chunks(MAX_SPACES) {
            effects.push(Effect::Send { device, frame: Frame::Heads(part.to_vec()).to_bytes() });
        }
    }

    /// The chains of which a brain may know that they have forked.
    fn forked_for(&self, brain: BrainKey, space: SpaceId, now: u64) -> Vec<ChainId> {
        let forked = self.replica.chains(space).filter(|chain| chain.fork().is_some()).map(Chain::id);
        forked.filter(|chain| self.may_have(brain, *chain, now) && self.proof(*chain).is_some()).collect()
    }

    pub(super) fn proof(&self, chain: ChainId) -> Option<Frame> {
        let fork = self.replica.chain(chain)?.fork()?;
        let certificate = self.certificates.get(&(chain.author, chain.epoch))?;
        Some(Frame::Proof(fork.clone(), certificate.clone()))
    }

    fn heads_for(&self, brain: BrainKey, space: SpaceId, now: u64) -> Option<SpaceHeads> {
        let readable: Vec<ChainId> = self
            .replica
            .chains(space)
            .map(|chain| chain.id())
            .filter(|id| self.may_know(brain, *id, now))
            .collect();
        let forked = self.forked_for(brain, space, now).iter().map(ChainId::tag).collect();
        let heads: Vec<Head> = readable.iter().filter_map(|id| self.heads.get(id).copied()).collect();
        (!heads.is_empty()).then_some(SpaceHeads { space, heads, forked })
    }

    pub(super) fn exchange(
        &mut self,
        device: DeviceKey,
        brain: BrainKey,
        frame: Frame,
        now: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), InvalidFrame> {
        match frame {
            Frame::Heads(spaces) => self.hear_heads(device, brain, spaces, now, effects),
            Frame::Pull(pull) => self.serve(device, brain, pull, now, effects),
            Frame::Batch(batch) => return self.receive(device, brain, batch, now, effects),
            Frame::Receipt(receipt) => return self.received(device, brain, receipt, now, effects),
            Frame::Proof(fork, certificate) => {
                self.proven(brain, &fork, certificate, now, effects);
                self.note_proof(device, chain_of(&fork.known));
            }
            // Who is there has been settled.
            Frame::Hello(_) | Frame::Pair { .. } | Frame::Paired | Frame::Refused(_) => {}
            Frame::Roster(_) | Frame::KnownPeers(_) | Frame::Certify { .. } | Frame::Certified { .. } => {
                return self.hear_devices(device, brain, frame, now, effects);
            }
        }
        Ok(())
    }

    /// Whether this brain takes entries of a chain, or of one that it knows nothing of yet.
    pub(super) fn wants(&self, space: SpaceId, lane: Option<Lane>, now: u64) -> bool {
        let Some(rules) = self.replica.space(space) else { return false };
        let own = self.brain();
        match lane {
            // It was offered, or it would not be known; by which entry may be still to come.
            Some(Lane::Control) | None => true,
            Some(Lane::Content) => rules.owner() == own || self.replica.grant_of(space, own, now).is_some(),
        }
    }

    /// Whether a brain has or had a part in a space.
    pub(super) fn is_member(&self, space: SpaceId, brain: BrainKey) -> bool {
        let Some(rules) = self.replica.space(space) else { return false };
        rules.owner() == brain || rules.grants().values().any(|grant| grant.to == brain)
    }

    /// Whether this brain takes note of a space of somebody's that it has never heard of. Of those who are no peers of its own, as many are heard of
    /// from each peer as of its own: a key costs nothing.
    pub(super) fn may_offer(&self, owner: BrainKey, by: BrainKey) -> bool {
        // What this brain itself has begun comes back to it.
        owner == self.brain()
            || match self.peers.get(&owner) {
                Some(peer) => !peer.blocked && self.undecided(|other| other == owner) < MAX_OFFERED,
                None => self.may_pass_on(by),
            }
    }

    /// Whether somebody may tell of one more space of one whom this brain does not know.
    fn may_pass_on(&self, by: BrainKey) -> bool {
        let passed_on = self.passed_on.iter().filter(|(_, brain)| **brain == by);
        let open =
            passed_on.filter_map(|(space, _)| self.replica.space(*space)).filter(|space| self.is_undecided(space));
        open.count() < MAX_OFFERED
    }

    /// How many spaces of some owners this brain knows and has decided nothing on.
    fn undecided(&self, of: impl Fn(BrainKey) -> bool) -> usize {
        self.replica.spaces().filter(|space| of(space.owner()) && self.is_undecided(space)).count()
    }

    fn is_undecided(&self, space: &crate::space::Space) -> bool {
        let mut grants = space.grants().iter().filter(|(_, grant)| grant.to == self.brain());
        !grants.any(|(hash, _)| self.replica.decision(space.id(), *hash).is_some())
    }

    fn hear_heads(
        &mut self,
        device: DeviceKey,
        brain: BrainKey,
        spaces: Vec<SpaceHeads>,
        now: u64,
        effects: &mut Vec<Effect>,
    ) {
        for told in spaces {
            let known = self.replica.space(told.space).is_some();
            // Whose it is shows when it comes: this is no more than a first look.
            if !known && !self.may_offer(brain, brain) && !self.may_pass_on(brain) {
                continue;
            }
            if let Some(session) = self.sessions.get_mut(&device)
                && session.forked.len() < MAX_HEADS
            {
                session.forked.extend(told.forked.iter().map(|chain| (told.space, *chain)));
            }
            for head in told.heads {
                self.hear_head(device, told.space, head, effects);
            }
        }
        // What was said between this brain's greeting and the other one's is in neither.
        if let Some(session) = self.sessions.get_mut(&device) {
            let missed: Vec<SpaceId> = std::mem::take(&mut session.missed).into_iter().collect();
            self.tell_heads(device, &missed, now, effects);
        }
        self.want(device, now, effects);
        self.pump(device, now, effects);
        self.catch_up(device, now, effects);
    }

    fn hear_head(&mut self, device: DeviceKey, space: SpaceId, head: Head, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&device) else { return };
        if session.heads.len() < MAX_HEADS {
            let before = session.heads.insert((space, head.chain), head);
            if before.is_none_or(|before| before.number < head.number) {
                session.stalled.remove(&(space, head.chain));
            }
        }
        let Some(chain) = self.tags.get(&(space, head.chain)).copied() else { return };
        for reached in [&mut session.reached, &mut session.told] {
            let reached = reached.entry(chain).or_default();
            *reached = (*reached).max(head.number);
        }
        let Some(own) = self.heads.get(&chain) else { return };
        if head.number <= own.number && (head.number, head.hash) != (own.number, own.hash) {
            let why = Why::Checked(device, head);
            effects.push(Effect::Load(Load { chain, from: head.number, limit: 1, why }));
        }
    }

    pub(super) fn lose_epoch(&mut self, effects: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.epoch_lost, true) {
            effects.push(Effect::Tell(News::EpochLost));
        }
    }

    /// Notes what the other side has and this one lacks.
    pub(super) fn want(&mut self, device: DeviceKey, now: u64, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get(&device) else { return };
        let Some(brain) = session.brain else { return };
        let mut wanted: Vec<(Option<Lane>, Pull)> = Vec::new();
        for ((space, tag), head) in &session.heads {
            let chain = self.tags.get(&(*space, *tag));
            let known = self.replica.space(*space).is_some();
            let stalled =
                session.stalled.get(&(*space, *tag)).is_some_and(|at| now < at.saturating_add(STALLED_MS));
            let asked = stalled || session.pulling.contains_key(&(*space, *tag));
            let in_vain = chain.is_some_and(|chain| !self.has_from(self.brain(), brain, *chain, now));
            let too_much = chain.is_some_and(|chain| self.takes_no_more(*chain, now));
            if asked || in_vain || too_much || known && !self.wants(*space, chain.map(|chain| chain.lane), now) {
                continue;
            }
            let reached = chain.and_then(|chain| self.replica.chain(*chain));
            let last = reached
                .and_then(Chain::fork)
                .map_or(head.number, |fork| head.number.min(fork.number().saturating_sub(1)));
            let reached = reached.map_or(0, Chain::number);
            if last > reached {
                let pull = Pull { space: *space, chain: *tag, from: reached + 1 };
                wanted.push((chain.map(|chain| chain.lane), pull));
            }
        }
        // Also of a fork that is known here: theirs may be of an earlier one.
        let proofs: Vec<(SpaceId, Tag)> = session
            .forked
            .iter()
            .filter(|(space, _)| self.wants(*space, None, now))
            .filter(|place| session.proofs.get(place).is_none_or(|at| now >= at.saturating_add(STALLED_MS)))
            .copied()
            .collect();
        // First what says what counts, then what nothing is known of, which may be that too.
        wanted.sort_by_key(|(lane, _)| match lane {
            Some(Lane::Control) => 0,
            None => 1,
            Some(Lane::Content) => 2,
        });
        if let Some(session) = self.sessions.get_mut(&device) {
            session.wanted = wanted.into_iter().map(|(_, pull)| pull).collect();
            for (space, chain) in proofs {
                session.proofs.insert((space, chain), now);
                let pull = Pull { space, chain, from: PROOF };
                effects.push(Effect::Send { device, frame: Frame::Pull(pull).to_bytes() });
            }
        }
    }

    /// Takes note that the other side has shown its proof of a fork: it need not be asked for again.
    fn note_proof(&mut self, device: DeviceKey, chain: ChainId) {
        let is_proven = self.replica.chain(chain).is_some_and(|chain| chain.fork().is_some());
        if let Some(session) = self.sessions.get_mut(&device).filter(|_| is_proven) {
            session.proofs.insert((chain.space, chain.tag()), u64::MAX);
        }
    }

    /// Asks for what is wanted, as much at once as is allowed.
    pub(super) fn pump(&mut self, device: DeviceKey, now: u64, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&device) else { return };
        while session.pulling.len() < MAX_PULLS
            && let Some(pull) = session.wanted.pop_front()
        {
            session.pulling.insert((pull.space, pull.chain), now);
            effects.push(Effect::Send { device, frame: Frame::Pull(pull).to_bytes() });
        }
    }

    fn serve(&mut self, device: DeviceKey, brain: BrainKey, pull: Pull, now: u64, effects: &mut Vec<Effect>) {
        let chain = self.tags.get(&(pull.space, pull.chain)).copied();
        let readable = chain.filter(|chain| self.may_have(brain, *chain, now));
        if pull.from == PROOF {
            let proof = readable.and_then(|chain| self.proof(chain));
            effects.extend(proof.map(|proof| Effect::Send { device, frame: proof.to_bytes() }));
            return;
        }
        let Some(session) = self.sessions.get_mut(&device) else { return };
        match readable {
            Some(chain) if session.serving < MAX_SERVING => {
                session.serving += 1;
                let why = Why::Pulled(device);
                effects.push(Effect::Load(Load { chain, from: pull.from, limit: MAX_BATCH_ENTRIES, why }));
            }
            Some(_) => self.refuse(device, crate::wire::Refusal::Limit, effects),
            // Nothing is said about what they may not read, not even whether it is there.
            None => {
                let batch = Batch::nothing(pull);
                effects.push(Effect::Send { device, frame: Frame::Batch(batch).to_bytes() });
            }
        }
    }

    pub(super) fn loaded(&mut self, load: Load, entries: Vec<Entry>, now: u64, effects: &mut Vec<Effect>) {
        match load.why {
            Why::Pulled(device) => {
                if let Some(session) = self.sessions.get_mut(&device) {
                    session.serving = session.serving.saturating_sub(1);
                    let part = Part { chain: load.chain, from: load.from, asked: true };
                    self.send(device, part, &entries, now, effects);
                }
            }
            Why::Pushed(device) => self.push(device, load.chain, &entries, now, effects),
            Why::Compared(device, others) => self.compare(device, load.chain, &entries, others, effects),
            Why::Checked(device, head) => {
                if entries.first().is_none_or(|entry| entry.hash().tag() != head.hash) {
                    self.search(device, load.chain, head.number, effects);
                }
            }
        }
    }

    /// Sends entries that are kept.
    fn send(
        &mut self,
        device: DeviceKey,
        Part { chain, from, asked }: Part,
        entries: &[Entry],
        now: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(brain) = self.sessions.get(&device).and_then(|session| session.brain) else { return };
        let entries = &*self.as_readable_for(brain, chain, entries, now);
        let entries = self.with_the_word(device, entries);
        let Some(session) = self.sessions.get_mut(&device).filter(|_| asked || !entries.is_empty()) else {
            return;
        };
        let author = (chain.author, chain.epoch);
        // Who asks may have had no use for it before.
        let give = session.given.insert(author) || asked;
        let certificate = self.certificates.get(&author).filter(|_| give).cloned();
        let (mut batch, count) = Batch::of(chain, entries, certificate, asked);
        let last = entries[..count].last().map_or(from.saturating_sub(1), |entry| entry.header().number);
        batch.more = self.heads.get(&chain).is_some_and(|head| head.number > last);
        let reached = session.reached.entry(chain).or_default();
        *reached = (*reached).max(last);
        let frame = Frame::Batch(batch).to_bytes();
        if !asked {
            session.unacknowledged += frame.len();
        }
        effects.push(Effect::Send { device, frame });
    }

    /// Entries up to the first that was erased on a word of the owner's of which the other side has not said that it has it. With the header alone, and
    /// the word lost since, nobody could ever tell why the rest is missing.
    fn with_the_word<'a>(&self, device: DeviceKey, entries: &'a [Entry]) -> &'a [Entry] {
        let erased = entries.first().and_then(|entry| self.replica.space(entry.space()));
        let (Some(rules), Some(session)) = (erased, self.sessions.get(&device)) else { return entries };
        let knows = |entry: &Entry| {
            let Some(word) = rules.erased().get(&entry.header().memory) else { return true };
            let (space, author) = (entry.space(), rules.owner());
            let chain = ChainId { space, author, epoch: word.epoch, lane: Lane::Control };
            entry.payload().or(entry.sealed()).is_some()
                || session.told.get(&chain).is_some_and(|number| *number >= word.number)
        };
        let end = entries.iter().position(|entry| !knows(entry)).unwrap_or(entries.len());
        &entries[..end]
    }

    /// Sends what is new to one who has everything before it, as far as they have said that they keep up.
    pub(super) fn push(
        &mut self,
        device: DeviceKey,
        chain: ChainId,
        entries: &[Entry],
        now: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get(&device) else { return };
        let Some(brain) = session.brain else { return };
        let told = session.reached.get(&chain).copied();
        if told.is_none()
            && let Some(session) = self.sessions.get_mut(&device)
        {
            session.missed.insert(chain.space);
        }
        let Some(session) = self.sessions.get(&device) else { return };
        let reached = told.unwrap_or(0);
        let new = entries.iter().position(|entry| reached.checked_add(1) == Some(entry.header().number));
        let Some(new) = new.filter(|_| session.unacknowledged < PUSH_CREDIT) else { return };
        if self.may_have(brain, chain, now) {
            let part = Part { chain, from: reached.saturating_add(1), asked: false };
            self.send(device, part, &entries[new..], now, effects);
        }
    }

    /// Sends one who has fallen behind what they lack of chains that they were following.
    fn catch_up(&mut self, device: DeviceKey, now: u64, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get(&device) else { return };
        let Some(brain) = session.brain else { return };
        if session.unacknowledged >= PUSH_CREDIT {
            return;
        }
        let behind = session.reached.iter().filter(|(chain, reached)| {
            let asks_itself = session.shown.get(chain).is_some_and(|shown| shown > *reached);
            session.following.contains(chain)
                && !asks_itself
                && self.heads.get(chain).is_some_and(|head| head.number > **reached)
                && self.may_have(brain, **chain, now)
        });
        for (chain, reached) in behind {
            let why = Why::Pushed(device);
            let load = Load { chain: *chain, from: reached.saturating_add(1), limit: MAX_BATCH_ENTRIES, why };
            effects.push(Effect::Load(load));
        }
    }

    /// Gives what is kept by now to everybody who is there and may have it.
    pub(super) fn spread(&mut self, entries: &[Entry], now: u64, effects: &mut Vec<Effect>) {
        let Some(chain) = entries.first().map(chain_of) else { return };
        let there: Vec<DeviceKey> = self.sessions.keys().copied().collect();
        for device in there {
            self.push(device, chain, entries, now, effects);
        }
        if chain.lane == Lane::Control {
            self.retell(chain.space, now, effects);
        }
    }

    /// Who may do what in a space is another thing now: tells everybody who is there how far this brain is in it, and looks again at what is
    /// wanted of it.
    pub(super) fn retell(&mut self, space: SpaceId, now: u64, effects: &mut Vec<Effect>) {
        let there: Vec<DeviceKey> = self.sessions.keys().copied().collect();
        for device in there {
            if let Some(session) = self.sessions.get_mut(&device) {
                session.stalled.retain(|(of, _), _| *of != space);
            }
            self.tell_heads(device, &[space], now, effects);
            self.want(device, now, effects);
            self.pump(device, now, effects);
        }
    }

    fn received(
        &mut self,
        device: DeviceKey,
        brain: BrainKey,
        receipt: Receipt,
        now: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), InvalidFrame> {
        if !receipt.is_of(device) {
            return Err(InvalidFrame::Unsound("receipt"));
        }
        let Some(session) = self.sessions.get_mut(&device) else { return Ok(()) };
        session.unacknowledged = 0;
        let known = receipt.heads.iter().filter_map(|head| {
            let chain = self.tags.get(&(receipt.space, head.chain))?;
            // Nobody can have received what there is not.
            let real = self.heads.get(chain).is_some_and(|own| head.number <= own.number);
            real.then_some((*chain, *head))
        });
        let known: Vec<(ChainId, Head)> = known.collect();
        let (space, mut hears_more) = (receipt.space, false);
        for (chain, head) in known {
            session.following.insert(chain);
            for reached in [&mut session.reached, &mut session.told] {
                let reached = reached.entry(chain).or_default();
                *reached = (*reached).max(head.number);
            }
            hears_more |= chain.lane == Lane::Control;
            let received = self.receipts.entry((receipt.space, brain)).or_default();
            let before = received.chains.get(&head.chain).and_then(|receipt| receipt.reached(head.chain));
            if before.is_none_or(|before| before < head.number) {
                received.chains.insert(head.chain, receipt.clone());
                received.unkept.insert(head.chain);
            }
        }
        // What was held back until it had the owner's word can go now.
        if hears_more && self.replica.space(space).is_some_and(|rules| !rules.erased().is_empty()) {
            self.tell_heads(device, &[space], now, effects);
        }
        self.catch_up(device, now, effects);
        Ok(())
    }

    pub(super) fn said(&mut self, entries: Vec<Entry>, now: u64, effects: &mut Vec<Effect>) {
        let from = effects.len();
        self.absorb(entries.clone(), effects);
        // They are kept already.
        let mut at = 0;
        effects.retain(|effect| {
            at += 1;
            at <= from || !matches!(effect, Effect::Keep(_))
        });
        self.spread(&entries, now, effects);
    }
}
