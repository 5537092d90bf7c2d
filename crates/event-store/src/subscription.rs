//! Following the log: first what is there already, then what comes, without a gap between.
//!
//! A subscription is pulled. One that is slow reads older pages, and neither loses events nor holds a writer or
//! another reader up.

use std::sync::Arc;

use tokio::sync::watch;

use crate::event::{Direction, Filter, Position, RecordedEvent};
use crate::port::{EventStore, StoreError};

/// Follows the events after a position that pass the filter.
pub fn subscribe(store: Arc<dyn EventStore>, after: Position, filter: Filter) -> Subscription {
    let head = store.head();
    Subscription { store, filter, position: after, head }
}

/// A place in the log that moves on as events are taken.
pub struct Subscription {
    store: Arc<dyn EventStore>,
    filter: Filter,
    position: Position,
    head: watch::Receiver<Position>,
}

/// Events in the order of their positions, and how far they reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The events; none where the filter let nothing through.
    pub events: Vec<RecordedEvent>,
    /// Everything up to here has been looked at, also what the filter kept back: where to subscribe from next time.
    pub position: Position,
    /// Whether this was all there was at the moment of reading.
    pub live: bool,
}

impl Subscription {
    /// The next events, at most `max` of them and at least some progress: waits while there is nothing new. Dropping
    /// the future before it ends loses nothing; the next call begins at the same place.
    ///
    /// # Errors
    /// [`StoreError`] as of reading; [`StoreError::Unavailable`] once the store is closed and everything in it has
    /// been read. Calling again is allowed.
    pub async fn next_batch(&mut self, max: usize) -> Result<Batch, StoreError> {
        let head = self.more().await?;
        let batch = self.read(head, max).await?;
        self.position = batch.position;
        Ok(batch)
    }

    /// Waits until there is something that has not been handed out or skipped; gives the position of the last event. Dropping
    /// the future before it ends loses nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] once the store is closed and everything in it has been read.
    pub async fn more(&mut self) -> Result<Position, StoreError> {
        loop {
            // Read before the log is: whatever is published after this ends the wait below.
            let head = *self.head.borrow_and_update();
            if self.position < head {
                return Ok(head);
            }
            if self.head.changed().await.is_err() {
                return Err(StoreError::Unavailable { reason: "it was closed; open it again".into() });
            }
        }
    }

    /// Everything up to here has been handed out or kept back by the filter.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes on behind a position, because what comes before it is known from elsewhere. It never goes back.
    pub fn skip_to(&mut self, position: Position) {
        self.position = self.position.max(position);
    }

    /// Whether there is more in the log than has been handed out or skipped.
    pub fn is_behind(&self) -> bool {
        self.position < *self.head.borrow()
    }

    async fn read(&self, head: Position, max: usize) -> Result<Batch, StoreError> {
        let page = self.store.read_all(self.position.next(), Direction::Forwards, &self.filter, max).await?;
        let last = page.events.last().map_or(self.position, |event| event.position);
        let position = match page.next {
            Some(next) => Position(next.0 - 1),
            // The page ended with the log, which had at least reached the head by then.
            None => last.max(head),
        };
        Ok(Batch { events: page.events, position, live: page.next.is_none() })
    }
}
