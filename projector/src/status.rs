//! What the runner tells of itself.

use serde::{Deserialize, Serialize};

/// How a projection fares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProjectionStatus {
    /// Its name.
    pub name: &'static str,
    /// The version of its code.
    pub version: u32,
    /// The generation that serves; `None` while the first one is built.
    pub generation: Option<u64>,
    /// The generation before, as long as it is kept as the way back.
    pub previous: Option<u64>,
    /// The position that queries see.
    pub position: u64,
    /// The log's last position.
    pub head: u64,
    /// How many events queries lack.
    pub lag: u64,
    /// How many seconds ago the first event that queries lack came into the log; `None` where the log cannot tell.
    pub lag_seconds: Option<f64>,
    /// How many events a second it folds in, over the last seconds.
    pub events_per_second: f64,
    /// How it is.
    pub state: State,
    /// Whether nothing waits for a quiet moment: files are compact, and none holds anything that was erased.
    pub tidy: bool,
    /// Why it does not get on, where it does not.
    pub problem: Option<String>,
    /// The build under way, or one that was cancelled or failed since the start.
    pub rebuild: Option<Progress>,
}

/// How a projection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It serves and has everything.
    Live,
    /// It serves and is on its way to the log's end.
    CatchingUp,
    /// A new generation is being built, beside the serving one if there is one.
    Rebuilding,
    /// It serves what it had when it was paused, until it is resumed. What builds it stands still too.
    Paused,
    /// It serves what it had when it met something it cannot fold. It goes on after a new start.
    Failed,
    /// Another process runs it; this one knows how far it is, and takes over should it end.
    Standby,
    /// It was stopped.
    Stopped,
}

/// How far a run has got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The generation it writes.
    pub generation: u64,
    /// What it does now.
    pub phase: Phase,
    /// The position it has folded up to.
    pub position: u64,
    /// The position it is on its way to: the log's end, which may move.
    pub target: u64,
    /// How many events a second it folds in, over the last seconds.
    pub events_per_second: f64,
    /// How many seconds it will take to the target, at this speed.
    pub eta_seconds: Option<u64>,
    /// Whether nothing waits for a quiet moment.
    pub tidy: bool,
    /// How many seconds lay between the end of the run before and the moment this one served, once it has taken its
    /// place. Queries were answered all the while.
    pub swap_seconds: Option<f64>,
    /// Why it does not get on, where it does not.
    pub problem: Option<String>,
}

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It fills a generation that does not serve yet.
    Filling,
    /// It builds indexes and makes the generation durable.
    Indexing,
    /// It folds the log once more, to compare: the position is that of the second fold meanwhile.
    Verifying,
    /// It is on its way to the log's end.
    CatchingUp,
    /// It has everything.
    Live,
    /// It was stopped; its generation can be gone on with.
    Stopped,
    /// It met something it cannot get over.
    Failed,
}

impl Phase {
    /// Whether nothing more will come of the run.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}
