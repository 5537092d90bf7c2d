//! How fast the gateway is, its clients included: durable appends of single events from many clients, and one client
//! that reads the whole log.
//!
//! `cargo run --release -p cairn-gateway --example throughput -- [clients] [seconds] [events to read]`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cairn_event_store::{SharedStore, SqliteStore};
use cairn_gateway::{Authority, Caller, Credentials, Gateway, Level, Options, Refusal};
use cairn_proto::event_store::client::streams::streams_client::StreamsClient;
use cairn_proto::event_store::client::streams::{
    AppendReq, BatchAppendReq, MetadataEntry, ReadReq, append_req, append_resp, batch_append_req,
    batch_append_resp, read_req, read_resp,
};
use cairn_proto::event_store::client::{Empty, StreamIdentifier, Uuid as WireUuid, uuid as spelling};
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

/// As the node has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Client = StreamsClient<Channel>;

/// The bytes of an event's data.
const DATA_BYTES: usize = 256;
/// The events of a batch while the log is filled for reading.
const FILL_EVENTS: usize = 500;

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
    let (clients, seconds, events) = (number(64)?, number(5)?, number(1_000_000)?);
    let folder = tempfile::tempdir()?;
    let store: SharedStore = Arc::new(SqliteStore::open(folder.path().join("log.db"), Uuid::now_v7())?);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let gateway = Gateway::new(Arc::clone(&store), Arc::new(Anybody), Options::plain(address));
    tokio::spawn(gateway.serve(listener, std::future::pending()));
    let connect = || async {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        Ok::<_, anyhow::Error>(StreamsClient::new(endpoint.connect().await?))
    };
    let connections = try_join_all((0..clients).map(|_| connect())).await?;
    for mode in [Mode::Append, Mode::BatchAppend] {
        append(mode, &connections, Duration::from_secs(seconds)).await?;
    }
    fill(&connections[0], &store, events).await?;
    for _ in 0..3 {
        read(&connections[0], events).await?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    /// A call for every event.
    Append,
    /// One call, on which every event is a batch of its own.
    BatchAppend,
}

async fn append(mode: Mode, connections: &[Client], time: Duration) -> Result<()> {
    let over = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let workers = connections.iter().enumerate().map(|(number, client)| {
        let (client, over, stream) = (client.clone(), Arc::clone(&over), format!("bench-{mode:?}-{number}"));
        tokio::spawn(async move {
            match mode {
                Mode::Append => append_calls(client, &stream, &over).await,
                Mode::BatchAppend => append_batches(client, &stream, &over).await,
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let mut latencies = Histogram::<u64>::new(3)?;
    for worker in workers {
        latencies.add(worker.await??)?;
    }
    let (count, spent) = (latencies.len(), started.elapsed());
    println!(
        "{mode:?}: {} clients, {:.0} durable events/s, median {} µs, 99 % within {} µs",
        connections.len(),
        count as f64 / spent.as_secs_f64(),
        latencies.value_at_quantile(0.5),
        latencies.value_at_quantile(0.99)
    );
    Ok(())
}

async fn append_calls(mut client: Client, stream: &str, over: &AtomicBool) -> Result<Histogram<u64>> {
    let mut latencies = Histogram::new(3)?;
    while !over.load(Ordering::Relaxed) {
        let options = append_req::Options {
            stream_identifier: Some(name(stream)),
            expected_stream_revision: Some(append_req::options::ExpectedStreamRevision::Any(Empty {})),
        };
        let (id, metadata, data) = event();
        let event = append_req::ProposedMessage { id, metadata, custom_metadata: "{}".into(), data };
        let contents = [append_req::Content::Options(options), append_req::Content::ProposedMessage(event)];
        let messages = contents.map(|content| AppendReq { content: Some(content) });
        let sent = Instant::now();
        let answer = client.append(tokio_stream::iter(messages)).await?.into_inner();
        anyhow::ensure!(matches!(answer.result, Some(append_resp::Result::Success(_))), "{answer:?}");
        latencies.record(u64::try_from(sent.elapsed().as_micros())?)?;
    }
    Ok(latencies)
}

async fn append_batches(mut client: Client, stream: &str, over: &AtomicBool) -> Result<Histogram<u64>> {
    let mut latencies = Histogram::new(3)?;
    let (batches, receiver) = mpsc::channel(1);
    let mut answers = client.batch_append(ReceiverStream::new(receiver)).await?.into_inner();
    while !over.load(Ordering::Relaxed) {
        let sent = Instant::now();
        batches.send(batch(stream, 1)).await?;
        let answer = answers.message().await?.context("the call ended")?;
        anyhow::ensure!(matches!(answer.result, Some(batch_append_resp::Result::Success(_))), "{answer:?}");
        latencies.record(u64::try_from(sent.elapsed().as_micros())?)?;
    }
    Ok(latencies)
}

async fn fill(client: &Client, store: &SharedStore, events: u64) -> Result<()> {
    let missing = events.saturating_sub(store.head().borrow().0);
    let batches = usize::try_from(missing)?.div_ceil(FILL_EVENTS);
    let (sender, receiver) = mpsc::channel(8);
    let mut answers = client.clone().batch_append(ReceiverStream::new(receiver)).await?.into_inner();
    let started = Instant::now();
    let sending = tokio::spawn(async move {
        for number in 0..batches {
            if sender.send(batch(&format!("fill-{}", number % 100), FILL_EVENTS)).await.is_err() {
                break;
            }
        }
    });
    for _ in 0..batches {
        let answer = answers.message().await?.context("the call ended")?;
        anyhow::ensure!(matches!(answer.result, Some(batch_append_resp::Result::Success(_))), "{answer:?}");
    }
    sending.await?;
    let rate = (batches * FILL_EVENTS) as f64 / started.elapsed().as_secs_f64();
    println!("filling, {FILL_EVENTS} events a batch, one client: {rate:.0} durable events/s");
    Ok(())
}

async fn read(client: &Client, events: u64) -> Result<()> {
    use read_req::options::{
        AllOptions, CountOption, FilterOption, StreamOption, UuidOption, all_options, uuid_option,
    };
    let options = read_req::Options {
        stream_option: Some(StreamOption::All(AllOptions {
            all_option: Some(all_options::AllOption::Start(Empty {})),
        })),
        count_option: Some(CountOption::Count(events)),
        filter_option: Some(FilterOption::NoFilter(Empty {})),
        uuid_option: Some(UuidOption { content: Some(uuid_option::Content::Structured(Empty {})) }),
        ..read_req::Options::default()
    };
    let started = Instant::now();
    let mut answers = client.clone().read(ReadReq { options: Some(options) }).await?.into_inner();
    let (mut count, mut bytes) = (0_u64, 0);
    while let Some(answer) = answers.message().await? {
        let Some(read_resp::Content::Event(event)) = answer.content else { continue };
        count += 1;
        bytes += event.event.map_or(0, |event| event.data.len());
    }
    anyhow::ensure!(count == events, "{count} events of {events}");
    anyhow::ensure!(bytes > 0);
    println!("reading all, one client: {:.0} events/s", count as f64 / started.elapsed().as_secs_f64());
    Ok(())
}

fn batch(stream: &str, events: usize) -> BatchAppendReq {
    let proposed = (0..events).map(|_| {
        let (id, metadata, data) = event();
        batch_append_req::ProposedMessage { id, metadata, custom_metadata: "{}".into(), data }
    });
    BatchAppendReq {
        correlation_id: Some(wire(Uuid::now_v7())),
        options: Some(batch_append_req::Options {
            stream_identifier: Some(name(stream)),
            expected_stream_position: Some(batch_append_req::options::ExpectedStreamPosition::Any(())),
            deadline_option: None,
        }),
        proposed_messages: proposed.collect(),
        is_final: true,
    }
}

fn event() -> (Option<WireUuid>, Vec<MetadataEntry>, bytes::Bytes) {
    let entry = |key: &'static str, value: &'static str| MetadataEntry { key: key.into(), value: value.into() };
    let metadata = vec![entry("type", "BenchRan"), entry("content-type", "application/json")];
    let text = "x".repeat(DATA_BYTES - 11);
    (Some(wire(Uuid::now_v7())), metadata, format!("{{\"text\":\"{text}\"}}").into())
}

fn wire(id: Uuid) -> WireUuid {
    let (most, least) = id.as_u64_pair();
    let value = spelling::Structured {
        most_significant_bits: most.cast_signed(),
        least_significant_bits: least.cast_signed(),
    };
    WireUuid { value: Some(spelling::Value::Structured(value)) }
}

fn name(stream: &str) -> StreamIdentifier {
    StreamIdentifier { stream_name: stream.as_bytes().to_vec().into() }
}
