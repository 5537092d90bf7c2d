//! The source: each message once in the log, whatever happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_domain::event::Metadata;
use cairn_domain::truth::Truth;
use cairn_event_store::{EventStore, MemoryStore, NewAppend, RecordedEvent, SqliteStore, Tracking};
use cairn_kafka::{
    CAPTURE_RECEIVED, CAPTURE_REJECTED, Captured, PayloadFormat, Source, SourceConfig, SourceError, SourceStatus,
    StartAt, State, StreamBy,
};
use rand::Rng;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cluster::{PARTITIONS, PATIENCE, Site, all, mock, seeded};

struct Reading {
    status: watch::Receiver<SourceStatus>,
    task: JoinHandle<Result<(), SourceError>>,
    cancel: CancellationToken,
}

fn read(source: Source) -> Reading {
    let (status, cancel) = (source.status(), CancellationToken::new());
    Reading { status, task: tokio::spawn(source.run(cancel.clone())), cancel }
}

impl Reading {
    async fn until(&mut self, wanted: impl FnMut(&SourceStatus) -> bool) -> SourceStatus {
        let found = tokio::time::timeout(PATIENCE, self.status.wait_for(wanted)).await;
        let found = found.map(|found| found.expect("it runs").clone());
        found.unwrap_or_else(|_| panic!("it came to {:?}", *self.status.borrow()))
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.expect("no panic").expect("it stops without an error");
    }

    async fn abort(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn config(site: &Site, topic: &str) -> SourceConfig {
    SourceConfig::new(&site.brokers, topic, Uuid::from_u128(7))
}

async fn topic(site: &Site) -> String {
    let topic = format!("{}.in", site.prefix);
    site.create(&topic).await;
    topic
}

/// Writes numbered messages, and waits until the brokers have them.
async fn write(site: &Site, topic: &str, numbers: std::ops::Range<usize>) {
    let messages = numbers.map(|number| {
        let record = Message { partition: Some(number as i32 % PARTITIONS), ..Message::default() };
        Message { key: Some(format!("k{}", number % 7)), payload: format!(r#"{{"n":{number}}}"#).into(), ..record }
    });
    write_all(site, topic, messages.collect()).await;
}

#[derive(Default)]
struct Message {
    partition: Option<i32>,
    key: Option<String>,
    payload: Vec<u8>,
    headers: Option<OwnedHeaders>,
}

async fn write_all(site: &Site, topic: &str, messages: Vec<Message>) {
    let (client, topic) = (site.client(), topic.to_owned());
    let written = tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = client.create().expect("a producer");
        for message in messages {
            let mut record = BaseRecord::to(&topic).payload(&message.payload);
            record.key = message.key.as_ref();
            record.partition = message.partition;
            record.headers = message.headers;
            producer.send(record).map_err(|(error, _)| error).expect("queued");
        }
        producer.flush(PATIENCE).expect("written");
    });
    written.await.expect("written");
}

/// Waits until the log holds so many events.
async fn until_captured(store: &dyn EventStore, events: u64) {
    let mut head = store.head();
    let reached = tokio::time::timeout(PATIENCE, head.wait_for(|head| head.0 >= events)).await;
    reached.expect("in time").expect("the log is open");
}

fn data(event: &RecordedEvent) -> Value {
    serde_json::from_slice(&event.data).expect("JSON")
}

/// Checks that each message is in the log once, and each partition's in order.
fn check_once(events: &[RecordedEvent], messages: usize) {
    let mut numbers = Vec::new();
    let mut offsets = BTreeMap::<i64, i64>::new();
    for event in events {
        assert_eq!(&*event.event_type, CAPTURE_RECEIVED);
        let data = data(event);
        let (partition, offset) =
            (data["partition"].as_i64().expect("one"), data["offset"].as_i64().expect("one"));
        let next = offsets.entry(partition).or_default();
        assert_eq!(offset, *next, "partition {partition} is out of order");
        *next += 1;
        numbers.push(data["payload"]["value"]["n"].as_u64().expect("a number"));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..messages as u64).collect::<Vec<_>>());
}

pub async fn exactly_once_with_aborts(site: &Site) {
    let mut random = seeded("exactly_once_with_aborts");
    let topic = topic(site).await;
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(SqliteStore::open(folder.path().join("log"), Uuid::now_v7()).expect("opens"));
    let mut written = 0;
    for _ in 0..10 {
        let source = Source::new(config(site, &topic), store.clone()).expect("it fits");
        let reading = read(source);
        let more = random.random_range(50..400);
        write(site, &topic, written..written + more).await;
        written += more;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        reading.abort().await;
    }
    let source = Source::new(config(site, &topic), store.clone()).expect("it fits");
    let mut reading = read(source);
    until_captured(&*store, written as u64).await;
    // Any repeat would come now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let status = reading.until(|status| status.lag == 0 && status.state == State::Running).await;
    assert_eq!(status.partitions.len(), PARTITIONS as usize);
    reading.stop().await;
    let events = all(&*store).await;
    check_once(&events, written);
    check_envelope(&events, &topic);
}

fn check_envelope(events: &[RecordedEvent], topic: &str) {
    for event in events {
        let metadata: Metadata = serde_json::from_slice(&event.metadata).expect("as the domain reads it");
        assert_eq!((metadata.principal.uuid(), metadata.truth), (Uuid::from_u128(7), Truth::Automation));
        assert_eq!(metadata.origin.as_str(), format!("automation:kafka/{topic}"));
        assert_eq!(metadata.correlation_id, event.id);
        assert_eq!(*event.stream, format!("capture-{topic}-{}", data(event)["partition"]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_is_captured_once_though_the_source_dies_at_any_moment() {
    let (_mock, site) = mock();
    exactly_once_with_aborts(&site).await;
}

pub async fn exactly_once_with_two_at_once(site: &Site) {
    let topic = topic(site).await;
    let store = Arc::new(MemoryStore::new(Uuid::now_v7()));
    let source = || read(Source::new(config(site, &topic), store.clone()).expect("it fits"));
    let readings = [source(), source(), source()];
    for part in 0..20 {
        write(site, &topic, part * 100..(part + 1) * 100).await;
    }
    until_captured(&*store, 2_000).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for reading in readings {
        reading.stop().await;
    }
    check_once(&all(&*store).await, 2_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_is_captured_once_though_several_sources_read_it() {
    let (_mock, site) = mock();
    exactly_once_with_two_at_once(&site).await;
}

/// A header whose name no Rust text can be.
fn broken_header() -> OwnedHeaders {
    // Kafka takes any bytes for a name, and whoever writes to the topic may send them; only Rust's client does not.
    #[expect(unsafe_code, reason = "only the bytes are used, by code that is not Rust")]
    let key = unsafe { std::str::from_utf8_unchecked(std::hint::black_box(b"\xff\xfe")) };
    OwnedHeaders::new().insert(Header { key, value: Some("x") })
}

pub async fn what_is_not_taken_is_rejected(site: &Site) {
    let topic = topic(site).await;
    let store = Arc::new(MemoryStore::new(Uuid::now_v7()));
    let payloads: [&[u8]; 6] = [b"{\"n\":0}", b"no json", b"\xff", &[b'1'; 3_000], b"[1]", b""];
    let mut messages: Vec<_> = payloads
        .into_iter()
        .map(|payload| Message { partition: Some(0), payload: payload.to_vec(), ..Message::default() })
        .collect();
    let broken = Message { partition: Some(0), payload: b"1".into(), headers: Some(broken_header()), key: None };
    messages.insert(3, broken);
    write_all(site, &topic, messages).await;
    let mut config = config(site, &topic);
    (config.payload, config.max_message_bytes) = (PayloadFormat::Json, 2_000);
    let mut reading = read(Source::new(config, store.clone()).expect("it fits"));
    until_captured(&*store, 7).await;
    let status = reading.until(|status| status.appended == 7).await;
    assert_eq!(status.rejected, 5);
    reading.stop().await;
    let events = all(&*store).await;
    let taken = |event: &RecordedEvent| &*event.event_type == CAPTURE_RECEIVED;
    assert_eq!(events.iter().map(taken).collect::<Vec<_>>(), [true, false, false, false, false, true, false]);
    let reason = |event: &RecordedEvent| data(event)["reason"].as_str().expect("a reason").to_owned();
    for (event, expected) in [(1, "not JSON"), (3, "header"), (4, "more than 2000"), (6, "not JSON")] {
        assert_eq!(&*events[event].event_type, CAPTURE_REJECTED);
        assert!(reason(&events[event]).contains(expected), "{}", reason(&events[event]));
    }
    assert_eq!(data(&events[4])["bytes"], 3_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_not_taken_leaves_an_event_that_says_why() {
    let (_mock, site) = mock();
    what_is_not_taken_is_rejected(&site).await;
}

pub async fn from_the_latest_message_on(site: &Site) {
    let topic = topic(site).await;
    let store = Arc::new(MemoryStore::new(Uuid::now_v7()));
    write(site, &topic, 0..40).await;
    let mut config = config(site, &topic);
    config.start_at = StartAt::Latest;
    let mut reading = read(Source::new(config.clone(), store.clone()).expect("it fits"));
    reading.until(|status| status.state == State::Running && !status.partitions.is_empty()).await;
    reading.abort().await;
    // Written while nobody reads, but after the source first saw the topic.
    write(site, &topic, 40..60).await;
    let reading = read(Source::new(config, store.clone()).expect("it fits"));
    until_captured(&*store, 20).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    reading.stop().await;
    let events = all(&*store).await;
    let mut numbers: Vec<_> = events.iter().map(|event| data(event)["payload"]["value"]["n"].as_u64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (40..60).map(Some).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_may_begin_with_what_comes_after_it() {
    let (_mock, site) = mock();
    from_the_latest_message_on(&site).await;
}

async fn track(store: &dyn EventStore, topic: &str, partition: i32, position: u64) {
    let source = format!("kafka:kafka:{topic}:{partition}").into();
    let tracking = Some(Tracking { source, position });
    store.append(NewAppend { streams: Vec::new(), tracking }).await.expect("recorded");
}

pub async fn a_topic_that_is_shorter_than_it_was(site: &Site) {
    let topic = topic(site).await;
    let store = Arc::new(MemoryStore::new(Uuid::now_v7()));
    write(site, &topic, 0..8).await;
    track(&*store, &topic, 1, 50).await;
    let reading = read(Source::new(config(site, &topic), store.clone()).expect("it fits"));
    let error = reading.task.await.expect("no panic").expect_err("it stops");
    assert!(matches!(error, SourceError::Shrunk { partition: 1, tracked: 50, end: 2, .. }), "{error}");
    assert_eq!(reading.status.borrow().state, State::Failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_made_anew_is_not_taken_for_the_old_one() {
    let (_mock, site) = mock();
    a_topic_that_is_shorter_than_it_was(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_were_deleted_before_they_were_read_leave_an_event() {
    let (_mock, site) = mock();
    let topic = topic(&site).await;
    let store = Arc::new(MemoryStore::new(Uuid::now_v7()));
    // The mock cluster keeps 5 MB of a partition.
    for _ in 0..10 {
        let large = || Message { partition: Some(0), payload: vec![b'1'; 200_000], ..Message::default() };
        write_all(&site, &topic, (0..4).map(|_| large()).collect()).await;
    }
    track(&*store, &topic, 0, 1).await;
    let reading = read(Source::new(config(&site, &topic), store.clone()).expect("it fits"));
    until_captured(&*store, 2).await;
    let first = all(&*store).await.remove(0);
    let lost = data(&first);
    assert_eq!((&*first.event_type, lost["offset"].as_u64()), (CAPTURE_REJECTED, Some(1)));
    let through = lost["through"].as_u64().expect("a range");
    assert!((2..39).contains(&through), "{through}");
    until_captured(&*store, 1 + 39 - through).await;
    reading.stop().await;
    let offsets =
        all(&*store).await.iter().skip(1).map(|event| data(event)["offset"].as_u64()).collect::<Vec<_>>();
    assert_eq!(offsets, (through + 1..40).map(Some).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_are_away_are_waited_for() {
    let (mock, site) = mock();
    let topic = topic(&site).await;
    let store = Arc::new(MemoryStore::new(Uuid::now_v7()));
    write(&site, &topic, 0..100).await;
    let mut reading = read(Source::new(config(&site, &topic), store.clone()).expect("it fits"));
    until_captured(&*store, 100).await;
    mock.broker_down(-1).expect("down");
    let status = reading.until(|status| status.state == State::Waiting).await;
    assert!(status.problem.is_some());
    mock.broker_up(-1).expect("up");
    write(&site, &topic, 100..200).await;
    until_captured(&*store, 200).await;
    reading.until(|status| status.state == State::Running && status.problem.is_none()).await;
    reading.stop().await;
    check_once(&all(&*store).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_its_own_for_each_key_and_events_of_the_nodes_own_making() {
    let (_mock, site) = mock();
    let topic = topic(&site).await;
    let store = Arc::new(MemoryStore::new(Uuid::now_v7()));
    write(&site, &topic, 0..70).await;
    let mut by_key = config(&site, &topic);
    by_key.stream_by = StreamBy::Key;
    by_key.ceiling = Truth::NetworkAi;
    let reading = read(Source::new(by_key, store.clone()).expect("it fits"));
    until_captured(&*store, 70).await;
    reading.stop().await;
    let events = all(&*store).await;
    for event in &events {
        let key = data(event)["key"]["value"].as_str().expect("a key").to_owned();
        assert_eq!(*event.stream, format!("capture-{topic}-{key}"));
        let metadata: Metadata = serde_json::from_slice(&event.metadata).expect("metadata");
        assert_eq!(metadata.truth, Truth::NetworkAi, "the ceiling caps it");
    }
    let own = Arc::new(MemoryStore::new(Uuid::now_v7()));
    let mapping = Arc::new(|capture: &cairn_kafka::Capture| {
        let payload = capture.payload.clone().unwrap_or_default();
        if payload.ends_with(b"3}") {
            return Err("it ends in three".to_owned());
        }
        Ok(Captured { stream: "own".into(), event_type: "own.made".into(), schema_version: 2, data: payload })
    });
    let source = Source::new(config(&site, &topic), own.clone()).expect("it fits").with_mapping(mapping);
    let reading = read(source);
    until_captured(&*own, 70).await;
    reading.stop().await;
    let (made, rejected): (Vec<_>, Vec<_>) =
        all(&*own).await.into_iter().partition(|event| &*event.event_type == "own.made");
    assert_eq!((made.len(), rejected.len()), (63, 7));
    assert!(rejected.iter().all(|event| data(event)["reason"] == "it ends in three"));
}
