//! Links whose target was not in the space: they are told when it comes in.

use std::collections::{BTreeMap, BTreeSet};

use cairn_command::read_metadata;
use cairn_domain::event::{Event, MemoryEvent};
use cairn_domain::field::{FieldName, FieldRole};
use cairn_domain::id::{MEMORY_STREAM_PREFIX, MemoryId, memory_of_stream};
use cairn_event_store::{Direction, Filter, Position, Revision};
use cairn_sync::engine::Engine;
use cairn_sync::key::SpaceId;

use crate::error::SharingError;
use crate::keeper::Keeper;
use crate::publishing::Publication;

/// How many events are read at once.
const PAGE: usize = 4_096;

/// The memories with links that were not told, by the target.
pub(crate) type Untold = BTreeMap<MemoryId, BTreeSet<MemoryId>>;

/// The memory that a field links to.
pub(crate) fn target_of(field: &FieldName) -> Option<MemoryId> {
    match field.role() {
        FieldRole::Link { target, .. } => Some(target),
        _ => None,
    }
}

impl Keeper {
    /// Takes note of a link that is not told.
    pub(crate) fn note_untold(&mut self, target: MemoryId, from: MemoryId) {
        if let Some(untold) = &mut self.untold {
            untold.entry(target).or_default().insert(from);
        }
    }

    /// Finds the links in the log that were not told: once, when the first memory comes into a space. Those made later are noted as they are met.
    ///
    /// # Errors
    /// When the log does not answer.
    pub(crate) async fn find_untold(&mut self) -> Result<(), SharingError> {
        if self.untold.is_some() {
            return Ok(());
        }
        let mut untold = Untold::new();
        let stream_prefixes = vec![MEMORY_STREAM_PREFIX.to_owned()];
        let filter = Filter { stream_prefixes, event_types: vec!["memory.field_claimed".to_owned()] };
        let mut from = Some(Position::START.next());
        while let Some(position) = from {
            let page = self.handler.store().read_all(position, Direction::Forwards, &filter, PAGE).await?;
            for event in page.events.iter().filter(|event| !event.erased) {
                let Some(memory) = memory_of_stream(&event.stream) else { continue };
                let Some(place) = self.place(memory) else { continue };
                let decoded = Event::decode(&event.event_type, event.schema_version, &event.data);
                let Ok(Event::Memory(MemoryEvent::FieldClaimed(claimed))) = decoded else { continue };
                let Some(target) = target_of(&claimed.field) else { continue };
                // What comes in just now, the links to it are told of then.
                let is_told = self.place(target) == Some(place) && !self.entering.contains(&target);
                let is_own = read_metadata(event).is_ok_and(|metadata| !metadata.origin.is_peer());
                if is_own && !is_told {
                    untold.entry(target).or_default().insert(memory);
                }
            }
            from = page.next;
        }
        self.untold = Some(untold);
        Ok(())
    }

    /// What is to be said of links to memories that have come into a space.
    ///
    /// # Errors
    /// When the log does not answer.
    pub(crate) async fn links_to(
        &mut self,
        targets: &BTreeSet<MemoryId>,
        space: SpaceId,
        engine: &Engine,
    ) -> Result<Vec<Publication>, SharingError> {
        let from = targets.iter().filter_map(|target| self.untold.as_mut()?.remove(target)).flatten();
        let from: BTreeSet<MemoryId> = from.collect();
        let mut all = Vec::new();
        // One that comes in itself tells of its links then; one that is elsewhere, when it comes back.
        for memory in from {
            if self.place(memory) != Some(space) || self.entering.contains(&memory) {
                continue;
            }
            let mut said = self.everything(memory, Revision(u64::MAX), space, engine).await?.publications;
            for publication in &mut said {
                publication.retain(|(said, _)| {
                    let target = said.event.field().and_then(|field| target_of(&field));
                    target.is_some_and(|target| targets.contains(&target))
                });
            }
            all.extend(said.into_iter().filter(|publication| !publication.is_empty()));
        }
        Ok(all)
    }
}
