//! Sets logs and traces of a process up, and stops them in order.

use tracing::{Dispatch, Level, Metadata};
use tracing_subscriber::filter::{FilterFn, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use crate::export::{Export, ExportError, Exporting};
use crate::logs::{self, LogError, LogFormat};
use crate::trace::Ids;

/// Packages whose spans are no part of a trace: those that carry traces to the collector and requests to the node.
const CARRIERS: [&str; 6] = ["h2", "hyper", "opentelemetry", "rustls", "tonic", "tower"];

/// Logs and traces of this process. Dropping it stops the traces as [`Telemetry::shutdown`] does.
#[must_use = "traces end when this is dropped"]
#[derive(Debug)]
pub struct Telemetry {
    export: Option<Exporting>,
}

/// Why logs and traces cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Logs cannot be written as asked.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Traces cannot be sent as asked.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The process has logs already.
    #[error("logs are set up already")]
    Installed(#[source] tracing::dispatcher::SetGlobalDefaultError),
}

/// Sends the process's logs to standard error, so that standard output stays free for what a command prints, and its
/// traces to a collector where one is named.
///
/// `filter` names levels by target in the usual directive syntax: `info`, `cairn=debug,warn`. It is about log lines
/// alone: traces are the same whatever it shows. Ids of traces are made and passed on with or without a collector.
///
/// # Errors
/// When the filter or the configuration of the export cannot be used, or logs were set up before.
pub fn init(format: LogFormat, filter: &str, export: &Export) -> Result<Telemetry, InitError> {
    let (dispatch, telemetry) = prepare(format, filter, export)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(InitError::Installed)?;
    Ok(telemetry)
}

/// [`init`] without a collector, whatever the environment names.
///
/// # Errors
/// As for [`init`].
pub fn init_logs(format: LogFormat, filter: &str) -> Result<(), InitError> {
    let dispatch = assemble(format, filter, None, std::io::stderr)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(InitError::Installed)
}

/// What [`init`] installs for the process, for those who install it for less, such as one thread of a test.
///
/// # Errors
/// When the filter or the configuration of the export cannot be used.
pub fn prepare(format: LogFormat, filter: &str, export: &Export) -> Result<(Dispatch, Telemetry), InitError> {
    let export = export.start()?;
    let dispatch = assemble(format, filter, export.as_ref(), std::io::stderr)?;
    Ok((dispatch, Telemetry { export }))
}

/// Puts the layers together: traces below, log lines above.
pub(crate) fn assemble<W>(
    format: LogFormat,
    filter: &str,
    export: Option<&Exporting>,
    writer: W,
) -> Result<Dispatch, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = logs::layer(format, filter, writer)?;
    Ok(Dispatch::new(Registry::default().with(traces(export)).with(lines)))
}

fn traces(export: Option<&Exporting>) -> Box<dyn Layer<Registry> + Send + Sync> {
    let Some(export) = export else {
        return Ids { exporting: false }.with_filter(at_most(Level::INFO, is_traced_span)).boxed();
    };
    let spans = tracing_opentelemetry::layer()
        .with_tracer(export.tracer())
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_tracked_inactivity(false);
    spans.and_then(Ids { exporting: true }).with_filter(at_most(Level::INFO, is_traced)).boxed()
}

/// Nothing finer than a level gets as far as the question, so that it costs no more than a look at a number.
fn at_most(level: Level, which: fn(&Metadata<'_>) -> bool) -> FilterFn<fn(&Metadata<'_>) -> bool> {
    filter_fn(which).with_max_level_hint(LevelFilter::from_level(level))
}

/// Whether a span belongs into a trace.
fn is_traced_span(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && *metadata.level() <= Level::INFO && !is_carrier(metadata.target())
}

/// Whether a span or a log line belongs into a trace. Of log lines only those that tell of trouble.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    is_traced_span(metadata)
        || (metadata.is_event() && *metadata.level() <= Level::WARN && !is_carrier(metadata.target()))
}

fn is_carrier(target: &str) -> bool {
    let package = target.split("::").next().unwrap_or(target);
    // OpenTelemetry's own packages have their names after a dash or an underscore.
    CARRIERS.contains(&package) || package.starts_with("opentelemetry")
}

impl Telemetry {
    /// Whether traces are sent anywhere.
    pub const fn is_exporting(&self) -> bool {
        self.export.is_some()
    }

    /// Sends the spans that have ended up to now. Waits 5 s at most; says whether the collector took them.
    ///
    /// Blocks: call it outside an asynchronous task, or where nothing else goes on.
    pub fn flush(&self) -> bool {
        self.export.as_ref().is_none_or(Exporting::flush)
    }

    /// Sends the last spans and stops. Waits [`crate::SHUTDOWN_PATIENCE`] at most, also where no collector answers.
    ///
    /// Blocks, so it comes last, when nothing else is left to be done.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        if let Some(export) = &mut self.export {
            export.stop();
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.stop();
    }
}
