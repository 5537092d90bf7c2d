//! Subscriptions: what there is already, then what comes.
//!
//! A subscription is pulled: the next events are read when the client has taken those before. One that is slow is told
//! that it fell behind and reads older pages; it holds nobody up and is never dropped for it.

use std::sync::Arc;

use cairn_event_store::{
    Batch, Direction, Filter, Position, RecordedEvent, Revision, SharedStore, Subscription, subscribe,
};
use cairn_proto::event_store::client::streams::ReadResp;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::filter::EventFilter;
use crate::lifecycle::TOMBSTONE_TYPE;
use crate::names::metadata_stream;
use crate::plan::Begin;
use crate::read::{Found, LOG_PAGE, Lots, StreamReader};
use crate::reply::{self, Place, Replies};
use crate::write::Writer;

/// Follows the log.
struct Tail {
    store: SharedStore,
    subscription: Subscription,
    live: bool,
    end: CancellationToken,
}

impl Tail {
    fn new(store: SharedStore, after: Position, filter: Filter, end: CancellationToken) -> Self {
        let subscription = subscribe(Arc::clone(&store), after, filter);
        Self { store, subscription, live: false, end }
    }

    /// Whether there is nothing new, said once.
    fn catches_up(&mut self) -> bool {
        let caught_up = !self.live && self.subscription.position() >= *self.store.head().borrow();
        self.live |= caught_up;
        caught_up
    }

    async fn next(&mut self) -> Result<Batch, Failure> {
        let next = self.end.run_until_cancelled(self.subscription.next_batch(LOG_PAGE)).await;
        Ok(next.ok_or(Failure::ShuttingDown)??)
    }

    /// Whether this batch shows that the client has fallen behind.
    fn falls_behind(&mut self, batch: &Batch) -> bool {
        let behind = self.live && !batch.live;
        self.live &= !behind;
        behind
    }
}

/// Follows all streams.
pub(crate) struct LogFollower {
    tail: Tail,
    filter: Option<EventFilter>,
    checkpoint: Position,
    confirmed: bool,
    replies: Replies,
}

impl LogFollower {
    pub(crate) fn new(
        store: SharedStore,
        from: Begin<Position>,
        filter: Option<EventFilter>,
        replies: Replies,
        end: CancellationToken,
    ) -> Self {
        let after = match from {
            Begin::Start => Position::START,
            Begin::At(position) => position,
            Begin::End => *store.head().borrow(),
        };
        let for_store = filter.as_ref().map(EventFilter::for_store).unwrap_or_default();
        let tail = Tail::new(store, after, for_store, end);
        Self { tail, filter, checkpoint: after, confirmed: false, replies }
    }

    /// Tells how far a filtered subscription has come, where that is due.
    fn checkpoint(&mut self, reached: Position, due: bool, lot: &mut Vec<ReadResp>) {
        let Some(filter) = &self.filter else { return };
        let gone = reached.0.saturating_sub(self.checkpoint.0);
        if gone >= filter.checkpoint_every || due && gone > 0 {
            lot.push(reply::checkpoint(reached));
            self.checkpoint = reached;
        }
    }
}

impl Lots for LogFollower {
    async fn next_lot(&mut self) -> Result<Option<Vec<ReadResp>>, Failure> {
        let mut lot = Vec::new();
        if !self.confirmed {
            self.confirmed = true;
            lot.push(reply::confirmation());
        } else {
            let batch = self.tail.next().await?;
            if self.tail.falls_behind(&batch) {
                lot.push(reply::fell_behind(Place::All(self.tail.subscription.position())));
            }
            for event in &batch.events {
                if self.filter.as_ref().is_none_or(|filter| filter.matches(event)) {
                    lot.push(self.replies.event(event));
                }
                self.checkpoint(event.position, false, &mut lot);
            }
            self.checkpoint(batch.position, !self.tail.live && batch.live, &mut lot);
        }
        if self.tail.catches_up() {
            lot.push(reply::caught_up(Place::All(self.tail.subscription.position())));
        }
        Ok(Some(lot))
    }
}

/// Follows one stream: reads it to its end, then picks what is new of it from the log's tail, which all subscriptions
/// share.
pub(crate) struct StreamFollower {
    stage: Stage,
    stream: Arc<str>,
    metadata: Arc<str>,
    seen: Option<Revision>,
    replies: Replies,
    tombstoned: bool,
}

enum Stage {
    Confirming(Option<Box<StreamReader>>, Tail),
    CatchingUp(Box<StreamReader>, Tail),
    Following(Tail),
    Ended,
}

impl Writer {
    /// Follows a stream, whether or not it exists yet.
    pub(crate) async fn follow(
        &self,
        stream: Arc<str>,
        from: Begin<Revision>,
        spelling: crate::ids::Spelling,
        end: CancellationToken,
    ) -> Result<StreamFollower, Failure> {
        let metadata = metadata_stream(&stream);
        let head = *self.store.head().borrow();
        let stream_prefixes = vec![stream.to_string(), metadata.to_string()];
        let tail = Tail::new(Arc::clone(&self.store), head, Filter { stream_prefixes, ..Filter::default() }, end);
        let next = match from {
            Begin::Start => Some(Begin::Start),
            Begin::At(revision) => Some(Begin::At(Revision(revision.0.saturating_add(1)))),
            Begin::End => None,
        };
        let reader = match next {
            Some(next) => {
                let replies = Replies::new(spelling);
                self.reader(&stream, (Direction::Forwards, next), u64::MAX, replies, false).await?
            }
            None => {
                // Only to learn of a tombstone.
                let (Found::Nothing | Found::Readable(_)) = self.find(&stream).await?;
                None
            }
        };
        let seen = match from {
            Begin::At(revision) => Some(revision),
            Begin::Start | Begin::End => None,
        };
        let stage = Stage::Confirming(reader.map(Box::new), tail);
        Ok(StreamFollower { stage, stream, metadata, seen, replies: Replies::new(spelling), tombstoned: false })
    }
}

impl StreamFollower {
    fn take(&mut self, event: &RecordedEvent, lot: &mut Vec<ReadResp>) {
        if event.stream == self.stream && self.seen.is_none_or(|seen| event.revision > seen) {
            lot.push(self.replies.event(event));
            self.seen = Some(event.revision);
        }
        self.tombstoned |= event.stream == self.metadata && &*event.event_type == TOMBSTONE_TYPE;
    }

    async fn tail(&mut self, mut tail: Tail) -> Result<Vec<ReadResp>, Failure> {
        let mut lot = Vec::new();
        if tail.catches_up() {
            lot.push(reply::caught_up(Place::Stream(self.seen)));
        } else {
            let batch = tail.next().await?;
            if tail.falls_behind(&batch) {
                lot.push(reply::fell_behind(Place::Stream(self.seen)));
            }
            for event in &batch.events {
                self.take(event, &mut lot);
            }
            if tail.catches_up() {
                lot.push(reply::caught_up(Place::Stream(self.seen)));
            }
        }
        self.stage = Stage::Following(tail);
        Ok(lot)
    }
}

impl Lots for StreamFollower {
    async fn next_lot(&mut self) -> Result<Option<Vec<ReadResp>>, Failure> {
        if self.tombstoned {
            return Err(Failure::StreamDeleted { stream: Arc::clone(&self.stream) });
        }
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Confirming(reader, tail) => {
                self.stage = match reader {
                    Some(reader) => Stage::CatchingUp(reader, tail),
                    None => Stage::Following(tail),
                };
                Ok(Some(vec![reply::confirmation()]))
            }
            Stage::CatchingUp(mut reader, tail) => {
                if let Some(lot) = reader.next_lot().await? {
                    self.seen = self.seen.max(reader.seen);
                    self.stage = Stage::CatchingUp(reader, tail);
                    return Ok(Some(lot));
                }
                self.tail(tail).await.map(Some)
            }
            Stage::Following(tail) => self.tail(tail).await.map(Some),
            Stage::Ended => Ok(None),
        }
    }
}
