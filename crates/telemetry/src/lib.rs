//! Logs, traces and metrics of a node.
//!
//! Logs go to standard error, for people or as JSON lines. Traces follow a request from HTTP through its command and
//! append into the projections, in this process or another: their ids are made and passed on always, and the spans are
//! sent to a collector (OTLP over gRPC) where one is named. Metrics are kept in the process and rendered in Prometheus'
//! text format on request: this crate listens nowhere.
//!
//! `docs/observability.md` tells what there is to see.

mod export;
mod logs;
mod metrics;
mod process;
#[cfg(feature = "test-util")]
pub mod receiver;
pub mod spans;
mod telemetry;
pub mod trace;

pub use crate::export::{Export, ExportError, Headers, HeadersError, SHUTDOWN_PATIENCE};
pub use crate::logs::{LogError, LogFormat};
pub use crate::metrics::{Metrics, MetricsError, UPKEEP_INTERVAL, brain, red, usage};
pub use crate::process::ProcessUsage;
pub use crate::telemetry::{InitError, Telemetry, init, init_logs, prepare};
