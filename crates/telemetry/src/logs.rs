//! Where log lines go and what they look like.

mod json;

use tracing::Subscriber;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// What a filter leaves out unless it names it: crates whose troubles are told by those who use them, once. The exporter of traces,
/// and KurrentDB's client, which says the same many times over while it looks for its server.
const SILENT: [&str; 2] = ["opentelemetry", "eventstore"];

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line: the event's own fields at the top, those of the innermost span (such as
    /// `request_id` and `tenant`) under `span`, those of the spans around it under `spans`. Within a request each line
    /// has `request_id`, `tenant`, `trace_id` and `span_id` at the top, whatever the filter shows of its spans.
    Json,
}

/// Why logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("`{filter}` is not a log filter; write one such as `info` or `cairn=debug,warn`")]
    Filter {
        /// What was given.
        filter: String,
        /// Where it goes wrong.
        source: ParseError,
    },
}

/// The layer that writes log lines.
pub(crate) fn layer<S, W>(
    format: LogFormat,
    filter: &str,
    writer: W,
) -> Result<Box<dyn Layer<S> + Send + Sync>, LogError>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = parse(filter)?;
    let layer = fmt::layer().with_writer(writer);
    Ok(match format {
        // Colours only for eyes: a pipe or a file gets plain text.
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            layer.with_ansi(colours).with_target(false).with_filter(filter).boxed()
        }
        LogFormat::Json => {
            layer.fmt_fields(JsonFields::new()).event_format(json::Lines::default()).with_filter(filter).boxed()
        }
    })
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let told = filter;
    let unheard = SILENT.into_iter().filter(|target| !told.contains(target)).map(|target| format!("{target}=off"));
    let directives: Vec<String> = std::iter::once(told.to_owned()).chain(unheard).collect();
    EnvFilter::try_new(directives.join(","))
        .map_err(|source| LogError::Filter { filter: told.chars().take(200).collect(), source })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing::Dispatch;

    use super::*;
    use crate::telemetry::assemble;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged_by(format: LogFormat, filter: &str, work: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let dispatch: Dispatch = assemble(format, filter, None, move || writer.clone()).expect("a filter");
        tracing::dispatcher::with_default(&dispatch, work);
        String::from_utf8(captured.0.lock().unwrap().clone()).expect("UTF-8")
    }

    fn logged(format: LogFormat, filter: &str) -> String {
        logged_by(format, filter, || {
            let span = tracing::info_span!("request", request_id = "r-1", brain = "b-1");
            let _inside = span.enter();
            tracing::info!(position = 7, "appended");
            tracing::debug!("too small to show");
        })
    }

    fn objects(lines: &str) -> Vec<Value> {
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    #[test]
    fn a_json_line_carries_the_ids_of_request_and_brain() {
        let lines = logged(LogFormat::Json, "info");
        assert_eq!(lines.lines().count(), 1, "{lines}");
        for part in [r#""request_id":"r-1""#, r#""brain":"b-1""#, r#""position":7"#, r#""message":"appended""#] {
            assert!(lines.contains(part), "{part} in {lines}");
        }
        let line = &objects(&lines)[0];
        for field in ["timestamp", "level", "target", "span", "spans"] {
            assert!(line.get(field).is_some(), "{field} in {lines}");
        }
        assert_eq!((&line["span"]["brain"], &line["spans"][0]["name"]), (&"b-1".into(), &"request".into()));
    }

    #[test]
    fn every_json_line_within_a_request_names_request_tenant_trace_and_span() {
        // Even where the filter shows none of its spans.
        for filter in ["info", "warn"] {
            let lines = logged_by(LogFormat::Json, filter, || {
                tracing::warn!("before");
                let request = tracing::info_span!("request", request_id = "r-1", tenant = tracing::field::Empty);
                request.in_scope(|| {
                    tracing::warn!("first");
                    request.record("tenant", "b\"1");
                    tracing::info_span!("command").in_scope(|| tracing::warn!(tenant = 5, "within"));
                    tracing::warn!("last");
                });
            });
            let lines = objects(&lines);
            let [before, first, within, last] = lines.as_slice() else { panic!("{lines:?}") };
            for id in ["request_id", "tenant", "trace_id", "span_id"] {
                assert!(before.get(id).is_none(), "{before}");
            }
            assert!(first.get("tenant").is_none(), "not known yet: {first}");
            for line in [first, within, last] {
                assert_eq!(line["request_id"], "r-1", "{line}");
                assert_eq!(line["trace_id"], first["trace_id"], "{line}");
                assert_eq!(line["trace_id"].as_str().map(str::len), Some(32), "{line}");
                assert_eq!(line["span_id"].as_str().map(str::len), Some(16), "{line}");
            }
            assert_eq!((&within["tenant"], &last["tenant"]), (&5.into(), &"b\"1".into()), "an own field stands");
            assert_ne!(within["span_id"], first["span_id"]);
            assert_eq!(last["span_id"], first["span_id"]);
        }
    }

    #[test]
    fn a_line_of_another_span_than_the_current_one_has_that_ones_ids() {
        let lines = logged_by(LogFormat::Json, "info", || {
            let other = tracing::info_span!("request", request_id = "r-2");
            tracing::info_span!("request", request_id = "r-1")
                .in_scope(|| tracing::info!(parent: &other, "elsewhere"));
        });
        assert_eq!(objects(&lines)[0]["request_id"], "r-2", "{lines}");
    }

    #[test]
    fn a_text_line_is_plain_outside_a_terminal() {
        let lines = logged(LogFormat::Text, "info");
        assert!(lines.contains("appended") && lines.contains("request_id"), "{lines}");
        assert!(!lines.contains("trace_id"), "{lines}");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        let error = parse("cairn=loud").expect_err("no such level");
        assert!(error.to_string().contains("`cairn=loud`"), "{error}");
    }

    #[test]
    fn what_is_told_elsewhere_is_not_logged_unless_it_is_asked_for() {
        let usual = parse("info").expect("a filter").to_string();
        assert!(SILENT.iter().all(|target| usual.contains(&format!("{target}=off"))), "{usual}");
        let asked = parse("opentelemetry=debug").expect("a filter").to_string();
        assert!(asked.contains("opentelemetry=debug") && !asked.contains("opentelemetry=off"), "{asked}");
    }
}
