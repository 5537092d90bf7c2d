//! Topics to read and to write, and what a log holds of them.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use cairn_testkit::Client;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use serde_json::Value;
use tokio::time::sleep;

/// How long brokers, and the node that waits for them, may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// How many partitions the topic has that a node reads.
const PARTITIONS: u64 = 3;
/// How long it is waited for what should not come.
const SETTLE: Duration = Duration::from_millis(500);

/// The topic that a node reads.
pub const TOPIC: &str = "sensors";

/// Brokers, in this process, with the topic [`TOPIC`]. They keep 5 MB of each partition.
pub type Brokers = MockCluster<'static, DefaultProducerContext>;

/// Starts a broker.
///
/// # Panics
/// When it does not start.
pub fn brokers() -> (Brokers, String) {
    let kafka = MockCluster::new(1).expect("a mock cluster");
    kafka.create_topic(TOPIC, PARTITIONS as i32, 1).expect("a topic");
    let brokers = kafka.bootstrap_servers();
    (kafka, brokers)
}

/// Writes numbered messages to [`TOPIC`], and waits until the broker has them.
///
/// # Panics
/// When it does not take them.
pub async fn write(brokers: &str, numbers: Range<u64>) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers);
    let written = tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = client.create().expect("a producer");
        for number in numbers {
            let (key, payload) = (format!("k{}", number % 7), format!(r#"{{"n":{number}}}"#));
            let partition = (number % PARTITIONS) as i32;
            let record = BaseRecord::to(TOPIC).partition(partition).key(&key).payload(&payload);
            producer.send(record).map_err(|(error, _)| error).expect("queued");
        }
        producer.flush(PATIENCE).expect("written");
    });
    written.await.expect("written");
}

/// What a node has captured, as its log tells it.
///
/// # Panics
/// When the log cannot be read.
pub async fn captured(client: &Client) -> Vec<Value> {
    let log = client.get("/log?type=capture.received").await;
    log.text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
}

/// Waits until so many messages are captured, and a little longer for those that should not be.
///
/// # Panics
/// When they do not come.
pub async fn until_captured(client: &Client, messages: u64) -> Vec<Value> {
    let began = Instant::now();
    while (captured(client).await.len() as u64) < messages {
        assert!(began.elapsed() < PATIENCE, "{}", client.get("/status").await.text);
        sleep(Duration::from_millis(50)).await;
    }
    sleep(SETTLE).await;
    captured(client).await
}

/// Checks that each message is captured once, and each partition's in order.
///
/// # Panics
/// When that is not so.
pub fn check_once(events: &[Value], messages: u64) {
    let (mut numbers, mut offsets) = (Vec::new(), BTreeMap::<u64, u64>::new());
    for event in events {
        let data = &event["data"];
        let next = offsets.entry(data["partition"].as_u64().expect("one")).or_default();
        assert_eq!(data["offset"].as_u64(), Some(*next), "{event}");
        *next += 1;
        numbers.push(data["payload"]["value"]["n"].as_u64().expect("a number"));
    }
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..messages), "something was lost or doubled: {numbers:?}");
}

/// Reads what a node has published until every position up to `head` was seen; gives all that was seen, in ascending order.
///
/// # Panics
/// When the brokers cannot be read.
pub async fn published(brokers: &str, families: &[&str], head: u64) -> Vec<u64> {
    let brokers = brokers.to_owned();
    let topics: Vec<String> = families.iter().map(|family| format!("cairn.{family}")).collect();
    tokio::task::spawn_blocking(move || consume(&brokers, &topics, head)).await.expect("the consumer ends")
}

fn consume(brokers: &str, topics: &[String], head: u64) -> Vec<u64> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers).set("group.id", "test").set("auto.offset.reset", "earliest");
    client.set("topic.metadata.refresh.interval.ms", "200");
    let consumer: BaseConsumer = client.create().expect("a consumer");
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics).expect("topics");
    let began = Instant::now();
    let (mut positions, mut distinct) = (Vec::new(), HashSet::new());
    while (distinct.len() as u64) < head && began.elapsed() < PATIENCE {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) else { continue };
        let headers = message.headers().expect("the envelope");
        let position =
            headers.iter().find(|header| header.key == "cairn-position").and_then(|header| header.value);
        let text = std::str::from_utf8(position.expect("a position")).expect("digits");
        let position: u64 = text.parse().expect("a number");
        positions.push(position);
        distinct.insert(position);
    }
    positions.sort_unstable();
    positions
}
