//! The consumer: partitions assigned by hand, offsets from the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, Statistics, TopicPartitionList};
use tokio::time::{Instant, timeout, timeout_at};

use super::capture::Incoming;
use super::{BATCH_BYTES, BATCH_LINGER, BATCH_MESSAGES};
use crate::config::{ConfigError, SourceConfig, client_error};
use crate::logging;

/// How long a broker may take to tell what a topic holds.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long a batch waits for its first message: the status is told that often in a quiet topic.
const IDLE: Duration = Duration::from_secs(1);

/// Reads the partitions of a topic.
pub(super) struct Reader {
    /// Taken only to be dropped.
    consumer: Option<Arc<StreamConsumer<Reporter>>>,
    view: Arc<Mutex<View>>,
    /// An error that came while a batch was gathered: the client tells it once.
    pending: Option<KafkaError>,
    topic: Arc<str>,
    most: usize,
}

/// What the client has told of the brokers.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// What is wrong, if it is not over.
    pub(super) trouble: Option<String>,
    /// Where each partition ends.
    pub(super) ends: BTreeMap<i32, i64>,
}

/// The offsets that a partition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) partition: i32,
    /// The oldest that is kept.
    pub(super) start: i64,
    /// The one that the next message gets.
    pub(super) end: i64,
}

struct Reporter {
    view: Arc<Mutex<View>>,
    topic: Arc<str>,
    errors: metrics::Counter,
}

impl Reader {
    pub(super) fn open(config: &SourceConfig, errors: metrics::Counter) -> Result<Self, ConfigError> {
        let view = Arc::new(Mutex::new(View::default()));
        let topic: Arc<str> = config.topic.as_str().into();
        let reporter = Reporter { view: Arc::clone(&view), topic: Arc::clone(&topic), errors };
        let consumer =
            StreamConsumer::from_config_and_context(&config.client(), reporter).map_err(client_error)?;
        Ok(Self { consumer: Some(Arc::new(consumer)), view, pending: None, topic, most: config.max_message_bytes })
    }

    fn consumer(&self) -> &Arc<StreamConsumer<Reporter>> {
        self.consumer.as_ref().expect("it is taken only to be dropped")
    }

    /// What each partition of the topic holds. None where there is no such topic.
    ///
    /// # Errors
    /// When no broker tells.
    pub(super) async fn extents(&self) -> Result<Vec<Extent>, KafkaError> {
        self.ask(|consumer, topic| {
            let partitions = partitions(consumer, topic)?;
            let extent = |partition| {
                let (start, end) = consumer.fetch_watermarks(topic, partition, ANSWER_LIMIT)?;
                Ok(Extent { partition, start, end })
            };
            partitions.into_iter().map(extent).collect()
        })
        .await
    }

    /// How many partitions the topic has.
    ///
    /// # Errors
    /// When no broker tells.
    pub(super) async fn count(&self) -> Result<usize, KafkaError> {
        self.ask(|consumer, topic| Ok(partitions(consumer, topic)?.len())).await
    }

    /// Asks a broker, which blocks, where it holds nobody up.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&StreamConsumer<Reporter>, &str) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let (consumer, topic) = (Arc::clone(self.consumer()), Arc::clone(&self.topic));
        let asked = tokio::task::spawn_blocking(move || question(&consumer, &topic)).await;
        asked.unwrap_or(Err(KafkaError::Canceled))
    }

    /// Begins to read each partition at an offset.
    ///
    /// # Errors
    /// When the client refuses.
    pub(super) fn assign(&self, offsets: impl IntoIterator<Item = (i32, i64)>) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        }
        self.consumer().assign(&list)
    }

    /// The next messages: waits for one, [`IDLE`] at the most, then takes what comes soon after it. Dropping the
    /// future before it ends loses what it has taken: only a session that ends may do so.
    ///
    /// # Errors
    /// What the session cannot go on with.
    pub(super) async fn batch(&mut self) -> Result<Vec<Incoming>, KafkaError> {
        if let Some(error) = self.pending.take() {
            return Err(error);
        }
        let Ok(first) = timeout(IDLE, self.next()).await else { return Ok(Vec::new()) };
        let first = first?;
        let mut bytes = first.size();
        let mut batch = vec![first];
        let deadline = Instant::now() + BATCH_LINGER;
        while batch.len() < BATCH_MESSAGES && bytes < BATCH_BYTES {
            match timeout_at(deadline, self.next()).await {
                Ok(Ok(message)) => {
                    bytes += message.size();
                    batch.push(message);
                }
                Ok(Err(error)) => {
                    self.pending = Some(error);
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(batch)
    }

    async fn next(&self) -> Result<Incoming, KafkaError> {
        loop {
            match self.consumer().recv().await {
                Ok(message) => {
                    self.view.lock().trouble = None;
                    return Ok(Incoming::read(&message, &self.topic, self.most));
                }
                Err(error) if is_final(&error) => return Err(error),
                // The client mends a lost connection itself.
                Err(error) => self.view.lock().trouble = Some(logging::words(&error)),
            }
        }
    }

    pub(super) fn view(&self) -> View {
        self.view.lock().clone()
    }

    /// Ends it, and waits until it has ended.
    pub(super) async fn close(mut self) {
        let consumer = self.consumer.take();
        let _ = tokio::task::spawn_blocking(move || drop(consumer)).await;
    }
}

impl Drop for Reader {
    /// Where it is dropped without being closed, its end holds up no task.
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            std::thread::spawn(move || drop(consumer));
        }
    }
}

/// The numbers of the topic's partitions.
fn partitions(consumer: &StreamConsumer<Reporter>, topic: &str) -> Result<Vec<i32>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_LIMIT)?;
    let Some(topic) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(Vec::new()) };
    match topic.error().map(RDKafkaErrorCode::from) {
        None => Ok(topic.partitions().iter().map(|partition| partition.id()).collect()),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(Vec::new()),
        Some(code) => Err(KafkaError::MetadataFetch(code)),
    }
}

/// Whether the client does not get over it by itself.
fn is_final(error: &KafkaError) -> bool {
    match error {
        KafkaError::MessageConsumption(code) => matches!(
            code,
            RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::OffsetOutOfRange
        ),
        KafkaError::MessageConsumptionFatal(_) => true,
        _ => false,
    }
}

impl ClientContext for Reporter {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        logging::log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        let mut view = self.view.lock();
        if statistics.brokers.values().any(|broker| broker.nodeid >= 0 && broker.state == "UP") {
            view.trouble = None;
        }
        let Some(topic) = statistics.topics.get(&*self.topic) else { return };
        let known =
            topic.partitions.values().filter(|partition| partition.partition >= 0 && partition.hi_offset >= 0);
        view.ends.extend(known.map(|partition| (partition.partition, partition.hi_offset)));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.errors.increment(1);
        self.view.lock().trouble = Some(format!("{}: {reason}", logging::words(&error)));
    }
}

impl ConsumerContext for Reporter {}
