//! The way back to the generation before: kept until it is told to go, and quick.

use std::path::PathBuf;
use std::sync::Arc;

use cairn_domain::kind::Kind;
use cairn_domain::memory::command::Command;
use cairn_domain::truth::Truth;
use cairn_projector::{Projector, ProjectorError, Rebuild, SearchProjection, SearchReader, State};
use cairn_read_model::memories::Found;
use cairn_search::embedder::StaticEmbedder;

use crate::brain;
use crate::crooked::Crooked;
use crate::stage::{PATIENCE, Stage, digest_of, models};

fn folder(stage: &Stage, generation: u64) -> PathBuf {
    stage.folder.path().join(format!("read/memories/{generation}"))
}

async fn rebuild(projector: &Projector, name: &str) -> u64 {
    let rebuild = projector.rebuild(name, Rebuild::default()).await.expect("begins");
    rebuild.finished().await.expect("finishes");
    rebuild.generation()
}

async fn back(projector: &Projector, name: &str) -> u64 {
    let back = projector.back(name).await.expect("begins");
    back.finished().await.expect("finishes");
    back.generation()
}

/// The generation that serves `memories` and the one before it.
async fn generations(stage: &Stage) -> (Option<u64>, Option<u64>) {
    let status = &stage.projector.status().await[0];
    (status.generation, status.previous)
}

#[tokio::test]
async fn the_generation_before_serves_again_with_all_that_came_in_since() {
    let mut stage = Stage::on_disk().await;
    brain::write(&mut stage.log, 50, 10, 4).await;
    for model in models() {
        let name = cairn_projector::Projection::name(&model);
        stage.settle().await;
        assert!(matches!(stage.projector.back(name).await, Err(ProjectorError::NoPrevious { .. })));
        assert_eq!(rebuild(&stage.projector, name).await, 2);
        for generation in [1, 2, 1] {
            // Left behind at the swap, and then by this.
            brain::write(&mut stage.log, 20, 10, generation).await;
            stage.settle().await;
            assert_eq!(back(&stage.projector, name).await, generation);
            assert_eq!(stage.digest(name).await, digest_of(&stage.log, &model, 100, 1 << 20).await);
        }
        assert_eq!(rebuild(&stage.projector, name).await, 3, "a number is used once");
    }
    assert_eq!(generations(&stage).await, (Some(3), Some(1)));
    assert!(!folder(&stage, 2).exists(), "only the one before is kept");
}

#[tokio::test]
async fn the_choice_outlasts_a_restart_and_so_does_the_way_back() {
    let mut stage = Stage::on_disk().await;
    brain::write(&mut stage.log, 20, 10, 4).await;
    stage.settle().await;
    rebuild(&stage.projector, "memories").await;
    back(&stage.projector, "memories").await;
    let mut stage = stage.restart().await;
    assert_eq!(generations(&stage).await, (Some(1), Some(2)));
    brain::write(&mut stage.log, 20, 10, 5).await;
    // Stopped on the way or at its end: either of the two serves, and the other one is kept.
    stage.projector.back("memories").await.expect("begins");
    let stage = stage.restart().await;
    let (serving, previous) = generations(&stage).await;
    assert!(matches!((serving, previous), (Some(1), Some(2)) | (Some(2), Some(1))), "{serving:?} {previous:?}");
    let way_back = back(&stage.projector, "memories").await;
    assert_eq!(Some(way_back), previous);
    assert!(stage.projector.verify("memories").await.expect("verifies").matches);
}

#[tokio::test]
async fn it_is_kept_until_it_is_told_to_go() {
    let mut stage = Stage::on_disk().await;
    brain::write(&mut stage.log, 20, 10, 4).await;
    stage.settle().await;
    rebuild(&stage.projector, "memories").await;
    // A build that is given up leaves the way back alone.
    stage.projector.rebuild("memories", Rebuild::from_scratch()).await.expect("begins");
    stage.projector.cancel_rebuild("memories").await.ok();
    let stage = stage.restart().await;
    let (serving, previous) = generations(&stage).await;
    let previous = previous.expect("it is kept");
    assert!(folder(&stage, previous).exists());
    stage.projector.drop_previous("memories").await.expect("drops");
    assert!(!folder(&stage, previous).exists());
    assert_eq!(generations(&stage).await, (serving, None));
    assert!(matches!(stage.projector.back("memories").await, Err(ProjectorError::NoPrevious { .. })));
    assert!(matches!(stage.projector.drop_previous("memories").await, Err(ProjectorError::NoPrevious { .. })));
    let stage = stage.restart().await;
    assert_eq!(generations(&stage).await, (serving, None));
    rebuild(&stage.projector, "memories").await;
    assert_eq!(generations(&stage).await.1, serving);
}

#[tokio::test]
async fn erasing_something_deletes_the_generation_before_whichever_it_is() {
    let mut stage = Stage::on_disk().await;
    for goes_back in [false, true] {
        let id = stage.log.create(Kind::Note, "Gone", "Soon.", &[]).await;
        stage.settle().await;
        rebuild(&stage.projector, "memories").await;
        if goes_back {
            back(&stage.projector, "memories").await;
        }
        let (serving, previous) = generations(&stage).await;
        let previous = previous.expect("it is kept");
        stage.log.command(id, Truth::User, Command::EraseMemory).await;
        stage.settle().await;
        assert_eq!(generations(&stage).await, (serving, None));
        assert!(!folder(&stage, previous).exists(), "it holds what was erased");
        assert!(matches!(stage.projector.back("memories").await, Err(ProjectorError::NoPrevious { .. })));
        stage = stage.restart().await;
        assert_eq!(generations(&stage).await, (serving, None));
        assert!(matches!(stage.memories.get(id).expect("answers"), Found::Erased { .. }));
    }
}

#[tokio::test]
async fn what_has_not_met_an_erasure_is_no_way_back() {
    let mut stage = Stage::new().await;
    let id = stage.log.create(Kind::Note, "Gone", "Soon.", &[]).await;
    stage.settle().await;
    stage.projector.shutdown().await;
    // The first generation cannot take the erasure in, so it stands before it when the second one takes its place.
    let crooked = Crooked::stuck_at_erasures(1);
    let projector =
        Projector::start(stage.log.store.clone(), stage.folder.path().join("read"), vec![Arc::new(crooked)]);
    let projector = projector.await.expect("starts");
    stage.log.command(id, Truth::User, Command::EraseMemory).await;
    projector.wait_for("memories", stage.log.head(), PATIENCE).await.expect_err("it fails");
    assert_eq!(projector.status().await[0].state, State::Failed);
    assert_eq!(rebuild(&projector, "memories").await, 2);
    assert_eq!(projector.status().await[0].previous, None);
    assert!(!folder(&stage, 1).exists(), "it holds what was erased");
}

#[tokio::test]
async fn a_generation_of_another_version_is_no_way_back() {
    let mut stage = Stage::on_disk().await;
    brain::write(&mut stage.log, 10, 10, 4).await;
    stage.settle().await;
    rebuild(&stage.projector, "memories").await;
    let file = rusqlite::Connection::open(folder(&stage, 1).join("model.db")).expect("opens");
    file.pragma_update(None, "user_version", 4_711).expect("writes");
    drop(file);
    assert!(matches!(stage.projector.back("memories").await, Err(ProjectorError::UselessPrevious { .. })));
    assert_eq!(generations(&stage).await, (Some(2), Some(1)));

    // After an upgrade both are; what is built then has nothing before it.
    stage.projector.shutdown().await;
    let file = rusqlite::Connection::open(folder(&stage, 2).join("model.db")).expect("opens");
    file.pragma_update(None, "user_version", 4_711).expect("writes");
    drop(file);
    let stage = stage.restart().await;
    stage.live().await;
    assert_eq!(generations(&stage).await, (Some(3), None));
    assert!(!folder(&stage, 1).exists() && !folder(&stage, 2).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_search_index_goes_back_too() {
    let mut stage = Stage::on_disk().await;
    brain::write(&mut stage.log, 20, 10, 4).await;
    let search = SearchProjection::new(SearchReader::default(), Arc::new(StaticEmbedder::new()));
    let root = stage.folder.path().join("search");
    let projector = Projector::start(stage.log.store.clone(), root, vec![Arc::new(search)]).await.expect("starts");
    projector.wait_for("search", stage.log.head(), PATIENCE).await.expect("is built");
    assert_eq!(rebuild(&projector, "search").await, 2);
    brain::write(&mut stage.log, 20, 10, 5).await;
    assert_eq!(back(&projector, "search").await, 1);
    projector.wait_for("search", stage.log.head(), PATIENCE).await.expect("catches up");
    assert!(projector.verify("search").await.expect("verifies").matches);
    projector.pause("search").await.expect("pauses");
    brain::write(&mut stage.log, 5, 10, 6).await;
    assert!(projector.wait_for("search", stage.log.head(), PATIENCE).await.is_err());
    projector.resume("search").await.expect("resumes");
    projector.drop_previous("search").await.expect("drops");
    projector.wait_for("search", stage.log.head(), PATIENCE).await.expect("catches up");
    projector.shutdown().await;
}
