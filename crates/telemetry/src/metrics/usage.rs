//! Utilisation, saturation and errors of what the node works with.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use metrics::{gauge, histogram};
use tokio::runtime::Handle;

use super::names::{BLOCKING, BUSY, POOL_CONNECTIONS, POOL_MAX, POOL_WAIT, QUEUE, TASKS, WORKERS};
use crate::process::threads_named;

/// What tokio calls all threads of a runtime unless told otherwise, as far as the system keeps it.
const RUNTIME_THREADS: &str = "tokio-rt";

/// How a pool of connections stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Connections that somebody works with.
    pub in_use: u32,
    /// Connections that are open and wait.
    pub idle: u32,
    /// The most it may open.
    pub max: u32,
}

/// Shows how a pool stands.
pub fn pool(name: &'static str, pool: Pool) {
    gauge!(POOL_CONNECTIONS, "pool" => name, "state" => "in_use").set(f64::from(pool.in_use));
    gauge!(POOL_CONNECTIONS, "pool" => name, "state" => "idle").set(f64::from(pool.idle));
    gauge!(POOL_MAX, "pool" => name).set(f64::from(pool.max));
}

/// Somebody got a connection after this time.
pub fn pool_waited(name: &'static str, waited: Duration) {
    histogram!(POOL_WAIT, "pool" => name).record(waited);
}

/// Shows how a runtime stands.
pub(super) fn runtime(runtime: &Handle) {
    let metrics = runtime.metrics();
    let workers = metrics.num_workers();
    gauge!(WORKERS).set(workers as f64);
    gauge!(TASKS).set(metrics.num_alive_tasks() as f64);
    gauge!(QUEUE).set(metrics.global_queue_depth() as f64);
    let busy = (0..workers).map(|worker| metrics.worker_total_busy_duration(worker)).sum();
    if let Some(ratio) = busy_ratio(busy, workers) {
        gauge!(BUSY).set(ratio);
    }
    // Tokio does not tell; but its threads are either workers or for work that blocks, and all have its name. Where it
    // was given another one there is nothing to show.
    if let Some(blocking) = threads_named(RUNTIME_THREADS).and_then(|all| all.checked_sub(workers)) {
        gauge!(BLOCKING).set(blocking as f64);
    }
}

/// The share of their time that workers were busy since the last call. `None` the first time.
fn busy_ratio(busy: Duration, workers: usize) -> Option<f64> {
    static LAST: Mutex<Option<(Instant, Duration)>> = Mutex::new(None);
    let now = Instant::now();
    let (since, before) = LAST.lock().ok()?.replace((now, busy))?;
    let time = (now - since).as_secs_f64() * workers as f64;
    (time > 0.0).then(|| (busy.saturating_sub(before).as_secs_f64() / time).min(1.0))
}
