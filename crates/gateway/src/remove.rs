//! Deleting streams and ending them for good. Nothing leaves the log; readers are told it is gone.

use std::sync::Arc;

use bytes::Bytes;
use cairn_event_store::{AppendError, ExpectedRevision, NewAppend, Position, Revision, StreamAppend};

use crate::authority::Caller;
use crate::failure::Failure;
use crate::lifecycle::{Fate, Known, TOMBSTONE_TYPE};
use crate::names::{Kind, metadata_stream};
use crate::write::{Writer, contended, own_event, read_only};

/// How much is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// What there is now. The stream can be begun anew.
    Delete,
    /// The stream, for ever.
    Tombstone,
}

impl Writer {
    /// Removes a stream; returns the position of what was written about it, if anything had to be.
    pub(crate) async fn remove(
        &self,
        caller: &Caller,
        removal: Removal,
        stream: &Arc<str>,
        expected: ExpectedRevision,
    ) -> Result<Option<Position>, Failure> {
        if Kind::of(stream) != Kind::Plain {
            return Err(read_only(stream));
        }
        for _ in Self::attempts() {
            let known = self.lifecycles.look(stream).await?;
            let last = self.last(stream).await?.revision;
            check(removal, stream, expected, known, last)?;
            if known.fate == Fate::Deleted && removal == Removal::Delete {
                return Ok(None);
            }
            let append = self.removal(caller, removal, stream, expected, known).await?;
            match self.store.append(append).await {
                Ok(appended) => {
                    self.lifecycles.look(stream).await?;
                    return Ok(Some(appended.position));
                }
                Err(AppendError::WrongExpectedRevision { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(contended(stream))
    }

    async fn removal(
        &self,
        caller: &Caller,
        removal: Removal,
        stream: &Arc<str>,
        expected: ExpectedRevision,
        known: Known,
    ) -> Result<NewAppend, Failure> {
        let metadata = match removal {
            Removal::Delete => self.metadata_entry(caller, stream, known.revision, None).await?,
            Removal::Tombstone => StreamAppend {
                stream: metadata_stream(stream),
                expected: known.revision.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact),
                events: vec![own_event(caller, TOMBSTONE_TYPE, Bytes::from_static(b"{}"))],
            },
        };
        let mut streams = vec![metadata];
        // Held to what the client saw also where somebody appends at this moment.
        if let ExpectedRevision::Exact(_) = expected {
            streams.push(StreamAppend { stream: Arc::clone(stream), expected, events: Vec::new() });
        }
        Ok(NewAppend { streams, tracking: None })
    }
}

fn check(
    removal: Removal,
    stream: &Arc<str>,
    expected: ExpectedRevision,
    known: Known,
    last: Option<Revision>,
) -> Result<(), Failure> {
    let gone = match known.fate {
        Fate::Tombstoned => true,
        Fate::Deleted => expected == ExpectedRevision::StreamExists,
        Fate::Open(_) => false,
    };
    if gone {
        return Err(Failure::StreamDeleted { stream: Arc::clone(stream) });
    }
    let holds = match (expected, removal) {
        // A stream that never was can be ended, but not deleted.
        (ExpectedRevision::Any, Removal::Tombstone) => true,
        (ExpectedRevision::Any, Removal::Delete) | (ExpectedRevision::StreamExists, _) => last.is_some(),
        (ExpectedRevision::NoStream, Removal::Tombstone) => last.is_none() || known.fate == Fate::Deleted,
        (ExpectedRevision::NoStream, Removal::Delete) => known.fate == Fate::Deleted,
        (ExpectedRevision::Exact(revision), _) => last == Some(revision),
    };
    if holds {
        return Ok(());
    }
    Err(Failure::WrongExpectedVersion { stream: Arc::clone(stream), expected, actual: last })
}
