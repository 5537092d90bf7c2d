//! The spans of a trace: their names and attributes, so that they are the same wherever they are made.
//!
//! `docs/observability.md` has them as a table.

use std::fmt::Display;

use tracing::field::{Empty, display};
use tracing::{Span, info_span};

use crate::trace::{Origins, TraceContext, set_parent};

/// An HTTP request. `route` is the pattern that matched; `parent` is what the caller's headers said.
///
/// The tenant is recorded with [`tenant`] as soon as it is known, the answer with [`answered`].
pub fn http(request_id: impl Display, method: &str, route: &str, parent: Option<&TraceContext>) -> Span {
    let span = info_span!(
        "http",
        otel.name = format_args!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        request_id = display(request_id),
        tenant = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
    );
    set_parent(&span, parent);
    span
}

/// The brain that a request asks.
pub fn tenant(span: &Span, tenant: impl Display) {
    span.record("tenant", display(tenant));
}

/// A request was answered. Only what is the node's fault makes the span one that failed.
pub fn answered(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// A command, named as the domain names it. The outcome is recorded with [`outcome`].
pub fn command(command: &'static str) -> Span {
    info_span!("command", command, outcome = Empty, position = Empty, otel.status_code = Empty)
}

/// An append of so many events. The events' metadata keep this span's `traceparent`, made within it, so that what
/// follows from them hangs below it.
pub fn append(events: usize) -> Span {
    info_span!("append", events, outcome = Empty, position = Empty, otel.status_code = Empty)
}

/// What became of a command or an append, and the log's position with it.
pub fn outcome(span: &Span, outcome: crate::red::Outcome, position: Option<u64>) {
    span.record("outcome", outcome.as_str());
    if let Some(position) = position {
        span.record("position", position);
    }
    if outcome == crate::red::Outcome::Failed {
        span.record("otel.status_code", "ERROR");
    }
}

/// A projection's work on a batch: part of the trace its events come from, or linked to each of them. `position` is that
/// of the last event.
pub fn projection(projection: &'static str, events: usize, position: u64, origins: &Origins) -> Span {
    let span = info_span!(
        "projection",
        otel.kind = "consumer",
        otel.status_code = Empty,
        projection,
        events,
        position,
        traces = origins.traces(),
    );
    origins.adopt(&span);
    span
}

/// A question to a read model or the search index.
pub fn query(query: &'static str) -> Span {
    info_span!("query", query, rows = Empty, otel.status_code = Empty)
}

/// A call of another program. Its headers carry [`TraceContext::current`] of within it.
pub fn outgoing(system: &'static str) -> Span {
    info_span!("outgoing", system, otel.kind = "client", otel.status_code = Empty)
}
