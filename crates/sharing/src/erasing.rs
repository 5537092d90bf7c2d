//! Destroys memories that are shared: here, and by the owner's word with everybody who has them.

use cairn_domain::event::{Erased, Event, MemoryEvent, Metadata};
use cairn_domain::id::{EventId, MemoryId, PrincipalId, memory_stream};
use cairn_domain::principal::{Origin, Principal};
use cairn_domain::truth::Truth;
use cairn_event_store::{ExpectedRevision, NewAppend, NewEvent, StreamAppend};
use cairn_sync::engine::Engine;
use cairn_sync::entry::Entry;
use cairn_sync::key::SpaceId;
use cairn_sync::shared::{origin_of, principal_of};
use uuid::Uuid;

use crate::error::SharingError;
use crate::keeper::{KEPT_AT_ONCE, Keeper, Move};

/// Who began a memory, as far as the log knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginner {
    /// One of this brain's own.
    Own,
    /// A peer, by the principal that stands for it; and whether this brain's user has said something in it.
    Peer {
        /// The principal.
        principal: PrincipalId,
        /// Whether the user has.
        user_has_spoken: bool,
    },
    /// Nobody: nothing of it has come.
    Unknown,
}

impl Keeper {
    /// Who began a memory.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn beginner(&self, memory: MemoryId) -> Result<Beginner, SharingError> {
        let loaded = self.handler.load(memory).await?;
        let state = &loaded.memory;
        if state.is_begun_here() {
            return Ok(Beginner::Own);
        }
        let Some(author) = state.created() else { return Ok(Beginner::Unknown) };
        let claims = state.fields().values().flat_map(|claims| claims.all()).map(|claim| &claim.author);
        let mut authors = claims.chain(state.body().edits().iter().map(|edit| &edit.author));
        let user_has_spoken = authors.any(|author| !author.origin.is_peer() && author.truth == Truth::User);
        Ok(Beginner::Peer { principal: author.principal, user_has_spoken })
    }

    /// Destroys what the owner of a space has erased. What was begun here is this brain's own: in another brain's space it only leaves it.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn erase(
        &mut self,
        space: SpaceId,
        memories: &[MemoryId],
        engine: &Engine,
    ) -> Result<(), SharingError> {
        let Some(owner) = engine.replica().space(space).map(cairn_sync::space::Space::owner) else {
            return Ok(());
        };
        let own = owner == engine.brain();
        let origin = if own { Origin::of(Truth::User, "sharing") } else { origin_of(owner) };
        let by = Metadata { principal: principal_of(owner), truth: Truth::User, origin, ..self.stamp() };
        for part in memories.chunks(KEPT_AT_ONCE) {
            let (mut gone, mut left) = (Vec::new(), Vec::new());
            for memory in part {
                if self.erased.contains(memory) || self.place(*memory) != Some(space) {
                    continue;
                }
                match own || self.beginner(*memory).await? != Beginner::Own {
                    true => gone.push(*memory),
                    false => left.push(Move { memory: *memory, space: None, expected: ExpectedRevision::Any }),
                }
            }
            self.put(left).await?;
            if !gone.is_empty() {
                let streams = gone.iter().map(|memory| erased(*memory, &by)).collect();
                self.handler.append(NewAppend { streams, tracking: None }).await?;
                self.erased.extend(gone);
            }
        }
        Ok(())
    }

    /// Keeps what this brain says about the erasure of a memory, and destroys the memory here, both at once.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn keep_erasing(
        &mut self,
        entries: &[Entry],
        memory: MemoryId,
        by: &Principal,
    ) -> Result<(), SharingError> {
        let said: Vec<(Entry, Option<EventId>)> = entries.iter().cloned().map(|entry| (entry, None)).collect();
        let erased = erased(memory, &self.handler.stamp(by));
        let streams = self.own_words(&said).into_iter().chain([erased]).collect();
        self.handler.append(NewAppend { streams, tracking: None }).await?;
        self.erased.insert(memory);
        Ok(())
    }
}

fn erased(memory: MemoryId, by: &Metadata) -> StreamAppend {
    let event = Event::Memory(MemoryEvent::Erased(Erased {}));
    let event: NewEvent = cairn_command::envelope(EventId::new(Uuid::now_v7()), &event, by);
    StreamAppend { stream: memory_stream(memory).into(), expected: ExpectedRevision::Any, events: vec![event] }
}
