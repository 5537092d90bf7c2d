//! A build that is compared with a fold of its own before it serves.

use std::sync::Arc;

use cairn_projector::{Phase, Projector, ProjectorError, Rebuild, Workers};
use cairn_read_model::Memories;

use crate::brain;
use crate::crooked::Crooked;
use crate::stage::{PATIENCE, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_equal_to_a_fold_of_its_own_serves() {
    let mut stage = Stage::on_disk().await;
    brain::write(&mut stage.log, 100, 10, 4).await;
    stage.settle().await;
    for name in ["memories", "timeline"] {
        let rebuild = stage.projector.rebuild(name, Rebuild::default().verified()).await.expect("begins");
        let mut progress = rebuild.progress();
        let watching = tokio::spawn(async move {
            let mut verified = false;
            while progress.changed().await.is_ok() && !verified {
                verified = progress.borrow_and_update().phase == Phase::Verifying;
            }
            verified
        });
        // What comes in meanwhile is folded after the comparison.
        brain::write(&mut stage.log, 20, 10, 5).await;
        rebuild.finished().await.expect("finishes");
        assert!(watching.await.expect("ends"), "it was compared");
        assert!(stage.projector.verify(name).await.expect("verifies").matches);
        let left = std::fs::read_dir(stage.folder.path().join("read")).expect("reads").count();
        assert_eq!(left, 2, "the fold that it was compared with is gone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_from_a_fold_of_its_own_never_serves() {
    let mut stage = Stage::on_disk().await;
    brain::write(&mut stage.log, 50, 10, 4).await;
    let digest = stage.digest("memories").await;
    stage.projector.shutdown().await;
    let reader = Memories::default();
    let crooked = Crooked::losing(&reader, 2);
    let root = stage.folder.path().join("read");
    let projector = Projector::start(stage.log.store.clone(), root.clone(), vec![Arc::new(crooked)]);
    let projector = projector.await.expect("starts");
    projector.wait_for("memories", stage.log.head(), PATIENCE).await.expect("serves");
    let memories = reader.stats().expect("counts").memories;

    let verified = Rebuild { workers: Workers::try_from(2).expect("two"), ..Rebuild::default().verified() };
    let rebuild = projector.rebuild("memories", verified).await.expect("begins");
    let Err(ProjectorError::Ended { reason, .. }) = rebuild.finished().await else { panic!("it must not serve") };
    assert!(reason.contains(&digest) && reason.contains(&format!("position {}", stage.log.head())), "{reason}");
    let status = &projector.status().await[0];
    assert_eq!(status.generation, Some(1));
    let build = status.rebuild.as_ref().expect("it is told of");
    assert_eq!((build.phase, build.problem.as_deref()), (Phase::Failed, Some(reason.as_str())));
    assert_eq!(reader.stats().expect("counts").memories, memories, "readers noticed nothing");
    assert!(!root.join("memories/2").exists(), "nobody goes on with it");

    // Without the comparison it would have served.
    let rebuild = projector.rebuild("memories", Rebuild::default()).await.expect("begins");
    rebuild.finished().await.expect("finishes");
    assert_ne!(projector.digest("memories").await.expect("digests").1, digest);
    assert!(!projector.verify("memories").await.expect("verifies").matches);
    projector.shutdown().await;
}
