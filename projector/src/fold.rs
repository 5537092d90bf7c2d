//! Turns events into memories as they stand.
//!
//! Projections keep no folded state of their own. A bounded cache holds the memories that were folded last; one that
//! is not in it is folded again from its stream. So a projection costs nothing but its rows, and a restart begins
//! at once.

mod entry;
mod partitions;

use std::collections::HashMap;
use std::sync::Arc;

use cairn_domain::body::CorruptBody;
use cairn_domain::claim::Authorship;
use cairn_domain::event::{DecodeError, Erased, Event, MemoryEvent, Metadata, check_known};
use cairn_domain::id::{
    EventId, MemoryId, OWNED_STREAM_PREFIXES, PEER_STREAM_PREFIX, PrincipalId, SPACE_STREAM_PREFIX,
    memory_of_stream, memory_stream,
};
use cairn_domain::memory::Memory;
use cairn_event_store::{Direction, Position, RecordedEvent, Revision, SharedStore, StoreError};
use cairn_read_model::change::{Batch, MemoryChange, PrincipalChange, Touched};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use lru::LruCache;
pub use partitions::PartitionedFold;

/// What the name of every principal's stream starts with.
pub const PRINCIPAL_STREAM_PREFIX: &str = "principal-";
/// How much the folded memories of one serving projection may weigh, in bytes of events folded in. In memory they
/// take about three times as much.
pub const SERVING_CACHE_BYTES: usize = 8 * 1024 * 1024;
/// The same while a generation is built: old memories come up again and again then.
pub const BUILDING_CACHE_BYTES: usize = 128 * 1024 * 1024;
/// What a memory weighs beside its events.
const MEMORY_WEIGHT: usize = 512;
/// What an event is taken to weigh that another fold has folded in.
const EVENT_WEIGHT: usize = 512;
/// How many streams are read at once for memories that are not in the cache.
const LOADS_AT_ONCE: usize = 4;
/// How many events of a stream are read at once.
const LOAD_EVENTS: usize = 1_000;

/// Why the log cannot be folded on.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The event's data cannot be read.
    #[error("the event at position {position} cannot be read")]
    Decode {
        /// Where.
        position: Position,
        /// Why not.
        source: DecodeError,
    },
    /// The event's metadata cannot be read.
    #[error("the metadata of the event at position {position} cannot be read")]
    Metadata {
        /// Where.
        position: Position,
        /// Why not.
        source: serde_json::Error,
    },
    /// The event is of a known type but in a stream it does not belong into.
    #[error("the event at position {position} does not belong into stream {stream}")]
    Misplaced {
        /// Where.
        position: Position,
        /// The stream.
        stream: Arc<str>,
    },
    /// The event does not fit those before it in its stream.
    #[error("the event at position {position} does not fit its memory")]
    Body {
        /// Where.
        position: Position,
        /// Why not.
        source: CorruptBody,
    },
    /// Revisions are missing from a stream.
    #[error("stream {stream} goes on at revision {found} where {expected} was expected, at position {position}")]
    Gap {
        /// Where.
        position: Position,
        /// The stream.
        stream: Arc<str>,
        /// The revision that should come.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// The store failed while an earlier part of a stream was read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FoldError {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(StoreError::Unavailable { .. }))
    }

    /// The position of the event at fault, where it is an event's.
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Decode { position, .. }
            | Self::Metadata { position, .. }
            | Self::Misplaced { position, .. }
            | Self::Body { position, .. }
            | Self::Gap { position, .. } => Some(*position),
            Self::Store(_) => None,
        }
    }
}

/// Folds the log in the order of its positions.
pub struct Fold {
    store: SharedStore,
    states: LruCache<MemoryId, Folded>,
    weight: usize,
    budget: usize,
    entries: bool,
}

/// A memory with the revision that comes next.
struct Folded {
    memory: Arc<Memory>,
    next: u64,
    weight: usize,
}

/// What the events of a batch did to one memory, so far.
struct Pending {
    memory: MemoryId,
    first_revision: u64,
    first_position: u64,
    revision: u64,
    position: u64,
    recorded_at: DateTime<Utc>,
    touched: Touched,
}

impl Fold {
    /// A fold with an empty cache of `budget` bytes; `entries` says whether batches list their events too.
    pub fn new(store: SharedStore, budget: usize, entries: bool) -> Self {
        Self { store, states: LruCache::unbounded(), weight: 0, budget, entries }
    }

    /// Changes how much the cache may hold.
    pub fn set_budget(&mut self, budget: usize) {
        self.budget = budget;
        self.shrink();
    }

    /// Changes whether batches list their events too.
    pub(crate) fn set_entries(&mut self, entries: bool) {
        self.entries = entries;
    }

    /// Folds the next events of the log.
    ///
    /// # Errors
    /// See [`FoldError`]. After a transient one the same events may be folded again.
    pub async fn batch(&mut self, events: &[RecordedEvent]) -> Result<Batch, FoldError> {
        let events: Vec<&RecordedEvent> = events.iter().collect();
        self.prepare(&events).await?;
        self.fold(&events)
    }

    /// Folds events for which everything was prepared. Only what stays fails here.
    fn fold(&mut self, events: &[&RecordedEvent]) -> Result<Batch, FoldError> {
        let mut batch = Batch { events: events.len(), ..Batch::default() };
        let mut pending: Vec<Pending> = Vec::new();
        let mut places: HashMap<MemoryId, usize> = HashMap::new();
        for event in events {
            batch.position = event.position.0;
            batch.recorded_at = event.recorded_at;
            match Subject::of(event)? {
                Subject::Sharing | Subject::Foreign => {}
                Subject::Principal(principal) => self.principal(principal, event, &mut batch)?,
                Subject::Memory(memory) => {
                    let place = *places.entry(memory).or_insert_with(|| {
                        pending.push(Pending::new(memory, event));
                        pending.len() - 1
                    });
                    self.event(&mut pending[place], event, &mut batch)?;
                }
            }
        }
        batch.memories = pending.into_iter().filter_map(|pending| self.change(pending)).collect();
        self.shrink();
        Ok(batch)
    }

    fn principal(
        &self,
        principal: PrincipalId,
        recorded: &RecordedEvent,
        batch: &mut Batch,
    ) -> Result<(), FoldError> {
        if recorded.erased {
            return Ok(());
        }
        let Event::Principal(event) = decode(recorded)? else { return Err(misplaced(recorded)) };
        batch.principals.push(PrincipalChange {
            principal,
            event,
            position: recorded.position.0,
            recorded_at: recorded.recorded_at,
        });
        Ok(())
    }

    fn event(
        &mut self,
        pending: &mut Pending,
        recorded: &RecordedEvent,
        batch: &mut Batch,
    ) -> Result<(), FoldError> {
        let folded = self.states.get_or_insert_mut(pending.memory, || Folded::new(pending.memory));
        let found = recorded.revision.0;
        if found < folded.next {
            return Ok(());
        }
        if found > folded.next {
            return Err(gap(recorded, folded.next));
        }
        pending.revision = found;
        pending.position = recorded.position.0;
        pending.recorded_at = recorded.recorded_at;
        let weight = recorded.data.len() + recorded.metadata.len();
        self.weight += weight + if folded.weight == 0 { MEMORY_WEIGHT } else { 0 };
        folded.weight += weight + if folded.weight == 0 { MEMORY_WEIGHT } else { 0 };
        let Some((author, event)) = read(recorded)? else {
            folded.next += 1;
            return Ok(());
        };
        pending.touched.note(&event);
        let entry = self.entries.then(|| entry::begin(pending.memory, recorded, &author, &event));
        folded.apply(recorded, author, event)?;
        batch.entries.extend(entry.map(|entry| entry.end(&folded.memory)));
        Ok(())
    }

    /// The memory as it stands after the batch.
    fn change(&self, pending: Pending) -> Option<MemoryChange> {
        let memory = Arc::clone(&self.states.peek(&pending.memory)?.memory);
        // What was there may not be there any more, once what a peer wrote is held.
        (memory.is_present() || memory.is_erased() || pending.touched.everything).then_some(MemoryChange {
            memory,
            first_revision: pending.first_revision,
            first_position: pending.first_position,
            revision: pending.revision,
            position: pending.position,
            recorded_at: pending.recorded_at,
            touched: pending.touched,
        })
    }

    /// Folds the earlier events of memories that are not in the cache, or not up to date there, several streams at once. All
    /// reading comes before all folding, so that a failed read leaves nothing half folded.
    async fn prepare(&mut self, events: &[&RecordedEvent]) -> Result<(), FoldError> {
        let mut first: HashMap<MemoryId, u64> = HashMap::new();
        for event in events {
            // Streams that are nobody's are told of when their event is folded.
            let Some(memory) = memory_of_stream(&event.stream) else { continue };
            first.entry(memory).or_insert(event.revision.0);
        }
        // Those that begin in this very batch need no loading.
        let missing = first.into_iter().filter(|&(memory, revision)| {
            revision > 0 && self.states.peek(&memory).is_none_or(|folded| folded.next < revision)
        });
        let missing: Vec<_> = missing.collect();
        let store = &self.store;
        let loads = missing.into_iter().map(|(memory, below)| load(store, memory, below));
        let loaded: Vec<_> = futures::stream::iter(loads).buffer_unordered(LOADS_AT_ONCE).try_collect().await?;
        for folded in loaded {
            self.weight += folded.weight;
            self.states.put(folded.memory.id(), folded);
        }
        Ok(())
    }

    /// Takes in what another fold has made of the next events of the log.
    pub fn adopt(&mut self, batch: &Batch) {
        self.adopt_some(&batch.memories.iter().collect::<Vec<_>>());
    }

    fn adopt_some(&mut self, changes: &[&MemoryChange]) {
        for change in changes {
            let known = self.states.get(&change.memory.id()).map_or(MEMORY_WEIGHT, |folded| folded.weight);
            let events = usize::try_from(change.revision - change.first_revision + 1).unwrap_or(1);
            let weight = known + events * EVENT_WEIGHT;
            let folded = Folded { memory: Arc::clone(&change.memory), next: change.revision + 1, weight };
            if let Some(before) = self.states.put(change.memory.id(), folded) {
                self.weight -= before.weight;
            }
            self.weight += weight;
        }
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.weight > self.budget {
            let Some((_, folded)) = self.states.pop_lru() else { break };
            self.weight -= folded.weight;
        }
    }
}

impl Folded {
    fn new(memory: MemoryId) -> Self {
        Self { memory: Arc::new(Memory::new(memory)), next: 0, weight: 0 }
    }

    fn apply(
        &mut self,
        recorded: &RecordedEvent,
        author: Authorship,
        event: MemoryEvent,
    ) -> Result<(), FoldError> {
        // Copies the memory only while an earlier batch with it still waits to be written.
        Arc::make_mut(&mut self.memory)
            .apply(EventId::new(recorded.id), author, event)
            .map_err(|source| FoldError::Body { position: recorded.position, source })?;
        self.next = recorded.revision.0 + 1;
        Ok(())
    }
}

impl Pending {
    fn new(memory: MemoryId, first: &RecordedEvent) -> Self {
        Self {
            memory,
            first_revision: first.revision.0,
            first_position: first.position.0,
            revision: first.revision.0,
            position: first.position.0,
            recorded_at: first.recorded_at,
            touched: Touched::default(),
        }
    }
}

/// What a stream is about.
enum Subject {
    Memory(MemoryId),
    Principal(PrincipalId),
    /// What is shared and with whom, of which there are no rows.
    Sharing,
    /// A stream of another program's, which means nothing here.
    Foreign,
}

impl Subject {
    fn of(event: &RecordedEvent) -> Result<Self, FoldError> {
        if !OWNED_STREAM_PREFIXES.iter().any(|prefix| event.stream.starts_with(prefix)) {
            return Ok(Self::Foreign);
        }
        if let Some(memory) = memory_of_stream(&event.stream) {
            return Ok(Self::Memory(memory));
        }
        if [SPACE_STREAM_PREFIX, PEER_STREAM_PREFIX].iter().any(|prefix| event.stream.starts_with(prefix)) {
            check_known(&event.event_type, event.schema_version)
                .map_err(|source| FoldError::Decode { position: event.position, source })?;
            return Ok(Self::Sharing);
        }
        let principal = event.stream.strip_prefix(PRINCIPAL_STREAM_PREFIX).and_then(|id| id.parse().ok());
        if let Some(principal) = principal {
            return Ok(Self::Principal(principal));
        }
        // An unknown type in an unknown stream is best told by its type.
        decode(event)?;
        Err(misplaced(event))
    }
}

/// Folds the events of a memory before a revision.
async fn load(store: &SharedStore, memory: MemoryId, below: u64) -> Result<Folded, FoldError> {
    let stream = memory_stream(memory);
    let mut folded = Folded::new(memory);
    folded.weight = MEMORY_WEIGHT;
    while folded.next < below {
        let limit = LOAD_EVENTS.min(usize::try_from(below - folded.next).unwrap_or(LOAD_EVENTS));
        let events = store.read_stream(&stream, Revision(folded.next), Direction::Forwards, limit).await?;
        let Some(last) = events.last() else {
            let reason =
                format!("stream {stream} ends at revision {} but {below} more are in the log", folded.next);
            return Err(StoreError::Corrupt { reason }.into());
        };
        let reached = last.revision.0 + 1;
        for event in &events {
            if event.revision.0 != folded.next {
                return Err(gap(event, folded.next));
            }
            folded.weight += event.data.len() + event.metadata.len();
            match read(event)? {
                Some((author, read)) => folded.apply(event, author, read)?,
                None => folded.next += 1,
            }
        }
        folded.next = reached;
    }
    Ok(folded)
}

/// Reads an event; `None` where its data is gone for good. The erasure itself says all it has to say by its type.
fn read(recorded: &RecordedEvent) -> Result<Option<(Authorship, MemoryEvent)>, FoldError> {
    let event = match (recorded.erased, &*recorded.event_type) {
        (true, "memory.erased") => MemoryEvent::Erased(Erased {}),
        (true, _) => return Ok(None),
        (false, _) => match decode(recorded)? {
            Event::Memory(event) => event,
            Event::Principal(_) | Event::Space(_) | Event::Peer(_) => return Err(misplaced(recorded)),
        },
    };
    let metadata: Metadata = serde_json::from_slice(&recorded.metadata)
        .map_err(|source| FoldError::Metadata { position: recorded.position, source })?;
    Ok(Some((metadata.authorship(), event)))
}

fn decode(recorded: &RecordedEvent) -> Result<Event, FoldError> {
    Event::decode(&recorded.event_type, recorded.schema_version, &recorded.data)
        .map_err(|source| FoldError::Decode { position: recorded.position, source })
}

fn misplaced(recorded: &RecordedEvent) -> FoldError {
    FoldError::Misplaced { position: recorded.position, stream: Arc::clone(&recorded.stream) }
}

fn gap(recorded: &RecordedEvent, expected: u64) -> FoldError {
    FoldError::Gap {
        position: recorded.position,
        stream: Arc::clone(&recorded.stream),
        expected,
        found: recorded.revision.0,
    }
}
