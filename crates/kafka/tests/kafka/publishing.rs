//! Order, topics, keys and headers.

use std::sync::Arc;

use bytes::Bytes;
use cairn_event_store::{EventStore, ExpectedRevision, MemoryStore, NewAppend, NewEvent, Position, StreamAppend};
use cairn_kafka::{CheckpointError, Checkpoints, FileCheckpoints};
use uuid::Uuid;

use crate::cluster::{FAMILIES, Seen, Site, all, check, fill, mock, publish, seeded};

/// Everything that the topics of the families hold.
pub async fn drain_families(site: &Site) -> Vec<Seen> {
    let mut seen = Vec::new();
    for family in FAMILIES {
        seen.extend(site.drain(&format!("{}.{family}", site.prefix)).await);
    }
    seen
}

pub async fn create_families(site: &Site) {
    for family in FAMILIES {
        site.create(&format!("{}.{family}", site.prefix)).await;
    }
}

pub async fn order_topics_and_headers(site: &Site) {
    let mut random = seeded("order_topics_and_headers");
    create_families(site).await;
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = FileCheckpoints::open(folder.path()).expect("opens");
    let store = Arc::new(MemoryStore::new(Uuid::now_v7()));
    // Half before it starts and half while it runs, and then a clean restart.
    for _ in 0..2 {
        fill(&*store, &mut random, 700).await;
        let mut running = publish(site.config(), store.clone(), &checkpoints);
        fill(&*store, &mut random, 700).await;
        running.until_published(&*store).await;
        running.stop().await;
        let saved = checkpoints.load("kafka").await.expect("loads");
        assert_eq!(saved, Some(*store.head().borrow()));
    }
    let events = all(&*store).await;
    let seen = drain_families(site).await;
    let times = check(&events, &seen);
    assert!(times.values().all(|times| *times == 1), "a clean restart repeats nothing");
    for message in &seen {
        let event = &events[usize::try_from(message.number("cairn-position")).expect("small") - 1];
        let headers = &message.headers;
        assert_eq!(headers["cairn-stream"], *event.stream);
        assert_eq!(headers["cairn-type"], *event.event_type);
        assert_eq!(headers["cairn-schema-version"], "1");
        assert_eq!(headers["cairn-brain"], event.brain.to_string());
        assert_eq!(headers["cairn-metadata"].as_bytes(), event.metadata);
        let recorded: chrono::DateTime<chrono::Utc> = headers["cairn-recorded-at"].parse().expect("a time");
        assert_eq!(recorded, event.recorded_at);
        assert!(!headers.contains_key("cairn-erased") && !headers.contains_key("traceparent"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_reaches_the_topic_of_its_family_in_order() {
    let (_mock, site) = mock();
    order_topics_and_headers(&site).await;
}

/// More than the window holds.
pub async fn a_burst_arrives_whole(site: &Site) {
    let mut random = seeded("a_burst_arrives_whole");
    create_families(site).await;
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = FileCheckpoints::open(folder.path()).expect("opens");
    let store = Arc::new(MemoryStore::new(Uuid::now_v7()));
    fill(&*store, &mut random, 15_000).await;
    let mut running = publish(site.config(), store.clone(), &checkpoints);
    running.until_published(&*store).await;
    running.stop().await;
    let times = check(&all(&*store).await, &drain_families(site).await);
    assert!(times.values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_events_at_once_arrive_whole() {
    let (_mock, site) = mock();
    a_burst_arrives_whole(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_and_an_event_without_a_family_are_passed_on() {
    let (_mock, site) = mock();
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = FileCheckpoints::open(folder.path()).expect("opens");
    let store = Arc::new(MemoryStore::new(Uuid::now_v7()));
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let event = NewEvent {
        id: Uuid::now_v7(),
        event_type: "odd".into(),
        schema_version: 3,
        data: Bytes::from_static(b"null"),
        metadata: format!(r#"{{"traceparent":"{parent}"}}"#).into(),
    };
    let streams =
        vec![StreamAppend { stream: "odd stream".into(), expected: ExpectedRevision::Any, events: vec![event] }];
    store.append(NewAppend { streams, tracking: None }).await.expect("appended");
    let mut running = publish(site.config(), store.clone(), &checkpoints);
    running.until_published(&*store).await;
    running.stop().await;
    let seen = site.drain(&format!("{}.odd", site.prefix)).await;
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].key.as_str(), seen[0].headers["traceparent"].as_str()), ("odd stream", parent));
    assert_eq!((seen[0].number("cairn-schema-version"), seen[0].payload.as_slice()), (3, &b"null"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_behind_the_end_of_the_log_stops_it() {
    let (_mock, site) = mock();
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = FileCheckpoints::open(folder.path()).expect("opens");
    checkpoints.save("kafka", Position(10)).await.expect("saves");
    let store = Arc::new(MemoryStore::new(Uuid::now_v7()));
    fill(&*store, &mut seeded("ahead"), 9).await;
    let error = publish(site.config(), store, &checkpoints).task.await.expect("no panic").expect_err("it stops");
    assert!(matches!(error, cairn_kafka::PublishError::Ahead { checkpoint: Position(10), head: Position(9), .. }));
    assert_eq!(checkpoints.load("kafka").await.expect("loads"), Some(Position(10)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_checkpoint_stops_it_rather_than_beginning_anew() {
    let (_mock, site) = mock();
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = FileCheckpoints::open(folder.path()).expect("opens");
    std::fs::write(folder.path().join("kafka.checkpoint"), "?").expect("writes");
    let store = Arc::new(MemoryStore::new(Uuid::now_v7()));
    let error = publish(site.config(), store, &checkpoints).task.await.expect("no panic").expect_err("it stops");
    assert!(matches!(error, cairn_kafka::PublishError::Checkpoint(CheckpointError::Corrupt { .. })));
}
