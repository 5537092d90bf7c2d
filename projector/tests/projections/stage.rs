//! A log with projections on it, in a folder of their own.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_domain::id::MemoryId;
use cairn_event_store::{Direction, Filter, MemoryStore, Position, SharedStore, SqliteStore};
use cairn_projector::fold::Fold;
use cairn_projector::{Generation, Place, Projection, Projector, SqliteProjection, State};
use cairn_read_model::memories::{Found, MemoryView};
use cairn_read_model::{Memories, Timeline};
use tempfile::TempDir;
use uuid::Uuid;

use crate::log::Log;

/// Longer than anything here takes, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Stage {
    pub log: Log,
    pub projector: Projector,
    pub memories: Memories,
    pub timeline: Timeline,
    pub folder: TempDir,
}

impl Stage {
    /// Projections on a log in memory.
    pub async fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new(Uuid::now_v7()))).await
    }

    /// Projections on a log in a file.
    pub async fn on_disk() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SqliteStore::open(folder.path().join("log.db"), Uuid::now_v7()).expect("opens");
        Self::with(Log::new(Arc::new(store)), folder).await
    }

    pub async fn on(store: SharedStore) -> Self {
        Self::with(Log::new(store), tempfile::tempdir().expect("a folder")).await
    }

    pub async fn with(log: Log, folder: TempDir) -> Self {
        let (memories, timeline) = (Memories::default(), Timeline::default());
        let projector = start(&log, folder.path(), &memories, &timeline).await;
        Self { log, projector, memories, timeline, folder }
    }

    /// Stops the projections and starts them again on what they left.
    pub async fn restart(self) -> Self {
        self.projector.shutdown().await;
        Self::with(self.log, self.folder).await
    }

    /// Waits until queries see everything.
    pub async fn settle(&self) -> Position {
        let head = self.log.head();
        self.projector.wait_for_all(head, PATIENCE).await.expect("catches up");
        head
    }

    /// Waits until every projection has everything, and nothing is left of what was before.
    pub async fn live(&self) {
        self.settle().await;
        let began = Instant::now();
        while self.projector.status().await.iter().any(|status| status.state != State::Live) {
            assert!(began.elapsed() < PATIENCE, "{:#?}", self.projector.status().await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn view(&self, id: MemoryId) -> MemoryView {
        self.settle().await;
        match self.memories.get(id).expect("reads") {
            Found::Memory(view) => *view,
            other => panic!("{id} is {other:?}"),
        }
    }

    pub async fn digest(&self, name: &str) -> String {
        let head = self.settle().await;
        let (position, digest) = self.projector.digest(name).await.expect("digests");
        assert_eq!(position, head);
        digest
    }
}

async fn start(log: &Log, folder: &Path, memories: &Memories, timeline: &Timeline) -> Projector {
    let models: Vec<Arc<dyn Projection>> = vec![
        Arc::new(SqliteProjection::memories(memories.clone())),
        Arc::new(SqliteProjection::timeline(timeline.clone())),
    ];
    Projector::start(log.store.clone(), folder.join("read"), models).await.expect("starts")
}

/// Both models, without anybody to read them.
pub fn models() -> [SqliteProjection; 2] {
    [SqliteProjection::memories(Memories::default()), SqliteProjection::timeline(Timeline::default())]
}

/// Folds the log into a generation in batches of one size, up to a position, with a cache of `budget` bytes.
pub async fn fill(
    log: &Log,
    projection: &SqliteProjection,
    generation: &mut dyn Generation,
    size: usize,
    until: Position,
    budget: usize,
) {
    let mut fold = Fold::new(log.store.clone(), budget, projection.entries());
    let mut next = generation.checkpoint() + 1;
    while next <= until.0 {
        let limit = size.min((until.0 - next + 1) as usize);
        let filter = Filter::default();
        let page = log.store.read_all(Position(next), Direction::Forwards, &filter, limit).await.expect("reads");
        let batch = fold.batch(&page.events).await.expect("folds");
        next = batch.position + 1;
        generation.apply(&batch).expect("applies");
    }
}

/// The digest of a fold of the whole log into a new folder, in batches of one size.
pub async fn digest_of(log: &Log, projection: &SqliteProjection, size: usize, budget: usize) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut generation = projection.open(&Place { folder: folder.path().to_owned(), number: 1 }).expect("opens");
    fill(log, projection, generation.as_mut(), size, log.head(), budget).await;
    (generation.digester())().expect("digests").1
}
