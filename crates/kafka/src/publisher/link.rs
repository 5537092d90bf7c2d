//! The producer, and what it reports.

use std::sync::Arc;
use std::time::Duration;

use cairn_event_store::RecordedEvent;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message, ToBytes};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig, ThreadedProducer};

use super::message::{Scratch, size};
use super::window::{Refusal, Window};
use crate::config::{ConfigError, PublisherConfig, client_error};
use crate::logging;

/// How events are put together on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Batching {
    /// Many in one batch.
    Full,
    /// One in each: a broker said that a batch is too large, and this tells which event it is, or whether it was the
    /// batch alone.
    Single,
}

/// What became of an event that was to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is on its way.
    Queued,
    /// The producer has no room for it now.
    Full,
    /// The producer takes no event of this size for this topic.
    TooLarge { topic: String },
}

/// A producer that reports to a window. Whatever becomes of it, it leaves nothing behind that still sends.
pub(super) struct Link {
    producer: Option<ThreadedProducer<Reporter>>,
    window: Arc<Window>,
    prefix: String,
    scratch: Scratch,
}

/// Takes the client's reports, on the client's own thread.
struct Reporter {
    window: Arc<Window>,
    errors: metrics::Counter,
}

impl Link {
    pub(super) fn open(
        config: &PublisherConfig,
        window: Arc<Window>,
        batching: Batching,
        errors: metrics::Counter,
    ) -> Result<Self, ConfigError> {
        let mut client = config.client();
        if batching == Batching::Single {
            client.set("batch.num.messages", "1");
        }
        let reporter = Reporter { window: Arc::clone(&window), errors };
        let producer = ThreadedProducer::from_config_and_context(&client, reporter).map_err(client_error)?;
        Ok(Self {
            producer: Some(producer),
            window,
            prefix: config.topic_prefix.clone(),
            scratch: Scratch::default(),
        })
    }

    /// Sends an event, or says why it cannot be sent now. Never waits.
    ///
    /// # Errors
    /// When the producer takes nothing any more.
    pub(super) fn send(&mut self, event: &RecordedEvent) -> Result<Sent, KafkaError> {
        let recorded_at = event.recorded_at.timestamp_millis();
        let ticket = self.window.enter(event.position, size(event), recorded_at);
        let headers = self.scratch.headers(event);
        let record = BaseRecord::with_opaque_to(self.scratch.topic(&self.prefix, &event.event_type), ticket)
            .key(&*event.stream)
            .payload(&event.data[..])
            .timestamp(recorded_at)
            .headers(headers);
        let sent = send(self.producer.as_ref().expect("it is taken only to be closed"), record);
        if sent != Ok(Sent::Queued) {
            self.window.withdraw();
        }
        sent
    }

    /// Waits until everything on its way was acknowledged or given up, but not for ever.
    pub(super) async fn flush(&self, limit: Duration) {
        let Some(producer) = self.producer.clone() else { return };
        let flushed = tokio::task::spawn_blocking(move || producer.flush(limit)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "not all events were acknowledged in time; they will be published again");
        }
    }

    /// Ends it: nothing is sent any more, and every report has been made.
    pub(super) async fn close(mut self) {
        if let Some(producer) = self.producer.take() {
            let _ = tokio::task::spawn_blocking(move || end(producer)).await;
        }
    }
}

impl Drop for Link {
    /// Where it is dropped without being closed, its end holds up no task.
    fn drop(&mut self) {
        if let Some(producer) = self.producer.take() {
            producer.purge(PurgeConfig::default().queue().inflight());
            std::thread::spawn(move || end(producer));
        }
    }
}

/// How long the reports of what is given up may take.
const END_LIMIT: Duration = Duration::from_secs(1);

fn end(producer: ThreadedProducer<Reporter>) {
    producer.purge(PurgeConfig::default().queue().inflight());
    let _ = producer.flush(END_LIMIT);
}

fn send<P: ToBytes + ?Sized>(
    producer: &ThreadedProducer<Reporter>,
    record: BaseRecord<'_, str, P, usize>,
) -> Result<Sent, KafkaError> {
    let topic = record.topic;
    match producer.send(record) {
        Ok(()) => Ok(Sent::Queued),
        Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(Sent::Full),
        Err((KafkaError::MessageProduction(code), _)) if is_too_large(code) => {
            Ok(Sent::TooLarge { topic: topic.to_owned() })
        }
        Err((error, _)) => Err(error),
    }
}

const fn is_too_large(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize)
}

impl ClientContext for Reporter {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        logging::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.errors.increment(1);
        self.window.trouble(format!("{}: {reason}", logging::words(&error)));
    }
}

impl ProducerContext for Reporter {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        let (error, message) = match result {
            Ok(_) => return self.window.acknowledge(ticket),
            Err((error, message)) => (error, message),
        };
        let code = error.rdkafka_error_code();
        // What is purged at the end has not failed: it will be sent again.
        if matches!(code, Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)) {
            return;
        }
        self.errors.increment(1);
        self.window.refuse(
            ticket,
            Refusal {
                stream: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                topic: message.topic().to_owned(),
                reason: logging::words(error),
                too_large: code.is_some_and(is_too_large),
            },
        );
    }
}
