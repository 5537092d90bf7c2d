//! An event as a row of the table `events`, and the checksum that tells damage from data.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Row;
use rusqlite::types::ValueRef;
use uuid::Uuid;

use super::failure::{corrupt, store_error};
use crate::clock::from_micros;
use crate::event::{NewEvent, Position, RecordedEvent, Revision};
use crate::port::StoreError;

/// The columns that [`Raw`] reads, in its order.
pub(super) const COLUMNS: &str =
    "position, stream_id, revision, type_id, schema_version, recorded_at, checksum, id, data, metadata";

/// The small columns of a row: enough to filter by, and cheap to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw {
    pub position: i64,
    pub stream_id: i64,
    pub revision: i64,
    pub type_id: i64,
    pub schema_version: i64,
    pub recorded_at: i64,
    pub checksum: i64,
}

impl Raw {
    pub(super) fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let column = |index| row.get::<_, i64>(index).map_err(|error| store_error(&error));
        Ok(Self {
            position: column(0)?,
            stream_id: column(1)?,
            revision: column(2)?,
            type_id: column(3)?,
            schema_version: column(4)?,
            recorded_at: column(5)?,
            checksum: column(6)?,
        })
    }

    /// The whole event, if its checksum holds.
    pub(super) fn complete(
        &self,
        row: &Row<'_>,
        stream: Arc<str>,
        event_type: Arc<str>,
        brain: Uuid,
    ) -> Result<RecordedEvent, StoreError> {
        let damaged = |what: &str| {
            let position = self.position;
            corrupt(format!("the event at position {position} {what}; run `cairn verify`, then restore a backup"))
        };
        let id = Uuid::from_slice(blob(row, 7)?).map_err(|_| damaged("has no valid id"))?;
        let schema_version =
            u16::try_from(self.schema_version).map_err(|_| damaged("has no valid schema version"))?;
        let data = Bytes::copy_from_slice(blob(row, 8)?);
        let metadata = Bytes::copy_from_slice(blob(row, 9)?);
        let content = NewEvent { id, event_type, schema_version, data, metadata };
        if i64::from(checksum(self.position, &stream, self.revision, self.recorded_at, &content)) != self.checksum
        {
            return Err(damaged("is not what was written (its checksum differs)"));
        }
        let (position, revision) =
            (Position(self.position.cast_unsigned()), Revision(self.revision.cast_unsigned()));
        Ok(RecordedEvent::new(content, stream, revision, position, brain, from_micros(self.recorded_at)))
    }
}

fn blob<'row>(row: &'row Row<'_>, index: usize) -> Result<&'row [u8], StoreError> {
    match row.get_ref(index).map_err(|error| store_error(&error))? {
        ValueRef::Blob(bytes) => Ok(bytes),
        other => Err(corrupt(format!("column {index} of an event is {:?}", other.data_type()))),
    }
}

/// CRC-32 of everything that makes the event what it is, names instead of their numbers. SQLite itself notices
/// damage to the shape of a page, not to what is written on it.
pub(super) fn checksum(position: i64, stream: &str, revision: i64, recorded_at: i64, event: &NewEvent) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut numbers = [0; 42];
    numbers[..8].copy_from_slice(&position.to_le_bytes());
    numbers[8..16].copy_from_slice(&revision.to_le_bytes());
    numbers[16..24].copy_from_slice(&recorded_at.to_le_bytes());
    numbers[24..26].copy_from_slice(&event.schema_version.to_le_bytes());
    numbers[26..].copy_from_slice(event.id.as_bytes());
    hasher.update(&numbers);
    // The lengths keep a byte from wandering from one part to the next unnoticed.
    for part in [stream.as_bytes(), event.event_type.as_bytes(), &event.data, &event.metadata] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()
}
