//! What brains that know each other exchange: how far they are, entries, receipts and proofs.

use super::{
    Effect, Engine, Load, MAX_AHEAD_MS, MAX_EPOCHS, MAX_HEADS, MAX_OFFERED, MAX_PULLS, MAX_SERVING, News,
    PUSH_CREDIT, STALLED_MS, Why,
};
use crate::certificate::Certificate;
use crate::chain::{Chain, ChainId, Fork, chain_of};
use crate::entry::{Entry, EntryKind, Lane};
use crate::key::{BrainKey, DeviceKey, SpaceId, Tag};
use crate::replica;
use crate::wire::{
    Batch, Frame, Head, InvalidFrame, MAX_BATCH_ENTRIES, MAX_SPACES, PROOF, Pull, Receipt, SpaceHeads,
};

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
        for part in heads.chunks(MAX_SPACES) {
            effects.push(Effect::Send { device, frame: Frame::Heads(part.to_vec()).to_bytes() });
        }
    }

    /// The chains of which a brain may know that they have forked.
    fn forked_for(&self, brain: BrainKey, space: SpaceId, now: u64) -> Vec<ChainId> {
        let forked = self.replica.chains(space).filter(|chain| chain.fork().is_some()).map(Chain::id);
        forked.filter(|chain| self.may_read(brain, *chain, now) && self.proof(*chain).is_some()).collect()
    }

    fn proof(&self, chain: ChainId) -> Option<Frame> {
        let fork = self.replica.chain(chain)?.fork()?;
        let certificate = self.certificates.get(&(chain.author, chain.epoch))?;
        Some(Frame::Proof(fork.clone(), certificate.clone()))
    }

    fn heads_for(&self, brain: BrainKey, space: SpaceId, now: u64) -> Option<SpaceHeads> {
        let readable: Vec<ChainId> = self
            .replica
            .chains(space)
            .map(|chain| chain.id())
            .filter(|id| self.may_read(brain, *id, now))
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
            Frame::Batch(batch) => return self.receive(device, brain, &batch, now, effects),
            Frame::Receipt(receipt) => return self.received(device, brain, receipt, now, effects),
            Frame::Proof(fork, certificate) => self.proven(brain, &fork, certificate, now, effects),
            // Who is there has been settled.
            Frame::Hello(_) | Frame::Pair { .. } | Frame::Paired | Frame::Refused(_) => {}
        }
        Ok(())
    }

    /// Whether this brain takes entries of a chain, or of one that it knows nothing of yet.
    fn wants(&self, space: SpaceId, lane: Option<Lane>, now: u64) -> bool {
        let Some(rules) = self.replica.space(space) else { return false };
        let own = self.brain();
        let control = rules.owner() == own || rules.grants().values().any(|grant| grant.to == own);
        match lane {
            Some(Lane::Control) | None => control,
            Some(Lane::Content) => rules.owner() == own || self.replica.grant_of(space, own, now).is_some(),
        }
    }

    /// Whether a brain has or had a part in a space.
    fn is_member(&self, space: SpaceId, brain: BrainKey) -> bool {
        let Some(rules) = self.replica.space(space) else { return false };
        rules.owner() == brain || rules.grants().values().any(|grant| grant.to == brain)
    }

    /// Whether a brain may tell this one of a space that it has never heard of.
    fn may_offer(&self, brain: BrainKey) -> bool {
        let own = self.brain();
        let undecided = self.replica.spaces().filter(|space| {
            let mut grants = space.grants().iter().filter(|(_, grant)| grant.to == own);
            let decided = |hash| self.replica.decision(space.id(), hash).is_some();
            space.owner() == brain && !grants.any(|(hash, _)| decided(*hash))
        });
        undecided.count() < MAX_OFFERED
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
            if !known && !self.may_offer(brain) {
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
        let reached = session.reached.entry(chain).or_default();
        *reached = (*reached).max(head.number);
        let Some(own) = self.heads.get(&chain) else { return };
        if head.number <= own.number && (head.number, head.hash) != (own.number, own.hash) {
            let why = Why::Checked(device, head);
            effects.push(Effect::Load(Load { chain, from: head.number, limit: 1, why }));
        }
    }

    fn lose_epoch(&mut self, effects: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.epoch_lost, true) {
            effects.push(Effect::Tell(News::EpochLost));
        }
    }

    /// Notes what the other side has and this one lacks.
    pub(super) fn want(&mut self, device: DeviceKey, now: u64, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get(&device) else { return };
        let mut wanted: Vec<(Option<Lane>, Pull)> = Vec::new();
        for ((space, tag), head) in &session.heads {
            let chain = self.tags.get(&(*space, *tag));
            let known = self.replica.space(*space).is_some();
            let stalled =
                session.stalled.get(&(*space, *tag)).is_some_and(|at| now < at.saturating_add(STALLED_MS));
            let asked = stalled || session.pulling.contains_key(&(*space, *tag));
            if asked || known && !self.wants(*space, chain.map(|chain| chain.lane), now) {
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
        let proofs: Vec<(SpaceId, Tag)> = session
            .forked
            .iter()
            .filter(|(space, tag)| self.wants(*space, None, now) && !self.has_fork(*space, *tag))
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

    fn has_fork(&self, space: SpaceId, chain: Tag) -> bool {
        let chain = self.tags.get(&(space, chain)).and_then(|chain| self.replica.chain(*chain));
        chain.is_some_and(|chain| chain.fork().is_some())
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
        let readable = chain.filter(|chain| self.may_read(brain, *chain, now));
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
                    self.send(device, load.chain, load.from, &entries, true, effects);
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

    /// Sends entries that are kept. Gives how many fitted.
    fn send(
        &mut self,
        device: DeviceKey,
        chain: ChainId,
        from: u64,
        entries: &[Entry],
        asked: bool,
        effects: &mut Vec<Effect>,
    ) -> usize {
        let Some(session) = self.sessions.get_mut(&device) else { return 0 };
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
        count
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
        let reached = session.reached.get(&chain).copied().unwrap_or(0);
        let new = entries.iter().position(|entry| reached.checked_add(1) == Some(entry.header().number));
        let Some(new) = new.filter(|_| session.unacknowledged < PUSH_CREDIT) else { return };
        if self.may_read(brain, chain, now) {
            self.send(device, chain, reached.saturating_add(1), &entries[new..], false, effects);
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
            session.following.contains(chain)
                && self.heads.get(chain).is_some_and(|head| head.number > **reached)
                && self.may_read(brain, **chain, now)
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

    fn receive(
        &mut self,
        device: DeviceKey,
        brain: BrainKey,
        batch: &Batch,
        now: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), InvalidFrame> {
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
        let reached = self.reached(batch.space, batch.chain);
        let taken = self.take_batch(device, brain, batch, now, effects);
        if asked
            && self.reached(batch.space, batch.chain) == reached
            && let Some(session) = self.sessions.get_mut(&device)
        {
            session.stalled.insert((batch.space, batch.chain), now);
        }
        self.want(device, now, effects);
        self.pump(device, now, effects);
        taken
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
        batch: &Batch,
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
        let has_begun = self.replica.space(batch.space).is_some();
        let offers = batch.first == 1 && certificate.brain() == brain && self.may_offer(brain);
        let is_member = self.is_member(batch.space, certificate.brain());
        if !(has_begun && is_member || !has_begun && offers) {
            // Whoever wrote it has no part in the space, as far as this brain knows; it may learn more.
            return Ok(());
        }
        let known_device = self.certificates.get(&(certificate.brain(), certificate.epoch()));
        if known_device.is_some_and(|known| known.device() != certificate.device()) {
            return Err(InvalidFrame::Unsound("certificate"));
        }
        let entries = self.usable(brain, batch.space, batch.open(&certificate)?)?;
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
        self.certificates.insert((chain.author, chain.epoch), certificate.clone());
        let first = (reached == 0).then_some(certificate);
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
    fn compare(
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
        let before = self.replica.space(chain.space).cloned().map(Box::new);
        for effect in self.replica.compared(known, other) {
            if let replica::Effect::Forked(fork) = effect {
                effects.push(Effect::Restand { before: before.clone(), space: chain.space });
                effects.push(Effect::KeepFork(fork));
            }
        }
        self.partial.remove(&chain);
        self.accuse(chain, effects);
        if self.is_forked() {
            self.lose_epoch(effects);
        }
        if sought.is_some() {
            self.search(device, chain, known.header().number - 1, effects);
        }
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
    fn search(&mut self, device: DeviceKey, chain: ChainId, number: u64, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&device) else { return };
        let step = session.searching.entry(chain).or_insert(1);
        let from = number.saturating_sub(*step - 1).max(1);
        *step = step.saturating_mul(16);
        let pull = Pull { space: chain.space, chain: chain.tag(), from };
        effects.push(Effect::Send { device, frame: Frame::Pull(pull).to_bytes() });
    }

    fn proven(
        &mut self,
        brain: BrainKey,
        fork: &Fork,
        certificate: Certificate,
        now: u64,
        effects: &mut Vec<Effect>,
    ) {
        let chain = chain_of(&fork.known);
        let known = self.certificates.get(&(chain.author, chain.epoch));
        if known.is_some_and(|known| known.device() != certificate.device()) {
            return;
        }
        if !self.wants(chain.space, None, now)
            || !self.may_read(brain, chain, now)
            || !self.is_member(chain.space, chain.author)
        {
            return;
        }
        self.certificates.entry((chain.author, chain.epoch)).or_insert(certificate);
        self.tags.insert((chain.space, chain.tag()), chain);
        let before = self.replica.space(chain.space).cloned().map(Box::new);
        let mut news = false;
        for effect in self.replica.compared(&fork.known, &fork.other) {
            if let replica::Effect::Forked(fork) = effect {
                effects.push(Effect::Restand { before: before.clone(), space: chain.space });
                effects.push(Effect::KeepFork(fork));
                news = true;
            }
        }
        if news {
            self.partial.remove(&chain);
            self.accuse(chain, effects);
            if self.is_forked() {
                self.lose_epoch(effects);
            }
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
        for (chain, head) in known {
            session.following.insert(chain);
            let reached = session.reached.entry(chain).or_default();
            *reached = (*reached).max(head.number);
            let received = self.receipts.entry((receipt.space, brain)).or_default();
            let before = received.chains.get(&head.chain).and_then(|receipt| receipt.reached(head.chain));
            if before.is_none_or(|before| before < head.number) {
                received.chains.insert(head.chain, receipt.clone());
                received.unkept.insert(head.chain);
            }
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

/// Whether entries are the beginning of a space.
fn begins(entries: &[Entry]) -> bool {
    entries
        .first()
        .is_some_and(|first| first.header().space.is_none() && crate::space::Space::begin(first).is_ok())
}
