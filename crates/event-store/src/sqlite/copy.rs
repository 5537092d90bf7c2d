//! A copy, in the tables of the log, of a log that a server keeps: for reading, and for judging appends.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use rusqlite::OptionalExtension;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::failure::{closed, store_error};
use super::reader::Reader;
use super::schema::Kind;
use super::writer::Job;
use super::{OpenError, SqliteStore};
use crate::clock::from_micros;
use crate::event::{Direction, NewAppend, RecordedEvent, Revision, Tracking};
use crate::port::StoreError;
use crate::view::View;

/// The last record of the server's log that a copy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Its number in the server's stream.
    pub(crate) revision: u64,
    /// The id that the server knows it by.
    pub(crate) id: Uuid,
}

/// What follows in the server's log: all of it is taken over, or nothing.
#[derive(Debug)]
pub(crate) struct Copied {
    /// The events, in order.
    pub(crate) events: Vec<RecordedEvent>,
    /// The upstream positions recorded with them, in order.
    pub(crate) tracked: Vec<Tracking>,
    /// The last record of them.
    pub(crate) mark: Mark,
}

/// What a batch of appends must know of the log.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    streams: HashSet<Arc<str>>,
    ids: Vec<Uuid>,
    sources: HashSet<Arc<str>>,
}

impl Wanted {
    /// What these appends must know.
    pub(crate) fn by<'a>(appends: impl Iterator<Item = &'a NewAppend>) -> Self {
        let mut wanted = Self::default();
        for append in appends {
            wanted.sources.extend(append.tracking.iter().map(|tracking| Arc::clone(&tracking.source)));
            for entry in &append.streams {
                wanted.streams.insert(Arc::clone(&entry.stream));
                wanted.ids.extend(entry.events.iter().map(|event| event.id));
            }
        }
        wanted
    }
}

impl SqliteStore {
    /// Opens a copy, or begins one. It takes no appends of its own: see [`copy`](Self::copy).
    pub(crate) fn open_copy(path: &Path, brain: Uuid) -> Result<Self, OpenError> {
        Self::open_kind(path, brain, Kind::Copy)
    }

    /// Takes over what follows in the server's log; returns when it is visible.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where it does not join on to what the copy has.
    pub(crate) async fn copy(&self, copied: Copied) -> Result<(), StoreError> {
        let Copied { events, tracked, mark } = copied;
        self.take_over(events, tracked, Some(mark)).await
    }

    /// Writes events of another log as they stand there; returns when they are visible.
    pub(super) async fn take_over(
        &self,
        events: Vec<RecordedEvent>,
        tracked: Vec<Tracking>,
        mark: Option<Mark>,
    ) -> Result<(), StoreError> {
        let (reply, done) = oneshot::channel();
        self.queue.send(Job::Copy { events, tracked, mark, reply }).await.map_err(|_| closed())?;
        done.await.map_err(|_| closed())?
    }

    /// How far the server's log has been copied.
    pub(crate) async fn mark(&self) -> Result<Option<Mark>, StoreError> {
        self.readers.run(|reader| reader.mark()).await
    }

    /// What a batch must know, as of the last commit. Only whoever copies may rely on it.
    pub(crate) async fn look(&self, wanted: Wanted) -> Result<View, StoreError> {
        self.readers.run(move |reader| reader.look(&wanted)).await
    }
}

impl Reader<'_> {
    fn mark(&self) -> Result<Option<Mark>, StoreError> {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 16]>(1)?));
        let found = self
            .connection
            .query_row("SELECT revision, id FROM upstream", [], read)
            .optional()
            .map_err(|error| store_error(&error))?;
        Ok(found.map(|(revision, id)| Mark { revision: revision.cast_unsigned(), id: Uuid::from_bytes(id) }))
    }

    fn look(&self, wanted: &Wanted) -> Result<View, StoreError> {
        let recorded_at = if self.head > 0 { self.recorded_at(self.head)? } else { 0 };
        let mut revisions = HashMap::with_capacity(wanted.streams.len());
        for stream in &wanted.streams {
            let last = self.stream(stream, Revision(u64::MAX), Direction::Backwards, 1)?;
            revisions.insert(Arc::clone(stream), last.first().map(|event| event.revision.0));
        }
        let mut tracked = HashMap::with_capacity(wanted.sources.len());
        for source in &wanted.sources {
            tracked.insert(Arc::clone(source), self.tracking(source)?);
        }
        let mut existing = Vec::new();
        for id in &wanted.ids {
            existing.extend(self.event(*id)?);
        }
        let head = self.head.cast_unsigned();
        Ok(View::new(self.brain, head, from_micros(recorded_at), revisions, tracked, existing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{BRAIN, event};
    use crate::event::{ExpectedRevision, Position, StreamAppend};
    use crate::port::EventStore;

    /// What follows in the server's log after so many events.
    async fn following(copy: &SqliteStore, stream: &str) -> Copied {
        let entry = StreamAppend {
            stream: stream.into(),
            expected: ExpectedRevision::Any,
            events: vec![event("1"), event("2")],
        };
        let append = NewAppend { streams: vec![entry], tracking: None };
        let mut view = copy.look(Wanted::by([&append].into_iter())).await.expect("looked");
        let position = view.write(&append).position;
        let mark = Mark { revision: position.0, id: Uuid::now_v7() };
        Copied { events: view.written, tracked: Vec::new(), mark }
    }

    #[tokio::test]
    async fn what_joins_on_is_taken_over_and_noted() {
        let folder = tempfile::tempdir().expect("a folder");
        let copy = SqliteStore::open_copy(&folder.path().join("copy.db"), BRAIN).expect("opens");
        assert_eq!(copy.mark().await.expect("read"), None);
        for stream in ["x", "y", "x"] {
            let next = following(&copy, stream).await;
            let (mark, last) = (next.mark, next.events[1].clone());
            copy.copy(next).await.expect("it joins on");
            assert_eq!(copy.mark().await.expect("read"), Some(mark));
            assert_eq!(copy.event(last.id).await.expect("read"), Some(last));
        }
        copy.close().await;
        let copy = SqliteStore::open_copy(&folder.path().join("copy.db"), BRAIN).expect("opens");
        assert_eq!(*copy.head().borrow(), Position(6));
        assert_eq!(copy.mark().await.expect("read").map(|mark| mark.revision), Some(6));
    }

    #[tokio::test]
    async fn what_does_not_join_on_is_refused_as_a_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let copy = SqliteStore::open_copy(&folder.path().join("copy.db"), BRAIN).expect("opens");
        let first = following(&copy, "x").await;
        let (mark, known) = (first.mark, first.events[0].id);
        copy.copy(first).await.expect("it joins on");
        let spoil: [fn(&mut Copied, Uuid); 4] = [
            |next, _| next.events[1].position = Position(9),
            |next, _| next.events[1].revision = Revision(9),
            |next, known| next.events[1].id = known,
            |next, _| drop(next.events.remove(0)),
        ];
        for spoil in spoil {
            let mut next = following(&copy, "x").await;
            spoil(&mut next, known);
            let refused = copy.copy(next).await.expect_err("it does not join on");
            assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
            assert_eq!((*copy.head().borrow(), copy.mark().await.expect("read")), (Position(2), Some(mark)));
        }
        copy.copy(following(&copy, "x").await).await.expect("the copy goes on");
    }
}
