//! An event as a Kafka message: topic, key, headers. `docs/kafka.md` has the same as a table.

use std::borrow::Cow;
use std::fmt::Write;

use cairn_event_store::RecordedEvent;
use chrono::SecondsFormat;
use rdkafka::message::{Header, OwnedHeaders, ToBytes};
use serde::Deserialize;

use crate::config::is_topic_char;

pub(super) const EVENT_ID: &str = "cairn-event-id";
pub(super) const STREAM: &str = "cairn-stream";
pub(super) const REVISION: &str = "cairn-revision";
pub(super) const POSITION: &str = "cairn-position";
pub(super) const TYPE: &str = "cairn-type";
pub(super) const SCHEMA_VERSION: &str = "cairn-schema-version";
pub(super) const BRAIN: &str = "cairn-brain";
pub(super) const RECORDED_AT: &str = "cairn-recorded-at";
pub(super) const METADATA: &str = "cairn-metadata";
pub(super) const ERASED: &str = "cairn-erased";
pub(super) const TRACEPARENT: &str = "traceparent";

/// The longest family in a topic's name, in bytes; one that is longer is cut.
const MAX_FAMILY_BYTES: usize = 100;
/// What the names and the short values of the headers take, in bytes, about.
const HEADERS_BYTES: usize = 400;

/// Where texts are put together, made once and used for every event.
#[derive(Default)]
pub(super) struct Scratch {
    topic: String,
    number: String,
}

impl Scratch {
    /// The topic of an event type: the prefix and the type up to its first dot.
    pub(super) fn topic(&mut self, prefix: &str, event_type: &str) -> &str {
        let family = event_type.split('.').next().unwrap_or(event_type);
        let family = if family.is_empty() { "none" } else { family };
        self.topic.clear();
        self.topic.push_str(prefix);
        self.topic.push('.');
        // A type may hold anything; a topic's name may not.
        let family = family[..family.floor_char_boundary(MAX_FAMILY_BYTES)].chars();
        self.topic.extend(family.map(|c| if is_topic_char(c) { c } else { '_' }));
        &self.topic
    }

    /// The envelope of an event.
    pub(super) fn headers(&mut self, event: &RecordedEvent) -> OwnedHeaders {
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        let mut headers = OwnedHeaders::new_with_capacity(12);
        headers = add(headers, EVENT_ID, &*event.id.as_hyphenated().encode_lower(&mut id));
        headers = add(headers, STREAM, &*event.stream);
        headers = add(headers, REVISION, self.number(event.revision.0));
        headers = add(headers, POSITION, self.number(event.position.0));
        headers = add(headers, TYPE, &*event.event_type);
        headers = add(headers, SCHEMA_VERSION, self.number(u64::from(event.schema_version)));
        headers = add(headers, BRAIN, &*event.brain.as_hyphenated().encode_lower(&mut id));
        headers = add(headers, RECORDED_AT, &event.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true));
        headers = add(headers, METADATA, &event.metadata[..]);
        if event.erased {
            headers = add(headers, ERASED, "true");
        }
        match traceparent(&event.metadata) {
            Some(parent) => add(headers, TRACEPARENT, &*parent),
            None => headers,
        }
    }

    fn number(&mut self, number: u64) -> &str {
        self.number.clear();
        write!(self.number, "{number}").expect("a string takes anything");
        &self.number
    }
}

/// How many bytes an event takes on its way, about.
pub(super) fn size(event: &RecordedEvent) -> usize {
    event.data.len() + event.metadata.len() + 2 * event.stream.len() + event.event_type.len() + HEADERS_BYTES
}

fn add<V: ToBytes + ?Sized>(headers: OwnedHeaders, key: &str, value: &V) -> OwnedHeaders {
    headers.insert(Header { key, value: Some(value) })
}

/// The trace that the metadata names, if it does.
fn traceparent(metadata: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Traced<'a> {
        #[serde(borrow)]
        traceparent: Option<Cow<'a, str>>,
    }
    // Few events are traced, and looking is quicker than reading.
    metadata.windows(TRACEPARENT.len()).any(|part| part == TRACEPARENT.as_bytes()).then_some(())?;
    serde_json::from_slice::<Traced<'_>>(metadata).ok()?.traceparent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topic_is_the_family_whatever_the_type_is() {
        let mut scratch = Scratch::default();
        assert_eq!(scratch.topic("cairn", "memory.field_claimed"), "cairn.memory");
        assert_eq!(scratch.topic("cairn", "memory"), "cairn.memory");
        assert_eq!(scratch.topic("a.b", "two words.x"), "a.b.two_words");
        assert_eq!(scratch.topic("cairn", ".x"), "cairn.none");
        assert_eq!(scratch.topic("cairn", "größe.x"), "cairn.gr__e");
        assert!(scratch.topic(&"p".repeat(120), &"é".repeat(250)).len() <= 249);
    }

    #[test]
    fn the_trace_is_found_in_the_metadata() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let metadata = format!(r#"{{"truth":1,"traceparent":"{parent}"}}"#);
        assert_eq!(traceparent(metadata.as_bytes()).as_deref(), Some(parent));
        assert_eq!(traceparent(br#"{"origin":"user:traceparent"}"#), None);
        assert_eq!(traceparent(b"traceparent, but no JSON"), None);
        assert_eq!(traceparent(b""), None);
    }
}
