//! From the private log into spaces: what this brain's own write about a memory that is in a space is signed and said there.

use std::collections::{BTreeMap, BTreeSet};

use cairn_command::{decode_memory_event, read_metadata};
use cairn_domain::event::{MemoryEvent, Metadata, SelectionChanged, Shared};
use cairn_domain::field::{FieldName, FieldRole};
use cairn_domain::id::{EventId, MemoryId, memory_of_stream, memory_stream};
use cairn_domain::memory::Memory;
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use cairn_event_store::{AppendError, Direction, ExpectedRevision, Position, RecordedEvent, Revision, Tracking};
use cairn_sync::engine::{CannotSay, Engine, Said};
use cairn_sync::entry::{Entry, MAX_PUBLICATION_BYTES, MAX_PUBLICATION_ENTRIES};
use cairn_sync::key::SpaceId;
use cairn_sync::shared::{SharedEvent, command_of, publication_of};
use futures::StreamExt;

use crate::error::SharingError;
use crate::keeper::{Keeper, Move, cannot_be_shared, name_for_others};
use crate::linking::target_of;
use crate::restore::Selections;

/// Under what name the log keeps how far it was looked through.
pub const SOURCE: &str = "sharing";
/// The most entries that are kept in one append.
const SAID_AT_ONCE: usize = 500;
/// How many memories are loaded at once.
const LOADED_AT_ONCE: usize = 8;
/// How many events of a memory are read at once.
const PAGE: usize = 1_000;
/// A field that keeps its memory out of every space, and how the names of fields begin that stay here.
const PRIVATE: &str = "private";

/// What is to be said, with the events it was taken from.
pub(crate) type Publication = Vec<(Said, EventId)>;

/// What a memory brings with it into a space.
#[derive(Default)]
pub(crate) struct Brought {
    /// What this brain's own have written about it.
    pub(crate) publications: Vec<Publication>,
    /// Whether it was in a space before: others may have gone on writing about it.
    was_shared: bool,
}

impl Keeper {
    /// How far the log was looked through for what is to be said.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn published(&self) -> Result<Position, SharingError> {
        Ok(Position(self.handler.store().tracking(SOURCE).await?.unwrap_or(0)))
    }

    /// Looks at the next events of memories: says what is to be said, and puts memories into spaces and takes them out. Gives what was said,
    /// which is kept by then.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn publish(
        &mut self,
        events: &[RecordedEvent],
        selections: &Selections,
        engine: &mut Engine,
        now: u64,
    ) -> Result<Vec<Vec<Entry>>, SharingError> {
        let mut publications: BTreeMap<SpaceId, Vec<Publication>> = BTreeMap::new();
        // What is published because its memory came into a space may be among these events itself.
        let mut taken: BTreeSet<EventId> = BTreeSet::new();
        let mut chosen_for: BTreeSet<MemoryId> = BTreeSet::new();
        let mut come_in: BTreeMap<SpaceId, BTreeSet<MemoryId>> = BTreeMap::new();
        let mut back = come_in.clone();
        for event in events {
            let Some(memory) = memory_of_stream(&event.stream) else { continue };
            if &*event.event_type == "memory.erased" {
                self.erased.insert(memory);
                continue;
            }
            let Some(decoded) = decode_memory_event(event).map_err(|_| damaged(event))? else { continue };
            let metadata = read_metadata(event).map_err(|_| damaged(event))?;
            if let MemoryEvent::Shared(Shared { space }) = &decoded {
                let space: Option<SpaceId> = space.as_ref().and_then(|space| space.parse().ok());
                if space.is_some() && event.revision > Revision(0) {
                    self.find_untold().await?;
                }
                self.entering.remove(&memory);
                // It may be elsewhere by now.
                if let Some(space) = space.filter(|space| self.place(memory) == Some(*space)) {
                    let Brought { publications: mut said, was_shared } =
                        self.everything(memory, event.revision, space, engine).await?;
                    said.iter_mut().for_each(|said| said.retain(|(_, of)| taken.insert(*of)));
                    said.retain(|said| !said.is_empty());
                    publications.entry(space).or_default().extend(said);
                    come_in.entry(space).or_default().insert(memory);
                    if was_shared {
                        back.entry(space).or_default().insert(memory);
                    }
                }
                continue;
            }
            if matters(&decoded) && !selections.is_empty() {
                // One that is in a space may leave it, and then neither this nor what comes after it is said.
                match self.place(memory) {
                    Some(_) => self.choose([memory], selections, engine).await?,
                    None => drop(chosen_for.insert(memory)),
                }
            }
            // Whether a link is told hangs on where both its ends are.
            if links(&decoded) && !chosen_for.is_empty() {
                self.choose(std::mem::take(&mut chosen_for), selections, engine).await?;
            }
            let Some(space) = self.place(memory).filter(|_| !metadata.origin.is_peer()) else { continue };
            // It is said with all else when the place is reached at which its memory has come into the space.
            if self.entering.contains(&memory) {
                continue;
            }
            let id = EventId::new(event.id);
            if let Some(said) = self.said(memory, id, decoded, &metadata, engine).await?
                && taken.insert(id)
            {
                let publications = publications.entry(space).or_default();
                match publications.last_mut() {
                    // What one command did is one publication.
                    Some(last) if belongs(last, &said) => last.push((said, id)),
                    _ => publications.push(vec![(said, id)]),
                }
            }
        }
        self.choose(chosen_for, selections, engine).await?;
        for (space, memories) in come_in {
            let mut said = self.links_to(&memories, space, engine).await?;
            said.iter_mut().for_each(|said| said.retain(|(_, of)| taken.insert(*of)));
            said.retain(|said| !said.is_empty());
            publications.entry(space).or_default().extend(said);
        }
        for (space, memories) in back {
            self.take_in_missed(space, &memories, engine).await?;
        }
        publications.retain(|_, said| !said.is_empty());
        let mut tracking = events.last().map(|last| Tracking { source: SOURCE.into(), position: last.position.0 });
        let mut all = Vec::new();
        let spaces = publications.len();
        for (number, (space, publications)) in publications.into_iter().enumerate() {
            let tracking = if number + 1 == spaces { tracking.take() } else { None };
            all.extend(self.say(space, publications, tracking, engine, now).await?);
        }
        Ok(all)
    }

    /// Says in a space what this brain's own have written about its memories while they could not say it.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn say_unsaid(
        &mut self,
        space: SpaceId,
        engine: &mut Engine,
        now: u64,
    ) -> Result<Vec<Vec<Entry>>, SharingError> {
        let memories: Vec<MemoryId> =
            self.places.iter().filter(|(_, place)| **place == space).map(|(memory, _)| *memory).collect();
        let mut all = Vec::new();
        for memory in memories {
            let brought = self.everything(memory, Revision(u64::MAX), space, engine).await?;
            all.extend(self.say(space, brought.publications, None, engine, now).await?);
        }
        Ok(all)
    }

    /// Signs and keeps publications in a space.
    async fn say(
        &mut self,
        space: SpaceId,
        publications: Vec<Publication>,
        mut tracking: Option<Tracking>,
        engine: &mut Engine,
        now: u64,
    ) -> Result<Vec<Vec<Entry>>, SharingError> {
        let mut all = Vec::new();
        let mut parts = in_parts(publications).into_iter().peekable();
        while let Some(part) = parts.next() {
            let tracking = if parts.peek().is_none() { tracking.take() } else { None };
            let mut part = part;
            loop {
                let said: Vec<Vec<Said>> =
                    part.iter().map(|said| said.iter().map(|(said, _)| said.clone()).collect()).collect();
                let entries = match engine.publish(space, &said, now) {
                    Ok(entries) => entries,
                    Err(CannotSay::Role | CannotSay::NoSpace) => break,
                    Err(error) => return Err(error.into()),
                };
                let of = part.iter().flatten().map(|(_, of)| Some(*of));
                let kept: Vec<_> = entries.iter().cloned().zip(of).collect();
                match self.keep_said(&kept, tracking.clone()).await {
                    Ok(()) => {
                        engine.take_said(&entries);
                        all.push(entries);
                        break;
                    }
                    // Some was said before the node stopped; the rest is said now.
                    Err(SharingError::Append(AppendError::EventIdReused { .. })) => {
                        let before = part.iter().map(Vec::len).sum::<usize>();
                        part = self.unsaid(space, part).await?;
                        if part.is_empty() || part.iter().map(Vec::len).sum::<usize>() == before {
                            break;
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(all)
    }

    async fn unsaid(
        &self,
        space: SpaceId,
        publications: Vec<Publication>,
    ) -> Result<Vec<Publication>, SharingError> {
        let mut rest = Vec::new();
        for publication in publications {
            let mut unsaid = Vec::new();
            for (said, of) in publication {
                if self.handler.store().event(publication_of(space, of)).await?.is_none() {
                    unsaid.push((said, of));
                }
            }
            if !unsaid.is_empty() {
                rest.push(unsaid);
            }
        }
        Ok(rest)
    }

    /// All that this brain's own have written about a memory before it came into a space.
    pub(crate) async fn everything(
        &mut self,
        memory: MemoryId,
        until: Revision,
        space: SpaceId,
        engine: &Engine,
    ) -> Result<Brought, SharingError> {
        let mut brought = Brought::default();
        // With what others have shared, nothing is brought.
        if until == Revision(0) {
            return Ok(brought);
        }
        let stream = memory_stream(memory);
        let mut from = Revision(0);
        loop {
            let events = self.handler.store().read_stream(&stream, from, Direction::Forwards, PAGE).await?;
            for event in events.iter().filter(|event| event.revision < until) {
                let Some(decoded) = decode_memory_event(event).map_err(|_| damaged(event))? else { continue };
                let metadata = read_metadata(event).map_err(|_| damaged(event))?;
                let id = EventId::new(event.id);
                brought.was_shared |= matches!(decoded, MemoryEvent::Shared(_));
                if metadata.origin.is_peer() {
                    continue;
                }
                if let Some(said) = self.said(memory, id, decoded, &metadata, engine).await? {
                    match brought.publications.last_mut() {
                        // Newcomers see the memory as it is, and not how it came about.
                        Some(last) if has_room(last, &said) => last.push((said, id)),
                        _ => brought.publications.push(vec![(said, id)]),
                    }
                }
            }
            match events.last() {
                Some(last) if events.len() == PAGE && last.revision < until => from = last.revision.next(),
                // Of what was never shared nothing was said, unless this node stopped right after it.
                _ if !brought.was_shared => return Ok(brought),
                _ => {
                    brought.publications = self.unsaid(space, brought.publications).await?;
                    return Ok(brought);
                }
            }
        }
    }

    /// What others are told of an event: nothing where it stays here.
    async fn said(
        &mut self,
        memory: MemoryId,
        id: EventId,
        event: MemoryEvent,
        metadata: &Metadata,
        engine: &Engine,
    ) -> Result<Option<Said>, SharingError> {
        let Some(event) = SharedEvent::of(id, event) else { return Ok(None) };
        if let Some(field) = event.field().filter(|field| self.stays_here(memory, field)) {
            if let Some(target) = target_of(&field) {
                self.note_untold(target, memory);
            }
            return Ok(None);
        }
        if let Some(command) = event.undoes() {
            // What was claimed and written instead is told as such; of what is undone, only verdicts are not.
            let loaded = self.handler.load(memory).await?;
            let Some(of) = loaded.memory.verdicts().find(|by| by.command == command) else { return Ok(None) };
            let named =
                if of.origin.is_peer() { command } else { command_of(engine.brain(), memory.uuid(), of.hlc) };
            let (at, truth, event) = (metadata.hlc, metadata.truth, event.about(named));
            return Ok(Some(Said { memory, at, truth, event }));
        }
        let event = match event.refers() {
            true => {
                let loaded = self.handler.load(memory).await?;
                let (own, field) = (engine.brain(), event.field());
                let named =
                    |id| field.as_ref().map_or(id, |field| name_for_others(own, &loaded.memory, field, id));
                event.renamed(|_, id| named(id))
            }
            false => event,
        };
        if let Some(why) = cannot_be_shared(&event) {
            tracing::warn!(%memory, event = %id, %why, "a change of a shared memory stays here");
            return Ok(None);
        }
        Ok(Some(Said { memory, at: metadata.hlc, truth: metadata.truth, event }))
    }

    /// Whether what is said about a field is not told to others.
    fn stays_here(&self, memory: MemoryId, field: &FieldName) -> bool {
        match field.role() {
            FieldRole::Attribute(name) => name.starts_with(PRIVATE),
            // That there is another memory is told to those who share that one, too.
            FieldRole::Link { target, .. } => self.place(target) != self.place(memory),
            FieldRole::Title | FieldRole::Body | FieldRole::Kind | FieldRole::Archived | FieldRole::Tag(_) => {
                false
            }
        }
    }

    /// Puts memories into the spaces that they are chosen for, or takes them out.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn choose(
        &mut self,
        memories: impl IntoIterator<Item = MemoryId>,
        selections: &Selections,
        engine: &Engine,
    ) -> Result<(), SharingError> {
        let handler = std::sync::Arc::clone(&self.handler);
        let mut memories: Vec<MemoryId> = memories.into_iter().collect();
        while !memories.is_empty() {
            let (mut moves, mut changed) = (Vec::new(), Vec::new());
            let loaded = memories.into_iter().map(|memory| handler.load(memory));
            let mut loaded = futures::stream::iter(loaded).buffered(LOADED_AT_ONCE);
            while let Some(loaded) = loaded.next().await {
                let loaded = loaded?;
                let (state, memory) = (&loaded.memory, loaded.memory.id());
                if !state.is_begun_here() || !state.is_present() {
                    continue;
                }
                let chosen = selections.iter().find(|(space, chosen)| {
                    // What the owner of a space has erased does not come back into it.
                    let rules = engine.replica().space(**space);
                    rules.is_some_and(|rules| !rules.erased().contains_key(&memory))
                        && selects(&chosen.selection, state)
                });
                let (place, chosen) = (self.place(memory), chosen.map(|(space, _)| *space));
                // One that has been made private meanwhile must not come in.
                let expected = loaded.revision.map_or(ExpectedRevision::Any, ExpectedRevision::Exact);
                if place != chosen {
                    moves.push(Move { memory, space: chosen, expected });
                }
                if moves.len() == SAID_AT_ONCE {
                    changed.extend(self.put(std::mem::take(&mut moves)).await?);
                }
            }
            changed.extend(self.put(moves).await?);
            memories = changed;
        }
        Ok(())
    }
}

fn links(event: &MemoryEvent) -> bool {
    matches!(event, MemoryEvent::FieldClaimed(claimed) if target_of(&claimed.field).is_some())
}

/// Whether an event can matter for which space its memory is in.
fn matters(event: &MemoryEvent) -> bool {
    match event {
        MemoryEvent::FieldClaimed(claimed) => match claimed.field.role() {
            FieldRole::Tag(_) => true,
            FieldRole::Attribute(name) => name == PRIVATE,
            _ => false,
        },
        MemoryEvent::Created(_) | MemoryEvent::ClaimRetracted(_) | MemoryEvent::SuggestionRejected(_) => true,
        _ => false,
    }
}

/// Whether a memory is among those that were chosen.
fn selects(selection: &SelectionChanged, memory: &Memory) -> bool {
    let private: Option<FieldName> = PRIVATE.parse().ok();
    let private = private.and_then(|name| memory.value(&name).cloned());
    if !matches!(private, None | Some(Value::Empty | Value::Flag(false))) {
        return false;
    }
    // What an AI thinks of a memory shares it with nobody.
    let mut tags = memory.tags().filter(|(_, claim)| claim.author.truth <= Truth::Automation);
    selection.memories.contains(&memory.id())
        || selection.tag.as_ref().is_some_and(|wanted| tags.any(|(tag, _)| tag == wanted))
}

fn belongs(publication: &Publication, said: &Said) -> bool {
    let same = |(last, _): &(Said, EventId)| (last.memory, last.at) == (said.memory, said.at);
    publication.last().is_some_and(same) && has_room(publication, said)
}

fn has_room(publication: &Publication, said: &Said) -> bool {
    publication.len() < usize::from(MAX_PUBLICATION_ENTRIES)
        && bytes(publication) + size(said) <= MAX_PUBLICATION_BYTES
}

fn bytes(publication: &Publication) -> usize {
    publication.iter().map(|(said, _)| size(said)).sum()
}

/// What an event has as a payload; one that has too much is not said.
fn size(said: &Said) -> usize {
    said.event.to_bytes().map_or(0, |payload| payload.len())
}

/// Publications in parts that each fit into one append.
fn in_parts(publications: Vec<Publication>) -> Vec<Vec<Publication>> {
    let mut parts: Vec<Vec<Publication>> = Vec::new();
    let (mut room, mut room_bytes) = (0, 0);
    for publication in publications {
        let size = bytes(&publication);
        if publication.len() > room || size > room_bytes {
            parts.push(Vec::new());
            (room, room_bytes) = (SAID_AT_ONCE, MAX_PUBLICATION_BYTES);
        }
        room = room.saturating_sub(publication.len());
        room_bytes = room_bytes.saturating_sub(size);
        if let Some(part) = parts.last_mut() {
            part.push(publication);
        }
    }
    parts
}

fn damaged(event: &RecordedEvent) -> SharingError {
    SharingError::Damaged { position: event.position }
}
