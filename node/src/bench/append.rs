//! Durable appends beside raw file writes of the same bytes.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use cairn_event_store::sqlite::SqliteStore;
use cairn_event_store::{EventStore, ExpectedRevision, NewAppend, NewEvent, StreamAppend};
use uuid::Uuid;

use super::Plan;
use super::figures::{Demand, Report, quantile};

/// The size of an event's data.
pub const EVENT_BYTES: usize = 500;
/// How many writers append at the same time.
const WRITERS: [usize; 3] = [1, 64, 1_024];

/// Measures appends with 1, 64 and 1,024 writers.
pub async fn measure(plan: &Plan, report: &mut Report) -> Result<()> {
    let time = Duration::from_secs(if plan.quick { 1 } else { 4 });
    for writers in WRITERS {
        report.doing(&format!("{writers} writers append"));
        let (raw_rate, raw_median) = raw(plan, writers, time)?;
        let path = plan.folder.path().join(format!("append-{writers}.db"));
        let store = Arc::new(SqliteStore::open(&path, Uuid::from_u128(1))?);
        let (rate, median) = appends(Arc::clone(&store), writers, time).await?;
        store.close().await;
        std::fs::remove_file(&path)?;
        let name = format!("{writers} writers");
        let demand = (writers == 1_024).then_some(Demand::ShareAtLeast(0.25));
        report.beside(
            "append",
            format!("{name}, durable"),
            rate,
            "events/s",
            ("raw file, as many a sync", raw_rate),
            demand,
        );
        if writers == 1 {
            let limit = ("raw write and fdatasync", raw_median);
            report.beside("append", "1 writer, median", median, "µs", limit, Some(Demand::ShareAtMost(1.5)));
        }
    }
    Ok(())
}

/// Writes as many events of the same size as there are writers, syncs, and again: events/s and the median in µs.
fn raw(plan: &Plan, writers: usize, time: Duration) -> Result<(f64, f64)> {
    let path = plan.folder.path().join(format!("raw-{writers}"));
    let mut file = OpenOptions::new().create_new(true).append(true).open(&path)?;
    let bytes = vec![b'x'; EVENT_BYTES * writers];
    let (started, mut samples) = (Instant::now(), Vec::new());
    while started.elapsed() < time {
        let start = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        samples.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let rate = (samples.len() * writers) as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok((rate, quantile(&mut samples, 0.5)))
}

/// Appends for some time, one event each: events/s and the median in µs.
pub async fn appends(store: Arc<impl EventStore>, writers: usize, time: Duration) -> Result<(f64, f64)> {
    let data = Bytes::from(format!("\"{}\"", "x".repeat(EVENT_BYTES - 2)));
    let started = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (store, data) = (Arc::clone(&store), data.clone());
            tokio::spawn(async move {
                let stream: Arc<str> = format!("bench-{writer}").into();
                let mut samples = Vec::new();
                while started.elapsed() < time {
                    let start = Instant::now();
                    store.append(one(&stream, &data)).await?;
                    samples.push(start.elapsed().as_secs_f64() * 1e6);
                }
                Ok::<_, cairn_event_store::AppendError>(samples)
            })
        })
        .collect();
    let mut samples = Vec::new();
    for task in tasks {
        samples.extend(task.await??);
    }
    let rate = samples.len() as f64 / started.elapsed().as_secs_f64();
    Ok((rate, quantile(&mut samples, 0.5)))
}

fn one(stream: &Arc<str>, data: &Bytes) -> NewAppend {
    let event = NewEvent {
        id: Uuid::now_v7(),
        event_type: "bench.written".into(),
        schema_version: 1,
        data: data.clone(),
        metadata: Bytes::from_static(b"{}"),
    };
    let append = StreamAppend { stream: Arc::clone(stream), expected: ExpectedRevision::Any, events: vec![event] };
    NewAppend { streams: vec![append], tracking: None }
}
