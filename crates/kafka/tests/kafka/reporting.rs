//! Erased events, and stores that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_event_store::{
    AppendError, Appended, Direction, EventStore, Filter, MemoryStore, NewAppend, Page, Position, RecordedEvent,
    Revision, Snapshot, StoreError,
};
use cairn_kafka::{CheckpointError, Checkpoints, FileCheckpoints, Publisher, State};
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cluster::{all, append, check, fill, mock, publish, seeded};
use crate::publishing::drain_families;

/// A log that can be made to fail, and whose streams named `-1` are erased.
struct Troubled {
    store: MemoryStore,
    away: AtomicBool,
}

impl Troubled {
    fn new() -> Arc<Self> {
        Arc::new(Self { store: MemoryStore::new(Uuid::now_v7()), away: AtomicBool::new(false) })
    }
}

#[async_trait]
impl EventStore for Troubled {
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
        if self.away.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable { reason: "the disk is asleep".into() });
        }
        let mut page = self.store.read_all(from, direction, filter, limit).await?;
        for event in page.events.iter_mut().filter(|event| event.stream.ends_with("-1")) {
            (event.data, event.erased) = (Bytes::from_static(b"null"), true);
        }
        Ok(page)
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_event_is_published_without_its_data_and_says_so() {
    let (_mock, site) = mock();
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = FileCheckpoints::open(folder.path()).expect("opens");
    let store = Troubled::new();
    let mut random = seeded("erased");
    fill(&*store, &mut random, 600).await;
    // `fill` may leave this stream out, as chance has it.
    append(&*store, 1, 3, &mut random).await;
    let mut running = publish(site.config(), store.clone(), &checkpoints);
    running.until_published(&*store).await;
    running.stop().await;
    let seen = drain_families(&site).await;
    check(&all(&*store).await, &seen);
    let (erased, kept): (Vec<_>, Vec<_>) = seen.iter().partition(|message| message.key.ends_with("-1"));
    assert!(!erased.is_empty() && !kept.is_empty());
    assert!(erased.iter().all(|m| m.payload == b"null" && m.headers["cairn-erased"] == "true"));
    assert!(kept.iter().all(|m| m.payload != b"null" && !m.headers.contains_key("cairn-erased")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_read_is_waited_for() {
    let (_mock, site) = mock();
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = FileCheckpoints::open(folder.path()).expect("opens");
    let store = Troubled::new();
    store.away.store(true, Ordering::Relaxed);
    fill(&*store, &mut seeded("asleep"), 50).await;
    let mut running = publish(site.config(), store.clone(), &checkpoints);
    let status = running.until(|status| status.state == State::Waiting).await;
    assert!(status.problem.is_some_and(|problem| problem.contains("asleep")));
    store.away.store(false, Ordering::Relaxed);
    running.until_published(&*store).await;
    running.until(|status| status.state == State::Running && status.problem.is_none()).await;
    running.stop().await;
}

/// Checkpoints that cannot be saved for a while.
struct Full {
    inner: FileCheckpoints,
    full: AtomicBool,
}

#[async_trait]
impl Checkpoints for Full {
    async fn load(&self, name: &str) -> Result<Option<Position>, CheckpointError> {
        self.inner.load(name).await
    }

    async fn save(&self, name: &str, position: Position) -> Result<(), CheckpointError> {
        if self.full.load(Ordering::Relaxed) {
            let reason = "the disk is full".into();
            return Err(CheckpointError::Unavailable { name: name.to_owned(), reason });
        }
        self.inner.save(name, position).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_cannot_be_saved_is_told_and_publishing_goes_on() {
    let (_mock, site) = mock();
    let folder = tempfile::tempdir().expect("a folder");
    let inner = FileCheckpoints::open(folder.path()).expect("opens");
    let checkpoints = Arc::new(Full { inner, full: AtomicBool::new(true) });
    let store = Arc::new(MemoryStore::new(Uuid::now_v7()));
    fill(&*store, &mut seeded("full"), 100).await;
    let publisher = Publisher::new(site.config(), store.clone(), checkpoints.clone()).expect("it fits");
    let (mut status, cancel) = (publisher.status(), CancellationToken::new());
    let task = tokio::spawn(publisher.run(cancel.clone()));
    let told = |status: &cairn_kafka::PublisherStatus| {
        status.position == 100 && status.problem.as_ref().is_some_and(|problem| problem.contains("full"))
    };
    tokio::time::timeout(crate::cluster::PATIENCE, status.wait_for(told)).await.expect("told").expect("it runs");
    assert_eq!(checkpoints.load("kafka").await.expect("loads"), None);
    checkpoints.full.store(false, Ordering::Relaxed);
    let cleared = |status: &cairn_kafka::PublisherStatus| status.problem.is_none();
    tokio::time::timeout(crate::cluster::PATIENCE, status.wait_for(cleared))
        .await
        .expect("told")
        .expect("it runs");
    assert_eq!(checkpoints.load("kafka").await.expect("loads"), Some(Position(100)));
    cancel.cancel();
    task.await.expect("no panic").expect("it stops");
}
