//! Waiting for read models, and comparing them with a fresh fold of the log.

use std::time::{Duration, Instant};

use cairn_testkit::Client;
use serde_json::{Value, json};
use tokio::time::sleep;

/// How long read models may take to catch up with what a test wrote.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until every projection has what the log holds.
///
/// # Panics
/// When one has failed, or does not get there.
pub async fn caught_up(client: &Client) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let projections = client.get("/projections").await.items().to_vec();
        assert!(!projections.is_empty(), "a node has projections");
        for projection in &projections {
            assert_ne!(projection["state"], "failed", "{projection}");
        }
        if projections.iter().all(|projection| projection["lag"] == 0 && projection["state"] == "live") {
            return projections;
        }
        assert!(Instant::now() < deadline, "projections do not catch up: {projections:#?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until every projection has put its files in order, so that none holds what was erased.
///
/// # Panics
/// When one does not within a minute.
pub async fn tidy(client: &Client) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let projections = caught_up(client).await;
        if projections.iter().all(|projection| projection["tidy"] == true) {
            return;
        }
        assert!(Instant::now() < deadline, "projections are not put in order: {projections:#?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Checks that every projection holds byte for byte what a fresh fold of the log gives.
///
/// # Panics
/// When one does not.
pub async fn equal_a_fresh_fold(client: &Client) {
    for projection in caught_up(client).await {
        let name = projection["name"].as_str().expect("a projection has a name");
        let answer = client.post(&format!("/projections/{name}/verify"), json!({})).await;
        let verdict = answer.ok();
        assert_eq!(verdict["ok"], true, "{name}: {verdict}");
    }
}
