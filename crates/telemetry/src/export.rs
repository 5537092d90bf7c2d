//! Spans on their way to a collector: OTLP over gRPC, from threads of its own.
//!
//! Nobody who makes a span ever waits for the collector: a span that ends goes into a bounded queue or is dropped and
//! counted. What stands in `OTEL_*` environment variables holds where the configuration is silent.

mod headers;
mod queue;

use std::fmt;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tokio::runtime::{Builder, Runtime};
use tonic::transport::ClientTlsConfig;

pub use headers::{Headers, HeadersError};

/// How long stopping may wait for the collector to take what is left.
pub const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);

/// What the service is called unless somebody names it.
const DEFAULT_SERVICE: &str = "cairn";

/// Where traces are sent. The default sends none, unless the environment names a collector.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Export {
    /// The collector, such as `http://localhost:4317`; `https://` for TLS. Without one that of
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: Option<String>,
    /// What the collector wants with each request, such as a key; those of `OTEL_EXPORTER_OTLP_HEADERS` come on top.
    pub headers: Headers,
    /// What this process is called. Without it `OTEL_SERVICE_NAME`, or `cairn`.
    pub service_name: Option<String>,
    /// The share of traces that are sent, from 0 to 1; a trace that comes from elsewhere follows the decision made
    /// there. Without it `OTEL_TRACES_SAMPLER`, or all.
    pub sample_ratio: Option<f64>,
}

/// Why traces cannot be sent as configured.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It is not an address. What was given is not repeated: it may hold a password.
    #[error("the traces' endpoint must look like http://localhost:4317; secrets belong into the headers")]
    Endpoint,
    /// It is not a share.
    #[error("the traces' sample ratio must lie between 0 and 1, not be {0}")]
    SampleRatio(f64),
    /// The exporter refuses the configuration.
    #[error("the exporter of traces cannot be made")]
    Exporter(#[from] ExporterBuildError),
    /// No thread can be started.
    #[error("the thread that sends traces cannot be started")]
    Thread(#[from] std::io::Error),
}

/// What sends spans.
pub(crate) struct Exporting {
    provider: SdkTracerProvider,
    // Taken when it stops. The connection lives in a runtime of its own, so that a node with all its threads busy, or
    // a program without a runtime, sends nevertheless.
    runtime: Option<Runtime>,
}

impl Export {
    /// Starts to send, if a collector is named.
    pub(crate) fn start(&self) -> Result<Option<Exporting>, ExportError> {
        if !self.is_wanted() {
            return Ok(None);
        }
        let ratio = self.sample_ratio;
        if let Some(ratio) = ratio.filter(|ratio| !(0.0..=1.0).contains(ratio)) {
            return Err(ExportError::SampleRatio(ratio));
        }
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("otlp").enable_all().build()?;
        let exporter = {
            // The channel is bound to the runtime it is made in.
            let _inside = runtime.enter();
            self.exporter()?
        };
        let mut provider = SdkTracerProvider::builder()
            .with_resource(self.resource())
            .with_span_processor(queue::processor(exporter, runtime.handle().clone()));
        if let Some(ratio) = ratio {
            let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
            provider = provider.with_sampler(sampler);
        }
        Ok(Some(Exporting { provider: provider.build(), runtime: Some(runtime) }))
    }

    fn is_wanted(&self) -> bool {
        let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if let Some(endpoint) = &self.endpoint {
            return !endpoint.is_empty() && !disabled;
        }
        let elsewhere = variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value != "otlp");
        !disabled && !elsewhere && endpoint_of_environment().is_some()
    }

    fn exporter(&self) -> Result<SpanExporter, ExportError> {
        let mut builder = SpanExporter::builder().with_tonic().with_metadata(self.headers.to_metadata());
        let endpoint = self.endpoint.clone().or_else(endpoint_of_environment).ok_or(ExportError::Endpoint)?;
        check_endpoint(&endpoint)?;
        if endpoint.starts_with("https://") {
            builder = builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
        }
        Ok(builder.with_endpoint(endpoint).build()?)
    }

    fn resource(&self) -> Resource {
        let mut resource = Resource::builder();
        let named = variable("OTEL_SERVICE_NAME")
            .or_else(|| variable("OTEL_RESOURCE_ATTRIBUTES").filter(|all| all.contains("service.name=")));
        match (&self.service_name, named) {
            (Some(name), _) => resource = resource.with_service_name(name.clone()),
            (None, None) => resource = resource.with_service_name(DEFAULT_SERVICE),
            // The library has read it already.
            (None, Some(_)) => {}
        }
        resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build()
    }
}

impl Exporting {
    pub(crate) fn tracer(&self) -> SdkTracer {
        let scope = InstrumentationScope::builder("cairn").with_version(env!("CARGO_PKG_VERSION"));
        self.provider.tracer_with_scope(scope.build())
    }

    /// Sends what has ended up to now. Waits at most 5 s; says whether everything was taken.
    pub(crate) fn flush(&self) -> bool {
        self.provider.force_flush().is_ok()
    }

    /// Sends what is left and stops, within [`SHUTDOWN_PATIENCE`]. A second time it does nothing.
    pub(crate) fn stop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if self.provider.shutdown_with_timeout(SHUTDOWN_PATIENCE).is_err() {
            tracing::warn!("the collector did not take the last spans in time; they are lost");
        }
        // Whoever still waits for the collector is left behind: dropping a runtime would wait for it.
        runtime.shutdown_background();
    }
}

impl fmt::Debug for Exporting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporting")
    }
}

fn check_endpoint(endpoint: &str) -> Result<(), ExportError> {
    let authority = endpoint
        .strip_prefix("http://")
        .or_else(|| endpoint.strip_prefix("https://"))
        .and_then(|rest| rest.split(['/', '?', '#']).next())
        .ok_or(ExportError::Endpoint)?;
    if authority.is_empty() || authority.contains('@') { Err(ExportError::Endpoint) } else { Ok(()) }
}

fn endpoint_of_environment() -> Option<String> {
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"].into_iter().find_map(variable)
}

/// An environment variable; by the specification an empty one is none.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(endpoint: &str) -> Export {
        Export { endpoint: Some(endpoint.to_owned()), ..Export::default() }
    }

    #[test]
    fn without_a_collector_nothing_is_started() {
        assert!(Export::default().start().expect("valid").is_none());
        assert!(to("").start().expect("valid").is_none());
    }

    #[test]
    fn what_cannot_work_is_refused_at_once() {
        for endpoint in ["localhost:4317", "ftp://localhost", "http://", "http://user:sesame@host:4317"] {
            let error = to(endpoint).start().expect_err(endpoint);
            assert!(!format!("{error} {error:?}").contains("sesame"), "{error:?}");
        }
        let error =
            Export { sample_ratio: Some(1.5), ..to("http://localhost:4317") }.start().expect_err("a share");
        assert!(error.to_string().contains("1.5"), "{error}");
    }
}
