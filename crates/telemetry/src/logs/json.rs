//! The JSON format: that of `tracing-subscriber`, with the ids of request and trace at the top of each line.

use std::fmt;
use std::sync::Arc;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::trace::{self, Mark};

/// How a line of the format below ends.
const END: &str = "}\n";

/// Writes one JSON object a line.
pub(super) struct Lines(Format<Json>);

impl Default for Lines {
    fn default() -> Self {
        let format = tracing_subscriber::fmt::format().json();
        Self(format.flatten_event(true).with_current_span(true).with_span_list(true))
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::with_capacity(512);
        self.0.format_event(context, Writer::new(&mut line), event)?;
        // The object is opened again: the ids come before its last brace.
        if line.ends_with(END) {
            line.truncate(line.len() - END.len());
            with_mark(context, event, |mark| add_ids(&mut line, mark, event));
            line.push_str(END);
        }
        to.write_str(&line)
    }
}

/// Reads the mark of the span an event belongs to. Which spans the filter shows is another question.
fn with_mark<S, N>(context: &FmtContext<'_, S, N>, event: &Event<'_>, read: impl FnOnce(&Mark))
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    if event.is_contextual() {
        trace::current_mark(read);
    } else if let Some(span) = event.parent().and_then(|id| context.span(id))
        && let Some(mark) = span.extensions().get::<Arc<Mark>>()
    {
        read(mark);
    }
}

fn add_ids(line: &mut String, mark: &Mark, event: &Event<'_>) {
    let mut add = |name: &str, value: &str| {
        // What the event says itself stands at the top already.
        if event.metadata().fields().field(name).is_none()
            && let Ok(value) = serde_json::to_string(value)
        {
            line.push_str(&format!(",\"{name}\":{value}"));
        }
    };
    if let Some(request) = mark.request_id() {
        add("request_id", request);
    }
    if let Some(tenant) = mark.tenant() {
        add("tenant", tenant);
    }
    let context = mark.context();
    add("trace_id", &context.trace_id());
    add("span_id", &context.span_id());
}
