//! Kafka: every committed event out, measurements and captures of the world in.
//!
//! [`Publisher`] follows the log and publishes each event to the topic of its family, in the order of its stream, at
//! least once. [`Source`] reads a topic and appends each message to the log, exactly once. Both run until they are
//! cancelled, outlive a broker that is away, and tell how they fare through a `watch` channel and metrics.
//!
//! See `docs/kafka.md` for what stands in a message.

mod backoff;
mod checkpoint;
mod config;
mod logging;
mod publisher;
mod source;
mod status;

pub use checkpoint::{CheckpointError, Checkpoints, FileCheckpoints, MAX_CHECKPOINT_NAME_BYTES};
pub use config::{
    ConfigError, DEFAULT_MAX_MESSAGE_BYTES, PayloadFormat, Properties, PublisherConfig, SourceConfig, StartAt,
    StreamBy,
};
pub use publisher::{
    FLUSH_LIMIT, PublishError, Publisher, SAVE_EVENTS, SAVE_INTERVAL, STALL_AFTER, WINDOW_BYTES, WINDOW_EVENTS,
};
pub use source::{
    BATCH_BYTES, BATCH_LINGER, BATCH_MESSAGES, CAPTURE_RECEIVED, CAPTURE_REJECTED, Capture, Captured, Mapping,
    Source, SourceError,
};
pub use status::{PartitionStatus, PublisherStatus, SourceStatus, State};
