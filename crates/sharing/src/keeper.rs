//! Keeps in the log what the engine says is to be kept, and makes memories of what is shared.

mod peers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_command::{Handler, envelope};
use cairn_domain::claim::Standing;
use cairn_domain::event::{Event, MemoryEvent, Metadata, Shared, SpaceEntry, SpaceEvent, StandingChanged};
use cairn_domain::id::{EventId, MemoryId, memory_of_stream, memory_stream};
use cairn_domain::principal::{Origin, Principal};
use cairn_domain::truth::Truth;
use cairn_event_store::{
    AppendError, Direction, ExpectedRevision, NewAppend, NewEvent, Revision, StreamAppend, Tracking,
};
use cairn_sync::certificate::Certificate;
use cairn_sync::chain::{ChainId, chain_of};
use cairn_sync::engine::Engine;
use cairn_sync::entry::{Entry, EntryKind, Lane};
use cairn_sync::key::{BrainKey, SpaceId};
use cairn_sync::shared::{
    InvalidShared, SharedEvent, command_of, creates, entry_id, origin_of, principal_of, publication_of,
    shared_name,
};
use cairn_sync::space::{self, Space};
use uuid::Uuid;

use crate::error::SharingError;
use crate::linking::Untold;
use crate::names::{chain_stream, encode, encode_header, read_entry};

/// How many entries are kept in one append, and how many memories are destroyed.
pub(crate) const KEPT_AT_ONCE: usize = 500;
/// How many bytes of payloads are kept in one append.
const KEPT_BYTES: usize = 8 * 1024 * 1024;
/// How many entries are looked at at once when what they count for has changed.
const LOOKED_AT: usize = 1_000;

/// How it is told whether a memory that is in no space is new here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// It is taken for new, as nearly all are, and the log refuses the append where it is not: a read for each memory takes
    /// longer than keeping it.
    Guessed,
    /// The log is asked.
    Looked,
}

/// A memory of this brain's own that comes into a space or leaves the one it is in.
#[derive(Debug, Clone, Copy)]
pub struct Move {
    /// The memory.
    pub memory: MemoryId,
    /// The space; none where it leaves.
    pub space: Option<SpaceId>,
    /// What its stream must be at: as it was when this was decided.
    pub expected: ExpectedRevision,
}

/// What of the log is kept in memory, to tell what belongs where.
pub struct Keeper {
    pub(crate) handler: Arc<Handler>,
    /// Who writes what nobody in particular does.
    by: Principal,
    /// The space that each shared memory is in.
    pub(crate) places: BTreeMap<MemoryId, SpaceId>,
    /// Memories that have come into their space, of which nothing was said there yet.
    pub(crate) entering: BTreeSet<MemoryId>,
    /// Links that were not told, once they were looked for.
    pub(crate) untold: Option<Untold>,
    /// Memories that were erased here: what is said about them is not taken in.
    pub(crate) erased: BTreeSet<MemoryId>,
}

impl Keeper {
    /// Over a brain's log.
    pub fn new(handler: Arc<Handler>, brain: BrainKey) -> Self {
        let by = Principal {
            id: principal_of(brain),
            ceiling: Truth::Automation,
            origin: Origin::of(Truth::Automation, "sharing"),
        };
        Self {
            handler,
            by,
            places: BTreeMap::new(),
            entering: BTreeSet::new(),
            untold: None,
            erased: BTreeSet::new(),
        }
    }

    /// The space that a memory is in.
    pub fn place(&self, memory: MemoryId) -> Option<SpaceId> {
        self.places.get(&memory).copied()
    }

    pub(crate) fn stamp(&self) -> Metadata {
        self.handler.stamp(&self.by)
    }

    /// An event of the brain's own about sharing.
    pub(crate) fn fact(&self, event: Event) -> NewEvent {
        envelope(EventId::new(Uuid::now_v7()), &event, &self.stamp())
    }

    pub(crate) async fn add(&self, stream: Arc<str>, event: Event) -> Result<(), SharingError> {
        let streams =
            vec![StreamAppend { stream, expected: ExpectedRevision::Any, events: vec![self.fact(event)] }];
        self.handler.append(NewAppend { streams, tracking: None }).await?;
        Ok(())
    }

    async fn add_all(&self, events: impl IntoIterator<Item = (Arc<str>, Event)>) -> Result<(), SharingError> {
        let streams = events.into_iter().map(|(stream, event)| StreamAppend {
            stream,
            expected: ExpectedRevision::Any,
            events: vec![self.fact(event)],
        });
        self.handler.append(NewAppend { streams: streams.collect(), tracking: None }).await?;
        Ok(())
    }

    /// Entries that are kept, from a number on.
    ///
    /// # Errors
    /// When the log does not answer, or holds something else.
    pub async fn load(&self, chain: ChainId, from: u64, limit: usize) -> Result<Vec<Entry>, SharingError> {
        let from = Revision(from.max(1) - 1);
        let events =
            self.handler.store().read_stream(&chain_stream(chain), from, Direction::Forwards, limit).await?;
        events.iter().map(read_entry).collect()
    }

    /// Keeps what this brain has said, each where the chain has room for it; with the place in its own log that it was taken from.
    /// Said again, it changes nothing.
    ///
    /// # Errors
    /// When the log does not answer, or the chain has no room there: somebody else writes in this brain's name.
    pub async fn keep_said(
        &self,
        entries: &[(Entry, Option<EventId>)],
        tracking: Option<Tracking>,
    ) -> Result<(), SharingError> {
        let Some(said) = self.own_words(entries) else { return Ok(()) };
        self.handler.append(NewAppend { streams: vec![said], tracking }).await?;
        Ok(())
    }

    /// What this brain has said, as it is kept.
    pub(crate) fn own_words(&self, entries: &[(Entry, Option<EventId>)]) -> Option<StreamAppend> {
        let (first, _) = entries.first()?;
        let events = entries.iter().map(|(entry, of)| {
            let id = of.map_or_else(|| entry_id(entry.hash()), |of| publication_of(entry.space(), of));
            let cause = of.map(EventId::uuid);
            self.entry_event(id, entry, cause)
        });
        let stream = chain_stream(chain_of(first));
        Some(StreamAppend { stream, expected: place_of(first), events: events.collect() })
    }

    fn entry_event(&self, id: Uuid, entry: &Entry, cause: Option<Uuid>) -> NewEvent {
        let payload = entry.payload().map(|payload| encode(payload));
        let header = entry.header();
        let (data, memory) = match header.kind.lane() {
            Lane::Control => (SpaceEvent::Control(SpaceEntry { payload, sealed: None }), None),
            Lane::Content => {
                let sealed = entry.sealed().map(|sealed| encode(sealed));
                // Of what was erased only the header is kept, which says nothing.
                let is_there = payload.is_some() || sealed.is_some();
                let memory = (!self.erased.contains(&header.memory) && is_there).then_some(header.memory);
                let (payload, sealed) =
                    (payload.filter(|_| memory.is_some()), sealed.filter(|_| memory.is_some()));
                (SpaceEvent::Entry(SpaceEntry { payload, sealed }), memory)
            }
        };
        let entry = Some(encode_header(entry));
        let metadata = Metadata { causation_id: cause, memory, entry, ..self.stamp() };
        envelope(EventId::new(id), &Event::Space(data), &metadata)
    }

    /// Keeps entries of another brain, one after the other of one chain, and what they say about memories.
    ///
    /// # Errors
    /// When the log does not answer or refuses them.
    pub async fn keep(&mut self, entries: &[Entry], engine: &Engine) -> Result<(), SharingError> {
        let mut rest = entries;
        while !rest.is_empty() {
            let (part, later) = rest.split_at(whole_part(rest));
            self.keep_part(part, engine).await?;
            rest = later;
        }
        Ok(())
    }

    async fn keep_part(&mut self, entries: &[Entry], engine: &Engine) -> Result<(), SharingError> {
        let Some(first) = entries.first() else { return Ok(()) };
        let mut refused: BTreeSet<EventId> = BTreeSet::new();
        let mut sight = Sight::Guessed;
        let erased = engine.replica().space(first.space()).map(Space::erased);
        loop {
            let mut streams = Streams::default();
            let chain = chain_stream(chain_of(first));
            let mut begun = Vec::new();
            for entry in entries {
                // What the owner has destroyed is not taken in again, whoever sends it.
                let is_erased = entry.header().kind.lane() == Lane::Content
                    && erased.is_some_and(|erased| erased.contains_key(&entry.header().memory));
                let entry = if is_erased { &entry.clone().erased() } else { entry };
                if entry.header().kind.lane() == Lane::Content {
                    let memory = self.take_in(entry, engine, (&refused, sight), &mut streams).await?;
                    begun.extend(memory);
                }
                streams.push(&chain, self.entry_event(entry_id(entry.hash()), entry, None));
            }
            match self.handler.append(streams.append(&chain, place_of(first))).await {
                Ok(_) => {
                    self.places.extend(begun.into_iter().map(|memory| (memory, first.space())));
                    if let Some(latest) = entries.iter().map(|entry| entry.header().at).max() {
                        self.handler.observe(latest);
                    }
                    return Ok(());
                }
                // An author who uses one id for two things has said only the first.
                Err(AppendError::EventIdReused { id }) if refused.insert(EventId::new(id)) => {}
                // Something was taken for a memory that begins here and does not.
                Err(AppendError::WrongExpectedRevision { stream, .. }) if memory_of_stream(&stream).is_some() => {
                    sight = Sight::Looked;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What an entry says about a memory, as an event of that memory. Gives the memory where it is the first that is heard of it.
    pub(crate) async fn take_in(
        &self,
        entry: &Entry,
        engine: &Engine,
        (refused, sight): (&BTreeSet<EventId>, Sight),
        streams: &mut Streams,
    ) -> Result<Option<MemoryId>, SharingError> {
        let (header, space) = (entry.header(), entry.space());
        let memory = header.memory;
        let stream: Arc<str> = memory_stream(memory).into();
        if entry.payload().or(entry.sealed()).is_none() || self.erased.contains(&memory) {
            return Ok(None);
        }
        let mut begun = None;
        match self.places.get(&memory) {
            Some(place) if *place == space => {}
            // It is in another space: a grant for this one gives nothing there.
            Some(_) => return Ok(None),
            None if streams.has(&stream) => {}
            // It is this brain's own, and not shared.
            None if sight == Sight::Looked && self.is_known(&stream).await? => return Ok(None),
            None => {
                streams.begin(&stream);
                let shared = Event::Memory(MemoryEvent::Shared(Shared { space: Some(space.to_string()) }));
                streams.push(&stream, self.fact(shared));
                begun = Some(memory);
            }
        }
        let known = matches!(header.kind, EntryKind::Claim | EntryKind::Change);
        // Of what is sealed here it is only known which memory it is about, so that it goes when that is erased.
        let said = match entry.payload().filter(|_| known).map(|payload| SharedEvent::parse(payload)) {
            Some(Ok(said)) => said,
            // It is kept and passed on; what it says may be known to a later program.
            Some(Err(_)) | None => return Ok(begun),
        };
        let id = shared_name(header.author, memory, said.id);
        if refused.contains(&id) || streams.holds(id) {
            return Ok(begun);
        }
        let standing = standing_of(engine.replica().standing(space, header), &said);
        let said = self.resolved(said, memory, engine.brain()).await?;
        let metadata = Metadata {
            principal: principal_of(header.author),
            truth: header.truth,
            origin: origin_of(header.author),
            hlc: header.at,
            correlation_id: command_of(header.author, memory.uuid(), header.at),
            causation_id: Some(entry_id(entry.hash())),
            standing,
            ..self.stamp()
        };
        streams.push(&stream, envelope(id, &Event::Memory(said.event), &metadata));
        Ok(begun)
    }

    /// Whether the log has anything of a memory.
    async fn is_known(&self, stream: &str) -> Result<bool, SharingError> {
        let first = self.handler.store().read_stream(stream, Revision(0), Direction::Forwards, 1).await?;
        Ok(!first.is_empty())
    }

    /// The same with this brain's own events under their own names.
    async fn resolved(
        &self,
        said: SharedEvent,
        memory: MemoryId,
        own: BrainKey,
    ) -> Result<SharedEvent, SharingError> {
        if let Some(command) = said.undoes() {
            let loaded = self.handler.load(memory).await?;
            let own_words = loaded.memory.verdicts().filter(|by| !by.origin.is_peer());
            let mut of = own_words.filter(|by| command_of(own, memory.uuid(), by.hlc) == command);
            return Ok(of.next().map(|by| by.command).map_or(said.clone(), |own| said.about(own)));
        }
        let Some(field) = said.field().filter(|_| said.refers()) else { return Ok(said) };
        let loaded = self.handler.load(memory).await?;
        let claims = loaded.memory.field(&field).into_iter().flat_map(|claims| claims.all());
        let claims = claims.map(|claim| (claim.id, &claim.author));
        let edits = loaded.memory.body().edits().iter().map(|edit| (edit.id, &edit.author));
        let own_events = claims.chain(edits).filter(|(_, author)| !author.origin.is_peer());
        let names: BTreeMap<EventId, EventId> =
            own_events.map(|(id, _)| (shared_name(own, memory, id), id)).collect();
        Ok(said.renamed(|_, id| names.get(&id).copied().unwrap_or(id)))
    }

    /// Says of everything in a space that counts for something else now what it counts for.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn restand(
        &mut self,
        space: SpaceId,
        before: Option<&Space>,
        engine: &Engine,
    ) -> Result<(), SharingError> {
        self.restand_those(space, before, engine, |_| true).await
    }

    /// The same of some entries.
    pub(crate) async fn restand_those(
        &mut self,
        space: SpaceId,
        before: Option<&Space>,
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
                let mut entries = self.load(chain, from, LOOKED_AT).await?;
                let count = entries.len();
                entries.retain(&of);
                // What was kept for others may be read by now.
                self.restand_entries(&engine.opened(space, entries), before, engine).await?;
                from += count as u64;
                if count < LOOKED_AT {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Says of entries of a chain, from a number to another, what they count for now.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn recount(
        &mut self,
        chain: ChainId,
        (from, to): (u64, u64),
        engine: &Engine,
    ) -> Result<(), SharingError> {
        let mut from = from;
        while from <= to && !engine.is_by_this_device(chain) {
            let mut entries = self.load(chain, from, LOOKED_AT).await?;
            from += entries.len().max(1) as u64;
            let is_last = entries.len() < LOOKED_AT;
            entries.retain(|entry| entry.header().number <= to);
            self.restand_entries(&engine.opened(chain.space, entries), None, engine).await?;
            if is_last {
                break;
            }
        }
        Ok(())
    }

    async fn restand_entries(
        &self,
        entries: &[Entry],
        before: Option<&Space>,
        engine: &Engine,
    ) -> Result<(), SharingError> {
        let mut changed: BTreeMap<(MemoryId, Standing), Vec<EventId>> = BTreeMap::new();
        for entry in entries {
            let header = entry.header();
            if self.places.get(&header.memory) != Some(&entry.space()) {
                continue;
            }
            let Some(Ok(said)) = entry.payload().map(|payload| SharedEvent::parse(payload)) else { continue };
            let writer = engine.certificate(header.author, header.epoch).map(Certificate::writer);
            let was = before.map(|space| standing_of(space.standing(header, writer), &said));
            let is = standing_of(engine.replica().standing(entry.space(), header), &said);
            if was != Some(is) {
                let id = shared_name(header.author, header.memory, said.id);
                changed.entry((header.memory, is)).or_default().push(id);
            }
        }
        let mut streams = Streams::default();
        for ((memory, standing), events) in changed {
            let event = MemoryEvent::StandingChanged(StandingChanged { events, standing });
            streams.push(&memory_stream(memory).into(), self.fact(Event::Memory(event)));
        }
        if !streams.is_empty() {
            self.handler.append(streams.append("", ExpectedRevision::Any)).await?;
        }
        Ok(())
    }

    /// Puts memories of this brain's own into spaces, or takes them out of those they are in, in one append. Gives those that are not as they were
    /// when that was decided.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn put(&mut self, moves: Vec<Move>) -> Result<Vec<MemoryId>, SharingError> {
        let (mut again, mut parts) = (Vec::new(), vec![moves]);
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let streams = part.iter().map(|of| {
                let shared = Shared { space: of.space.map(|space| space.to_string()) };
                let events = vec![self.fact(Event::Memory(MemoryEvent::Shared(shared)))];
                StreamAppend { stream: memory_stream(of.memory).into(), expected: of.expected, events }
            });
            match self.handler.append(NewAppend { streams: streams.collect(), tracking: None }).await {
                Ok(_) => {
                    for of in part {
                        self.note_place(of.memory, of.space);
                        self.note_entering(of.memory, of.space.is_some());
                    }
                }
                Err(AppendError::WrongExpectedRevision { stream, .. }) => {
                    let changed = memory_of_stream(&stream);
                    again.extend(part.extract_if(.., |of| Some(of.memory) == changed).map(|of| of.memory));
                    parts.push(part);
                }
                // One was erased meanwhile.
                Err(AppendError::Invalid(_)) if part.len() > 1 => {
                    parts.extend(part.into_iter().map(|of| vec![of]));
                }
                Err(AppendError::Invalid(why)) => tracing::debug!(why, "a memory stays where it is"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(again)
    }

    pub(crate) fn note_entering(&mut self, memory: MemoryId, enters: bool) {
        match enters {
            true => self.entering.insert(memory),
            false => self.entering.remove(&memory),
        };
    }

    pub(crate) fn note_place(&mut self, memory: MemoryId, space: Option<SpaceId>) {
        match space {
            Some(space) => drop(self.places.insert(memory, space)),
            None => drop(self.places.remove(&memory)),
        }
    }
}

/// Where a chain's stream must stand for an entry to have its place in it.
fn place_of(entry: &Entry) -> ExpectedRevision {
    match entry.header().number {
        1 => ExpectedRevision::NoStream,
        number => ExpectedRevision::Exact(Revision(number - 2)),
    }
}

/// How many of some entries are kept in one append: whole publications, and not too many bytes.
fn whole_part(entries: &[Entry]) -> usize {
    let (mut end, mut bytes) = (0, 0);
    for (at, entry) in entries.iter().enumerate() {
        bytes += entry.header().payload_bytes as usize;
        if end > 0 && (at >= KEPT_AT_ONCE || bytes > KEPT_BYTES) {
            return end;
        }
        if entry.header().following == 0 {
            end = at + 1;
        }
    }
    if end == 0 { entries.len() } else { end }
}

/// What an entry counts for in its memory.
fn standing_of(standing: space::Standing, said: &SharedEvent) -> Standing {
    match standing {
        space::Standing::Full => Standing::Full,
        // A memory that is only suggested is none.
        space::Standing::Suggestion if creates(&said.event) => Standing::Held,
        space::Standing::Suggestion => Standing::Suggestion,
        space::Standing::Held(_) => Standing::Held,
    }
}

/// The name that one of this brain's events has for others; what came from others has it already.
pub(crate) fn name_for_others(
    brain: BrainKey,
    memory: &cairn_domain::memory::Memory,
    field: &cairn_domain::field::FieldName,
    id: EventId,
) -> EventId {
    let claim = memory.field(field).and_then(|claims| claims.get(id)).map(|claim| &claim.author);
    let author = claim.or_else(|| memory.body().edit(id).map(|edit| &edit.author));
    match author {
        Some(author) if author.origin.is_peer() => id,
        Some(_) | None => shared_name(brain, memory.id(), id),
    }
}

/// Whether something cannot be shared at all.
pub(crate) fn cannot_be_shared(said: &SharedEvent) -> Option<InvalidShared> {
    said.to_bytes().err()
}

/// Events for several streams, in one append.
#[derive(Default)]
pub(crate) struct Streams {
    order: Vec<Arc<str>>,
    events: BTreeMap<Arc<str>, Vec<NewEvent>>,
    ids: BTreeSet<Uuid>,
    /// Those that must not be there yet.
    begun: BTreeSet<Arc<str>>,
}

impl Streams {
    fn push(&mut self, stream: &Arc<str>, event: NewEvent) {
        self.ids.insert(event.id);
        let events = self.events.entry(Arc::clone(stream)).or_insert_with(|| {
            self.order.push(Arc::clone(stream));
            Vec::new()
        });
        events.push(event);
    }

    /// Expects that a stream is not there yet.
    fn begin(&mut self, stream: &Arc<str>) {
        self.begun.insert(Arc::clone(stream));
    }

    fn has(&self, stream: &Arc<str>) -> bool {
        self.events.contains_key(stream)
    }

    fn holds(&self, id: EventId) -> bool {
        self.ids.contains(&id.uuid())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// As one append, in which one stream is expected to be at a revision.
    pub(crate) fn append(mut self, checked: &str, expected: ExpectedRevision) -> NewAppend {
        let streams = self.order.into_iter().map(|stream| {
            let events = self.events.remove(&stream).unwrap_or_default();
            let expected = match &*stream {
                stream if stream == checked => expected,
                stream if self.begun.contains(stream) => ExpectedRevision::NoStream,
                _ => ExpectedRevision::Any,
            };
            StreamAppend { stream, expected, events }
        });
        NewAppend { streams: streams.collect(), tracking: None }
    }
}
