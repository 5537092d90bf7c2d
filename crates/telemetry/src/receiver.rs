//! A small OTLP receiver for tests: it takes spans as a collector does and keeps them to be looked at.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// How often [`Receiver::wait_for`] looks.
const POLL: Duration = Duration::from_millis(10);

/// A span as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// What the process that sent it calls itself.
    pub service: String,
    /// Its trace's id: 32 hexadecimal digits.
    pub trace_id: String,
    /// Its id: 16 hexadecimal digits.
    pub span_id: String,
    /// Its parent's id; empty for the first of a trace.
    pub parent_id: String,
    /// What it is called.
    pub name: String,
    /// What it says of itself, as text.
    pub attributes: Vec<(String, String)>,
    /// The trace and span of each other span it names.
    pub links: Vec<(String, String)>,
    /// The log lines that were written in it.
    pub events: Vec<String>,
    /// Whether it failed.
    pub failed: bool,
}

impl Received {
    /// One of its attributes.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is a child of another one, in the same trace.
    pub fn is_child_of(&self, parent: &Self) -> bool {
        self.trace_id == parent.trace_id && self.parent_id == parent.span_id
    }
}

/// What arrived.
#[derive(Debug, Default)]
struct Kept {
    spans: Vec<Received>,
    headers: Vec<(String, String)>,
}

/// A running receiver. It stops when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Starts one on a free port of this machine, on a thread of its own.
    ///
    /// # Errors
    /// When no port can be listened on, or no thread started.
    pub fn start() -> std::io::Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Starts one at an address, for a collector that comes back.
    ///
    /// # Errors
    /// When the address cannot be listened on, or no thread started.
    pub fn start_at(address: SocketAddr) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let kept = Arc::<Mutex<Kept>>::default();
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let service = TraceServiceServer::new(Service(Arc::clone(&kept)));
        let thread = std::thread::Builder::new().name("otlp-receiver".into()).spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                // Connections that are still open end with the runtime: there is nothing to wait for.
                tokio::select! {
                    _ = tonic::transport::Server::builder()
                        .add_service(service)
                        .serve_with_incoming(TcpListenerStream::new(listener)) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, kept, stop: Some(stop), thread: Some(thread) })
    }

    /// What an exporter is told: `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that has arrived, in the order in which it did.
    pub fn spans(&self) -> Vec<Received> {
        self.kept().spans.clone()
    }

    /// The headers of every request, with those that gRPC adds.
    pub fn headers(&self) -> Vec<(String, String)> {
        self.kept().headers.clone()
    }

    /// Waits until what has arrived is enough, and gives it. `None` when it is not after this time. Blocks.
    pub fn wait_for(&self, patience: Duration, enough: impl Fn(&[Received]) -> bool) -> Option<Vec<Received>> {
        let started = Instant::now();
        loop {
            let spans = self.spans();
            if enough(&spans) {
                return Some(spans);
            }
            if started.elapsed() >= patience {
                return None;
            }
            std::thread::sleep(POLL);
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Service(Arc<Mutex<Kept>>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let headers = request.metadata().clone().into_headers();
        kept.headers.extend(headers.iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        }));
        for of_process in request.into_inner().resource_spans {
            let service = service_name(of_process.resource.as_ref());
            let spans = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            kept.spans.extend(spans.map(|span| received(service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse { partial_success: None }))
    }
}

fn service_name(resource: Option<&Resource>) -> String {
    let attributes = resource.map(|resource| resource.attributes.as_slice()).unwrap_or_default();
    let name = attributes.iter().find(|attribute| attribute.key == "service.name");
    name.map(|attribute| text(attribute.value.as_ref())).unwrap_or_default()
}

fn received(service: String, span: Span) -> Received {
    // 2 is the protocol's STATUS_CODE_ERROR.
    let failed = span.status.as_ref().is_some_and(|status| status.code == 2);
    Received {
        service,
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_id: hex(&span.parent_span_id),
        name: span.name,
        attributes: span
            .attributes
            .into_iter()
            .map(|KeyValue { key, value, .. }| (key, text(value.as_ref())))
            .collect(),
        links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
        events: span.events.into_iter().map(|event| event.name).collect(),
        failed,
    }
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
