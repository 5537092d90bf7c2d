//! The log in KurrentDB: for those who run a cluster of it.
//!
//! One stream there holds the log of a brain, in order. A node appends to it at the exact revision that it knows, and keeps
//! a copy in a SQLite file, from which everything is read. See `docs/decisions/0014-kurrentdb-event-log.md`.

mod follow;
mod keeper;
mod link;
mod record;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use keeper::{BATCH_APPENDS, BATCH_BYTES, QUEUED_APPENDS, RETRY_FOR};
pub use link::{InvalidServer, Server};

use crate::admission::check_limits;
use crate::event::{Appended, Direction, Filter, NewAppend, Page, Position, RecordedEvent, Revision, Snapshot};
use crate::port::{AppendError, EventStore, StoreError};
use crate::sqlite::copy::{Copied, Mark};
use crate::sqlite::failure::{closed, unavailable};
use crate::sqlite::{OpenError, SqliteStore};
use crate::verify::{Damage, Verification, VerifyProgress};
use keeper::{Job, Keeper, News, QUEUED_RECORDS, contradiction};
use link::{Link, LinkError};
use record::{Begun, Content, FORMAT, Outgoing, Record};

/// The pause between two tries at the start.
const START_PAUSE: Duration = Duration::from_millis(500);

/// The log of one brain in KurrentDB, and this node's copy of it.
#[derive(Debug)]
pub struct KurrentStore {
    server: Server,
    brain: Uuid,
    local: Arc<SqliteStore>,
    queue: mpsc::Sender<Job>,
    ended: CancellationToken,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// Why a log in KurrentDB could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum KurrentError {
    /// The copy cannot be used.
    #[error("the copy of the log cannot be opened; stopped, it may be deleted, and is read again from KurrentDB")]
    Copy(#[from] OpenError),
    /// The server does not answer, or contradicts the copy.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stream is another brain's.
    #[error("{stream} is the log of brain {found}, not of {expected}")]
    OtherBrain {
        /// The stream.
        stream: String,
        /// Whose it is.
        found: Uuid,
        /// Whose it was taken for.
        expected: Uuid,
    },
    /// The log was written by a newer version.
    #[error("{stream} has format {found}, this version knows {FORMAT}; use the newer version that wrote it")]
    Newer {
        /// The stream.
        stream: String,
        /// Its format.
        found: u32,
    },
    /// The log is sealed with keys that are not here.
    #[error(
        "what {stream} holds is sealed with other keys than this node has; nodes share a brain when all of them have their \
         keys in one PostgreSQL database (DATABASE_URL), and a node alone needs the log/keys.db that it began with"
    )]
    OtherKeys {
        /// The stream.
        stream: String,
    },
}

impl KurrentStore {
    /// Opens the log of a brain, or begins it; returns when the copy in this file has everything. `keys` is what the
    /// keyring that seals the log is known by.
    ///
    /// # Errors
    /// See [`KurrentError`]. Nothing is written where the server and the copy contradict each other.
    pub async fn open(
        server: Server,
        copy: impl AsRef<Path>,
        brain: Uuid,
        keys: &str,
    ) -> Result<Self, KurrentError> {
        let local = Arc::new(SqliteStore::open_copy(copy.as_ref(), brain)?);
        let begun = Begun { format: FORMAT, brain, keys: keys.to_owned() };
        let (queue, jobs) = mpsc::channel(QUEUED_APPENDS);
        let (tell, news) = mpsc::channel::<News>(QUEUED_RECORDS);
        let (report, reported) = oneshot::channel();
        let (link, copy) = (Link::new(server.clone(), brain), Arc::clone(&local));
        let keeper = on_a_thread("kurrentdb-append", async move {
            let opened = keeper(link, copy, begun, news).await;
            let (keeper, report_of_it) = match opened {
                Ok(keeper) => {
                    let marked = keeper.marked();
                    (Some(keeper), Ok(marked))
                }
                Err(error) => (None, Err(error)),
            };
            // Whoever opens it may have gone.
            if let (Ok(()), Some(keeper)) = (report.send(report_of_it), keeper) {
                keeper.run(jobs).await;
            }
        })?;
        let marked = reported.await.map_err(|_| closed())??;
        let ended = CancellationToken::new();
        let link = Link::new(server.clone(), brain);
        on_a_thread("kurrentdb-follow", follow::follow(link, marked, tell, ended.clone()))?;
        Ok(Self { server, brain, local, queue, ended, keeper: Mutex::new(Some(keeper)) })
    }

    /// Finishes the appends that wait and refuses later ones. Calling it again does nothing.
    pub async fn close(&self) {
        // A queue that is closed already refuses the job, which is what is wanted.
        let _ = self.queue.send(Job::Close).await;
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            // Its panic, if any, has been reported by the panic hook.
            let _ = tokio::task::spawn_blocking(move || keeper.join()).await;
        }
        self.ended.cancel();
        self.local.close().await;
    }

    /// Compares the copy with the server event by event, then looks through the copy as a log in a file is.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where it could not be finished. Damage is an answer, not an error.
    pub async fn verify(
        &self,
        mut progress: impl FnMut(VerifyProgress) + Send + 'static,
    ) -> Result<Verification, StoreError> {
        let total = self.local.head().borrow().0;
        let halfway = |done| VerifyProgress { events: done / 2, total };
        let compared = self.compare(total, |events| progress(halfway(events))).await?;
        if compared.damage.is_some() {
            return Ok(compared);
        }
        self.local
            .verify(move |local| progress(VerifyProgress { events: (total + local.events) / 2, total }))
            .await
    }

    async fn compare(&self, total: u64, mut progress: impl FnMut(u64)) -> Result<Verification, StoreError> {
        let mut link = Link::new(self.server.clone(), self.brain);
        let (mut from, mut events) = (0, 0);
        let damaged = |events: u64, reason: &str| {
            let damage = Damage { position: Some(Position(events + 1)), reason: reason.to_owned() };
            Ok(Verification { events, damage: Some(damage) })
        };
        while events < total {
            let records = match link.read(from).await {
                Ok(stretch) => stretch.records,
                Err(error @ (LinkError::Foreign(_) | LinkError::Deleted)) => {
                    return damaged(events, &error.to_string());
                }
                Err(error) => return Err(error.store()),
            };
            let Some(last) = records.last() else { return damaged(events, "it is missing in KurrentDB") };
            from = last.mark.revision + 1;
            for (server, copy) in self.beside(&records, events).await? {
                if events == total {
                    break;
                }
                if copy != Some(server) {
                    return damaged(events, "the copy has it otherwise than KurrentDB");
                }
                events += 1;
            }
            progress(events);
        }
        Ok(Verification { events, damage: None })
    }

    /// The events among records of the server, each with what the copy has after so many events.
    async fn beside(
        &self,
        records: &[Record],
        before: u64,
    ) -> Result<Vec<(RecordedEvent, Option<RecordedEvent>)>, StoreError> {
        let mut pairs = Vec::with_capacity(records.len());
        let mut copied = Vec::new().into_iter();
        for record in records {
            let Content::Event { event, .. } = &record.content else { continue };
            let mut copy = copied.next();
            if copy.is_none() {
                let from = Position(before + pairs.len() as u64 + 1);
                copied = self.copied(from, records.len()).await?.into_iter();
                copy = copied.next();
            }
            pairs.push(((**event).clone(), copy));
        }
        Ok(pairs)
    }

    /// Some events of the copy; fewer, or none, where they cannot be read.
    async fn copied(&self, from: Position, count: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        // One event at a time where a page fails, so that the sound ones before the damage are seen.
        for count in [count, 1] {
            match self.read_all(from, Direction::Forwards, &Filter::default(), count).await {
                Ok(page) => return Ok(page.events),
                Err(StoreError::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Vec::new())
    }
}

impl Drop for KurrentStore {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

/// Runs a task on a thread of its own, with all that the client starts for it.
///
/// Its connections live on the runtime that they are made on, so that whatever the client does to its thread, those of the
/// node go on.
fn on_a_thread(name: &str, task: impl Future<Output = ()> + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let failed = |error: std::io::Error| unavailable(format!("the thread {name} could not be started ({error})"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(move || runtime.block_on(task)).map_err(failed)
}

/// A keeper whose copy has everything that the server has.
async fn keeper(
    mut link: Link,
    local: Arc<SqliteStore>,
    begun: Begun,
    news: mpsc::Receiver<News>,
) -> Result<Keeper, KurrentError> {
    let mark = begin(&mut link, &local, begun).await?;
    let mut keeper = Keeper::new(local, link, mark, news);
    keeper.begin().await?;
    Ok(keeper)
}

/// Makes sure that the stream is this brain's, begins it where there is none, and tells how far the copy is.
async fn begin(link: &mut Link, local: &SqliteStore, ours: Begun) -> Result<Mark, KurrentError> {
    let began = Instant::now();
    loop {
        match first_record(link, local, &ours).await? {
            Ok(first) => {
                check(link.stream(), &first, &ours)?;
                if let Some(mark) = local.mark().await? {
                    return Ok(mark);
                }
                let mark = first.mark;
                local.copy(Copied { events: Vec::new(), tracked: Vec::new(), mark }).await?;
                return Ok(mark);
            }
            Err(LinkError::Overtaken) => {}
            Err(LinkError::Lost(_)) if began.elapsed() < RETRY_FOR => tokio::time::sleep(START_PAUSE).await,
            Err(error) => return Err(error.store().into()),
        }
    }
}

/// The first record of the stream, written where there is none.
async fn first_record(
    link: &mut Link,
    local: &SqliteStore,
    ours: &Begun,
) -> Result<Result<Record, LinkError>, StoreError> {
    match link.at(0).await {
        Ok(Some(first)) => return Ok(Ok(first)),
        Ok(None) => {}
        Err(error) => return Ok(Err(error)),
    }
    if let Some(mark) = local.mark().await? {
        return Err(contradiction(link.stream(), mark));
    }
    let first = Outgoing::begun(ours);
    let mark = Mark { revision: 0, id: first.id };
    Ok(link.begin(&first).await.map(|()| Record { mark, content: Content::Begun(ours.clone()) }))
}

fn check(stream: &str, first: &Record, ours: &Begun) -> Result<(), KurrentError> {
    let stream = || stream.to_owned();
    let Content::Begun(begun) = &first.content else {
        let reason = format!("KurrentDB: {} does not begin as a log of Cairn does", stream());
        return Err(StoreError::Corrupt { reason }.into());
    };
    if begun.format > FORMAT {
        return Err(KurrentError::Newer { stream: stream(), found: begun.format });
    }
    if begun.brain != ours.brain {
        return Err(KurrentError::OtherBrain { stream: stream(), found: begun.brain, expected: ours.brain });
    }
    if begun.keys != ours.keys {
        return Err(KurrentError::OtherKeys { stream: stream() });
    }
    Ok(())
}

#[async_trait]
impl EventStore for KurrentStore {
    async fn append(&self, append: NewAppend) -> Result<Appended, AppendError> {
        check_limits(&append)?;
        let (reply, done) = oneshot::channel();
        self.queue.send(Job::Append { append, reply }).await.map_err(|_| closed())?;
        // The keeper drops a reply only when it ends on the way.
        done.await.map_err(|_| closed())?
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        filter: &Filter,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.local.read_all(from, direction, filter, limit).await
    }

    async fn read_stream(
        &self,
        stream: &str,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        self.local.read_stream(stream, from, direction, limit).await
    }

    async fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        self.local.event(id).await
    }

    async fn position_at(&self, time: DateTime<Utc>) -> Result<Position, StoreError> {
        self.local.position_at(time).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.local.head()
    }

    async fn tracking(&self, source: &str) -> Result<Option<u64>, StoreError> {
        self.local.tracking(source).await
    }

    async fn load_snapshot(&self, stream: &str) -> Result<Option<Snapshot>, StoreError> {
        self.local.load_snapshot(stream).await
    }

    async fn save_snapshot(&self, stream: &str, snapshot: Option<Snapshot>) -> Result<(), StoreError> {
        self.local.save_snapshot(stream, snapshot).await
    }
}
