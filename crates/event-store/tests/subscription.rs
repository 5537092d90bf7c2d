//! A subscription misses nothing that is appended while it reads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cairn_event_store::conformance::{BRAIN, append, event};
use cairn_event_store::{
    AppendError, Appended, Direction, EventStore, ExpectedRevision, Filter, MemoryStore, NewAppend, Page,
    Position, RecordedEvent, Revision, Snapshot, StoreError, StreamAppend, Subscription, subscribe,
};
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use uuid::Uuid;

/// Appends an event each time after the log was read, before the reader has the answer: the moment at which a
/// subscription could take the newest head for what it has seen.
struct Meddling {
    store: MemoryStore,
}

impl Meddling {
    async fn meddle(&self) {
        let entry = StreamAppend {
            stream: "space-a".into(),
            expected: ExpectedRevision::Any,
            events: vec![event("meddling")],
        };
        self.store.append(append([entry])).await.unwrap();
    }
}

#[async_trait]
impl EventStore for Meddling {
    async fn append(&self, append: NewAppend) -> Result<Appended, AppendError> {
        self.store.append(append).await
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        filter: &Filter,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let page = self.store.read_all(from, direction, filter, limit).await;
        self.meddle().await;
        page
    }

    async fn read_stream(
        &self,
        stream: &str,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        self.store.read_stream(stream, from, direction, limit).await
    }

    async fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        self.store.event(id).await
    }

    async fn position_at(&self, time: DateTime<Utc>) -> Result<Position, StoreError> {
        self.store.position_at(time).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.store.head()
    }

    async fn tracking(&self, source: &str) -> Result<Option<u64>, StoreError> {
        self.store.tracking(source).await
    }

    async fn load_snapshot(&self, stream: &str) -> Result<Option<Snapshot>, StoreError> {
        self.store.load_snapshot(stream).await
    }

    async fn save_snapshot(&self, stream: &str, snapshot: Option<Snapshot>) -> Result<(), StoreError> {
        self.store.save_snapshot(stream, snapshot).await
    }
}

#[tokio::test]
async fn what_is_appended_while_a_page_is_read_comes_next() {
    let store = Arc::new(Meddling { store: MemoryStore::new(BRAIN) });
    store.meddle().await;
    let mut subscription = subscribe(store, Position::START, Filter::default());
    for position in 1..=20 {
        let batch = subscription.next_batch(10).await.unwrap();
        let positions: Vec<_> = batch.events.iter().map(|event| event.position.0).collect();
        assert_eq!((positions, batch.position), (vec![position], Position(position)));
    }
}

#[tokio::test]
async fn there_is_more_until_it_is_handed_out_or_skipped() {
    let store = Arc::new(Meddling { store: MemoryStore::new(BRAIN) });
    let mut subscription =
        subscribe(Arc::clone(&store) as Arc<dyn EventStore>, Position::START, Filter::default());
    let waits = async |subscription: &mut Subscription| {
        tokio::time::timeout(Duration::from_millis(20), subscription.more()).await.is_err()
    };
    assert!(waits(&mut subscription).await, "the log is empty");
    store.meddle().await;
    for _ in 0..2 {
        assert_eq!(subscription.more().await.unwrap(), Position(1), "asking hands nothing out");
    }
    subscription.skip_to(Position(1));
    assert!(waits(&mut subscription).await);
    store.meddle().await;
    assert_eq!(subscription.more().await.unwrap(), Position(2));
}
