//! The runner: waiting for what was written, stopping at what cannot be read, ending in order.

use std::time::Duration;

use cairn_domain::id::memory_stream;
use cairn_domain::kind::Kind;
use cairn_domain::truth::Truth;
use cairn_event_store::Position;
use cairn_projector::{ProjectorError, Rebuild, State, WaitError};
use cairn_read_model::memories::Found;

use crate::brain;
use crate::stage::{PATIENCE, Stage, digest_of, models};

#[tokio::test]
async fn readers_see_what_they_wrote() {
    let mut stage = Stage::on_disk().await;
    for number in 0..200 {
        let id = stage.log.create(Kind::Note, &format!("{number}"), "", &[]).await;
        let head = stage.log.head();
        stage.projector.wait_for("memories", head, PATIENCE).await.expect("is visible");
        assert!(matches!(stage.memories.get(id).expect("reads"), Found::Memory(_)));
    }
}

#[tokio::test]
async fn waiting_has_an_end() {
    let stage = Stage::new().await;
    let late = stage.projector.wait_for("memories", Position(5), Duration::from_millis(20)).await;
    assert_eq!(late, Err(WaitError::Timeout { projection: "memories", wanted: 5, reached: 0 }));
    let unknown = stage.projector.wait_for("dreams", Position(1), PATIENCE).await;
    assert!(matches!(unknown, Err(WaitError::Unknown { .. })));
    assert!(matches!(
        stage.projector.rebuild("dreams", Rebuild::default()).await,
        Err(ProjectorError::Unknown { .. })
    ));
}

#[tokio::test]
async fn an_unknown_event_stops_its_readers_with_a_clear_error_and_serves_on() {
    let mut stage = Stage::new().await;
    let id = stage.log.create(Kind::Note, "Before", "", &[]).await;
    let before = stage.settle().await;
    let at = stage.log.raw(&memory_stream(id), "memory.teleported", "{}").await;
    let failed = stage.projector.wait_for("memories", at, PATIENCE).await.expect_err("cannot get there");
    let WaitError::Failed { reached, reason, .. } = failed else { panic!("{failed:?}") };
    assert_eq!(reached, before.0);
    assert!(reason.contains(&format!("position {at}")) && reason.contains("memory.teleported"), "{reason}");
    let status = &stage.projector.status().await[0];
    assert_eq!((status.state, status.lag), (State::Failed, 1));
    assert!(status.problem.as_ref().is_some_and(|problem| problem.contains("newer version")));
    assert!(matches!(stage.memories.get(id).expect("reads"), Found::Memory(_)));
    // A rebuild meets the same event and never takes the place of what serves.
    let rebuild = stage.projector.rebuild("memories", Rebuild::default()).await.expect("begins");
    assert!(matches!(rebuild.finished().await, Err(ProjectorError::Ended { .. })));
    assert!(matches!(stage.memories.get(id).expect("reads"), Found::Memory(_)));
}

#[tokio::test]
async fn other_programs_streams_are_passed_by() {
    let stage = Stage::new().await;
    let at = stage.log.raw("weather", "memory.created", r#"{"kind":"note"}"#).await;
    for name in ["timeline", "memories"] {
        stage.projector.wait_for(name, at, PATIENCE).await.expect("it means nothing here");
    }
}

#[tokio::test]
async fn an_event_in_a_stream_of_the_brain_that_is_none_stops_too() {
    let stage = Stage::new().await;
    let at = stage.log.raw("memory-weather", "memory.created", r#"{"kind":"note"}"#).await;
    let failed = stage.projector.wait_for("timeline", at, PATIENCE).await.expect_err("cannot get there");
    assert!(failed.to_string().contains("memory-weather"), "{failed}");
}

#[tokio::test]
async fn a_stopped_projector_goes_on_where_it_was() {
    let mut stage = Stage::on_disk().await;
    let mut ids = brain::write(&mut stage.log, 20, 10, 2).await;
    for turn in 0..4 {
        // Stopped at once, wherever it is.
        stage = stage.restart().await;
        ids.extend(brain::write(&mut stage.log, 20, 10, turn).await);
    }
    for model in models() {
        let name = cairn_projector::Projection::name(&model);
        assert_eq!(stage.digest(name).await, digest_of(&stage.log, &model, 500, 1 << 20).await, "{name}");
    }
    stage.projector.shutdown().await;
    assert!(stage.projector.status().await.iter().all(|status| status.state == State::Stopped));
    let id = ids[0];
    stage.log.set(id, Truth::User, &[("mood", "calm".into())]).await;
    assert!(stage.memories.get(id).is_ok(), "queries are answered to the end");
}
