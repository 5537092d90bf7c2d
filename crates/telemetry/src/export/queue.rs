//! The bounded way from a span's end to the collector.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use metrics::counter;
use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};
use tokio::runtime::Handle;

use super::variable;
use crate::metrics::SPANS;

/// How many ended spans wait for the collector at most, unless `OTEL_BSP_MAX_QUEUE_SIZE` says otherwise: 4 s of 500
/// spans a second, and some megabytes at most.
const QUEUED_SPANS: usize = 2_048;
/// The most the environment may ask for.
const MAX_QUEUED_SPANS: usize = 65_536;
/// How long the collector gets for one batch, all attempts together.
const BATCH_PATIENCE: Duration = Duration::from_secs(15);

/// How often a trouble is told of at most, in seconds.
const TOLD_EVERY: u64 = 60;

/// What the two ends of the queue know together.
#[derive(Debug)]
struct Queue {
    waiting: AtomicUsize,
    full: Trouble,
    failing: Trouble,
}

impl Queue {
    fn new() -> Self {
        Self { waiting: AtomicUsize::new(0), full: Trouble::new(), failing: Trouble::new() }
    }

    fn dropped(&self) {
        counter!(SPANS, "outcome" => "dropped").increment(1);
        if self.full.is_news() {
            tracing::warn!("more spans end than the collector takes; the queue is full and some are lost");
        }
    }

    fn failed(&self, spans: usize, reason: &OTelSdkError) {
        counter!(SPANS, "outcome" => "failed").increment(spans as u64);
        if self.failing.is_news() {
            tracing::warn!(%reason, "the collector does not take spans; they are lost until it does");
        }
    }

    fn sent(&self, spans: usize) {
        counter!(SPANS, "outcome" => "sent").increment(spans as u64);
        if self.failing.is_over() {
            tracing::info!("the collector takes spans again");
        }
    }
}

/// Something that goes wrong often and is told of seldom.
#[derive(Debug)]
struct Trouble {
    since: Instant,
    /// When it was told of last, in seconds from 1; 0 for never.
    told: AtomicU64,
    lasts: AtomicBool,
}

impl Trouble {
    fn new() -> Self {
        Self { since: Instant::now(), told: AtomicU64::new(0), lasts: AtomicBool::new(false) }
    }

    /// It goes wrong; whether that is worth telling.
    fn is_news(&self) -> bool {
        let now = self.since.elapsed().as_secs() + 1;
        let told = self.told.load(Ordering::Relaxed);
        let news = (told == 0 || now >= told + TOLD_EVERY)
            && self.told.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if news {
            self.lasts.store(true, Ordering::Relaxed);
        }
        news
    }

    /// It goes well; whether it was told before that it does not.
    fn is_over(&self) -> bool {
        self.lasts.swap(false, Ordering::Relaxed)
    }
}

/// What takes spans that have ended.
pub(super) fn processor(exporter: Otlp, runtime: Handle) -> impl SpanProcessor + 'static {
    let size = variable("OTEL_BSP_MAX_QUEUE_SIZE").and_then(|value| value.trim().parse().ok());
    let size = size.unwrap_or(QUEUED_SPANS).clamp(1, MAX_QUEUED_SPANS);
    let queue = Arc::new(Queue::new());
    let exit = Exit { exporter: Arc::new(exporter), runtime, queue: Arc::clone(&queue) };
    let batches = BatchConfigBuilder::default().with_max_queue_size(size).build();
    let inner = BatchSpanProcessor::builder(exit).with_batch_config(batches).build();
    Entrance { inner, queue, size }
}

/// Drops and counts what finds the queue full.
#[derive(Debug)]
struct Entrance {
    inner: BatchSpanProcessor,
    queue: Arc<Queue>,
    size: usize,
}

impl SpanProcessor for Entrance {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        // Counted before it is in, and taken off after it was sent: the queue behind is never fuller than this says.
        if self.queue.waiting.fetch_add(1, Ordering::Relaxed) >= self.size {
            self.queue.waiting.fetch_sub(1, Ordering::Relaxed);
            self.queue.dropped();
            return;
        }
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Sends batches from the exporter's own runtime, each within a time limit, and counts what becomes of them.
#[derive(Debug)]
struct Exit {
    exporter: Arc<Otlp>,
    runtime: Handle,
    queue: Arc<Queue>,
}

impl SpanExporter for Exit {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exporter = Arc::clone(&self.exporter);
        let sending =
            self.runtime.spawn(async move { tokio::time::timeout(BATCH_PATIENCE, exporter.export(batch)).await });
        let sent = match sending.await {
            Ok(Ok(sent)) => sent,
            Ok(Err(_)) => Err(OTelSdkError::Timeout(BATCH_PATIENCE)),
            Err(error) => Err(OTelSdkError::InternalFailure(error.to_string())),
        };
        self.queue.waiting.fetch_sub(spans, Ordering::Relaxed);
        match &sent {
            Ok(()) => self.queue.sent(spans),
            Err(error) => self.queue.failed(spans, error),
        }
        sent
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Before the first batch is sent there is no other owner.
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_of_once_a_minute_and_its_end_once() {
        let mut trouble = Trouble::new();
        assert!(!trouble.is_over(), "it never began");
        assert!(trouble.is_news() && !trouble.is_news());
        assert!(trouble.is_over() && !trouble.is_over());
        assert!(!trouble.is_news() && !trouble.is_over(), "what was not told is not taken back");
        trouble.since -= Duration::from_secs(TOLD_EVERY);
        assert!(trouble.is_news() && trouble.is_over());
    }
}
