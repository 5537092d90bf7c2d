//! A paused projection stands still and says so.

use std::time::{Duration, Instant};

use cairn_domain::kind::Kind;
use cairn_event_store::{MemoryStore, Position, SharedStore};
use cairn_projector::{Phase, ProjectorError, Rebuild, State, WaitError};
use cairn_read_model::memories::Found;
use uuid::Uuid;

use crate::brain;
use crate::log::Log;
use crate::stage::{PATIENCE, Stage, digest_of, models};

/// What has not moved for so long does not move.
const STILL: Duration = Duration::from_secs(2);
/// As long as anything would take that a pause should have kept from happening.
const WHILE: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_paused_projection_answers_from_what_it_has_and_waits_end_at_once() {
    let mut stage = Stage::on_disk().await;
    let before = stage.log.create(Kind::Note, "Before", "", &[]).await;
    let reached = stage.settle().await;
    stage.projector.pause("memories").await.expect("pauses");
    let after = stage.log.create(Kind::Note, "After", "", &[]).await;
    let head = stage.log.head();
    let began = Instant::now();
    let waited = stage.projector.wait_for("memories", head, PATIENCE).await;
    let paused = WaitError::Paused { projection: "memories", wanted: head.0, reached: reached.0 };
    assert_eq!(waited, Err(paused));
    assert!(began.elapsed() < PATIENCE / 10, "it waited for what cannot come");
    stage.projector.wait_for("memories", reached, PATIENCE).await.expect("what is there is there");
    stage.projector.wait_for("timeline", head, PATIENCE).await.expect("the others go on");
    tokio::time::sleep(WHILE).await;
    assert!(matches!(stage.memories.get(before).expect("answers"), Found::Memory(_)));
    assert!(matches!(stage.memories.get(after).expect("answers"), Found::Nothing));

    let status = &stage.projector.status().await[0];
    assert_eq!((status.state, status.position, status.lag), (State::Paused, reached.0, head.0 - reached.0));
    assert!(status.lag_seconds.is_some_and(|age| age >= WHILE.as_secs_f64()), "{:?}", status.lag_seconds);
    stage.projector.resume("memories").await.expect("resumes");
    stage.view(after).await;
    let status = &stage.projector.status().await[0];
    assert_eq!((status.lag, status.lag_seconds), (0, Some(0.0)));
}

#[tokio::test]
async fn a_wait_that_has_begun_ends_when_the_projection_is_paused() {
    let stage = Stage::new().await;
    let projector = stage.projector.clone();
    let waiting = tokio::spawn(async move { projector.wait_for("memories", Position(5), PATIENCE).await });
    tokio::task::yield_now().await;
    stage.projector.pause("memories").await.expect("pauses");
    assert!(matches!(waiting.await.expect("ends"), Err(WaitError::Paused { .. })));
}

#[tokio::test]
async fn a_pause_outlasts_a_restart() {
    let mut stage = Stage::on_disk().await;
    brain::write(&mut stage.log, 10, 10, 2).await;
    let reached = stage.settle().await;
    for name in ["memories", "timeline"] {
        stage.projector.pause(name).await.expect("pauses");
    }
    let mut stage = stage.restart().await;
    brain::write(&mut stage.log, 10, 10, 3).await;
    tokio::time::sleep(WHILE).await;
    for status in stage.projector.status().await {
        assert_eq!((status.state, status.position), (State::Paused, reached.0), "{}", status.name);
        stage.projector.resume(status.name).await.expect("resumes");
    }
    for model in models() {
        let name = cairn_projector::Projection::name(&model);
        assert_eq!(stage.digest(name).await, digest_of(&stage.log, &model, 100, 1 << 20).await, "{name}");
    }
    let stage = stage.restart().await;
    stage.live().await;
}

#[tokio::test]
async fn nothing_is_built_for_a_paused_projection() {
    let mut stage = Stage::on_disk().await;
    brain::write(&mut stage.log, 10, 10, 4).await;
    stage.settle().await;
    stage.projector.rebuild("memories", Rebuild::default()).await.expect("begins").finished().await.expect("ends");
    stage.projector.pause("memories").await.expect("pauses");
    let refused = stage.projector.rebuild("memories", Rebuild::default()).await;
    assert!(matches!(refused, Err(ProjectorError::Paused { .. })));
    assert!(matches!(stage.projector.back("memories").await, Err(ProjectorError::Paused { .. })));
    assert!(matches!(stage.projector.pause("dreams").await, Err(ProjectorError::Unknown { .. })));
}

#[tokio::test]
async fn a_build_stands_still_with_its_projection_and_goes_on_with_it() {
    let store: SharedStore = std::sync::Arc::new(MemoryStore::new(Uuid::now_v7()));
    let mut log = Log::new(store);
    brain::write(&mut log, 4_000, 10, 8).await;
    let stage = Stage::with(log, tempfile::tempdir().expect("a folder")).await;
    stage.settle().await;
    let rebuild = stage.projector.rebuild("memories", Rebuild::default()).await.expect("begins");
    let mut progress = rebuild.progress();
    progress.wait_for(|progress| progress.position > 0).await.expect("gets on");
    stage.projector.pause("memories").await.expect("pauses");
    // What is on its way to the disk by now still gets there.
    while tokio::time::timeout(STILL, progress.changed()).await.is_ok() {}
    let reached = progress.borrow().position;
    let status = &stage.projector.status().await[0];
    assert_eq!((status.state, status.generation), (State::Paused, Some(1)));
    assert_eq!(status.rebuild.as_ref().map(|build| build.position), Some(reached));
    assert_ne!(progress.borrow().phase, Phase::Live, "readers keep what they have");
    stage.projector.resume("memories").await.expect("resumes");
    rebuild.finished().await.expect("finishes");
    assert!(stage.projector.verify("memories").await.expect("verifies").matches);
}
