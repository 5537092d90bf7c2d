//! Where log lines go and what they look like.

use tracing::Subscriber;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, fmt};

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line: the event's own fields at the top, those of the innermost span (such as
    /// `request_id` and `brain`) under `span`, those of the spans around it under `spans`.
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
    /// The process logs already.
    #[error("logs are set up already")]
    Installed(#[source] TryInitError),
}

/// Sends the process's logs to standard error, so that standard output stays free for what a command prints.
///
/// `filter` names levels by target in the usual directive syntax: `info`, `cairn=debug,warn`.
///
/// # Errors
/// When the filter cannot be parsed, or logs were set up before.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<(), LogError> {
    subscriber(format, filter, std::io::stderr)?.try_init().map_err(LogError::Installed)
}

fn subscriber<W>(format: LogFormat, filter: &str, writer: W) -> Result<Box<dyn Subscriber + Send + Sync>, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter)
        .map_err(|source| LogError::Filter { filter: filter.chars().take(200).collect(), source })?;
    let builder = fmt().with_env_filter(filter).with_writer(writer);
    Ok(match format {
        // Colours only for eyes: a pipe or a file gets plain text.
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            Box::new(builder.with_ansi(colours).with_target(false).finish())
        }
        LogFormat::Json => {
            Box::new(builder.json().flatten_event(true).with_current_span(true).with_span_list(true).finish())
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

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

    fn logged(format: LogFormat, filter: &str) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = subscriber(format, filter, move || writer.clone()).expect("a filter");
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("request", request_id = "r-1", brain = "b-1");
            let _inside = span.enter();
            tracing::info!(position = 7, "appended");
            tracing::debug!("too small to show");
        });
        String::from_utf8(captured.0.lock().unwrap().clone()).expect("UTF-8")
    }

    #[test]
    fn a_json_line_carries_the_ids_of_request_and_brain() {
        let lines = logged(LogFormat::Json, "info");
        assert_eq!(lines.lines().count(), 1, "{lines}");
        for part in [r#""request_id":"r-1""#, r#""brain":"b-1""#, r#""position":7"#, r#""message":"appended""#] {
            assert!(lines.contains(part), "{part} in {lines}");
        }
    }

    #[test]
    fn a_text_line_is_plain_outside_a_terminal() {
        let lines = logged(LogFormat::Text, "info");
        assert!(lines.contains("appended") && lines.contains("request_id"), "{lines}");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        let error = init_logs(LogFormat::Text, "cairn=loud").expect_err("no such level");
        assert!(error.to_string().contains("cairn=loud"), "{error}");
    }
}
