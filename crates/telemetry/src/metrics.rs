//! Counters, gauges and histograms, kept in the process.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use metrics::{describe_gauge, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::process::ProcessUsage;

/// How often histograms are folded, so that they do not grow while nobody scrapes.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Upper bounds of the buckets of every histogram named `..._seconds`: from the time of one fsync on a fast disk
/// to a rebuild's batch.
const SECONDS_BUCKETS: [f64; 14] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The metrics of this process.
///
/// Whoever measures uses the `metrics` macros; whoever shows calls [`Metrics::render`]. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    started: Instant,
    // When the last clone is dropped the upkeep thread ends.
    _upkeep: Sender<()>,
}

/// Why metrics cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The process keeps metrics already, or the buckets are not ones.
    #[error("the metrics recorder cannot be installed")]
    Recorder(#[from] BuildError),
    /// No thread can be started.
    #[error("the metrics upkeep thread cannot be started")]
    Thread(#[from] std::io::Error),
}

impl Metrics {
    /// Makes the recorder that this process's `metrics` macros write to.
    ///
    /// # Errors
    /// When the process has a recorder already.
    pub fn install() -> Result<Self, MetricsError> {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS_BUCKETS)?
            .install_recorder()?;
        describe();
        let (upkeep, stopped) = mpsc::channel::<()>();
        let folding = handle.clone();
        thread::Builder::new().name("metrics-upkeep".into()).spawn(move || {
            while stopped.recv_timeout(UPKEEP_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                folding.run_upkeep();
            }
        })?;
        Ok(Self { handle, started: Instant::now(), _upkeep: upkeep })
    }

    /// Everything measured up to now, in Prometheus' text format, with the process's own figures fresh.
    pub fn render(&self) -> String {
        gauge!("process_uptime_seconds").set(self.started.elapsed().as_secs_f64());
        if let Some(usage) = ProcessUsage::read() {
            gauge!("process_resident_memory_bytes").set(usage.resident_bytes as f64);
            gauge!("process_open_fds").set(usage.open_files as f64);
        }
        self.handle.render()
    }
}

fn describe() {
    describe_gauge!("process_uptime_seconds", "Seconds since the process started to measure.");
    describe_gauge!("process_resident_memory_bytes", "Memory the process occupies.");
    describe_gauge!("process_open_fds", "Files, sockets and pipes the process has open.");
}

#[cfg(test)]
mod tests {
    use metrics::{counter, histogram};

    use super::*;

    // One test, because a process has one recorder.
    #[test]
    fn what_is_measured_is_rendered() {
        let metrics = Metrics::install().expect("the first recorder");
        counter!("cairn_commands_total", "outcome" => "applied").increment(2);
        histogram!("cairn_append_seconds").record(0.0004);
        let page = metrics.render();
        for line in [
            "cairn_commands_total{outcome=\"applied\"} 2",
            "cairn_append_seconds_bucket{le=\"0.0005\"} 1",
            "# TYPE process_uptime_seconds gauge",
        ] {
            assert!(page.contains(line), "{line} in\n{page}");
        }
        if cfg!(target_os = "linux") {
            assert!(page.contains("process_resident_memory_bytes") && page.contains("process_open_fds"), "{page}");
        }
        assert!(Metrics::install().is_err(), "a process has one recorder");
    }
}
