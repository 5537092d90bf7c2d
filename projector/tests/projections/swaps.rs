//! A swap under load: over in a moment, and nobody who reads notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairn_domain::id::MemoryId;
use cairn_domain::kind::Kind;
use cairn_projector::{Projector, Rebuild};
use cairn_read_model::Memories;
use cairn_read_model::memories::{Found, ListQuery};

use crate::brain;
use crate::log::Log;
use crate::shared::Shared;
use crate::stage::{PATIENCE, Stage};

/// How many readers there are, each as quick as it can.
const READERS: usize = 6;
/// How many memories there are when they begin.
const MEMORIES: usize = 400;
/// What they read together at least, whatever else the machine does.
const READS_PER_SECOND: f64 = 1_000.0;
/// What is asked of a swap.
const SWAP_WITHIN: Duration = Duration::from_secs(1);
/// Every so many reads a reader lists memories and looks whether they are all there.
const LIST_EVERY: usize = 128;
/// Every so many reads it reads a memory with all that is said of it; the others are small.
const GET_EVERY: usize = 8;

/// Readers that fail when anything is not as it should be.
struct Readers {
    over: Arc<AtomicBool>,
    began: Instant,
    threads: Vec<JoinHandle<usize>>,
}

impl Readers {
    fn start(memories: &Memories, ids: &[MemoryId]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let threads = (0..READERS).map(|reader| {
            let (memories, ids, over) = (memories.clone(), ids.to_vec(), Arc::clone(&over));
            std::thread::spawn(move || read(&memories, &ids, reader, &over))
        });
        Self { threads: threads.collect(), over, began: Instant::now() }
    }

    /// How many reads a second there were.
    fn stop(self) -> f64 {
        let time = self.began.elapsed();
        self.over.store(true, Ordering::Relaxed);
        let reads: usize = self.threads.into_iter().map(|thread| thread.join().expect("never fails")).sum();
        reads as f64 / time.as_secs_f64()
    }
}

fn read(memories: &Memories, ids: &[MemoryId], reader: usize, over: &AtomicBool) -> usize {
    let (mut reads, mut seen) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        if reads % LIST_EVERY == reader {
            let query = ListQuery { limit: Some(200), ..ListQuery::default() };
            let page = memories.list(&query).expect("answers at any moment");
            assert_eq!(page.items.len(), 200, "half of a generation");
            let stats = memories.stats().expect("answers at any moment");
            assert!(stats.memories >= ids.len() as u64, "half of a generation: {}", stats.memories);
        } else if reads % GET_EVERY == 0 {
            let id = ids[(reads * 31 + reader) % ids.len()];
            assert!(matches!(memories.get(id).expect("answers at any moment"), Found::Memory(_)), "{id}");
        } else {
            let position = memories.position().expect("answers at any moment");
            assert!(position >= seen, "what was seen is never unseen");
            seen = position;
        }
        reads += 1;
    }
    reads
}

/// Rebuilds and goes back under the eyes of readers, while somebody writes.
async fn swap_under_load(log: &mut Log, projector: &Projector, memories: &Memories, ids: &[MemoryId], on: &str) {
    let readers = Readers::start(memories, ids);
    let mut swaps = Vec::new();
    for turn in 0..4 {
        let build = match turn {
            0 | 2 => projector.rebuild("memories", Rebuild::from_scratch()).await,
            _ => projector.back("memories").await,
        };
        let build = build.expect("begins");
        while !build.progress().borrow().phase.eq(&cairn_projector::Phase::Live) {
            log.create(Kind::Note, &format!("note {turn}"), "", &[]).await;
            projector.wait_for("memories", log.head(), PATIENCE).await.expect("sees its own writes");
        }
        build.finished().await.expect("finishes");
        let seconds = build.progress().borrow().swap_seconds.expect("it was swapped");
        swaps.push(Duration::from_secs_f64(seconds));
    }
    let rate = readers.stop();
    println!("swaps on {on} under {rate:.0} reads/s: {swaps:.1?}");
    assert!(swaps.iter().all(|swap| *swap < SWAP_WITHIN), "{swaps:?}");
    assert!(rate >= READS_PER_SECOND, "only {rate:.0} reads/s");
    assert!(projector.verify("memories").await.expect("verifies").matches);
    let status = projector.status().await.remove(0);
    assert_eq!((status.generation, status.previous), (Some(1), Some(3)), "there, back, there again, and back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_of_files_is_over_in_a_moment_and_no_reader_notices() {
    let mut stage = Stage::on_disk().await;
    let ids = brain::write(&mut stage.log, MEMORIES, 30, 6).await;
    stage.settle().await;
    let Stage { mut log, projector, memories, folder, timeline: _ } = stage;
    swap_under_load(&mut log, &projector, &memories, &ids, "SQLite").await;
    projector.shutdown().await;
    drop(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_in_a_database_is_over_in_a_moment_and_no_reader_notices() {
    let mut shared = Shared::new().await;
    let ids = brain::write(&mut shared.log, MEMORIES, 30, 6).await;
    let projector = shared.process().await;
    shared.settle(&projector).await;
    let memories = shared.memories.clone();
    swap_under_load(&mut shared.log, &projector, &memories, &ids, "PostgreSQL").await;
    projector.shutdown().await;
}
