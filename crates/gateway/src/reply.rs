//! The messages of a read.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use cairn_event_store::{Position, RecordedEvent, Revision};
use cairn_proto::event_store::client::StreamIdentifier;
use cairn_proto::event_store::client::streams::read_resp::read_event::{self, Position as EventPosition};
use cairn_proto::event_store::client::streams::read_resp::{
    CaughtUp, Checkpoint, Content, FellBehind, Position as ReplyPosition, ReadEvent, StreamNotFound,
    SubscriptionConfirmation,
};
use cairn_proto::event_store::client::streams::{MetadataEntry, ReadResp};
use uuid::Uuid;

use crate::envelope::Shown;
use crate::ids::{self, Spelling};

/// The protocol's clock ticks every 100 ns.
const TICKS_PER_MICROSECOND: i64 = 10;

/// Makes replies of events. Names that repeat are made once.
#[derive(Debug)]
pub(crate) struct Replies {
    spelling: Spelling,
    stream: Interned,
    event_type: Interned,
}

#[derive(Debug, Default)]
struct Interned(Option<(Arc<str>, Bytes)>);

impl Interned {
    fn get(&mut self, name: &Arc<str>) -> Bytes {
        if let Some((known, bytes)) = &self.0
            && (Arc::ptr_eq(known, name) || known == name)
        {
            return bytes.clone();
        }
        let bytes = Bytes::copy_from_slice(name.as_bytes());
        self.0 = Some((Arc::clone(name), bytes.clone()));
        bytes
    }
}

impl Replies {
    pub(crate) fn new(spelling: Spelling) -> Self {
        Self { spelling, stream: Interned::default(), event_type: Interned::default() }
    }

    /// An event. Its place in the log is both of the positions that the protocol knows.
    pub(crate) fn event(&mut self, event: &RecordedEvent) -> ReadResp {
        let position = event.position.0;
        let ticks = event.recorded_at.timestamp_micros() * TICKS_PER_MICROSECOND;
        let shown = Shown::of(event);
        let metadata = vec![
            MetadataEntry { key: Bytes::from_static(b"type"), value: self.event_type.get(&event.event_type) },
            MetadataEntry { key: Bytes::from_static(b"created"), value: ticks.to_string().into() },
            MetadataEntry { key: Bytes::from_static(b"content-type"), value: shown.content_type },
        ];
        let recorded = read_event::RecordedEvent {
            id: Some(ids::write(shown.id, self.spelling)),
            stream_identifier: Some(StreamIdentifier { stream_name: self.stream.get(&event.stream) }),
            stream_revision: event.revision.0,
            prepare_position: position,
            commit_position: position,
            metadata,
            custom_metadata: shown.custom,
            data: shown.data,
        };
        let event = ReadEvent {
            event: Some(recorded),
            link: None,
            position: Some(EventPosition::CommitPosition(position)),
        };
        reply(Content::Event(event))
    }
}

fn reply(content: Content) -> ReadResp {
    ReadResp { content: Some(content) }
}

/// The stream does not exist, or not any more.
pub(crate) fn not_found(stream: &str) -> ReadResp {
    let stream_name = Bytes::copy_from_slice(stream.as_bytes());
    reply(Content::StreamNotFound(StreamNotFound { stream_identifier: Some(StreamIdentifier { stream_name }) }))
}

/// The last revision there is.
pub(crate) fn last(revision: Revision) -> ReadResp {
    reply(Content::LastStreamPosition(revision.0))
}

/// The subscription has begun.
pub(crate) fn confirmation() -> ReadResp {
    reply(Content::Confirmation(SubscriptionConfirmation { subscription_id: Uuid::now_v7().to_string() }))
}

/// Everything up to here has been looked at.
pub(crate) fn checkpoint(position: Position) -> ReadResp {
    reply(Content::Checkpoint(Checkpoint {
        commit_position: position.0,
        prepare_position: position.0,
        timestamp: Some(SystemTime::now().into()),
    }))
}

/// Where a subscription stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// In a stream, after this event of it.
    Stream(Option<Revision>),
    /// In the log.
    All(Position),
}

impl Place {
    fn revision(self) -> Option<i64> {
        match self {
            Self::Stream(revision) => Some(revision.map_or(-1, |revision| revision.0.cast_signed())),
            Self::All(_) => None,
        }
    }

    fn position(self) -> Option<ReplyPosition> {
        match self {
            Self::Stream(_) => None,
            Self::All(at) => Some(ReplyPosition { commit_position: at.0, prepare_position: at.0 }),
        }
    }
}

/// From now on events come as they are appended.
pub(crate) fn caught_up(place: Place) -> ReadResp {
    reply(Content::CaughtUp(CaughtUp {
        timestamp: Some(SystemTime::now().into()),
        stream_revision: place.revision(),
        position: place.position(),
    }))
}

/// Events are appended faster than they are taken.
pub(crate) fn fell_behind(place: Place) -> ReadResp {
    reply(Content::FellBehind(FellBehind {
        timestamp: Some(SystemTime::now().into()),
        stream_revision: place.revision(),
        position: place.position(),
    }))
}
