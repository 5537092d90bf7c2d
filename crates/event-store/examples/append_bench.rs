//! How fast the SQLite log appends, beside a plain file on the same disk in the same run.
//!
//! `cargo run --release -p cairn-event-store --example append_bench [folder]`

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_event_store::{EventStore, ExpectedRevision, NewAppend, NewEvent, Revision, SqliteStore, StreamAppend};
use uuid::Uuid;

const DATA_BYTES: usize = 380;
const METADATA_BYTES: usize = 120;
const LONE_APPENDS: usize = 3_000;
const WRITERS: usize = 1_024;
const APPENDS_PER_WRITER: usize = 400;
const RAW_BATCHES: usize = 200;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("append-bench-{}", Uuid::now_v7()));
    std::fs::create_dir_all(&folder)?;

    for round in 1..=3 {
        let raw = raw_writes(&folder, LONE_APPENDS, DATA_BYTES + METADATA_BYTES)?;
        let lone = lone_appends(&folder.join(format!("lone{round}.db"))).await?;
        println!("lone, raw file:  median {:?}, p99 {:?}", raw[raw.len() / 2], raw[raw.len() * 99 / 100]);
        println!("lone, SQLite:    median {:?}, p99 {:?}", lone[lone.len() / 2], lone[lone.len() * 99 / 100]);
        println!("lone, ratio:     {:.2}", lone[lone.len() / 2].as_secs_f64() / raw[raw.len() / 2].as_secs_f64());
        let raw = raw_writes(&folder, RAW_BATCHES, WRITERS * (DATA_BYTES + METADATA_BYTES))?;
        let raw = (RAW_BATCHES * WRITERS) as f64 / raw.iter().sum::<Duration>().as_secs_f64();
        let together = concurrent_appends(&folder.join(format!("many{round}.db"))).await?;
        println!("{WRITERS} a batch, raw file: {raw:.0} events/s");
        println!("{WRITERS} writers, SQLite:   {together:.0} events/s, {:.2} of the raw file", together / raw);
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// The time of each write with its fdatasync, sorted.
fn raw_writes(folder: &Path, count: usize, bytes: usize) -> std::io::Result<Vec<Duration>> {
    let path = folder.join("raw");
    let mut file = File::create(&path)?;
    let content = vec![b'x'; bytes];
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        file.write_all(&content)?;
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    times.sort();
    std::fs::remove_file(path)?;
    Ok(times)
}

async fn lone_appends(path: &Path) -> Result<Vec<Duration>, Box<dyn std::error::Error>> {
    let store = SqliteStore::open(path, Uuid::now_v7())?;
    // On a task of the runtime, as a request would be.
    let times = tokio::spawn(async move {
        let mut times = Vec::with_capacity(LONE_APPENDS);
        for n in 0..LONE_APPENDS {
            let begin = Instant::now();
            store.append(append(n % 100, ExpectedRevision::Any)).await?;
            times.push(begin.elapsed());
        }
        store.close().await;
        Ok::<_, cairn_event_store::AppendError>(times)
    });
    let mut times = times.await??;
    times.sort();
    Ok(times)
}

async fn concurrent_appends(path: &Path) -> Result<f64, Box<dyn std::error::Error>> {
    let store = Arc::new(SqliteStore::open(path, Uuid::now_v7())?);
    let begin = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut expected = ExpectedRevision::NoStream;
                for revision in 0..APPENDS_PER_WRITER {
                    store.append(append(writer, expected)).await?;
                    expected = ExpectedRevision::Exact(Revision(revision as u64));
                }
                Ok::<_, cairn_event_store::AppendError>(())
            })
        })
        .collect();
    for writer in writers {
        writer.await??;
    }
    let rate = (WRITERS * APPENDS_PER_WRITER) as f64 / begin.elapsed().as_secs_f64();
    store.close().await;
    Ok(rate)
}

fn append(stream: usize, expected: ExpectedRevision) -> NewAppend {
    let event = NewEvent {
        id: Uuid::now_v7(),
        event_type: "memory.field_claimed".into(),
        schema_version: 1,
        data: Bytes::from(vec![b'd'; DATA_BYTES]),
        metadata: Bytes::from(vec![b'm'; METADATA_BYTES]),
    };
    let stream = StreamAppend { stream: format!("memory-{stream:08}").into(), expected, events: vec![event] };
    NewAppend { streams: vec![stream], tracking: None }
}
