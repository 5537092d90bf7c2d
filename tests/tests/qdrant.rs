//! A node whose search index is on a Qdrant server: it goes on without the server, and catches up with it.

use std::time::{Duration, Instant};

use cairn_testkit::qdrant::Double;
use cairn_testkit::{Client, Node, NodeOptions, fast};
use cairn_tests::projections;
use serde_json::json;
use tokio::time::sleep;

/// How long the server is gone.
const GONE_FOR: Duration = Duration::from_secs(60);
/// How long with short cuts.
const FAST_GONE_FOR: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two commands while the server is gone.
const PAUSE: Duration = Duration::from_millis(20);

async fn node(double: &Double) -> Node {
    let environment = vec![("QDRANT_URL".to_owned(), double.url())];
    let options = NodeOptions { environment, ..NodeOptions::default() };
    Node::start(options).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn add(client: &Client, title: &str) -> String {
    let answer =
        client.post("/memories", json!({ "kind": "note", "title": title, "body": "kept in a jar" })).await;
    assert!(answer.status < 300, "{}", answer.body);
    answer.body["data"]["id"].as_str().expect("a memory has an id").to_owned()
}

/// Waits until a search finds a memory.
async fn until_found(client: &Client, words: &str, id: &str) {
    let began = Instant::now();
    loop {
        let answer = client.get(&format!("/search?q={words}")).await;
        let hits = answer.body["data"]["hits"].as_array().cloned().unwrap_or_default();
        if hits.iter().any(|hit| hit["memory"] == id) {
            let best = hits.iter().any(|hit| hit["why"]["bm25"]["rank"] == 1);
            assert!(best, "no hit is the first by words: {}", answer.body);
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{words} is not found: {}", answer.body);
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_for_a_minute_stops_nothing_else() {
    let double = Double::start();
    let node = node(&double).await;
    let client = node.client();
    let before = add(client, "marmalade").await;
    until_found(client, "marmalade", &before).await;

    double.stop();
    let began = Instant::now();
    let mut written = Vec::new();
    while began.elapsed() < if fast() { FAST_GONE_FOR } else { GONE_FOR } {
        let id = add(client, &format!("quince number {}", written.len())).await;
        // Reads wait for what was written before them, and do not wait for the index.
        assert_eq!(client.get(&format!("/memories/{id}")).await.status, 200);
        written.push(id);
        sleep(PAUSE).await;
    }
    let refused = client.get("/search?q=marmalade").await;
    assert_eq!(refused.status, 503, "{}", refused.body);

    double.resume();
    let last = written.last().expect("commands went on");
    until_found(client, &format!("quince+number+{}", written.len() - 1), last).await;
    projections::equal_a_fresh_fold(client).await;
    assert_eq!(client.get("/status").await.ok()["memories"], written.len() as u64 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_while_the_server_fails_skips_and_doubles_nothing() {
    let double = Double::start();
    let mut node = node(&double).await;
    for round in 0..if fast() { 3 } else { 10 } {
        for number in 0..20 {
            add(node.client(), &format!("round {round} number {number}")).await;
        }
        if round % 2 == 0 {
            double.stop();
            add(node.client(), &format!("round {round} alone")).await;
            double.resume();
        }
        node.kill9().await;
        node.launch().await.unwrap_or_else(|error| panic!("{error}"));
    }
    projections::equal_a_fresh_fold(node.client()).await;
}
