//! The newest part of the index by stream, in memory until it is worth writing.
//!
//! Events of many streams come interleaved, and each would touch a page of its own in an index kept up to date: a
//! commit of a thousand events would write four megabytes of index. Gathered in memory and written in the order of
//! the index every [`INDEX_EVENTS`] events, those pages are shared, and all the events of a stream take one row. Nothing
//! is at stake: the table `events` has it all, and what is not in the index yet is read from there at the next start.

use std::sync::{PoisonError, RwLock};

use rusqlite::{Connection, Error};

use super::failure::store_error;
use super::ledger::FastMap;
use crate::port::StoreError;

/// The events after which the index is written. At the next start at most about as many are read again.
pub(super) const INDEX_EVENTS: usize = 16_384;

/// Where the events of each stream are that the written index does not tell of yet.
#[derive(Debug, Default)]
pub(super) struct Recent {
    spans: RwLock<Spans>,
}

#[derive(Debug, Default)]
struct Spans {
    by_stream: FastMap<i64, Span>,
    events: usize,
}

/// The positions of a stream's newest events.
#[derive(Debug, Default)]
pub(super) struct Span {
    /// The revision of the first.
    pub(super) first: i64,
    /// The positions, by revision without a gap.
    pub(super) positions: Vec<i64>,
}

/// A committed event's place in its stream and in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) stream_id: i64,
    pub(super) revision: i64,
    pub(super) position: i64,
}

impl Recent {
    /// Adds committed events, each stream's in order.
    pub(super) fn extend(&self, places: &[Place]) {
        let mut spans = self.spans.write().unwrap_or_else(PoisonError::into_inner);
        spans.add(places);
    }

    /// What it knows of a stream, up to a position in the log. A reader must ask here before it asks the written index: what moves from here to
    /// there meanwhile is then met twice, which is easily noticed, but never missed.
    pub(super) fn span(&self, stream_id: i64, head: i64) -> Span {
        let spans = self.spans.read().unwrap_or_else(PoisonError::into_inner);
        let Some(span) = spans.by_stream.get(&stream_id) else {
            return Span::default();
        };
        let seen = span.positions.partition_point(|position| *position <= head);
        Span { first: span.first, positions: span.positions[..seen].to_vec() }
    }

    /// The last revision it knows of a stream.
    pub(super) fn last_revision(&self, stream_id: i64) -> Option<i64> {
        let spans = self.spans.read().unwrap_or_else(PoisonError::into_inner);
        let span = spans.by_stream.get(&stream_id)?;
        Some(span.first + span.positions.len() as i64 - 1)
    }

    /// The events it knows of.
    pub(super) fn len(&self) -> usize {
        self.spans.read().unwrap_or_else(PoisonError::into_inner).events
    }

    /// Starts over with what the written index lacks.
    pub(super) fn load(&self, connection: &Connection) -> Result<(), StoreError> {
        let places = unindexed(connection).map_err(|error| store_error(&error))?;
        let mut spans = self.spans.write().unwrap_or_else(PoisonError::into_inner);
        *spans = Spans::default();
        spans.add(&places);
        Ok(())
    }

    /// Writes everything into the index, in a transaction of its own, and forgets it here. On failure nothing has
    /// changed, except that the transaction may have to be rolled back.
    pub(super) fn write(&self, connection: &Connection, head: i64) -> Result<(), Error> {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        self.insert(connection)?;
        connection.execute("UPDATE stream_index_state SET through = ?1", [head])?;
        connection.execute_batch("COMMIT")?;
        *self.spans.write().unwrap_or_else(PoisonError::into_inner) = Spans::default();
        Ok(())
    }

    fn insert(&self, connection: &Connection) -> Result<(), Error> {
        let spans = self.spans.read().unwrap_or_else(PoisonError::into_inner);
        let mut streams: Vec<_> = spans.by_stream.iter().collect();
        streams.sort_unstable_by_key(|(stream_id, _)| **stream_id);
        let mut insert = connection
            .prepare_cached("INSERT INTO stream_index (stream_id, revision, positions) VALUES (?1, ?2, ?3)")?;
        let mut bytes = Vec::new();
        for (stream_id, span) in streams {
            bytes.clear();
            bytes.extend(span.positions.iter().flat_map(|position| position.to_le_bytes()));
            insert.execute((stream_id, span.first, &bytes))?;
        }
        Ok(())
    }
}

impl Span {
    /// A row of the written index.
    pub(super) fn read(first: i64, bytes: &[u8]) -> Self {
        let (positions, _) = bytes.as_chunks();
        Self { first, positions: positions.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect() }
    }
}

impl Spans {
    fn add(&mut self, places: &[Place]) {
        for place in places {
            let span = self.by_stream.entry(place.stream_id).or_default();
            if span.positions.is_empty() {
                span.first = place.revision;
            }
            span.positions.push(place.position);
        }
        self.events += places.len();
    }
}

/// The position up to which the written index is complete.
fn indexed_through(connection: &Connection) -> Result<i64, Error> {
    connection.query_row("SELECT through FROM stream_index_state", [], |row| row.get(0))
}

fn unindexed(connection: &Connection) -> Result<Vec<Place>, Error> {
    let through = indexed_through(connection)?;
    let mut statement = connection
        .prepare("SELECT stream_id, revision, position FROM events WHERE position > ?1 ORDER BY position")?;
    let places = statement.query_map([through], |row| {
        Ok(Place { stream_id: row.get(0)?, revision: row.get(1)?, position: row.get(2)? })
    })?;
    places.collect()
}
