//! The source: a topic's messages, into the log, each exactly once.
//!
//! The offset that a partition is read up to is recorded in the log, in the same append as what was read: either both
//! are there or neither is. No offset is ever committed to Kafka. So it does not matter when the process dies, nor
//! whether two of them read the same topic: the second to append an offset is told by the log, and drops it.

mod capture;
mod meter;
mod reader;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_domain::claim::Standing;
use cairn_domain::clock::Hlc;
use cairn_domain::event::Metadata;
use cairn_domain::id::PrincipalId;
use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use cairn_event_store::event::{MAX_EVENT_BYTES, MAX_STREAM_NAME_BYTES};
use cairn_event_store::{
    AppendError, ExpectedRevision, NewAppend, NewEvent, SharedStore, StoreError, StreamAppend, Tracking,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use capture::{CAPTURE_RECEIVED, CAPTURE_REJECTED, Capture, Captured};

use crate::backoff::Backoff;
use crate::config::{ConfigError, SourceConfig, StartAt};
use crate::logging;
use crate::status::{SourceStatus, State};
use capture::{Incoming, Rejected};
use meter::Meter;
use reader::{Extent, Reader};

/// The most messages appended at once.
pub const BATCH_MESSAGES: usize = 1_000;
/// The most bytes of messages appended at once, about; the last message may go beyond.
pub const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// How long a message waits for others to be appended with.
pub const BATCH_LINGER: Duration = Duration::from_millis(10);

/// How often the topic is looked at for new partitions.
const PARTITION_CHECK: Duration = Duration::from_secs(60);
/// How long the log is let be when it takes nothing.
const LOG_PAUSE: Duration = Duration::from_millis(500);

/// What the ids of events are made from, together with the partition and the offset.
const NAMESPACE: Uuid = Uuid::from_u128(0x6b61_666b_6163_4a69_9d3f_c0a7_2e51_88b4);

/// Makes an event of a message, or says why the message is rejected.
pub type Mapping = Arc<dyn Fn(&Capture) -> Result<Captured, String> + Send + Sync>;

/// Appends each message of a topic to a log, exactly once.
pub struct Source {
    config: SourceConfig,
    origin: Origin,
    store: SharedStore,
    mapping: Mapping,
    clock: Mutex<Hlc>,
    status: watch::Sender<SourceStatus>,
}

/// Why a source stopped for good. A person must change something before it is started again.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The partition ends before the place that was read up to: the topic is another one than it was.
    #[error(
        "partition {partition} of topic {topic} ends at offset {end}, but was read up to {tracked}: the topic was made \
         anew or has lost messages; give the source another name to read it from its beginning"
    )]
    Shrunk {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset to be read next, by the log.
        tracked: i64,
        /// The offset the partition ends at.
        end: i64,
    },
    /// The log does not take what stands for a message.
    #[error("the log does not take what stands for offset {offset} of partition {partition}: {reason}")]
    Refused {
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
        /// Why.
        reason: String,
    },
    /// The log is damaged.
    #[error("the log takes nothing more")]
    Log(#[source] StoreError),
}

/// How a session ended.
enum End {
    /// The next one may fare better.
    Again(String),
    /// The topic has new partitions.
    Grown,
    /// No other would fare better.
    Failed(SourceError),
}

/// A partition, as far as it was read.
struct Place {
    partition: i32,
    /// What the log's tracking calls it.
    source: Arc<str>,
    /// The offset to be appended next.
    next: i64,
}

impl Source {
    /// A source that appends to this log. It does nothing until it is run.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub fn new(config: SourceConfig, store: SharedStore) -> Result<Self, ConfigError> {
        config.check()?;
        config.client().create_native_config().map_err(crate::config::client_error)?;
        let origin = config
            .origin
            .clone()
            .unwrap_or_else(|| Origin::of(Truth::Automation, &format!("kafka/{}", config.topic)));
        let status = SourceStatus {
            name: config.name.clone(),
            topic: config.topic.clone(),
            partitions: Vec::new(),
            lag: 0,
            appended: 0,
            rejected: 0,
            state: State::Stopped,
            problem: None,
        };
        let received = config.clone();
        Ok(Self {
            config,
            origin,
            store,
            mapping: Arc::new(move |capture| capture::receive(&received, capture)),
            clock: Mutex::default(),
            status: watch::Sender::new(status),
        })
    }

    /// Makes other events of messages than `capture.received`. The mapping must give the same for the same message.
    #[must_use]
    pub fn with_mapping(mut self, mapping: Mapping) -> Self {
        self.mapping = mapping;
        self
    }

    /// How it fares, now and whenever that changes.
    pub fn status(&self) -> watch::Receiver<SourceStatus> {
        self.status.subscribe()
    }

    /// Reads until it is cancelled. Cancelling it or dropping the future at any moment loses nothing and repeats
    /// nothing.
    ///
    /// Brokers that are away, a topic that does not exist yet, and a log that takes nothing are waited for without end.
    ///
    /// # Errors
    /// See [`SourceError`]. The status then says [`State::Failed`].
    pub async fn run(self, cancel: CancellationToken) -> Result<(), SourceError> {
        let mut meter = Meter::new(self.status.clone());
        let mut backoff = Backoff::new();
        loop {
            let before = meter.appended();
            let mut reader = Reader::open(&self.config, meter.errors()).inspect_err(|error| {
                meter.end(State::Failed, Some(error.to_string()));
            })?;
            let end = tokio::select! {
                biased;
                () = cancel.cancelled() => None,
                end = self.session(&mut reader, &mut meter) => Some(end),
            };
            reader.close().await;
            match end {
                None => {
                    meter.end(State::Stopped, None);
                    return Ok(());
                }
                Some(End::Failed(error)) => {
                    tracing::error!(source = self.config.name, %error, "the Kafka source has stopped");
                    meter.end(State::Failed, Some(error.to_string()));
                    return Err(error);
                }
                Some(End::Grown) => continue,
                Some(End::Again(problem)) => {
                    tracing::warn!(source = self.config.name, problem, "reading begins again where the log says");
                    meter.wait(problem);
                }
            }
            if meter.appended() > before {
                backoff.reset();
            }
            backoff.pause(&cancel).await;
        }
    }

    async fn session(&self, reader: &mut Reader, meter: &mut Meter) -> End {
        let mut places = match self.places(reader, meter).await {
            Ok(places) => places,
            Err(end) => return end,
        };
        if let Err(error) = reader.assign(places.values().map(|place| (place.partition, place.next))) {
            return End::Again(logging::words(&error));
        }
        let mut check = Instant::now() + PARTITION_CHECK;
        loop {
            meter.tell(places.values().map(|place| (place.partition, place.next)), &reader.view());
            let batch = match reader.batch().await {
                Ok(batch) => batch,
                Err(error) => return End::Again(logging::words(&error)),
            };
            for (partition, messages) in by_partition(batch) {
                let Some(place) = places.get_mut(&partition) else { continue };
                if let Err(error) = self.append(place, messages, meter).await {
                    return End::Failed(error);
                }
            }
            if Instant::now() >= check {
                check = Instant::now() + PARTITION_CHECK;
                if reader.count().await.is_ok_and(|count| count > places.len()) {
                    return End::Grown;
                }
            }
        }
    }

    /// Where to read each partition on.
    async fn places(&self, reader: &Reader, meter: &mut Meter) -> Result<BTreeMap<i32, Place>, End> {
        let again = |reason: String| End::Again(format!("no broker tells what the topic holds: {reason}"));
        let extents = reader.extents().await.map_err(|error| again(logging::words(&error)))?;
        if extents.is_empty() {
            return Err(End::Again(format!("there is no topic {}; create it", self.config.topic)));
        }
        let mut places = BTreeMap::new();
        for extent in extents {
            places.insert(extent.partition, self.place(extent, meter).await?);
        }
        Ok(places)
    }

    async fn place(&self, extent: Extent, meter: &mut Meter) -> Result<Place, End> {
        let Extent { partition, start, end } = extent;
        let source: Arc<str> = format!("kafka:{}:{}:{partition}", self.config.name, self.config.topic).into();
        let tracked = self.store.tracking(&source).await.map_err(log_failure)?;
        let next = match tracked.map(|tracked| i64::try_from(tracked).unwrap_or(i64::MAX)) {
            None if self.config.start_at == StartAt::Earliest => start,
            // Recorded, so that a restart before the first message does not jump over any.
            None => return self.skip_to(Place { partition, source, next: end }, Vec::new()).await,
            Some(tracked) if tracked > end => {
                let topic = self.config.topic.clone();
                return Err(End::Failed(SourceError::Shrunk { topic, partition, tracked, end }));
            }
            Some(tracked) if tracked < start => {
                let lost = self.lost(partition, tracked, start - 1);
                let event = self.event(&source, tracked, lost.captured());
                let place = self.skip_to(Place { partition, source, next: start }, vec![event]).await?;
                meter.append(1, 1);
                return Ok(place);
            }
            Some(tracked) => tracked,
        };
        Ok(Place { partition, source, next })
    }

    /// Records that a partition is read from a place on, with what there is to say of it.
    async fn skip_to(&self, place: Place, events: Vec<(Arc<str>, NewEvent)>) -> Result<Place, End> {
        let append = NewAppend { streams: by_stream(events), tracking: Some(tracking(&place.source, place.next)) };
        match self.store.append(append).await {
            Ok(_) => Ok(place),
            Err(AppendError::Store(error)) => Err(log_failure(error)),
            // Somebody else was here in the meantime: the next session reads what they recorded.
            Err(error) => Err(End::Again(error.to_string())),
        }
    }

    fn lost(&self, partition: i32, from: i64, through: i64) -> Rejected {
        Rejected {
            topic: self.config.topic.as_str().into(),
            partition,
            offset: from,
            through: Some(through),
            timestamp: None,
            bytes: None,
            reason: "the brokers deleted these messages before they were read".into(),
        }
    }

    /// Appends messages of a partition, in order, however long that takes.
    async fn append(
        &self,
        place: &mut Place,
        mut messages: Vec<Incoming>,
        meter: &mut Meter,
    ) -> Result<(), SourceError> {
        loop {
            messages.retain(|message| message.offset() >= place.next);
            let Some(last) = messages.last() else { return Ok(()) };
            let after = last.offset() + 1;
            let (events, rejected) = self.events(&place.source, &messages);
            let append = NewAppend { streams: by_stream(events), tracking: Some(tracking(&place.source, after)) };
            match self.append_at_last(append, meter).await? {
                Ok(()) => {
                    place.next = after;
                    meter.append(messages.len(), rejected);
                    return Ok(());
                }
                Err(AppendError::TrackingConflict { recorded, .. }) => overtaken(place, recorded),
                Err(AppendError::EventIdReused { id }) => self.reread(place, id).await?,
                Err(error) if messages.len() > 1 => {
                    tracing::info!(%error, "messages that the log does not take together are appended one by one");
                    return Box::pin(self.append_each(place, messages, meter)).await;
                }
                Err(error) => refuse(&mut messages, &error)?,
            }
        }
    }

    async fn append_each(
        &self,
        place: &mut Place,
        messages: Vec<Incoming>,
        meter: &mut Meter,
    ) -> Result<(), SourceError> {
        for message in messages {
            self.append(place, vec![message], meter).await?;
        }
        Ok(())
    }

    /// Appends, again and again while the log is away: the same events with the same ids, so that an append that
    /// went through without an answer is recognised.
    async fn append_at_last(
        &self,
        append: NewAppend,
        meter: &mut Meter,
    ) -> Result<Result<(), AppendError>, SourceError> {
        loop {
            match self.store.append(append.clone()).await {
                Ok(_) => return Ok(Ok(())),
                Err(AppendError::Store(error @ StoreError::Corrupt { .. })) => {
                    return Err(SourceError::Log(error));
                }
                Err(AppendError::Store(error @ StoreError::Unavailable { .. })) => {
                    meter.wait(error.to_string());
                    tokio::time::sleep(LOG_PAUSE).await;
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Somebody else appended some of these messages: reads how far they got.
    async fn reread(&self, place: &mut Place, id: Uuid) -> Result<(), SourceError> {
        loop {
            match self.store.tracking(&place.source).await {
                Ok(Some(recorded)) if i64::try_from(recorded).is_ok_and(|recorded| recorded > place.next) => {
                    overtaken(place, recorded);
                    return Ok(());
                }
                Ok(_) => {
                    let (partition, offset) = (place.partition, place.next);
                    let reason = format!("event {id} is there, but the log does not say that it was read");
                    return Err(SourceError::Refused { partition, offset, reason });
                }
                Err(error @ StoreError::Corrupt { .. }) => return Err(SourceError::Log(error)),
                Err(StoreError::Unavailable { .. }) => tokio::time::sleep(LOG_PAUSE).await,
            }
        }
    }

    /// The events that messages become, with their streams, and how many of the messages are rejected.
    fn events(&self, source: &str, messages: &[Incoming]) -> (Vec<(Arc<str>, NewEvent)>, usize) {
        let mut rejected = 0;
        let events = messages.iter().map(|message| {
            let captured = match message {
                Incoming::Taken(capture) => self.captured(capture),
                Incoming::Refused(refused) => Err(refused.clone()),
            };
            let captured = captured.unwrap_or_else(|refused| {
                rejected += 1;
                tracing::warn!(
                    topic = %refused.topic, partition = refused.partition, offset = refused.offset,
                    reason = refused.reason, "a message was rejected"
                );
                refused.captured()
            });
            self.event(source, message.offset(), captured)
        });
        let events = events.collect();
        (events, rejected)
    }

    fn captured(&self, capture: &Capture) -> Result<Captured, Rejected> {
        let captured = (self.mapping)(capture).map_err(|reason| capture.rejected(reason))?;
        let names = [&captured.stream, &captured.event_type];
        if names.into_iter().any(|name| !(1..=MAX_STREAM_NAME_BYTES).contains(&name.len())) {
            let reason = format!("its stream or type does not have 1 to {MAX_STREAM_NAME_BYTES} bytes");
            return Err(capture.rejected(reason));
        }
        let bytes = captured.data.len() + METADATA_BYTES;
        if bytes > MAX_EVENT_BYTES {
            return Err(capture.rejected(format!("as an event it has {bytes} bytes, more than {MAX_EVENT_BYTES}")));
        }
        Ok(captured)
    }

    fn event(&self, source: &str, offset: i64, captured: Captured) -> (Arc<str>, NewEvent) {
        let id = Uuid::new_v5(&NAMESPACE, format!("{source}:{offset}").as_bytes());
        let event = NewEvent {
            id,
            event_type: captured.event_type,
            schema_version: captured.schema_version,
            data: captured.data,
            metadata: self.metadata(id),
        };
        (captured.stream, event)
    }

    fn metadata(&self, command: Uuid) -> Bytes {
        let hlc = {
            let mut clock = self.clock.lock();
            *clock = clock.tick(chrono::Utc::now().timestamp_millis().unsigned_abs());
            *clock
        };
        let metadata = Metadata {
            principal: PrincipalId::new(self.config.principal),
            truth: Truth::limited(self.config.ceiling, Some(Truth::Automation)),
            origin: self.origin.clone(),
            hlc,
            correlation_id: command,
            causation_id: None,
            request: None,
            traceparent: None,
            standing: Standing::Full,
            memory: None,
            entry: None,
        };
        serde_json::to_vec(&metadata).expect("metadata holds nothing that JSON cannot").into()
    }
}

/// What metadata takes, in bytes, at the most.
const METADATA_BYTES: usize = 1024;

fn tracking(source: &Arc<str>, next: i64) -> Tracking {
    Tracking { source: Arc::clone(source), position: next.unsigned_abs() }
}

/// Somebody else got further: what they appended is not appended again.
fn overtaken(place: &mut Place, recorded: u64) {
    place.next = place.next.max(i64::try_from(recorded).unwrap_or(i64::MAX));
}

/// Puts a rejection in the place of the only message, unless it is one already.
fn refuse(messages: &mut [Incoming], error: &AppendError) -> Result<(), SourceError> {
    let reason = error.to_string();
    match messages {
        [message @ Incoming::Taken(_)] => {
            if let Incoming::Taken(capture) = &*message {
                *message = Incoming::Refused(capture.rejected(reason));
            }
            Ok(())
        }
        others => {
            let (partition, offset) = others.first().map_or((0, 0), |first| (first.partition(), first.offset()));
            Err(SourceError::Refused { partition, offset, reason })
        }
    }
}

fn log_failure(error: StoreError) -> End {
    match error {
        StoreError::Corrupt { .. } => End::Failed(SourceError::Log(error)),
        StoreError::Unavailable { .. } => End::Again(error.to_string()),
    }
}

fn by_partition(batch: Vec<Incoming>) -> BTreeMap<i32, Vec<Incoming>> {
    let mut partitions = BTreeMap::<_, Vec<_>>::new();
    for message in batch {
        partitions.entry(message.partition()).or_default().push(message);
    }
    partitions
}

/// The events by stream, each stream's in the order they are given.
fn by_stream(events: Vec<(Arc<str>, NewEvent)>) -> Vec<StreamAppend> {
    let mut streams: Vec<StreamAppend> = Vec::new();
    let mut known = HashMap::new();
    for (stream, event) in events {
        let index = *known.entry(Arc::clone(&stream)).or_insert_with(|| {
            streams.push(StreamAppend { stream, expected: ExpectedRevision::Any, events: Vec::new() });
            streams.len() - 1
        });
        streams[index].events.push(event);
    }
    streams
}
