//! Looking through a whole log for damage. What its events say is the notary's to check.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::event::{Direction, Filter, Position, RecordedEvent, Revision};
use crate::page::MAX_PAGE_EVENTS;
use crate::port::{EventStore, StoreError};

/// How often progress is told, in events.
pub const VERIFY_PROGRESS_EVERY: u64 = 65_536;

/// How far a verification has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyProgress {
    /// The events looked at.
    pub events: u64,
    /// The events there are.
    pub total: u64,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The events found sound, from the first on.
    pub events: u64,
    /// The first damage, if there is any.
    pub damage: Option<Damage>,
}

/// Something in the log that was never written so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The first position concerned; `None` where the damage lies outside of the events, such as in an index.
    pub position: Option<Position>,
    /// What is wrong there.
    pub reason: String,
}

/// What must hold from one event to the next.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    last: Option<(Position, DateTime<Utc>)>,
    revisions: HashMap<Arc<str>, Revision>,
}

impl Sequence {
    /// Takes the next event of the log; says what is wrong with it.
    pub(crate) fn next(&mut self, event: &RecordedEvent) -> Result<(), String> {
        let expected = self.last.map_or(Position(1), |(last, _)| last.next());
        if event.position != expected {
            return Err(format!("position {expected} is missing"));
        }
        let revision = self.revisions.get(&event.stream).map_or(Revision(0), |last| last.next());
        if event.revision != revision {
            return Err(format!("{} goes on at revision {}, not {revision}", event.stream, event.revision));
        }
        if self.last.is_some_and(|(_, recorded_at)| event.recorded_at < recorded_at) {
            return Err("it was recorded before the event that precedes it".into());
        }
        self.last = Some((event.position, event.recorded_at));
        self.revisions.insert(Arc::clone(&event.stream), revision);
        Ok(())
    }
}

/// Reads a whole log through its port: positions and revisions without gaps, time that never runs back. It stops at the
/// end that the log had when it began.
///
/// # Errors
/// [`StoreError::Unavailable`] where it could not be finished. Damage is an answer, not an error.
pub async fn verify(
    log: &impl EventStore,
    mut progress: impl FnMut(VerifyProgress),
) -> Result<Verification, StoreError> {
    let total = log.head().borrow().0;
    let (mut events, mut sequence, mut told) = (0, Sequence::default(), 0);
    let damaged = |events: u64, reason: String| {
        Ok(Verification { events, damage: Some(Damage { position: Some(Position(events + 1)), reason }) })
    };
    while events < total {
        let page =
            log.read_all(Position(events + 1), Direction::Forwards, &Filter::default(), MAX_PAGE_EVENTS).await;
        let page = match page {
            Ok(page) => page.events,
            Err(StoreError::Corrupt { reason }) => return damaged(events, reason),
            Err(error) => return Err(error),
        };
        if page.is_empty() {
            return damaged(events, format!("position {} is missing", events + 1));
        }
        for event in page {
            if let Err(reason) = sequence.next(&event) {
                return damaged(events, reason);
            }
            events += 1;
        }
        if events - told >= VERIFY_PROGRESS_EVERY || events >= total {
            told = events;
            progress(VerifyProgress { events, total });
        }
    }
    Ok(Verification { events, damage: None })
}
