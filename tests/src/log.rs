//! Reading a node's log and believing nothing.

use std::collections::HashMap;

use cairn_testkit::Client;
use serde_json::Value;

/// An event as the log gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its position in the whole log.
    pub position: u64,
    /// Its id.
    pub id: String,
    /// Its stream.
    pub stream: String,
    /// Its number in the stream.
    pub revision: u64,
    /// The whole envelope.
    pub envelope: Value,
}

/// Everything that was ever read from a log, in order. Grows; never forgives a difference.
#[derive(Debug, Default)]
pub struct History {
    /// The events: position 1 first.
    pub events: Vec<Event>,
    by_id: HashMap<String, usize>,
    revisions: HashMap<String, u64>,
}

/// The log from a position on; and, when the answer broke off, why.
///
/// # Panics
/// When the node refuses, or a line is no event.
pub async fn read(client: &Client, from: u64) -> (Vec<Event>, Option<String>) {
    let request = client.request(reqwest::Method::GET, &format!("/log?from={from}"));
    let mut response = match request.send().await {
        Ok(response) if response.status() == 200 => response,
        Ok(response) => return (Vec::new(), Some(response.text().await.unwrap_or_default())),
        Err(error) => return (Vec::new(), Some(format!("{error:?}"))),
    };
    let mut bytes = Vec::new();
    let broken = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => break None,
            Err(error) => break Some(format!("{error:?}")),
        }
    };
    // Of an answer that broke off, the last line may be half a line.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let text = std::str::from_utf8(&bytes[..whole]).expect("the log is UTF-8");
    (text.lines().map(event).collect(), broken)
}

fn event(line: &str) -> Event {
    let envelope: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the log: {line}"));
    let text = |name: &str| envelope[name].as_str().unwrap_or_else(|| panic!("no {name}: {line}")).to_owned();
    let number = |name: &str| envelope[name].as_u64().unwrap_or_else(|| panic!("no {name}: {line}"));
    Event {
        position: number("position"),
        id: text("id"),
        stream: text("stream"),
        revision: number("revision"),
        envelope,
    }
}

impl History {
    /// The last position read.
    pub fn head(&self) -> u64 {
        self.events.last().map_or(0, |event| event.position)
    }

    /// The event with an id.
    pub fn event(&self, id: &str) -> Option<&Event> {
        self.by_id.get(id).map(|index| &self.events[*index])
    }

    /// Takes over what the log holds beyond the head, checking that positions and revisions have no gap and that
    /// no id comes twice.
    ///
    /// # Panics
    /// When any of that does not hold, or the log cannot be read.
    pub async fn catch_up(&mut self, client: &Client) {
        let (events, broken) = read(client, self.head() + 1).await;
        assert_eq!(broken, None, "the log cannot be read to its end");
        for event in events {
            assert_eq!(event.position, self.head() + 1, "a gap in the log: {event:?}");
            let next = self.revisions.get(&event.stream).map_or(0, |revision| revision + 1);
            assert_eq!(event.revision, next, "a gap in stream {}", event.stream);
            self.revisions.insert(event.stream.clone(), event.revision);
            let before = self.by_id.insert(event.id.clone(), self.events.len());
            assert_eq!(before, None, "event {} is in the log twice", event.id);
            self.events.push(event);
        }
    }

    /// Checks that the log still begins with exactly what was read before.
    ///
    /// # Panics
    /// When it does not.
    pub async fn unchanged(&self, client: &Client) {
        let (events, broken) = read(client, 1).await;
        assert_eq!(broken, None, "the log cannot be read to its end");
        assert!(events.len() >= self.events.len(), "{} of {} events are left", events.len(), self.events.len());
        self.is_prefix(&events);
    }

    /// Checks that no event of another reading differs from what was read before.
    ///
    /// # Panics
    /// When one does.
    pub fn is_prefix(&self, events: &[Event]) {
        for (before, now) in self.events.iter().zip(events) {
            assert_eq!(before, now, "position {} tells another story than before", before.position);
        }
    }
}
