//! A primary and its standby, and what was promised to whoever wrote to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cairn_testkit::{Client, Node, NodeOptions, Ran, run};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::sharing::wait;

/// How long anything may take. Far more than it needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a primary's writes wait for a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They do.
    Synchronous,
    /// They do not.
    Asynchronous,
}

/// What a node is started with that is called so.
pub fn options(name: &str, mode: Mode) -> NodeOptions {
    let mut environment = vec![
        ("CAIRN_FOLLOWER__NAME".to_owned(), name.to_owned()),
        ("CAIRN_FEDERATION__ENABLED".to_owned(), "false".to_owned()),
    ];
    if mode == Mode::Synchronous {
        environment.push(("CAIRN_FOLLOWER__SYNCHRONOUS".to_owned(), "true".to_owned()));
    }
    NodeOptions { environment, ..NodeOptions::default() }
}

/// Starts a node, which is a primary.
///
/// # Panics
/// When it does not start.
pub async fn primary(name: &str, mode: Mode) -> Node {
    Node::start(options(name, mode)).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Starts a node that follows another, and waits until it has everything.
///
/// # Panics
/// When it does not start, or does not get that far.
pub async fn standby(name: &str, mode: Mode, of: &Node) -> Node {
    let options = NodeOptions { follow: Some(invite(of).await), ..options(name, mode) };
    let node = Node::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    in_step(of, &node).await;
    node
}

/// A link to follow a node by.
pub async fn invite(of: &Node) -> String {
    run(of.data(), &["follow", "invite"]).await.ok().trim().to_owned()
}

/// What a node says of its other machines.
pub async fn view(node: &Node) -> Value {
    node.client().get("/followers").await.data(200).clone()
}

/// The position of the last event of a node.
pub async fn head(node: &Node) -> u64 {
    view(node).await["head"].as_u64().unwrap_or_default()
}

/// Waits until a standby has all that its primary has, and has been seen to have had all of it.
///
/// # Panics
/// When that does not come to pass.
pub async fn in_step(primary: &Node, standby: &Node) -> Duration {
    wait("that the standby has everything", PATIENCE, async || {
        let (wanted, there) = (head(primary).await, view(standby).await);
        there["head"].as_u64() == Some(wanted) && there["standby"]["whole"] == true
    })
    .await
}

/// Makes the node that follows in a data folder the primary. `--json` is among the arguments.
pub async fn promote(node: &Node, arguments: &[&str]) -> Ran {
    run(node.data(), &[&["--json", "promote"], arguments].concat()).await
}

/// A memory that was acknowledged.
#[derive(Debug, Clone)]
pub struct Written {
    /// Its id.
    pub memory: String,
    /// Its title.
    pub title: String,
    /// When the answer came.
    pub at: Instant,
}

/// Writers that go on until the node does not answer any more.
pub struct Load {
    writers: JoinSet<Vec<Written>>,
    /// How many memories have been acknowledged.
    pub written: Arc<AtomicUsize>,
}

impl Load {
    /// Starts writers, each of which waits for its answer before it goes on.
    pub fn start(client: &Client, writers: usize, name: &str) -> Self {
        let written = Arc::new(AtomicUsize::new(0));
        let mut set = JoinSet::new();
        for writer in 0..writers {
            let (client, count) = (client.clone(), Arc::clone(&written));
            let name = format!("{name} {writer}");
            set.spawn(write(client, name, count));
        }
        Self { writers: set, written }
    }

    /// Waits until so many were acknowledged.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn until(&self, written: usize) {
        wait("enough writes", PATIENCE, async || self.written.load(Ordering::Relaxed) >= written).await;
    }

    /// What was acknowledged before the node was gone.
    pub async fn ended(self) -> Vec<Written> {
        self.writers.join_all().await.into_iter().flatten().collect()
    }
}

async fn write(client: Client, name: String, count: Arc<AtomicUsize>) -> Vec<Written> {
    let mut written = Vec::new();
    loop {
        let title = format!("{name}, memory {}", written.len());
        let answer = client.try_post("/memories", &json!({ "kind": "note", "title": title })).await;
        let Ok(answer) = answer else { return written };
        let Some(memory) = answer.body["data"]["id"].as_str().filter(|_| answer.status == 201) else {
            return written;
        };
        written.push(Written { memory: memory.to_owned(), title, at: Instant::now() });
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// What of it a node does not have, or has otherwise.
pub async fn missing(client: &Client, written: &[Written]) -> Vec<Written> {
    let mut missing = Vec::new();
    for one in written {
        let path = format!("/memories/{}", one.memory);
        let began = Instant::now();
        // The read model may be a moment behind.
        let there = loop {
            let answer = client.get(&path).await;
            let there = answer.body["data"]["title"] == one.title;
            if there || began.elapsed() > Duration::from_secs(2) || !missing.is_empty() {
                break there;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        if !there {
            missing.push(one.clone());
        }
    }
    missing
}
