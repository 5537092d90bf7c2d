//! A full disk: writes are refused with a stable code, reads go on, and nothing acknowledged is lost.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cairn_testkit::{Node, NodeOptions, not_tested};
use cairn_tests::log::History;
use cairn_tests::projections;
use serde_json::json;
use tempfile::TempDir;

/// The size of the disk that is filled. The search index wants 64 MiB of free space before it takes anything.
const DISK_MIB: u64 = 256;

/// How much of it is left free before the writes that fill it.
const LEFT_KIB: u64 = 512;

/// How long the node may take to write again after there is space.
const RECOVERY: Duration = Duration::from_secs(20);

/// A small disk in memory. Unmounted when it goes out of scope.
struct Disk(TempDir);

impl Disk {
    /// Mounts one, where that is allowed.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let size = format!("size={DISK_MIB}m,mode=700");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        status.is_ok_and(|output| output.status.success()).then(|| Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn filler(&self) -> std::path::PathBuf {
        self.path().join("filler")
    }

    /// Fills it with zeros, leaving a little.
    fn fill(&self) {
        let output = Command::new("df").args(["-k", "--output=avail"]).arg(self.path()).output().expect("df runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let free: u64 = text.lines().last().and_then(|line| line.trim().parse().ok()).expect("df prints a number");
        let zeros = vec![0_u8; usize::try_from(free.saturating_sub(LEFT_KIB) * 1024).expect("a small disk")];
        std::fs::write(self.filler(), zeros).expect("the filler fits");
    }

    /// Makes space again.
    fn free(&self) {
        std::fs::remove_file(self.filler()).expect("the filler is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a node that outlives its test by a moment must not keep the mount for ever.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let Some(disk) = Disk::mount() else {
        return not_tested("a full disk", "a tmpfs can be mounted only by root");
    };
    let options = NodeOptions { data: Some(disk.path().join("data")), ..NodeOptions::default() };
    let mut node = Node::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    let client = node.client().clone();
    let memory = |number: u32| json!({ "title": format!("Number {number}"), "body": "full ".repeat(2_000) });
    let first = client.post("/memories", memory(0)).await;
    let id = first.data(201)["id"].as_str().expect("an id").to_owned();
    let mut acknowledged = vec![id.clone()];

    disk.fill();
    let refusal = loop {
        assert!(acknowledged.len() < 2_000, "a full disk takes everything");
        let answer = client.post("/memories", memory(acknowledged.len() as u32)).await;
        match answer.status {
            201 => acknowledged.push(answer.ok()["id"].as_str().expect("an id").to_owned()),
            _ => break answer,
        }
    };
    assert!(["STORE_UNAVAILABLE", "DISK_FULL"].contains(&refusal.code(503)), "{}", refusal.text);

    assert_eq!(client.get(&format!("/memories/{id}")).await.data(200)["title"], "Number 0");
    assert_eq!(client.get("/health/live").await.status, 200);
    assert_eq!(client.get("/search?q=full").await.status, 200);

    disk.free();
    let deadline = Instant::now() + RECOVERY;
    loop {
        let answer = client.post("/memories", memory(9_999)).await;
        if answer.status == 201 {
            acknowledged.push(answer.ok()["id"].as_str().expect("an id").to_owned());
            break;
        }
        assert!(Instant::now() < deadline, "there is space again, but: {}", answer.text);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    all_there(&node, &acknowledged).await;
    node.kill9().await;
    node.launch().await.unwrap_or_else(|error| panic!("{error}"));
    all_there(&node, &acknowledged).await;
    node.stop().await;
}

async fn all_there(node: &Node, acknowledged: &[String]) {
    let client = node.client();
    let mut history = History::default();
    history.catch_up(client).await;
    for id in acknowledged {
        assert!(history.events.iter().any(|event| event.stream == format!("memory-{id}")), "{id} is lost");
        let path = format!("/memories/{id}?min_position={}", history.head());
        client.get(&path).await.data(200);
    }
    projections::equal_a_fresh_fold(client).await;
}
