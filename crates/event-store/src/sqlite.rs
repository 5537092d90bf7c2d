//! The log in a SQLite file: the default of a node.
//!
//! One thread owns the connection that writes. It takes every append that waits, writes them in one transaction and
//! tells the callers after the commit's fsync. Reads run beside it on connections of their own and see the last
//! commit. See `docs/decisions/0002-sqlite-event-log.md`.

mod checkpoint;
pub(crate) mod copy;
pub(crate) mod failure;
mod ledger;
mod names;
mod reader;
mod recent;
mod replica;
mod row;
pub(crate) mod schema;
mod verify;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

pub use reader::READ_CONNECTIONS;
pub use replica::TrackingState;
pub use schema::OpenError;
pub use writer::{COMMIT_APPENDS, COMMIT_BYTES, QUEUED_APPENDS};

use crate::admission::check_limits;
use crate::event::{Appended, Direction, Filter, NewAppend, Page, Position, RecordedEvent, Revision, Snapshot};
use crate::port::{AppendError, EventStore, StoreError};
use crate::tail::Tail;
use crate::verify::{Verification, VerifyProgress};
use failure::closed;
use reader::Readers;
use recent::Recent;
use schema::Kind;
use writer::{Job, Writer};

/// An event log in a SQLite file.
///
/// Dropping it finishes the appends that wait, which takes as long as their commit; [`close`](Self::close) does the
/// same without holding the thread up.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    queue: mpsc::Sender<Job>,
    head: watch::Receiver<Position>,
    tail: Arc<Tail>,
    readers: Arc<Readers>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteStore {
    /// Opens the log of a brain, or begins it where there is no file yet. A file `<path>.lock` beside it keeps
    /// everybody else out until this store is closed or dropped.
    ///
    /// # Errors
    /// See [`OpenError`]. A file that is refused is left as it is. So is one whose newest events are damaged, because
    /// nothing could be appended to it safely: [`verify_file`](Self::verify_file) tells where.
    pub fn open(path: impl AsRef<Path>, brain: Uuid) -> Result<Self, OpenError> {
        Self::open_kind(path.as_ref(), brain, Kind::Log)
    }

    fn open_kind(path: &Path, brain: Uuid, kind: Kind) -> Result<Self, OpenError> {
        let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        let lock = schema::lock(path)?;
        let connection = schema::open_writer(path, brain, kind)?;
        let copier = schema::open_checkpointer(path).map_err(sqlite)?;
        let (tail, recent) = (Arc::new(Tail::default()), Arc::new(Recent::default()));
        let (writer, head) = Writer::new(connection, brain, tail.clone(), recent.clone(), lock)
            .map_err(|source| OpenError::Store { path: path.to_owned(), source })?;
        let (queue, jobs) = mpsc::channel(QUEUED_APPENDS);
        let thread = std::thread::Builder::new()
            .name("event-log-writer".into())
            .spawn(move || writer.run(jobs, copier))
            .map_err(io)?;
        let readers = Arc::new(Readers::new(path.to_owned(), brain, recent, head.clone()));
        Ok(Self { path: path.to_owned(), queue, head, tail, readers, writer: Mutex::new(Some(thread)) })
    }

    /// The log's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Finishes the appends that wait, refuses later ones, and leaves the file complete in itself. Calling it again
    /// does nothing.
    pub async fn close(&self) {
        // A queue that is closed already refuses the job, which is what is wanted.
        let _ = self.queue.send(Job::Close).await;
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.readers.close();
        if let Some(writer) = writer {
            // Its panic, if any, has been reported by the panic hook.
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }

    /// Looks through the whole log: positions and revisions without gaps, time that never runs back, every checksum,
    /// and the engine's own check of its pages. It reads beside the writer, up to the last event there was when it
    /// began. While the engine's check runs, the write-ahead log grows and cannot start over.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where it could not be finished. Damage is an answer, not an error.
    pub async fn verify(
        &self,
        progress: impl FnMut(VerifyProgress) + Send + 'static,
    ) -> Result<Verification, StoreError> {
        self.readers.run(move |reader| verify::verify(reader, progress)).await
    }

    /// Does what [`verify`](Self::verify) does for a log that cannot be opened any more, or that another process has
    /// open. It blocks for as long as it takes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where there is no such file or it could not be finished.
    pub fn verify_file(
        path: impl AsRef<Path>,
        progress: impl FnMut(VerifyProgress),
    ) -> Result<Verification, StoreError> {
        verify::verify_file(path.as_ref(), progress)
    }

    /// Refuses to grow beyond a number of pages, as a full disk would.
    #[cfg(any(test, feature = "test-util"))]
    pub async fn limit_pages(&self, pages: u32) {
        let (reply, done) = oneshot::channel();
        if self.queue.send(Job::LimitPages { pages, reply }).await.is_ok() {
            let _ = done.await;
        }
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel(1);
        // Dropping the only sender is what tells the writer to end.
        drop(std::mem::replace(&mut self.queue, closed));
        self.readers.close();
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl EventStore for SqliteStore {
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
        if direction == Direction::Forwards
            && let Some(page) = self.tail.page(from, head, filter, limit)
        {
            return Ok(page);
        }
        let filter = filter.clone();
        self.readers.run(move |reader| reader.page(from, direction, &filter, limit)).await
    }

    async fn read_stream(
        &self,
        stream: &str,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let stream = stream.to_owned();
        self.readers.run(move |reader| reader.stream(&stream, from, direction, limit)).await
    }

    async fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        self.readers.run(move |reader| reader.event(id)).await
    }

    async fn position_at(&self, time: DateTime<Utc>) -> Result<Position, StoreError> {
        self.readers.run(move |reader| reader.position_at(time.timestamp_micros())).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.head.clone()
    }

    async fn tracking(&self, source: &str) -> Result<Option<u64>, StoreError> {
        let source = source.to_owned();
        self.readers.run(move |reader| reader.tracking(&source)).await
    }

    async fn load_snapshot(&self, stream: &str) -> Result<Option<Snapshot>, StoreError> {
        let stream = stream.to_owned();
        self.readers.run(move |reader| reader.snapshot(&stream)).await
    }

    async fn save_snapshot(&self, stream: &str, snapshot: Option<Snapshot>) -> Result<(), StoreError> {
        let (reply, done) = oneshot::channel();
        let job = Job::Snapshot { stream: stream.to_owned(), snapshot, reply };
        self.queue.send(job).await.map_err(|_| closed())?;
        done.await.map_err(|_| closed())?
    }
}
