//! What is appended and what is read: events, streams, positions.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An event's number in the whole log: the first is 1. `Position::START` lies before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// Before the first event.
    pub const START: Self = Self(0);

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An event's number in its stream: the first is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the writer believes about a stream at the moment of the append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedRevision {
    /// Nothing.
    Any,
    /// The stream has no events.
    NoStream,
    /// The stream has at least one event.
    StreamExists,
    /// The stream's last event has this revision.
    Exact(Revision),
}

/// An event to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Its id, a UUIDv7 as a rule. Appending the same id again is recognised.
    pub id: Uuid,
    /// Its type, such as `memory.field_claimed`.
    pub event_type: Arc<str>,
    /// The version of the shape of its data, from 1.
    pub schema_version: u16,
    /// Its data: JSON.
    pub data: Bytes,
    /// Who caused it, how true it claims to be and why: JSON.
    pub metadata: Bytes,
}

/// Events for one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamAppend {
    /// The stream's name, at most [`MAX_STREAM_NAME_BYTES`].
    pub stream: Arc<str>,
    /// What must hold for the whole append to go through.
    pub expected: ExpectedRevision,
    /// The events, in order. None at all makes the entry a mere check of `expected`.
    pub events: Vec<NewEvent>,
}

/// Where an import from elsewhere has got to, appended in the same transaction as what came from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracking {
    /// The other log's name.
    pub source: Arc<str>,
    /// The position reached there. Must be greater than the one recorded before.
    pub position: u64,
}

/// One append: several streams, all or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewAppend {
    /// The streams. None occurs twice.
    pub streams: Vec<StreamAppend>,
    /// An upstream position to record with them.
    pub tracking: Option<Tracking>,
}

/// The longest stream name, in bytes.
pub const MAX_STREAM_NAME_BYTES: usize = 512;
/// The most events one append may hold.
pub const MAX_APPEND_EVENTS: usize = 10_000;
/// The most bytes of data and metadata one event may hold.
pub const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;
/// The most bytes of data and metadata one append may hold.
pub const MAX_APPEND_BYTES: usize = 64 * 1024 * 1024;

/// What an append did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Position of the last event of the append; the log's head where the append held no events.
    pub position: Position,
    /// The last revision of each stream that got events, in the order they were given.
    pub revisions: Vec<Revision>,
    /// Whether the same events had been appended before, so that nothing was written now.
    pub repeated: bool,
}

/// An event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Its number in the log.
    pub position: Position,
    /// Its stream.
    pub stream: Arc<str>,
    /// Its number in the stream.
    pub revision: Revision,
    /// Its id.
    pub id: Uuid,
    /// Its type.
    pub event_type: Arc<str>,
    /// The version of the shape of its data.
    pub schema_version: u16,
    /// The brain whose log this is.
    pub brain: Uuid,
    /// When the log took it, to the microsecond; never before the event at the position below.
    pub recorded_at: DateTime<Utc>,
    /// Its data: JSON; `null` when erased.
    pub data: Bytes,
    /// Who caused it and why: JSON.
    pub metadata: Bytes,
    /// Whether its data has been erased for good.
    pub erased: bool,
}

impl RecordedEvent {
    /// The event as the log takes it.
    pub(crate) fn new(
        event: NewEvent,
        stream: Arc<str>,
        revision: Revision,
        position: Position,
        brain: Uuid,
        recorded_at: DateTime<Utc>,
    ) -> Self {
        Self {
            position,
            stream,
            revision,
            id: event.id,
            event_type: event.event_type,
            schema_version: event.schema_version,
            brain,
            recorded_at,
            data: event.data,
            metadata: event.metadata,
            erased: false,
        }
    }

    /// What its writer gave to the log.
    pub(crate) fn content(&self) -> NewEvent {
        NewEvent {
            id: self.id,
            event_type: Arc::clone(&self.event_type),
            schema_version: self.schema_version,
            data: self.data.clone(),
            metadata: self.metadata.clone(),
        }
    }

    /// The bytes of its data and metadata.
    pub(crate) fn size(&self) -> usize {
        self.data.len() + self.metadata.len()
    }
}

/// Which way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Towards newer events.
    Forwards,
    /// Towards older events.
    Backwards,
}

/// Which events of the log to read. Empty lists let everything through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// The stream's name starts with one of these.
    pub stream_prefixes: Vec<String>,
    /// The event's type is one of these; one that ends in `.` stands for all that start with it.
    pub event_types: Vec<String>,
}

impl Filter {
    /// Whether an event of this stream and type passes.
    pub fn matches(&self, stream: &str, event_type: &str) -> bool {
        self.stream_passes(stream) && self.type_passes(event_type)
    }

    /// Whether the filter lets this stream through.
    pub fn stream_passes(&self, stream: &str) -> bool {
        self.stream_prefixes.is_empty()
            || self.stream_prefixes.iter().any(|prefix| stream.starts_with(prefix.as_str()))
    }

    /// Whether the filter lets this event type through.
    pub fn type_passes(&self, event_type: &str) -> bool {
        self.event_types.is_empty()
            || self.event_types.iter().any(|wanted| {
                event_type == wanted || (wanted.ends_with('.') && event_type.starts_with(wanted.as_str()))
            })
    }

    /// Whether every event passes.
    pub fn is_open(&self) -> bool {
        self.stream_prefixes.is_empty() && self.event_types.is_empty()
    }
}

/// Some events of the log, and where the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The events that passed the filter.
    pub events: Vec<RecordedEvent>,
    /// Where to read on from: everything before it (in the direction of reading) has been looked at,
    /// also where nothing passed the filter. `None` when the log's end (or start) was reached.
    pub next: Option<Position>,
}

/// A folded stream, kept to save folding it again. Losing one loses nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision of the last event folded in.
    pub revision: Revision,
    /// The version of `data`'s encoding; another one than expected means: fold anew.
    pub format: u32,
    /// The folded state.
    pub data: Bytes,
}
