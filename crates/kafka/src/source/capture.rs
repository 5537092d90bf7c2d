//! A message as it was read, and as it stands in the log.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::config::{PayloadFormat, SourceConfig, StreamBy};

/// The type of the event that a message becomes.
pub const CAPTURE_RECEIVED: &str = "capture.received";
/// The type of the event that stands for a message that was not taken.
pub const CAPTURE_REJECTED: &str = "capture.rejected";

/// The longest key that becomes part of a stream's name as it is, in bytes.
const MAX_KEY_BYTES: usize = 200;

/// A message of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its number in the partition.
    pub offset: i64,
    /// When it was made or taken by the broker, in milliseconds since the Unix epoch.
    pub timestamp: Option<i64>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its headers, in order; a name may occur more than once.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Its payload; `None` is what Kafka calls a tombstone.
    pub payload: Option<Bytes>,
}

/// What a message becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The stream it goes to.
    pub stream: Arc<str>,
    /// The type of its event.
    pub event_type: Arc<str>,
    /// The version of the shape of its data.
    pub schema_version: u16,
    /// Its data: JSON.
    pub data: Bytes,
}

/// What is read of a message before anything is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Incoming {
    /// It is taken in.
    Taken(Capture),
    /// It is not, and this stands for it.
    Refused(Rejected),
}

/// The data of `capture.rejected`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Rejected {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// The last offset it stands for, where it stands for more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) through: Option<i64>,
    pub(super) timestamp: Option<i64>,
    pub(super) bytes: Option<usize>,
    pub(super) reason: String,
}

/// The data of `capture.received`.
#[derive(Serialize)]
struct Received<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    key: Option<Content<'a>>,
    headers: Vec<NamedHeader<'a>>,
    payload: Option<Content<'a>>,
}

#[derive(Serialize)]
struct NamedHeader<'a> {
    name: &'a str,
    value: Option<Content<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "encoding", content = "value", rename_all = "snake_case")]
enum Content<'a> {
    Json(&'a RawValue),
    Text(&'a str),
    Base64(String),
}

impl Incoming {
    /// Reads a message, if it is not larger than `most` bytes.
    pub(super) fn read(message: &BorrowedMessage<'_>, topic: &Arc<str>, most: usize) -> Self {
        let size = message.key_len() + message.payload_len();
        let rejected = |bytes: usize, reason: String| {
            Self::Refused(Rejected {
                topic: Arc::clone(topic),
                partition: message.partition(),
                offset: message.offset(),
                through: None,
                timestamp: message.timestamp().to_millis(),
                bytes: Some(bytes),
                reason,
            })
        };
        if size > most {
            return rejected(size, format!("its {size} bytes are more than {most}"));
        }
        // The client library panics at a header whose name is not UTF-8. Anybody who may write to the topic could
        // otherwise end the source with one.
        let Ok(headers) = catch_unwind(AssertUnwindSafe(|| headers(message))) else {
            return rejected(size, "the name of a header is not UTF-8".into());
        };
        let in_headers =
            |(name, value): &(String, Option<Bytes>)| name.len() + value.as_ref().map_or(0, Bytes::len);
        let size = size + headers.iter().map(in_headers).sum::<usize>();
        if size > most {
            return rejected(size, format!("its {size} bytes are more than {most}"));
        }
        Self::Taken(Capture {
            topic: Arc::clone(topic),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(Bytes::copy_from_slice),
            headers,
            payload: message.payload().map(Bytes::copy_from_slice),
        })
    }

    pub(super) const fn offset(&self) -> i64 {
        match self {
            Self::Taken(capture) => capture.offset,
            Self::Refused(rejected) => rejected.offset,
        }
    }

    pub(super) const fn partition(&self) -> i32 {
        match self {
            Self::Taken(capture) => capture.partition,
            Self::Refused(rejected) => rejected.partition,
        }
    }

    /// How much memory it takes, about.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Taken(capture) => capture.size(),
            Self::Refused(_) => 0,
        }
    }
}

impl Capture {
    /// The bytes of its key, headers and payload.
    pub fn size(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + length(value)).sum::<usize>();
        length(&self.key) + headers + length(&self.payload)
    }

    /// What stands for it where it is not taken.
    pub(super) fn rejected(&self, reason: String) -> Rejected {
        Rejected {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            offset: self.offset,
            through: None,
            timestamp: self.timestamp,
            bytes: Some(self.size()),
            reason,
        }
    }
}

impl Rejected {
    /// The event that stands for it, in the partition's stream.
    pub(super) fn captured(&self) -> Captured {
        Captured {
            stream: partition_stream(&self.topic, self.partition),
            event_type: CAPTURE_REJECTED.into(),
            schema_version: 1,
            data: serde_json::to_vec(self).expect("it holds nothing that JSON cannot").into(),
        }
    }
}

/// What a message becomes unless the node says otherwise.
///
/// # Errors
/// Why the message is rejected.
pub(super) fn receive(config: &SourceConfig, capture: &Capture) -> Result<Captured, String> {
    let payload = capture.payload.as_deref().map(|payload| content(config.payload, payload)).transpose()?;
    let mut data = encode(capture, payload);
    // JSON may be nested deeper than a reader follows, all the more inside of this.
    if serde_json::from_slice::<serde_json::Value>(&data).is_err() {
        if config.payload == PayloadFormat::Json {
            return Err("its payload is nested too deep".into());
        }
        data = encode(capture, capture.payload.as_deref().map(text_or_bytes));
    }
    Ok(Captured {
        stream: stream(config.stream_by, capture),
        event_type: CAPTURE_RECEIVED.into(),
        schema_version: 1,
        data: data.into(),
    })
}

fn encode(capture: &Capture, payload: Option<Content<'_>>) -> Vec<u8> {
    let received = Received {
        topic: &capture.topic,
        partition: capture.partition,
        offset: capture.offset,
        timestamp: capture.timestamp,
        key: capture.key.as_deref().map(text_or_bytes),
        headers: capture
            .headers
            .iter()
            .map(|(name, value)| NamedHeader { name, value: value.as_deref().map(text_or_bytes) })
            .collect(),
        payload,
    };
    serde_json::to_vec(&received).expect("it holds nothing that JSON cannot")
}

fn content(format: PayloadFormat, bytes: &[u8]) -> Result<Content<'_>, String> {
    let json = || serde_json::from_slice::<&RawValue>(bytes);
    match format {
        PayloadFormat::Any => Ok(json().map_or_else(|_| text_or_bytes(bytes), Content::Json)),
        PayloadFormat::Json => {
            json().map(Content::Json).map_err(|error| format!("its payload is not JSON: {error}"))
        }
        PayloadFormat::Text => {
            std::str::from_utf8(bytes).map(Content::Text).map_err(|_| "its payload is not UTF-8".to_owned())
        }
        PayloadFormat::Binary => Ok(Content::Base64(STANDARD.encode(bytes))),
    }
}

fn text_or_bytes(bytes: &[u8]) -> Content<'_> {
    std::str::from_utf8(bytes).map_or_else(|_| Content::Base64(STANDARD.encode(bytes)), Content::Text)
}

fn headers(message: &BorrowedMessage<'_>) -> Vec<(String, Option<Bytes>)> {
    let Some(headers) = message.headers() else { return Vec::new() };
    headers.iter().map(|header| (header.key.to_owned(), header.value.map(Bytes::copy_from_slice))).collect()
}

fn stream(by: StreamBy, capture: &Capture) -> Arc<str> {
    match (by, &capture.key) {
        (StreamBy::Key, Some(key)) => format!("capture-{}-{}", capture.topic, key_name(key)).into(),
        (StreamBy::Key, None) | (StreamBy::Partition, _) => partition_stream(&capture.topic, capture.partition),
    }
}

fn partition_stream(topic: &str, partition: i32) -> Arc<str> {
    format!("capture-{topic}-{partition}").into()
}

/// A key as part of a stream's name: as it is, or a digest of it where it is long or no plain text.
fn key_name(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if (1..=MAX_KEY_BYTES).contains(&text.len()) && !text.chars().any(char::is_control) => {
            text.to_owned()
        }
        _ => format!("key:{}", uuid::Uuid::new_v5(&super::NAMESPACE, key)),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn capture(key: Option<&'static [u8]>, payload: Option<&'static [u8]>) -> Capture {
        Capture {
            topic: "t".into(),
            partition: 2,
            offset: 7,
            timestamp: Some(5),
            key: key.map(Bytes::from_static),
            headers: vec![("a".into(), Some(Bytes::from_static(b"\xff"))), ("a".into(), None)],
            payload: payload.map(Bytes::from_static),
        }
    }

    fn data(format: PayloadFormat, payload: Option<&'static [u8]>) -> Result<serde_json::Value, String> {
        let mut config = SourceConfig::new("b:1", "t", Uuid::nil());
        config.payload = format;
        let captured = receive(&config, &capture(None, payload))?;
        Ok(serde_json::from_slice(&captured.data).expect("it is JSON"))
    }

    #[test]
    fn a_payload_is_kept_as_what_it_is() {
        let json = data(PayloadFormat::Any, Some(b"{\"a\":1.50}")).expect("taken");
        assert_eq!(json["payload"], serde_json::json!({ "encoding": "json", "value": { "a": 1.5 } }));
        let text = data(PayloadFormat::Any, Some(b"21 degrees")).expect("taken");
        assert_eq!(text["payload"], serde_json::json!({ "encoding": "text", "value": "21 degrees" }));
        let bytes = data(PayloadFormat::Any, Some(b"\xff\x00")).expect("taken");
        assert_eq!(bytes["payload"], serde_json::json!({ "encoding": "base64", "value": "/wA=" }));
        assert_eq!(bytes["headers"][0]["value"]["encoding"], "base64");
        assert!(bytes["headers"][1]["value"].is_null());
        assert!(data(PayloadFormat::Json, None).expect("taken")["payload"].is_null());
    }

    #[test]
    fn what_is_not_as_configured_is_rejected_with_the_reason() {
        assert!(data(PayloadFormat::Json, Some(b"{")).expect_err("no JSON").contains("not JSON"));
        assert!(data(PayloadFormat::Text, Some(b"\xff")).expect_err("no text").contains("not UTF-8"));
        assert_eq!(data(PayloadFormat::Binary, Some(b"{}")).expect("taken")["payload"]["value"], "e30=");
    }

    #[test]
    fn json_that_no_reader_could_follow_is_kept_as_text() {
        let deep: &'static [u8] = [vec![b'['; 200], vec![b']'; 200]].concat().leak();
        assert_eq!(data(PayloadFormat::Any, Some(deep)).expect("taken")["payload"]["encoding"], "text");
        assert!(data(PayloadFormat::Json, Some(deep)).expect_err("too deep").contains("too deep"));
    }

    #[test]
    fn a_key_of_any_kind_names_a_stream() {
        let named = |key| stream(StreamBy::Key, &capture(key, None));
        assert_eq!(&*named(Some(b"sensor 7")), "capture-t-sensor 7");
        assert_eq!(&*named(None), "capture-t-2");
        assert!(named(Some(b"\xff")).starts_with("capture-t-key:"));
        assert!(named(Some(b"")).starts_with("capture-t-key:"));
        assert_ne!(named(Some(&[b'x'; 300])), named(Some(&[b'x'; 301])));
        assert!(named(Some(&[b'x'; 300])).len() < 512);
        assert_eq!(&*stream(StreamBy::Partition, &capture(Some(b"k"), None)), "capture-t-2");
    }
}
