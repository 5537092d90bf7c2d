//! Projections that several processes share: whichever is asked, the one that runs them does it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_domain::kind::Kind;
use cairn_domain::memory::command::Command;
use cairn_domain::truth::Truth;
use cairn_event_store::{MemoryStore, postgres};
use cairn_projector::{
    Leases, Order, PostgresProjection, Projection, Projector, ProjectorError, Rebuild, State, Turns, WaitError,
    Workers,
};
use cairn_read_model::Memories;
use cairn_read_model::memories::Found;
use cairn_read_model::postgres::Server;
use cairn_testkit::postgres::{Database, database};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::brain;
use crate::log::Log;
use crate::stage::{PATIENCE, digest_of, models};

/// How many connections a projector of these tests opens at most.
const CONNECTIONS: u32 = 8;

/// A database with read models, and the log that they are of.
pub struct Shared {
    pub log: Log,
    pub memories: Memories,
    pool: PgPool,
    brain: Uuid,
    folder: TempDir,
    _database: Database,
}

impl Shared {
    pub async fn new() -> Self {
        let database = database().await;
        let pool = postgres::connect(database.url(), 4 * CONNECTIONS).await.expect("connects");
        postgres::migrate(&pool).await.expect("migrates");
        let brain = Uuid::now_v7();
        let log = Log::new(Arc::new(MemoryStore::new(brain)));
        let memories = Memories::postgres(Server::new(pool.clone(), brain, Handle::current()));
        Self { log, memories, pool, brain, folder: tempfile::tempdir().expect("a folder"), _database: database }
    }

    /// What a process has of the projections.
    pub async fn process(&self) -> Projector {
        let server = Server::new(self.pool.clone(), self.brain, Handle::current());
        let projections: Vec<Arc<dyn Projection>> = vec![Arc::new(PostgresProjection::memories(server))];
        let turns = Turns::Shared(Leases::new(self.pool.clone(), self.brain));
        let folder = self.folder.path().join(Uuid::now_v7().to_string());
        Projector::start_in_turns(self.log.store.clone(), folder, projections, turns).await.expect("starts")
    }

    pub async fn settle(&self, projector: &Projector) {
        projector.wait_for("memories", self.log.head(), PATIENCE).await.expect("catches up");
    }

    /// The projection equals a fold into a file.
    async fn assert_sound(&self, projector: &Projector) {
        self.settle(projector).await;
        let [memories, _] = models();
        let (position, digest) = projector.digest("memories").await.expect("digests");
        assert_eq!(position, self.log.head());
        assert_eq!(digest, digest_of(&self.log, &memories, 700, 1 << 20).await);
    }
}

async fn until(projector: &Projector, wanted: impl Fn(&cairn_projector::ProjectionStatus) -> bool) {
    let began = Instant::now();
    loop {
        let status = projector.status().await.remove(0);
        if wanted(&status) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{status:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Two processes, of which the first one runs the projection.
async fn two(shared: &Shared) -> (Projector, Projector) {
    let first = shared.process().await;
    until(&first, |status| status.state == State::Live).await;
    let second = shared.process().await;
    until(&second, |status| status.state == State::Standby && status.generation.is_some()).await;
    (first, second)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_of_one_process_is_done_by_the_other() {
    let mut shared = Shared::new().await;
    brain::write(&mut shared.log, 100, 10, 3).await;
    let (runner, asked) = two(&shared).await;
    let refused = asked.order("memories", Order::Back).await;
    assert!(matches!(refused, Err(ProjectorError::NoPrevious { .. })), "{refused:?}");
    let refused = asked.order("memories", Order::Cancel).await;
    assert!(matches!(refused, Err(ProjectorError::NotRebuilding { .. })), "{refused:?}");

    let rebuild = Rebuild { verify: true, workers: Workers::try_from(2).expect("two"), from_scratch: true };
    asked.order("memories", Order::Rebuild(rebuild)).await.expect("begins");
    until(&asked, |status| status.generation == Some(2) && status.rebuild.is_none()).await;
    assert_eq!(asked.status().await[0].previous, Some(1));
    brain::write(&mut shared.log, 20, 10, 4).await;
    shared.assert_sound(&runner).await;
    asked.order("memories", Order::Back).await.expect("begins");
    until(&asked, |status| status.generation == Some(1) && status.previous == Some(2)).await;
    shared.assert_sound(&runner).await;
    asked.order("memories", Order::DropPrevious).await.expect("drops");
    assert_eq!(asked.status().await[0].previous, None);
    assert_eq!(runner.status().await[0].previous, None);
    for projector in [runner, asked] {
        projector.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_heeded_by_every_process_and_outlasts_the_one_that_runs() {
    let mut shared = Shared::new().await;
    shared.log.create(Kind::Note, "Before", "", &[]).await;
    let (runner, asked) = two(&shared).await;
    asked.pause("memories").await.expect("pauses");
    until(&runner, |status| status.state == State::Paused).await;
    let id = shared.log.create(Kind::Note, "After", "", &[]).await;
    for projector in [&runner, &asked] {
        let waited = projector.wait_for("memories", shared.log.head(), PATIENCE).await;
        assert!(matches!(waited, Err(WaitError::Paused { .. })), "{waited:?}");
    }
    runner.shutdown().await;
    // The other one runs it now, and stands still as well.
    until(&asked, |status| status.state == State::Paused && status.lag > 0).await;
    let late = shared.process().await;
    until(&late, |status| status.state == State::Paused).await;
    late.resume("memories").await.expect("resumes");
    let reader = shared.memories.clone();
    until(&asked, |status| status.lag == 0).await;
    let found = tokio::task::spawn_blocking(move || reader.get(id)).await.expect("ends").expect("reads");
    assert!(matches!(found, Found::Memory(_)));
    for projector in [asked, late] {
        projector.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn going_back_and_erasing_are_the_same_in_a_database() {
    let mut shared = Shared::new().await;
    brain::write(&mut shared.log, 50, 10, 3).await;
    let id = shared.log.create(Kind::Note, "Gone", "Soon.", &[]).await;
    let projector = shared.process().await;
    until(&projector, |status| status.state == State::Live).await;
    let rebuild = projector.rebuild("memories", Rebuild::default()).await.expect("begins");
    rebuild.finished().await.expect("finishes");
    brain::write(&mut shared.log, 50, 10, 4).await;
    for generation in [1, 2] {
        let back = projector.back("memories").await.expect("begins");
        back.finished().await.expect("finishes");
        assert_eq!(back.generation(), generation);
        shared.assert_sound(&projector).await;
    }
    let verification = projector.verify("memories").await.expect("verifies");
    assert!(verification.matches);
    assert_eq!(projector.status().await[0].previous, Some(1), "the fold that it was compared with is no build");
    shared.log.command(id, Truth::User, Command::EraseMemory).await;
    shared.settle(&projector).await;
    assert_eq!(projector.status().await[0].previous, None);
    let schemas: Vec<String> =
        sqlx::query_scalar("SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^memories_'")
            .fetch_all(&shared.pool)
            .await
            .expect("asks");
    assert!(matches!(schemas.as_slice(), [serving] if serving.ends_with("_2")), "{schemas:?}");
    projector.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_nobody_carries_out_is_taken_back() {
    let shared = Shared::new().await;
    let server = Server::new(shared.pool.clone(), shared.brain, Handle::current());
    let projections: Vec<Arc<dyn Projection>> = vec![Arc::new(PostgresProjection::memories(server))];
    let folder = shared.folder.path().join("external");
    let external = Projector::start_in_turns(shared.log.store.clone(), folder, projections, Turns::Others);
    let external = external.await.expect("starts");
    let refused = external.order("memories", Order::Rebuild(Rebuild::default())).await;
    assert!(matches!(refused, Err(ProjectorError::Elsewhere { .. })), "{refused:?}");
    // Whoever comes later does not do what nobody waits for.
    let runner = shared.process().await;
    until(&runner, |status| status.state == State::Live).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(runner.status().await[0].generation, Some(1));
    assert!(runner.status().await[0].rebuild.is_none());
    for projector in [runner, external] {
        projector.shutdown().await;
    }
}
