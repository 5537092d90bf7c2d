//! The one task of this process that writes: it takes everything that waits, and commits it in one transaction.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::pool::PoolConnection;
use sqlx::{Executor, PgConnection, PgPool, Postgres, Row};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::begin;
use super::failure::{is_passing, store_error};
use super::reader::events_by_id;
use crate::admission::{Verdict, judge};
use crate::event::{Appended, NewAppend, Position, Snapshot};
use crate::port::{AppendError, StoreError};
use crate::tail::Tail;
use crate::view::View;

/// The appends that may wait for the writer. Further callers wait for a place.
pub const QUEUED_APPENDS: usize = 8_192;
/// The most appends that share one commit.
pub const COMMIT_APPENDS: usize = 4_096;
/// The bytes of data and metadata after which a commit takes no further append.
pub const COMMIT_BYTES: usize = 16 * 1024 * 1024;
/// How long the writer tries again where the server restarts or has no connection left, before it tells the callers.
/// Repeating is safe also where the commit's answer was lost: events are recognised by their ids.
pub const RETRY_FOR: Duration = Duration::from_secs(8);
/// The first pause between two tries; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Something for the writer to do.
#[derive(Debug)]
pub(super) enum Job {
    Append {
        append: NewAppend,
        reply: oneshot::Sender<Result<Appended, AppendError>>,
    },
    /// Take nothing more, finish what waits, and end.
    Close,
}

/// An append that waits, and who waits for it.
struct Waiting {
    append: NewAppend,
    reply: oneshot::Sender<Result<Appended, AppendError>>,
}

/// What became of each append of a batch; told only after the commit, because a refusal, too, may rest on what the same
/// batch has written.
type Outcomes = Vec<Result<Appended, AppendError>>;

pub(super) struct Writer {
    pool: PgPool,
    brain: Uuid,
    tail: Arc<Tail>,
    head: Arc<watch::Sender<Position>>,
    /// Tells other processes.
    told: watch::Sender<Position>,
    connection: Option<PoolConnection<Postgres>>,
}

impl Writer {
    pub(super) fn new(
        pool: PgPool,
        brain: Uuid,
        tail: Arc<Tail>,
        head: Arc<watch::Sender<Position>>,
        told: watch::Sender<Position>,
    ) -> Self {
        Self { pool, brain, tail, head, told, connection: None }
    }

    /// Works until the queue is closed and empty.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::new();
        let mut waiting: std::collections::VecDeque<Waiting> = std::collections::VecDeque::new();
        loop {
            if waiting.is_empty() && queue.recv_many(&mut jobs, COMMIT_APPENDS).await == 0 {
                return;
            }
            for job in jobs.drain(..) {
                match job {
                    Job::Append { append, reply } => waiting.push_back(Waiting { append, reply }),
                    Job::Close => queue.close(),
                }
            }
            let mut batch = Vec::new();
            let mut bytes = 0;
            while let Some(next) = waiting.pop_front_if(|_| batch.is_empty() || bytes < COMMIT_BYTES) {
                bytes += size(&next.append);
                batch.push(next);
            }
            self.perform(batch).await;
        }
    }

    async fn perform(&mut self, batch: Vec<Waiting>) {
        if batch.is_empty() {
            return;
        }
        let error = match self.insist(&batch).await {
            Ok(outcomes) => return tell(batch, outcomes),
            Err(error) => error,
        };
        tracing::warn!(error = %store_error(&error), appends = batch.len(), "appends could not be written");
        if batch.len() == 1 || is_passing(&error) {
            let outcomes = batch.iter().map(|_| Err(store_error(&error).into())).collect();
            return tell(batch, outcomes);
        }
        // One of them may be the cause: let it not spoil the others.
        for waiting in batch {
            let single = [waiting];
            let outcomes =
                self.insist(&single).await.unwrap_or_else(|error| vec![Err(store_error(&error).into())]);
            tell(single.into(), outcomes);
        }
    }

    /// Tries until it is done, it fails for good, or it has taken too long.
    async fn insist(&mut self, batch: &[Waiting]) -> Result<Outcomes, sqlx::Error> {
        let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let error = match self.attempt(batch).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(error) => error,
            };
            // Whatever state the connection is in, nobody uses it again.
            if let Some(connection) = self.connection.take() {
                drop(connection.detach());
            }
            if !is_passing(&error) || began.elapsed() + pause > RETRY_FOR {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&mut self, batch: &[Waiting]) -> Result<Outcomes, sqlx::Error> {
        let brain = self.brain;
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(self.pool.acquire().await?),
        };
        connection.execute("BEGIN").await?;
        let mut view = look(connection, brain, batch).await?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for waiting in batch {
            outcomes.push(match judge(&mut view, &waiting.append) {
                Ok(Verdict::Write) => Ok(view.write(&waiting.append)),
                Ok(Verdict::Repeated(first)) => Ok(first),
                Err(refusal) => Err(refusal),
            });
        }
        if view.is_changed() {
            insert(connection, brain, &view).await?;
            connection.execute("COMMIT").await?;
        } else {
            connection.execute("ROLLBACK").await?;
        }
        let head = view.head();
        if !view.written.is_empty() {
            self.tail.join(view.written);
        }
        raise(&self.head, head);
        self.told.send_replace(head);
        Ok(outcomes)
    }
}

/// Publishes a head, unless a later one is published already.
pub(super) fn raise(published: &watch::Sender<Position>, head: Position) {
    published.send_if_modified(|published| {
        let later = head > *published;
        *published = head.max(*published);
        later
    });
}

/// Takes the log's lock, and learns what the batch must know.
async fn look(connection: &mut PgConnection, brain: Uuid, batch: &[Waiting]) -> Result<View, sqlx::Error> {
    let appends = || batch.iter().map(|waiting| &waiting.append);
    let entries = || appends().flat_map(|append| &append.streams);
    let streams: HashSet<&Arc<str>> = entries().map(|entry| &entry.stream).collect();
    let streams: Vec<&Arc<str>> = streams.into_iter().collect();
    let sources: HashSet<&Arc<str>> =
        appends().filter_map(|append| append.tracking.as_ref()).map(|tracking| &tracking.source).collect();
    let sources: Vec<&Arc<str>> = sources.into_iter().collect();
    let ids: Vec<Uuid> = entries().flat_map(|entry| &entry.events).map(|event| event.id).collect();
    let row =
        sqlx::query("SELECT head, recorded_at, revisions, taken, tracked FROM cairn.begin_append($1, $2, $3, $4)")
            .bind(brain.to_string())
            .bind(streams.iter().map(|name| &***name).collect::<Vec<&str>>())
            .bind(ids)
            .bind(sources.iter().map(|name| &***name).collect::<Vec<&str>>())
            .fetch_one(&mut *connection)
            .await?;
    let head: Option<i64> = row.try_get(0)?;
    let recorded_at: Option<DateTime<Utc>> = row.try_get(1)?;
    // The row was made when the store was opened; only an operator can have removed it.
    let (Some(head), Some(recorded_at)) = (head, recorded_at) else { return Err(sqlx::Error::RowNotFound) };
    let revisions: Option<Vec<Option<i64>>> = row.try_get(2)?;
    let taken: Option<Vec<Uuid>> = row.try_get(3)?;
    let tracked: Option<Vec<Option<i64>>> = row.try_get(4)?;
    let existing = match taken {
        Some(taken) => events_by_id(connection, brain, &taken).await?,
        None => Vec::new(),
    };
    let revisions = by_name(streams, revisions);
    Ok(View::new(brain, head.cast_unsigned(), recorded_at, revisions, by_name(sources, tracked), existing))
}

fn by_name(names: Vec<&Arc<str>>, numbers: Option<Vec<Option<i64>>>) -> HashMap<Arc<str>, Option<u64>> {
    let numbers = numbers.unwrap_or_default().into_iter().map(|number| number.map(i64::cast_unsigned));
    names.into_iter().cloned().zip(numbers).collect()
}

/// Writes what the view holds, in one statement.
async fn insert(connection: &mut PgConnection, brain: Uuid, view: &View) -> Result<(), sqlx::Error> {
    let events = &view.written;
    let column = |of: fn(&crate::RecordedEvent) -> u64| -> Vec<i64> {
        events.iter().map(|event| of(event).cast_signed()).collect()
    };
    let (sources, positions): (Vec<&str>, Vec<i64>) =
        view.moved.iter().map(|(source, position)| (&**source, position.cast_signed())).unzip();
    sqlx::query(
        "WITH written AS (
             INSERT INTO cairn.events
                 (brain, position, stream, revision, id, type, schema_version, recorded_at, data, metadata)
             SELECT $1, e.position, e.stream, e.revision, e.id, e.type, e.schema_version, $2, e.data, e.metadata
             FROM unnest($3::bigint[], $4::text[], $5::bigint[], $6::uuid[], $7::text[], $8::integer[], $9::bytea[],
                 $10::bytea[]) AS e(position, stream, revision, id, type, schema_version, data, metadata)
         ), moved AS (
             INSERT INTO cairn.tracking (brain, source, position)
             SELECT $1, t.source, t.position FROM unnest($11::text[], $12::bigint[]) AS t(source, position)
             ON CONFLICT (brain, source) DO UPDATE SET position = excluded.position
         )
         UPDATE cairn.logs SET head = $13, recorded_at = $2 WHERE brain = $1",
    )
    .bind(brain)
    .bind(view.now())
    .bind(column(|event| event.position.0))
    .bind(events.iter().map(|event| &*event.stream).collect::<Vec<&str>>())
    .bind(column(|event| event.revision.0))
    .bind(events.iter().map(|event| event.id).collect::<Vec<Uuid>>())
    .bind(events.iter().map(|event| &*event.event_type).collect::<Vec<&str>>())
    .bind(events.iter().map(|event| i32::from(event.schema_version)).collect::<Vec<i32>>())
    .bind(events.iter().map(|event| &event.data[..]).collect::<Vec<&[u8]>>())
    .bind(events.iter().map(|event| &event.metadata[..]).collect::<Vec<&[u8]>>())
    .bind(sources)
    .bind(positions)
    .bind(view.head().0.cast_signed())
    .execute(connection)
    .await?;
    Ok(())
}

fn tell(batch: Vec<Waiting>, outcomes: Outcomes) {
    for (waiting, outcome) in batch.into_iter().zip(outcomes) {
        // Whoever has gone does not want to know.
        let _ = waiting.reply.send(outcome);
    }
}

fn size(append: &NewAppend) -> usize {
    let events = append.streams.iter().flat_map(|entry| &entry.events);
    events.map(|event| event.data.len() + event.metadata.len()).sum()
}

/// Saves or deletes a snapshot, beside the appends.
pub(super) async fn save_snapshot(
    pool: &PgPool,
    brain: Uuid,
    stream: &str,
    snapshot: Option<Snapshot>,
) -> Result<(), StoreError> {
    let work = async {
        let mut transaction = begin(pool, brain).await?;
        let query = match &snapshot {
            Some(snapshot) => sqlx::query(
                "INSERT INTO cairn.snapshots (brain, stream, revision, format, data) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (brain, stream) DO UPDATE SET revision = $3, format = $4, data = $5",
            )
            .bind(brain)
            .bind(stream)
            .bind(snapshot.revision.0.cast_signed())
            .bind(i64::from(snapshot.format))
            .bind(&snapshot.data[..]),
            None => sqlx::query("DELETE FROM cairn.snapshots WHERE brain = $1 AND stream = $2")
                .bind(brain)
                .bind(stream),
        };
        query.execute(&mut *transaction).await?;
        transaction.commit().await
    };
    work.await.map_err(|error| store_error(&error))
}
