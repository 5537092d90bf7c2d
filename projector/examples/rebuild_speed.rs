//! How fast a projection is built from a log on disk, and how soon a write becomes visible.
//!
//! `cargo run --release -p cairn-projector --example rebuild_speed [memories] [projection] [workers]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_event_store::{SharedStore, SqliteStore};
use cairn_projector::{Projection, Projector, Rebuild, SqliteProjection, Workers};
use cairn_read_model::{Memories, Timeline};
use uuid::Uuid;

#[path = "../tests/projections/brain.rs"]
mod brain;
#[path = "../tests/projections/log.rs"]
#[allow(dead_code)]
mod log;

use log::Log;

const WORDS: usize = 120;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let memories: usize = arguments.next().map_or(50_000, |number| number.parse().expect("a number of memories"));
    let projection = arguments.next().unwrap_or_else(|| "memories".into());
    let workers = arguments.next().map_or(1, |number| number.parse().expect("a number of workers"));
    let workers = Workers::try_from(workers).expect("not too many");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store: SharedStore =
        Arc::new(SqliteStore::open(folder.path().join("log.db"), Uuid::now_v7()).expect("opens"));
    let mut log = Log::new(store.clone());
    let began = Instant::now();
    brain::write(&mut log, memories, WORDS, 1).await;
    println!("{} events of {memories} memories written in {:.1?}", log.head(), began.elapsed());

    let reader = Memories::default();
    let models: [Arc<dyn Projection>; 2] = [
        Arc::new(SqliteProjection::memories(reader.clone())),
        Arc::new(SqliteProjection::timeline(Timeline::default())),
    ];
    let models = models.into_iter().filter(|model| model.name() == projection).collect();
    let root = folder.path().join("read");
    let began = Instant::now();
    let projector = Projector::start(store.clone(), root.clone(), models).await.expect("starts");
    projector.wait_for(&projection, log.head(), Duration::from_secs(3_600)).await.expect("is built");
    report("first build", &log, began);
    shares();
    let began = Instant::now();
    let how = Rebuild { workers, ..Rebuild::from_scratch() };
    let rebuild = projector.rebuild(&projection, how).await.expect("begins");
    rebuild.finished().await.expect("finishes");
    report(&format!("rebuild beside the serving one, workers: {}", workers.count()), &log, began);
    shares();
    let began = Instant::now();
    let (position, digest) = projector.digest(&projection).await.expect("digests");
    println!("digest at {position}: {} in {:.1?}", &digest[..16], began.elapsed());
    println!("size of the files: {:.0} MB", size(&root) as f64 / 1e6);
    if projection == "memories" {
        visibility(&mut log, &projector).await;
        reads(&reader);
    }
    projector.shutdown().await;
}

fn report(what: &str, log: &Log, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!("{what}: {seconds:.2} s, {:.0} events/s", log.head().0 as f64 / seconds);
}

/// How long each thread of the runs has had a processor, on Linux.
fn shares() {
    /// The kernel counts in hundredths of a second.
    const TICKS_PER_SECOND: f64 = 100.0;
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .map(|rest| rest.split_whitespace().skip(11).take(2).flat_map(str::parse).collect())
            .unwrap_or_default();
        if name.contains("-fold") || name.contains("-write") {
            let seconds = fields.iter().sum::<u64>() as f64 / TICKS_PER_SECOND;
            println!("  {} had a processor for {seconds:.2} s", name.trim());
        }
    }
}

/// 1,000 commands a second for ten seconds, each waited for.
async fn visibility(log: &mut Log, projector: &Projector) {
    let targets = brain::write(log, 200, WORDS, 2).await;
    let mut waits = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    for turn in 0..10_000_usize {
        tick.tick().await;
        let claim = ("stars", cairn_domain::value::Value::Integer(turn as i64 + 2_000));
        log.decide(targets[turn % targets.len()], cairn_domain::truth::Truth::User, log::change(&[claim]));
        let position = log.append().await;
        let (projector, committed) = (projector.clone(), Instant::now());
        waits.push(tokio::spawn(async move {
            projector.wait_for("memories", position, Duration::from_secs(10)).await.expect("is visible");
            committed.elapsed()
        }));
    }
    let mut times = Vec::new();
    for wait in waits {
        times.push(wait.await.expect("ends"));
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("commit to visible: p50 {:.1?}, p99 {:.1?}, max {:.1?}", at(0.5), at(0.99), at(1.0));
}

fn reads(reader: &Memories) {
    let query = cairn_read_model::memories::ListQuery { limit: Some(200), ..Default::default() };
    let page = reader.list(&query).expect("lists");
    let began = Instant::now();
    for turn in 0..10_000 {
        reader.get(page.items[turn % page.items.len()].id).expect("reads");
    }
    println!("get: {:.1?} each", began.elapsed() / 10_000);
    let query = cairn_read_model::memories::ListQuery::default();
    let began = Instant::now();
    for _ in 0..1_000 {
        reader.list(&query).expect("lists");
    }
    println!("list of 20: {:.1?} each", began.elapsed() / 1_000);
}

fn size(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("reads").map(|entry| entry.expect("reads"));
    entries
        .map(|entry| {
            let metadata = entry.metadata().expect("reads");
            if metadata.is_dir() { size(&entry.path()) } else { metadata.len() }
        })
        .sum()
}
