//! Where in a trace something happens, and how that is told to others: the W3C trace context.
//!
//! A [`TraceContext`] is read from and written to text, so that it goes through HTTP headers, the metadata of events and
//! calls of other programs. Whoever goes on in another task or process names it with [`set_parent`]; whoever works for
//! several traces at once uses [`Origins`].

mod context;
mod layer;
mod origins;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

pub use context::{MAX_TRACEPARENT_BYTES, MAX_TRACESTATE_BYTES, MAX_TRACESTATE_MEMBERS, TraceContext};
pub use origins::{MAX_LINKS, Origins};

pub(crate) use layer::{Ids, Mark, current_mark};

/// The `traceparent` of the span this thread is in. `None` outside every span.
///
/// This is what an event's metadata keeps, and what an outgoing call carries.
pub fn current() -> Option<String> {
    TraceContext::current().map(|context| context.to_string())
}

/// The id of the trace this thread is in: 32 hexadecimal digits.
pub fn current_trace_id() -> Option<String> {
    TraceContext::current().map(|context| context.trace_id())
}

/// Makes a span the child of one elsewhere. Without effect once the span has been entered.
pub fn set_parent(span: &Span, parent: Option<&TraceContext>) {
    let Some(parent) = parent else { return };
    layer::set_parent(span, parent);
    // It refuses where nothing is exported, and where the span has begun: in both cases there is nothing to be done.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent.span_context().clone()));
}

/// Says that a span also works for another trace.
pub fn link(span: &Span, other: &TraceContext) {
    span.add_link(other.span_context().clone());
}
