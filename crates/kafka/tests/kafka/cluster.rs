//! Brokers to test against, a log to publish, and a consumer that reads everything there is.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use cairn_event_store::{
    Direction, EventStore, ExpectedRevision, Filter, NewAppend, NewEvent, Position, RecordedEvent, StreamAppend,
};
use cairn_kafka::{FileCheckpoints, Publisher, PublisherConfig, PublisherStatus, State};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How many partitions the topics of a test have.
pub const PARTITIONS: i32 = 4;

/// librdkafka's mock cluster. It keeps 5 MB of each partition, and does not recognise what an idempotent producer
/// sends twice: where a connection breaks with requests on it, it may keep a batch twice.
pub type Mock = MockCluster<'static, DefaultProducerContext>;

pub fn mock() -> (Mock, Site) {
    let mock = MockCluster::new(3).expect("the mock cluster starts");
    let site = Site { brokers: mock.bootstrap_servers(), prefix: unique(), real: false };
    (mock, site)
}

/// Brokers, and what the topics of one test begin with.
pub struct Site {
    pub brokers: String,
    pub prefix: String,
    real: bool,
}

impl Site {
    pub fn real(brokers: &str) -> Self {
        Self { brokers: brokers.to_owned(), prefix: unique(), real: true }
    }

    pub fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.brokers).set("group.id", "cairn-tests");
        client
    }

    pub fn config(&self) -> PublisherConfig {
        PublisherConfig { topic_prefix: self.prefix.clone(), ..PublisherConfig::new(&self.brokers) }
    }

    /// One request at a time. A real broker refuses a batch whose predecessor it refused, by the producer's sequence
    /// numbers; the mock cluster keeps none, so that a request it fails must be the only one on its way.
    pub fn config_one_by_one(&self) -> PublisherConfig {
        let properties = [("max.in.flight.requests.per.connection", "1")].into_iter().collect();
        PublisherConfig { properties, ..self.config() }
    }

    /// Makes a topic. The mock cluster makes them by itself, and cannot be asked to.
    pub async fn create(&self, topic: &str) {
        if self.real {
            let admin: AdminClient<DefaultClientContext> = self.client().create().expect("an admin client");
            let topic = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
            let made = admin.create_topics([&topic], &AdminOptions::new()).await.expect("the broker answers");
            made.into_iter().for_each(|made| drop(made.expect("the topic is made")));
        }
    }

    /// Everything a topic holds, each partition in its order.
    pub async fn drain(&self, topic: &str) -> Vec<Seen> {
        let (client, topic) = (self.client(), topic.to_owned());
        tokio::task::spawn_blocking(move || drain(&client, &topic)).await.expect("it reads")
    }
}

fn unique() -> String {
    format!("t{}", Uuid::new_v4().simple())
}

/// A message that a consumer has seen.
#[derive(Debug, Clone)]
pub struct Seen {
    pub partition: i32,
    pub key: String,
    pub headers: BTreeMap<String, String>,
    pub payload: Vec<u8>,
}

impl Seen {
    pub fn number(&self, header: &str) -> u64 {
        self.headers[header].parse().expect("a number")
    }
}

fn drain(client: &ClientConfig, topic: &str) -> Vec<Seen> {
    let consumer: BaseConsumer = client.create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("the broker answers");
    let partitions: Vec<_> = metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
    let mut missing = HashMap::new();
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE).expect("the broker answers");
        assert_eq!(low, 0, "the mock cluster has deleted what the test wants to read");
        if high > 0 {
            missing.insert(partition, high);
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
    }
    consumer.assign(&list).expect("assigned");
    let mut seen = Vec::new();
    while !missing.is_empty() {
        let message = match consumer.poll(PATIENCE).expect("a message comes") {
            Ok(message) => message,
            Err(KafkaError::PartitionEOF(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let headers = message.headers().map(|headers| {
            let pair = |header: rdkafka::message::Header<'_, &[u8]>| {
                (header.key.to_owned(), text(header.value.expect("a value")))
            };
            headers.iter().map(pair).collect()
        });
        seen.push(Seen {
            partition: message.partition(),
            key: text(message.key().unwrap_or_default()),
            headers: headers.unwrap_or_default(),
            payload: message.payload().unwrap_or_default().to_vec(),
        });
        if missing[&message.partition()] == message.offset() + 1 {
            missing.remove(&message.partition());
        }
    }
    seen
}

/// Families of events, each with streams of its own.
pub const FAMILIES: [&str; 3] = ["memory", "principal", "capture"];
const STREAMS: usize = 12;

/// Appends events to random streams, some to an append.
pub async fn fill(store: &dyn EventStore, random: &mut StdRng, events: usize) {
    let mut left = events;
    while left > 0 {
        let count = random.random_range(1..=left.min(50));
        left -= count;
        let stream = random.random_range(0..STREAMS);
        append(store, stream, count, random).await;
    }
}

/// Appends so many events to the stream of this number.
pub async fn append(store: &dyn EventStore, number: usize, count: usize, random: &mut StdRng) {
    let family = FAMILIES[number % FAMILIES.len()];
    let append = StreamAppend {
        stream: format!("{family}-{number}").into(),
        expected: ExpectedRevision::Any,
        events: (0..count).map(|_| event(&format!("{family}.changed"), random)).collect(),
    };
    store.append(NewAppend { streams: vec![append], tracking: None }).await.expect("appended");
}

pub fn event(event_type: &str, random: &mut StdRng) -> NewEvent {
    let text = "x".repeat(random.random_range(0..60));
    NewEvent {
        id: Uuid::now_v7(),
        event_type: event_type.into(),
        schema_version: 1,
        data: format!(r#"{{"text":"{text}"}}"#).into(),
        metadata: r#"{"truth":1,"origin":"user:test"}"#.into(),
    }
}

pub fn seeded(name: &str) -> StdRng {
    let seed =
        std::env::var("TEST_CAIRN_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("a number"));
    println!("{name}: TEST_CAIRN_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// The whole log.
pub async fn all(store: &dyn EventStore) -> Vec<RecordedEvent> {
    let (mut events, mut from) = (Vec::new(), Position(1));
    loop {
        let page = store.read_all(from, Direction::Forwards, &Filter::default(), 4_096).await.expect("a page");
        events.extend(page.events);
        match page.next {
            Some(next) => from = next,
            None => return events,
        }
    }
}

/// A publisher in a task of its own.
pub struct Running {
    pub status: watch::Receiver<PublisherStatus>,
    pub task: JoinHandle<Result<(), cairn_kafka::PublishError>>,
    cancel: CancellationToken,
}

pub fn publish(config: PublisherConfig, store: Arc<dyn EventStore>, checkpoints: &FileCheckpoints) -> Running {
    let publisher = Publisher::new(config, store, Arc::new(checkpoints.clone())).expect("it fits");
    let (status, cancel) = (publisher.status(), CancellationToken::new());
    Running { status, task: tokio::spawn(publisher.run(cancel.clone())), cancel }
}

impl Running {
    /// Waits until the status is as wanted.
    pub async fn until(&mut self, wanted: impl FnMut(&PublisherStatus) -> bool) -> PublisherStatus {
        let found = tokio::time::timeout(PATIENCE, self.status.wait_for(wanted)).await;
        let found = found.map(|found| found.expect("it runs").clone());
        found.unwrap_or_else(|_| panic!("it came to {:?}", *self.status.borrow()))
    }

    pub async fn until_published(&mut self, store: &dyn EventStore) {
        let head = store.head().borrow().0;
        self.until(|status| status.position >= head).await;
    }

    pub async fn stop(self) {
        self.cancel.cancel();
        self.task.await.expect("no panic").expect("it stops without an error");
        assert_eq!(self.status.borrow().state, State::Stopped);
    }

    /// As if the process had died.
    pub async fn abort(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Checks what consumers see of a log: each stream in one partition, in order, without a gap, and whole. The answer is
/// how often each position was seen.
pub fn check(events: &[RecordedEvent], seen: &[Seen]) -> BTreeMap<u64, usize> {
    let mut reached: HashMap<&str, (i32, u64)> = HashMap::new();
    let mut times = BTreeMap::new();
    for message in seen {
        let event = &events[usize::try_from(message.number("cairn-position")).expect("small") - 1];
        assert_eq!((message.key.as_str(), message.number("cairn-revision")), (&*event.stream, event.revision.0));
        assert_eq!(message.headers["cairn-event-id"], event.id.to_string());
        assert_eq!(message.payload, event.data);
        *times.entry(event.position.0).or_default() += 1;
        let (partition, next) = reached.entry(&message.key).or_insert((message.partition, 0));
        assert_eq!(*partition, message.partition, "stream {} is in two partitions", message.key);
        assert!(event.revision.0 <= *next, "stream {} has a gap before revision {}", message.key, event.revision);
        *next = (*next).max(event.revision.0 + 1);
    }
    assert_eq!(times.len(), events.len(), "events were lost");
    times
}
