//! What the publisher tells of itself: its status and its metrics.

use cairn_event_store::Position;
use metrics::{Counter, Gauge};
use tokio::sync::watch;

use super::STALL_AFTER;
use super::window::View;
use crate::status::{PublisherStatus, State};

pub(super) struct Meter {
    status: watch::Sender<PublisherStatus>,
    head: watch::Receiver<Position>,
    saved: Position,
    /// How many events of this session have been counted.
    counted: u64,
    published: Counter,
    errors: Counter,
    lag_events: Gauge,
    lag_seconds: Gauge,
}

impl Meter {
    pub(super) fn new(status: watch::Sender<PublisherStatus>, head: watch::Receiver<Position>) -> Self {
        let name = status.borrow().name.clone();
        Self {
            status,
            head,
            saved: Position::START,
            counted: 0,
            published: metrics::counter!("cairn_kafka_published_total", "publisher" => name.clone()),
            errors: metrics::counter!("cairn_kafka_errors_total", "publisher" => name.clone()),
            lag_events: metrics::gauge!("cairn_kafka_lag_events", "publisher" => name.clone()),
            lag_seconds: metrics::gauge!("cairn_kafka_lag_seconds", "publisher" => name),
        }
    }

    /// Where failures of the client are counted.
    pub(super) fn errors(&self) -> Counter {
        self.errors.clone()
    }

    /// Every event up to here has been acknowledged.
    pub(super) fn position(&self) -> Position {
        Position(self.status.borrow().position)
    }

    /// The checkpoint that was saved last.
    pub(super) const fn saved(&self) -> Position {
        self.saved
    }

    /// The checkpoint was saved.
    pub(super) const fn save(&mut self, position: Position) {
        self.saved = position;
    }

    /// A session begins after this position, where the checkpoint is.
    pub(super) fn begin(&mut self, after: Position) {
        (self.saved, self.counted) = (after, 0);
        self.change(|status| {
            status.position = after.0;
            status.state = State::Running;
            status.problem = None;
        });
    }

    /// Tells how the session fares.
    pub(super) fn tell(&mut self, view: &View, problem: Option<String>) {
        self.published.increment(view.delivered - self.counted);
        self.counted = view.delivered;
        if problem.is_some() {
            self.errors.increment(1);
        }
        let stalled = view.in_flight > 0 && (view.trouble.is_some() || view.quiet >= STALL_AFTER);
        let trouble = view.trouble.clone().filter(|_| stalled);
        let quiet = || format!("no broker has acknowledged anything for {} seconds", view.quiet.as_secs());
        let stuck = stalled || view.log_trouble.is_some();
        let problem = problem.or_else(|| view.log_trouble.clone()).or(trouble).or_else(|| stalled.then(quiet));
        let now = chrono::Utc::now().timestamp_millis();
        #[expect(clippy::cast_precision_loss, reason = "an age in milliseconds is far below 2^52")]
        let age = view.oldest.map_or(0.0, |oldest| now.saturating_sub(oldest).max(0) as f64 / 1000.0);
        self.change(|status| {
            status.position = view.acknowledged.0;
            status.in_flight = view.in_flight;
            status.lag_seconds = age;
            status.state = if stuck { State::Waiting } else { State::Running };
            status.problem = problem;
        });
    }

    /// The next session begins after a pause.
    pub(super) fn wait(&mut self, problem: String) {
        self.errors.increment(1);
        self.change(|status| {
            status.state = State::Waiting;
            status.problem = Some(problem);
            status.in_flight = 0;
        });
    }

    /// It is over.
    pub(super) fn end(&mut self, state: State, problem: Option<String>) {
        self.change(|status| {
            status.state = state;
            status.problem = problem;
            status.in_flight = 0;
        });
    }

    fn change(&self, change: impl FnOnce(&mut PublisherStatus)) {
        let head = self.head.borrow().0;
        self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            status.head = head.max(status.position);
            status.lag = status.head - status.position;
            *status != before
        });
        let status = self.status.borrow();
        #[expect(clippy::cast_precision_loss, reason = "a gauge is read by people")]
        self.lag_events.set(status.lag as f64);
        self.lag_seconds.set(status.lag_seconds);
    }
}
