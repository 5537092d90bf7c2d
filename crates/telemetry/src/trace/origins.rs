//! The traces that a batch of events comes from.

use tracing::Span;

use super::{TraceContext, link, set_parent};

/// The most traces one span is linked to. The collector would cut more of them off anyway; these are the first.
pub const MAX_LINKS: usize = 32;

/// The traces that a batch of events comes from, as the events' metadata tells.
///
/// Whoever works on the batch does so as part of the one trace it comes from; where it comes from several, in a trace of
/// its own that is linked to each of them.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    // One of each trace: the first that was seen.
    seen: Vec<TraceContext>,
    missed: bool,
}

impl Origins {
    /// Takes note of an event. One without a readable `traceparent` tells nothing.
    pub fn add(&mut self, traceparent: Option<&str>) {
        let Some(context) = traceparent.and_then(TraceContext::parse) else { return };
        if self.seen.iter().any(|seen| seen.same_trace(&context)) {
            return;
        }
        if self.seen.len() == MAX_LINKS {
            self.missed = true;
            return;
        }
        self.seen.push(context);
    }

    /// How many traces there are, up to [`MAX_LINKS`].
    pub fn traces(&self) -> usize {
        self.seen.len()
    }

    /// Whether there were more traces than could be kept.
    pub const fn is_cut_off(&self) -> bool {
        self.missed
    }

    /// Joins a span to these traces. It must not have been entered yet.
    pub fn adopt(&self, span: &Span) {
        match self.seen.as_slice() {
            [] => {}
            [only] => set_parent(span, Some(only)),
            several => several.iter().for_each(|origin| link(span, origin)),
        }
    }
}

impl<'a> Extend<Option<&'a str>> for Origins {
    fn extend<I: IntoIterator<Item = Option<&'a str>>>(&mut self, traceparents: I) {
        traceparents.into_iter().for_each(|traceparent| self.add(traceparent));
    }
}

impl<'a> FromIterator<Option<&'a str>> for Origins {
    fn from_iter<I: IntoIterator<Item = Option<&'a str>>>(traceparents: I) -> Self {
        let mut origins = Self::default();
        origins.extend(traceparents);
        origins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(trace: u32) -> String {
        format!("00-{trace:032x}-00000000000000aa-01")
    }

    #[test]
    fn each_trace_is_kept_once_and_only_so_many() {
        let mut origins: Origins =
            [None, Some("nonsense"), Some(&*parent(1)), Some(&*parent(1))].into_iter().collect();
        assert_eq!((origins.traces(), origins.is_cut_off()), (1, false));
        for trace in 2..=MAX_LINKS as u32 {
            origins.add(Some(&parent(trace)));
        }
        assert_eq!((origins.traces(), origins.is_cut_off()), (MAX_LINKS, false));
        origins.add(Some(&parent(99)));
        assert_eq!((origins.traces(), origins.is_cut_off()), (MAX_LINKS, true));
    }
}
