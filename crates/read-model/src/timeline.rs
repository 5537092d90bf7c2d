//! What happened: one row for each event of a memory, in the order of the log.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use cairn_domain::field::FieldName;
use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::change::{Batch, Entry, EntryOutcome};
use crate::database::{Definition, Model};
use crate::page::{Cursor, Paged, QueryError, page_size, paged};
use crate::pool::Switch;
use crate::postgres::Server;
use crate::select::{Param, Select};
use crate::sql::{Answer, Connection, Row, from_millis, to_json};
use crate::table::{Cell, Presence, Scope, Shape, Sink, Table, id, number, text, time, truth};
use crate::tombstone;

/// The read model's tables and fold.
pub static MODEL: Model = Model {
    name: "timeline",
    version: 1,
    entries: true,
    sqlite: Definition {
        tables: include_str!("../../../migrations/sqlite/read-model/timeline.sql"),
        indexes: include_str!("../../../migrations/sqlite/read-model/timeline.indexes.sql"),
    },
    postgres: Definition {
        tables: include_str!("../../../migrations/postgres/read-model/timeline.sql"),
        indexes: include_str!("../../../migrations/postgres/read-model/timeline.indexes.sql"),
    },
    fold,
};

static TIMELINE: Table = Table::new(Shape {
    name: "timeline",
    columns: &[
        number("position"),
        id("memory"),
        number("revision"),
        id("event"),
        text("type"),
        time("at"),
        id("principal"),
        truth("truth"),
        text("origin"),
        id("command"),
        text("field"),
        text("value"),
        text("outcome"),
        text("summary"),
    ],
    key: 1,
    part: 1,
    memory: 1,
});

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
    /// Answers from PostgreSQL, from whichever generation the database says serves. Every method then blocks on the
    /// server's runtime, so it must not be called from within asynchronous code.
    pub fn postgres(server: Server) -> Self {
        Self { switch: Arc::new(Switch::on_server(&MODEL, server)) }
    }

    /// Answers from this generation from now on. On PostgreSQL it does nothing: there the database says which one.
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

    fn read<T>(&self, query: impl Fn(&mut Connection<'_>) -> Answer<T>) -> Result<T, QueryError> {
        self.switch.read(query)
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
            select.and("position < ?", [Param::Number(position)]);
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
        self.read(|connection| {
            let day = connection.day_of("at");
            let text = format!("SELECT {day} AS day, count(*), count(DISTINCT memory) FROM timeline");
            let mut select = Select::new(&text);
            select.and_if("at >= ?", from);
            select.and_if("at < ?", before);
            select.end(" GROUP BY day ORDER BY day DESC", MAX_DAYS);
            select.rows(connection, |row| {
                let day = from_millis(row.signed(0)?.saturating_mul(DAY)).date_naive();
                Ok(DayActivity { day, events: row.number(1)?, memories: row.number(2)? })
            })
        })
    }
}

fn conditions(select: &mut Select, filter: &TimelineFilter) {
    select.and_if("memory = ?", filter.memory.map(|id| id.uuid()));
    // Where a memory is given its index is the best way; the plus keeps the principal's from being taken.
    let principal = if filter.memory.is_some() { "+principal = ?" } else { "principal = ?" };
    select.and_if(principal, filter.principal.map(|id| id.uuid()));
    select.and_if("command = ?", filter.command);
    select.and_if("truth = ?", filter.truth);
    select.and_in("type", filter.event_types.iter().map(|name| name.as_str().into()).collect());
    select.and_if("field = ?", filter.field.clone());
    select.and_if("outcome = ?", filter.outcome.map(EntryOutcome::name));
    // The log's time never runs back, so a span of time is a span of positions.
    select.and_if(
        "position >= coalesce((SELECT position FROM timeline WHERE at >= ? ORDER BY at, position LIMIT 1),
         9223372036854775807)",
        filter.from,
    );
    select.and_if(
        "position <= coalesce((SELECT position FROM timeline WHERE at < ? ORDER BY at DESC, position DESC LIMIT 1),
         -1)",
        filter.before,
    );
    select.and_if("position > ?", filter.after_position.map(|it| Param::Number(it.cast_signed())));
    select.and_if("position <= ?", filter.until_position.map(|it| Param::Number(it.cast_signed())));
}

/// The columns of a row, in the order that [`row`] reads them.
const COLUMNS: &str = "position, memory, event, type, at, principal, truth, origin, command, field, value, outcome, summary, revision";

fn row(row: &Row<'_>) -> Answer<TimelineRow> {
    Ok(TimelineRow {
        position: row.number(0)?,
        memory: row.memory_id(1)?,
        event: row.event_id(2)?,
        event_type: row.text(3)?,
        at: row.time(4)?,
        principal: row.principal_id(5)?,
        truth: row.truth(6)?,
        origin: row.parsed(7)?,
        command: row.uuid(8)?,
        field: row.maybe_parsed(9)?,
        value: row.value(10)?,
        outcome: row.maybe_text(11)?.as_deref().and_then(EntryOutcome::named),
        summary: row.text(12)?,
        revision: row.number(13)?,
    })
}

fn fold(sink: &mut dyn Sink, checkpoint: u64, batch: &Batch) {
    let erased = batch.memories.iter().filter(|it| it.position > checkpoint && it.memory.is_erased());
    let gone: HashSet<_> = erased.clone().map(|change| change.memory.id()).collect();
    let entries = batch.entries.iter().filter(|entry| entry.position > checkpoint);
    // What is erased at the end of the batch is not written first.
    for entry in entries.filter(|entry| !gone.contains(&entry.memory)) {
        put(sink, entry);
    }
    for change in erased {
        sink.delete(&TIMELINE, Scope::Memory, &[change.memory.id().uuid().into()]);
        tombstone::put(sink, change);
    }
}

fn put(sink: &mut dyn Sink, entry: &Entry) {
    let value = entry.value.as_ref().map(to_json);
    let row = [
        Cell::Number(entry.position.cast_signed()),
        entry.memory.uuid().into(),
        Cell::Number(entry.revision.cast_signed()),
        entry.event.uuid().into(),
        Cell::Text(entry.event_type),
        Cell::Time(entry.recorded_at.timestamp_millis()),
        entry.author.principal.uuid().into(),
        Cell::Truth(entry.author.truth.level()),
        Cell::Text(entry.author.origin.as_str()),
        entry.author.command.into(),
        Cell::maybe(entry.field.as_ref().map(FieldName::as_str)),
        Cell::maybe(value.as_deref()),
        Cell::maybe(entry.outcome.map(EntryOutcome::name)),
        Cell::Text(&entry.summary),
    ];
    // Its position is beyond the checkpoint, and every row stands at a position up to it.
    sink.put(&TIMELINE, &row, Presence::Absent);
}
