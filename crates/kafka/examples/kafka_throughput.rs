//! How many events a second the publisher brings to librdkafka's mock cluster, cluster included.
//!
//! `cargo run --release -p cairn-kafka --example kafka_throughput -- [events] [bytes]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_event_store::{EventStore, ExpectedRevision, NewAppend, NewEvent, SqliteStore, StreamAppend};
use cairn_kafka::{FileCheckpoints, Publisher, PublisherConfig};
use rdkafka::mocking::MockCluster;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How many streams the events are spread over.
const STREAMS: usize = 1_000;
/// How many events are appended at once.
const APPEND_EVENTS: usize = 500;

#[tokio::main]
async fn main() {
    let number = |place, otherwise| {
        let given: Option<usize> = std::env::args().nth(place).map(|given| given.parse().expect("a number"));
        given.unwrap_or(otherwise)
    };
    let (events, bytes) = (number(1, 500_000), number(2, 300));
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(SqliteStore::open(folder.path().join("log"), Uuid::now_v7()).expect("a log"));
    fill(&store, events, bytes).await;
    let cluster = MockCluster::new(3).expect("a mock cluster");
    let checkpoints = Arc::new(FileCheckpoints::open(folder.path()).expect("a folder"));
    let config = PublisherConfig::new(cluster.bootstrap_servers());
    let publisher = Publisher::new(config, store.clone(), checkpoints).expect("a publisher");
    let (mut status, cancel) = (publisher.status(), CancellationToken::new());
    let began = Instant::now();
    let running = tokio::spawn(publisher.run(cancel.clone()));
    let head = store.head().borrow().0;
    while status.borrow().position < head {
        let _ = tokio::time::timeout(Duration::from_secs(5), status.changed()).await.expect("it gets on");
    }
    let took = began.elapsed();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = events as f64 / took.as_secs_f64();
    println!("{events} events of {bytes} bytes in {took:.2?}: {rate:.0} events/s");
    cancel.cancel();
    running.await.expect("no panic").expect("it stops");
}

async fn fill(store: &SqliteStore, events: usize, bytes: usize) {
    let metadata = format!(
        r#"{{"principal":"{}","truth":1,"origin":"user:web","hlc":"1760000000000.0","correlation_id":"{}"}}"#,
        Uuid::now_v7(),
        Uuid::now_v7()
    );
    let data = format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes.saturating_sub(11)));
    for first in (0..events).step_by(APPEND_EVENTS) {
        let event = |_| NewEvent {
            id: Uuid::now_v7(),
            event_type: "memory.field_claimed".into(),
            schema_version: 1,
            data: data.clone().into(),
            metadata: metadata.clone().into(),
        };
        let append = StreamAppend {
            stream: format!("memory-{}", first / APPEND_EVENTS % STREAMS).into(),
            expected: ExpectedRevision::Any,
            events: (first..events.min(first + APPEND_EVENTS)).map(event).collect(),
        };
        store.append(NewAppend { streams: vec![append], tracking: None }).await.expect("appended");
    }
}
