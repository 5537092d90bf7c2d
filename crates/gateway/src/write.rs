//! Appending in a caller's name.

use std::sync::Arc;

use bytes::Bytes;
use cairn_event_store::event::{MAX_APPEND_EVENTS, MAX_EVENT_BYTES};
use cairn_event_store::{
    AppendError, Direction, ExpectedRevision, NewAppend, NewEvent, Position, Revision, SharedStore, StoreError,
    StreamAppend,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::authority::Caller;
use crate::envelope::Proposal;
use crate::failure::Failure;
use crate::lifecycle::{DELETED, Fate, Lifecycles, METADATA_TYPE};
use crate::meter::Meter;
use crate::names::{Kind, metadata_stream};

/// The most bytes of data and metadata one append may bring.
pub const MAX_APPEND_BYTES: usize = 16 * 1024 * 1024;
/// How often a write is decided anew because somebody else wrote in between.
const ATTEMPTS: usize = 10;

/// What a client wants to append.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) stream: Arc<str>,
    pub(crate) expected: ExpectedRevision,
    pub(crate) events: Vec<Proposal>,
}

/// An append that may be made as far as can be told without the log.
#[derive(Debug)]
pub(crate) struct Permitted {
    append: Append,
    caller: Arc<Caller>,
    kind: Kind,
    fate: Fate,
}

/// What an append came to: the stream's last revision and the position of its last event, if it has any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) revision: Option<Revision>,
    pub(crate) position: Option<Position>,
}

/// Writes for all calls.
pub(crate) struct Writer {
    pub(crate) store: SharedStore,
    pub(crate) lifecycles: Arc<Lifecycles>,
    pub(crate) meter: Meter,
}

impl Append {
    /// Counts another event in.
    pub(crate) fn push(&mut self, event: Proposal, bytes: &mut usize) -> Result<(), Failure> {
        *bytes += event.size();
        if *bytes > MAX_APPEND_BYTES {
            return Err(Failure::TooLarge { limit: MAX_APPEND_BYTES });
        }
        if self.events.len() == MAX_APPEND_EVENTS {
            return Err(Failure::Invalid(format!("an append has at most {MAX_APPEND_EVENTS} events")));
        }
        self.events.push(event);
        Ok(())
    }
}

impl Writer {
    /// Says whether the append may be made. Appends are made in the order in which this is asked.
    pub(crate) async fn permit(&self, caller: Arc<Caller>, append: Append) -> Result<Permitted, Failure> {
        let kind = Kind::of(&append.stream);
        let subject = match &kind {
            Kind::ReadOnly => return Err(read_only(&append.stream)),
            Kind::Plain => &append.stream,
            Kind::MetadataOf(of) => {
                append.events.iter().try_for_each(check_metadata)?;
                of
            }
        };
        let fate = self.lifecycles.of(subject).await?.fate;
        if fate == Fate::Tombstoned {
            return Err(Failure::StreamDeleted { stream: Arc::clone(subject) });
        }
        Ok(Permitted { append, caller, kind, fate })
    }

    /// Makes the append; returns when it is durable.
    pub(crate) async fn append(&self, permitted: Permitted) -> Result<Written, Failure> {
        let events = permitted.append.events.len();
        let outcome = self.carry_out(permitted).await;
        self.meter.count(events, &outcome);
        outcome
    }

    async fn carry_out(&self, permitted: Permitted) -> Result<Written, Failure> {
        let Permitted { append, caller, kind, fate } = permitted;
        if kind == Kind::Plain && fate == Fate::Deleted && !append.events.is_empty() {
            return self.revive(&caller, append).await;
        }
        let written = self.plain(&caller, &append).await?;
        if let Kind::MetadataOf(of) = kind {
            self.lifecycles.look(&of).await?;
        }
        Ok(written)
    }

    async fn plain(&self, caller: &Caller, append: &Append) -> Result<Written, Failure> {
        let events = envelopes(caller, &append.events, &[])?;
        let entry = StreamAppend { stream: Arc::clone(&append.stream), expected: append.expected, events };
        let appended = match self.store.append(NewAppend { streams: vec![entry], tracking: None }).await {
            Err(AppendError::EventIdReused { .. }) => return self.renamed(caller, append).await,
            appended => appended?,
        };
        match appended.revisions.last() {
            Some(revision) => Ok(Written { revision: Some(*revision), position: Some(appended.position) }),
            None => Ok(self.last(&append.stream).await?),
        }
    }

    /// Appends events whose ids the log knows already. Clients may use an id once in every stream, the log once at all:
    /// what stands in another stream is known to the log by an id made of the stream and the client's id.
    async fn renamed(&self, caller: &Caller, append: &Append) -> Result<Written, Failure> {
        let mut taken = Vec::new();
        for event in &append.events {
            let holder = self.store.event(event.id).await?;
            taken.push(holder.is_some_and(|holder| holder.stream != append.stream));
        }
        let events = envelopes_in(caller, append, &taken)?;
        let entry = StreamAppend { stream: Arc::clone(&append.stream), expected: append.expected, events };
        match self.store.append(NewAppend { streams: vec![entry], tracking: None }).await {
            Ok(appended) => {
                Ok(Written { revision: appended.revisions.last().copied(), position: Some(appended.position) })
            }
            Err(AppendError::EventIdReused { id }) => Err(self.explain(append, id).await?),
            Err(error) => Err(error.into()),
        }
    }

    /// An append of which the stream has some events and not others is told as what it is to the protocol: late.
    async fn explain(&self, append: &Append, id: Uuid) -> Result<Failure, StoreError> {
        let actual = self.last(&append.stream).await?.revision;
        let holds = match append.expected {
            ExpectedRevision::Any | ExpectedRevision::StreamExists => true,
            ExpectedRevision::NoStream => actual.is_none(),
            ExpectedRevision::Exact(revision) => actual == Some(revision),
        };
        let (stream, expected) = (Arc::clone(&append.stream), append.expected);
        Ok(if holds {
            Failure::IdTaken { id }
        } else {
            Failure::WrongExpectedVersion { stream, expected, actual }
        })
    }

    /// Appends to a deleted stream, and makes it readable from there on.
    async fn revive(&self, caller: &Caller, append: Append) -> Result<Written, Failure> {
        for _ in 0..ATTEMPTS {
            let known = self.lifecycles.look(&append.stream).await?;
            match known.fate {
                Fate::Tombstoned => return Err(Failure::StreamDeleted { stream: append.stream }),
                // Somebody else was quicker.
                Fate::Open(_) => return self.plain(caller, &append).await,
                Fate::Deleted => {}
            }
            let last = self.last(&append.stream).await?.revision;
            let expected = revived(&append, last)?;
            let from = last.map_or(0, |last| last.0 + 1);
            let metadata = self.metadata_entry(caller, &append.stream, known.revision, Some(from)).await?;
            let events = envelopes(caller, &append.events, &[])?;
            let entry = StreamAppend { stream: Arc::clone(&append.stream), expected, events };
            // The client's events come last, so that the append's position is theirs.
            match self.store.append(NewAppend { streams: vec![metadata, entry], tracking: None }).await {
                Ok(appended) => {
                    self.lifecycles.look(&append.stream).await?;
                    let revision = appended.revisions.last().copied();
                    return Ok(Written { revision, position: Some(appended.position) });
                }
                Err(AppendError::WrongExpectedRevision { .. }) => {}
                // Some of it has been appended before, by this very call or another one.
                Err(AppendError::EventIdReused { .. }) => return self.renamed(caller, &append).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(contended(&append.stream))
    }

    /// The entry that writes a stream's metadata anew: with another `$tb`, all else as it was.
    pub(crate) async fn metadata_entry(
        &self,
        caller: &Caller,
        stream: &Arc<str>,
        revision: Option<Revision>,
        truncate_before: Option<u64>,
    ) -> Result<StreamAppend, Failure> {
        let name = metadata_stream(stream);
        let last = self.store.read_stream(&name, revision.unwrap_or_default(), Direction::Forwards, 1).await?;
        let content = last.first().and_then(|last| serde_json::from_slice::<Map<String, Value>>(&last.data).ok());
        let mut content = content.unwrap_or_default();
        content.insert("$tb".into(), truncate_before.unwrap_or(DELETED).into());
        let data = serde_json::to_vec(&content).expect("a map of JSON").into();
        Ok(StreamAppend {
            stream: name,
            expected: revision.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact),
            events: vec![own_event(caller, METADATA_TYPE, data)],
        })
    }

    /// The last event of a stream.
    pub(crate) async fn last(&self, stream: &str) -> Result<Written, StoreError> {
        let last = self.store.read_stream(stream, Revision(u64::MAX), Direction::Backwards, 1).await?;
        let last = last.first();
        Ok(Written { revision: last.map(|event| event.revision), position: last.map(|event| event.position) })
    }

    /// Decides and writes until nobody comes in between.
    pub(crate) fn attempts() -> std::ops::Range<usize> {
        0..ATTEMPTS
    }
}

/// What a deleted stream must be at for this append: to the client it does not exist, to the log it does.
fn revived(append: &Append, last: Option<Revision>) -> Result<ExpectedRevision, Failure> {
    let stream = || Arc::clone(&append.stream);
    match append.expected {
        ExpectedRevision::StreamExists => return Err(Failure::StreamDeleted { stream: stream() }),
        ExpectedRevision::Exact(expected) if last != Some(expected) => {
            return Err(Failure::WrongExpectedVersion {
                stream: stream(),
                expected: append.expected,
                actual: last,
            });
        }
        ExpectedRevision::Exact(_) | ExpectedRevision::Any | ExpectedRevision::NoStream => {}
    }
    Ok(last.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact))
}

/// An event of the gateway's own making, in the caller's name.
pub(crate) fn own_event(caller: &Caller, event_type: &str, data: Bytes) -> NewEvent {
    let id = Uuid::now_v7();
    let content_type = Bytes::from_static(crate::envelope::JSON.as_bytes());
    let proposal = Proposal { id, event_type: event_type.into(), content_type, custom: Bytes::new(), data };
    proposal.envelope(caller, id, id)
}

pub(crate) fn read_only(stream: &str) -> Failure {
    Failure::AccessDenied(format!(
        "stream '{stream}' is read-only here; memories are written through the node's API"
    ))
}

pub(crate) fn contended(stream: &str) -> Failure {
    StoreError::Unavailable { reason: format!("others keep writing to '{stream}' and its metadata; try again") }
        .into()
}

/// A metadata stream says what has become of another one, so that only what can be understood may stand there.
fn check_metadata(event: &Proposal) -> Result<(), Failure> {
    if &*event.event_type != METADATA_TYPE {
        return Err(Failure::Invalid(format!("a metadata stream takes events of type {METADATA_TYPE} only")));
    }
    match serde_json::from_slice::<Map<String, Value>>(&event.data) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Invalid(format!("a stream's metadata is a JSON object: {error}"))),
    }
}

fn envelopes_in(caller: &Caller, append: &Append, taken: &[bool]) -> Result<Vec<NewEvent>, Failure> {
    let rename = |event: &Proposal| Uuid::new_v5(&event.id, append.stream.as_bytes());
    let names: Vec<_> = append
        .events
        .iter()
        .zip(taken)
        .map(|(event, taken)| if *taken { rename(event) } else { event.id })
        .collect();
    envelopes(caller, &append.events, &names)
}

/// The envelopes of the events, under their own ids or those given.
fn envelopes(caller: &Caller, events: &[Proposal], ids: &[Uuid]) -> Result<Vec<NewEvent>, Failure> {
    let correlation = events.first().map(|event| event.id).unwrap_or_default();
    let envelope = |(index, event): (usize, &Proposal)| {
        let id = ids.get(index).copied().unwrap_or(event.id);
        let envelope = event.envelope(caller, correlation, id);
        if envelope.data.len() + envelope.metadata.len() > MAX_EVENT_BYTES {
            return Err(Failure::TooLarge { limit: MAX_EVENT_BYTES });
        }
        Ok(envelope)
    };
    events.iter().enumerate().map(envelope).collect()
}
