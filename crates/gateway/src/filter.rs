//! Which events of the log a reader wants.
//!
//! Clients send either prefixes or a pattern, for the name of the stream or for the type of the event. Patterns are
//! written for another engine than ours, which looks at each text in time linear to its length and so has no
//! lookaround. The one use of it that clients make of themselves, `^(?!...)` for "all but", is taken apart here.

use cairn_event_store::{Filter, RecordedEvent};
use cairn_proto::event_store::client::streams::read_req::options::FilterOptions;
use cairn_proto::event_store::client::streams::read_req::options::filter_options::{
    Expression, Filter as Subjects, Window,
};
use regex::{Regex, RegexBuilder};

use crate::failure::Failure;

/// The longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 16 * 1024;
/// The most prefixes.
pub const MAX_PREFIXES: usize = 1_000;
/// What a compiled pattern may take, in bytes.
const MAX_COMPILED_BYTES: usize = 1024 * 1024;
/// The events between two checkpoints where the client names no window.
const DEFAULT_WINDOW: u32 = 32;

/// A filter as the client asked for it.
#[derive(Debug)]
pub(crate) struct EventFilter {
    subject: Subject,
    rule: Rule,
    /// How many events to look at between two checkpoints.
    pub(crate) checkpoint_every: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Stream,
    EventType,
}

#[derive(Debug)]
enum Rule {
    Prefixes(Vec<String>),
    Pattern(Pattern),
}

/// A text passes that matches all of one list and none of the other.
#[derive(Debug, Default)]
struct Pattern {
    must: Vec<Regex>,
    must_not: Vec<Regex>,
}

impl EventFilter {
    pub(crate) fn parse(options: FilterOptions) -> Result<Self, Failure> {
        let (subject, expression) = match options.filter {
            Some(Subjects::StreamIdentifier(expression)) => (Subject::Stream, expression),
            Some(Subjects::EventType(expression)) => (Subject::EventType, expression),
            None => return Err(Failure::Invalid("the filter says neither stream nor event type".into())),
        };
        let window = match options.window {
            Some(Window::Max(max)) => max.max(1),
            Some(Window::Count(_)) | None => DEFAULT_WINDOW,
        };
        let checkpoint_every = u64::from(window) * u64::from(options.checkpoint_interval_multiplier.max(1));
        Ok(Self { subject, rule: Rule::parse(expression)?, checkpoint_every })
    }

    /// What the store can filter by itself. It may let through more than is wanted, never less.
    pub(crate) fn for_store(&self) -> Filter {
        let Rule::Prefixes(prefixes) = &self.rule else { return Filter::default() };
        match self.subject {
            Subject::Stream => Filter { stream_prefixes: prefixes.clone(), ..Filter::default() },
            // The store takes a type for a prefix where it ends in a dot, and only there.
            Subject::EventType if prefixes.iter().all(|prefix| prefix.ends_with('.')) => {
                Filter { event_types: prefixes.clone(), ..Filter::default() }
            }
            Subject::EventType => Filter::default(),
        }
    }

    pub(crate) fn matches(&self, event: &RecordedEvent) -> bool {
        let text = match self.subject {
            Subject::Stream => &event.stream,
            Subject::EventType => &event.event_type,
        };
        match &self.rule {
            Rule::Prefixes(prefixes) => prefixes.iter().any(|prefix| text.starts_with(prefix.as_str())),
            Rule::Pattern(pattern) => pattern.matches(text),
        }
    }
}

impl Rule {
    fn parse(expression: Expression) -> Result<Self, Failure> {
        if expression.prefix.is_empty() {
            return Pattern::parse(&expression.regex).map(Self::Pattern);
        }
        if expression.prefix.len() > MAX_PREFIXES {
            return Err(Failure::Invalid(format!("a filter has at most {MAX_PREFIXES} prefixes")));
        }
        Ok(Self::Prefixes(expression.prefix))
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, Failure> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err(Failure::Invalid(format!("a pattern has at most {MAX_PATTERN_BYTES} bytes")));
        }
        let mut pattern = Self::default();
        let Some(mut rest) = text.strip_prefix('^') else {
            pattern.must.push(compile(text)?);
            return Ok(pattern);
        };
        while let Some((inner, after, wanted)) = lookahead(rest) {
            let list = if wanted { &mut pattern.must } else { &mut pattern.must_not };
            list.push(compile(&format!("^(?:{inner})"))?);
            rest = after;
        }
        if pattern.must.is_empty() && pattern.must_not.is_empty() {
            pattern.must.push(compile(text)?);
        } else if !rest.is_empty() {
            pattern.must.push(compile(&format!("^(?:{rest})"))?);
        }
        Ok(pattern)
    }

    fn matches(&self, text: &str) -> bool {
        self.must.iter().all(|regex| regex.is_match(text))
            && !self.must_not.iter().any(|regex| regex.is_match(text))
    }
}

fn compile(pattern: &str) -> Result<Regex, Failure> {
    let built = RegexBuilder::new(pattern).size_limit(MAX_COMPILED_BYTES).build();
    built.map_err(|error| Failure::Invalid(format!("the pattern cannot be used: {error}")))
}

/// The inside of a lookahead that begins here, what comes after it, and whether its inside is wanted or unwanted.
/// An alternative beside it would make it a part of one branch only: such a pattern is left to the compiler to refuse.
fn lookahead(text: &str) -> Option<(&str, &str, bool)> {
    let (body, wanted) = match text.strip_prefix("(?!") {
        Some(body) => (body, false),
        None => (text.strip_prefix("(?=")?, true),
    };
    let end = closing(body)?;
    let after = &body[end + 1..];
    (!has_alternative(after)).then_some((&body[..end], after, wanted))
}

/// Where the group is closed in which the text begins.
fn closing(text: &str) -> Option<usize> {
    scan(text, |depth, byte| depth == 0 && byte == b')')
}

fn has_alternative(text: &str) -> bool {
    scan(text, |depth, byte| depth == 0 && byte == b'|').is_some()
}

/// The first byte outside of escapes and character classes that is looked for, given how deep in groups it stands.
fn scan(text: &str, found: impl Fn(usize, u8) -> bool) -> Option<usize> {
    let (mut depth, mut class, mut escaped) = (0_usize, false, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b']' => class = false,
            _ if class => {}
            b'[' => class = true,
            _ if found(depth, byte) => return Some(index),
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passing<'a>(pattern: &str, texts: &[&'a str]) -> Vec<&'a str> {
        let pattern = Pattern::parse(pattern).expect("a pattern");
        texts.iter().copied().filter(|text| pattern.matches(text)).collect()
    }

    #[test]
    fn the_patterns_of_known_clients_work() {
        let types = ["$metadata", "OrderCreated", "OrderDeleted", "InvoiceCreated", "Order"];
        assert_eq!(passing(r"^[^\$].*", &types), types[1..]);
        assert_eq!(passing(r"^(?!(\$.+$|OrderCreated$))", &types), ["OrderDeleted", "InvoiceCreated", "Order"]);
        assert_eq!(passing(r"^(?!(\$.+$|Order.*$))", &types), ["InvoiceCreated"]);
        assert_eq!(passing(r"^(?!\$)(?!Order).*Created$", &types), ["InvoiceCreated"]);
        assert_eq!(passing(r"^(?!Order$|\$)Order", &types), ["OrderCreated", "OrderDeleted"]);
        assert_eq!(passing(r"^(?=Order)(?!.*Deleted)", &types), ["OrderCreated", "Order"]);
        assert_eq!(passing("^OrderCreated|InvoiceCreated$", &types), ["OrderCreated", "InvoiceCreated"]);
        assert_eq!(passing("", &types), types);
    }

    #[test]
    fn brackets_within_classes_and_escapes_do_not_count() {
        let texts = ["a)b", "a(b", "ab"];
        assert_eq!(passing(r"^(?!a[)(]b)", &texts), ["ab"]);
        assert_eq!(passing(r"^(?!a\)b)", &texts), ["a(b", "ab"]);
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        for pattern in ["(?!x)", "x(?=y)", "^(?!x)|y", "(", "^(?!x", "(a{1000}){1000}"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
        assert!(Pattern::parse(&"x".repeat(MAX_PATTERN_BYTES + 1)).is_err());
    }

    #[test]
    fn the_store_never_keeps_back_what_is_wanted() {
        let filter = |subject, prefixes: &[&str]| EventFilter {
            subject,
            rule: Rule::Prefixes(prefixes.iter().map(ToString::to_string).collect()),
            checkpoint_every: 1,
        };
        assert_eq!(filter(Subject::Stream, &["memory-"]).for_store().stream_prefixes, ["memory-"]);
        assert_eq!(filter(Subject::EventType, &["memory."]).for_store().event_types, ["memory."]);
        assert!(filter(Subject::EventType, &["memory.", "x"]).for_store().is_open());
    }
}
