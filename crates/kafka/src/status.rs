//! How a publisher or a source fares.

use serde::Serialize;

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All goes well.
    Running,
    /// It cannot get on for now, and tries until it can.
    Waiting,
    /// It met something that only a person can change. It goes on after a new start.
    Failed,
    /// It was stopped.
    Stopped,
    /// Another process does the work; this one goes on should that one end. Whoever shares the work out says so.
    Standby,
}

/// How a publisher fares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PublisherStatus {
    /// Its name.
    pub name: String,
    /// Every event up to this position has been acknowledged by the brokers.
    pub position: u64,
    /// The log's last position.
    pub head: u64,
    /// How far the position is behind the head.
    pub lag: u64,
    /// The age of the oldest event that waits for its acknowledgement, in seconds; 0 when none waits.
    pub lag_seconds: f64,
    /// How many events wait for their acknowledgement.
    pub in_flight: usize,
    /// What it does.
    pub state: State,
    /// Why it does not get on, where it does not.
    pub problem: Option<String>,
}

/// How a source fares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// The topic it reads.
    pub topic: String,
    /// Each partition of the topic.
    pub partitions: Vec<PartitionStatus>,
    /// How many messages it has yet to read, as far as that is known.
    pub lag: u64,
    /// How many messages it appended since it started, those it rejected among them.
    pub appended: u64,
    /// How many messages it rejected since it started.
    pub rejected: u64,
    /// What it does.
    pub state: State,
    /// Why it does not get on, where it does not.
    pub problem: Option<String>,
}

/// How a source fares in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PartitionStatus {
    /// The partition's number.
    pub partition: i32,
    /// The offset of the message it appends next.
    pub offset: i64,
    /// The offset that the next message written to the partition gets, as the broker said last.
    pub end: Option<i64>,
}
