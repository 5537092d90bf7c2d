//! How fast a log in KurrentDB is appended to: durable appends of single events by many writers through the adapter, against
//! a gateway in this process over a log in SQLite, or against the server that `KURRENTDB_URL` names.
//!
//! `cargo run --release -p cairn-gateway --example kurrent_throughput -- [writers] [seconds]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cairn_event_store::kurrent::Server;
use cairn_event_store::{
    EventStore, ExpectedRevision, KurrentStore, NewAppend, NewEvent, SharedStore, SqliteStore, StreamAppend,
};
use cairn_gateway::{Authority, Caller, Credentials, Gateway, Level, Options, Refusal};
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use uuid::Uuid;

/// As the node has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The bytes of an event's data.
const DATA_BYTES: usize = 256;

/// Lets everybody in.
struct Anybody;

impl Authority for Anybody {
    fn admit(&self, _: Option<&Credentials>) -> Result<Caller, Refusal> {
        let ceiling = Level::new(2).expect("a level");
        Ok(Caller { principal: Uuid::nil(), ceiling, origin: "automation:bench".into() })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let mut number = |default| arguments.next().unwrap_or(Ok(default)).context("arguments are numbers");
    let (writers, seconds) = (number(64)?, number(5)?);
    let folder = tempfile::tempdir()?;
    let url = match std::env::var("KURRENTDB_URL") {
        Ok(url) => url,
        Err(_) => {
            let store: SharedStore = Arc::new(SqliteStore::open(folder.path().join("log.db"), Uuid::now_v7())?);
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let gateway = Gateway::new(store, Arc::new(Anybody), Options::plain(address));
            tokio::spawn(gateway.serve(listener, std::future::pending()));
            format!("kurrentdb://{address}?tls=false")
        }
    };
    let copy = folder.path().join("copy.db");
    let store = KurrentStore::open(Server::parse(&url)?, copy, Uuid::now_v7(), "none").await?;
    let (store, began) = (Arc::new(store), Instant::now());
    let until = began + Duration::from_secs(seconds);
    let took =
        try_join_all((0..writers).map(|writer| tokio::spawn(write(Arc::clone(&store), writer, until)))).await?;
    let mut latencies = Histogram::<u64>::new(3)?;
    for took in took {
        for micros in took? {
            latencies.record(micros)?;
        }
    }
    println!(
        "{writers} writers: {:.0} appends/s, p50 {} µs, p99 {} µs",
        latencies.len() as f64 / began.elapsed().as_secs_f64(),
        latencies.value_at_quantile(0.5),
        latencies.value_at_quantile(0.99)
    );
    store.close().await;
    Ok(())
}

/// Appends one event after the other; gives what each took, in microseconds.
async fn write(store: Arc<KurrentStore>, writer: u64, until: Instant) -> Result<Vec<u64>> {
    let stream: Arc<str> = format!("bench-{writer}").into();
    let mut took = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        let event = NewEvent {
            id: Uuid::now_v7(),
            event_type: "bench.noted".into(),
            schema_version: 1,
            data: format!("\"{}\"", "x".repeat(DATA_BYTES)).into(),
            metadata: "{\"truth\":2}".into(),
        };
        let entry =
            StreamAppend { stream: Arc::clone(&stream), expected: ExpectedRevision::Any, events: vec![event] };
        store.append(NewAppend { streams: vec![entry], tracking: None }).await?;
        took.push(u64::try_from(began.elapsed().as_micros())?);
    }
    Ok(took)
}
