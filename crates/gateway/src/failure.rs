//! What can go wrong, and how the protocol says it.
//!
//! A call that fails ends with a gRPC status. Clients tell errors apart by the trailer `exception` and read the
//! particulars from further trailers; some match words of the message. A batch among many on one call fails without
//! ending the call: there the particulars travel inside the reply.

use std::sync::Arc;

use cairn_event_store::{AppendError, ExpectedRevision, Revision, StoreError};
use cairn_proto::event_store::client as wire;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Code, Status};

use crate::authority::Refusal;

/// Why a call or a batch failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It is not known who calls.
    #[error("{0}")]
    Unauthenticated(String),
    /// They may not do this.
    #[error("Access Denied: {0}")]
    AccessDenied(String),
    /// It cannot be told now who calls.
    #[error("{0}")]
    Unavailable(String),
    /// The stream is not at the revision expected.
    #[error(
        "Append failed due to WrongExpectedVersion. Stream: {stream}, Expected version: {}, Actual version: {}",
        number(*expected),
        actual.map_or(-1, |revision| revision.0.cast_signed())
    )]
    WrongExpectedVersion {
        /// The stream.
        stream: Arc<str>,
        /// What was expected of it.
        expected: ExpectedRevision,
        /// Its last revision.
        actual: Option<Revision>,
    },
    /// The stream was deleted, as a rule for good.
    #[error("Event stream '{stream}' is deleted.")]
    StreamDeleted {
        /// The stream.
        stream: Arc<str>,
    },
    /// The append is larger than allowed.
    #[error("Maximum Append Size of {limit} Exceeded.")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// An event came without its type or its content type.
    #[error("Required Metadata Property '{property}' is missing")]
    MissingProperty {
        /// Which.
        property: &'static str,
    },
    /// An event of this id exists already and is another one.
    #[error("event id {id} is already taken by another event")]
    IdTaken {
        /// The id.
        id: uuid::Uuid,
    },
    /// The batch's time was up. It may have been appended all the same.
    #[error("the deadline is past; the events may have been appended: repeat the append with the same ids")]
    Timeout,
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The gateway is ending.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unauthenticated(reason) => Self::Unauthenticated(reason),
            Refusal::Forbidden(reason) => Self::AccessDenied(reason),
            Refusal::Unavailable(reason) => Self::Unavailable(reason),
        }
    }
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::WrongExpectedRevision { stream, expected, actual } => {
                Self::WrongExpectedVersion { stream, expected, actual }
            }
            AppendError::EventIdReused { id } => Self::IdTaken { id },
            // The gateway tracks nothing, so this one cannot come.
            error @ AppendError::TrackingConflict { .. } => Self::Invalid(error.to_string()),
            AppendError::Invalid(reason) => Self::Invalid(reason),
            AppendError::Store(error) => Self::Store(error),
        }
    }
}

/// The number by which the protocol's texts call an expectation.
fn number(expected: ExpectedRevision) -> i64 {
    match expected {
        ExpectedRevision::NoStream => -1,
        ExpectedRevision::Any => -2,
        ExpectedRevision::StreamExists => -4,
        ExpectedRevision::Exact(revision) => revision.0.cast_signed(),
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        Self::with_metadata(failure.code(), failure.to_string(), failure.trailers())
    }
}

impl Failure {
    fn code(&self) -> Code {
        match self {
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::AccessDenied(_) => Code::PermissionDenied,
            Self::WrongExpectedVersion { .. } | Self::StreamDeleted { .. } => Code::FailedPrecondition,
            Self::TooLarge { .. } | Self::MissingProperty { .. } | Self::Invalid(_) => Code::InvalidArgument,
            Self::IdTaken { .. } => Code::AlreadyExists,
            Self::Timeout => Code::DeadlineExceeded,
            Self::Unavailable(_) | Self::ShuttingDown | Self::Store(StoreError::Unavailable { .. }) => {
                Code::Unavailable
            }
            Self::Store(StoreError::Corrupt { .. }) => Code::DataLoss,
        }
    }

    fn trailers(&self) -> MetadataMap {
        let mut trailers = MetadataMap::new();
        // Names beyond ASCII are left out: a trailer could not carry them.
        let mut put = |key: &'static str, value: String| {
            if let Ok(value) = value.parse::<AsciiMetadataValue>() {
                trailers.insert(key, value);
            }
        };
        match self {
            Self::AccessDenied(_) => put("exception", "access-denied".into()),
            Self::WrongExpectedVersion { stream, expected, actual } => {
                put("exception", "wrong-expected-version".into());
                put("stream-name", stream.to_string());
                put("expected-version", number(*expected).to_string());
                put("actual-version", actual.map_or(-1, |revision| revision.0.cast_signed()).to_string());
            }
            Self::StreamDeleted { stream } => {
                put("exception", "stream-deleted".into());
                put("stream-name", stream.to_string());
            }
            Self::TooLarge { limit } => {
                put("exception", "maximum-append-size-exceeded".into());
                put("maximum-append-size", limit.to_string());
            }
            Self::MissingProperty { property } => {
                put("exception", "missing-required-metadata-property".into());
                put("required-metadata-properties", (*property).into());
            }
            Self::Unauthenticated(_)
            | Self::Unavailable(_)
            | Self::IdTaken { .. }
            | Self::Timeout
            | Self::Invalid(_)
            | Self::ShuttingDown
            | Self::Store(_) => {}
        }
        trailers
    }

    /// The failure as the error of one batch.
    pub(crate) fn in_batch(&self) -> wire::status::Status {
        wire::status::Status { code: self.code() as i32, message: self.to_string(), details: Some(self.details()) }
    }

    fn details(&self) -> prost_types::Any {
        match self {
            Self::Unauthenticated(_) | Self::AccessDenied(_) => packed("AccessDenied", &wire::AccessDenied {}),
            Self::WrongExpectedVersion { expected, actual, .. } => {
                packed("WrongExpectedVersion", &wrong_expected_version(*expected, *actual))
            }
            Self::StreamDeleted { stream } => {
                let stream_name = stream.as_bytes().to_vec().into();
                let stream_identifier = Some(wire::StreamIdentifier { stream_name });
                packed("StreamDeleted", &wire::StreamDeleted { stream_identifier })
            }
            Self::TooLarge { limit } => {
                let max_append_size = u32::try_from(*limit).unwrap_or(u32::MAX);
                packed("MaximumAppendSizeExceeded", &wire::MaximumAppendSizeExceeded { max_append_size })
            }
            Self::Timeout => packed("Timeout", &wire::Timeout {}),
            Self::MissingProperty { .. } | Self::IdTaken { .. } | Self::Invalid(_) => {
                packed("BadRequest", &wire::BadRequest { message: self.to_string() })
            }
            Self::Unavailable(_) | Self::ShuttingDown | Self::Store(_) => packed("Unknown", &wire::Unknown {}),
        }
    }
}

fn wrong_expected_version(expected: ExpectedRevision, actual: Option<Revision>) -> wire::WrongExpectedVersion {
    use wire::wrong_expected_version::{
        CurrentStreamRevisionOption as Current, ExpectedStreamPositionOption as Expected,
    };
    wire::WrongExpectedVersion {
        current_stream_revision_option: Some(match actual {
            Some(revision) => Current::CurrentStreamRevision(revision.0),
            None => Current::CurrentNoStream(()),
        }),
        expected_stream_position_option: Some(match expected {
            ExpectedRevision::Any => Expected::ExpectedAny(()),
            ExpectedRevision::NoStream => Expected::ExpectedNoStream(()),
            ExpectedRevision::StreamExists => Expected::ExpectedStreamExists(()),
            ExpectedRevision::Exact(revision) => Expected::ExpectedStreamPosition(revision.0),
        }),
    }
}

/// Clients tell what is inside by the name after the last slash.
fn packed(name: &str, message: &impl prost::Message) -> prost_types::Any {
    let type_url = format!("type.googleapis.com/event_store.client.{name}");
    prost_types::Any { type_url, value: message.encode_to_vec() }
}
