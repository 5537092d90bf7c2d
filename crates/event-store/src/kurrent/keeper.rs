//! The one task that appends to the server and fills the copy.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::link::{Link, LinkError};
use super::record::{Content, Outgoing, Record};
use crate::admission::{Verdict, judge};
use crate::event::{Appended, NewAppend};
use crate::port::{AppendError, StoreError};
use crate::sqlite::SqliteStore;
use crate::sqlite::copy::{Copied, Mark, Wanted};
use crate::sqlite::failure::{corrupt, unavailable};

/// The appends that may wait. Further callers wait for a place.
pub const QUEUED_APPENDS: usize = 8_192;
/// The most appends that are sent together.
pub const BATCH_APPENDS: usize = 1_024;
/// The most bytes that are sent together, unless a single append is larger: servers allow 1 MiB unless told otherwise.
pub const BATCH_BYTES: usize = 900_000;
/// How long is tried again where the server does not answer or others are quicker, before the callers are told.
pub const RETRY_FOR: Duration = Duration::from_secs(8);
/// The records of a subscription that wait to be taken in. Then the subscription waits.
pub(super) const QUEUED_RECORDS: usize = 128;
/// The first pause between two tries; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// About what the metadata of a record takes besides what is nested in it, and its framing.
const ENVELOPE_BYTES: usize = 400;
/// How long the subscription is given to bring what others have appended, before the server is asked for it.
const HEARD_WITHIN: Duration = Duration::from_millis(20);
/// How often a long catch-up says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Something for the keeper to do.
#[derive(Debug)]
pub(super) enum Job {
    Append {
        append: NewAppend,
        reply: oneshot::Sender<Result<Appended, AppendError>>,
    },
    /// Take nothing more, finish what waits, and end.
    Close,
}

/// What a subscription tells.
#[derive(Debug)]
pub(super) enum News {
    Record(Record),
    /// It was interrupted: the server may have become another one.
    Interrupted,
}

/// An append that waits, and who waits for it.
struct Waiting {
    append: NewAppend,
    reply: oneshot::Sender<Result<Appended, AppendError>>,
}

type Outcomes = Vec<Result<Appended, AppendError>>;

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
enum Setback {
    /// Trying again may help.
    #[error(transparent)]
    Passing(StoreError),
    /// The server takes no append of this size.
    #[error("KurrentDB takes nothing as large as this")]
    TooLarge,
    /// Trying again will not help.
    #[error(transparent)]
    Lasting(StoreError),
}

impl From<StoreError> for Setback {
    fn from(error: StoreError) -> Self {
        Self::Lasting(error)
    }
}

pub(super) struct Keeper {
    local: Arc<SqliteStore>,
    link: Link,
    mark: Mark,
    /// The last record of the copy, for who subscribes.
    marked: watch::Sender<u64>,
    /// Records of an append of which the rest is still to come.
    partial: Vec<Record>,
    /// Whether the server is known to be the one that the copy was made from.
    confirmed: bool,
    /// What the subscription brings.
    news: mpsc::Receiver<News>,
    /// Whether nothing more will come from there.
    is_deaf: bool,
    /// Whether something was brought that could not be taken in.
    is_behind: bool,
}

impl Keeper {
    /// A keeper of a copy that is at this mark.
    pub(super) fn new(local: Arc<SqliteStore>, link: Link, mark: Mark, news: mpsc::Receiver<News>) -> Self {
        let marked = watch::Sender::new(mark.revision);
        let (partial, confirmed, is_deaf, is_behind) = (Vec::new(), false, false, false);
        Self { local, link, mark, marked, partial, confirmed, news, is_deaf, is_behind }
    }

    /// How far the copy is.
    pub(super) fn marked(&self) -> watch::Receiver<u64> {
        self.marked.subscribe()
    }

    /// Works until the queue is closed and empty.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let (mut jobs, mut told) = (Vec::new(), Vec::new());
        let mut waiting = VecDeque::new();
        loop {
            tokio::select! {
                biased;
                count = queue.recv_many(&mut jobs, BATCH_APPENDS) => {
                    if count == 0 && waiting.is_empty() {
                        return;
                    }
                }
                count = self.news.recv_many(&mut told, QUEUED_RECORDS), if !self.is_deaf => {
                    self.is_deaf = count == 0;
                    self.hear(std::mem::take(&mut told)).await;
                }
                () = tokio::time::sleep(LONGEST_PAUSE), if self.is_behind => self.look_again().await,
            }
            for job in jobs.drain(..) {
                match job {
                    Job::Append { append, reply } => waiting.push_back(Waiting { append, reply }),
                    Job::Close => queue.close(),
                }
            }
            while let Some(batch) = next_batch(&mut waiting) {
                self.perform(batch).await;
            }
        }
    }

    /// Makes the appends of a batch; those that are too many for the server in two goes.
    async fn perform(&mut self, batch: Vec<Waiting>) {
        let mut batches = VecDeque::from([batch]);
        while let Some(mut batch) = batches.pop_front() {
            match self.insist(&batch).await {
                Ok(outcomes) => tell(batch, outcomes),
                Err(Setback::TooLarge) if batch.len() > 1 => {
                    let rest = batch.split_off(batch.len() / 2);
                    batches.push_front(rest);
                    batches.push_front(batch);
                }
                Err(Setback::TooLarge) => {
                    tell(batch, vec![Err(too_large())]);
                }
                Err(Setback::Passing(error) | Setback::Lasting(error)) => {
                    tracing::warn!(%error, appends = batch.len(), "appends could not be made");
                    let outcomes = batch.iter().map(|_| Err(error.clone().into())).collect();
                    tell(batch, outcomes);
                }
            }
        }
    }

    /// Tries until it is done, it fails for good, or it has taken too long.
    async fn insist(&mut self, batch: &[Waiting]) -> Result<Outcomes, Setback> {
        let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            match self.attempt(batch).await {
                Ok(Some(outcomes)) => return Ok(outcomes),
                // Somebody was quicker, and what they wrote is known now.
                Ok(None) if began.elapsed() < RETRY_FOR => {}
                Ok(None) => return Err(Setback::Passing(unavailable("other nodes keep appending; try again"))),
                Err(Setback::Passing(error)) => {
                    if began.elapsed() + pause > RETRY_FOR {
                        return Err(Setback::Passing(error));
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(setback) => return Err(setback),
            }
        }
    }

    /// What became of each append; none where others have appended, and all must be judged again.
    async fn attempt(&mut self, batch: &[Waiting]) -> Result<Option<Outcomes>, Setback> {
        self.confirm().await?;
        let mut view = self.local.look(Wanted::by(batch.iter().map(|waiting| &waiting.append))).await?;
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut repeated = true;
        for waiting in batch {
            let outcome = match judge(&mut view, &waiting.append) {
                Ok(Verdict::Write) => Ok(view.write(&waiting.append)),
                Ok(Verdict::Repeated(first)) => Ok(first),
                Err(refusal) => Err(refusal),
            };
            repeated &= outcome.as_ref().is_ok_and(|appended| appended.repeated);
            outcomes.push(outcome);
        }
        if !view.is_changed() {
            // What was written stays written. All else rests on what the copy has, which may be out of date.
            let is_news = !repeated && self.catch_up().await?;
            return Ok((!is_news).then_some(outcomes));
        }
        let records = Outgoing::batch(&view);
        let size: usize = records.iter().map(Outgoing::size).sum();
        if size > BATCH_BYTES && batch.len() > 1 {
            return Err(Setback::TooLarge);
        }
        match self.link.append(self.mark.revision, &records).await {
            Ok(()) => {}
            Err(LinkError::Overtaken) => return self.overtaken().await.map(|()| None),
            Err(error) => return Err(self.set_back(&error)),
        }
        let last = records.last().map_or(self.mark.id, |record| record.id);
        let mark = Mark { revision: self.mark.revision + records.len() as u64, id: last };
        let tracked = view.appends.iter().filter_map(|append| append.tracking.clone()).collect();
        self.take_over(Copied { events: view.written, tracked, mark }).await?;
        Ok(Some(outcomes))
    }

    /// Reads what others have appended.
    async fn overtaken(&mut self) -> Result<(), Setback> {
        // The subscription brings it sooner than it can be asked for.
        if self.listen().await || self.catch_up().await? {
            return Ok(());
        }
        // Either its stream is shorter now, or a member of the cluster that lags behind has answered.
        self.confirmed = false;
        self.confirm().await?;
        Err(Setback::Passing(unavailable("KurrentDB has newer events and does not show them yet")))
    }

    /// Waits a moment for what the subscription brings; tells whether anything new was taken in.
    async fn listen(&mut self) -> bool {
        let (before, until) = (self.mark, tokio::time::Instant::now() + HEARD_WITHIN);
        let mut told = Vec::new();
        while !self.is_deaf && self.mark == before {
            let hearing = self.news.recv_many(&mut told, QUEUED_RECORDS);
            let Ok(count) = tokio::time::timeout_at(until, hearing).await else { break };
            self.is_deaf = count == 0;
            self.hear(std::mem::take(&mut told)).await;
        }
        self.mark != before
    }

    /// Tries again to take in what could not be taken in when it was brought.
    async fn look_again(&mut self) {
        let looked = async {
            self.confirm().await?;
            self.catch_up().await
        };
        match looked.await {
            Ok(_) => self.is_behind = false,
            Err(setback) => tracing::debug!(%setback, "the copy of the log stays behind"),
        }
    }

    /// Brings the copy up to the stream's end.
    pub(super) async fn begin(&mut self) -> Result<(), StoreError> {
        self.confirm().await.map_err(|setback| match setback {
            Setback::Passing(error) | Setback::Lasting(error) => error,
            Setback::TooLarge => unavailable(setback.to_string()),
        })
    }

    /// Makes sure that the server's stream is the one that the copy was made from.
    async fn confirm(&mut self) -> Result<(), Setback> {
        if self.confirmed {
            return Ok(());
        }
        let found = self.link.at(self.mark.revision).await.map_err(|error| self.set_back(&error))?;
        if found.map(|record| record.mark) != Some(self.mark) {
            return Err(Setback::Lasting(contradiction(self.link.stream(), self.mark)));
        }
        self.confirmed = true;
        // What was in doubt may have gone through.
        self.catch_up().await.map(drop)
    }

    /// Reads on to the end of the stream; tells whether there was anything.
    async fn catch_up(&mut self) -> Result<bool, Setback> {
        let began = self.mark;
        let (mut told, mut total) = (Instant::now(), None);
        self.partial.clear();
        loop {
            let from = self.next_revision();
            let stretch = self.link.read(from).await.map_err(|error| self.set_back(&error))?;
            self.take_in(stretch.records).await?;
            if !stretch.is_cut {
                return Ok(self.mark != began);
            }
            if told.elapsed() > PROGRESS_EVERY {
                told = Instant::now();
                if total.is_none() {
                    total = self.link.last().await.ok().flatten().map(|last| last.mark.revision);
                }
                tracing::warn!(
                    records = self.mark.revision,
                    of = total,
                    "the copy of the log is behind and reads it from KurrentDB"
                );
            }
        }
    }

    /// Takes records over that follow one another, as far as their appends are complete.
    async fn take_in(&mut self, records: Vec<Record>) -> Result<(), StoreError> {
        let mut next = Copied { events: Vec::new(), tracked: Vec::new(), mark: self.mark };
        for record in records {
            let is_complete = record.more() == 0;
            self.partial.push(record);
            if is_complete {
                std::mem::take(&mut self.partial).into_iter().try_for_each(|record| add(&mut next, record))?;
            }
        }
        if next.mark == self.mark { Ok(()) } else { self.take_over(next).await }
    }

    async fn take_over(&mut self, copied: Copied) -> Result<(), StoreError> {
        let mark = copied.mark;
        self.local.copy(copied).await?;
        self.mark = mark;
        self.marked.send_replace(mark.revision);
        Ok(())
    }

    /// Takes in what a subscription has brought, past what is known already.
    async fn hear(&mut self, news: Vec<News>) {
        let mut records = Vec::new();
        let mut next = self.next_revision();
        let mut is_gap = false;
        for news in news {
            match news {
                News::Interrupted => self.confirmed = false,
                News::Record(record) if record.mark.revision == next => {
                    next += 1;
                    records.push(record);
                }
                News::Record(record) => is_gap |= record.mark.revision > next,
            }
        }
        if records.is_empty() && !is_gap {
            return;
        }
        let heard = async {
            self.confirm().await?;
            // Catching up may just have brought some of them.
            let from = self.next_revision();
            records.retain(|record| record.mark.revision >= from);
            let joins = records.first().is_none_or(|first| first.mark.revision == from);
            if joins && !is_gap {
                self.take_in(records).await.map_err(Setback::from)
            } else {
                self.catch_up().await.map(drop)
            }
        };
        if let Err(setback) = heard.await {
            self.is_behind = true;
            tracing::warn!(%setback, "what others have appended could not be taken in; it will be tried again");
        }
    }

    /// The revision after the last one that is known, taken over or not.
    fn next_revision(&self) -> u64 {
        self.partial.last().map_or(self.mark.revision, |last| last.mark.revision) + 1
    }

    fn set_back(&mut self, error: &LinkError) -> Setback {
        match error {
            LinkError::TooLarge => Setback::TooLarge,
            LinkError::Lost(_) => {
                self.confirmed = false;
                Setback::Passing(error.store())
            }
            LinkError::Overtaken => Setback::Passing(error.store()),
            LinkError::Denied | LinkError::Deleted | LinkError::Foreign(_) | LinkError::Refused(_) => {
                Setback::Lasting(error.store())
            }
        }
    }
}

/// Adds a record to what is to be taken over.
fn add(next: &mut Copied, record: Record) -> Result<(), StoreError> {
    next.mark = record.mark;
    match record.content {
        Content::Event { event, tracking, .. } => {
            next.events.push(*event);
            next.tracked.extend(tracking);
        }
        Content::Tracked(tracking) => next.tracked.push(tracking),
        Content::Begun(_) => {
            let revision = record.mark.revision;
            return Err(corrupt(format!("KurrentDB: the log begins a second time at revision {revision}")));
        }
    }
    Ok(())
}

/// The next appends to be sent together.
fn next_batch(waiting: &mut VecDeque<Waiting>) -> Option<Vec<Waiting>> {
    let mut batch = vec![waiting.pop_front()?];
    let mut bytes = size(&batch[0].append);
    while let Some(next) = waiting.pop_front_if(|next| {
        bytes += size(&next.append);
        bytes < BATCH_BYTES
    }) {
        batch.push(next);
        if batch.len() == BATCH_APPENDS {
            break;
        }
    }
    Some(batch)
}

fn size(append: &NewAppend) -> usize {
    let events = append.streams.iter().flat_map(|entry| &entry.events);
    events.map(|event| event.data.len() + event.metadata.len() + ENVELOPE_BYTES).sum()
}

fn tell(batch: Vec<Waiting>, outcomes: Outcomes) {
    for (waiting, outcome) in batch.into_iter().zip(outcomes) {
        // Whoever has gone does not want to know.
        let _ = waiting.reply.send(outcome);
    }
}

fn too_large() -> AppendError {
    AppendError::Invalid(
        "it is larger than the KurrentDB server takes; raise MaxAppendSize there (KURRENTDB_MAX_APPEND_SIZE)"
            .into(),
    )
}

/// The copy and the server have different pasts.
pub(super) fn contradiction(stream: &str, mark: Mark) -> StoreError {
    let Mark { revision, id } = mark;
    corrupt(format!(
        "the copy of the log knows record {revision} of {stream} as {id}, and KurrentDB does not: one of them was restored or \
         replaced. If the server is right, stop the node and delete its copy, log/kurrentdb.db and the files beside it; \
         if not, restore the server"
    ))
}
