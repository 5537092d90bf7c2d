//! What is measured of the gateway.

use metrics::Counter;

/// Counts appends. Cheap to use: the counters are looked up once.
pub(crate) struct Meter {
    events: Counter,
    refused: Counter,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self {
            events: metrics::counter!("cairn_gateway_appended_events_total"),
            refused: metrics::counter!("cairn_gateway_refused_appends_total"),
        }
    }

    /// Counts an append of so many events in.
    pub(crate) fn count<T, E>(&self, events: usize, outcome: &Result<T, E>) {
        match outcome {
            Ok(_) => self.events.increment(events as u64),
            Err(_) => self.refused.increment(1),
        }
    }
}

/// The messages that reads and subscriptions have been answered with.
pub(crate) fn sent() -> Counter {
    metrics::counter!("cairn_gateway_sent_messages_total")
}
