//! The events between the log and the brokers' acknowledgement.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cairn_event_store::Position;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{SAVE_EVENTS, WINDOW_BYTES, WINDOW_EVENTS};

/// A full window takes more when it is this empty, so that the reader is not woken for each single event.
const LOW_EVENTS: usize = WINDOW_EVENTS / 4 * 3;
const LOW_BYTES: usize = WINDOW_BYTES / 4 * 3;

/// What is on its way, in the order of the log, and how far all of it has arrived.
///
/// The pump enters events, the client's thread reports them. An event's ticket is its number since the window was
/// made; the acknowledged position moves over every front run of acknowledged events.
pub(super) struct Window {
    state: Mutex<Inner>,
    /// There is room again.
    room: Notify,
    /// Much was acknowledged since the last save.
    progress: Notify,
    /// An event failed.
    failed: Notify,
}

struct Inner {
    entries: VecDeque<Entry>,
    /// The ticket of the front entry.
    front: usize,
    bytes: usize,
    acknowledged: Position,
    delivered: u64,
    unsaved: usize,
    progressed: Instant,
    trouble: Option<String>,
    log_trouble: Option<String>,
    failure: Option<Failure>,
}

struct Entry {
    position: Position,
    bytes: usize,
    recorded_at: i64,
    acknowledged: bool,
}

/// An event that the client gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) position: Position,
    pub(super) bytes: usize,
    pub(super) stream: String,
    pub(super) topic: String,
    pub(super) reason: String,
    pub(super) too_large: bool,
}

/// An event that was refused, as the client reports it.
pub(super) struct Refusal {
    pub(super) stream: String,
    pub(super) topic: String,
    pub(super) reason: String,
    pub(super) too_large: bool,
}

/// The window at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// Everything up to here has been acknowledged.
    pub(super) acknowledged: Position,
    /// How many events were acknowledged since the window was made, in whatever order.
    pub(super) delivered: u64,
    pub(super) in_flight: usize,
    /// When the log took the oldest event that waits, in milliseconds since the Unix epoch.
    pub(super) oldest: Option<i64>,
    /// For how long nothing was acknowledged.
    pub(super) quiet: Duration,
    /// What the client said last of the brokers, if nothing was acknowledged since.
    pub(super) trouble: Option<String>,
    /// Why the log cannot be read.
    pub(super) log_trouble: Option<String>,
}

impl Window {
    /// An empty window of a publisher that begins after a position.
    pub(super) fn new(after: Position) -> Self {
        let inner = Inner {
            entries: VecDeque::new(),
            front: 0,
            bytes: 0,
            acknowledged: after,
            delivered: 0,
            unsaved: 0,
            progressed: Instant::now(),
            trouble: None,
            log_trouble: None,
            failure: None,
        };
        Self { state: Mutex::new(inner), room: Notify::new(), progress: Notify::new(), failed: Notify::new() }
    }

    /// Waits until the window takes another event.
    pub(super) async fn room(&self) {
        if self.state.lock().is_full() {
            while !self.state.lock().is_low() {
                self.room.notified().await;
            }
        }
    }

    /// Takes an event that is about to be sent. The answer is its ticket.
    pub(super) fn enter(&self, position: Position, bytes: usize, recorded_at: i64) -> usize {
        let mut inner = self.state.lock();
        if inner.entries.is_empty() {
            // Nothing was on its way: the silence so far says nothing of the brokers.
            inner.progressed = Instant::now();
        }
        inner.bytes += bytes;
        inner.entries.push_back(Entry { position, bytes, recorded_at, acknowledged: false });
        inner.front + inner.entries.len() - 1
    }

    /// Takes the event that was entered last out again: it was not sent.
    pub(super) fn withdraw(&self) {
        let mut inner = self.state.lock();
        let entry = inner.entries.pop_back();
        inner.bytes -= entry.map_or(0, |entry| entry.bytes);
    }

    /// Everything up to this position was entered, or is not there to be sent.
    pub(super) fn pass(&self, position: Position) {
        let mut inner = self.state.lock();
        match inner.entries.back().map(|entry| entry.position) {
            Some(last) if last >= position => {}
            Some(_) => {
                inner.entries.push_back(Entry { position, bytes: 0, recorded_at: i64::MAX, acknowledged: true });
            }
            None => inner.acknowledged = inner.acknowledged.max(position),
        }
    }

    /// The brokers have the event of this ticket.
    pub(super) fn acknowledge(&self, ticket: usize) {
        let mut inner = self.state.lock();
        let inner = &mut *inner;
        inner.delivered += 1;
        inner.trouble = None;
        inner.progressed = Instant::now();
        let Some(entry) = inner.entry(ticket) else { return };
        entry.acknowledged = true;
        inner.advance();
        if inner.is_low() {
            self.room.notify_one();
        }
        if inner.unsaved >= SAVE_EVENTS {
            inner.unsaved = 0;
            self.progress.notify_one();
        }
    }

    /// The client gave the event of this ticket up.
    pub(super) fn refuse(&self, ticket: usize, refusal: Refusal) {
        let mut inner = self.state.lock();
        let Some(entry) = inner.entry(ticket) else { return };
        let (position, bytes) = (entry.position, entry.bytes);
        // The rest of a batch is given up with the event that was too large: that one is the reason.
        if inner.failure.as_ref().is_none_or(|first| refusal.too_large && !first.too_large) {
            let Refusal { stream, topic, reason, too_large } = refusal;
            inner.failure = Some(Failure { position, bytes, stream, topic, reason, too_large });
        }
        self.failed.notify_one();
    }

    /// The client has something to say of the brokers.
    pub(super) fn trouble(&self, reason: String) {
        self.state.lock().trouble = Some(reason);
    }

    /// The log cannot be read for now.
    pub(super) fn log_fails(&self, reason: String) {
        self.state.lock().log_trouble = Some(reason);
    }

    /// The log can be read.
    pub(super) fn log_answers(&self) {
        self.state.lock().log_trouble = None;
    }

    /// Waits until an event was given up.
    pub(super) async fn failed(&self) {
        while self.state.lock().failure.is_none() {
            self.failed.notified().await;
        }
    }

    /// Waits until so much was acknowledged that it is worth saving.
    pub(super) async fn progress(&self) {
        self.progress.notified().await;
    }

    pub(super) fn failure(&self) -> Option<Failure> {
        self.state.lock().failure.clone()
    }

    pub(super) fn view(&self) -> View {
        let inner = self.state.lock();
        View {
            acknowledged: inner.acknowledged,
            delivered: inner.delivered,
            in_flight: inner.entries.len(),
            oldest: inner.entries.front().map(|entry| entry.recorded_at),
            quiet: inner.progressed.elapsed(),
            trouble: inner.trouble.clone(),
            log_trouble: inner.log_trouble.clone(),
        }
    }

    #[cfg(test)]
    fn inner(&self) -> parking_lot::MutexGuard<'_, Inner> {
        self.state.lock()
    }
}

impl Inner {
    fn is_full(&self) -> bool {
        self.entries.len() >= WINDOW_EVENTS || self.bytes >= WINDOW_BYTES
    }

    fn is_low(&self) -> bool {
        self.entries.len() <= LOW_EVENTS && self.bytes <= LOW_BYTES
    }

    fn entry(&mut self, ticket: usize) -> Option<&mut Entry> {
        self.entries.get_mut(ticket.checked_sub(self.front)?)
    }

    /// Moves over what has arrived.
    fn advance(&mut self) {
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.acknowledged) {
            self.front += 1;
            self.bytes -= entry.bytes;
            self.unsaved += 1;
            self.acknowledged = entry.position;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn refusal(too_large: bool) -> Refusal {
        Refusal { stream: "a".into(), topic: "t".into(), reason: "no".into(), too_large }
    }

    #[test]
    fn the_position_moves_only_over_what_has_arrived_without_a_gap() {
        for seed in 0..50 {
            let mut random = rand::rngs::StdRng::seed_from_u64(seed);
            let window = Window::new(Position(10));
            let mut waiting: Vec<(usize, u64)> = Vec::new();
            for position in 11..=60 {
                waiting.push((window.enter(Position(position), 5, 0), position));
                if random.random_bool(0.4) {
                    waiting.shuffle(&mut random);
                    let (ticket, _) = waiting.pop().expect("one waits");
                    window.acknowledge(ticket);
                }
                let lowest = waiting.iter().map(|(_, position)| *position).min().unwrap_or(position + 1);
                assert_eq!(window.view().acknowledged, Position(lowest - 1), "seed {seed}");
            }
            waiting.shuffle(&mut random);
            waiting.into_iter().for_each(|(ticket, _)| window.acknowledge(ticket));
            assert_eq!(window.view().acknowledged, Position(60));
            assert_eq!((window.view().in_flight, window.inner().bytes), (0, 0));
        }
    }

    #[test]
    fn what_is_passed_over_counts_once_everything_before_it_has_arrived() {
        let window = Window::new(Position(0));
        window.pass(Position(3));
        assert_eq!(window.view().acknowledged, Position(3));
        let ticket = window.enter(Position(4), 1, 0);
        window.pass(Position(4));
        window.pass(Position(9));
        assert_eq!(window.view().acknowledged, Position(3));
        window.acknowledge(ticket);
        assert_eq!(window.view().acknowledged, Position(9));
    }

    #[tokio::test]
    async fn a_full_window_takes_no_more_until_it_has_emptied_a_good_deal() {
        let window = Window::new(Position(0));
        for position in 1..=WINDOW_EVENTS as u64 {
            window.room().await;
            window.enter(Position(position), 1, 0);
        }
        let soon = Duration::from_millis(50);
        tokio::time::timeout(soon, window.room()).await.expect_err("it is full");
        (0..WINDOW_EVENTS - LOW_EVENTS - 1).for_each(|ticket| window.acknowledge(ticket));
        tokio::time::timeout(soon, async {
            while !window.inner().is_low() {
                window.room.notified().await;
            }
        })
        .await
        .expect_err("it is not low yet");
        window.acknowledge(WINDOW_EVENTS - LOW_EVENTS - 1);
        tokio::time::timeout(soon, window.room()).await.expect("it is low");
    }

    #[tokio::test]
    async fn the_event_that_was_too_large_is_the_reason_for_those_given_up_with_it() {
        let window = Window::new(Position(0));
        let tickets: Vec<_> = (1..=3).map(|position| window.enter(Position(position), 1, 0)).collect();
        window.refuse(tickets[0], refusal(false));
        window.refuse(tickets[1], refusal(true));
        window.refuse(tickets[2], refusal(true));
        window.failed().await;
        assert_eq!(window.failure().map(|failure| failure.position), Some(Position(2)));
        assert_eq!(window.view().acknowledged, Position(0));
    }
}
