//! Between the domain's events and the log's envelopes.

use std::sync::Arc;

use cairn_domain::event::{DecodeError, Event, MemoryEvent, Metadata};
use cairn_domain::id::EventId;
use cairn_event_store::{NewEvent, Position, RecordedEvent};

/// A recorded event that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Its data is not what its type and version say.
    #[error("the event at position {position} cannot be read")]
    Data {
        /// Where it stands.
        position: Position,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// Its metadata is damaged.
    #[error("the metadata of the event at position {position} cannot be read")]
    Metadata {
        /// Where it stands.
        position: Position,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It stands in a memory's stream but is not about a memory.
    #[error("the event at position {position} is a `{event_type}`, which does not belong into a memory's stream")]
    Misplaced {
        /// Where it stands.
        position: Position,
        /// What it is.
        event_type: Arc<str>,
    },
}

/// The metadata of a recorded event.
///
/// # Errors
/// When it is not the JSON that every event carries.
pub fn read_metadata(event: &RecordedEvent) -> Result<Metadata, CodecError> {
    serde_json::from_slice(&event.metadata)
        .map_err(|source| CodecError::Metadata { position: event.position, source })
}

/// The memory event in an envelope; `None` when its data was erased.
///
/// # Errors
/// When the event is unknown, malformed, or not about a memory.
pub fn decode_memory_event(event: &RecordedEvent) -> Result<Option<MemoryEvent>, CodecError> {
    if event.erased {
        return Ok(None);
    }
    let decoded = Event::decode(&event.event_type, event.schema_version, &event.data)
        .map_err(|source| CodecError::Data { position: event.position, source })?;
    match decoded {
        Event::Memory(event) => Ok(Some(event)),
        Event::Principal(_) | Event::Space(_) | Event::Peer(_) => {
            Err(CodecError::Misplaced { position: event.position, event_type: Arc::clone(&event.event_type) })
        }
    }
}

/// The envelope of an event that is to be appended.
pub fn envelope(id: EventId, event: &Event, metadata: &Metadata) -> NewEvent {
    NewEvent {
        id: id.uuid(),
        event_type: event.event_type().into(),
        schema_version: event.schema_version(),
        data: event.data().into(),
        metadata: serde_json::to_vec(metadata).expect("metadata holds nothing that JSON cannot").into(),
    }
}
