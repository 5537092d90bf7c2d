//! Rate, errors and duration of what the node is asked to do.

use std::time::Duration;

use metrics::{counter, histogram};

use super::names::{APPEND_SECONDS, APPENDED_EVENTS, COMMAND_SECONDS, COMMANDS, HTTP_REQUESTS, HTTP_SECONDS};

/// What became of a command or an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Applied,
    /// It is kept as a suggestion.
    Suggested,
    /// It had been carried out before.
    Repeated,
    /// The rules do not allow it.
    Rejected,
    /// Others were quicker.
    Conflict,
    /// It could not be carried out for now, or the log is damaged.
    Failed,
}

impl Outcome {
    /// Its name as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Suggested => "suggested",
            Self::Repeated => "repeated",
            Self::Rejected => "rejected",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }
}

/// An HTTP request was answered. `route` is the pattern that matched, never the path: what clients invent must not
/// become a series of its own, and neither must their methods.
pub fn http(method: &str, route: &str, status: u16, took: Duration) {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    let method = KNOWN.into_iter().find(|known| *known == method).unwrap_or("other");
    let route = route.to_owned();
    histogram!(HTTP_SECONDS, "method" => method, "route" => route.clone(), "class" => class(status)).record(took);
    counter!(HTTP_REQUESTS, "method" => method, "route" => route, "status" => status.to_string()).increment(1);
}

/// A command was carried out, or was not.
pub fn command(name: &'static str, outcome: Outcome, took: Duration) {
    histogram!(COMMAND_SECONDS, "command" => name).record(took);
    counter!(COMMANDS, "command" => name, "outcome" => outcome.as_str()).increment(1);
}

/// Events were appended, or were not.
pub fn append(events: usize, outcome: Outcome, took: Duration) {
    histogram!(APPEND_SECONDS, "outcome" => outcome.as_str()).record(took);
    if outcome == Outcome::Applied {
        counter!(APPENDED_EVENTS).increment(events as u64);
    }
}

const fn class(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
