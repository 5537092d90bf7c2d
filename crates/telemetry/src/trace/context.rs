//! The W3C trace context, as it is read and written.

use std::fmt;
use std::str::FromStr;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

use super::layer;

/// The longest `traceparent` that is looked at, in bytes. Version 00 has 55; later ones may be longer.
pub const MAX_TRACEPARENT_BYTES: usize = 128;
/// The longest `tracestate` that is passed on, in bytes: what the specification asks everyone to pass on at least.
pub const MAX_TRACESTATE_BYTES: usize = 512;
/// The most members of a `tracestate`, by the specification.
pub const MAX_TRACESTATE_MEMBERS: usize = 32;

/// The length of a `traceparent` of version 00: `00-<trace>-<span>-<flags>`.
const VERSION_00_BYTES: usize = 55;

/// A place in a trace: the trace's id, a span's id, and whether the trace is sampled.
///
/// Its text is a `traceparent` (<https://www.w3.org/TR/trace-context/>, version 00).
#[derive(Debug, Clone, PartialEq)]
pub struct TraceContext(SpanContext);

impl TraceContext {
    /// Reads a `traceparent`. Anything but a well-formed one is `None`: whoever sends a broken one starts a new trace.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let bytes = traceparent.as_bytes();
        if !(VERSION_00_BYTES..=MAX_TRACEPARENT_BYTES).contains(&bytes.len()) || !traceparent.is_ascii() {
            return None;
        }
        let version = hex(&bytes[0..2])?;
        // 255 is forbidden; a later version may go on after another dash, version 00 may not.
        let ends_well = match version {
            0 => bytes.len() == VERSION_00_BYTES,
            255 => false,
            _ => bytes.get(VERSION_00_BYTES).is_none_or(|byte| *byte == b'-'),
        };
        let dashes = [2, 35, 52].into_iter().all(|at| bytes[at] == b'-');
        if !ends_well || !dashes {
            return None;
        }
        let trace = TraceId::from(u128::from(hex(&bytes[3..19])?) << 64 | u128::from(hex(&bytes[19..35])?));
        let span = SpanId::from(hex(&bytes[36..52])?);
        let flags = u8::try_from(hex(&bytes[53..55])?).ok()?;
        // Only the first flag means something here; the others must not be passed on.
        let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
        Self::valid(SpanContext::new(trace, span, flags, true, TraceState::NONE))
    }

    /// Adds a `tracestate`. One that is too long or malformed is left out.
    #[must_use]
    pub fn with_state(self, tracestate: &str) -> Self {
        let state = state(tracestate).unwrap_or_default();
        let own = self.0;
        Self(SpanContext::new(own.trace_id(), own.span_id(), own.trace_flags(), true, state))
    }

    /// Reads the values of a request's `traceparent` and `tracestate` headers. More than one `traceparent` is none.
    pub fn from_headers<'a>(
        traceparents: impl IntoIterator<Item = &'a [u8]>,
        tracestates: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Self> {
        let mut traceparents = traceparents.into_iter();
        let (Some(traceparent), None) = (traceparents.next(), traceparents.next()) else { return None };
        let context = Self::parse(std::str::from_utf8(traceparent).ok()?)?;
        let mut joined = String::new();
        for value in tracestates {
            let Ok(value) = std::str::from_utf8(value) else { return Some(context) };
            if joined.len() + value.len() > MAX_TRACESTATE_BYTES {
                return Some(context);
            }
            if !joined.is_empty() {
                joined.push(',');
            }
            joined.push_str(value);
        }
        Some(if joined.is_empty() { context } else { context.with_state(&joined) })
    }

    /// Where this thread is. `None` outside every span.
    pub fn current() -> Option<Self> {
        layer::current_mark(|mark| mark.context().clone())
    }

    /// The trace's id: 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        self.0.trace_id().to_string()
    }

    /// The span's id: 16 hexadecimal digits.
    pub fn span_id(&self) -> String {
        self.0.span_id().to_string()
    }

    /// Whether the trace is recorded by whoever began it.
    pub fn is_sampled(&self) -> bool {
        self.0.is_sampled()
    }

    /// The `tracestate` to pass on beside the `traceparent`, if there is one.
    pub fn tracestate(&self) -> Option<String> {
        Some(self.0.trace_state().header()).filter(|state| !state.is_empty())
    }

    pub(crate) fn same_trace(&self, other: &Self) -> bool {
        self.0.trace_id() == other.0.trace_id()
    }

    pub(crate) const fn span_context(&self) -> &SpanContext {
        &self.0
    }

    /// Zeros stand for nothing in both ids.
    pub(crate) fn valid(context: SpanContext) -> Option<Self> {
        context.is_valid().then_some(Self(context))
    }

    /// A span of this trace.
    pub(crate) fn child(&self, span: SpanId) -> Self {
        let own = &self.0;
        Self(SpanContext::new(own.trace_id(), span, own.trace_flags(), false, own.trace_state().clone()))
    }

    /// The first span of a trace that nobody records.
    pub(crate) fn root(trace: TraceId, span: SpanId) -> Self {
        Self(SpanContext::new(trace, span, TraceFlags::NOT_SAMPLED, false, TraceState::NONE))
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.0.trace_id(), self.0.span_id(), self.0.trace_flags().to_u8())
    }
}

/// Up to sixteen lower-case hexadecimal digits as a number. Capitals are malformed by the specification.
fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

fn state(text: &str) -> Option<TraceState> {
    if text.len() > MAX_TRACESTATE_BYTES || !text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        return None;
    }
    // Empty members are allowed and mean nothing.
    let members: Vec<&str> = text
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']))
        .filter(|member| !member.is_empty())
        .collect();
    let keys: std::collections::HashSet<_> =
        members.iter().filter_map(|member| member.split('=').next()).collect();
    if members.is_empty() || members.len() > MAX_TRACESTATE_MEMBERS || keys.len() != members.len() {
        return None;
    }
    TraceState::from_str(&members.join(",")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_and_written() {
        let context = TraceContext::parse(PARENT).expect("well-formed");
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span_id(), "b7ad6b7169203331");
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), PARENT);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = format!("cc{}", &PARENT[2..]);
        assert_eq!(TraceContext::parse(&later).expect("known part").to_string(), PARENT);
        assert!(TraceContext::parse(&format!("{later}-what-the-future-brings")).is_some());
        assert!(TraceContext::parse(&format!("{later}.what-the-future-brings")).is_none());
        let flags = TraceContext::parse(&format!("{}ff", &PARENT[..53])).expect("unknown flags");
        assert_eq!(flags.to_string(), PARENT, "flags that mean nothing here are not passed on");
    }

    #[test]
    fn a_malformed_traceparent_is_none() {
        let zeros =
            |from: usize, to: usize| format!("{}{}{}", &PARENT[..from], "0".repeat(to - from), &PARENT[to..]);
        let malformed = [
            String::new(),
            PARENT[..54].to_owned(),
            format!("{PARENT}0"),
            format!("{PARENT}-00"),
            format!(" {PARENT}"),
            PARENT.to_uppercase(),
            PARENT.replace('-', "_"),
            PARENT.replacen('a', "g", 1),
            PARENT.replacen('a', "+", 1),
            PARENT.replacen("0a", "é", 1),
            format!("ff{}", &PARENT[2..]),
            zeros(3, 35),
            zeros(36, 52),
            format!("cc{}-{}", &PARENT[2..], "x".repeat(MAX_TRACEPARENT_BYTES)),
        ];
        for text in malformed {
            assert!(TraceContext::parse(&text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_tracestate_is_passed_on_unless_it_is_broken() {
        let with = |state: &str| TraceContext::parse(PARENT).expect("well-formed").with_state(state).tracestate();
        assert_eq!(
            with("rojo=00f067aa0ba902b7, congo=t61rcWkgMzE,").as_deref(),
            Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
        );
        let many = (0..33).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
        for broken in
            ["", ",", "Rojo=1", "rojo", "rojo=1,rojo=2", "rojo=\u{7}", &many, &format!("a={}", "1".repeat(600))]
        {
            assert_eq!(with(broken), None, "{broken}");
        }
    }

    #[test]
    fn headers_are_read_as_the_specification_has_it() {
        let parent = PARENT.as_bytes();
        let read = TraceContext::from_headers([parent], [&b"a=1"[..], &b"b=2"[..]]).expect("well-formed");
        assert_eq!((read.to_string().as_str(), read.tracestate().as_deref()), (PARENT, Some("a=1,b=2")));
        assert!(TraceContext::from_headers([parent, parent], []).is_none(), "one of two is not chosen");
        assert!(TraceContext::from_headers([], [&b"a=1"[..]]).is_none());
        let long = [b'x'; MAX_TRACESTATE_BYTES + 1];
        let kept = TraceContext::from_headers([parent], [&long[..]]).expect("the traceparent stands");
        assert_eq!(kept.tracestate(), None);
    }
}
