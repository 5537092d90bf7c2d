//! The hash over everything that was sent: two logs that have the same one at a position are the same up to there.

use cairn_event_store::event::{MAX_EVENT_BYTES, MAX_STREAM_NAME_BYTES};
use cairn_event_store::{
    Direction, EventStore, Filter, Position, RecordedEvent, Revision, SqliteStore, StoreError,
};
use chrono::DateTime;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::FollowError;

/// The events that are read at once.
pub(crate) const PAGE_EVENTS: usize = 2_048;
/// The longest name of an event's type, in bytes, as far as this format goes.
const MAX_TYPE_BYTES: usize = 1_024;

/// The hash over all events up to one, each as it is sent: `BLAKE3(the hash before it, the event)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Chain(pub [u8; 32]);

/// A place in a log, and what was before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mark {
    /// The position of the last event; 0 before the first.
    pub position: u64,
    /// The hash over all events up to it.
    pub chain: Chain,
}

impl Chain {
    /// The hash with one more event.
    #[must_use]
    pub fn with(self, event: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(event);
        Self(*hasher.finalize().as_bytes())
    }
}

impl TryFrom<String> for Chain {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut chain = [0; 32];
        hex::decode_to_slice(text, &mut chain).map_err(|_| "a hash has 64 hexadecimal digits")?;
        Ok(Self(chain))
    }
}

impl From<Chain> for String {
    fn from(chain: Chain) -> Self {
        hex::encode(chain.0)
    }
}

/// Writes an event as it is sent, little end first: position, revision, time in microseconds since 1970 (8 bytes each), id (16),
/// schema version (2), then stream, type, data and metadata, each with its length before it (4).
pub(crate) fn write_event(out: &mut Vec<u8>, event: &RecordedEvent) {
    out.extend_from_slice(&event.position.0.to_le_bytes());
    out.extend_from_slice(&event.revision.0.to_le_bytes());
    out.extend_from_slice(&event.recorded_at.timestamp_micros().to_le_bytes());
    out.extend_from_slice(event.id.as_bytes());
    out.extend_from_slice(&event.schema_version.to_le_bytes());
    for part in [event.stream.as_bytes(), event.event_type.as_bytes(), &event.data, &event.metadata] {
        // Each is far shorter than 4 GiB: the log takes no longer ones.
        out.extend_from_slice(&(part.len() as u32).to_le_bytes());
        out.extend_from_slice(part);
    }
}

/// Reads an event back, and gives what follows it.
pub(crate) fn read_event(bytes: &[u8], brain: Uuid) -> Result<(RecordedEvent, &[u8]), FollowError> {
    let short = FollowError::Unsound("an event that is cut off");
    let Some((head, mut rest)) = bytes.split_first_chunk::<42>() else { return Err(short) };
    let number = |at: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&head[at..at + 8]);
        u64::from_le_bytes(eight)
    };
    let mut part = |most: usize| {
        let (length, more) =
            rest.split_first_chunk::<4>().ok_or(FollowError::Unsound("an event that is cut off"))?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > most {
            return Err(FollowError::Unsound("an event with a part that is too long"));
        }
        let (part, more) =
            more.split_at_checked(length).ok_or(FollowError::Unsound("an event that is cut off"))?;
        rest = more;
        Ok(part)
    };
    let text = |part: &[u8]| {
        std::str::from_utf8(part).map(Into::into).map_err(|_| FollowError::Unsound("a name that is no text"))
    };
    let stream = text(part(MAX_STREAM_NAME_BYTES)?)?;
    let event_type = text(part(MAX_TYPE_BYTES)?)?;
    let data = bytes::Bytes::copy_from_slice(part(MAX_EVENT_BYTES)?);
    let metadata = bytes::Bytes::copy_from_slice(part(MAX_EVENT_BYTES)?);
    let recorded_at = DateTime::from_timestamp_micros(number(16).cast_signed())
        .ok_or(FollowError::Unsound("an event out of time"))?;
    let mut id = [0; 16];
    id.copy_from_slice(&head[24..40]);
    let event = RecordedEvent {
        position: Position(number(0)),
        revision: Revision(number(8)),
        recorded_at,
        id: Uuid::from_bytes(id),
        schema_version: u16::from_le_bytes([head[40], head[41]]),
        stream,
        event_type,
        brain,
        data,
        metadata,
        erased: false,
    };
    Ok((event, rest))
}

/// Looks at the events of a log after a position, in order, up to another, and shows each with its hash: the hash begins
/// with `from.chain`.
pub(crate) async fn walk(
    store: &SqliteStore,
    from: Mark,
    to: u64,
    mut each: impl FnMut(Mark) + Send,
) -> Result<Mark, StoreError> {
    let mut mark = from;
    let mut bytes = Vec::new();
    while mark.position < to {
        let page = store
            .read_all(Position(mark.position + 1), Direction::Forwards, &Filter::default(), PAGE_EVENTS)
            .await?;
        if page.events.is_empty() {
            break;
        }
        for event in page.events.iter().take_while(|event| event.position.0 <= to) {
            bytes.clear();
            write_event(&mut bytes, event);
            mark = Mark { position: event.position.0, chain: mark.chain.with(&bytes) };
            each(mark);
        }
    }
    Ok(mark)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn event(position: u64) -> RecordedEvent {
        RecordedEvent {
            position: Position(position),
            stream: "memory-1".into(),
            revision: Revision(2),
            id: Uuid::from_u128(9),
            event_type: "memory.captured".into(),
            schema_version: 1,
            brain: Uuid::from_u128(1),
            recorded_at: DateTime::from_timestamp_micros(1_700_000_000_123_456).expect("valid"),
            data: bytes::Bytes::from_static(b"{}"),
            metadata: bytes::Bytes::from_static(b"{\"by\":1}"),
            erased: false,
        }
    }

    #[test]
    fn an_event_comes_back_as_it_was_and_no_beginning_of_one_is_an_event() {
        let mut bytes = Vec::new();
        write_event(&mut bytes, &event(7));
        let (read, rest) = read_event(&bytes, Uuid::from_u128(1)).expect("it is one");
        assert_eq!((read, rest), (event(7), &[][..]));
        for length in 0..bytes.len() {
            assert!(read_event(&bytes[..length], Uuid::nil()).is_err(), "{length}");
        }
    }

    #[test]
    fn a_length_that_promises_too_much_is_refused_before_anything_is_kept() {
        let mut bytes = Vec::new();
        write_event(&mut bytes, &event(7));
        bytes[42..46].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(read_event(&bytes, Uuid::nil()), Err(FollowError::Unsound(_))));
    }

    #[test]
    fn each_byte_of_an_event_counts() {
        let mut bytes = Vec::new();
        write_event(&mut bytes, &event(7));
        let whole = Chain::default().with(&bytes);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(Chain::default().with(&other), whole);
        }
    }
}
