//! Loading memories from the log: as they are, and as they were.

use cairn_domain::body::CorruptBody;
use cairn_domain::id::{EventId, MemoryId, memory_stream};
use cairn_domain::memory::{Memory, SNAPSHOT_FORMAT};
use cairn_event_store::port::SharedStore;
use cairn_event_store::{Direction, Position, RecordedEvent, Revision, Snapshot, StoreError};
use tracing::warn;

use crate::codec::{CodecError, decode_memory_event, read_metadata};

/// How many events are read from the store at a time.
const PAGE: usize = 1_000;

/// A memory and where in the log it stands.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The memory.
    pub memory: Memory,
    /// Its stream's last revision that is folded in; `None` when the stream is empty.
    pub revision: Option<Revision>,
    /// The position of that event.
    pub position: Position,
    /// The revision of the snapshot it was loaded from, to tell when the next one is due.
    pub(crate) snapshot: Option<Revision>,
}

/// Why a memory could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An event cannot be read.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The body's history does not fit together.
    #[error(transparent)]
    Body(#[from] CorruptBody),
}

/// Loads memories from a store.
#[derive(Clone)]
pub struct Repository {
    store: SharedStore,
}

impl Loaded {
    pub(crate) fn empty(memory: MemoryId) -> Self {
        Self { memory: Memory::new(memory), revision: None, position: Position::START, snapshot: None }
    }

    /// Folds a recorded event in.
    ///
    /// # Errors
    /// When it cannot be read or does not fit.
    pub fn fold(&mut self, event: &RecordedEvent) -> Result<(), LoadError> {
        if let Some(decoded) = decode_memory_event(event)? {
            let author = read_metadata(event)?.authorship();
            self.memory.apply(EventId::new(event.id), author, decoded)?;
        }
        self.revision = Some(event.revision);
        self.position = event.position;
        Ok(())
    }
}

impl Repository {
    /// Loads from this store.
    pub fn new(store: SharedStore) -> Self {
        Self { store }
    }

    /// The memory as it is: its snapshot, if there is one, and the events since.
    ///
    /// # Errors
    /// When the store does not answer or the log is damaged.
    pub async fn load(&self, memory: MemoryId) -> Result<Loaded, LoadError> {
        let stream = memory_stream(memory);
        let snapshot = self.store.load_snapshot(&stream).await?;
        let mut loaded =
            snapshot.and_then(|snapshot| thaw(memory, &snapshot)).unwrap_or_else(|| Loaded::empty(memory));
        self.catch_up(&mut loaded).await?;
        Ok(loaded)
    }

    /// Folds in what was appended since.
    ///
    /// # Errors
    /// When the store does not answer or the log is damaged.
    pub async fn catch_up(&self, loaded: &mut Loaded) -> Result<(), LoadError> {
        self.fold_until(loaded, |_| true).await
    }

    /// The memory as it was at a position of the log.
    ///
    /// # Errors
    /// When the store does not answer or the log is damaged.
    pub async fn load_as_of(&self, memory: MemoryId, position: Position) -> Result<Loaded, LoadError> {
        let mut loaded = Loaded::empty(memory);
        self.fold_until(&mut loaded, |event| event.position <= position).await?;
        Ok(loaded)
    }

    /// The memory as it was at a revision of its own.
    ///
    /// # Errors
    /// When the store does not answer or the log is damaged.
    pub async fn load_at_revision(&self, memory: MemoryId, revision: Revision) -> Result<Loaded, LoadError> {
        let mut loaded = Loaded::empty(memory);
        self.fold_until(&mut loaded, |event| event.revision <= revision).await?;
        Ok(loaded)
    }

    async fn fold_until(
        &self,
        loaded: &mut Loaded,
        wanted: impl Fn(&RecordedEvent) -> bool,
    ) -> Result<(), LoadError> {
        let stream = memory_stream(loaded.memory.id());
        loop {
            let from = loaded.revision.map_or(Revision(0), Revision::next);
            let events = self.store.read_stream(&stream, from, Direction::Forwards, PAGE).await?;
            for event in &events {
                if !wanted(event) {
                    return Ok(());
                }
                loaded.fold(event)?;
            }
            if events.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Saves a snapshot. Failing to is no loss, so it is only logged.
    pub(crate) async fn save_snapshot(&self, loaded: &Loaded) {
        let Some(revision) = loaded.revision else { return };
        let stream = memory_stream(loaded.memory.id());
        let data = freeze(loaded);
        let snapshot = Snapshot { revision, format: SNAPSHOT_FORMAT, data: data.into() };
        if let Err(error) = self.store.save_snapshot(&stream, Some(snapshot)).await {
            warn!(memory = %loaded.memory.id(), %error, "the snapshot was not saved");
        }
    }
}

/// The position, then the memory: the envelope of a snapshot knows only the revision.
fn freeze(loaded: &Loaded) -> Vec<u8> {
    let mut data = loaded.position.0.to_be_bytes().to_vec();
    data.extend(loaded.memory.encode_snapshot());
    data
}

/// A snapshot that cannot be read is as good as none.
fn thaw(memory: MemoryId, snapshot: &Snapshot) -> Option<Loaded> {
    if snapshot.format != SNAPSHOT_FORMAT {
        return None;
    }
    let (position, state) = snapshot.data.split_first_chunk::<8>()?;
    match Memory::decode_snapshot(state) {
        Ok(state) if state.id() == memory => Some(Loaded {
            memory: state,
            revision: Some(snapshot.revision),
            position: Position(u64::from_be_bytes(*position)),
            snapshot: Some(snapshot.revision),
        }),
        Ok(_) => None,
        Err(error) => {
            warn!(%memory, %error, "the snapshot cannot be read; folding the memory anew");
            None
        }
    }
}
