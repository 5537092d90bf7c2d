//! Generations: the same whatever the batches, built beside the serving one, swapped in at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_domain::kind::Kind;
use cairn_domain::truth::Truth;
use cairn_event_store::Position;
use cairn_projector::{Phase, Place, Projection, ProjectorError, Rebuild, State};
use cairn_read_model::memories::ListQuery;

use crate::brain;
use crate::log::Log;
use crate::stage::{PATIENCE, Stage, digest_of, fill, models};

#[tokio::test]
async fn batches_of_any_size_and_caches_of_any_size_give_one_digest() {
    let mut stage = Stage::on_disk().await;
    brain::write(&mut stage.log, 80, 15, 3).await;
    for model in models() {
        let name = model.name();
        let live = stage.digest(name).await;
        for (size, budget) in [(1, 1 << 20), (1, 0), (13, 4_000), (5_000, 1 << 20), (5_000, 0)] {
            assert_eq!(
                digest_of(&stage.log, &model, size, budget).await,
                live,
                "{name} by {size}, {budget} bytes"
            );
        }
    }
}

#[tokio::test]
async fn events_folded_in_before_change_nothing() {
    let mut stage = Stage::new().await;
    brain::write(&mut stage.log, 30, 10, 5).await;
    for model in models() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut generation = model.open(&Place { folder: folder.path().to_owned(), number: 1 }).expect("opens");
        let half = Position(stage.log.head().0 / 2);
        fill(&stage.log, &model, generation.as_mut(), 50, half, 1 << 20).await;
        let mut fold = cairn_projector::fold::Fold::new(stage.log.store.clone(), 1 << 20, model.entries());
        let filter = cairn_event_store::Filter::default();
        let direction = cairn_event_store::Direction::Forwards;
        let page = stage.log.store.read_all(Position(1), direction, &filter, 10_000).await.expect("reads");
        // One batch that reaches from the very first event over the checkpoint to the end.
        let batch = fold.batch(&page.events).await.expect("folds");
        for _ in 0..2 {
            generation.apply(&batch).expect("applies");
        }
        let digest = (generation.digester())().expect("digests").1;
        assert_eq!(digest, digest_of(&stage.log, &model, 1, 1 << 20).await, "{}", model.name());
    }
}

#[tokio::test]
async fn a_generation_left_in_the_middle_is_gone_on_with() {
    let mut stage = Stage::new().await;
    brain::write(&mut stage.log, 40, 10, 9).await;
    for model in models() {
        let folder = tempfile::tempdir().expect("a folder");
        let head = stage.log.head();
        for share in [3, 2, 1] {
            // Dropped without a word, as a kill would.
            let mut generation =
                model.open(&Place { folder: folder.path().to_owned(), number: 1 }).expect("opens");
            fill(&stage.log, &model, generation.as_mut(), 17, Position(head.0 / share), 1 << 20).await;
        }
        let generation = model.open(&Place { folder: folder.path().to_owned(), number: 1 }).expect("opens");
        assert_eq!(generation.checkpoint(), head.0);
        let digest = (generation.digester())().expect("digests").1;
        assert_eq!(digest, digest_of(&stage.log, &model, 1_000, 1 << 20).await);
    }
}

#[tokio::test]
async fn two_rebuilds_have_the_same_digest_and_each_takes_the_place_of_the_last() {
    let mut stage = Stage::on_disk().await;
    brain::write(&mut stage.log, 50, 10, 4).await;
    for name in ["memories", "timeline"] {
        let first = stage.digest(name).await;
        for generation in [2, 3] {
            let rebuild = stage.projector.rebuild(name, Rebuild::default()).await.expect("begins");
            rebuild.finished().await.expect("finishes");
            assert_eq!(rebuild.generation(), generation);
            assert_eq!(stage.digest(name).await, first);
        }
        let status =
            stage.projector.status().await.into_iter().find(|status| status.name == name).expect("is there");
        assert_eq!((status.generation, status.state, status.lag), (Some(3), State::Live, 0));
        let folder = stage.folder.path().join("read").join(name);
        assert!(!folder.join("1").exists(), "only the one before is kept");
        assert!(folder.join("2").exists() && folder.join("3").exists());
        assert!(stage.projector.verify(name).await.expect("verifies").matches);
    }
    let stage = stage.restart().await;
    assert_eq!(stage.projector.status().await[0].generation, Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_writers_notice_nothing_of_a_rebuild() {
    let mut stage = Stage::on_disk().await;
    let count = brain::write(&mut stage.log, 300, 30, 6).await.len();
    stage.settle().await;
    let (reader, over) = (stage.memories.clone(), Arc::new(AtomicBool::new(false)));
    let ended = over.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let (mut reads, mut seen) = (0, 0);
        while !ended.load(Ordering::Relaxed) {
            let stats = reader.stats().expect("answers at any moment");
            assert!(stats.memories >= count as u64, "never a half-built generation");
            let position = reader.position().expect("answers at any moment");
            assert!(position >= seen, "what was seen is never unseen");
            seen = position;
            reader.list(&ListQuery::default()).expect("answers at any moment");
            reads += 1;
        }
        reads
    });
    for turn in 0..3 {
        let rebuild = stage.projector.rebuild("memories", Rebuild::default()).await.expect("begins");
        while !matches!(rebuild.progress().borrow().phase, Phase::Live) {
            stage.log.create(Kind::Note, &format!("{turn}"), "", &[]).await;
            let head = stage.log.head();
            stage.projector.wait_for("memories", head, PATIENCE).await.expect("sees its own writes");
            assert!(stage.memories.position().expect("answers") >= head.0);
        }
        rebuild.finished().await.expect("finishes");
    }
    over.store(true, Ordering::Relaxed);
    assert!(reading.await.expect("never fails") > 0);
    assert!(stage.projector.verify("memories").await.expect("verifies").matches);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_rebuild_is_gone_on_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = cairn_event_store::SqliteStore::open(folder.path().join("log.db"), uuid::Uuid::now_v7());
    let mut log = Log::new(Arc::new(store.expect("opens")));
    brain::write(&mut log, 4_000, 10, 8).await;
    let stage = Stage::with(log, folder).await;
    let digest = stage.digest("memories").await;

    let rebuild = stage.projector.rebuild("memories", Rebuild::default()).await.expect("begins");
    let again = stage.projector.rebuild("memories", Rebuild::default()).await;
    assert!(matches!(again, Err(ProjectorError::AlreadyRebuilding { .. })));
    let mut progress = rebuild.progress();
    progress.wait_for(|progress| progress.position > 0).await.expect("gets on");
    stage.projector.cancel_rebuild("memories").await.expect("cancels");
    assert!(matches!(rebuild.finished().await, Err(ProjectorError::Ended { .. })));
    let reached = progress.borrow().position;
    assert!(reached > 0 && reached < stage.log.head().0, "it was cancelled on the way, at {reached}");
    assert!(matches!(stage.projector.cancel_rebuild("memories").await, Err(ProjectorError::NotRebuilding { .. })));

    let stage = stage.restart().await;
    let resumed = stage.projector.rebuild("memories", Rebuild::default()).await.expect("begins");
    assert_eq!(resumed.generation(), rebuild.generation());
    assert!(resumed.progress().borrow().position >= reached, "nothing is folded twice");
    resumed.finished().await.expect("finishes");
    assert_eq!(stage.digest("memories").await, digest);

    stage.projector.rebuild("memories", Rebuild::default()).await.expect("begins");
    stage.projector.cancel_rebuild("memories").await.ok();
    let fresh = stage.projector.rebuild("memories", Rebuild::from_scratch()).await.expect("begins");
    assert!(fresh.generation() > resumed.generation() + 1, "the unfinished one was given up");
    fresh.finished().await.expect("finishes");
    assert_eq!(stage.digest("memories").await, digest);
}

#[tokio::test]
async fn a_generation_of_another_version_or_a_damaged_one_is_built_anew() {
    let mut stage = Stage::new().await;
    let id = stage.log.create(Kind::Note, "One", "", &[]).await;
    stage.log.set(id, Truth::User, &[("mood", "calm".into())]).await;
    let digest = stage.digest("memories").await;
    stage.projector.shutdown().await;
    let generation = |number: u32| stage.folder.path().join(format!("read/memories/{number}/model.db"));
    let file = rusqlite::Connection::open(generation(1)).expect("opens");
    file.pragma_update(None, "user_version", 4_711).expect("writes");
    drop(file);
    let stage = stage.restart().await;
    assert_eq!(stage.digest("memories").await, digest);
    assert_eq!(stage.projector.status().await[0].generation, Some(2));

    stage.projector.shutdown().await;
    let file = stage.folder.path().join("read/memories/2/model.db");
    std::fs::write(file, "this is no database at all, and it is long enough to be looked at").expect("writes");
    let stage = stage.restart().await;
    assert_eq!(stage.digest("memories").await, digest);
    assert_eq!(stage.projector.status().await[0].generation, Some(3));
}
