//! Reads the log and folds it, or takes what another build has made of it.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use cairn_event_store::Position;
use cairn_event_store::subscription::{Batch as Page, Subscription};
use cairn_read_model::change::Batch;
use cairn_telemetry::spans;
use cairn_telemetry::trace::Origins;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::lately::{Page as Folded, Place};
use super::together::{Claim, Member, Turn};
use super::{PAGE_EVENTS, RETRY_PAUSE};
use crate::fold::{FoldError, PartitionedFold, SERVING_CACHE_BYTES};
use crate::slot::Shown;

/// What the feeder tells the writer.
pub(super) enum Feed {
    /// Write this, within the span. `end` says that nothing came after it when it was read.
    Batch { batch: Arc<Batch>, end: bool, span: Span },
    /// There is nothing to write: everything was written before.
    End,
    /// The log could not be read for now.
    Problem(String),
    /// The log cannot be folded on.
    Failed(FoldError),
}

/// A live page with fewer events than this is one of a quiet log: the next is read as soon as there is one.
const BUSY_EVENTS: usize = 32;

pub(super) struct Feeder {
    /// The projection.
    pub(super) name: &'static str,
    pub(super) subscription: Subscription,
    /// How long the log is let be after a page, while it is busy.
    pub(super) pace: Duration,
    /// Whether the log holds nothing new.
    pub(super) complete: bool,
    pub(super) fold: PartitionedFold,
    /// Whether its batches must list their events.
    pub(super) entries: bool,
    /// The other builds, until this one has reached the end of the log.
    pub(super) member: Option<Member>,
    /// The other runs that serve, from then on.
    pub(super) place: Place,
    /// Says whether the projection is paused.
    pub(super) going: watch::Receiver<Shown>,
    pub(super) sender: SyncSender<Feed>,
    pub(super) cancel: CancellationToken,
}

/// What is read of an event's metadata.
#[derive(Deserialize)]
struct Traced<'a> {
    #[serde(borrow, default)]
    traceparent: Option<&'a str>,
}

/// The traces of the commands that a page comes from. Those of a log that is far behind are long over.
fn origins(page: &Page) -> Option<Arc<Origins>> {
    let traceparents = page.events.iter().map(|event| traceparent(&event.metadata));
    page.live.then(|| Arc::new(traceparents.collect()))
}

/// The trace that an event's metadata names. Where it cannot, as without tracing, it is not read at all.
fn traceparent(metadata: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(metadata).ok()?;
    let traced: Traced<'_> = text.contains("traceparent").then(|| serde_json::from_str(text).ok())??;
    traced.traceparent
}

/// The writer is gone: there is nobody to feed.
struct Unheard;

impl Feeder {
    /// Feeds until the run is to end.
    pub(super) fn run(mut self, handle: &Handle) {
        let cancel = self.cancel.clone();
        handle.block_on(async {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                // It ends by itself only where the writer has gone.
                _ = self.feed() => {}
            }
        });
    }

    async fn feed(&mut self) -> Result<(), Unheard> {
        if self.complete {
            self.end()?;
        }
        loop {
            let turn = match self.claim().await? {
                Some(Claim::Folded(batch)) => {
                    self.adopt(batch, Span::none(), false)?;
                    continue;
                }
                Some(Claim::Own(turn)) => Some(turn),
                None => None,
            };
            if let Some(Folded { batch, origins, .. }) = self.folded_lately().await {
                self.going().await?;
                let span = self.span(batch.events, batch.position, origins.as_deref());
                self.adopt(batch, span, true)?;
                continue;
            }
            let (after, limit) = self.next_page();
            match self.subscription.next_batch(limit).await {
                Ok(page) => {
                    let read = Instant::now();
                    // Asked only now: in a quiet log a pause begins while this waits for the next page. Where others may wait
                    // for this page, it was asked before.
                    if turn.is_none() {
                        self.going().await?;
                    }
                    self.fold(&page, after, turn).await?;
                    // Each batch costs a transaction: where many commands come in, more of them share one.
                    if page.live && page.events.len() >= BUSY_EVENTS {
                        tokio::time::sleep_until(read + self.pace).await;
                    }
                }
                Err(error) => {
                    drop(turn);
                    self.stumble(error.into()).await?;
                }
            }
        }
    }

    /// Asks the other builds for the next page; `None` where it is not shared with any.
    async fn claim(&mut self) -> Result<Option<Claim>, Unheard> {
        if self.member.is_none() || !self.subscription.is_behind() {
            return Ok(None);
        }
        // Whoever is paused keeps nobody waiting for a page, and nothing is kept for it.
        if self.going.borrow().paused {
            self.member.iter().for_each(Member::rest);
            self.going().await?;
        }
        let Some(member) = &self.member else { return Ok(None) };
        Ok(Some(member.claim(self.subscription.position().0).await))
    }

    /// What another run that serves has made of the next page, where this one serves too and is not paused.
    async fn folded_lately(&mut self) -> Option<Folded> {
        if self.member.is_some() || self.going.borrow().paused {
            return None;
        }
        let after = self.subscription.position().0;
        self.place.stand(after);
        // Why there will be no more is told when the page is read.
        self.subscription.more().await.ok()?;
        self.place.let_others_go_first(after, self.pace).await;
        self.place.take(after)
    }

    /// After which position the next page comes, and how many events it has at most.
    fn next_page(&self) -> (u64, usize) {
        let after = self.subscription.position().0;
        (after, if self.member.is_some() { PAGE_EVENTS } else { self.place.limit(after) })
    }

    /// Takes what another run has made of the next page. One that serves may have everything then.
    fn adopt(&mut self, batch: Arc<Batch>, span: Span, serves: bool) -> Result<(), Unheard> {
        self.fold.adopt(&batch);
        self.subscription.skip_to(Position(batch.position));
        let end = serves && !self.subscription.is_behind();
        self.tell(Feed::Batch { batch, end, span })
    }

    /// Waits while the projection is paused. Nothing is kept for it meanwhile.
    async fn going(&mut self) -> Result<(), Unheard> {
        if self.going.borrow().paused {
            self.place.rest();
        }
        self.going.wait_for(|shown| !shown.paused).await.map(drop).map_err(|_| Unheard)
    }

    async fn fold(&mut self, page: &Page, after: u64, mut turn: Option<Turn>) -> Result<(), Unheard> {
        let wanted = if self.member.is_none() { self.place.is_wanted(after, page.events.len()) } else { None };
        let origins = origins(page);
        loop {
            let span = self.span(page.events.len(), page.position.0, origins.as_deref());
            let entries = self.entries || turn.as_ref().map_or(wanted == Some(true), |turn| turn.entries);
            self.fold.set_entries(entries);
            match self.fold.batch(&page.events).instrument(span.clone()).await {
                Ok(batch) => {
                    let batch = Arc::new(batch);
                    if wanted.is_some() {
                        self.place.hand_on(after, Folded { batch: Arc::clone(&batch), entries, origins });
                    } else if self.member.is_none() {
                        // Others need not wait for what is not handed on.
                        self.place.stand(page.position.0);
                    }
                    if page.live {
                        self.fold.set_budget(SERVING_CACHE_BYTES);
                        self.member = None;
                    } else if let Some(turn) = turn.take() {
                        turn.hand_on(&batch);
                    }
                    return self.tell(Feed::Batch { batch, end: page.live, span });
                }
                Err(error) => {
                    turn = None;
                    self.stumble(error).await?;
                }
            }
        }
    }

    /// Joins the traces that a page comes from.
    fn span(&self, events: usize, position: u64, origins: Option<&Origins>) -> Span {
        origins.map_or_else(Span::none, |origins| spans::projection(self.name, events, position, origins))
    }

    fn end(&mut self) -> Result<(), Unheard> {
        self.fold.set_budget(SERVING_CACHE_BYTES);
        self.tell(Feed::End)
    }

    /// Pauses after what may pass; stops at what will not.
    async fn stumble(&mut self, error: FoldError) -> Result<(), Unheard> {
        if error.is_transient() {
            self.tell(Feed::Problem(error.to_string()))?;
            tokio::time::sleep(RETRY_PAUSE).await;
            return Ok(());
        }
        self.place.rest();
        self.tell(Feed::Failed(error))?;
        std::future::pending().await
    }

    fn tell(&self, feed: Feed) -> Result<(), Unheard> {
        self.sender.send(feed).map_err(|_| Unheard)
    }
}
