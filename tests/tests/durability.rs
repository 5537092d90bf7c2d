//! Nothing that was acknowledged is ever lost: the process is killed again and again while it imports and writes,
//! and after each start everything it had answered for must be there, once, in order, and in every read model.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use cairn_testkit::{Client, Node, Seed, fast};
use cairn_tests::crash::load::{Kept, Load, Promise, Writer};
use cairn_tests::crash::vault;
use cairn_tests::log::History;
use cairn_tests::{files, projections, vaults};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;

/// How often the process is killed, unless `TEST_CAIRN_KILLS` says otherwise.
const KILLS: u32 = 200;

/// How often with short cuts.
const FAST_KILLS: u32 = 20;

/// Every so many kills, the whole log is read again and every read model compared with a fresh fold.
const THOROUGH_EVERY: u32 = 40;

/// Every so many kills, the process is killed once more while it starts.
const KILL_AT_START_EVERY: u32 = 8;

fn kills() -> u32 {
    match std::env::var("TEST_CAIRN_KILLS") {
        Ok(text) => text.parse().expect("TEST_CAIRN_KILLS is a number"),
        Err(_) if fast() => FAST_KILLS,
        Err(_) => KILLS,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let mut rng = Seed::take().rng();
    let mut node = Node::fresh().await;
    let agent = node.agent("claude", "ai-cloud").await.token().expect("an agent has a token").to_owned();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut history = History::default();
    let mut promises = Vec::new();
    for kill in 1..=kills() {
        vault::edit(folder.path(), kill, &mut rng);
        let kept = write_and_kill(&mut node, &agent, folder.path(), &mut rng).await;
        if kill % KILL_AT_START_EVERY == 0 {
            node.launch_and_kill(Duration::from_millis(rng.random_range(0..200))).await;
        }
        node.launch().await.unwrap_or_else(|error| panic!("after kill {kill}: {error}"));
        history.catch_up(node.client()).await;
        for (number, kept) in kept.into_iter().enumerate() {
            let client = if number == 0 { node.client().with_token(&agent) } else { node.client().clone() };
            check(kept, &client, &history, &mut promises).await;
        }
        if kill % THOROUGH_EVERY == 0 {
            thorough(&node, &history, &promises).await;
            eprintln!("{kill} kills, {} events, {} promises kept", history.events.len(), promises.len());
        }
    }
    let report = vaults::import(node.client(), folder.path()).await;
    assert_eq!(report["failures"], json!([]), "{report:#}");
    history.catch_up(node.client()).await;
    thorough(&node, &history, &promises).await;
    one_memory_for_each_file(&node, folder.path()).await;
    assert!(promises.len() as u64 > u64::from(kills()), "hardly anything was written: {}", promises.len());
    node.stop().await;
}

/// Writes with several writers while an import runs, until the process is killed. The first writer is an agent.
async fn write_and_kill(node: &mut Node, agent: &str, vault: &Path, rng: &mut StdRng) -> Vec<Kept> {
    const WRITERS: usize = 6;
    let started = vaults::start(node.client(), vault).await;
    assert_eq!(started.status, 202, "{}", started.text);
    let load = Load::default();
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let client = if number == 0 { node.client().with_token(agent) } else { node.client().clone() };
            tokio::spawn(Writer::new(client, load.clone(), rng.random()).run())
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(rng.random_range(5..350))).await;
    node.kill9().await;
    let mut kept = Vec::new();
    for writer in writers {
        kept.push(writer.await.expect("a writer stops when the node is gone"));
    }
    kept
}

/// Checks what one writer was left with: its promises in the log and, of the last one, in the read model.
async fn check(kept: Kept, client: &Client, history: &History, promises: &mut Vec<Promise>) {
    for promise in &kept.promises {
        promise.is_kept(history);
    }
    if let Some(last) = kept.promises.last() {
        last.shows(client).await;
    }
    if let Some(request) = kept.unanswered {
        request.repeat(client).await;
    }
    promises.extend(kept.promises);
}

async fn thorough(node: &Node, history: &History, promises: &[Promise]) {
    history.unchanged(node.client()).await;
    for promise in promises {
        promise.is_kept(history);
    }
    projections::equal_a_fresh_fold(node.client()).await;
}

async fn one_memory_for_each_file(node: &Node, vault: &Path) {
    let files = files::all(vault).len();
    let memories = vaults::all(node.client(), "tag=crash-vault").await;
    let titles: HashSet<&str> = memories.iter().filter_map(|memory| memory["title"].as_str()).collect();
    assert_eq!(
        (memories.len(), titles.len()),
        (files, files),
        "each file is one memory, however often it came in"
    );
}
