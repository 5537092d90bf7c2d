//! What is said between a primary and a follower: messages on one stream, segments on streams of their own.
//!
//! A message is its length (4 bytes, little end first) and JSON. A segment is a stream that ends: a byte that says what it is,
//! then its content. Lengths are looked at before anything is read or decoded.

use std::fmt;

use cairn_event_store::keyring::{MAX_WRAPPED_SLOTS, WrappedSlots};
use cairn_event_store::{RecordedEvent, Tracking};
use quinn::{RecvStream, SendStream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use crate::chain::{Chain, Mark, read_event, write_event};
use crate::error::FollowError;

/// The protocol's name in TLS.
pub const ALPN: &[u8] = b"cairn-log/1";
/// The longest message.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// The longest segment: a page of the log, and room for names.
pub const MAX_SEGMENT_BYTES: usize = 24 * 1024 * 1024;
/// The code that a connection of a machine that is not known is closed with.
pub(crate) const UNKNOWN_KEY: u32 = 1;
/// What that machine's owner is told.
pub(crate) const NOT_KNOWN: &str =
    "the primary does not know this machine; follow by a new link of `cairn follow invite`";
/// The most hashes in a message.
pub(crate) const MAX_MARKS: u64 = 512;
/// The most sources in a segment.
const MAX_SOURCES: u32 = 65_536;
/// The longest encrypted key.
const MAX_WRAPPED_BYTES: usize = 256;
/// The longest name of a source or a file.
const MAX_NAME_BYTES: usize = 512;

/// What the one who calls says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Call {
    /// It was invited.
    Pair { secret: Hidden, name: String },
    /// It follows, and has everything up to a place.
    Follow { brain: Uuid, epoch: u64, name: String, listen: Option<String>, at: Mark, slots: u32 },
    /// It wants to compare: hashes at every so many positions after one, beginning there.
    Marks { after: u64, step: u64 },
    /// It has everything up to there on disk.
    Have { position: u64 },
    /// It takes over, or has, with this epoch.
    Replace { epoch: u64, name: String },
    /// It asks, after a start, whether it was replaced.
    Ask { epoch: u64 },
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Answer {
    /// It follows from now on; the brain's key, which it will need to take over.
    Paired { brain_key: Hidden, epoch: u64, name: String },
    /// Segments come from now on.
    Following { epoch: u64, head: u64 },
    /// How far the log goes, and hashes.
    Marks { head: u64, hashes: Vec<Chain> },
    /// How far the log goes now, and whether appends wait for a follower.
    Beat { head: u64, synchronous: bool },
    /// This node takes no more writes, and its log ends there.
    Replaced { head: u64 },
    /// This node's epoch.
    Epoch { epoch: u64, name: String },
    /// No, and why.
    Refused { reason: Refusal, message: String },
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    /// The key is not known, or the invitation is used or expired.
    Unknown,
    /// The log that follows is not the beginning of this one.
    Diverged,
    /// This node was replaced.
    Replaced,
    /// What was said makes no sense here.
    Unsound,
}

/// A secret in hexadecimal digits. It is shown nowhere, and wiped when it is dropped.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Hidden(String);

impl Hidden {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(hex::encode(bytes))
    }

    /// The bytes; none where there are not just so many.
    pub(crate) fn bytes<const N: usize>(&self) -> Option<Zeroizing<[u8; N]>> {
        let mut bytes = Zeroizing::new([0; N]);
        hex::decode_to_slice(&self.0, &mut bytes[..]).ok()?;
        Some(bytes)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

pub(crate) async fn send(stream: &mut SendStream, message: &impl Serialize) -> Result<(), FollowError> {
    let body = Zeroizing::new(serde_json::to_vec(message).map_err(FollowError::cut)?);
    let mut framed = Zeroizing::new(Vec::with_capacity(body.len() + 4));
    framed.extend_from_slice(&(body.len() as u32).to_le_bytes());
    framed.extend_from_slice(&body);
    stream.write_all(&framed).await.map_err(FollowError::cut)
}

/// The next message. It must be read to its end: half of one is lost when the future is dropped.
pub(crate) async fn receive<T: DeserializeOwned>(stream: &mut RecvStream) -> Result<T, FollowError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.map_err(FollowError::cut)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_MESSAGE_BYTES {
        return Err(FollowError::Unsound("a message that is too long"));
    }
    let mut body = Zeroizing::new(vec![0; length]);
    stream.read_exact(&mut body).await.map_err(FollowError::cut)?;
    serde_json::from_slice(&body).map_err(|_| FollowError::Unsound("a message that cannot be read"))
}

/// A part of what a follower gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Events(Events),
    Keys(WrappedSlots),
    File(SentFile),
}

/// Some events that follow on each other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Events {
    /// What they follow on.
    pub(crate) after: Mark,
    /// The hash with them.
    pub(crate) chain: Chain,
    /// The events.
    pub(crate) events: Vec<RecordedEvent>,
    /// How far imports had got at the last of them, where that is known and not what was sent before.
    pub(crate) tracked: Option<Vec<Tracking>>,
}

/// A small file of the data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SentFile {
    /// Its path in the folder.
    pub(crate) name: String,
    /// What is in it.
    pub(crate) content: Vec<u8>,
}

const EVENTS: u8 = 1;
const KEYS: u8 = 2;
const FILE: u8 = 3;

/// Writes a segment of events; gives the mark at its end.
pub(crate) fn write_events(
    after: Mark,
    events: &[RecordedEvent],
    tracked: Option<&[Tracking]>,
) -> (Vec<u8>, Mark) {
    let mut body = Vec::new();
    let mut mark = after;
    for event in events {
        let from = body.len();
        write_event(&mut body, event);
        mark = Mark { position: event.position.0, chain: mark.chain.with(&body[from..]) };
    }
    let mut out = Vec::with_capacity(body.len() + 128);
    out.push(EVENTS);
    out.extend_from_slice(&after.position.to_le_bytes());
    out.extend_from_slice(&after.chain.0);
    out.extend_from_slice(&mark.chain.0);
    match tracked {
        Some(tracked) => {
            out.extend_from_slice(&(tracked.len() as u32 + 1).to_le_bytes());
            for Tracking { source, position } in tracked {
                out.extend_from_slice(&position.to_le_bytes());
                write_part(&mut out, source.as_bytes());
            }
        }
        None => out.extend_from_slice(&0_u32.to_le_bytes()),
    }
    out.extend_from_slice(&(events.len() as u32).to_le_bytes());
    out.append(&mut body);
    (out, mark)
}

pub(crate) fn write_keys(wrapped: &WrappedSlots) -> Vec<u8> {
    let mut out = vec![KEYS];
    out.extend_from_slice(&wrapped.first.to_le_bytes());
    out.extend_from_slice(&wrapped.end.to_le_bytes());
    for (slot, key) in &wrapped.slots {
        out.extend_from_slice(&slot.to_le_bytes());
        write_part(&mut out, key);
    }
    out
}

pub(crate) fn write_file(file: &SentFile) -> Vec<u8> {
    let mut out = vec![FILE];
    write_part(&mut out, file.name.as_bytes());
    out.extend_from_slice(&file.content);
    out
}

fn write_part(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&(part.len() as u32).to_le_bytes());
    out.extend_from_slice(part);
}

/// Reads a segment.
pub(crate) fn read_segment(bytes: &[u8], brain: Uuid) -> Result<Segment, FollowError> {
    let (kind, rest) = bytes.split_first().ok_or(FollowError::Unsound("an empty segment"))?;
    let mut reader = Reader(rest);
    match *kind {
        EVENTS => reader.events(brain).map(Segment::Events),
        KEYS => reader.keys().map(Segment::Keys),
        FILE => {
            let name = reader.name()?;
            Ok(Segment::File(SentFile { name, content: reader.0.to_vec() }))
        }
        _ => Err(FollowError::Unsound("a segment of no known kind")),
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], FollowError> {
        let (taken, rest) =
            self.0.split_first_chunk::<N>().ok_or(FollowError::Unsound("a segment that is cut off"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn part(&mut self, most: usize) -> Result<&'a [u8], FollowError> {
        let length = u32::from_le_bytes(self.take()?) as usize;
        if length > most {
            return Err(FollowError::Unsound("a part that is too long"));
        }
        let (part, rest) =
            self.0.split_at_checked(length).ok_or(FollowError::Unsound("a segment that is cut off"))?;
        self.0 = rest;
        Ok(part)
    }

    fn name(&mut self) -> Result<String, FollowError> {
        let name = std::str::from_utf8(self.part(MAX_NAME_BYTES)?);
        name.map(str::to_owned).map_err(|_| FollowError::Unsound("a name that is no text"))
    }

    fn events(&mut self, brain: Uuid) -> Result<Events, FollowError> {
        let position = u64::from_le_bytes(self.take()?);
        let after = Mark { position, chain: Chain(self.take()?) };
        let chain = Chain(self.take()?);
        let tracked = match u32::from_le_bytes(self.take()?).checked_sub(1) {
            None => None,
            Some(count) if count > MAX_SOURCES => return Err(FollowError::Unsound("too many sources")),
            Some(count) => Some((0..count).map(|_| self.tracking()).collect::<Result<_, _>>()?),
        };
        let count = u32::from_le_bytes(self.take()?);
        let (mut events, mut computed) = (Vec::new(), after.chain);
        for next in 0..u64::from(count) {
            let (event, rest) = read_event(self.0, brain)?;
            if event.position.0 != after.position + next + 1 {
                return Err(FollowError::Unsound("events that do not follow on each other"));
            }
            computed = computed.with(&self.0[..self.0.len() - rest.len()]);
            events.push(event);
            self.0 = rest;
        }
        if computed != chain || !self.0.is_empty() {
            return Err(FollowError::Unsound("events that are not what their hash says"));
        }
        Ok(Events { after, chain, events, tracked })
    }

    fn tracking(&mut self) -> Result<Tracking, FollowError> {
        let position = u64::from_le_bytes(self.take()?);
        Ok(Tracking { source: self.name()?.into(), position })
    }

    fn keys(&mut self) -> Result<WrappedSlots, FollowError> {
        let (first, end) = (u32::from_le_bytes(self.take()?), u32::from_le_bytes(self.take()?));
        if end.saturating_sub(first) > MAX_WRAPPED_SLOTS {
            return Err(FollowError::Unsound("too many keys"));
        }
        let mut slots = Vec::new();
        while !self.0.is_empty() {
            let slot = u32::from_le_bytes(self.take()?);
            slots.push((slot, self.part(MAX_WRAPPED_BYTES)?.to_vec()));
        }
        Ok(WrappedSlots { first, end, slots })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments() -> Vec<Vec<u8>> {
        let tracked = [Tracking { source: "kafka/a".into(), position: 4 }];
        let keys = WrappedSlots { first: 4, end: 9, slots: vec![(4, vec![1; 72]), (8, vec![2; 72])] };
        let events = [crate::chain::tests::event(1), crate::chain::tests::event(2)];
        let file = SentFile { name: "tokens.json".into(), content: b"[]".to_vec() };
        vec![
            write_events(Mark::default(), &[], Some(&tracked)).0,
            write_events(Mark::default(), &events, Some(&tracked)).0,
            write_keys(&keys),
            write_file(&file),
        ]
    }

    #[test]
    fn what_is_cut_off_or_changed_is_refused_or_something_else_but_never_a_panic() {
        for segment in segments() {
            let whole = read_segment(&segment, Uuid::nil()).expect("it is one");
            for length in 0..segment.len() {
                if let Ok(read) = read_segment(&segment[..length], Uuid::nil()) {
                    assert_ne!(read, whole);
                }
                for value in [0, 1, 0x7f, 0xff] {
                    let mut other = segment.clone();
                    other[length] = value;
                    let _ = read_segment(&other, Uuid::nil());
                }
            }
        }
    }

    #[test]
    fn a_segment_that_promises_much_takes_little() {
        let mut keys = vec![KEYS];
        keys.extend_from_slice(&0_u32.to_le_bytes());
        keys.extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(read_segment(&keys, Uuid::nil()), Err(FollowError::Unsound("too many keys"))));
        let mut events = write_events(Mark::default(), &[], None).0;
        let at = events.len() - 8;
        events[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(read_segment(&events, Uuid::nil()), Err(FollowError::Unsound("too many sources"))));
    }
}
