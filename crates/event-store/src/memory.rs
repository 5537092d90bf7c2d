//! The log in memory: the reference that the other adapters are compared with, and a quick store for tests.
//!
//! It keeps every invariant except durability: it ends with the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use uuid::Uuid;

use crate::admission::{LogView, Verdict, check_limits, judge};
use crate::clock::{from_micros, now_micros};
use crate::event::{
    Appended, Direction, Filter, NewAppend, NewEvent, Page, Position, RecordedEvent, Revision, Snapshot,
};
use crate::page::{MAX_PAGE_EVENTS, PageBudget};
use crate::port::{AppendError, EventStore, StoreError};

/// An event log that lives and dies with the process.
#[derive(Debug)]
pub struct MemoryStore {
    log: Mutex<Log>,
    head: watch::Sender<Position>,
}

#[derive(Debug)]
struct Log {
    brain: Uuid,
    events: Vec<RecordedEvent>,
    /// The positions of each stream's events, by revision.
    streams: HashMap<Arc<str>, Vec<Position>>,
    ids: HashMap<Uuid, Position>,
    tracking: HashMap<Arc<str>, u64>,
    snapshots: HashMap<String, Snapshot>,
}

impl MemoryStore {
    /// An empty log of this brain.
    pub fn new(brain: Uuid) -> Self {
        let log = Log {
            brain,
            events: Vec::new(),
            streams: HashMap::new(),
            ids: HashMap::new(),
            tracking: HashMap::new(),
            snapshots: HashMap::new(),
        };
        Self { log: Mutex::new(log), head: watch::Sender::new(Position::START) }
    }

    /// A poisoned lock is taken all the same: every change is made after the last step that could panic.
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn append(&self, append: NewAppend) -> Result<Appended, AppendError> {
        check_limits(&append)?;
        let mut log = self.log();
        let appended = match judge(&mut *log, &append)? {
            Verdict::Repeated(first) => first,
            Verdict::Write => log.write(append),
        };
        // Published under the lock, so that heads are published in order.
        let head = log.head();
        self.head.send_if_modified(|published| std::mem::replace(published, head) != head);
        Ok(appended)
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        filter: &Filter,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let log = self.log();
        Ok(match direction {
            Direction::Forwards => {
                let start = log.index(from);
                page(log.events[start..].iter(), filter, limit)
            }
            Direction::Backwards => {
                let end = log.index(Position(from.0.saturating_add(1)));
                page(log.events[..end].iter().rev(), filter, limit)
            }
        })
    }

    async fn read_stream(
        &self,
        stream: &str,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let log = self.log();
        let positions = log.streams.get(stream).map_or(&[][..], Vec::as_slice);
        let from = usize::try_from(from.0).unwrap_or(usize::MAX);
        let event = |position: &Position| log.events[log.index(*position)].clone();
        Ok(match direction {
            Direction::Forwards => positions.iter().skip(from).take(limit).map(event).collect(),
            Direction::Backwards => {
                let end = from.saturating_add(1).min(positions.len());
                positions[..end].iter().rev().take(limit).map(event).collect()
            }
        })
    }

    async fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        LogView::event(&mut *self.log(), id)
    }

    async fn position_at(&self, time: DateTime<Utc>) -> Result<Position, StoreError> {
        let log = self.log();
        let count = log.events.partition_point(|event| event.recorded_at <= time);
        Ok(Position(count as u64))
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    async fn tracking(&self, source: &str) -> Result<Option<u64>, StoreError> {
        self.log().tracked(source)
    }

    async fn load_snapshot(&self, stream: &str) -> Result<Option<Snapshot>, StoreError> {
        Ok(self.log().snapshots.get(stream).cloned())
    }

    async fn save_snapshot(&self, stream: &str, snapshot: Option<Snapshot>) -> Result<(), StoreError> {
        let mut log = self.log();
        match snapshot {
            Some(snapshot) => log.snapshots.insert(stream.to_owned(), snapshot),
            None => log.snapshots.remove(stream),
        };
        Ok(())
    }
}

impl Log {
    fn head(&self) -> Position {
        Position(self.events.len() as u64)
    }

    /// Where the event of a position is kept, or would be if there were one.
    fn index(&self, position: Position) -> usize {
        let index = usize::try_from(position.0.saturating_sub(1)).unwrap_or(usize::MAX);
        index.min(self.events.len())
    }

    fn write(&mut self, append: NewAppend) -> Appended {
        // The clock may step back; the log's time must not.
        let now = from_micros(now_micros());
        let recorded_at = self.events.last().map_or(now, |last| last.recorded_at.max(now));
        let mut revisions = Vec::with_capacity(append.streams.len());
        for entry in append.streams {
            let mut last = None;
            for event in entry.events {
                last = Some(self.push(&entry.stream, event, recorded_at));
            }
            revisions.extend(last);
        }
        if let Some(tracking) = append.tracking {
            self.tracking.insert(tracking.source, tracking.position);
        }
        Appended { position: self.head(), revisions, repeated: false }
    }

    fn push(&mut self, stream: &Arc<str>, event: NewEvent, recorded_at: DateTime<Utc>) -> Revision {
        let position = self.head().next();
        let positions = self.streams.entry(stream.clone()).or_default();
        let revision = Revision(positions.len() as u64);
        positions.push(position);
        self.ids.insert(event.id, position);
        self.events.push(RecordedEvent::new(event, stream.clone(), revision, position, self.brain, recorded_at));
        revision
    }
}

impl LogView for Log {
    fn event(&mut self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        Ok(self.ids.get(&id).map(|position| self.events[self.index(*position)].clone()))
    }

    fn revision(&mut self, stream: &str) -> Result<Option<Revision>, StoreError> {
        Ok(self.streams.get(stream).map(|positions| Revision(positions.len() as u64 - 1)))
    }

    fn tracked(&mut self, source: &str) -> Result<Option<u64>, StoreError> {
        Ok(self.tracking.get(source).copied())
    }
}

/// Cuts a page from events that come in the direction of reading.
pub(crate) fn page<'a>(events: impl Iterator<Item = &'a RecordedEvent>, filter: &Filter, limit: usize) -> Page {
    let mut budget = PageBudget::new(limit);
    // As many as there may be: growing step by step, a full page would be moved a dozen times.
    let most = events.size_hint().1.unwrap_or(0).min(limit.min(MAX_PAGE_EVENTS));
    let mut page = Page { events: Vec::with_capacity(most), next: None };
    for event in events {
        if budget.is_spent() {
            page.next = Some(event.position);
            break;
        }
        budget.look();
        if filter.matches(&event.stream, &event.event_type) {
            budget.take(event.size());
            page.events.push(event.clone());
        }
    }
    page
}
