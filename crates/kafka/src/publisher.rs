//! The publisher: the log's events, to the topics of their families.
//!
//! It works in sessions. A session has a producer of its own and begins at the checkpoint; whatever goes wrong ends
//! it, and the next one begins at the checkpoint again. So nothing is ever skipped, and what was published after the
//! last checkpoint is published once more. Inside a session the producer is idempotent, keeps the order of each
//! partition and never gives an event up for being late.

mod link;
mod message;
mod meter;
mod window;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use cairn_event_store::subscription::{Subscription, subscribe};
use cairn_event_store::{Batch, Direction, Filter, Position, RecordedEvent, SharedStore, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::checkpoint::{CheckpointError, Checkpoints};
use crate::config::{ConfigError, PublisherConfig};
use crate::logging;
use crate::status::{PublisherStatus, State};
use link::{Batching, Link, Sent};
use meter::Meter;
use window::{Failure, Window};

/// The most events that wait for their acknowledgement.
pub const WINDOW_EVENTS: usize = 32_768;
/// The most bytes that wait for their acknowledgement, about; the last event may go beyond.
pub const WINDOW_BYTES: usize = 64 * 1024 * 1024;
/// The checkpoint is saved after so many acknowledged events at the latest.
pub const SAVE_EVENTS: usize = 20_000;
/// The checkpoint is saved, and the status told, after this time at the latest.
pub const SAVE_INTERVAL: Duration = Duration::from_millis(500);
/// How long a stopped publisher waits for what is on its way.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(10);
/// Events that wait this long without any acknowledgement make the publisher say that it waits.
pub const STALL_AFTER: Duration = Duration::from_secs(5);

/// The most events read from the log at once.
const PAGE_EVENTS: usize = 2_048;
/// After so many events other tasks get their turn.
const YIELD_EVENTS: usize = 64;
/// How long a producer that has no room is let be.
const FULL_PAUSE: Duration = Duration::from_millis(20);
/// How long a log that cannot be read is let be.
const LOG_PAUSE: Duration = Duration::from_millis(500);

/// Publishes every event of a log, in the order of its stream, at least once.
pub struct Publisher {
    config: PublisherConfig,
    store: SharedStore,
    checkpoints: Arc<dyn Checkpoints>,
    status: watch::Sender<PublisherStatus>,
}

/// Why a publisher stopped for good. A person must change something before it is started again.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The brokers do not take an event. It is not skipped, so nothing after it is published either.
    #[error(
        "the event at position {position} (stream {stream}, about {bytes} bytes) is larger than topic {topic} takes; \
         raise max.message.bytes of the topic (message.max.bytes of the brokers) and start the publisher again"
    )]
    TooLarge {
        /// Where the event stands.
        position: Position,
        /// Its stream.
        stream: String,
        /// Its topic.
        topic: String,
        /// Its size as a message, in bytes, about.
        bytes: usize,
    },
    /// The checkpoint lies behind the end of the log: this log is not the one that was published.
    #[error(
        "the checkpoint {name} is at position {checkpoint}, but the log ends at {head}: it was restored from an older \
         backup, or is another brain's; delete the checkpoint to publish the whole log again"
    )]
    Ahead {
        /// The checkpoint's name.
        name: String,
        /// Where it is.
        checkpoint: Position,
        /// The log's last position.
        head: Position,
    },
    /// The checkpoint is damaged.
    #[error(transparent)]
    Checkpoint(CheckpointError),
    /// The log is damaged.
    #[error("the log cannot be published on")]
    Log(#[source] StoreError),
}

/// How a session ended.
enum End {
    /// It was asked to.
    Cancelled,
    /// The next one may fare better.
    Again { problem: String, batching: Batching },
    /// No other would fare better.
    Failed(PublishError),
}

/// What ended a session.
enum Stop {
    Cancelled,
    /// The window holds the failure.
    Delivery,
    /// The producer takes nothing any more.
    Producer(String),
    /// This event is larger than the client takes.
    TooLarge {
        position: Position,
        stream: String,
        topic: String,
        bytes: usize,
    },
    /// The log is damaged.
    Log(StoreError),
}

impl Publisher {
    /// A publisher of this log. It does nothing until it is run.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub fn new(
        config: PublisherConfig,
        store: SharedStore,
        checkpoints: Arc<dyn Checkpoints>,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        config.client().create_native_config().map_err(crate::config::client_error)?;
        let status = PublisherStatus {
            name: config.name.clone(),
            position: 0,
            head: store.head().borrow().0,
            lag: 0,
            lag_seconds: 0.0,
            in_flight: 0,
            state: State::Stopped,
            problem: None,
        };
        Ok(Self { config, store, checkpoints, status: watch::Sender::new(status) })
    }

    /// How it fares, now and whenever that changes.
    pub fn status(&self) -> watch::Receiver<PublisherStatus> {
        self.status.subscribe()
    }

    /// Publishes until it is cancelled. Then it waits for what is on its way, [`FLUSH_LIMIT`] at the most, and saves
    /// its checkpoint. Dropping the future instead is like a crash: what was not saved is published again.
    ///
    /// A broker that is away, and a checkpoint or a log that cannot be reached, are waited for without end.
    ///
    /// # Errors
    /// See [`PublishError`]. The status then says [`State::Failed`].
    pub async fn run(self, cancel: CancellationToken) -> Result<(), PublishError> {
        let mut meter = Meter::new(self.status.clone(), self.store.head());
        let (mut backoff, mut batching) = (Backoff::new(), Batching::Full);
        loop {
            let before = meter.position();
            match self.session(&mut meter, batching, &cancel).await {
                End::Cancelled => {
                    meter.end(State::Stopped, None);
                    return Ok(());
                }
                End::Failed(error) => {
                    tracing::error!(publisher = self.config.name, %error, "the publisher has stopped");
                    meter.end(State::Failed, Some(error.to_string()));
                    return Err(error);
                }
                End::Again { problem, batching: next } => {
                    tracing::warn!(
                        publisher = self.config.name,
                        problem,
                        "publishing begins again at the checkpoint"
                    );
                    meter.wait(problem);
                    batching = next;
                }
            }
            if meter.position() > before {
                backoff.reset();
            }
            backoff.pause(&cancel).await;
        }
    }

    async fn session(&self, meter: &mut Meter, batching: Batching, cancel: &CancellationToken) -> End {
        let after = tokio::select! {
            biased;
            () = cancel.cancelled() => return End::Cancelled,
            after = self.begin() => match after {
                Ok(after) => after,
                Err(end) => return end,
            },
        };
        let window = Arc::new(Window::new(after));
        let mut link = match Link::open(&self.config, Arc::clone(&window), batching, meter.errors()) {
            Ok(link) => link,
            Err(error) => return End::Failed(error.into()),
        };
        meter.begin(after);
        let closing = CancellationToken::new();
        let drive = async {
            let stop = tokio::select! {
                biased;
                () = cancel.cancelled() => Stop::Cancelled,
                () = window.failed() => Stop::Delivery,
                Err(stop) = self.pump(&mut link, &window, after) => stop,
            };
            closing.cancel();
            stop
        };
        // The keeper is never cut short: a save under way must not end after the one that is made last.
        let (stop, ()) = tokio::join!(drive, self.keep(&window, meter, &closing));
        if matches!(stop, Stop::Cancelled) {
            link.flush(FLUSH_LIMIT).await;
        }
        link.close().await;
        self.save(&window, meter).await;
        conclude(stop, window.failure(), batching)
    }

    /// Where to begin.
    async fn begin(&self) -> Result<Position, End> {
        let name = &self.config.name;
        let again = |problem: String| End::Again { problem, batching: Batching::Full };
        let checkpoint = self.checkpoints.load(name).await.map_err(|error| match error {
            CheckpointError::Unavailable { .. } => again(error.to_string()),
            CheckpointError::Corrupt { .. } => End::Failed(PublishError::Checkpoint(error)),
        })?;
        let checkpoint = checkpoint.unwrap_or(Position::START);
        if checkpoint <= *self.store.head().borrow() {
            return Ok(checkpoint);
        }
        // Another node may have written what this one's head does not show yet.
        let last = self.store.read_all(Position(u64::MAX >> 1), Direction::Backwards, &Filter::default(), 1).await;
        let last = last.map_err(|error| again(error.to_string()))?;
        let head = last.events.first().map_or(Position::START, |event| event.position);
        if checkpoint <= head {
            return Ok(checkpoint);
        }
        Err(End::Failed(PublishError::Ahead { name: name.clone(), checkpoint, head }))
    }

    /// Reads the log and sends what it holds. Ends only where it cannot go on.
    async fn pump(&self, link: &mut Link, window: &Window, after: Position) -> Result<Infallible, Stop> {
        let mut subscription = subscribe(Arc::clone(&self.store), after, Filter::default());
        loop {
            let batch = next(&mut subscription, window).await?;
            for (number, event) in batch.events.iter().enumerate() {
                window.room().await;
                send(link, event).await?;
                if number % YIELD_EVENTS == YIELD_EVENTS - 1 {
                    tokio::task::yield_now().await;
                }
            }
            window.pass(batch.position);
        }
    }

    /// Saves the checkpoint and tells how it fares, now and then, until the session closes.
    async fn keep(&self, window: &Window, meter: &mut Meter, closing: &CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                () = window.progress() => {}
                () = tokio::time::sleep(SAVE_INTERVAL) => {}
            }
            self.save(window, meter).await;
        }
    }

    async fn save(&self, window: &Window, meter: &mut Meter) {
        let view = window.view();
        let acknowledged = view.acknowledged;
        let mut problem = None;
        if acknowledged > meter.saved() {
            match self.checkpoints.save(&self.config.name, acknowledged).await {
                Ok(()) => meter.save(acknowledged),
                // Publishing goes on: the worst that comes of it is that more is published twice.
                Err(error) => problem = Some(error.to_string()),
            }
        }
        meter.tell(&view, problem);
    }
}

/// The next events, as soon as the log can be read.
async fn next(subscription: &mut Subscription, window: &Window) -> Result<Batch, Stop> {
    loop {
        match subscription.next_batch(PAGE_EVENTS).await {
            Ok(batch) => {
                window.log_answers();
                return Ok(batch);
            }
            Err(error @ StoreError::Corrupt { .. }) => return Err(Stop::Log(error)),
            Err(error @ StoreError::Unavailable { .. }) => {
                window.log_fails(error.to_string());
                tokio::time::sleep(LOG_PAUSE).await;
            }
        }
    }
}

/// Sends an event as soon as the producer has room for it.
async fn send(link: &mut Link, event: &RecordedEvent) -> Result<(), Stop> {
    loop {
        match link.send(event) {
            Ok(Sent::Queued) => return Ok(()),
            Ok(Sent::Full) => tokio::time::sleep(FULL_PAUSE).await,
            Ok(Sent::TooLarge { topic }) => {
                let (position, bytes) = (event.position, message::size(event));
                return Err(Stop::TooLarge { position, stream: event.stream.to_string(), topic, bytes });
            }
            Err(error) => return Err(Stop::Producer(logging::words(&error))),
        }
    }
}

/// What comes after a session.
fn conclude(stop: Stop, failure: Option<Failure>, batching: Batching) -> End {
    let again = |problem: String| End::Again { problem, batching };
    match (stop, failure) {
        (Stop::Cancelled, _) => End::Cancelled,
        (Stop::Log(error), _) => End::Failed(PublishError::Log(error)),
        (Stop::TooLarge { position, stream, topic, bytes }, _) => {
            End::Failed(PublishError::TooLarge { position, stream, topic, bytes })
        }
        (Stop::Delivery | Stop::Producer(_), Some(failure)) if failure.too_large => match batching {
            Batching::Full => End::Again {
                problem:
                    "a batch is larger than the brokers take; each event goes alone from here on. Set batch.size \
                          below their message.max.bytes"
                        .into(),
                batching: Batching::Single,
            },
            Batching::Single => {
                let Failure { position, bytes, stream, topic, .. } = failure;
                End::Failed(PublishError::TooLarge { position, stream, topic, bytes })
            }
        },
        (Stop::Delivery | Stop::Producer(_), Some(failure)) => again(format!(
            "the event at position {} was not taken by topic {}: {}",
            failure.position, failure.topic, failure.reason
        )),
        (Stop::Producer(reason), None) => again(format!("the Kafka producer takes no more events: {reason}")),
        (Stop::Delivery, None) => again("an event was given up".into()),
    }
}
