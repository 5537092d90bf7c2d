//! Reading the log. Each read is a transaction of its own, which says first whose log it is for.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};
use uuid::Uuid;

use super::failure::store_error;
use super::{begin, begin_reading};
use crate::event::{Direction, Filter, Page, Position, RecordedEvent, Revision, Snapshot};
use crate::page::{MAX_PAGE_BYTES, MAX_PAGE_EVENTS, MAX_PAGE_SCAN};
use crate::port::StoreError;

/// The columns of an event, in the order that [`Rows::event`] reads them.
const COLUMNS: &str = "position, stream, revision, id, type, schema_version, recorded_at, data, metadata";

/// Makes the row of a brain's log where there is none; returns the log's head.
pub(super) async fn begin_log(pool: &PgPool, brain: Uuid) -> Result<Position, StoreError> {
    run(async {
        let mut transaction = begin(pool, brain).await?;
        let insert = sqlx::query("INSERT INTO cairn.logs (brain) VALUES ($1) ON CONFLICT DO NOTHING").bind(brain);
        insert.execute(&mut *transaction).await?;
        let head = head_in(&mut transaction, brain).await?;
        transaction.commit().await?;
        Ok(head)
    })
    .await
}

/// The position of the last event there is.
pub(super) async fn head(pool: &PgPool, brain: Uuid) -> Result<Position, StoreError> {
    run(async { head_in(&mut *begin_reading(pool, brain).await?, brain).await }).await
}

async fn head_in(connection: &mut PgConnection, brain: Uuid) -> Result<Position, sqlx::Error> {
    let select = sqlx::query_scalar("SELECT head FROM cairn.logs WHERE brain = $1").bind(brain);
    let head: Option<i64> = select.fetch_optional(connection).await?;
    Ok(Position(head.unwrap_or_default().cast_unsigned()))
}

/// A page of the whole log. What is passed over by the filter is looked at on the server, at most [`MAX_PAGE_SCAN`]
/// events of it.
pub(super) async fn page(
    pool: &PgPool,
    brain: Uuid,
    from: Position,
    direction: Direction,
    filter: &Filter,
    limit: usize,
) -> Result<Page, StoreError> {
    let limit = limit.clamp(1, MAX_PAGE_EVENTS);
    let scan = MAX_PAGE_SCAN as u64;
    let from = from.0.min(i64::MAX as u64);
    let (names, families): (Vec<&String>, Vec<&String>) =
        filter.event_types.iter().partition(|name| !name.ends_with('.'));
    run(async {
        let mut transaction = begin_reading(pool, brain).await?;
        let (low, high) = match direction {
            Direction::Forwards => (from, from.saturating_add(scan - 1).min(i64::MAX as u64)),
            Direction::Backwards => {
                let high = from.min(head_in(&mut transaction, brain).await?.0);
                (high.saturating_sub(scan - 1), high)
            }
        };
        let select = sqlx::query(AssertSqlSafe(page_sql(direction, filter)))
            .bind(brain)
            .bind(low.cast_signed())
            .bind(high.cast_signed())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(MAX_PAGE_BYTES as i64)
            .bind(&filter.stream_prefixes)
            .bind(names)
            .bind(families);
        let rows = select.fetch_all(&mut *transaction).await?;
        let head: i64 = rows.first().map_or(Ok(0), |row| row.try_get("head"))?;
        let taken: i64 = rows.first().map_or(Ok(0), |row| row.try_get("taken"))?;
        let mut events = Rows::new(brain);
        // The log's row comes alone where no event passes.
        for row in rows.iter().filter(|_| taken > 0) {
            events.push(row)?;
        }
        let events = events.events;
        let cut = (events.len() as u64) < taken.cast_unsigned();
        let next = next(direction, (low, high), head.cast_unsigned(), events.last(), cut);
        Ok(Page { events, next })
    })
    .await
}

/// Where to read on: behind the last event where the page was full, else behind all that was looked at.
fn next(
    direction: Direction,
    (low, high): (u64, u64),
    head: u64,
    last: Option<&RecordedEvent>,
    cut: bool,
) -> Option<Position> {
    match direction {
        Direction::Forwards => {
            let seen = if cut { last.map_or(high, |last| last.position.0) } else { high };
            (seen < head).then(|| Position(seen + 1))
        }
        Direction::Backwards => {
            let seen = if cut { last.map_or(low, |last| last.position.0) } else { low };
            (seen > 1).then(|| Position((seen - 1).min(head)))
        }
    }
}

/// Every part is fixed text; what is given by callers is bound.
///
/// The innermost query takes what passes the filter within the span looked at, one event more than wanted to tell whether
/// there are more; around it the page is ended before it has too many bytes, but never before its first event.
fn page_sql(direction: Direction, filter: &Filter) -> String {
    let order = match direction {
        Direction::Forwards => "",
        Direction::Backwards => " DESC",
    };
    let streams = if filter.stream_prefixes.is_empty() { "" } else { " AND stream ^@ ANY ($6)" };
    let types = if filter.event_types.is_empty() { "" } else { " AND (type = ANY ($7) OR type ^@ ANY ($8))" };
    // A parameter that no condition uses would have no type.
    let typed = "$6::text[] IS NOT NULL AND $7::text[] IS NOT NULL AND $8::text[] IS NOT NULL";
    format!(
        "SELECT l.head, coalesce(e.taken_all, 0) AS taken, e.*
         FROM cairn.logs l LEFT JOIN LATERAL (
             SELECT * FROM (
                 SELECT {COLUMNS}, row_number() OVER w AS n, count(*) OVER () AS taken_all,
                     sum(octet_length(data) + octet_length(metadata)) OVER w
                         - octet_length(data) - octet_length(metadata) AS before
                 FROM (
                     SELECT {COLUMNS} FROM cairn.events
                     WHERE brain = $1 AND position BETWEEN $2 AND $3{streams}{types} AND {typed}
                     ORDER BY position{order} LIMIT $4 + 1
                 ) found
                 WINDOW w AS (ORDER BY position{order} ROWS UNBOUNDED PRECEDING)
             ) numbered
             WHERE n <= $4 AND (n = 1 OR before < $5)
         ) e ON true
         WHERE l.brain = $1
         ORDER BY e.position{order}"
    )
}

/// A run of one stream's events.
pub(super) async fn stream(
    pool: &PgPool,
    brain: Uuid,
    stream: &str,
    from: Revision,
    direction: Direction,
    limit: usize,
) -> Result<Vec<RecordedEvent>, StoreError> {
    let condition = match direction {
        Direction::Forwards => "revision >= $3 ORDER BY revision",
        Direction::Backwards => "revision <= $3 ORDER BY revision DESC",
    };
    let sql =
        format!("SELECT {COLUMNS} FROM cairn.events WHERE brain = $1 AND stream = $2 AND {condition} LIMIT $4");
    let from = i64::try_from(from.0).unwrap_or(i64::MAX);
    run(async {
        let mut transaction = begin_reading(pool, brain).await?;
        let select = sqlx::query(AssertSqlSafe(sql)).bind(brain).bind(stream).bind(from);
        let select = select.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let mut events = Rows::new(brain);
        for row in select.fetch_all(&mut *transaction).await? {
            events.push(&row)?;
        }
        Ok(events.events)
    })
    .await
}

/// The event with this id.
pub(super) async fn event(pool: &PgPool, brain: Uuid, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
    let found = run(async {
        let mut transaction = begin_reading(pool, brain).await?;
        events_by_id(&mut transaction, brain, &[id]).await
    });
    Ok(found.await?.pop())
}

/// The events with these ids, within a transaction.
pub(super) async fn events_by_id(
    connection: &mut PgConnection,
    brain: Uuid,
    ids: &[Uuid],
) -> Result<Vec<RecordedEvent>, sqlx::Error> {
    let sql = format!("SELECT {COLUMNS} FROM cairn.events WHERE brain = $1 AND id = ANY ($2)");
    let mut events = Rows::new(brain);
    for row in sqlx::query(AssertSqlSafe(sql)).bind(brain).bind(ids).fetch_all(connection).await? {
        events.push(&row)?;
    }
    Ok(events.events)
}

/// The last position recorded at or before a time. The log's time never runs back, so it is found by halving.
pub(super) async fn position_at(pool: &PgPool, brain: Uuid, time: DateTime<Utc>) -> Result<Position, StoreError> {
    run(async {
        let mut transaction = begin_reading(pool, brain).await?;
        let (mut below, mut above) = (0, head_in(&mut transaction, brain).await?.0 + 1);
        while above - below > 1 {
            let middle = below + (above - below) / 2;
            let select =
                sqlx::query_scalar("SELECT recorded_at FROM cairn.events WHERE brain = $1 AND position = $2");
            let select = select.bind(brain).bind(middle.cast_signed());
            let recorded: DateTime<Utc> = select.fetch_one(&mut *transaction).await?;
            if recorded <= time {
                below = middle;
            } else {
                above = middle;
            }
        }
        Ok(Position(below))
    })
    .await
}

/// The position recorded last for an upstream source.
pub(super) async fn tracking(pool: &PgPool, brain: Uuid, source: &str) -> Result<Option<u64>, StoreError> {
    run(async {
        let mut transaction = begin_reading(pool, brain).await?;
        let select = sqlx::query_scalar("SELECT position FROM cairn.tracking WHERE brain = $1 AND source = $2");
        let position: Option<i64> = select.bind(brain).bind(source).fetch_optional(&mut *transaction).await?;
        Ok(position.map(i64::cast_unsigned))
    })
    .await
}

/// The snapshot of a stream.
pub(super) async fn snapshot(pool: &PgPool, brain: Uuid, stream: &str) -> Result<Option<Snapshot>, StoreError> {
    run(async {
        let mut transaction = begin_reading(pool, brain).await?;
        let select = "SELECT revision, format, data FROM cairn.snapshots WHERE brain = $1 AND stream = $2";
        let row = sqlx::query(select).bind(brain).bind(stream).fetch_optional(&mut *transaction).await?;
        let Some(row) = row else { return Ok(None) };
        let format: i64 = row.try_get(1)?;
        Ok(Some(Snapshot {
            revision: Revision(row.try_get::<i64, _>(0)?.cast_unsigned()),
            format: u32::try_from(format).unwrap_or(u32::MAX),
            data: row.try_get::<Vec<u8>, _>(2)?.into(),
        }))
    })
    .await
}

async fn run<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    work.await.map_err(|error| store_error(&error))
}

/// Events read from rows. Neighbours often share their type's and their stream's name.
struct Rows {
    brain: Uuid,
    events: Vec<RecordedEvent>,
}

impl Rows {
    fn new(brain: Uuid) -> Self {
        Self { brain, events: Vec::new() }
    }

    fn push(&mut self, row: &PgRow) -> Result<(), sqlx::Error> {
        let last = self.events.last();
        let (stream, event_type): (&str, &str) = (row.try_get("stream")?, row.try_get("type")?);
        let schema_version: i32 = row.try_get("schema_version")?;
        let event = RecordedEvent {
            position: Position(row.try_get::<i64, _>("position")?.cast_unsigned()),
            stream: shared(stream, last.map(|last| &last.stream)),
            revision: Revision(row.try_get::<i64, _>("revision")?.cast_unsigned()),
            id: row.try_get("id")?,
            event_type: shared(event_type, last.map(|last| &last.event_type)),
            schema_version: u16::try_from(schema_version).unwrap_or(u16::MAX),
            brain: self.brain,
            recorded_at: row.try_get("recorded_at")?,
            data: row.try_get::<Vec<u8>, _>("data")?.into(),
            metadata: row.try_get::<Vec<u8>, _>("metadata")?.into(),
            erased: false,
        };
        self.events.push(event);
        Ok(())
    }
}

fn shared(name: &str, last: Option<&Arc<str>>) -> Arc<str> {
    match last {
        Some(last) if **last == *name => Arc::clone(last),
        _ => name.into(),
    }
}
