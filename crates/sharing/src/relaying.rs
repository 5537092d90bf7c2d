//! Entries that were kept and made no memories: what was sealed for others becomes some when this brain may read it, and what was said about a memory
//! that was out of its space when that is back.

use std::collections::BTreeSet;

use cairn_domain::id::{EventId, MemoryId};
use cairn_event_store::{AppendError, ExpectedRevision};
use cairn_sync::chain::ChainId;
use cairn_sync::control::Role;
use cairn_sync::engine::Engine;
use cairn_sync::entry::{Entry, Lane};
use cairn_sync::key::SpaceId;
use cairn_sync::shared::{SharedEvent, shared_name};

use crate::error::SharingError;
use crate::keeper::{KEPT_AT_ONCE, Keeper, Sight, Streams};

/// Whether a brain was ever a relay in a space.
fn has_relayed(space: SpaceId, engine: &Engine) -> bool {
    let rules = engine.replica().space(space);
    rules.is_some_and(|rules| {
        rules.grants().values().any(|grant| grant.to == engine.brain() && grant.role == Role::Relay)
    })
}

impl Keeper {
    /// Makes memories of what this brain has kept for others in a space and may read by now. Done again, it changes nothing.
    ///
    /// # Errors
    /// When the log does not answer or refuses them.
    pub async fn open_kept(&mut self, space: SpaceId, engine: &Engine, now: u64) -> Result<(), SharingError> {
        if !has_relayed(space, engine) || !engine.may_read(space, now) {
            return Ok(());
        }
        self.look_again(space, engine, |entry| entry.sealed().is_some()).await
    }

    /// Takes in what others have said about memories while they were not in the space where it was said.
    ///
    /// # Errors
    /// When the log does not answer or refuses them.
    pub(crate) async fn take_in_missed(
        &mut self,
        space: SpaceId,
        memories: &BTreeSet<MemoryId>,
        engine: &Engine,
    ) -> Result<(), SharingError> {
        let of = |entry: &Entry| memories.contains(&entry.header().memory);
        self.look_again(space, engine, of).await?;
        // What counts for what may have changed meanwhile as well.
        self.restand_those(space, None, engine, of).await
    }

    /// Makes memories of those entries of other devices in a space of which none were made.
    async fn look_again(
        &mut self,
        space: SpaceId,
        engine: &Engine,
        of: impl Fn(&Entry) -> bool,
    ) -> Result<(), SharingError> {
        let chains: Vec<ChainId> = engine.replica().chains(space).map(|chain| chain.id()).collect();
        for chain in chains.into_iter().filter(|chain| chain.lane == Lane::Content) {
            if engine.is_by_this_device(chain) {
                continue;
            }
            let mut from = 1;
            loop {
                let mut entries = self.load(chain, from, KEPT_AT_ONCE).await?;
                let count = entries.len();
                from += count as u64;
                entries.retain(&of);
                self.make_memories(engine.opened(space, entries), engine).await?;
                if count < KEPT_AT_ONCE {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn make_memories(&mut self, entries: Vec<Entry>, engine: &Engine) -> Result<(), SharingError> {
        let mut refused: BTreeSet<EventId> = BTreeSet::new();
        // Of what memories were made before, none are made again.
        for entry in entries.iter().filter(|entry| entry.payload().is_some()) {
            let (header, said) = (entry.header(), entry.payload().map(|payload| SharedEvent::parse(payload)));
            if let Some(Ok(said)) = said {
                let id = shared_name(header.author, header.memory, said.id);
                if self.handler.store().event(id.uuid()).await?.is_some() {
                    refused.insert(id);
                }
            }
        }
        loop {
            let mut streams = Streams::default();
            let mut begun: Vec<(MemoryId, SpaceId)> = Vec::new();
            for entry in entries.iter().filter(|entry| entry.payload().is_some()) {
                let memory = self.take_in(entry, engine, (&refused, Sight::Looked), &mut streams).await?;
                begun.extend(memory.map(|memory| (memory, entry.space())));
            }
            if streams.is_empty() {
                return Ok(());
            }
            match self.handler.append(streams.append("", ExpectedRevision::Any)).await {
                Ok(_) => {
                    self.places.extend(begun);
                    return Ok(());
                }
                // It was made of it before.
                Err(AppendError::EventIdReused { id }) if refused.insert(EventId::new(id)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
