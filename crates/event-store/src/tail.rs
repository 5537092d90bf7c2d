//! The newest events, kept in memory: what subscribers that keep up read, without touching the disk.

use std::collections::VecDeque;
use std::sync::{PoisonError, RwLock};

use crate::event::{Filter, Page, Position, RecordedEvent};
use crate::memory::page;

/// The bytes of data and metadata that are kept.
const TAIL_BYTES: usize = 16 * 1024 * 1024;
/// The events that are kept. A page can then always be cut without reaching its limit of events looked at.
const TAIL_EVENTS: usize = 16_384;

/// The last committed events, without a gap.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    ring: RwLock<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<RecordedEvent>,
    bytes: usize,
}

impl Tail {
    /// Adds events that are durable, in the order of their positions.
    pub(crate) fn extend(&self, events: Vec<RecordedEvent>) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            ring.bytes += event.size();
            ring.events.push_back(event);
        }
        while ring.bytes > TAIL_BYTES || ring.events.len() > TAIL_EVENTS {
            let Some(oldest) = ring.events.pop_front() else { break };
            ring.bytes -= oldest.size();
        }
    }

    /// Adds events as [`extend`](Self::extend) does, where others append to the same log too: what does not join on to
    /// the events kept takes their place.
    pub(crate) fn join(&self, events: Vec<RecordedEvent>) {
        let joins = {
            let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
            let next = ring.events.back().map(|last| last.position.next());
            next.is_none() || next == events.first().map(|first| first.position)
        };
        if !joins {
            self.clear();
        }
        self.extend(events);
    }

    /// The position of the newest event kept.
    pub(crate) fn newest(&self) -> Option<Position> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.events.back().map(|event| event.position)
    }

    /// Forgets everything: what was added next would not join on.
    pub(crate) fn clear(&self) {
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Ring::default();
    }

    /// A page read forwards, up to the position that is published; `None` where it begins before the oldest event
    /// kept.
    pub(crate) fn page(&self, from: Position, head: Position, filter: &Filter, limit: usize) -> Option<Page> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let oldest = ring.events.front()?.position;
        let skip = usize::try_from(from.0.checked_sub(oldest.0)?).unwrap_or(usize::MAX);
        let events = ring.events.iter().skip(skip).take_while(|event| event.position <= head);
        Some(page(events, filter, limit))
    }
}
