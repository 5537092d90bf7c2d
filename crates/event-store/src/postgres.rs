//! The log in PostgreSQL: for a node whose database is a server's, and for several nodes on one log.
//!
//! One task collects the appends that wait and writes them in one transaction. It holds the lock of the brain's row in
//! `cairn.logs` until the commit, so positions are without gaps and become visible in their order, whoever else appends
//! from another process. See `docs/decisions/0010-postgres-event-log.md`.

pub(crate) mod failure;
mod follow;
mod migrate;
mod reader;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgPool, Postgres, Transaction};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use failure::store_error;
pub use migrate::{MigrateError, migrate};
pub use writer::{COMMIT_APPENDS, COMMIT_BYTES, QUEUED_APPENDS, RETRY_FOR};

use crate::admission::check_limits;
use crate::event::{Appended, Direction, Filter, NewAppend, Page, Position, RecordedEvent, Revision, Snapshot};
use crate::port::{AppendError, EventStore, StoreError};
use crate::sqlite::failure::closed;
use crate::tail::Tail;
use writer::{Job, Writer};

/// How long a connection is waited for: a server that restarts is back by then.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// For how long after its last use a connection is taken to be alive without asking it.
const TRUSTED_FOR: Duration = Duration::from_millis(500);
/// How long a transaction may be left open without a statement before the server ends it. A client that has vanished
/// holds a lock no longer.
const IDLE_IN_TRANSACTION: &str = "10s";

/// The log of one brain in a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresStore {
    pool: PgPool,
    brain: Uuid,
    queue: mpsc::Sender<Job>,
    head: watch::Receiver<Position>,
    tail: Arc<Tail>,
    ended: CancellationToken,
    writer: std::sync::Mutex<Option<JoinHandle<()>>>,
}

/// Connects to a database, with at most so many connections at once.
///
/// # Errors
/// [`StoreError::Unavailable`] where the URL cannot be understood or the server does not answer. The message never
/// holds the password.
pub async fn connect(url: &str, connections: u32) -> Result<PgPool, StoreError> {
    let options: PgConnectOptions = url.parse().map_err(|error| store_error(&error))?;
    let options =
        options.application_name("cairn").options([("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION)]);
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // Asking a connection first is a round trip. One that was used just now is there.
        .test_before_acquire(false)
        .before_acquire(|connection, seen| {
            Box::pin(async move {
                if seen.idle_for > TRUSTED_FOR {
                    connection.ping().await?;
                }
                Ok(true)
            })
        });
    pool.connect_with(options).await.map_err(|error| store_error(&error))
}

impl PostgresStore {
    /// Opens the log of a brain, or begins it. The database must have been [migrated](migrate()).
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer.
    pub async fn open(pool: PgPool, brain: Uuid) -> Result<Self, StoreError> {
        let head = reader::begin_log(&pool, brain).await?;
        let (publish, head) = watch::channel(head);
        let publish = Arc::new(publish);
        let (queue, jobs) = mpsc::channel(QUEUED_APPENDS);
        let (tail, ended) = (Arc::new(Tail::default()), CancellationToken::new());
        let told = follow::start(pool.clone(), brain, Arc::clone(&publish), ended.clone());
        let writer = Writer::new(pool.clone(), brain, Arc::clone(&tail), publish, told);
        let writer = std::sync::Mutex::new(Some(tokio::spawn(writer.run(jobs))));
        Ok(Self { pool, brain, queue, head, tail, ended, writer })
    }

    /// Finishes the appends that wait and refuses later ones. Calling it again does nothing.
    pub async fn close(&self) {
        // A queue that is closed already refuses the job, which is what is wanted.
        let _ = self.queue.send(Job::Close).await;
        let writer = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // Its panic, if any, has been reported by the panic hook.
            let _ = writer.await;
        }
        self.ended.cancel();
    }

    /// The connections it reads with.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The brain whose log it is.
    pub fn brain(&self) -> Uuid {
        self.brain
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

/// Begins a transaction that may see and write what is one brain's, and nothing else.
///
/// # Errors
/// What the database said.
pub async fn begin(pool: &PgPool, brain: Uuid) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut transaction = begin_whole(pool, None).await?;
    set_tenant(&mut transaction, brain).await?;
    Ok(transaction)
}

/// Begins one that only reads, and sees one moment throughout.
pub(crate) async fn begin_reading(
    pool: &PgPool,
    brain: Uuid,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut transaction = begin_whole(pool, Some("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")).await?;
    set_tenant(&mut transaction, brain).await?;
    Ok(transaction)
}

/// Begins a transaction, to the end also where the caller goes away meanwhile: of one that was cut short at its beginning the
/// pool does not know that it is open, and would give its connection to the next.
async fn begin_whole(
    pool: &PgPool,
    statement: Option<&'static str>,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    let beginning = tokio::spawn(async move {
        match statement {
            Some(statement) => pool.begin_with(statement).await,
            None => pool.begin().await,
        }
    });
    // Only a runtime that ends drops the task.
    beginning.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

async fn set_tenant(transaction: &mut Transaction<'static, Postgres>, brain: Uuid) -> Result<(), sqlx::Error> {
    let set = sqlx::query("SELECT set_config('cairn.tenant', $1, true)").bind(brain.to_string());
    set.execute(&mut **transaction).await?;
    Ok(())
}

#[async_trait]
impl EventStore for PostgresStore {
    async fn append(&self, append: NewAppend) -> Result<Appended, AppendError> {
        check_limits(&append)?;
        let (reply, done) = oneshot::channel();
        self.queue.send(Job::Append { append, reply }).await.map_err(|_| closed())?;
        // The writer drops a reply only when it ends on the way.
        done.await.map_err(|_| closed())?
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        filter: &Filter,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let head = *self.head.borrow();
        // What another process has appended is not in the tail.
        if direction == Direction::Forwards
            && self.tail.newest() == Some(head)
            && let Some(page) = self.tail.page(from, head, filter, limit)
        {
            return Ok(page);
        }
        reader::page(&self.pool, self.brain, from, direction, filter, limit).await
    }

    async fn read_stream(
        &self,
        stream: &str,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        reader::stream(&self.pool, self.brain, stream, from, direction, limit).await
    }

    async fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        reader::event(&self.pool, self.brain, id).await
    }

    async fn position_at(&self, time: DateTime<Utc>) -> Result<Position, StoreError> {
        reader::position_at(&self.pool, self.brain, time).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.head.clone()
    }

    async fn tracking(&self, source: &str) -> Result<Option<u64>, StoreError> {
        reader::tracking(&self.pool, self.brain, source).await
    }

    async fn load_snapshot(&self, stream: &str) -> Result<Option<Snapshot>, StoreError> {
        reader::snapshot(&self.pool, self.brain, stream).await
    }

    async fn save_snapshot(&self, stream: &str, snapshot: Option<Snapshot>) -> Result<(), StoreError> {
        writer::save_snapshot(&self.pool, self.brain, stream, snapshot).await
    }
}
