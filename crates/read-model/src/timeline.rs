//! What happened: one row for each event of a memory, in the order of the log.

use std::path::Path;
use std::sync::Arc;

use cairn_domain::field::FieldName;
use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use chrono::{DateTime, NaiveDate, Utc};
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Row, params};
use serde::Serialize;
use uuid::Uuid;

use crate::change::{Batch, Entry, EntryOutcome};
use crate::database::Model;
use crate::page::{Cursor, Paged, QueryError, page_size, paged};
use crate::pool::Switch;
use crate::row::{
    event_id, from_millis, memory_id, number, parsed, principal_id, time, to_json, truth, uuid, value,
};
use crate::select::Select;

/// The read model's tables and fold.
pub static MODEL: Model = Model {
    name: "timeline",
    version: 1,
    entries: true,
    tables: include_str!("../../../migrations/sqlite/read-model/timeline.sql"),
    indexes: include_str!("../../../migrations/sqlite/read-model/timeline.indexes.sql"),
    apply,
};

/// The most days that [`Timeline::activity`] answers.
pub const MAX_DAYS: usize = 3_660;

/// Answers what happened. Cheap to clone; every method blocks.
#[derive(Debug, Clone)]
pub struct Timeline {
    switch: Arc<Switch>,
}

/// Something that happened to a memory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimelineRow {
    /// The event's position in the log.
    pub position: u64,
    /// The memory.
    pub memory: MemoryId,
    /// The event's number among those of the memory.
    pub revision: u64,
    /// The event.
    pub event: EventId,
    /// Its type, such as `memory.field_claimed`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// When the log took it.
    pub at: DateTime<Utc>,
    /// Who caused it.
    pub principal: PrincipalId,
    /// The level it was written at.
    pub truth: Truth,
    /// Where it came from.
    pub origin: Origin,
    /// The command; all events of one command share it.
    pub command: Uuid,
    /// The field it is about.
    pub field: Option<FieldName>,
    /// The value it states.
    pub value: Option<Value>,
    /// What became of it at that moment.
    pub outcome: Option<EntryOutcome>,
    /// One line for a person.
    pub summary: String,
}

/// What to look back at. What is not given lets everything through.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TimelineFilter {
    /// What happened to this memory.
    pub memory: Option<MemoryId>,
    /// What this principal did.
    pub principal: Option<PrincipalId>,
    /// What this command did.
    pub command: Option<Uuid>,
    /// What was written at this level.
    pub truth: Option<Truth>,
    /// Events of one of these types.
    pub event_types: Vec<String>,
    /// What happened to this field.
    pub field: Option<String>,
    /// What became of it.
    pub outcome: Option<EntryOutcome>,
    /// At or after this moment.
    pub from: Option<DateTime<Utc>>,
    /// Before this moment.
    pub before: Option<DateTime<Utc>>,
    /// After this position.
    pub after_position: Option<u64>,
    /// At this position or before it.
    pub until_position: Option<u64>,
}

/// How much happened on a day (UTC).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DayActivity {
    /// The day.
    pub day: NaiveDate,
    /// Events.
    pub events: u64,
    /// Memories they were about.
    pub memories: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { switch: Arc::new(Switch::new(&MODEL)) }
    }
}

impl Timeline {
    /// Answers from this generation from now on.
    pub fn serve(&self, folder: &Path) {
        self.switch.serve(folder);
    }

    /// Whether there is a generation to answer from.
    pub fn is_ready(&self) -> bool {
        self.switch.is_ready()
    }

    /// The position that answers stand at.
    ///
    /// # Errors
    /// See [`QueryError`], as for every method here.
    pub fn position(&self) -> Result<u64, QueryError> {
        self.switch.position()
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, QueryError> {
        self.switch.read(|connection| query(connection).map_err(|source| self.switch.failed(source)))
    }

    /// Looks back, the latest first. A memory's history is the timeline filtered by it.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn list(
        &self,
        filter: &TimelineFilter,
        limit: Option<usize>,
        cursor: Option<&Cursor>,
    ) -> Result<Paged<TimelineRow>, QueryError> {
        const NAME: &str = "timeline";
        let size = page_size(limit);
        let mut select = Select::new(&format!("SELECT {COLUMNS} FROM timeline"));
        conditions(&mut select, filter);
        if let Some(cursor) = cursor {
            let position: i64 = cursor.place(NAME)?;
            select.and("position < ?", [Sql::Integer(position)]);
        }
        select.end(" ORDER BY position DESC", size + 1);
        let rows = self.read(|connection| select.rows(connection, row))?;
        Ok(paged(rows, size, |last| Cursor::new(NAME, &last.position)))
    }

    /// How much happened on each day that something did, the latest first.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn activity(
        &self,
        from: Option<DateTime<Utc>>,
        before: Option<DateTime<Utc>>,
    ) -> Result<Vec<DayActivity>, QueryError> {
        const DAY: i64 = 86_400_000;
        let mut select =
            Select::new(&format!("SELECT at / {DAY} AS day, count(*), count(DISTINCT memory) FROM timeline"));
        select.and_if("at >= ?", from.map(|time| time.timestamp_millis()));
        select.and_if("at < ?", before.map(|time| time.timestamp_millis()));
        select.end(" GROUP BY day ORDER BY day DESC", MAX_DAYS);
        self.read(|connection| {
            select.rows(connection, |row| {
                let day = from_millis(row.get::<_, i64>(0)?.saturating_mul(DAY)).date_naive();
                Ok(DayActivity { day, events: number(row, 1)?, memories: number(row, 2)? })
            })
        })
    }
}

fn conditions(select: &mut Select, filter: &TimelineFilter) {
    let blob = |id: Uuid| Sql::Blob(id.as_bytes().to_vec());
    select.and_if("memory = ?", filter.memory.map(|id| blob(id.uuid())));
    // Where a memory is given its index is the best way; the plus keeps the principal's from being taken.
    let principal = if filter.memory.is_some() { "+principal = ?" } else { "principal = ?" };
    select.and_if(principal, filter.principal.map(|id| blob(id.uuid())));
    select.and_if("command = ?", filter.command.map(blob));
    select.and_if("truth = ?", filter.truth.map(|truth| i64::from(truth.level())));
    select.and_in("type", filter.event_types.iter().cloned().map(Sql::Text).collect());
    select.and_if("field = ?", filter.field.clone());
    select.and_if("outcome = ?", filter.outcome.map(|outcome| outcome.name().to_owned()));
    // The log's time never runs back, so a span of time is a span of positions.
    select.and_if(
        "position >= (SELECT ifnull(min(position), 9223372036854775807) FROM timeline WHERE at >= ?)",
        filter.from.map(|time| time.timestamp_millis()),
    );
    select.and_if(
        "position <= (SELECT ifnull(max(position), -1) FROM timeline WHERE at < ?)",
        filter.before.map(|time| time.timestamp_millis()),
    );
    select.and_if("position > ?", filter.after_position.map(u64::cast_signed));
    select.and_if("position <= ?", filter.until_position.map(u64::cast_signed));
}

/// The columns of a row, in the order that [`row`] reads them.
const COLUMNS: &str = "position, memory, event, type, at, principal, truth, origin, command, field, value, outcome, summary, revision";

fn row(row: &Row<'_>) -> rusqlite::Result<TimelineRow> {
    let has_field = row.get_ref(9)?.as_str_or_null()?.is_some();
    let outcome = row.get_ref(11)?.as_str_or_null()?.and_then(EntryOutcome::named);
    Ok(TimelineRow {
        position: number(row, 0)?,
        memory: memory_id(row, 1)?,
        event: event_id(row, 2)?,
        event_type: row.get(3)?,
        at: time(row, 4)?,
        principal: principal_id(row, 5)?,
        truth: truth(row, 6)?,
        origin: parsed(row, 7)?,
        command: uuid(row, 8)?,
        field: if has_field { Some(parsed(row, 9)?) } else { None },
        value: value(row, 10)?,
        outcome,
        summary: row.get(12)?,
        revision: number(row, 13)?,
    })
}

fn apply(connection: &Connection, checkpoint: u64, batch: &Batch) -> rusqlite::Result<()> {
    for entry in batch.entries.iter().filter(|entry| entry.position > checkpoint) {
        insert(connection, entry)?;
    }
    for change in batch.memories.iter().filter(|change| change.position > checkpoint && change.memory.is_erased())
    {
        let id = change.memory.id().uuid().into_bytes();
        connection.prepare_cached("DELETE FROM timeline WHERE memory = ?1")?.execute([id])?;
        connection
            .prepare_cached("INSERT OR REPLACE INTO tombstones (memory, at, position) VALUES (?1, ?2, ?3)")?
            .execute(params![id, change.recorded_at.timestamp_millis(), change.position.cast_signed()])?;
    }
    Ok(())
}

fn insert(connection: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO timeline (position, memory, event, type, at, principal, truth, origin, command,
             field, value, outcome, summary, revision)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            entry.position.cast_signed(),
            entry.memory.uuid().as_bytes(),
            entry.event.uuid().as_bytes(),
            entry.event_type,
            entry.recorded_at.timestamp_millis(),
            entry.author.principal.uuid().as_bytes(),
            entry.author.truth.level(),
            entry.author.origin.as_str(),
            entry.author.command.as_bytes(),
            entry.field.as_ref().map(FieldName::as_str),
            entry.value.as_ref().map(to_json),
            entry.outcome.map(EntryOutcome::name),
            entry.summary,
            entry.revision.cast_signed(),
        ])?;
    Ok(())
}
