//! What the writer knows of the log without asking the database, and how an append becomes rows.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use rusqlite::{CachedStatement, Connection, Error, ErrorCode, OptionalExtension, params};
use uuid::Uuid;

use super::copy::Mark;
use super::failure::{corrupt, store_error};
use super::names::TypeNames;
use super::reader::{clamped, event_by_id, last_position, stream_id, tracked};
use super::recent::{INDEX_EVENTS, Place, Recent};
use super::row::checksum;
use crate::admission::{LogView, Verdict, judge, judge_hopefully};
use crate::clock::{from_micros, now_micros};
use crate::event::{Appended, NewAppend, NewEvent, Position, RecordedEvent, Revision, Snapshot, Tracking};
use crate::port::{AppendError, StoreError};

/// The streams whose last revision the writer remembers. An append to one of them reads nothing.
const CACHED_STREAMS: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

const INSERT_EVENT: &str = "INSERT INTO events (position, stream_id, revision, type_id, schema_version, recorded_at, \
                            checksum, id, data, metadata) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

/// The state of the log as of the last commit.
#[derive(Debug)]
pub(super) struct Ledger {
    brain: Uuid,
    head: i64,
    recorded_at: i64,
    streams: LruCache<Arc<str>, StreamState>,
    types: FastMap<Arc<str>, i64>,
    recent: Arc<Recent>,
}

/// A map for keys that come thousands of times a commit. (The standard hasher guards against keys chosen to collide;
/// nobody gains by colliding with himself.)
pub(super) type FastMap<K, V> = HashMap<K, V, lru::DefaultHasher>;

#[derive(Debug, Clone, Copy)]
struct StreamState {
    id: i64,
    last: i64,
}

/// Why a transaction must be rolled back.
#[derive(Debug)]
pub(super) enum Abort {
    /// An event id exists: the appends must be made again with each id looked up first.
    IdExists,
    /// The database failed.
    Broken(StoreError),
}

impl From<Error> for Abort {
    fn from(error: Error) -> Self {
        Self::Broken(store_error(&error))
    }
}

/// Whether to look event ids up before writing them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// No: the unique index notices, at the price of the transaction.
    Hopeful,
    /// Yes.
    Careful,
}

impl Ledger {
    pub(super) fn load(connection: &Connection, brain: Uuid, recent: Arc<Recent>) -> Result<Self, StoreError> {
        recent.load(connection)?;
        let head = last_position(connection)?;
        let recorded_at = connection
            .query_row("SELECT recorded_at FROM events WHERE position = ?1", [head], |row| row.get(0))
            .optional()
            .map_err(|error| store_error(&error))?
            .unwrap_or(0);
        let (streams, types) = (LruCache::new(CACHED_STREAMS), FastMap::default());
        Ok(Self { brain, head, recorded_at, streams, types, recent })
    }

    pub(super) fn head(&self) -> Position {
        Position(self.head.cast_unsigned())
    }

    /// Whether the index by stream is due, given how much was waiting when it was last tried in vain.
    pub(super) fn index_is_due(&self, tried_at: usize) -> bool {
        self.recent.len() >= tried_at + INDEX_EVENTS
    }

    /// Writes the index by stream; returns how much of it still waits.
    pub(super) fn write_index(&self, connection: &Connection) -> usize {
        if let Err(error) = self.recent.write(connection, self.head) {
            tracing::warn!(%error, "the event log's index could not be written; it stays in memory for now");
        }
        self.recent.len()
    }
}

/// What a transaction has written and the ledger takes over once it is committed.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) events: Vec<RecordedEvent>,
    places: Vec<Place>,
    streams: FastMap<Arc<str>, StreamState>,
    types: FastMap<Arc<str>, i64>,
}

impl Ledger {
    /// Takes over what has been committed; returns the events.
    pub(super) fn accept(&mut self, written: Written) -> Vec<RecordedEvent> {
        if let Some(last) = written.events.last() {
            self.head = clamped(last.position.0);
            self.recorded_at = last.recorded_at.timestamp_micros();
        }
        self.recent.extend(&written.places);
        for (name, state) in written.streams {
            self.streams.put(name, state);
        }
        self.types.extend(written.types);
        written.events
    }
}

/// Writes appends within one transaction.
pub(super) struct Scribe<'a> {
    connection: &'a Connection,
    ledger: &'a mut Ledger,
    types: &'a TypeNames,
    insert: CachedStatement<'a>,
    recorded_at: i64,
    written: Written,
}

impl<'a> Scribe<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        ledger: &'a mut Ledger,
        types: &'a TypeNames,
    ) -> Result<Self, Error> {
        let insert = connection.prepare_cached(INSERT_EVENT)?;
        // The clock may step back; the log's time must not.
        let recorded_at = now_micros().max(ledger.recorded_at);
        Ok(Self { connection, ledger, types, insert, recorded_at, written: Written::default() })
    }

    pub(super) fn finish(self) -> Written {
        self.written
    }

    /// Makes one append, or says why not. Nothing of a refused append is written.
    pub(super) fn append(
        &mut self,
        append: &NewAppend,
        care: Care,
    ) -> Result<Result<Appended, AppendError>, Abort> {
        let verdict = match care {
            Care::Hopeful => judge_hopefully(self, append),
            Care::Careful => judge(self, append),
        };
        match verdict {
            Ok(Verdict::Write) => self.write(append).map(Ok),
            Ok(Verdict::Repeated(first)) => Ok(Ok(first)),
            Err(AppendError::Store(error)) => Err(Abort::Broken(error)),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn write(&mut self, append: &NewAppend) -> Result<Appended, Abort> {
        let mut revisions = Vec::with_capacity(append.streams.len());
        for entry in append.streams.iter().filter(|entry| !entry.events.is_empty()) {
            let mut state = match self.state(&entry.stream).map_err(Abort::Broken)? {
                Some(state) => state,
                None => StreamState { id: self.create_stream(&entry.stream)?, last: -1 },
            };
            for event in &entry.events {
                state.last += 1;
                self.insert(&entry.stream, state, event, self.recorded_at)?;
            }
            revisions.push(Revision(state.last.cast_unsigned()));
            self.written.streams.insert(entry.stream.clone(), state);
        }
        if let Some(tracking) = &append.tracking {
            self.track(tracking)?;
        }
        Ok(Appended { position: Position(self.head().cast_unsigned()), revisions, repeated: false })
    }

    /// Writes an event of another log as it stands there.
    pub(super) fn copy(&mut self, event: &RecordedEvent) -> Result<(), Abort> {
        let state = match self.state(&event.stream).map_err(Abort::Broken)? {
            Some(state) => state,
            None => StreamState { id: self.create_stream(&event.stream)?, last: -1 },
        };
        let state = StreamState { last: state.last + 1, ..state };
        let place = (self.head() + 1, state.last);
        if (clamped(event.position.0), clamped(event.revision.0)) != place {
            let (stream, revision, position) = (&event.stream, event.revision, event.position);
            return Err(Abort::Broken(corrupt(format!(
                "position {position} with revision {revision} of {stream} comes where position {} with revision {} is due",
                place.0, place.1
            ))));
        }
        let recorded_at = event.recorded_at.timestamp_micros();
        self.insert(&event.stream, state, &event.content(), recorded_at).map_err(|abort| match abort {
            Abort::IdExists => Abort::Broken(corrupt(format!("event id {} is there twice", event.id))),
            broken @ Abort::Broken(_) => broken,
        })?;
        self.written.streams.insert(event.stream.clone(), state);
        Ok(())
    }

    /// Records a position of an upstream source.
    pub(super) fn track(&mut self, tracking: &Tracking) -> Result<(), Error> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO tracking (source, position) VALUES (?1, ?2)")?
            .execute(params![&*tracking.source, clamped(tracking.position)])?;
        Ok(())
    }

    /// Notes how far another log has been copied.
    pub(super) fn note(&mut self, mark: Mark) -> Result<(), Error> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO upstream (only, revision, id) VALUES (0, ?1, ?2)")?
            .execute(params![clamped(mark.revision), mark.id.as_bytes()])?;
        Ok(())
    }

    fn insert(
        &mut self,
        stream: &Arc<str>,
        state: StreamState,
        event: &NewEvent,
        recorded_at: i64,
    ) -> Result<(), Abort> {
        let position = self.head() + 1;
        let type_id = self.type_id(&event.event_type)?;
        let inserted = self.insert.execute(params![
            position,
            state.id,
            state.last,
            type_id,
            event.schema_version,
            recorded_at,
            checksum(position, stream, state.last, recorded_at, event),
            event.id.as_bytes(),
            &*event.data,
            &*event.metadata,
        ]);
        match inserted {
            Ok(_) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                return Err(Abort::IdExists);
            }
            Err(error) => return Err(error.into()),
        }
        self.written.places.push(Place { stream_id: state.id, revision: state.last, position });
        self.written.events.push(RecordedEvent::new(
            event.clone(),
            stream.clone(),
            Revision(state.last.cast_unsigned()),
            Position(position.cast_unsigned()),
            self.ledger.brain,
            from_micros(recorded_at),
        ));
        Ok(())
    }

    /// Saves or deletes a snapshot.
    pub(super) fn snapshot(&mut self, stream: &str, snapshot: Option<&Snapshot>) -> Result<(), Error> {
        match snapshot {
            Some(Snapshot { revision, format, data }) => self
                .connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO snapshots (stream, revision, format, data) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![stream, clamped(revision.0), format, &**data])?,
            None => {
                self.connection.prepare_cached("DELETE FROM snapshots WHERE stream = ?1")?.execute([stream])?
            }
        };
        Ok(())
    }

    /// Lets the database grow no further than this.
    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn limit_pages(&mut self, pages: u32) -> Result<(), Error> {
        self.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
    }

    fn head(&self) -> i64 {
        self.ledger.head + self.written.events.len() as i64
    }

    fn state(&mut self, stream: &str) -> Result<Option<StreamState>, StoreError> {
        if let Some(state) = self.written.streams.get(stream) {
            return Ok(Some(*state));
        }
        if let Some(state) = self.ledger.streams.get(stream) {
            return Ok(Some(*state));
        }
        let Some(id) = stream_id(self.connection, stream)? else {
            return Ok(None);
        };
        let last = match self.ledger.recent.last_revision(id) {
            Some(last) => last,
            None => self
                .connection
                .prepare_cached(
                    "SELECT revision + length(positions) / 8 - 1 FROM stream_index WHERE stream_id = ?1 \
                     ORDER BY revision DESC LIMIT 1",
                )
                .and_then(|mut statement| statement.query_row([id], |row| row.get(0)).optional())
                .map_err(|error| store_error(&error))?
                .unwrap_or(-1),
        };
        let state = StreamState { id, last };
        self.ledger.streams.put(stream.into(), state);
        Ok(Some(state))
    }

    fn create_stream(&mut self, stream: &str) -> Result<i64, Error> {
        self.connection.prepare_cached("INSERT INTO streams (name) VALUES (?1)")?.insert([stream])
    }

    fn type_id(&mut self, event_type: &Arc<str>) -> Result<i64, Error> {
        if let Some(id) = self.ledger.types.get(event_type).or_else(|| self.written.types.get(event_type)) {
            return Ok(*id);
        }
        let found = self
            .connection
            .prepare_cached("SELECT id FROM event_types WHERE name = ?1")?
            .query_row([&**event_type], |row| row.get(0))
            .optional()?;
        let id = match found {
            Some(id) => id,
            None => self
                .connection
                .prepare_cached("INSERT INTO event_types (name) VALUES (?1)")?
                .insert([&**event_type])?,
        };
        self.written.types.insert(event_type.clone(), id);
        Ok(id)
    }
}

impl LogView for Scribe<'_> {
    fn event(&mut self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        event_by_id(self.connection, self.types, self.ledger.brain, id)
    }

    fn revision(&mut self, stream: &str) -> Result<Option<Revision>, StoreError> {
        let last = self.state(stream)?.map_or(-1, |state| state.last);
        Ok((last >= 0).then(|| Revision(last.cast_unsigned())))
    }

    fn tracked(&mut self, source: &str) -> Result<Option<u64>, StoreError> {
        tracked(self.connection, source)
    }
}
