//! An event of the log as an event of KurrentDB, and back.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use eventstore::EventData;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::clock::from_micros;
use crate::event::{NewEvent, Position, RecordedEvent, Revision, Tracking};
use crate::sqlite::copy::Mark;
use crate::view::View;

/// The version of what is written here.
pub(super) const FORMAT: u32 = 1;

/// The type of the stream's first record.
const BEGUN_TYPE: &str = "cairn.begun";
/// The type of a record that holds an upstream position and no event.
const TRACKED_TYPE: &str = "cairn.tracked";
/// What the framing of an event takes on the wire, besides its names, data and metadata.
const FRAMING_BYTES: usize = 128;

/// A record of the stream.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    /// Where it stands, and what the server knows it by.
    pub(super) mark: Mark,
    /// What it says.
    pub(super) content: Content,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// The log begins.
    Begun(Begun),
    /// An event of the log.
    Event {
        /// The event.
        event: Box<RecordedEvent>,
        /// The upstream position recorded with it.
        tracking: Option<Tracking>,
        /// How many records of the same append follow.
        more: u32,
    },
    /// An upstream position, alone.
    Tracked(Tracking),
}

/// Whose log it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    /// The version of the records that follow.
    pub(super) format: u32,
    /// The brain.
    pub(super) brain: Uuid,
    /// What its keyring is known by.
    pub(super) keys: String,
}

/// A record on its way to the server.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    /// The id that the server will know it by: another one for each attempt.
    pub(super) id: Uuid,
    event_type: Arc<str>,
    data: Bytes,
    metadata: Bytes,
}

/// The metadata of a record.
#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    cairn: Place<'a>,
    /// The metadata of the event, where that is JSON.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    metadata_base64: Option<Cow<'a, str>>,
}

/// What makes an event one of the log.
#[derive(Serialize, Deserialize)]
struct Place<'a> {
    position: u64,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    revision: u64,
    id: Uuid,
    version: u16,
    /// Microseconds since 1970.
    recorded_at: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    more: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracking: Option<Tracked>,
}

#[derive(Serialize, Deserialize)]
struct Tracked {
    source: String,
    position: u64,
}

/// A record was not written by Cairn, or not by this version.
#[derive(Debug, thiserror::Error)]
#[error("revision {revision}, of type {event_type}, is nothing that Cairn has written there")]
pub(super) struct Foreign {
    revision: u64,
    event_type: String,
}

/// A `null` is a value that was given, not one that is missing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Outgoing {
    fn new(event_type: Arc<str>, data: Bytes, metadata: Bytes) -> Self {
        Self { id: Uuid::now_v7(), event_type, data, metadata }
    }

    /// The stream's first record.
    pub(super) fn begun(begun: &Begun) -> Self {
        Self::new(BEGUN_TYPE.into(), json(begun), Bytes::new())
    }

    fn tracked(tracking: &Tracking) -> Self {
        Self::new(TRACKED_TYPE.into(), json(&Tracked::of(tracking)), Bytes::new())
    }

    fn event(event: &RecordedEvent, more: usize, tracking: Option<&Tracking>) -> Self {
        let custom = whole_json(&event.metadata);
        let envelope = Envelope {
            cairn: Place {
                position: event.position.0,
                stream: Cow::Borrowed(&event.stream),
                revision: event.revision.0,
                id: event.id,
                version: event.schema_version,
                recorded_at: event.recorded_at.timestamp_micros(),
                more: u32::try_from(more).expect("an append has at most 10,000 events"),
                tracking: tracking.map(Tracked::of),
            },
            metadata: custom,
            metadata_base64: custom.is_none().then(|| STANDARD.encode(&event.metadata).into()),
        };
        Self::new(Arc::clone(&event.event_type), event.data.clone(), json(&envelope))
    }

    /// What a batch has written, in order.
    pub(super) fn batch(view: &View) -> Vec<Self> {
        let mut outgoing = Vec::with_capacity(view.written.len());
        let mut events = view.written.iter();
        for append in &view.appends {
            for (index, event) in events.by_ref().take(append.events).enumerate() {
                let more = append.events - index - 1;
                let tracking = append.tracking.as_ref().filter(|_| more == 0);
                outgoing.push(Self::event(event, more, tracking));
            }
            if let (0, Some(tracking)) = (append.events, &append.tracking) {
                outgoing.push(Self::tracked(tracking));
            }
        }
        outgoing
    }

    /// The bytes that it takes on the wire, and a little more.
    pub(super) fn size(&self) -> usize {
        FRAMING_BYTES + self.event_type.len() + self.data.len() + self.metadata.len()
    }

    /// The form that the client sends.
    pub(super) fn data(&self) -> EventData {
        let event = match whole_json(&self.data) {
            Some(raw) => EventData::json(&self.event_type, &raw).expect("JSON that was read is written as it was"),
            None => EventData::binary(&self.event_type, self.data.clone()),
        };
        event.id(self.id).metadata(self.metadata.clone())
    }
}

impl Record {
    /// Reads what the server holds.
    pub(super) fn read(brain: Uuid, event: &eventstore::RecordedEvent) -> Result<Self, Foreign> {
        let mark = Mark { revision: event.revision, id: event.id };
        let foreign = || Foreign { revision: event.revision, event_type: event.event_type.clone() };
        if event.custom_metadata.is_empty() {
            let content = match &*event.event_type {
                BEGUN_TYPE => serde_json::from_slice(&event.data).map(Content::Begun),
                TRACKED_TYPE => serde_json::from_slice(&event.data).map(|tracked: Tracked| tracked.content()),
                _ => return Err(foreign()),
            };
            return Ok(Self { mark, content: content.map_err(|_| foreign())? });
        }
        let text = std::str::from_utf8(&event.custom_metadata).map_err(|_| foreign())?;
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|_| foreign())?;
        let metadata = match (envelope.metadata, envelope.metadata_base64) {
            (Some(raw), _) => event.custom_metadata.slice_ref(raw.get().as_bytes()),
            (None, Some(text)) => STANDARD.decode(&*text).map_err(|_| foreign())?.into(),
            (None, None) => return Err(foreign()),
        };
        let place = envelope.cairn;
        let content = NewEvent {
            id: place.id,
            event_type: event.event_type.as_str().into(),
            schema_version: place.version,
            data: event.data.clone(),
            metadata,
        };
        let (revision, position) = (Revision(place.revision), Position(place.position));
        let recorded_at = from_micros(place.recorded_at);
        let event = RecordedEvent::new(content, (*place.stream).into(), revision, position, brain, recorded_at);
        let tracking = place.tracking.map(Tracked::tracking);
        Ok(Self { mark, content: Content::Event { event: Box::new(event), tracking, more: place.more } })
    }

    /// How many records of the same append follow it.
    pub(super) fn more(&self) -> u32 {
        match &self.content {
            Content::Event { more, .. } => *more,
            Content::Begun(_) | Content::Tracked(_) => 0,
        }
    }
}

impl Tracked {
    fn of(tracking: &Tracking) -> Self {
        Self { source: tracking.source.to_string(), position: tracking.position }
    }

    fn tracking(self) -> Tracking {
        Tracking { source: self.source.into(), position: self.position }
    }

    fn content(self) -> Content {
        Content::Tracked(self.tracking())
    }
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("plain fields and JSON that was read").into()
}

/// The bytes as JSON, if they are that and nothing before or after.
fn whole_json(bytes: &[u8]) -> Option<&RawValue> {
    let text = std::str::from_utf8(bytes).ok()?;
    serde_json::from_str::<&RawValue>(text).ok().filter(|raw| raw.get().len() == text.len())
}

#[cfg(test)]
mod tests;
