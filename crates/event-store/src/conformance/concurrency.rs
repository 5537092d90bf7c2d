use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Scene, append, event, ids};
use crate::event::{Direction, ExpectedRevision, Filter, Position, RecordedEvent, Revision};
use crate::port::AppendError;

const WRITERS: usize = 16;
const APPENDS: usize = 60;

/// Writers of one to three events each, while readers follow. What a reader has collected step by step must in the
/// end be the log: had anything appeared at or below a position it had seen, that would be missing.
pub async fn readers_never_miss_an_event(scene: Scene) {
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for limit in [1, 7, 1_000] {
        readers.spawn(collect(scene.clone(), done.clone(), limit));
    }
    write_together(&scene).await;
    done.store(true, Ordering::SeqCst);

    let log = scene.log().await;
    assert_eq!(log.len(), (0..APPENDS).map(|n| n % 3 + 1).sum::<usize>() * WRITERS);
    assert!(log.is_sorted_by(|a, b| a.position < b.position && a.recorded_at <= b.recorded_at));
    let complete = ids(&log);
    while let Some(collected) = readers.join_next().await {
        assert_eq!(ids(&collected.unwrap()), complete);
    }
    for writer in 0..WRITERS {
        let revisions = scene.stream(&format!("w{writer}")).await.into_iter().map(|event| event.revision.0);
        assert!(revisions.eq(0..complete.len() as u64 / WRITERS as u64));
    }
}

async fn write_together(scene: &Scene) {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let scene = scene.clone();
        writers.spawn(async move {
            for n in 0..APPENDS {
                let events = (0..=n % 3).map(|_| event("together")).collect();
                scene.append(&format!("w{writer}"), ExpectedRevision::Any, events).await.unwrap();
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
}

async fn collect(scene: Scene, done: Arc<AtomicBool>, limit: usize) -> Vec<RecordedEvent> {
    let mut collected = Vec::new();
    let mut from = Position(1);
    loop {
        let over = done.load(Ordering::SeqCst);
        let page = scene.store.read_all(from, Direction::Forwards, &Filter::default(), limit).await.unwrap();
        // An event seen in the log is seen in its stream and by its id, too.
        if let Some(last) = page.events.last() {
            from = last.position.next();
            let newest =
                scene.store.read_stream(&last.stream, last.revision, Direction::Forwards, 1).await.unwrap();
            assert_eq!(ids(&newest), [last.id]);
            assert!(scene.store.event(last.id).await.unwrap().is_some());
        } else if over {
            return collected;
        }
        collected.extend(page.events);
        // An adapter that never waits would otherwise keep the writers from the processor.
        tokio::task::yield_now().await;
    }
}

pub async fn one_writer_wins_each_revision(scene: Scene) {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let scene = scene.clone();
        writers.spawn(async move {
            let mut won = Vec::new();
            let mut expected = ExpectedRevision::NoStream;
            while won.len() < 10 {
                let actual = match scene.append("contended", expected, vec![event(&writer.to_string())]).await {
                    Ok(appended) => {
                        won.push(appended.revisions[0]);
                        Some(appended.revisions[0])
                    }
                    Err(AppendError::WrongExpectedRevision { actual, .. }) => actual,
                    Err(other) => panic!("{other}"),
                };
                expected = actual.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
            }
            won
        });
    }
    let mut won: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    won.sort();
    assert!(won.into_iter().eq((0..WRITERS as u64 * 10).map(Revision)));
    assert_eq!(scene.stream("contended").await.len(), WRITERS * 10);
}

pub async fn a_published_head_is_readable(scene: Scene) {
    let done = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn({
        let (scene, done) = (scene.clone(), done.clone());
        async move {
            let mut head = scene.store.head();
            let mut last = Position::START;
            while !done.load(Ordering::SeqCst) {
                let now = *head.borrow_and_update();
                assert!(now >= last, "the head went back from {last} to {now}");
                if now > last {
                    let page =
                        scene.store.read_all(now, Direction::Forwards, &Filter::default(), 1).await.unwrap();
                    assert_eq!(page.events.first().map(|event| event.position), Some(now));
                }
                last = now;
                tokio::task::yield_now().await;
            }
        }
    });
    write_together(&scene).await;
    done.store(true, Ordering::SeqCst);
    watching.await.unwrap();
}

pub async fn a_cancelled_append_is_all_or_nothing(scene: Scene) {
    let any = ExpectedRevision::Any;
    let mut given = Vec::new();
    for n in 0..100 {
        let whole = append([
            scene.on(&format!("x{n}"), any, vec![event("x0"), event("x1")]),
            scene.on("y", any, vec![event("y")]),
        ]);
        let appending = scene.store.append(whole.clone());
        // From "not even begun" to "most likely done".
        let _ = tokio::time::timeout(Duration::from_micros(n * 20), appending).await;
        given.push(whole);
    }
    // A repetition tells how it ended, and completes it where it had not happened.
    for (n, whole) in given.into_iter().enumerate() {
        scene.store.append(whole).await.unwrap();
        assert_eq!(scene.stream(&format!("x{n}")).await.len(), 2);
    }
    let log = scene.log().await;
    assert_eq!((log.len(), log.iter().map(|event| event.id).collect::<HashSet<_>>().len()), (300, 300));
}

pub async fn simultaneous_repetitions_write_once(scene: Scene) {
    for round in 0..10 {
        let whole = append([scene.on("x", ExpectedRevision::Any, vec![event("a"), event("b")])]);
        let mut repeating = JoinSet::new();
        for n in 0..8 {
            let (scene, whole) = (scene.clone(), whole.clone());
            // Others in the same commit, who must not suffer from it.
            repeating.spawn(async move {
                scene.fill(&format!("other{n}"), 1).await;
                scene.store.append(whole).await.unwrap()
            });
        }
        let results = repeating.join_all().await;
        assert_eq!(results.iter().filter(|result| !result.repeated).count(), 1);
        assert!(results.iter().all(|result| result.position == results[0].position));
        assert_eq!(scene.stream("x").await.len(), (round + 1) * 2);
        assert_eq!(scene.stream("other0").await.len(), round + 1);
    }
}
