//! The log on its way to one follower: everything it lacks, then what comes.

use std::sync::Arc;
use std::time::Duration;

use cairn_event_store::sqlite::TrackingState;
use cairn_event_store::{Direction, EventStore, Filter, Position, Tracking};
use quinn::{Connection, SendStream};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::Shared;
use super::files::Sent;
use crate::chain::{Mark, PAGE_EVENTS};
use crate::error::FollowError;
use crate::gate::Synchrony;
use crate::key::MachineKey;
use crate::wire::{Answer, send, write_events, write_file, write_keys};

/// How often a follower is told how far the log goes.
const BEAT_EVERY: Duration = Duration::from_millis(200);

pub(super) struct Sending {
    shared: Arc<Shared>,
    connection: Connection,
    key: MachineKey,
    to: Arc<Mutex<SendStream>>,
    at: Mark,
    slots: u32,
    tracked: Option<Vec<Tracking>>,
    files: Sent,
    beat: watch::Sender<u64>,
}

impl Sending {
    pub(super) fn new(
        shared: Arc<Shared>,
        connection: Connection,
        key: MachineKey,
        to: Arc<Mutex<SendStream>>,
        at: Mark,
        slots: u32,
    ) -> Self {
        let beat = watch::channel(u64::MAX).0;
        Self { shared, connection, key, to, at, slots, tracked: None, files: Sent::default(), beat }
    }

    /// How far the log went when the follower was told last.
    pub(super) fn beaten(&self) -> watch::Receiver<u64> {
        self.beat.subscribe()
    }

    pub(super) async fn run(&mut self) -> Result<(), FollowError> {
        let mut head = self.shared.store.head();
        let mut beat_at = Instant::now();
        loop {
            self.send_what_is_new(&mut beat_at).await?;
            let at = self.at.position;
            let more = async { head.wait_for(|head| head.0 > at).await.map(drop).map_err(FollowError::cut) };
            let beat_is_due = tokio::select! {
                more = more => more.map(|()| false)?,
                () = tokio::time::sleep_until(beat_at) => true,
            };
            if beat_is_due {
                self.send_what_else_is_new().await?;
                self.beat(&mut beat_at).await?;
            }
        }
    }

    /// Sends the events that are there, with the keys they need and how far imports had got with them.
    async fn send_what_is_new(&mut self, beat_at: &mut Instant) -> Result<(), FollowError> {
        let state = self.shared.store.tracking_state().await?;
        // The engine shows a commit a moment before it is there for readers.
        let mut head = self.shared.store.head();
        head.wait_for(|head| *head >= state.head).await.map_err(FollowError::cut)?;
        while self.at.position < state.head.0 {
            self.send_page(&state).await?;
            if Instant::now() >= *beat_at {
                self.beat(beat_at).await?;
            }
        }
        if self.tracked.as_ref() != Some(&state.sources) && self.at.position == state.head.0 {
            let segment = write_events(self.at, &[], Some(&state.sources)).0;
            self.send_segment(&segment).await?;
            self.tracked = Some(state.sources);
        }
        Ok(())
    }

    /// Sends keys that no event needs yet, and small files: with a beat, which is soon enough and spares the disk.
    async fn send_what_else_is_new(&mut self) -> Result<(), FollowError> {
        self.send_keys().await?;
        let data = self.shared.folder.data().to_owned();
        let mut files = std::mem::take(&mut self.files);
        let look = move || {
            let changed = files.changed(&data);
            (files, changed)
        };
        let (files, changed) = tokio::task::spawn_blocking(look).await.map_err(FollowError::cut)?;
        self.files = files;
        for file in changed {
            self.send_segment(&write_file(&file)).await?;
        }
        Ok(())
    }

    async fn send_page(&mut self, state: &TrackingState) -> Result<(), FollowError> {
        let from = Position(self.at.position + 1);
        let filter = Filter::default();
        let page = self.shared.store.read_all(from, Direction::Forwards, &filter, PAGE_EVENTS).await?;
        let mut events = page.events;
        events.retain(|event| event.position <= state.head);
        let last = events.last().is_some_and(|event| event.position == state.head);
        let tracked = (last && self.tracked.as_ref() != Some(&state.sources)).then_some(&state.sources[..]);
        let (segment, mark) = write_events(self.at, &events, tracked);
        // A key is durable before an event that needs it, so those that are there now suffice.
        self.send_keys().await?;
        self.send_segment(&segment).await?;
        if tracked.is_some() {
            self.tracked = Some(state.sources.clone());
        }
        self.at = mark;
        self.shared.roster.sent(self.key, mark);
        Ok(())
    }

    async fn send_keys(&mut self) -> Result<(), FollowError> {
        let shared = Arc::clone(&self.shared);
        let keyring = shared.keys.keyring();
        while self.slots < keyring.end_slot().await? {
            let wrapped = keyring.wrapped_from(self.slots).await?;
            self.send_segment(&write_keys(&wrapped)).await?;
            self.slots = wrapped.end;
        }
        Ok(())
    }

    async fn send_segment(&mut self, segment: &[u8]) -> Result<(), FollowError> {
        // It waits here while the follower has as many as may be under way.
        let mut stream = self.connection.open_uni().await.map_err(FollowError::cut)?;
        stream.write_all(segment).await.map_err(FollowError::cut)?;
        stream.finish().map_err(FollowError::cut)
    }

    async fn beat(&mut self, beat_at: &mut Instant) -> Result<(), FollowError> {
        let head = self.shared.store.head().borrow().0;
        let synchronous = *self.shared.gate.synchrony().borrow() == Synchrony::Synchronous;
        send(&mut *self.to.lock().await, &Answer::Beat { head, synchronous }).await?;
        self.beat.send_replace(head);
        *beat_at = Instant::now() + BEAT_EVERY;
        Ok(())
    }
}
