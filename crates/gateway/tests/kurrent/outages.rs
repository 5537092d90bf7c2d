//! Answers that are lost, a server that is gone, and one that comes back.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_event_store::kurrent::RETRY_FOR;
use cairn_event_store::{
    AppendError, EventStore, ExpectedRevision, KurrentStore, Position, SharedStore, SqliteStore, StoreError,
};
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use crate::server::{PATIENCE, Site, Wire, assert_sound, event, eventually, log, note, on, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answer_is_lost_is_found_again() {
    let site = Site::begin().await;
    let node = site.node("a.db").await;
    note(&node, "x").await.expect("appended");
    for n in 2..5 {
        site.set(Wire::Deaf);
        let whole = on("x", ExpectedRevision::Any, vec![event("x"), event("y")]);
        let appending = tokio::spawn({
            let (node, whole) = (Arc::clone(&node), whole.clone());
            async move { node.append(whole).await }
        });
        // The record that begins the log is in the stream too.
        let written = 2 * n;
        eventually(async || site.stream().await.len() == written).await;
        assert_eq!(node.head().borrow().0 as usize, written - 3, "it shows what it does not know yet");
        site.set(Wire::Cut);
        site.set(Wire::Open);
        let appended = tokio::time::timeout(PATIENCE, appending).await.expect("in time").expect("no panic");
        assert_eq!(appended.expect("it is found").position.0 as usize, written - 1);
        assert!(node.append(whole).await.expect("again").repeated);
    }
    assert_sound(&log(&node).await);
    assert_eq!(site.stream().await.len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_reads_go_on_and_writes_are_refused_in_time() {
    let site = Site::begin().await;
    let node = site.node("a.db").await;
    note(&node, "x").await.expect("appended");
    site.set(Wire::Cut);
    let began = Instant::now();
    let refused = note(&node, "x").await;
    assert!(matches!(&refused, Err(AppendError::Store(StoreError::Unavailable { .. }))), "{refused:?}");
    assert!(!refused.expect_err("refused").to_string().contains("secret"));
    assert!(began.elapsed() < RETRY_FOR * 3, "it took {:?}", began.elapsed());
    assert_eq!(log(&node).await.len(), 1);
    site.set(Wire::Open);
    eventually(async || note(&node, "x").await.is_ok()).await;
    assert_sound(&log(&node).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_only_listens_hears_again_after_an_outage() {
    let mut site = Site::begin().await;
    let (one, other) = (site.node("a.db").await, site.node("b.db").await);
    note(&one, "x").await.expect("appended");
    until(&other, Position(1)).await;
    let store = Arc::clone(&site.store);
    site.restart(store).await;
    eventually(async || note(&one, "x").await.is_ok()).await;
    until(&other, Position(2)).await;
    assert_eq!(log(&one).await, log(&other).await);
}

/// Appends until told to stop; gives the ids of what was acknowledged.
async fn write_on(node: Arc<KurrentStore>, stream: String, stop: Arc<AtomicBool>) -> Vec<Uuid> {
    let mut acknowledged = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let event = event(&stream);
        let id = event.id;
        match node.append(on(&stream, ExpectedRevision::Any, vec![event])).await {
            Ok(_) => acknowledged.push(id),
            Err(AppendError::Store(StoreError::Unavailable { .. })) => {}
            Err(other) => panic!("{other}"),
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_through_outages() {
    let folder = tempfile::tempdir().expect("a folder");
    let store: SharedStore =
        Arc::new(SqliteStore::open(folder.path().join("server.db"), Uuid::now_v7()).expect("opens"));
    let mut site = Site::over(Arc::clone(&store)).await;
    let nodes = [site.node("a.db").await, site.node("b.db").await];
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let node = Arc::clone(&nodes[writer % 2]);
        writers.spawn(write_on(node, format!("w{writer}"), Arc::clone(&stop)));
    }
    for round in 0..6 {
        sleep(Duration::from_millis(400)).await;
        match round % 3 {
            0 => site.set(Wire::Deaf),
            1 => site.set(Wire::Cut),
            _ => site.restart(Arc::clone(&store)).await,
        }
        sleep(Duration::from_millis(150)).await;
        site.set(Wire::Cut);
        site.set(Wire::Open);
    }
    sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = tokio::time::timeout(PATIENCE * 2, writers.join_all()).await.expect("they get on");
    let acknowledged: Vec<_> = acknowledged.into_iter().flatten().collect();
    // One of them hears the rest from the other, by its subscription alone.
    let longest = nodes.iter().map(|node| *node.head().borrow()).max().expect("two");
    for node in &nodes {
        until(node, longest).await;
    }
    let [one, other] = [log(&nodes[0]).await, log(&nodes[1]).await];
    assert_sound(&one);
    assert_eq!(one, other);
    let kept: HashSet<_> = one.iter().map(|event| event.id).collect();
    assert!(acknowledged.iter().all(|id| kept.contains(id)), "an acknowledged event is gone");
    assert!(acknowledged.len() > 50, "the writers got on: {}", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_waits_a_moment_for_a_server_that_is_starting() {
    let site = Site::begin().await;
    site.set(Wire::Cut);
    let starting = async {
        sleep(Duration::from_secs(1)).await;
        site.set(Wire::Open);
    };
    let (node, ()) = tokio::join!(site.node("a.db"), starting);
    note(&node, "x").await.expect("appended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_closed_has_finished_what_waited() {
    let site = Site::begin().await;
    let node = site.node("a.db").await;
    let mut appends = JoinSet::new();
    for _ in 0..50 {
        let node = Arc::clone(&node);
        appends.spawn(async move { note(&node, "x").await.is_ok() });
    }
    tokio::task::yield_now().await;
    node.close().await;
    let done = appends.join_all().await.into_iter().filter(|done| *done).count();
    assert!(note(&node, "x").await.is_err());
    assert_eq!(site.stream().await.len(), done + 1);
}
