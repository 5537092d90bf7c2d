//! Builds that run side by side, and runs that serve, fold each page once, and come to what each alone comes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use cairn_domain::field::FieldName;
use cairn_domain::id::MemoryId;
use cairn_domain::kind::Kind;
use cairn_domain::memory::command::Command;
use cairn_domain::truth::Truth;
use cairn_event_store::{
    AppendError, Appended, Direction, EventStore, Filter, MemoryStore, NewAppend, Page, Position, RecordedEvent,
    Revision, SharedStore, Snapshot, StoreError,
};
use cairn_projector::fold::{Fold, PartitionedFold};
use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use crate::brain;
use crate::log::Log;
use crate::parallel::{assert_same, page, workers};
use crate::stage::{Stage, digest_of, models};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folds_that_take_turns_make_what_one_alone_makes() {
    let mut log = Log::new(Arc::new(MemoryStore::new(Uuid::now_v7())));
    brain::write(&mut log, 300, 10, 11).await;
    let head = log.head().0;
    for (seed, budget) in [(1, 1 << 20), (2, 6_000), (3, 0)] {
        let mut random = StdRng::seed_from_u64(seed);
        let mut alone = Fold::new(log.store.clone(), 1 << 20, true);
        let mut one = Fold::new(log.store.clone(), budget, true);
        let mut other = PartitionedFold::new(&log.store, budget, true, workers(3), Handle::current());
        let mut next = 1;
        while next <= head {
            let events = page(&log, next, random.random_range(1..200)).await;
            let wanted = alone.batch(&events).await.expect("folds");
            let made = if random.random_bool(0.5) {
                let made = one.batch(&events).await.expect("folds");
                other.adopt(&made);
                made
            } else {
                let made = other.batch(&events).await.expect("folds");
                one.adopt(&made);
                made
            };
            assert_same(&wanted, &made);
            next = wanted.position + 1;
        }
    }
}

/// A log that is not read before it is opened, and counts how often a page of it is.
struct Gated {
    inner: SharedStore,
    gate: Semaphore,
    pages: AtomicUsize,
}

#[async_trait]
impl EventStore for Gated {
    async fn append(&self, append: NewAppend) -> Result<Appended, AppendError> {
        self.inner.append(append).await
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        filter: &Filter,
        limit: usize,
    ) -> Result<Page, StoreError> {
        drop(self.gate.acquire().await.expect("it is never closed"));
        self.pages.fetch_add(1, Ordering::Relaxed);
        self.inner.read_all(from, direction, filter, limit).await
    }

    async fn read_stream(
        &self,
        stream: &str,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        self.inner.read_stream(stream, from, direction, limit).await
    }

    async fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        self.inner.event(id).await
    }

    async fn position_at(&self, time: DateTime<Utc>) -> Result<Position, StoreError> {
        self.inner.position_at(time).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.inner.head()
    }

    async fn tracking(&self, source: &str) -> Result<Option<u64>, StoreError> {
        self.inner.tracking(source).await
    }

    async fn load_snapshot(&self, stream: &str) -> Result<Option<Snapshot>, StoreError> {
        self.inner.load_snapshot(stream).await
    }

    async fn save_snapshot(&self, stream: &str, snapshot: Option<Snapshot>) -> Result<(), StoreError> {
        self.inner.save_snapshot(stream, snapshot).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_builds_read_the_log_once() {
    let inner: SharedStore = Arc::new(MemoryStore::new(Uuid::now_v7()));
    let mut log = Log::new(Arc::clone(&inner));
    brain::write(&mut log, 5_000, 3, 12).await;
    let gated = Arc::new(Gated { inner, gate: Semaphore::new(0), pages: AtomicUsize::new(0) });
    let pages = log.head().0.div_ceil(4_096);
    assert!(pages >= 8, "the log has only {pages} pages");
    // Both projections are begun with the projector, and so are built side by side.
    let stage = Stage::on(gated.clone()).await;
    gated.gate.add_permits(1);
    stage.settle().await;
    let read = gated.pages.load(Ordering::Relaxed) as u64;
    // Each reads the last page for itself.
    assert!(read <= pages + 2, "{read} pages were read of {pages}");
    for model in models() {
        let name = cairn_projector::Projection::name(&model);
        assert_eq!(stage.digest(name).await, digest_of(&log, &model, 1_000, 1 << 20).await, "{name}");
    }
}

/// Makes many memories in one append.
async fn import(log: &mut Log, memories: usize) {
    for number in 0..memories {
        let claims = vec![(FieldName::title(), format!("number {number}").as_str().into())];
        let create = Command::CreateMemory { kind: Kind::Note, claims, body: "".into() };
        log.decide(MemoryId::new(Uuid::now_v7()), Truth::User, create);
    }
    log.append().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runs_that_serve_read_a_full_page_once() {
    const PAGES: usize = 20;
    let inner: SharedStore = Arc::new(MemoryStore::new(Uuid::now_v7()));
    let gated = Arc::new(Gated { inner, gate: Semaphore::new(1), pages: AtomicUsize::new(0) });
    let mut stage = Stage::on(gated.clone()).await;
    stage.log.create(Kind::Note, "the first", "", &[]).await;
    stage.live().await;
    let before = gated.pages.load(Ordering::Relaxed);
    for _ in 0..PAGES {
        import(&mut stage.log, 200).await;
        stage.settle().await;
    }
    let read = gated.pages.load(Ordering::Relaxed) - before;
    // One that has waited long enough reads for itself, which a busy machine may bring about now and then.
    assert!(read <= PAGES + PAGES / 2, "{read} pages were read of {PAGES}");
    for model in models() {
        let name = cairn_projector::Projection::name(&model);
        assert_eq!(stage.digest(name).await, digest_of(&stage.log, &model, 1_000, 1 << 20).await, "{name}");
    }
}
