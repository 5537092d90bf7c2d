//! The one thread that writes: it takes everything that waits, and commits it with one fsync.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Error};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::checkpoint::Checkpointer;
use super::copy::Mark;
use super::failure::{store_error, unavailable};
use super::ledger::{Abort, Care, Ledger, Scribe, Written};
use super::names::TypeNames;
use super::recent::Recent;
use crate::event::{Appended, NewAppend, Position, RecordedEvent, Snapshot, Tracking};
use crate::port::{AppendError, StoreError};
use crate::tail::Tail;

/// The appends that may wait for the writer. Further callers wait for a place.
pub const QUEUED_APPENDS: usize = 8_192;
/// The most appends that share one commit.
pub const COMMIT_APPENDS: usize = 4_096;
/// The bytes of data and metadata after which a commit takes no further append.
pub const COMMIT_BYTES: usize = 16 * 1024 * 1024;

/// Enough appends for a commit to be worth its fsync.
const COMPANY: usize = 256;
/// How many times in a row the writer gives way to callers in vain before it begins: a few microseconds where a
/// processor is free, a turn of the scheduler where none is.
const COMPANY_PATIENCE: u32 = 32;

/// How long the writer looks out for the next append before it goes to sleep.
const AWAKE_FOR: Duration = Duration::from_micros(50);

/// Something for the writer to do.
#[derive(Debug)]
pub(super) enum Job {
    Append {
        append: NewAppend,
        reply: oneshot::Sender<Result<Appended, AppendError>>,
    },
    Snapshot {
        stream: String,
        snapshot: Option<Snapshot>,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// Take over what another log holds.
    Copy {
        events: Vec<RecordedEvent>,
        tracked: Vec<Tracking>,
        /// The last record of them, where they come from a server's log.
        mark: Option<Mark>,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// Take nothing more, finish what waits, and end.
    Close,
    /// Refuse to grow beyond a number of pages: what a full disk looks like.
    #[cfg(any(test, feature = "test-util"))]
    LimitPages {
        pages: u32,
        reply: oneshot::Sender<()>,
    },
}

/// A job that has been done, but is not committed yet.
enum Outcome {
    Append(Result<Appended, AppendError>),
    /// It is done, and there is nothing to tell.
    Done,
}

/// The writer's state.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    brain: Uuid,
    ledger: Ledger,
    types: TypeNames,
    tail: Arc<Tail>,
    head: watch::Sender<Position>,
    recent: Arc<Recent>,
    /// How much of the index by stream waited when writing it last failed.
    index_tried_at: usize,
    /// Whether a failed commit or rollback has left the ledger in doubt.
    in_doubt: bool,
    /// Held for as long as anything may be written.
    _lock: File,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        brain: Uuid,
        tail: Arc<Tail>,
        recent: Arc<Recent>,
        lock: File,
    ) -> Result<(Self, watch::Receiver<Position>), StoreError> {
        let ledger = Ledger::load(&connection, brain, recent.clone())?;
        let (head, seen) = watch::channel(ledger.head());
        let types = TypeNames::default();
        Ok((
            Self {
                connection,
                brain,
                ledger,
                types,
                tail,
                head,
                recent,
                index_tried_at: 0,
                in_doubt: false,
                _lock: lock,
            },
            seen,
        ))
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>, copier: Connection) {
        let mut checkpointer = match Checkpointer::start(&self.connection, copier) {
            Ok(checkpointer) => checkpointer,
            Err(error) => {
                tracing::error!(%error, "the event log's checkpoint thread did not start; the log is closed");
                return;
            }
        };
        let (mut jobs, mut done) = (Vec::new(), 0);
        while let Some(first) = next(&mut queue) {
            await_company(&queue, done);
            gather(first, &mut queue, &mut jobs);
            done = jobs.len();
            self.perform(&mut jobs);
            self.write_index();
            checkpointer.committed(&self.connection);
        }
        checkpointer.stop(&self.connection);
    }

    fn perform(&mut self, jobs: &mut Vec<Job>) {
        match self.attempt(jobs, Care::Hopeful) {
            Ok((written, outcomes)) => self.commit(jobs.drain(..), written, outcomes),
            Err(Abort::IdExists) => self.perform_carefully(jobs),
            // One of them may be the cause: let it not spoil the others.
            Err(Abort::Broken(_)) if jobs.len() > 1 => self.perform_singly(jobs),
            Err(Abort::Broken(error)) => refuse(jobs.drain(..), &error),
        }
    }

    fn perform_carefully(&mut self, jobs: &mut Vec<Job>) {
        match self.attempt(jobs, Care::Careful) {
            Ok((written, outcomes)) => self.commit(jobs.drain(..), written, outcomes),
            Err(Abort::Broken(error)) if jobs.len() == 1 => refuse(jobs.drain(..), &error),
            Err(Abort::Broken(_) | Abort::IdExists) => self.perform_singly(jobs),
        }
    }

    fn perform_singly(&mut self, jobs: &mut Vec<Job>) {
        for job in jobs.drain(..) {
            let single = std::slice::from_ref(&job);
            match self.attempt(single, Care::Careful) {
                Ok((written, outcomes)) => self.commit(std::iter::once(job), written, outcomes),
                Err(Abort::Broken(error)) => refuse(std::iter::once(job), &error),
                Err(Abort::IdExists) => {
                    // Its ids were looked up within the same transaction, so the index contradicts the table.
                    let reason =
                        "the index of events contradicts the events; run `cairn verify`, then restore a backup";
                    refuse(std::iter::once(job), &StoreError::Corrupt { reason: reason.into() });
                }
            }
        }
    }

    /// Does the jobs in a transaction that is left open; rolls it back on failure.
    fn attempt(&mut self, jobs: &[Job], care: Care) -> Result<(Written, Vec<Outcome>), Abort> {
        if self.in_doubt {
            self.recover().map_err(Abort::Broken)?;
        }
        let done = self.connection.execute_batch("BEGIN IMMEDIATE").map_err(Abort::from).and_then(|()| {
            let mut scribe = Scribe::new(&self.connection, &mut self.ledger, &self.types)?;
            let outcomes = jobs.iter().map(|job| perform_one(&mut scribe, job, care)).collect::<Result<_, _>>()?;
            Ok((scribe.finish(), outcomes))
        });
        if done.is_err() {
            self.roll_back();
        }
        done
    }

    /// Ends the transaction; only then is anybody told anything, because a refusal, too, may rest on what is written
    /// by another append of the same transaction.
    fn commit(&mut self, jobs: impl Iterator<Item = Job>, written: Written, outcomes: Vec<Outcome>) {
        if let Err(error) = self.connection.execute_batch("COMMIT") {
            tracing::error!(%error, "a commit of the event log failed");
            self.roll_back();
            // Whether it reached the disk is settled by looking, before the next append.
            self.in_doubt = true;
            return refuse(jobs, &commit_failed(&error));
        }
        let events = self.ledger.accept(written);
        if !events.is_empty() {
            // The tail first: who sees the new head finds its events there.
            self.tail.extend(events);
            self.head.send_replace(self.ledger.head());
        }
        for (job, outcome) in jobs.zip(outcomes) {
            // A caller that has gone is no reason to stop; its append stands.
            match (job, outcome) {
                (Job::Append { reply, .. }, Outcome::Append(result)) => drop(reply.send(result)),
                (Job::Snapshot { reply, .. } | Job::Copy { reply, .. }, Outcome::Done) => drop(reply.send(Ok(()))),
                (Job::Append { .. } | Job::Snapshot { .. } | Job::Copy { .. } | Job::Close, _) => {}
                #[cfg(any(test, feature = "test-util"))]
                (Job::LimitPages { reply, .. }, _) => drop(reply.send(())),
            }
        }
    }

    fn write_index(&mut self) {
        if !self.in_doubt && self.ledger.index_is_due(self.index_tried_at) {
            self.index_tried_at = self.ledger.write_index(&self.connection);
            self.roll_back();
        }
    }

    fn roll_back(&mut self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction of the event log could not be rolled back");
            self.in_doubt = true;
        }
    }

    /// Learns anew what the log holds.
    fn recover(&mut self) -> Result<(), StoreError> {
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK").map_err(|error| store_error(&error))?;
        }
        self.ledger = Ledger::load(&self.connection, self.brain, self.recent.clone())?;
        if self.ledger.head() != *self.head.borrow() {
            // The commit went through after all. Its events are not in the tail, so the tail starts over.
            self.tail.clear();
            self.head.send_replace(self.ledger.head());
        }
        self.in_doubt = false;
        Ok(())
    }
}

/// The next job. A caller who appends one event after the other comes back within microseconds of the answer: for so
/// long the writer stays awake, because waking it takes longer than that.
fn next(queue: &mut mpsc::Receiver<Job>) -> Option<Job> {
    let asleep_at = Instant::now() + AWAKE_FOR;
    while Instant::now() < asleep_at {
        match queue.try_recv() {
            Ok(job) => return Some(job),
            Err(mpsc::error::TryRecvError::Empty) => std::thread::yield_now(),
            Err(mpsc::error::TryRecvError::Disconnected) => return None,
        }
    }
    queue.blocking_recv()
}

/// Gives way to the callers of the last commit as long as they keep coming back. Without it, the first of a hundred
/// that return would be committed alone, and the others would wait for that. Of a thousand not all are waited for: the
/// rest come in while these are written. No clock is involved, and a caller who was alone is not kept.
fn await_company(queue: &mpsc::Receiver<Job>, done: usize) {
    let expected = done.min(COMPANY);
    let (mut waiting, mut idle) = (queue.len(), 0);
    while waiting + 1 < expected && idle < COMPANY_PATIENCE {
        std::thread::yield_now();
        idle = if queue.len() > waiting { 0 } else { idle + 1 };
        waiting = queue.len();
    }
}

/// Takes the first job and whatever else waits, up to the limits of a commit.
fn gather(first: Job, queue: &mut mpsc::Receiver<Job>, jobs: &mut Vec<Job>) {
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(job) = next {
        if matches!(job, Job::Close) {
            queue.close();
        } else {
            bytes += job.bytes();
            jobs.push(job);
        }
        next = if jobs.len() < COMMIT_APPENDS && bytes < COMMIT_BYTES { queue.try_recv().ok() } else { None };
    }
}

fn perform_one(scribe: &mut Scribe<'_>, job: &Job, care: Care) -> Result<Outcome, Abort> {
    match job {
        Job::Append { append, .. } => scribe.append(append, care).map(Outcome::Append),
        Job::Snapshot { stream, snapshot, .. } => {
            scribe.snapshot(stream, snapshot.as_ref())?;
            Ok(Outcome::Done)
        }
        Job::Copy { events, tracked, mark, .. } => {
            events.iter().try_for_each(|event| scribe.copy(event))?;
            tracked.iter().try_for_each(|tracking| scribe.track(tracking))?;
            mark.map_or(Ok(()), |mark| scribe.note(mark))?;
            Ok(Outcome::Done)
        }
        Job::Close => Ok(Outcome::Done),
        #[cfg(any(test, feature = "test-util"))]
        Job::LimitPages { pages, .. } => {
            scribe.limit_pages(*pages)?;
            Ok(Outcome::Done)
        }
    }
}

fn refuse(jobs: impl Iterator<Item = Job>, error: &StoreError) {
    for job in jobs {
        match job {
            Job::Append { reply, .. } => drop(reply.send(Err(error.clone().into()))),
            Job::Snapshot { reply, .. } | Job::Copy { reply, .. } => drop(reply.send(Err(error.clone()))),
            Job::Close => {}
            #[cfg(any(test, feature = "test-util"))]
            Job::LimitPages { reply, .. } => drop(reply.send(())),
        }
    }
}

fn commit_failed(error: &Error) -> StoreError {
    match store_error(error) {
        StoreError::Unavailable { reason } => unavailable(format!(
            "{reason}; whether this append was made is not known: repeating it with the same event ids tells"
        )),
        corrupt @ StoreError::Corrupt { .. } => corrupt,
    }
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { append, .. } => append
                .streams
                .iter()
                .flat_map(|entry| &entry.events)
                .map(|event| event.data.len() + event.metadata.len())
                .sum(),
            Self::Snapshot { snapshot, .. } => snapshot.as_ref().map_or(0, |snapshot| snapshot.data.len()),
            Self::Copy { events, .. } => events.iter().map(RecordedEvent::size).sum(),
            Self::Close => 0,
            #[cfg(any(test, feature = "test-util"))]
            Self::LimitPages { .. } => 0,
        }
    }
}
