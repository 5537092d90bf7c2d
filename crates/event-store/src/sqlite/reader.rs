//! Reading: a bounded pool of read-only connections, used on the runtime's blocking threads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{CachedStatement, Connection, OptionalExtension, Params};
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use super::failure::{closed, corrupt, store_error, unavailable};
use super::names::{PageNames, TypeNames};
use super::recent::{Recent, Span};
use super::row::{COLUMNS, Raw};
use super::schema::open_reader;
use crate::event::{Direction, Filter, Page, Position, RecordedEvent, Revision, Snapshot};
use crate::page::{MAX_PAGE_EVENTS, PageBudget};
use crate::port::StoreError;

/// The connections that read at once. Further readers wait for one: more would only compete for the same disk.
pub const READ_CONNECTIONS: usize = 4;

/// The pool.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    brain: Uuid,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    types: TypeNames,
    recent: Arc<Recent>,
    head: watch::Receiver<Position>,
}

/// A connection of the pool, and what is needed to make sense of its rows.
pub(super) struct Reader<'a> {
    pub(super) connection: &'a Connection,
    pub(super) types: &'a TypeNames,
    pub(super) brain: Uuid,
    pub(super) recent: &'a Recent,
    /// The last position to be seen. The engine shows a commit a moment before it is published, and in that moment
    /// the index by stream does not know of it.
    pub(super) head: i64,
}

impl Readers {
    pub(super) fn new(path: PathBuf, brain: Uuid, recent: Arc<Recent>, head: watch::Receiver<Position>) -> Self {
        let permits = Arc::new(Semaphore::new(READ_CONNECTIONS));
        Self { path, brain, idle: Mutex::default(), permits, types: TypeNames::default(), recent, head }
    }

    /// Runs a query on a connection of the pool, away from the runtime's own threads.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Reader<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| closed())?;
        let readers = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            // The permit lives as long as the query, also when nobody waits for its answer any more.
            let _permit = permit;
            readers.query(query)
        });
        reading.await.map_err(|error| unavailable(format!("a read was cut short ({error}); repeat it")))?
    }

    fn query<T>(&self, query: impl FnOnce(&Reader<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.path).map_err(|error| store_error(&error))?,
        };
        let head = clamped(self.head.borrow().0);
        let (types, recent) = (&self.types, &*self.recent);
        let answer = query(&Reader { connection: &connection, types, brain: self.brain, recent, head });
        if !self.permits.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        answer
    }

    /// Refuses further reads and gives the idle connections back.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Reader<'_> {
    /// A page of the log.
    pub(super) fn page(
        &self,
        from: Position,
        direction: Direction,
        filter: &Filter,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let (order, first, last) = match direction {
            Direction::Forwards => ("ASC", clamped(from.0), self.head),
            Direction::Backwards => ("DESC", 0, self.head.min(clamped(from.0))),
        };
        let sql =
            format!("SELECT {COLUMNS} FROM events WHERE position BETWEEN ?1 AND ?2 ORDER BY position {order}");
        let mut statement = self.prepare(&sql)?;
        let mut rows = statement.query([first, last]).map_err(|error| store_error(&error))?;
        let mut names = PageNames::new(self.connection, self.types, filter);
        let mut budget = PageBudget::new(limit);
        let mut page = Page { events: Vec::new(), next: None };
        while let Some(row) = rows.next().map_err(|error| store_error(&error))? {
            let raw = Raw::read(row)?;
            if budget.is_spent() {
                page.next = Some(Position(raw.position.cast_unsigned()));
                break;
            }
            budget.look();
            if let Some((stream, event_type)) = names.passing(raw.stream_id, raw.type_id)? {
                let event = raw.complete(row, stream, event_type, self.brain)?;
                budget.take(event.size());
                page.events.push(event);
            }
        }
        Ok(page)
    }

    /// Some events of a stream.
    pub(super) fn stream(
        &self,
        stream: &str,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let Some(stream_id) = stream_id(self.connection, stream)? else {
            return Ok(Vec::new());
        };
        // Before the written index is asked: see there.
        let recent = self.recent.span(stream_id, self.head);
        let (from, limit) = (clamped(from.0), usize::try_from(clamped(limit as u64)).unwrap_or(usize::MAX));
        let mut events = Vec::new();
        match direction {
            Direction::Forwards => {
                self.indexed_forwards(&mut events, stream_id, from, limit)?;
                let next = events.last().map_or(from, |last| clamped(last.revision.0) + 1);
                let skip = usize::try_from(next - recent.first).unwrap_or(0);
                let rest = recent.positions.iter().skip(skip).take(limit - events.len());
                self.events_at(&mut events, rest)?;
            }
            Direction::Backwards => {
                let count = usize::try_from(from.saturating_add(1).saturating_sub(recent.first)).unwrap_or(0);
                self.events_at(&mut events, recent.positions.iter().take(count).rev().take(limit))?;
                let last = if recent.positions.is_empty() { from } else { from.min(recent.first - 1) };
                let rest = limit - events.len();
                self.indexed_backwards(&mut events, stream_id, last, rest)?;
            }
        }
        Ok(events)
    }

    /// Adds events of a stream from a revision on, as far as the written index knows them.
    fn indexed_forwards(
        &self,
        events: &mut Vec<RecordedEvent>,
        stream_id: i64,
        from: i64,
        limit: usize,
    ) -> Result<(), StoreError> {
        // The run that holds the revision begins at it or before.
        let sql = "SELECT revision, positions FROM stream_index WHERE stream_id = ?1 AND revision >= \
                   coalesce((SELECT max(revision) FROM stream_index WHERE stream_id = ?1 AND revision <= ?2), ?2) \
                   ORDER BY revision";
        self.runs(sql, (stream_id, from), |run| {
            let skip = usize::try_from(from - run.first).unwrap_or(0);
            self.events_at(events, run.positions.iter().skip(skip).take(limit - events.len()))?;
            Ok(events.len() < limit)
        })
    }

    /// Adds events of a stream from a revision down, as far as the written index knows them.
    fn indexed_backwards(
        &self,
        events: &mut Vec<RecordedEvent>,
        stream_id: i64,
        last: i64,
        limit: usize,
    ) -> Result<(), StoreError> {
        let sql = "SELECT revision, positions FROM stream_index WHERE stream_id = ?1 AND revision <= ?2 \
                   ORDER BY revision DESC";
        let wanted = events.len() + limit;
        self.runs(sql, (stream_id, last), |run| {
            let count = usize::try_from(last.saturating_add(1).saturating_sub(run.first)).unwrap_or(usize::MAX);
            self.events_at(events, run.positions.iter().take(count).rev().take(wanted - events.len()))?;
            Ok(events.len() < wanted)
        })
    }

    /// Shows rows of the written index until one is the last that is wanted.
    fn runs(
        &self,
        sql: &str,
        params: impl Params,
        mut each: impl FnMut(Span) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut statement = self.prepare(sql)?;
        let mut rows = statement.query(params).map_err(|error| store_error(&error))?;
        while let Some(row) = rows.next().map_err(|error| store_error(&error))? {
            let run = row
                .get_ref(1)
                .and_then(|value| Ok(Span::read(row.get(0)?, value.as_blob()?)))
                .map_err(|error| store_error(&error))?;
            if !each(run)? {
                break;
            }
        }
        Ok(())
    }

    /// The event with this id.
    pub(super) fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM events WHERE id = ?1");
        Ok(self.events(&sql, [id.as_bytes()])?.pop().filter(|event| clamped(event.position.0) <= self.head))
    }

    /// The events from a position on, as many as a page holds.
    pub(super) fn events_from(&self, from: Position) -> Result<Vec<RecordedEvent>, StoreError> {
        Ok(self.page(from, Direction::Forwards, &Filter::default(), MAX_PAGE_EVENTS)?.events)
    }

    /// The event at a position.
    pub(super) fn event_at(&self, position: Position) -> Result<RecordedEvent, StoreError> {
        let mut event = Vec::new();
        self.events_at(&mut event, &[clamped(position.0)])?;
        event.pop().ok_or_else(|| missing(clamped(position.0)))
    }

    /// Adds the events at some positions.
    fn events_at<'p>(
        &self,
        events: &mut Vec<RecordedEvent>,
        positions: impl IntoIterator<Item = &'p i64>,
    ) -> Result<(), StoreError> {
        let filter = Filter::default();
        let mut names = PageNames::new(self.connection, self.types, &filter);
        let mut statement = self.prepare(&format!("SELECT {COLUMNS} FROM events WHERE position = ?1"))?;
        for position in positions {
            let mut rows = statement.query([position]).map_err(|error| store_error(&error))?;
            let row = rows.next().map_err(|error| store_error(&error))?.ok_or_else(|| missing(*position))?;
            let raw = Raw::read(row)?;
            if let Some((stream, event_type)) = names.passing(raw.stream_id, raw.type_id)? {
                events.push(raw.complete(row, stream, event_type, self.brain)?);
            }
        }
        Ok(())
    }

    fn events(&self, sql: &str, params: impl Params) -> Result<Vec<RecordedEvent>, StoreError> {
        let filter = Filter::default();
        let mut names = PageNames::new(self.connection, self.types, &filter);
        let mut statement = self.prepare(sql)?;
        let mut rows = statement.query(params).map_err(|error| store_error(&error))?;
        let mut events = Vec::new();
        while let Some(row) = rows.next().map_err(|error| store_error(&error))? {
            let raw = Raw::read(row)?;
            if let Some((stream, event_type)) = names.passing(raw.stream_id, raw.type_id)? {
                events.push(raw.complete(row, stream, event_type, self.brain)?);
            }
        }
        Ok(events)
    }

    /// The last position recorded at or before a time: a binary search, because positions have no gaps and time
    /// never runs back along them.
    pub(super) fn position_at(&self, micros: i64) -> Result<Position, StoreError> {
        let (mut below, mut above) = (0, self.head + 1);
        while above - below > 1 {
            let middle = below + (above - below) / 2;
            if self.recorded_at(middle)? <= micros {
                below = middle;
            } else {
                above = middle;
            }
        }
        Ok(Position(below.cast_unsigned()))
    }

    /// When an event was recorded, in microseconds since 1970.
    pub(super) fn recorded_at(&self, position: i64) -> Result<i64, StoreError> {
        self.prepare("SELECT recorded_at FROM events WHERE position = ?1")?
            .query_row([position], |row| row.get(0))
            .optional()
            .map_err(|error| store_error(&error))?
            .ok_or_else(|| missing(position))
    }

    /// The position recorded last for an upstream source.
    pub(super) fn tracking(&self, source: &str) -> Result<Option<u64>, StoreError> {
        tracked(self.connection, source)
    }

    /// The stream's snapshot.
    pub(super) fn snapshot(&self, stream: &str) -> Result<Option<Snapshot>, StoreError> {
        let found = self
            .prepare("SELECT revision, format, data FROM snapshots WHERE stream = ?1")?
            .query_row([stream], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get::<_, Vec<u8>>(2)?)))
            .optional()
            .map_err(|error| store_error(&error))?;
        Ok(found.map(|(revision, format, data)| Snapshot {
            revision: Revision(revision.cast_unsigned()),
            format,
            data: data.into(),
        }))
    }

    fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>, StoreError> {
        self.connection.prepare_cached(sql).map_err(|error| store_error(&error))
    }
}

/// The log's last position; 0 when it is empty.
pub(super) fn last_position(connection: &Connection) -> Result<i64, StoreError> {
    connection
        .query_row("SELECT coalesce(max(position), 0) FROM events", [], |row| row.get(0))
        .map_err(|error| store_error(&error))
}

/// The number a stream's name is kept under.
pub(super) fn stream_id(connection: &Connection, stream: &str) -> Result<Option<i64>, StoreError> {
    connection
        .prepare_cached("SELECT id FROM streams WHERE name = ?1")
        .and_then(|mut statement| statement.query_row([stream], |row| row.get(0)).optional())
        .map_err(|error| store_error(&error))
}

/// The position recorded last for an upstream source.
pub(super) fn tracked(connection: &Connection, source: &str) -> Result<Option<u64>, StoreError> {
    let found: Option<i64> = connection
        .prepare_cached("SELECT position FROM tracking WHERE source = ?1")
        .and_then(|mut statement| statement.query_row([source], |row| row.get(0)).optional())
        .map_err(|error| store_error(&error))?;
    Ok(found.map(i64::cast_unsigned))
}

/// The event with this id, seen by the connection that writes: also within its transaction.
pub(super) fn event_by_id(
    connection: &Connection,
    types: &TypeNames,
    brain: Uuid,
    id: Uuid,
) -> Result<Option<RecordedEvent>, StoreError> {
    Reader { connection, types, brain, recent: &Recent::default(), head: i64::MAX }.event(id)
}

fn missing(position: i64) -> StoreError {
    corrupt(format!("position {position} is missing; run `cairn verify`, then restore a backup"))
}

/// SQLite's integers are signed. No position, revision or count ever reaches the half that is lost.
pub(super) fn clamped(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
