//! Measures the index at a size:
//! `cargo run --release -p cairn-search --example scale -- MEMORIES [SEARCHERS]`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_domain::id::{EventId, MemoryId};
use cairn_domain::kind::Kind;
use cairn_domain::truth::Truth;
use cairn_search::document::{Change, Document};
use cairn_search::embedder::StaticEmbedder;
use cairn_search::index::SearchIndex;
use cairn_search::query::{Filter, Query};
use chrono::DateTime;
use uuid::Uuid;

const BATCH: u64 = 500;
const QUERIES: u64 = 2_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let memories: u64 = arguments.next().map_or(Ok(10_000), |number| number.parse())?;
    let searchers: u64 = arguments.next().map_or(Ok(2), |number| number.parse())?;
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("index");
    let embedder = Arc::new(StaticEmbedder::new());
    println!("start: {}", resident());

    let index = SearchIndex::open(&place, embedder.clone()).await?;
    let before = Instant::now();
    for first in (0..memories).step_by(BATCH as usize) {
        let last = (first + BATCH).min(memories);
        index.apply((first..last).map(|number| Change::Put(Box::new(document(number)))).collect()).await?;
    }
    report("insert", memories, before.elapsed());
    let before = Instant::now();
    index.flush().await?;
    println!("flush: {:?}; {:?}; {}", before.elapsed(), index.stats().await?, resident());
    measure(&index, "before optimize", searchers, Filter::default()).await?;

    let before = Instant::now();
    let optimizing = tokio::spawn({
        let index = index.clone();
        async move { index.optimize().await }
    });
    measure(&index, "during optimize", 1, Filter::default()).await?;
    let worked = optimizing.await??;
    println!("optimize: {:?} (worked: {worked}); {:?}; {}", before.elapsed(), index.stats().await?, resident());
    index.flush().await?;
    measure(&index, "after optimize", searchers, Filter::default()).await?;
    let tagged = Filter { tags: vec!["tag7".to_owned()], ..Filter::default() };
    measure(&index, "by tag (5 %)", searchers, tagged).await?;

    drop(index);
    println!("closed: {}; {} MB on disk", resident(), size(&place)? / 1_000_000);
    let before = Instant::now();
    let index = SearchIndex::open(&place, embedder).await?;
    println!("reopen: {:?}; {}", before.elapsed(), resident());
    measure(&index, "after reopening", searchers, Filter::default()).await?;
    println!("end: {}", resident());
    Ok(())
}

async fn measure(index: &SearchIndex, what: &str, searchers: u64, filter: Filter) -> anyhow::Result<()> {
    let before = Instant::now();
    let spent = processor_time();
    let tasks: Vec<_> = (0..searchers)
        .map(|searcher| {
            let (index, filter) = (index.clone(), filter.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                for number in (searcher..QUERIES).step_by(searchers as usize) {
                    let text = sentence(&mut Dice(number + 77_777), 5);
                    let query = Query { text, filter: filter.clone(), limit: 10 };
                    let start = Instant::now();
                    let answer = index.search(&query).await?;
                    times.push(start.elapsed());
                    anyhow::ensure!(!answer.hits.is_empty());
                }
                Ok(times)
            })
        })
        .collect();
    let mut times: Vec<Duration> = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    let all = before.elapsed();
    times.sort_unstable();
    let part = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{what}: {searchers} searchers, {:.0}/s, {:?} of processor each, p50 {:?} p95 {:?} p99 {:?}",
        times.len() as f64 / all.as_secs_f64(),
        (processor_time() - spent) / times.len() as u32,
        part(0.5),
        part(0.95),
        part(0.99)
    );
    Ok(())
}

/// A small generator (SplitMix64), so that every run sees the same texts.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Words out of 20,000, the common ones far more often than the rare, as in real text.
fn sentence(dice: &mut Dice, words: u64) -> String {
    const ONSETS: [&str; 20] =
        ["b", "br", "c", "ch", "d", "f", "g", "gr", "h", "j", "l", "m", "n", "p", "r", "s", "st", "t", "tr", "w"];
    const ENDS: [&str; 10] = ["an", "er", "in", "ock", "ow", "ea", "ide", "ump", "ory", "ill"];
    let mut text = String::new();
    for _ in 0..words {
        let uniform = (dice.next() >> 11) as f64 / (1u64 << 53) as f64;
        let mut rank = (20_000f64.powf(uniform) - 1.0) as usize;
        for _ in 0..2 {
            text.push_str(ONSETS[rank % 20]);
            rank /= 20;
            text.push_str(ENDS[rank % 10]);
            rank /= 10;
        }
        text.push(' ');
    }
    text
}

fn document(number: u64) -> Document {
    let mut dice = Dice(number);
    let time = DateTime::from_timestamp(1_600_000_000 + number as i64 * 60, 0).expect("a time");
    Document {
        memory: MemoryId::new(Uuid::from_u128(u128::from(number) + 1)),
        kind: Kind::ALL[(number % 7) as usize],
        title: sentence(&mut dice, 4),
        body: sentence(&mut dice, 60),
        extra: String::new(),
        tags: vec![format!("tag{}", number % 20)],
        links: vec![MemoryId::new(Uuid::from_u128(u128::from(dice.next() % 10_000)))],
        truth: Truth::ALL[(number % 5) as usize],
        origin: "automation:scale".parse().expect("an origin"),
        event: EventId::new(Uuid::from_u128(u128::from(number))),
        created_at: time,
        updated_at: time,
        when: None,
        archived: false,
    }
}

fn report(what: &str, count: u64, time: Duration) {
    println!("{what}: {count} in {time:?}, {:.0}/s; {}", count as f64 / time.as_secs_f64(), resident());
}

/// The process's memory: all that is resident, and what of it is not mapped from files.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) / 1_000
    };
    format!("{} MB resident, {} MB of it not files", field("VmRSS:"), field("RssAnon:"))
}

/// The processor time this process took so far: what a busy machine does not distort.
fn processor_time() -> Duration {
    let status = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = status.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    // Linux counts in hundredths of a second.
    Duration::from_millis(ticks * 10)
}

/// The room a folder takes on the disk, in bytes.
fn size(folder: &std::path::Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}
