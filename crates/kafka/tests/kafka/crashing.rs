//! A publisher that dies at any moment: nothing lost, nothing out of order, and repeats only from a checkpoint on.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cairn_event_store::{Position, RecordedEvent, SqliteStore};
use cairn_kafka::{Checkpoints, FileCheckpoints, Publisher, PublisherConfig};
use rand::Rng;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cluster::{Seen, Site, all, check, fill, mock, publish, seeded};
use crate::publishing::{create_families, drain_families};

/// How often it dies.
const CRASHES: usize = 12;

/// Whether no event was sent more often than sessions began before it.
fn check_repeats(events: &[RecordedEvent], seen: &[Seen], began: &[Position]) {
    let mut repeated = 0;
    for (position, times) in check(events, seen) {
        let sessions = began.iter().filter(|began| began.0 < position).count();
        assert!(times <= sessions, "position {position} was sent {times} times in {sessions} sessions");
        repeated += times - 1;
    }
    println!("{} events, {repeated} repeats, sessions began at {began:?}", events.len());
}

async fn saved(checkpoints: &FileCheckpoints) -> Position {
    checkpoints.load("kafka").await.expect("loads").unwrap_or(Position::START)
}

pub async fn aborted_at_random_moments(site: &Site) {
    let mut random = seeded("aborted_at_random_moments");
    create_families(site).await;
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = FileCheckpoints::open(folder.path()).expect("opens");
    let store = Arc::new(SqliteStore::open(folder.path().join("log"), Uuid::now_v7()).expect("opens"));
    let mut began = Vec::new();
    for _ in 0..CRASHES {
        began.push(saved(&checkpoints).await);
        let running = publish(site.config(), store.clone(), &checkpoints);
        fill(&*store, &mut random, 400).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..900))).await;
        running.abort().await;
    }
    began.push(saved(&checkpoints).await);
    let mut running = publish(site.config(), store.clone(), &checkpoints);
    running.until_published(&*store).await;
    running.stop().await;
    check_repeats(&all(&*store).await, &drain_families(site).await, &began);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_without_a_flush_it_loses_nothing() {
    let (_mock, site) = mock();
    aborted_at_random_moments(&site).await;
}

/// Names the folder, the brokers and the prefix to the process that is to be killed.
const CHILD: [&str; 3] = ["CAIRN_KAFKA_FOLDER", "CAIRN_KAFKA_BROKERS", "CAIRN_KAFKA_PREFIX"];

/// What the killed process runs: this very test, with the variables set. By itself it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entry_of_the_process_that_is_killed() {
    let Ok(folder) = std::env::var(CHILD[0]) else { return };
    let variable = |name| std::env::var(name).expect("set");
    let config = PublisherConfig { topic_prefix: variable(CHILD[2]), ..PublisherConfig::new(variable(CHILD[1])) };
    let store = Arc::new(SqliteStore::open(Path::new(&folder).join("log"), Uuid::nil()).expect("opens"));
    let checkpoints = Arc::new(FileCheckpoints::open(folder).expect("opens"));
    let publisher = Publisher::new(config, store, checkpoints).expect("it fits");
    publisher.run(CancellationToken::new()).await.expect("it runs until it is killed");
}

fn child(site: &Site, folder: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "crashing::entry_of_the_process_that_is_killed", "--nocapture"])
        .env(CHILD[0], folder)
        .env(CHILD[1], &site.brokers)
        .env(CHILD[2], &site.prefix)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts")
}

pub async fn killed_at_random_moments(site: &Site) {
    let mut random = seeded("killed_at_random_moments");
    create_families(site).await;
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = FileCheckpoints::open(folder.path()).expect("opens");
    let mut began = Vec::new();
    for _ in 0..CRASHES / 2 {
        let store = SqliteStore::open(folder.path().join("log"), Uuid::nil()).expect("opens");
        fill(&store, &mut random, 1_500).await;
        drop(store);
        began.push(saved(&checkpoints).await);
        let mut process = child(site, folder.path());
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1_200))).await;
        process.kill().expect("killed");
        process.wait().expect("it has ended");
    }
    began.push(saved(&checkpoints).await);
    let store = Arc::new(SqliteStore::open(folder.path().join("log"), Uuid::nil()).expect("opens"));
    let mut running = publish(site.config(), store.clone(), &checkpoints);
    running.until_published(&*store).await;
    running.stop().await;
    check_repeats(&all(&*store).await, &drain_families(site).await, &began);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing() {
    let (_mock, site) = mock();
    killed_at_random_moments(&site).await;
}
