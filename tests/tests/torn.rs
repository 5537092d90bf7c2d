//! Damaged files: a torn last page, a corrupted one, a file that was cut off.
//!
//! Three things may happen after a start: everything is as it was; the newest events, whose only copy was destroyed,
//! are gone and every read model agrees; or the node says what is damaged and does not pretend. It never tells a
//! story that differs from the one it told before.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use cairn_testkit::{Node, Seed};
use cairn_tests::log::{self, History};
use cairn_tests::projections;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// The size of a page of the log.
const PAGE: u64 = 4_096;

/// A node with some memories, killed, and what its log told before.
struct Killed {
    node: Node,
    told: History,
    /// How much of the log stands in the database itself, beyond the reach of damage to the write-ahead log.
    settled: u64,
}

impl Killed {
    async fn after_writing() -> Self {
        let mut node = Node::fresh().await;
        write(&node, 300).await;
        // A stop in good order moves everything into the database; what comes after it is in the write-ahead log.
        node.stop().await;
        node.launch().await.unwrap_or_else(|error| panic!("{error}"));
        let mut told = History::default();
        told.catch_up(node.client()).await;
        let settled = told.head();
        write(&node, 100).await;
        told.catch_up(node.client()).await;
        projections::caught_up(node.client()).await;
        node.kill9().await;
        Self { node, told, settled }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.node.data().join("log").join(name)
    }

    /// Starts it again. When it refuses, the refusal must name the file or the place.
    async fn start(mut self) -> Option<Self> {
        match self.node.launch().await {
            Ok(()) => Some(self),
            Err(refusal) => {
                assert!(refusal.status.is_some_and(|status| !status.success()), "{refusal}");
                let last: String = refusal.log.lines().rev().take(12).collect::<Vec<_>>().join("\n");
                let named =
                    ["events.db", "damaged", "malformed", "position"].iter().any(|word| last.contains(word));
                assert!(named, "the refusal does not say what is damaged:\n{last}");
                None
            }
        }
    }

    /// What the log still tells must be what it told before, as far as it goes.
    async fn tells_no_other_story(&self) -> u64 {
        let (events, broken) = log::read(self.node.client(), 1).await;
        self.told.is_prefix(&events);
        for (index, event) in events.iter().enumerate() {
            assert_eq!(event.position, index as u64 + 1, "a gap before position {}", event.position);
        }
        if broken.is_none() {
            assert!(events.len() as u64 >= self.settled, "{} of {} events are left", events.len(), self.settled);
        }
        events.len() as u64
    }
}

async fn write(node: &Node, memories: u32) {
    for number in 0..memories {
        let memory = json!({ "title": format!("Number {number}"), "body": "words ".repeat(50) });
        node.client().post("/memories", memory).await.data(201);
    }
}

fn overwrite(path: &Path, from: u64, length: usize, rng: &mut StdRng) {
    let mut junk = vec![0_u8; length];
    rng.fill(junk.as_mut_slice());
    let file = OpenOptions::new().write(true).open(path).expect("the file is there");
    file.write_all_at(&junk, from).expect("it can be overwritten");
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).expect("the file is there").len()
}

/// How much of a write-ahead log was ever written to: the rest is zeros that make room.
fn written(path: &Path) -> u64 {
    let bytes = fs::read(path).expect("the file is there");
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

fn cut(path: &Path, length: u64) {
    OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(length)).expect("it can be cut");
}

/// After damage to the write-ahead log: some of the newest events may be gone, and nobody remembers them.
async fn recovered(killed: Killed) {
    let killed = killed.start().await.expect("a torn write-ahead log is recovered from");
    let left = killed.tells_no_other_story().await;
    let client = killed.node.client();
    eprintln!("{left} of {} events are left, {} were settled", killed.told.head(), killed.settled);
    projections::equal_a_fresh_fold(client).await;
    for lost in &killed.told.events[usize::try_from(left).expect("few events")..] {
        let id = lost.stream.trim_start_matches("memory-");
        let known = killed.told.events[..usize::try_from(left).expect("few events")]
            .iter()
            .any(|event| event.stream == lost.stream);
        if !known && lost.stream.starts_with("memory-") {
            client.get(&format!("/memories/{id}")).await.code(404);
        }
    }
    // And it takes new ones, at the positions that follow.
    let next = client.post("/memories", json!({ "title": "After the damage" })).await;
    next.data(201);
    assert!(next.position() > left && next.position() <= left + 4, "{}", next.text);
    projections::equal_a_fresh_fold(client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_last_page_of_the_write_ahead_log_is_left_out() {
    let mut rng = Seed::take().rng();
    let killed = Killed::after_writing().await;
    let wal = killed.file("events.db-wal");
    let end = written(&wal);
    cut(&wal, end - rng.random_range(1..2 * PAGE));
    recovered(killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_in_the_write_ahead_log_is_not_believed() {
    let mut rng = Seed::take().rng();
    let killed = Killed::after_writing().await;
    let wal = killed.file("events.db-wal");
    let from = rng.random_range(written(&wal) / 2..written(&wal) - PAGE);
    overwrite(&wal, from, PAGE as usize, &mut rng);
    recovered(killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_ahead_log_that_is_gone_takes_only_the_newest_events_with_it() {
    let killed = Killed::after_writing().await;
    fs::remove_file(killed.file("events.db-wal")).expect("it is there");
    let _ = fs::remove_file(killed.file("events.db-shm"));
    recovered(killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupted_page_is_named_and_never_believed() {
    let mut rng = Seed::take().rng();
    let mut killed = Killed::after_writing().await;
    killed.node.launch().await.unwrap_or_else(|error| panic!("{error}"));
    killed.node.stop().await;
    let database = killed.file("events.db");
    let page = rng.random_range(2..size(&database) / PAGE);
    eprintln!("page {page} of {}", size(&database) / PAGE);
    overwrite(&database, page * PAGE, PAGE as usize, &mut rng);
    let Some(killed) = killed.start().await else { return };
    killed.tells_no_other_story().await;
    let client = killed.node.client();
    let verdict = verify(&killed.node).await;
    assert_eq!(verdict["ok"], false, "{verdict}");
    assert!(!verdict["error"].as_str().unwrap_or_default().is_empty(), "{verdict}");
    let told = killed.node.cli(&["verify"]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    assert_eq!(client.get("/health/live").await.status, 200, "it goes on serving");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_cut_off_is_not_taken_for_a_whole_one() {
    let mut rng = Seed::take().rng();
    let mut killed = Killed::after_writing().await;
    killed.node.launch().await.unwrap_or_else(|error| panic!("{error}"));
    killed.node.stop().await;
    let database = killed.file("events.db");
    let pages = size(&database) / PAGE;
    cut(&database, (pages - rng.random_range(1..pages / 2)) * PAGE - rng.random_range(0..PAGE));
    let Some(killed) = killed.start().await else { return };
    killed.tells_no_other_story().await;
    let verdict = verify(&killed.node).await;
    assert_eq!(verdict["ok"], false, "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_event_ends_a_replay_after_the_sound_ones_and_is_found_without_a_node() {
    let mut node = Node::fresh().await;
    write(&node, 20).await;
    // What a read model has is not read again at the next start, so that the damage is met by the replay alone.
    projections::caught_up(node.client()).await;
    node.stop().await;
    let database = node.data().join("log/events.db");
    let change = "UPDATE events SET checksum = checksum + 1 WHERE position = 31";
    rusqlite::Connection::open(&database).and_then(|file| file.execute_batch(change)).expect("it can be changed");
    // What an event says is told from the file alone.
    let told = node.cli(&["verify"]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.stderr.contains("31"), "{told:?}");

    node.launch().await.unwrap_or_else(|error| panic!("{error}"));
    let told = node.cli(&["replay", "--from", "29", "--to", "33"]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    let positions: Vec<u64> = told
        .stdout
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).expect("an envelope")["position"].as_u64().expect("a number")
        })
        .collect();
    assert_eq!(positions, [29, 30], "{told:?}");
    assert!(told.stderr.contains("position 31"), "{told:?}");
}

async fn verify(node: &Node) -> Value {
    let answer = node.client().post("/verify", json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let last = answer.text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {}", answer.text))
}
