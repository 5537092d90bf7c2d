//! Events that the brokers do not take: nothing is skipped, and nothing comes out of order.

use std::sync::Arc;

use cairn_event_store::{EventStore, ExpectedRevision, MemoryStore, NewAppend, Position, StreamAppend};
use cairn_kafka::{Checkpoints, FileCheckpoints, PublishError, State};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tempfile::TempDir;
use uuid::Uuid;

use crate::cluster::{Site, all, check, event, fill, mock, publish, seeded};
use crate::publishing::{create_families, drain_families};

fn log() -> (TempDir, FileCheckpoints, Arc<MemoryStore>) {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = FileCheckpoints::open(folder.path()).expect("opens");
    (folder, checkpoints, Arc::new(MemoryStore::new(Uuid::now_v7())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_refused_for_good_is_sent_again_from_the_checkpoint() {
    let (mock, site) = mock();
    let (_folder, checkpoints, store) = log();
    let mut random = seeded("refused");
    let mut running = publish(site.config_one_by_one(), store.clone(), &checkpoints);
    for _ in 0..3 {
        fill(&*store, &mut random, 300).await;
        running.until_published(&*store).await;
        mock.request_errors(
            RDKafkaApiKey::Produce,
            &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED],
        );
        fill(&*store, &mut random, 300).await;
        // Waiting has other reasons too, on a busy machine: only this one is looked for.
        let is_told = |problem: &String| problem.contains("not taken");
        let status = running.until(|status| status.problem.as_ref().is_some_and(is_told)).await;
        assert_eq!(status.state, State::Waiting);
        running.until_published(&*store).await;
    }
    running.stop().await;
    check(&all(&*store).await, &drain_families(&site).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_too_large_is_sent_event_by_event() {
    let (mock, site) = mock();
    let (_folder, checkpoints, store) = log();
    fill(&*store, &mut seeded("batch_too_large"), 500).await;
    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let mut running = publish(site.config_one_by_one(), store.clone(), &checkpoints);
    running.until_published(&*store).await;
    running.stop().await;
    check(&all(&*store).await, &drain_families(&site).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_too_large_alone_stops_it_and_is_not_skipped() {
    let (mock, site) = mock();
    let (_folder, checkpoints, store) = log();
    fill(&*store, &mut seeded("event_too_large"), 50).await;
    let mut running = publish(site.config(), store.clone(), &checkpoints);
    running.until_published(&*store).await;
    let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 64];
    mock.request_errors(RDKafkaApiKey::Produce, &errors);
    fill(&*store, &mut seeded("event_too_large"), 1).await;
    let mut status = running.status.clone();
    let error = running.task.await.expect("no panic").expect_err("it stops");
    assert!(matches!(error, PublishError::TooLarge { position: Position(51), .. }), "{error}");
    assert_eq!(status.borrow_and_update().state, State::Failed);
    assert_eq!(checkpoints.load("kafka").await.expect("loads"), Some(Position(50)));
    // Once the brokers take it, a new start goes on with it.
    mock.clear_request_errors(RDKafkaApiKey::Produce);
    let mut running = publish(site.config(), store.clone(), &checkpoints);
    running.until_published(&*store).await;
    running.stop().await;
    let times = check(&all(&*store).await, &drain_families(&site).await);
    assert!(times.values().all(|times| *times == 1));
}

pub async fn an_event_larger_than_the_client_takes(site: &Site) {
    create_families(site).await;
    let (_folder, checkpoints, store) = log();
    let mut random = seeded("client_too_large");
    fill(&*store, &mut random, 20).await;
    let mut large = event("memory.changed", &mut random);
    large.data = format!("\"{}\"", "x".repeat(5_000)).into();
    let streams =
        vec![StreamAppend { stream: "memory-1".into(), expected: ExpectedRevision::Any, events: vec![large] }];
    store.append(NewAppend { streams, tracking: None }).await.expect("appended");
    fill(&*store, &mut random, 20).await;
    let mut config = site.config();
    config.properties = [("message.max.bytes", "4000")].into_iter().collect();
    let error = publish(config, store.clone(), &checkpoints).task.await.expect("no panic").expect_err("it stops");
    assert!(matches!(error, PublishError::TooLarge { position: Position(21), .. }), "{error}");
    assert!(checkpoints.load("kafka").await.expect("loads").is_none_or(|saved| saved.0 <= 20));
    let mut running = publish(site.config(), store.clone(), &checkpoints);
    running.until_published(&*store).await;
    running.stop().await;
    check(&all(&*store).await, &drain_families(site).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_larger_than_the_client_takes_stops_it() {
    let (_mock, site) = mock();
    an_event_larger_than_the_client_takes(&site).await;
}
