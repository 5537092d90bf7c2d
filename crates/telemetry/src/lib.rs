//! Logs and metrics of a node.
//!
//! Logs go to standard error, for people or as JSON lines. Metrics are kept in the process and rendered in
//! Prometheus' text format on request: this crate listens nowhere and sends nothing.

mod logs;
mod metrics;
mod process;

pub use crate::logs::{LogError, LogFormat, init_logs};
pub use crate::metrics::{Metrics, MetricsError, UPKEEP_INTERVAL};
pub use crate::process::ProcessUsage;
