//! Publishing to Kafka: librdkafka's own mock cluster, which runs on the same cores.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use cairn_event_store::{EventStore, ExpectedRevision, NewAppend, NewEvent, SqliteStore, StreamAppend};
use cairn_kafka::{FileCheckpoints, Publisher, PublisherConfig};
use rdkafka::mocking::MockCluster;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Plan;
use super::append::EVENT_BYTES;
use super::figures::{Demand, Report};

/// How many brokers the cluster has.
const BROKERS: i32 = 3;
/// How many streams the events are spread over.
const STREAMS: usize = 1_000;
/// How many events are appended at once.
const APPEND_EVENTS: usize = 500;
/// How long nothing may be published before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures the publisher.
pub async fn measure(plan: &Plan, report: &mut Report) -> Result<()> {
    let events = if plan.quick { 100_000 } else { 500_000 };
    let folder = plan.folder.path().join("kafka");
    std::fs::create_dir(&folder)?;
    let store = fill(&folder, events).await?;
    report.doing("the log is published to Kafka");
    let cluster = MockCluster::new(BROKERS).map_err(|error| anyhow!("no mock cluster: {error}"))?;
    let checkpoints = Arc::new(FileCheckpoints::open(&folder)?);
    let publisher = Publisher::new(PublisherConfig::new(cluster.bootstrap_servers()), store.clone(), checkpoints)?;
    let (mut status, cancel) = (publisher.status(), CancellationToken::new());
    let started = Instant::now();
    let running = tokio::spawn(publisher.run(cancel.clone()));
    let head = store.head().borrow().0;
    while status.borrow_and_update().position < head {
        tokio::time::timeout(PATIENCE, status.changed()).await.context("nothing is published")??;
    }
    let rate = events as f64 / started.elapsed().as_secs_f64();
    report.add("kafka", "published to a mock cluster", rate, "events/s", Some(Demand::AtLeast(50_000.0)));
    cancel.cancel();
    running.await??;
    store.close().await;
    Ok(())
}

/// A log of so many events.
async fn fill(folder: &Path, events: usize) -> Result<Arc<SqliteStore>> {
    let store = Arc::new(SqliteStore::open(folder.join("log.db"), Uuid::now_v7())?);
    let metadata = format!(
        r#"{{"principal":"{}","truth":1,"origin":"user:web","hlc":"1760000000000.0","correlation_id":"{}"}}"#,
        Uuid::now_v7(),
        Uuid::now_v7()
    );
    let data = format!(r#"{{"text":"{}"}}"#, "x".repeat(EVENT_BYTES - 11));
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
        store.append(NewAppend { streams: vec![append], tracking: None }).await?;
    }
    Ok(store)
}
