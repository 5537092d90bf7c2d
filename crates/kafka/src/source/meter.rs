//! What the source tells of itself: its status and its metrics.

use metrics::{Counter, Gauge};
use tokio::sync::watch;

use super::reader::View;
use crate::status::{PartitionStatus, SourceStatus, State};

pub(super) struct Meter {
    status: watch::Sender<SourceStatus>,
    appended: Counter,
    rejected: Counter,
    errors: Counter,
    lag: Gauge,
}

impl Meter {
    pub(super) fn new(status: watch::Sender<SourceStatus>) -> Self {
        let name = status.borrow().name.clone();
        Self {
            status,
            appended: metrics::counter!("cairn_kafka_captured_total", "source" => name.clone()),
            rejected: metrics::counter!("cairn_kafka_rejected_total", "source" => name.clone()),
            errors: metrics::counter!("cairn_kafka_errors_total", "source" => name.clone()),
            lag: metrics::gauge!("cairn_kafka_lag_messages", "source" => name),
        }
    }

    /// Where failures of the client are counted.
    pub(super) fn errors(&self) -> Counter {
        self.errors.clone()
    }

    /// How many messages were appended since the start.
    pub(super) fn appended(&self) -> u64 {
        self.status.borrow().appended
    }

    /// Messages were appended, and so many of them were rejected.
    pub(super) fn append(&self, messages: usize, rejected: usize) {
        self.appended.increment(messages as u64);
        self.rejected.increment(rejected as u64);
        self.status.send_modify(|status| {
            status.appended += messages as u64;
            status.rejected += rejected as u64;
        });
    }

    /// Tells where each partition is, by its number and the offset it is appended next.
    pub(super) fn tell(&self, places: impl Iterator<Item = (i32, i64)>, view: &View) {
        let partition = |(partition, offset): (i32, i64)| {
            let end = view.ends.get(&partition).map(|end: &i64| offset.max(*end));
            PartitionStatus { partition, offset, end }
        };
        let partitions: Vec<_> = places.map(partition).collect();
        let behind = |place: &PartitionStatus| place.end.map_or(0, |end| end.abs_diff(place.offset));
        let lag = partitions.iter().map(behind).sum::<u64>();
        #[expect(clippy::cast_precision_loss, reason = "a gauge is read by people")]
        self.lag.set(lag as f64);
        self.status.send_modify(|status| {
            status.partitions = partitions;
            status.lag = lag;
            status.state = if view.trouble.is_some() { State::Waiting } else { State::Running };
            status.problem.clone_from(&view.trouble);
        });
    }

    /// It cannot get on for now.
    pub(super) fn wait(&self, problem: String) {
        self.errors.increment(1);
        self.status.send_modify(|status| {
            status.state = State::Waiting;
            status.problem = Some(problem);
        });
    }

    /// It is over.
    pub(super) fn end(&self, state: State, problem: Option<String>) {
        self.status.send_modify(|status| {
            status.state = state;
            status.problem = problem;
        });
    }
}
