//! Gives every span its ids, and knows at any moment where a thread is.
//!
//! Where spans are exported OpenTelemetry makes the ids and this layer takes them over; where they are not it makes them
//! itself, at a fraction of the cost. Either way they are made when the span is first entered, so that a parent from
//! elsewhere can still be named until then.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, OnceLock};

use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Span, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, Registry};

use super::TraceContext;

/// The field of a span that names the request.
const REQUEST_ID: &str = "request_id";
/// The field of a span that names the brain asked.
const TENANT: &str = "tenant";

thread_local! {
    /// The spans this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<(Id, Arc<Mark>)>> = const { RefCell::new(Vec::new()) };
}

/// What is known of a span beside its fields.
#[derive(Debug, Default)]
pub(crate) struct Mark {
    parent: Option<Arc<Mark>>,
    remote: OnceLock<TraceContext>,
    context: OnceLock<TraceContext>,
    request_id: OnceLock<String>,
    tenant: OnceLock<String>,
}

impl Mark {
    /// Its place in its trace.
    pub(crate) fn context(&self) -> &TraceContext {
        self.context.get_or_init(|| {
            let ids = RandomIdGenerator::default();
            let above = self.remote.get().or_else(|| self.parent.as_ref().map(|parent| parent.context()));
            match above {
                Some(above) => above.child(ids.new_span_id()),
                None => TraceContext::root(ids.new_trace_id(), ids.new_span_id()),
            }
        })
    }

    /// The request it is part of.
    pub(crate) fn request_id(&self) -> Option<&str> {
        self.find(|mark| &mark.request_id)
    }

    /// The brain that was asked.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.find(|mark| &mark.tenant)
    }

    fn find(&self, which: impl Fn(&Self) -> &OnceLock<String>) -> Option<&str> {
        let mut mark = self;
        loop {
            if let Some(found) = which(mark).get() {
                return Some(found);
            }
            mark = mark.parent.as_deref()?;
        }
    }
}

/// What a span says of its request is kept; the rest of its fields is none of this layer's business.
impl Visit for &Mark {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let kept = match field.name() {
            REQUEST_ID => &self.request_id,
            TENANT => &self.tenant,
            _ => return,
        };
        // The first word stands: a request does not become another one.
        kept.get_or_init(|| format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// The layer. It must lie above OpenTelemetry's.
pub(crate) struct Ids {
    /// Whether OpenTelemetry's layer lies below.
    pub(crate) exporting: bool,
}

impl<S> Layer<S> for Ids
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let parent = span.parent().and_then(|parent| parent.extensions().get::<Arc<Mark>>().cloned());
        let mark = Mark { parent, ..Mark::default() };
        attributes.record(&mut &mark);
        span.extensions_mut().replace(Arc::new(mark));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(mark) = mark(&context, id) {
            values.record(&mut &*mark);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let Some(mark) = mark(&context, id) else { return };
        if self.exporting && mark.context.get().is_none() {
            // OpenTelemetry's layer lies below, so it has entered already: what is current is this very span.
            let made = opentelemetry::Context::map_current(|context| context.span().span_context().clone());
            if let Some(made) = TraceContext::valid(made) {
                let _ = mark.context.set(made);
            }
        }
        let _ = ENTERED.try_with(|entered| entered.borrow_mut().push((id.clone(), mark)));
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        let _ = ENTERED.try_with(|entered| {
            let mut entered = entered.borrow_mut();
            // Spans may be left in another order than the one they were entered in.
            if let Some(at) = entered.iter().rposition(|(inside, _)| inside == id) {
                entered.remove(at);
            }
        });
    }
}

fn mark<S>(context: &Context<'_, S>, id: &Id) -> Option<Arc<Mark>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    context.span(id)?.extensions().get::<Arc<Mark>>().cloned()
}

/// Reads the mark of the span this thread is in.
pub(crate) fn current_mark<T>(read: impl FnOnce(&Mark) -> T) -> Option<T> {
    ENTERED
        .try_with(|entered| entered.borrow().last().map(|(_, mark)| Arc::clone(mark)))
        .ok()?
        .map(|mark| read(&mark))
}

/// Names the parent of a span that has not been entered yet.
pub(super) fn set_parent(span: &Span, parent: &TraceContext) {
    span.with_subscriber(|(id, dispatch)| {
        let registry = dispatch.downcast_ref::<Registry>()?;
        let mark = registry.span(id)?.extensions().get::<Arc<Mark>>().cloned()?;
        mark.remote.set(parent.clone()).ok()
    });
}
