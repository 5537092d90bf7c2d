//! Brokers that are away, slow or unwilling: everything arrives in the end, and memory stays bounded meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_event_store::MemoryStore;
use cairn_kafka::{FLUSH_LIMIT, FileCheckpoints, State, WINDOW_EVENTS};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tempfile::TempDir;
use uuid::Uuid;

use crate::cluster::{all, check, fill, mock, publish, seeded};
use crate::publishing::drain_families;

fn log() -> (TempDir, FileCheckpoints, Arc<MemoryStore>) {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = FileCheckpoints::open(folder.path()).expect("opens");
    (folder, checkpoints, Arc::new(MemoryStore::new(Uuid::now_v7())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_while_the_brokers_are_away_arrives_once_when_they_are_back() {
    let (mock, site) = mock();
    let (_folder, checkpoints, store) = log();
    let mut random = seeded("away");
    fill(&*store, &mut random, 500).await;
    let mut running = publish(site.config(), store.clone(), &checkpoints);
    running.until_published(&*store).await;
    mock.broker_down(-1).expect("down");
    fill(&*store, &mut random, 2_000).await;
    let status = running.until(|status| status.state == State::Waiting && status.problem.is_some()).await;
    assert!(status.lag > 0 && status.in_flight > 0, "{status:?}");
    // The log goes on all the same.
    fill(&*store, &mut random, 500).await;
    mock.broker_up(-1).expect("up");
    running.until_published(&*store).await;
    let status = running.until(|status| status.state == State::Running && status.in_flight == 0).await;
    assert_eq!((status.problem, status.lag), (None, 0));
    running.stop().await;
    // Nothing was on its way when they went, so that the mock cluster has no excuse for a repeat.
    let times = check(&all(&*store).await, &drain_families(&site).await);
    assert!(times.values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_come_and_go_in_the_midst_of_it_make_no_gap() {
    let (mock, site) = mock();
    let (_folder, checkpoints, store) = log();
    let mut random = seeded("come_and_go");
    let mut running = publish(site.config(), store.clone(), &checkpoints);
    for _ in 0..6 {
        fill(&*store, &mut random, 600).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        mock.broker_down(-1).expect("down");
        fill(&*store, &mut random, 300).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        mock.broker_up(-1).expect("up");
    }
    running.until_published(&*store).await;
    running.stop().await;
    // The mock cluster may keep a batch twice whose answer it could not send; a real broker does not.
    check(&all(&*store).await, &drain_families(&site).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_window_holds_the_reading_up_and_not_the_node() {
    let (mock, site) = mock();
    let (_folder, checkpoints, store) = log();
    let mut random = seeded("window");
    let mut running = publish(site.config(), store.clone(), &checkpoints);
    fill(&*store, &mut random, 10).await;
    running.until_published(&*store).await;
    mock.broker_down(-1).expect("down");
    fill(&*store, &mut random, WINDOW_EVENTS + 5_000).await;
    running.until(|status| status.in_flight == WINDOW_EVENTS).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(running.status.borrow().in_flight, WINDOW_EVENTS);
    let before = Instant::now();
    fill(&*store, &mut random, 1_000).await;
    assert!(before.elapsed() < Duration::from_secs(2), "appending took {:?}", before.elapsed());
    mock.broker_up(-1).expect("up");
    running.until_published(&*store).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_were_never_there_are_waited_for_and_stopping_takes_no_longer_than_promised() {
    let (_folder, checkpoints, store) = log();
    fill(&*store, &mut seeded("never_there"), 100).await;
    let config = cairn_kafka::PublisherConfig::new("127.0.0.1:9");
    let mut running = publish(config, store.clone(), &checkpoints);
    let status = running.until(|status| status.state == State::Waiting && status.problem.is_some()).await;
    assert_eq!((status.position, status.lag), (0, 100));
    let before = Instant::now();
    running.stop().await;
    assert!(before.elapsed() < FLUSH_LIMIT + Duration::from_secs(3), "it took {:?}", before.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_may_pass_are_tried_again_without_a_repeat() {
    let (mock, site) = mock();
    let (_folder, checkpoints, store) = log();
    let mut random = seeded("retried");
    let retried = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    ];
    mock.request_errors(RDKafkaApiKey::Produce, &retried);
    let mut running = publish(site.config_one_by_one(), store.clone(), &checkpoints);
    for _ in 0..4 {
        fill(&*store, &mut random, 500).await;
        running.until_published(&*store).await;
        mock.request_errors(RDKafkaApiKey::Produce, &retried);
    }
    running.stop().await;
    let times = check(&all(&*store).await, &drain_families(&site).await);
    assert!(times.values().all(|times| *times == 1));
}
