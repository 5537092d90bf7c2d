use std::time::Duration;

use chrono::TimeDelta;
use uuid::Uuid;

use super::{Scene, append, event, ids, new_ids, typed};
use crate::event::{Direction, ExpectedRevision, Filter, Position, Revision};

use Direction::{Backwards, Forwards};

pub async fn the_log_reads_in_both_directions(scene: Scene) {
    let open = Filter::default();
    let read = |from, direction, limit| scene.store.read_all(Position(from), direction, &open, limit);
    assert_eq!(read(1, Forwards, 10).await.unwrap().next, None);
    assert!(read(u64::MAX, Backwards, 10).await.unwrap().events.is_empty());
    let all = new_ids(&scene.fill("x", 5).await);

    let page = read(2, Forwards, 2).await.unwrap();
    assert_eq!((ids(&page.events), page.next), (all[1..3].to_vec(), Some(Position(4))));
    let page = read(4, Forwards, 2).await.unwrap();
    assert_eq!((ids(&page.events), page.next), (all[3..].to_vec(), None));
    let page = read(4, Backwards, 3).await.unwrap();
    assert_eq!((ids(&page.events), page.next), (vec![all[3], all[2], all[1]], Some(Position(1))));
    let page = read(u64::MAX, Backwards, 1).await.unwrap();
    assert_eq!((ids(&page.events), page.next), (vec![all[4]], Some(Position(4))));
    for (from, direction) in [(6, Forwards), (u64::MAX, Forwards), (0, Backwards)] {
        let page = read(from, direction, 10).await.unwrap();
        assert_eq!((page.events, page.next), (vec![], None), "from {from} {direction:?}");
    }
    assert_eq!(ids(&read(0, Forwards, 10).await.unwrap().events), all);
}

pub async fn a_stream_reads_in_both_directions(scene: Scene) {
    let mut all = Vec::new();
    for _ in 0..5 {
        all.extend(new_ids(&scene.fill("x", 1).await));
        scene.fill("y", 1).await;
    }
    let name = scene.name("x");
    let read = async |from, direction, limit| {
        ids(&scene.store.read_stream(&name, Revision(from), direction, limit).await.unwrap())
    };

    assert_eq!(read(0, Forwards, 10).await, all);
    assert_eq!(read(1, Forwards, 2).await, all[1..3]);
    assert_eq!(read(3, Backwards, 2).await, [all[3], all[2]]);
    assert_eq!(read(u64::MAX, Backwards, 1).await, [all[4]]);
    assert_eq!(read(u64::MAX, Backwards, usize::MAX).await.len(), 5);
    assert!(read(5, Forwards, 10).await.is_empty() && read(u64::MAX, Forwards, 10).await.is_empty());
    assert!(scene.stream("never").await.is_empty());
}

/// Long enough that an adapter keeps its parts in different places.
pub async fn a_long_stream_reads_as_a_whole(scene: Scene) {
    let mut all = Vec::new();
    for _ in 0..9 {
        let events: Vec<_> = (0..2_000).map(|_| event("long")).collect();
        all.extend(new_ids(&events));
        scene.append("x", ExpectedRevision::Any, events).await.unwrap();
        scene.fill("y", 1).await;
    }
    all.extend(new_ids(&scene.fill("x", 10).await));
    let name = scene.name("x");
    let read = async |from: usize, direction, limit| {
        ids(&scene.store.read_stream(&name, Revision(from as u64), direction, limit).await.unwrap())
    };

    assert_eq!(read(0, Forwards, usize::MAX).await, all);
    let reversed: Vec<_> = all.iter().rev().copied().collect();
    assert_eq!(read(all.len(), Backwards, usize::MAX).await, reversed);
    for from in [0, 1_999, 15_999, 16_000, 16_383, 16_384, 17_999, 18_000, 18_009] {
        let end = (from + 50).min(all.len());
        assert_eq!(read(from, Forwards, 50).await, all[from..end], "from {from}");
        let expected: Vec<_> = all[from.saturating_sub(49)..=from].iter().rev().copied().collect();
        assert_eq!(read(from, Backwards, 50).await, expected, "back from {from}");
    }
    let appended = scene.append("x", ExpectedRevision::Exact(Revision(all.len() as u64 - 1)), vec![event("last")]);
    assert_eq!(appended.await.unwrap().revisions, [Revision(all.len() as u64)]);
}

pub async fn filters_pass_streams_and_types(scene: Scene) {
    for (stream, event_type) in [
        ("a1", "memory.noted"),
        ("a2", "memory.field.claimed"),
        ("b1", "memory.field.cleared"),
        ("b1", "memory.fields"),
        ("c1", "memory.noted"),
    ] {
        scene.append(stream, ExpectedRevision::Any, vec![typed(event_type, "x")]).await.unwrap();
    }
    let prefixes = |names: &[&str]| names.iter().map(|name| scene.name(name).to_string()).collect::<Vec<_>>();
    let types = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let cases: [(Vec<String>, Vec<String>, &[u64]); 8] = [
        (vec![], vec![], &[1, 2, 3, 4, 5]),
        (prefixes(&["a"]), vec![], &[1, 2]),
        (prefixes(&["a2", "b"]), vec![], &[2, 3, 4]),
        (vec![], types(&["memory.field."]), &[2, 3]),
        (vec![], types(&["memory.field"]), &[]),
        (vec![], types(&["memory.fields", "memory.noted"]), &[1, 4, 5]),
        (prefixes(&["b", "c"]), types(&["memory.noted", "memory.field."]), &[3, 5]),
        (vec!["nobody-".into()], vec![], &[]),
    ];
    for (stream_prefixes, event_types, expected) in cases {
        let filter = Filter { stream_prefixes, event_types };
        for limit in [1, 2, 100] {
            let positions =
                |events: Vec<crate::RecordedEvent>| events.iter().map(|e| e.position.0).collect::<Vec<_>>();
            let forwards = positions(scene.log_through(&filter, Forwards, limit).await);
            let mut backwards = positions(scene.log_through(&filter, Backwards, limit).await);
            backwards.reverse();
            assert_eq!((&*forwards, &*backwards), (expected, expected), "{filter:?}, {limit} a page");
        }
    }
}

pub async fn pages_lead_through_the_whole_log(scene: Scene) {
    let events: Vec<_> =
        (0..3_000).map(|n| typed(if n % 1_000 == 0 { "rare.one" } else { "memory.x" }, "x")).collect();
    let all = new_ids(&events);
    for (number, chunk) in events.chunks(1_000).enumerate() {
        let (even, odd) = chunk.split_at(500);
        let (x, y) = (format!("x{number}"), format!("y{number}"));
        let any = ExpectedRevision::Any;
        scene
            .store
            .append(append([scene.on(&x, any, even.to_vec()), scene.on(&y, any, odd.to_vec())]))
            .await
            .unwrap();
    }
    assert_eq!(ids(&scene.log_through(&Filter::default(), Forwards, 700).await), all);
    let rare = Filter { event_types: vec!["rare.".into()], ..Filter::default() };
    assert_eq!(ids(&scene.log_through(&rare, Forwards, 2).await), [all[0], all[1_000], all[2_000]]);
    assert_eq!(ids(&scene.log_through(&rare, Backwards, 2).await), [all[2_000], all[1_000], all[0]]);
}

pub async fn events_are_found_by_id(scene: Scene) {
    let events = scene.fill("x", 3).await;
    let found = scene.store.event(events[1].id).await.unwrap().unwrap();
    assert_eq!((found.position, found.revision, found.data), (Position(2), Revision(1), events[1].data.clone()));
    assert!(scene.store.event(Uuid::now_v7()).await.unwrap().is_none());
}

pub async fn positions_are_found_by_time(scene: Scene) {
    assert_eq!(scene.store.position_at(chrono::DateTime::UNIX_EPOCH).await.unwrap(), Position::START);
    for _ in 0..7 {
        scene.fill("x", 1).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let log = scene.log().await;
    let before = log[0].recorded_at - TimeDelta::microseconds(1);
    assert_eq!(scene.store.position_at(before).await.unwrap(), Position::START);
    for event in &log {
        assert_eq!(scene.store.position_at(event.recorded_at).await.unwrap(), event.position);
        let just_before = event.recorded_at - TimeDelta::microseconds(1);
        assert_eq!(scene.store.position_at(just_before).await.unwrap(), Position(event.position.0 - 1));
    }
    assert_eq!(scene.store.position_at(chrono::DateTime::<chrono::Utc>::MAX_UTC).await.unwrap(), Position(7));
}
