//! The port: what every event store does.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use uuid::Uuid;

use crate::event::{
    Appended, Direction, ExpectedRevision, Filter, NewAppend, Page, Position, RecordedEvent, Revision, Snapshot,
};

/// An append-only log of events in streams.
///
/// The invariants are stated at the [crate's top](crate). Every method may be called from any task at any time;
/// dropping a returned future before it ends leaves the log either with all of an append or with none of it.
#[async_trait]
pub trait EventStore: Send + Sync + 'static {
    /// Appends events to one or more streams, all or nothing; returns when they are durable and visible.
    ///
    /// # Errors
    /// See [`AppendError`]. After [`StoreError::Unavailable`] the append may or may not have happened:
    /// repeating it with the same event ids is safe and tells.
    async fn append(&self, append: NewAppend) -> Result<Appended, AppendError>;

    /// Reads the log from `from` (included) in either direction, at most `limit` events that pass the filter.
    /// A page may hold fewer and still have a `next`.
    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        filter: &Filter,
        limit: usize,
    ) -> Result<Page, StoreError>;

    /// Reads one stream from `from` (included) in either direction, at most `limit` events.
    /// A stream that does not exist reads as empty. Backwards from `Revision(u64::MAX)` starts at its end.
    async fn read_stream(
        &self,
        stream: &str,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError>;

    /// The event with this id.
    async fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError>;

    /// The position of the last event recorded at or before `time`; `Position::START` when there is none.
    async fn position_at(&self, time: DateTime<Utc>) -> Result<Position, StoreError>;

    /// The position of the last durable and visible event, and every change of it.
    fn head(&self) -> watch::Receiver<Position>;

    /// The position recorded last for an upstream source.
    async fn tracking(&self, source: &str) -> Result<Option<u64>, StoreError>;

    /// The stream's snapshot, if one was saved.
    async fn load_snapshot(&self, stream: &str) -> Result<Option<Snapshot>, StoreError>;

    /// Saves a snapshot in place of the stream's earlier one; `None` deletes it.
    async fn save_snapshot(&self, stream: &str, snapshot: Option<Snapshot>) -> Result<(), StoreError>;
}

#[async_trait]
impl<S: EventStore + ?Sized> EventStore for Arc<S> {
    async fn append(&self, append: NewAppend) -> Result<Appended, AppendError> {
        (**self).append(append).await
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        filter: &Filter,
        limit: usize,
    ) -> Result<Page, StoreError> {
        (**self).read_all(from, direction, filter, limit).await
    }

    async fn read_stream(
        &self,
        stream: &str,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        (**self).read_stream(stream, from, direction, limit).await
    }

    async fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        (**self).event(id).await
    }

    async fn position_at(&self, time: DateTime<Utc>) -> Result<Position, StoreError> {
        (**self).position_at(time).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        (**self).head()
    }

    async fn tracking(&self, source: &str) -> Result<Option<u64>, StoreError> {
        (**self).tracking(source).await
    }

    async fn load_snapshot(&self, stream: &str) -> Result<Option<Snapshot>, StoreError> {
        (**self).load_snapshot(stream).await
    }

    async fn save_snapshot(&self, stream: &str, snapshot: Option<Snapshot>) -> Result<(), StoreError> {
        (**self).save_snapshot(stream, snapshot).await
    }
}

/// A store behind a shared pointer, chosen at start.
pub type SharedStore = Arc<dyn EventStore>;

/// Why an append was not made.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else wrote first, or the stream is not what the writer believes.
    #[error("stream {stream} is at revision {actual:?}, not {expected:?}")]
    WrongExpectedRevision {
        /// The stream.
        stream: Arc<str>,
        /// What was expected of it.
        expected: ExpectedRevision,
        /// Its last revision; `None` when it has no events.
        actual: Option<Revision>,
    },
    /// An event of this id exists with other content, or only some of the append's events exist.
    #[error("event id {id} is already taken by another event")]
    EventIdReused {
        /// The id.
        id: Uuid,
    },
    /// The upstream position was recorded before.
    #[error("source {source_name} is already at position {recorded}, the append says {given}")]
    TrackingConflict {
        /// The upstream log.
        source_name: Arc<str>,
        /// The position of this append.
        given: u64,
        /// The position recorded before.
        recorded: u64,
    },
    /// The append breaks a limit or names a stream twice. Repeating it will not help.
    #[error("the append is refused: {0}")]
    Invalid(String),
    /// The store itself failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the store could not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It cannot answer now: shut down, overloaded, disconnected, out of space. Trying later may help.
    #[error("the event store is unavailable: {reason}")]
    Unavailable {
        /// Why, in words for an operator.
        reason: String,
    },
    /// What it holds is damaged. Trying again will not help.
    #[error("the event store is damaged: {reason}")]
    Corrupt {
        /// What is damaged, and where.
        reason: String,
    },
}
