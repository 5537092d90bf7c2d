//! What a batch of appends knows of a log that a server keeps: what it was shown, and what the batch itself has written
//! since.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::admission::LogView;
use crate::clock::{from_micros, now_micros};
use crate::event::{Appended, NewAppend, Position, RecordedEvent, Revision, Tracking};
use crate::port::StoreError;

/// The log as the batch sees it.
pub(crate) struct View {
    brain: Uuid,
    head: u64,
    now: DateTime<Utc>,
    /// The last revision of each stream that the batch names.
    revisions: HashMap<Arc<str>, Option<u64>>,
    /// Those events of the batch that exist.
    events: HashMap<Uuid, RecordedEvent>,
    /// The position recorded for each source that the batch names.
    tracked: HashMap<Arc<str>, Option<u64>>,
    /// What is to be inserted.
    pub(crate) written: Vec<RecordedEvent>,
    /// The sources whose position is to be recorded.
    pub(crate) moved: HashMap<Arc<str>, u64>,
    /// The appends that were written, in order.
    pub(crate) appends: Vec<Written>,
}

/// What one append has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    /// How many events.
    pub(crate) events: usize,
    /// The upstream position recorded with them.
    pub(crate) tracking: Option<Tracking>,
}

impl View {
    pub(crate) fn new(
        brain: Uuid,
        head: u64,
        recorded_at: DateTime<Utc>,
        revisions: HashMap<Arc<str>, Option<u64>>,
        tracked: HashMap<Arc<str>, Option<u64>>,
        existing: Vec<RecordedEvent>,
    ) -> Self {
        let events = existing.into_iter().map(|event| (event.id, event)).collect();
        // The clock may step back, and another process may have another one; the log's time must not.
        let now = from_micros(now_micros()).max(recorded_at);
        Self {
            brain,
            head,
            now,
            revisions,
            events,
            tracked,
            written: Vec::new(),
            moved: HashMap::new(),
            appends: Vec::new(),
        }
    }

    /// The position of the last event, those of the batch included.
    pub(crate) fn head(&self) -> Position {
        Position(self.head)
    }

    /// The time that the batch's events are stamped with.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Whether there is anything to commit.
    pub(crate) fn is_changed(&self) -> bool {
        !self.written.is_empty() || !self.moved.is_empty()
    }

    pub(crate) fn write(&mut self, append: &NewAppend) -> Appended {
        let mut revisions = Vec::with_capacity(append.streams.len());
        let before = self.written.len();
        for entry in &append.streams {
            if entry.events.is_empty() {
                continue;
            }
            let last = self.revisions.entry(Arc::clone(&entry.stream)).or_default();
            for event in &entry.events {
                let revision = last.map_or(0, |last| last + 1);
                *last = Some(revision);
                self.head += 1;
                let stream = Arc::clone(&entry.stream);
                let (revision, position) = (Revision(revision), Position(self.head));
                let event = RecordedEvent::new(event.clone(), stream, revision, position, self.brain, self.now);
                self.events.insert(event.id, event.clone());
                self.written.push(event);
            }
            revisions.extend(last.map(Revision));
        }
        if let Some(tracking) = &append.tracking {
            self.tracked.insert(Arc::clone(&tracking.source), Some(tracking.position));
            self.moved.insert(Arc::clone(&tracking.source), tracking.position);
        }
        self.appends.push(Written { events: self.written.len() - before, tracking: append.tracking.clone() });
        Appended { position: self.head(), revisions, repeated: false }
    }
}

impl LogView for View {
    fn event(&mut self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        Ok(self.events.get(&id).cloned())
    }

    fn revision(&mut self, stream: &str) -> Result<Option<Revision>, StoreError> {
        Ok(self.revisions.get(stream).copied().flatten().map(Revision))
    }

    fn tracked(&mut self, source: &str) -> Result<Option<u64>, StoreError> {
        Ok(self.tracked.get(source).copied().flatten())
    }
}
