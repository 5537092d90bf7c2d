//! Counters, gauges and histograms, kept in the process.

pub mod brain;
mod names;
pub mod red;
pub mod usage;

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use metrics::gauge;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

pub(crate) use names::SPANS;

/// How often histograms are folded, so that they do not grow while nobody scrapes.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Upper bounds of the buckets of every histogram named `..._seconds`: from the time of one fsync on a fast disk
/// to a rebuild's batch.
const SECONDS_BUCKETS: [f64; 14] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Something that is measured when somebody looks.
type Reading = Box<dyn Fn() + Send + Sync>;

/// The metrics of this process.
///
/// Whoever measures uses the `metrics` macros, or [`red`], [`usage`] and [`brain`], which know the names; whoever shows
/// calls [`Metrics::render`]. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    started: Instant,
    process: Collector,
    readings: Arc<Mutex<Vec<Reading>>>,
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
        let process = Collector::default();
        process.describe();
        names::describe();
        let (upkeep, stopped) = mpsc::channel::<()>();
        let folding = handle.clone();
        thread::Builder::new().name("metrics-upkeep".into()).spawn(move || {
            while stopped.recv_timeout(UPKEEP_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                folding.run_upkeep();
            }
        })?;
        Ok(Self { handle, started: Instant::now(), process, readings: Arc::default(), _upkeep: upkeep })
    }

    /// Has something measured each time somebody looks. It must neither block nor look itself.
    pub fn on_render(&self, reading: impl Fn() + Send + Sync + 'static) {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(reading));
    }

    /// Everything measured up to now, in Prometheus' text format, with what the process and the runtime it is called in
    /// use read afresh.
    pub fn render(&self) -> String {
        gauge!(names::UPTIME).set(self.started.elapsed().as_secs_f64());
        self.process.collect();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            usage::runtime(&runtime);
        }
        for reading in self.readings.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            reading();
        }
        self.handle.render()
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, histogram};

    use super::*;

    // One test, because a process has one recorder.
    #[test]
    fn what_is_measured_is_rendered() {
        let metrics = Metrics::install().expect("the first recorder");
        counter!("cairn_things_total", "outcome" => "applied").increment(2);
        histogram!("cairn_thing_seconds").record(0.0004);
        red::http("GET", "/memories/{id}", 503, Duration::from_millis(3));
        red::command("ClaimField", red::Outcome::Suggested, Duration::from_millis(3));
        red::append(3, red::Outcome::Applied, Duration::from_millis(1));
        brain::suggestions_waiting(4);
        brain::claims("user", 5);
        metrics.on_render(|| usage::pool("read-model", usage::Pool { in_use: 1, idle: 2, max: 10 }));
        usage::pool_waited("read-model", Duration::from_millis(1));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
        let mut page = runtime.block_on(async { metrics.render() });
        // Threads name themselves: it takes a moment until all of them have.
        let patience = Instant::now() + Duration::from_secs(10);
        while cfg!(target_os = "linux")
            && !page.contains("cairn_runtime_blocking_threads ")
            && Instant::now() < patience
        {
            thread::sleep(Duration::from_millis(5));
            page = runtime.block_on(async { metrics.render() });
        }
        for line in [
            "cairn_things_total{outcome=\"applied\"} 2",
            "cairn_thing_seconds_bucket{le=\"0.0005\"} 1",
            "# TYPE process_uptime_seconds gauge",
            "cairn_http_requests_total{method=\"GET\",route=\"/memories/{id}\",status=\"503\"} 1",
            "cairn_http_request_seconds_bucket{method=\"GET\",route=\"/memories/{id}\",class=\"5xx\",le=\"0.005\"} 1",
            "# HELP cairn_http_request_seconds ",
            "cairn_commands_total{command=\"ClaimField\",outcome=\"suggested\"} 1",
            "cairn_command_seconds_count{command=\"ClaimField\"} 1",
            "cairn_append_events_total 3",
            "cairn_append_seconds_count{outcome=\"applied\"} 1",
            "cairn_suggestions_waiting 4",
            "cairn_claims{truth=\"user\"} 5",
            "cairn_pool_connections{pool=\"read-model\",state=\"in_use\"} 1",
            "cairn_pool_connections{pool=\"read-model\",state=\"idle\"} 2",
            "cairn_pool_connections_max{pool=\"read-model\"} 10",
            "cairn_pool_wait_seconds_count{pool=\"read-model\"} 1",
            "cairn_runtime_workers 2",
            "cairn_runtime_alive_tasks 0",
            "cairn_runtime_global_queue_depth 0",
        ] {
            assert!(page.contains(line), "{line} in\n{page}");
        }
        if cfg!(target_os = "linux") {
            for name in ["resident_memory_bytes", "open_fds", "cpu_seconds_total", "threads"] {
                assert!(page.contains(&format!("\nprocess_{name} ")), "{name} in\n{page}");
            }
            assert!(page.contains("cairn_runtime_blocking_threads "), "{page}");
        }
        assert!(Metrics::install().is_err(), "a process has one recorder");
    }
}
