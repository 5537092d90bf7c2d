//! Importing vaults through the node.

use std::path::Path;
use std::time::{Duration, Instant};

use cairn_testkit::{Answer, Client};
use serde_json::{Value, json};
use tokio::time::sleep;

/// How long an import in a test may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks for an import.
pub async fn start(client: &Client, folder: &Path) -> Answer {
    client.post("/imports", json!({ "path": folder })).await
}

/// Imports a folder and waits until the read model shows what it wrote.
///
/// # Panics
/// When the import does not start, or fails.
pub async fn import(client: &Client, folder: &Path) -> Value {
    import_with(client, json!({ "path": folder })).await
}

/// Imports as the request says, and waits until the read model shows what it wrote.
///
/// # Panics
/// When the import does not start, or fails.
pub async fn import_with(client: &Client, request: Value) -> Value {
    let started = client.post("/imports", request).await;
    let id = started.data(202)["id"].as_str().expect("an import has an id").to_owned();
    let report = ended(client, &id).await;
    assert_eq!(report["state"], "done", "{report:#}");
    let position = report["position"].as_u64().unwrap_or_default();
    client.get(&format!("/memories?limit=1&min_position={position}")).await.ok();
    report
}

/// Waits until an import has ended, well or not.
///
/// # Panics
/// When it goes on for too long.
pub async fn ended(client: &Client, id: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = client.get(&format!("/imports/{id}")).await.data(200).clone();
        if report["state"] == "done" || report["state"] == "failed" {
            return report;
        }
        assert!(Instant::now() < deadline, "the import does not end: {report:#}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Every memory that a list shows, over all its pages.
///
/// # Panics
/// When the node refuses.
pub async fn all(client: &Client, query: &str) -> Vec<Value> {
    let mut memories = Vec::new();
    let mut cursor = String::new();
    loop {
        let answer = client.get(&format!("/memories?limit=200&{query}{cursor}")).await;
        memories.extend_from_slice(answer.items());
        match answer.data(200)["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return memories,
        }
    }
}
