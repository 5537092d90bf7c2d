//! What a follower takes over of another node's log: the same events at the same positions, and how far imports had got.

use std::sync::Arc;

use super::SqliteStore;
use super::failure::store_error;
use super::reader::Reader;
use crate::event::{Position, RecordedEvent, Tracking};
use crate::port::StoreError;

/// How far imports from elsewhere had got when the log ended at a position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrackingState {
    /// The position.
    pub head: Position,
    /// What was recorded for each source, by its name.
    pub sources: Vec<Tracking>,
}

impl SqliteStore {
    /// Writes events of another log at the positions they have there, and how far its imports had got with them; returns
    /// when both are durable and visible. All of it is written, or nothing.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where they do not go on from this log's end.
    pub async fn replicate(&self, events: Vec<RecordedEvent>, tracked: Vec<Tracking>) -> Result<(), StoreError> {
        self.take_over(events, tracked, None).await
    }

    /// How far imports have got, and the position of the last event at that very moment.
    ///
    /// # Errors
    /// [`StoreError`] where the log cannot be read.
    pub async fn tracking_state(&self) -> Result<TrackingState, StoreError> {
        self.readers.run(|reader| reader.tracking_state().map_err(|error| store_error(&error))).await
    }
}

impl Reader<'_> {
    fn tracking_state(&self) -> Result<TrackingState, rusqlite::Error> {
        // One transaction: what is committed in between belongs to neither.
        let transaction = self.connection.unchecked_transaction()?;
        let head: i64 =
            transaction.query_row("SELECT coalesce(max(position), 0) FROM events", [], |row| row.get(0))?;
        let mut select = transaction.prepare_cached("SELECT source, position FROM tracking ORDER BY source")?;
        let rows = select.query_map([], |row| {
            let source: Arc<str> = row.get::<_, String>(0)?.into();
            Ok(Tracking { source, position: row.get::<_, i64>(1)?.cast_unsigned() })
        })?;
        let sources = rows.collect::<Result<_, _>>()?;
        Ok(TrackingState { head: Position(head.cast_unsigned()), sources })
    }
}
