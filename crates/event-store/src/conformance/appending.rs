use std::sync::Arc;

use uuid::Uuid;

use super::{BRAIN, Scene, append, event, ids};
use crate::event::{
    Direction, ExpectedRevision, MAX_APPEND_EVENTS, MAX_EVENT_BYTES, MAX_STREAM_NAME_BYTES, NewAppend, Position,
    Revision, StreamAppend, Tracking,
};
use crate::port::AppendError;
use crate::sealed::ENTRY_TYPE;

use ExpectedRevision::{Any, Exact, NoStream, StreamExists};

pub async fn append_tells_position_and_revisions(scene: Scene) {
    let (a, b, c) = (event("a"), event("b"), event("c"));

    let first = scene.append("x", NoStream, vec![a.clone(), b.clone()]).await.unwrap();
    let second = scene
        .store
        .append(append([scene.on("y", Any, vec![]), scene.on("x", Exact(Revision(1)), vec![c.clone()])]));
    let second = second.await.unwrap();

    assert_eq!((first.position, first.revisions, first.repeated), (Position(2), vec![Revision(1)], false));
    assert_eq!((second.position, second.revisions, second.repeated), (Position(3), vec![Revision(2)], false));
    let log = scene.log().await;
    assert_eq!(ids(&log), [a.id, b.id, c.id]);
    for (recorded, (given, number)) in log.iter().zip([(&a, 0), (&b, 1), (&c, 2)]) {
        assert_eq!((recorded.position, recorded.revision), (Position(number + 1), Revision(number)));
        assert_eq!((&recorded.data, &recorded.metadata), (&given.data, &given.metadata));
        assert_eq!((&recorded.event_type, recorded.schema_version), (&given.event_type, 3));
        assert_eq!((&*recorded.stream, recorded.brain, recorded.erased), (&*scene.name("x"), BRAIN, false));
        assert_eq!(recorded.recorded_at.timestamp_subsec_nanos() % 1_000, 0, "more than microseconds");
    }
    assert!(log.is_sorted_by_key(|event| event.recorded_at));
    assert_eq!(*scene.store.head().borrow(), Position(3));
}

pub async fn expected_revisions_are_enforced(scene: Scene) {
    for wrong in [StreamExists, Exact(Revision(0))] {
        refused(&scene, wrong, None).await;
    }
    scene.append("x", NoStream, vec![event("0")]).await.unwrap();
    for wrong in [NoStream, Exact(Revision(1)), Exact(Revision(u64::MAX))] {
        refused(&scene, wrong, Some(Revision(0))).await;
    }
    for (right, revision) in [(StreamExists, 1), (Exact(Revision(1)), 2), (Any, 3)] {
        let appended = scene.append("x", right, vec![event("more")]).await.unwrap();
        assert_eq!(appended.revisions, [Revision(revision)]);
    }
}

async fn refused(scene: &Scene, given: ExpectedRevision, at: Option<Revision>) {
    match scene.append("x", given, vec![event("wrong")]).await {
        Err(AppendError::WrongExpectedRevision { stream, expected, actual }) => {
            assert_eq!((stream, expected, actual), (scene.name("x"), given, at));
        }
        other => panic!("{given:?} on a stream at {at:?}: {other:?}"),
    }
}

pub async fn several_streams_are_all_or_nothing(scene: Scene) {
    scene.fill("x", 1).await;

    let failed = scene.store.append(append([
        scene.on("y", NoStream, vec![event("y0"), event("y1")]),
        scene.on("x", NoStream, vec![event("x1")]),
    ]));
    assert!(matches!(failed.await, Err(AppendError::WrongExpectedRevision { .. })));
    assert_eq!(scene.log().await.len(), 1);
    assert_eq!(*scene.store.head().borrow(), Position(1));

    let written = scene.store.append(append([
        scene.on("y", NoStream, vec![event("y0"), event("y1")]),
        scene.on("x", Exact(Revision(0)), vec![event("x1")]),
    ]));
    assert_eq!(written.await.unwrap().revisions, [Revision(1), Revision(1)]);
    assert_eq!((scene.stream("x").await.len(), scene.stream("y").await.len()), (2, 2));
}

pub async fn checks_alone_write_nothing(scene: Scene) {
    scene.fill("x", 2).await;

    let held = scene.append("x", Exact(Revision(1)), vec![]).await.unwrap();
    assert_eq!((held.position, held.revisions, held.repeated), (Position(2), vec![], false));
    assert!(scene.append("x", Exact(Revision(0)), vec![]).await.is_err());

    let written = append([scene.on("gone", StreamExists, vec![]), scene.on("y", Any, vec![event("y")])]);
    assert!(matches!(scene.store.append(written).await, Err(AppendError::WrongExpectedRevision { .. })));
    assert!(scene.stream("y").await.is_empty() && scene.stream("gone").await.is_empty());
}

pub async fn a_repeated_append_returns_the_first_result(scene: Scene) {
    let given = append([
        scene.on("x", NoStream, vec![event("x0"), event("x1")]),
        scene.on("z", NoStream, vec![]),
        scene.on("y", NoStream, vec![event("y0")]),
    ]);
    let first = scene.store.append(given.clone()).await.unwrap();
    assert!(!first.repeated);
    // What was expected then holds no longer: the result is the first all the same.
    scene.fill("x", 3).await;
    scene.fill("z", 1).await;

    for _ in 0..2 {
        let again = scene.store.append(given.clone()).await.unwrap();
        assert!(again.repeated);
        assert_eq!((again.position, &again.revisions), (first.position, &first.revisions));
    }
    assert_eq!(scene.log().await.len(), 7);
}

pub async fn a_reused_id_is_refused(scene: Scene) {
    let original = event("original");
    scene.append("x", Any, vec![original.clone()]).await.unwrap();

    let mut data = original.clone();
    data.data = "{}".into();
    let mut metadata = original.clone();
    metadata.metadata = "{}".into();
    let mut event_type = original.clone();
    event_type.event_type = "memory.other".into();
    let mut version = original.clone();
    version.schema_version = 4;
    for (stream, other) in
        [("x", data), ("x", metadata), ("x", event_type), ("x", version), ("y", original.clone())]
    {
        let refused = scene.append(stream, Any, vec![other.clone()]).await;
        assert!(matches!(&refused, Err(AppendError::EventIdReused { id }) if *id == original.id), "{refused:?}");
    }
    assert_eq!(scene.log().await.len(), 1);
    // The store goes on as if nothing had been.
    assert!(!scene.append("x", Exact(Revision(0)), vec![event("next")]).await.unwrap().repeated);
}

pub async fn a_partly_known_append_is_refused(scene: Scene) {
    let (known, new) = (event("known"), event("new"));
    scene.append("x", Any, vec![known.clone()]).await.unwrap();

    for events in [vec![known.clone(), new.clone()], vec![new.clone(), known.clone()]] {
        let refused = scene.append("x", Any, events).await;
        assert!(matches!(refused, Err(AppendError::EventIdReused { id }) if id == known.id));
    }
    assert_eq!(scene.log().await.len(), 1);
    assert!(scene.store.event(new.id).await.unwrap().is_none());
}

pub async fn limits_are_enforced(scene: Scene) {
    let long: Arc<str> = "n".repeat(MAX_STREAM_NAME_BYTES + 1).into();
    let mut large = event("large");
    large.data = vec![b' '; MAX_EVENT_BYTES + 1 - large.metadata.len()].into();
    let twice = event("twice");
    let mut named = scene.on("x", Any, vec![event("named")]);
    named.stream = long;
    let mut unnamed = scene.on("x", Any, vec![event("unnamed")]);
    unnamed.stream = "".into();
    let mut untyped = event("untyped");
    untyped.event_type = "".into();
    let many = (0..=MAX_APPEND_EVENTS).map(|_| event("many")).collect();

    for refused in [
        NewAppend::default(),
        append([scene.on("x", Any, vec![large.clone()])]),
        append([scene.on("x", Any, vec![twice.clone(), twice])]),
        append([scene.on("x", Any, vec![event("1")]), scene.on("x", Any, vec![event("2")])]),
        append([named]),
        append([unnamed]),
        append([scene.on("x", Any, vec![untyped])]),
        append([scene.on("x", Any, many)]),
    ] {
        let answer = scene.store.append(refused).await;
        assert!(matches!(answer, Err(AppendError::Invalid(_))), "{answer:?}");
    }
    assert!(scene.log().await.is_empty());

    // Half of the limit passes everywhere: a wrapper may need some of it for itself.
    large.data.truncate(MAX_EVENT_BYTES / 2);
    scene.append("x", Any, vec![large.clone()]).await.unwrap();
    assert_eq!(scene.stream("x").await[0].data, large.data);
}

pub async fn tracking_is_recorded_with_the_events(scene: Scene) {
    let tracked = |position, id, expected| {
        let mut given = event("imported");
        given.id = id;
        given.data = "{}".into();
        let tracking = Some(Tracking { source: "vault".into(), position });
        NewAppend { streams: vec![scene.on("x", expected, vec![given])], tracking }
    };
    let tracking = || async { scene.store.tracking("vault").await.unwrap() };
    assert_eq!(tracking().await, None);

    let id = Uuid::now_v7();
    scene.store.append(tracked(7, id, Any)).await.unwrap();
    assert_eq!(tracking().await, Some(7));

    // Refused for either reason, neither part is kept.
    assert!(scene.store.append(tracked(9, Uuid::now_v7(), NoStream)).await.is_err());
    for stale in [7, 3] {
        let refused = scene.store.append(tracked(stale, Uuid::now_v7(), Any)).await;
        assert!(
            matches!(&refused, Err(AppendError::TrackingConflict { source_name, given, recorded: 7 })
                if &**source_name == "vault" && *given == stale),
            "{refused:?}"
        );
    }
    assert_eq!((tracking().await, scene.log().await.len()), (Some(7), 1));

    // The same import again is a repetition, not a conflict; and a position may be moved on alone.
    assert!(scene.store.append(tracked(7, id, Any)).await.unwrap().repeated);
    let alone = NewAppend { streams: vec![], tracking: Some(Tracking { source: "vault".into(), position: 8 }) };
    assert_eq!(scene.store.append(alone).await.unwrap().position, Position(1));
    assert_eq!((tracking().await, scene.store.tracking("other").await.unwrap()), (Some(8), None));
}

/// What may be encrypted with the key of another stream reads as it was given, and is recognised when it is repeated.
pub async fn entries_about_memories_are_kept_and_recognised(scene: Scene) {
    let memory = Uuid::now_v7();
    let begun =
        StreamAppend { stream: format!("memory-{memory}").into(), expected: NoStream, events: vec![event("x")] };
    let (mut about, mut control) = (event("about it"), event("about none"));
    for (entry, metadata) in
        [(&mut about, format!("{{\"memory\":\"{memory}\"}}")), (&mut control, "{\"memory\":null}".to_owned())]
    {
        (entry.event_type, entry.metadata) = (ENTRY_TYPE.into(), metadata.into());
    }
    let given = vec![about.clone(), control.clone()];
    let chain = StreamAppend { stream: "space-x".into(), expected: NoStream, events: given };
    let first = append([chain, begun]);
    let mut later = about.clone();
    later.id = Uuid::now_v7();
    let second = append([StreamAppend {
        stream: "space-x".into(),
        expected: Exact(Revision(1)),
        events: vec![later.clone()],
    }]);

    for repeated in [false, true] {
        for (given, revisions) in [(&first, vec![Revision(1), Revision(0)]), (&second, vec![Revision(2)])] {
            let appended = scene.store.append(given.clone()).await.unwrap();
            assert_eq!((appended.repeated, appended.revisions), (repeated, revisions));
        }
    }
    let chain = scene.store.read_stream("space-x", Revision(0), Direction::Forwards, 10).await.unwrap();
    let content: Vec<_> = chain.iter().map(|event| (event.id, &event.data, &event.metadata)).collect();
    assert_eq!(content, [&about, &control, &later].map(|event| (event.id, &event.data, &event.metadata)));
    assert_eq!(scene.log().await.len(), 4);
}
