//! Which memories are in a space: what its owner has chosen is carried out a few memories at a time, between all else, and goes on after a restart.

use std::collections::{BTreeSet, VecDeque};

use cairn_domain::event::{Event, MemoryEvent, SpaceEvent};
use cairn_domain::field::FieldRole;
use cairn_domain::id::{MEMORY_STREAM_PREFIX, MemoryId, memory_of_stream};
use cairn_event_store::{Direction, ExpectedRevision, Filter, NewAppend, Position, StreamAppend, Tracking};
use cairn_sync::key::SpaceId;

use super::{Selecting, Service};
use crate::error::SharingError;
use crate::names::space_stream;
use crate::restore::Chosen;

/// Under what name the log keeps up to which choice all were carried out.
const SOURCE: &str = "sharing/chosen";
/// How many memories are looked at before something else has its turn.
const LOOKED_AT: usize = 256;
/// How many events are read at once where memories are looked for.
const PAGE: usize = 4_096;

/// Memories that are still to be looked at because something was chosen for a space.
pub(crate) struct Choice {
    /// The space.
    pub(crate) space: SpaceId,
    /// Where the log has the choice.
    at: Position,
    /// The memories.
    pub(crate) memories: VecDeque<MemoryId>,
}

impl Service {
    pub(super) async fn select(&mut self, selecting: Selecting) -> Result<(), SharingError> {
        let Selecting { space, selection } = selecting;
        if self.engine.replica().space(space).is_none() {
            return Err(SharingError::NoSpace(space));
        }
        let events = vec![self.keeper.fact(Event::Space(SpaceEvent::SelectionChanged(selection.clone())))];
        let stream = StreamAppend { stream: space_stream(space), expected: ExpectedRevision::Any, events };
        let append = NewAppend { streams: vec![stream], tracking: None };
        let at = self.keeper.handler.append(append).await?.position;
        self.selections.insert(space, Chosen { selection, at });
        self.look_at(space).await?;
        // Few memories are there when it is answered, whatever else was chosen before.
        self.choose_of(self.choices.len() - 1).await
    }

    /// Goes on with what was chosen before this node started.
    pub(super) async fn choose_on(&mut self) -> Result<(), SharingError> {
        let done = Position(self.keeper.handler.store().tracking(SOURCE).await?.unwrap_or(0));
        let open = self.selections.iter().filter(|(_, chosen)| chosen.at > done);
        let open: BTreeSet<(Position, SpaceId)> = open.map(|(space, chosen)| (chosen.at, *space)).collect();
        self.choices.clear();
        for (_, space) in open {
            self.look_at(space).await?;
        }
        Ok(())
    }

    /// Has all memories looked at that may be in a space, or out of it, because of what is chosen for it.
    async fn look_at(&mut self, space: SpaceId) -> Result<(), SharingError> {
        let Some(Chosen { selection, at }) = self.selections.get(&space) else { return Ok(()) };
        let mut memories: BTreeSet<MemoryId> = selection.memories.iter().copied().collect();
        memories.extend(self.keeper.places.iter().filter(|(_, place)| **place == space).map(|(id, _)| *id));
        if let Some(tag) = &selection.tag {
            memories.extend(self.tagged(tag).await?);
        }
        // What was chosen before counts no more.
        self.choices.iter_mut().filter(|choice| choice.space == space).for_each(|choice| choice.memories.clear());
        self.choices.push_back(Choice { space, at: *at, memories: memories.into_iter().collect() });
        Ok(())
    }

    /// Looks at the next few memories.
    pub(super) async fn choose_some(&mut self) -> Result<(), SharingError> {
        self.choose_of(0).await
    }

    async fn choose_of(&mut self, number: usize) -> Result<(), SharingError> {
        let Some(choice) = self.choices.get_mut(number) else { return Ok(()) };
        let some = choice.memories.drain(..choice.memories.len().min(LOOKED_AT));
        self.keeper.choose(some, &self.selections, &self.engine).await?;
        let mut done = None;
        while let Some(choice) = self.choices.pop_front_if(|choice| choice.memories.is_empty()) {
            done = Some(choice.at);
        }
        if let Some(at) = done {
            let tracking = Some(Tracking { source: SOURCE.into(), position: at.0 });
            self.keeper.handler.append(NewAppend { streams: Vec::new(), tracking }).await?;
        }
        Ok(())
    }

    /// The memories that have ever had a tag.
    async fn tagged(&self, tag: &str) -> Result<BTreeSet<MemoryId>, SharingError> {
        let store = self.keeper.handler.store();
        let event_types = vec!["memory.field_claimed".to_owned()];
        let filter = Filter { stream_prefixes: vec![MEMORY_STREAM_PREFIX.to_owned()], event_types };
        let mut found = BTreeSet::new();
        let mut from = Some(Position::START.next());
        while let Some(position) = from {
            let page = store.read_all(position, Direction::Forwards, &filter, PAGE).await?;
            for event in page.events.iter().filter(|event| !event.erased) {
                let decoded = Event::decode(&event.event_type, event.schema_version, &event.data);
                let Ok(Event::Memory(MemoryEvent::FieldClaimed(claimed))) = decoded else { continue };
                if matches!(claimed.field.role(), FieldRole::Tag(name) if name == tag) {
                    found.extend(memory_of_stream(&event.stream));
                }
            }
            from = page.next;
        }
        Ok(found)
    }
}
