//! KurrentDB's protocol, clients included: durable appends of single events from many clients, and one client that reads
//! the whole log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use cairn_event_store::{EventStore, SharedStore, SqliteStore};
use cairn_gateway::{Authority, Caller, Credentials, Gateway, Level, Options, Refusal};
use cairn_proto::event_store::client::streams::streams_client::StreamsClient;
use cairn_proto::event_store::client::streams::{
    AppendReq, BatchAppendReq, MetadataEntry, ReadReq, append_req, append_resp, batch_append_req,
    batch_append_resp, read_req, read_resp,
};
use cairn_proto::event_store::client::{Empty, StreamIdentifier, Uuid as WireUuid, uuid as spelling};
use futures::future::try_join_all;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use super::Plan;
use super::append::appends;
use super::figures::{Demand, Report, quantile};

type Client = StreamsClient<Channel>;

/// What is wanted of both ways to append.
const APPENDS: Option<Demand> = Some(Demand::AtLeast(20_000.0));
/// How many clients append at the same time, each on a connection of its own.
const CLIENTS: usize = 64;
/// The bytes of an event's data.
const DATA_BYTES: usize = 256;
/// The events of a batch while the log is filled for reading.
const FILL_EVENTS: usize = 500;
/// How often the log is read; the median counts.
const READS: usize = 3;

/// Lets everybody in.
struct Anybody;

impl Authority for Anybody {
    fn admit(&self, _: Option<&Credentials>) -> Result<Caller, Refusal> {
        let ceiling = Level::new(2).expect("two is a level");
        Ok(Caller { principal: Uuid::nil(), ceiling, origin: "automation:bench".into() })
    }
}

/// Measures appends and reads.
pub async fn measure(plan: &Plan, report: &mut Report) -> Result<()> {
    let time = Duration::from_secs(if plan.quick { 2 } else { 8 });
    let events: u64 = if plan.quick { 200_000 } else { 1_000_000 };
    let store = Arc::new(SqliteStore::open(plan.folder.path().join("gateway.db"), Uuid::now_v7())?);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let shared: SharedStore = store.clone();
    let gateway = Gateway::new(shared, Arc::new(Anybody), Options::plain(address));
    let serving = tokio::spawn(gateway.serve(listener, std::future::pending()));
    let clients = try_join_all((0..CLIENTS).map(|_| connect(format!("http://{address}")))).await?;

    report.doing("64 clients append through the gateway");
    let (calls, mut samples) = append(&clients, time, append_calls).await?;
    report.add("gateway", "Append: single durable appends, 64 clients", calls, "events/s", APPENDS);
    report.add("gateway", "Append: p99", quantile(&mut samples, 0.99), "ms", None);
    let (rate, mut samples) = append(&clients, time, append_on_one_call).await?;
    report.add("gateway", "BatchAppend: single durable appends, 64 clients", rate, "events/s", APPENDS);
    report.add("gateway", "BatchAppend: p99", quantile(&mut samples, 0.99), "ms", None);
    let (bare, _) = appends(Arc::clone(&store), CLIENTS, time).await?;
    report.beside("gateway", "the same", rate, "events/s", ("64 writers without the protocol", bare), None);

    report.doing("one client reads everything through the gateway");
    // Not within the call: what borrows the head keeps it from moving.
    let head = store.head().borrow().0;
    fill(&clients[0], head, events).await?;
    let mut rates = Vec::new();
    for _ in 0..READS {
        rates.push(read(&clients[0], events).await?);
    }
    let demand = Some(Demand::AtLeast(200_000.0));
    report.add("gateway", "read all, one client", quantile(&mut rates, 0.5), "events/s", demand);
    serving.abort();
    store.close().await;
    Ok(())
}

async fn connect(url: String) -> Result<Client> {
    let endpoint = Endpoint::from_shared(url)?.tcp_nodelay(true);
    Ok(StreamsClient::new(endpoint.connect().await?))
}

/// Events a second, and how long each took in milliseconds.
async fn append<F>(
    clients: &[Client],
    time: Duration,
    work: impl Fn(Client, String, Arc<AtomicBool>) -> F,
) -> Result<(f64, Vec<f64>)>
where
    F: Future<Output = Result<Vec<f64>>> + Send + 'static,
{
    let over = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let workers = clients
        .iter()
        .enumerate()
        .map(|(number, client)| tokio::spawn(work(client.clone(), format!("bench-{number}"), Arc::clone(&over))));
    let workers: Vec<_> = workers.collect();
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let mut samples = Vec::new();
    for worker in workers {
        samples.extend(worker.await??);
    }
    Ok((samples.len() as f64 / started.elapsed().as_secs_f64(), samples))
}

/// A call for each event, as `Append` has it.
async fn append_calls(mut client: Client, stream: String, over: Arc<AtomicBool>) -> Result<Vec<f64>> {
    let mut samples = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let options = append_req::Options {
            stream_identifier: Some(name(&stream)),
            expected_stream_revision: Some(append_req::options::ExpectedStreamRevision::Any(Empty {})),
        };
        let (id, metadata, data) = event();
        let event = append_req::ProposedMessage { id, metadata, custom_metadata: "{}".into(), data };
        let contents = [append_req::Content::Options(options), append_req::Content::ProposedMessage(event)];
        let messages = contents.map(|content| AppendReq { content: Some(content) });
        let sent = Instant::now();
        let answer = client.append(tokio_stream::iter(messages)).await?.into_inner();
        ensure!(matches!(answer.result, Some(append_resp::Result::Success(_))), "{answer:?}");
        samples.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    Ok(samples)
}

/// One `BatchAppend` for as long as it goes on, as the vendor's clients use it: each event is an append of its own, with an answer
/// of its own, and the next one is sent when that has come.
async fn append_on_one_call(mut client: Client, stream: String, over: Arc<AtomicBool>) -> Result<Vec<f64>> {
    let (sender, receiver) = mpsc::channel(1);
    // The call is answered once the first event has come.
    sender.send(batch(&stream, 1)).await?;
    let mut sent = Instant::now();
    let mut answers = client.batch_append(ReceiverStream::new(receiver)).await?.into_inner();
    let mut samples = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let answer = answers.message().await?.context("the call ended")?;
        ensure!(matches!(answer.result, Some(batch_append_resp::Result::Success(_))), "{answer:?}");
        samples.push(sent.elapsed().as_secs_f64() * 1e3);
        sent = Instant::now();
        sender.send(batch(&stream, 1)).await?;
    }
    Ok(samples)
}

/// Appends until the log holds so many events.
async fn fill(client: &Client, head: u64, events: u64) -> Result<()> {
    let batches = usize::try_from(events.saturating_sub(head))?.div_ceil(FILL_EVENTS);
    let (sender, receiver) = mpsc::channel(8);
    let mut answers = client.clone().batch_append(ReceiverStream::new(receiver)).await?.into_inner();
    let sending = tokio::spawn(async move {
        for number in 0..batches {
            if sender.send(batch(&format!("fill-{}", number % 100), FILL_EVENTS)).await.is_err() {
                break;
            }
        }
    });
    for _ in 0..batches {
        let answer = answers.message().await?.context("the call ended")?;
        ensure!(matches!(answer.result, Some(batch_append_resp::Result::Success(_))), "{answer:?}");
    }
    Ok(sending.await?)
}

/// Events a second.
async fn read(client: &Client, events: u64) -> Result<f64> {
    use read_req::options::{
        AllOptions, CountOption, FilterOption, StreamOption, UuidOption, all_options, uuid_option,
    };
    let all = AllOptions { all_option: Some(all_options::AllOption::Start(Empty {})) };
    let options = read_req::Options {
        stream_option: Some(StreamOption::All(all)),
        count_option: Some(CountOption::Count(events)),
        filter_option: Some(FilterOption::NoFilter(Empty {})),
        uuid_option: Some(UuidOption { content: Some(uuid_option::Content::Structured(Empty {})) }),
        ..read_req::Options::default()
    };
    let started = Instant::now();
    let mut answers = client.clone().read(ReadReq { options: Some(options) }).await?.into_inner();
    let mut count = 0_u64;
    while let Some(answer) = answers.message().await? {
        count += u64::from(matches!(answer.content, Some(read_resp::Content::Event(_))));
    }
    ensure!(count == events, "{count} events were read of {events}");
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

fn batch(stream: &str, events: usize) -> BatchAppendReq {
    let proposed = (0..events).map(|_| {
        let (id, metadata, data) = event();
        batch_append_req::ProposedMessage { id, metadata, custom_metadata: "{}".into(), data }
    });
    let expected = batch_append_req::options::ExpectedStreamPosition::Any(());
    BatchAppendReq {
        correlation_id: Some(wire(Uuid::now_v7())),
        options: Some(batch_append_req::Options {
            stream_identifier: Some(name(stream)),
            expected_stream_position: Some(expected),
            deadline_option: None,
        }),
        proposed_messages: proposed.collect(),
        is_final: true,
    }
}

fn event() -> (Option<WireUuid>, Vec<MetadataEntry>, Bytes) {
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
