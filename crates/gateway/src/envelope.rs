//! Between a client's events and the log's envelopes.
//!
//! The log holds JSON, and metadata that says who wrote at which truth. What a client sends is kept beside that, in the
//! key [`client`](Stored::client) of the metadata, and comes back byte for byte:
//!
//! - Data that is JSON stays as it is. Any other is kept as a JSON string in base64.
//! - The client's own metadata is kept as it is where it is JSON, else in base64.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cairn_event_store::{NewEvent, RecordedEvent};
use cairn_proto::event_store::client::{Uuid as WireUuid, streams};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::authority::{Caller, Level};
use crate::failure::Failure;
use crate::{ids, names};

/// The content type of JSON.
pub(crate) const JSON: &str = "application/json";
/// Every event of a client is of the first version of its shape: the protocol knows no versions.
const SCHEMA_VERSION: u16 = 1;
const BASE64: &str = "base64";

/// An event as a client proposes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    /// Its id.
    pub(crate) id: Uuid,
    /// Its type.
    pub(crate) event_type: Arc<str>,
    /// What its data is said to be.
    pub(crate) content_type: Bytes,
    /// The client's own metadata.
    pub(crate) custom: Bytes,
    /// Its data.
    pub(crate) data: Bytes,
}

/// What the log keeps as an event's metadata.
#[derive(Serialize)]
struct Stored<'a> {
    principal: Uuid,
    truth: u8,
    origin: &'a str,
    correlation_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<Uuid>,
    client: Client<'a>,
}

/// What cannot be told from the rest of an envelope. Everything is left out that is as it usually is.
#[derive(Default, Serialize, Deserialize)]
struct Client<'a> {
    /// The client's id of the event, where the log has it under another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<Uuid>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    content_type: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    encoding: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    metadata_base64: Option<Cow<'a, str>>,
}

/// The one part of a stored metadata that is read back here.
#[derive(Deserialize)]
struct Kept<'a> {
    #[serde(borrow)]
    client: Option<Client<'a>>,
}

/// What a client's metadata may say that the log understands.
#[derive(Default, Deserialize)]
struct Hints<'a> {
    #[serde(borrow, rename = "$truth")]
    truth: Option<&'a RawValue>,
    #[serde(borrow, rename = "$correlationId")]
    correlation_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "$causationId")]
    causation_id: Option<&'a RawValue>,
}

impl Proposal {
    /// An event of an append.
    pub(crate) fn new(
        id: Option<&WireUuid>,
        entries: Vec<streams::MetadataEntry>,
        custom: Bytes,
        data: Bytes,
    ) -> Result<Self, Failure> {
        let id = ids::parse(id)?;
        let (mut event_type, mut content_type) = (None, None);
        for entry in entries {
            match &*entry.key {
                b"type" => event_type = Some(entry.value),
                b"content-type" => content_type = Some(entry.value),
                _ => {}
            }
        }
        let event_type = event_type.ok_or(Failure::MissingProperty { property: "type" })?;
        let content_type = content_type.ok_or(Failure::MissingProperty { property: "content-type" })?;
        let event_type = std::str::from_utf8(&event_type)
            .map_err(|_| Failure::Invalid(format!("the type of event {id} is not UTF-8")))?
            .into();
        Ok(Self { id, event_type, content_type, custom, data })
    }

    /// The bytes it brings.
    pub(crate) fn size(&self) -> usize {
        self.data.len() + self.custom.len()
    }

    /// The envelope, in the caller's name. `correlation` is what it belongs to unless the client says so itself;
    /// `id` is what the log is to know the event by.
    pub(crate) fn envelope(&self, caller: &Caller, correlation: Uuid, id: Uuid) -> NewEvent {
        let custom = whole_json(&self.custom);
        let hints = custom.map(Hints::read).unwrap_or_default();
        let truth = Level::limited(caller.ceiling, hints.level());
        let is_json = &*self.content_type == JSON.as_bytes() && is_json(&self.data);
        let stored = Stored {
            principal: caller.principal,
            truth: truth.number(),
            origin: &origin(caller, truth),
            correlation_id: hints.uuid(hints.correlation_id).unwrap_or(correlation),
            causation_id: hints.uuid(hints.causation_id),
            client: Client {
                id: (id != self.id).then_some(self.id),
                content_type: (&*self.content_type != JSON.as_bytes())
                    .then(|| String::from_utf8_lossy(&self.content_type)),
                encoding: (!is_json).then_some(BASE64.into()),
                metadata: custom,
                metadata_base64: (custom.is_none() && !self.custom.is_empty())
                    .then(|| STANDARD.encode(&self.custom).into()),
            },
        };
        NewEvent {
            id,
            event_type: Arc::clone(&self.event_type),
            schema_version: SCHEMA_VERSION,
            data: if is_json { self.data.clone() } else { in_base64(&self.data) },
            metadata: serde_json::to_vec(&stored).expect("plain fields and JSON that was read").into(),
        }
    }
}

/// A `null` is a value that was sent, not one that is missing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Hints<'a> {
    /// Metadata that is no object says nothing.
    fn read(custom: &'a RawValue) -> Self {
        if custom.get().starts_with('{') {
            serde_json::from_str(custom.get()).unwrap_or_default()
        } else {
            Self::default()
        }
    }

    fn level(&self) -> Option<Level> {
        self.truth.and_then(|raw| raw.get().parse().ok()).and_then(Level::new)
    }

    fn uuid(&self, raw: Option<&RawValue>) -> Option<Uuid> {
        raw.and_then(|raw| Uuid::try_parse(raw.get().trim_matches('"')).ok())
    }
}

/// Where a write comes from: a write below the caller's ceiling is of the class of its level.
fn origin(caller: &Caller, truth: Level) -> Cow<'_, str> {
    if truth == caller.ceiling {
        return Cow::Borrowed(&caller.origin);
    }
    let class = match truth.number() {
        1 => "user",
        2 => "automation",
        3 => "ai-local",
        4 => "ai-network",
        _ => "ai-cloud",
    };
    let detail = caller.origin.split_once(':').map_or("unknown", |(_, detail)| detail);
    Cow::Owned(format!("{class}:{detail}"))
}

/// The bytes as JSON, if they are that and nothing before or after.
fn whole_json(bytes: &[u8]) -> Option<&RawValue> {
    let text = std::str::from_utf8(bytes).ok()?;
    serde_json::from_str::<&RawValue>(text).ok().filter(|raw| raw.get().len() == text.len())
}

fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

fn in_base64(bytes: &[u8]) -> Bytes {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4 + 2);
    text.push('"');
    STANDARD.encode_string(bytes, &mut text);
    text.push('"');
    text.into()
}

/// What a reader gets to see of an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Its id.
    pub(crate) id: Uuid,
    /// What its data is.
    pub(crate) content_type: Bytes,
    /// The client's own metadata; for what Cairn's own commands wrote, all of it.
    pub(crate) custom: Bytes,
    /// Its data.
    pub(crate) data: Bytes,
}

impl Shown {
    /// The event as its writer gave it to the log.
    pub(crate) fn of(event: &RecordedEvent) -> Self {
        let kept = if names::is_owned(&event.stream) { None } else { kept(&event.metadata) };
        match kept {
            Some(client) => Self::of_client(event, &client),
            None => Self {
                id: event.id,
                content_type: Bytes::from_static(JSON.as_bytes()),
                custom: event.metadata.clone(),
                data: event.data.clone(),
            },
        }
    }

    fn of_client(event: &RecordedEvent, client: &Client<'_>) -> Self {
        let content_type = match client.content_type.as_deref() {
            None => Bytes::from_static(JSON.as_bytes()),
            Some(other) => Bytes::copy_from_slice(other.as_bytes()),
        };
        let custom = match (client.metadata, client.metadata_base64.as_deref()) {
            (Some(raw), _) => event.metadata.slice_ref(raw.get().as_bytes()),
            (None, Some(text)) => STANDARD.decode(text).unwrap_or_default().into(),
            (None, None) => Bytes::new(),
        };
        let coded = client.encoding.as_deref() == Some(BASE64) && !event.erased;
        let data = if coded { from_base64(&event.data) } else { event.data.clone() };
        Self { id: client.id.unwrap_or(event.id), content_type, custom, data }
    }
}

fn kept(metadata: &[u8]) -> Option<Client<'_>> {
    let text = std::str::from_utf8(metadata).ok()?;
    serde_json::from_str::<Kept<'_>>(text).ok()?.client
}

/// What is not in the form that [`in_base64`] gives is shown as it is.
fn from_base64(data: &Bytes) -> Bytes {
    let text = data.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    text.and_then(|text| STANDARD.decode(text).ok()).map_or_else(|| data.clone(), Bytes::from)
}

#[cfg(test)]
mod tests;
