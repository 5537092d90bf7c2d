//! Reading once, up to a number of events.
//!
//! A read goes page by page. While the events of one page are on their way to the client, the next one is read.

use std::future::Future;
use std::sync::Arc;

use cairn_event_store::{
    Direction, MAX_PAGE_EVENTS, Page, Position, RecordedEvent, Revision, SharedStore, StoreError,
};
use cairn_proto::event_store::client::streams::ReadResp;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use crate::failure::Failure;
use crate::filter::EventFilter;
use crate::lifecycle::{Bounds, Fate};
use crate::meter;
use crate::names::Kind;
use crate::plan::Begin;
use crate::reply::{self, Replies};
use crate::write::Writer;

/// The events of the log read at once.
pub(crate) const LOG_PAGE: usize = 1_024;
/// The events of a stream read at first, and at most. A page of a stream knows no limit of bytes, so that its size
/// follows that of the events seen.
const STREAM_PAGES: (usize, usize) = (32, 512);
/// The bytes that a page of a stream should have.
const STREAM_PAGE_BYTES: usize = 1024 * 1024;

/// The answer to a read.
pub(crate) type ReplyStream = BoxStream<'static, Result<ReadResp, Status>>;

/// Something that gives replies in lots.
pub(crate) trait Lots: Send + Sized + 'static {
    /// The next lot; `None` at the end. An empty one is allowed.
    fn next_lot(&mut self) -> impl Future<Output = Result<Option<Vec<ReadResp>>, Failure>> + Send;

    /// The replies one by one.
    fn replies(self) -> ReplyStream {
        let lots = stream::try_unfold((self, meter::sent()), |(mut lots, sent)| async move {
            let Some(lot) = lots.next_lot().await.map_err(Status::from)? else { return Ok(None) };
            sent.increment(lot.len() as u64);
            Ok::<_, Status>(Some((stream::iter(lot.into_iter().map(Ok)), (lots, sent))))
        });
        lots.try_flatten().boxed()
    }
}

/// A page that is there, or on its way.
enum Fetch<T> {
    Ready(T),
    Reading(AbortOnDropHandle<Result<T, StoreError>>),
}

impl<T: Send + 'static> Fetch<T> {
    fn begin(reading: impl Future<Output = Result<T, StoreError>> + Send + 'static) -> Self {
        Self::Reading(AbortOnDropHandle::new(tokio::spawn(reading)))
    }

    async fn end(self) -> Result<T, StoreError> {
        match self {
            Self::Ready(page) => Ok(page),
            Self::Reading(reading) => reading.await.map_err(|error| StoreError::Unavailable {
                reason: format!("a read was cut short ({error}); repeat it"),
            })?,
        }
    }
}

/// Reads the log.
pub(crate) struct LogReader {
    store: SharedStore,
    direction: Direction,
    filter: Option<EventFilter>,
    next: Option<Position>,
    ahead: Option<Fetch<Page>>,
    left: u64,
    replies: Replies,
}

impl LogReader {
    /// Backwards, the event at the position to begin at is left out, as the protocol has it.
    pub(crate) fn new(
        store: SharedStore,
        (direction, from): (Direction, Begin<Position>),
        filter: Option<EventFilter>,
        count: u64,
        replies: Replies,
    ) -> Self {
        let head = *store.head().borrow();
        let next = match (direction, from) {
            (Direction::Forwards, Begin::Start) => Some(Position::START.next()),
            (Direction::Forwards, Begin::At(position)) => Some(position),
            (Direction::Backwards, Begin::End) => Some(head),
            (Direction::Backwards, Begin::At(position)) if position > head => Some(head),
            (Direction::Backwards, Begin::At(position)) => position.0.checked_sub(1).map(Position),
            (Direction::Forwards, Begin::End) | (Direction::Backwards, Begin::Start) => None,
        };
        Self { store, direction, filter, next, ahead: None, left: count, replies }
    }

    fn read(&self, from: Position) -> impl Future<Output = Result<Page, StoreError>> + Send + 'static {
        let (store, direction) = (Arc::clone(&self.store), self.direction);
        let filter = self.filter.as_ref().map(EventFilter::for_store).unwrap_or_default();
        let limit = usize::try_from(self.left).unwrap_or(usize::MAX).min(LOG_PAGE.min(MAX_PAGE_EVENTS));
        async move { store.read_all(from, direction, &filter, limit).await }
    }
}

impl Lots for LogReader {
    async fn next_lot(&mut self) -> Result<Option<Vec<ReadResp>>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        let page = match (self.ahead.take(), self.next.take()) {
            (Some(ahead), _) => ahead.end().await?,
            (None, Some(from)) => self.read(from).await?,
            (None, None) => return Ok(None),
        };
        let mut lot = Vec::with_capacity(page.events.len());
        for event in &page.events {
            if self.left > 0 && self.filter.as_ref().is_none_or(|filter| filter.matches(event)) {
                lot.push(self.replies.event(event));
                self.left -= 1;
            }
        }
        if let Some(from) = page.next.filter(|_| self.left > 0) {
            self.ahead = Some(Fetch::begin(self.read(from)));
        }
        Ok(Some(lot))
    }
}

/// Reads a stream.
pub(crate) struct StreamReader {
    store: SharedStore,
    stream: Arc<str>,
    direction: Direction,
    bounds: Bounds,
    oldest: Option<DateTime<Utc>>,
    next: Option<Revision>,
    ahead: Option<(Fetch<Vec<RecordedEvent>>, usize)>,
    page: usize,
    left: u64,
    replies: Replies,
    /// The newest event seen.
    pub(crate) seen: Option<Revision>,
    tells_last: bool,
}

/// What a stream is to a reader.
pub(crate) enum Found {
    /// There is none, or it was deleted.
    Nothing,
    /// There is one, readable within bounds.
    Readable(Bounds),
}

impl Writer {
    /// Whether there is a stream to read.
    pub(crate) async fn find(&self, stream: &Arc<str>) -> Result<Found, Failure> {
        let subject = match Kind::of(stream) {
            Kind::MetadataOf(of) => of,
            Kind::Plain => Arc::clone(stream),
            Kind::ReadOnly => return Ok(Found::Readable(Bounds::default())),
        };
        match self.lifecycles.of(&subject).await?.fate {
            Fate::Tombstoned => Err(Failure::StreamDeleted { stream: subject }),
            // The metadata outlive the stream.
            _ if subject != *stream => Ok(Found::Readable(Bounds::default())),
            Fate::Deleted => Ok(Found::Nothing),
            Fate::Open(bounds) => Ok(Found::Readable(bounds)),
        }
    }

    /// A reader of a stream; `None` where there is no such stream.
    pub(crate) async fn reader(
        &self,
        stream: &Arc<str>,
        (direction, from): (Direction, Begin<Revision>),
        count: u64,
        replies: Replies,
        tells_last: bool,
    ) -> Result<Option<StreamReader>, Failure> {
        let Found::Readable(mut bounds) = self.find(stream).await? else { return Ok(None) };
        if let Some(count) = bounds.count {
            let last = self.last(stream).await?.revision;
            bounds.from = bounds.from.max(last.map_or(0, |last| (last.0 + 1).saturating_sub(count)));
        }
        let next = match (direction, from) {
            (Direction::Forwards, Begin::Start) => Some(Revision(bounds.from)),
            (Direction::Forwards, Begin::At(revision)) => Some(revision.max(Revision(bounds.from))),
            (Direction::Forwards, Begin::End) => None,
            (Direction::Backwards, Begin::Start) => Some(Revision(0)),
            (Direction::Backwards, Begin::At(revision)) => Some(revision),
            (Direction::Backwards, Begin::End) => Some(Revision(u64::MAX)),
        };
        let mut reader = StreamReader {
            store: Arc::clone(&self.store),
            stream: Arc::clone(stream),
            direction,
            bounds,
            oldest: bounds
                .age
                .and_then(|age| Utc::now().checked_sub_signed(chrono::TimeDelta::from_std(age).ok()?)),
            next,
            ahead: None,
            page: STREAM_PAGES.0,
            left: count,
            replies,
            seen: None,
            tells_last,
        };
        Ok(if reader.begin(self).await? { Some(reader) } else { None })
    }
}

impl StreamReader {
    /// Reads the first page at once: only an empty one leaves the question whether there is such a stream.
    async fn begin(&mut self, writer: &Writer) -> Result<bool, Failure> {
        if let Some(next) = self.next.take().filter(|_| self.left > 0) {
            let limit = self.limit();
            let events = self.read(next, limit).await?;
            if !events.is_empty() {
                self.ahead = Some((Fetch::Ready(events), limit));
                return Ok(true);
            }
        }
        Ok(writer.last(&self.stream).await?.revision.is_some())
    }

    fn limit(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX).min(self.page)
    }

    fn read(
        &self,
        from: Revision,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<RecordedEvent>, StoreError>> + Send + 'static {
        let (store, stream, direction) = (Arc::clone(&self.store), Arc::clone(&self.stream), self.direction);
        async move { store.read_stream(&stream, from, direction, limit).await }
    }

    /// Where the page after these events begins. A page that was not filled was the last one.
    fn after(&self, events: &[RecordedEvent], limit: usize) -> Option<Revision> {
        let last = events.last().filter(|_| events.len() == limit && self.left > 0)?.revision;
        match self.direction {
            Direction::Forwards => Some(last.next()),
            Direction::Backwards => last.0.checked_sub(1).filter(|next| *next >= self.bounds.from).map(Revision),
        }
    }

    /// Makes the next page as large as the events allow.
    fn adapt(&mut self, events: &[RecordedEvent]) {
        let bytes: usize = events.iter().map(|event| event.data.len() + event.metadata.len()).sum();
        let fitting = STREAM_PAGE_BYTES * events.len().max(1) / bytes.max(1);
        self.page = (self.page * 4).min(fitting).clamp(1, STREAM_PAGES.1);
    }
}

impl Lots for StreamReader {
    async fn next_lot(&mut self) -> Result<Option<Vec<ReadResp>>, Failure> {
        let Some((ahead, limit)) = self.ahead.take() else { return Ok(None) };
        let events = ahead.end().await?;
        self.left -= events.len() as u64;
        self.seen = self.seen.max(events.iter().map(|event| event.revision).max());
        self.adapt(&events);
        if let Some(next) = self.after(&events, limit) {
            let limit = self.limit();
            self.ahead = Some((Fetch::begin(self.read(next, limit)), limit));
        }
        let mut lot = Vec::with_capacity(events.len() + 1);
        for event in &events {
            let recent = self.oldest.is_none_or(|oldest| event.recorded_at >= oldest);
            if recent && event.revision.0 >= self.bounds.from {
                lot.push(self.replies.event(event));
            }
        }
        // Forwards, the stream's end is known once it was reached.
        if self.tells_last && self.direction == Direction::Forwards && events.len() < limit {
            lot.extend(self.seen.map(reply::last));
        }
        Ok(Some(lot))
    }
}
