//! Every metric's name, unit and meaning, in one table.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub(super) const UPTIME: &str = "process_uptime_seconds";
pub(super) const HTTP_REQUESTS: &str = "cairn_http_requests_total";
pub(super) const HTTP_SECONDS: &str = "cairn_http_request_seconds";
pub(super) const COMMANDS: &str = "cairn_commands_total";
pub(super) const COMMAND_SECONDS: &str = "cairn_command_seconds";
pub(super) const APPENDED_EVENTS: &str = "cairn_append_events_total";
pub(super) const APPEND_SECONDS: &str = "cairn_append_seconds";
pub(super) const POOL_CONNECTIONS: &str = "cairn_pool_connections";
pub(super) const POOL_MAX: &str = "cairn_pool_connections_max";
pub(super) const POOL_WAIT: &str = "cairn_pool_wait_seconds";
pub(super) const WORKERS: &str = "cairn_runtime_workers";
pub(super) const BUSY: &str = "cairn_runtime_busy_ratio";
pub(super) const TASKS: &str = "cairn_runtime_alive_tasks";
pub(super) const QUEUE: &str = "cairn_runtime_global_queue_depth";
pub(super) const BLOCKING: &str = "cairn_runtime_blocking_threads";
pub(super) const SUGGESTIONS: &str = "cairn_suggestions_waiting";
pub(super) const CLAIMS: &str = "cairn_claims";
/// Spans by what became of them.
pub(crate) const SPANS: &str = "cairn_trace_spans_total";

enum Kind {
    Counter,
    Gauge,
    Histogram,
}

use Kind::{Counter, Gauge, Histogram};

/// The projections' and the log's own are measured in their packages; they are described here with the rest.
const DESCRIPTIONS: &[(Kind, &str, Unit, &str)] = &[
    (Gauge, UPTIME, Unit::Seconds, "Time since the process started to measure."),
    (Counter, HTTP_REQUESTS, Unit::Count, "HTTP requests answered, by method, route and status."),
    (
        Histogram,
        HTTP_SECONDS,
        Unit::Seconds,
        "Time until an HTTP answer began, by method, route and class of status.",
    ),
    (Counter, COMMANDS, Unit::Count, "Commands carried out, by command and outcome."),
    (Histogram, COMMAND_SECONDS, Unit::Seconds, "Time a command took until it was durable, by command."),
    (Counter, APPENDED_EVENTS, Unit::Count, "Events appended to the log."),
    (Histogram, APPEND_SECONDS, Unit::Seconds, "Time an append took until it was durable, by outcome."),
    (Gauge, POOL_CONNECTIONS, Unit::Count, "Database connections, by pool and state (in_use, idle)."),
    (Gauge, POOL_MAX, Unit::Count, "The most connections a pool may open."),
    (Histogram, POOL_WAIT, Unit::Seconds, "Time somebody waited for a connection of a pool."),
    (Gauge, WORKERS, Unit::Count, "Threads that run asynchronous tasks."),
    (Gauge, BUSY, Unit::Count, "Share of their time the workers were busy since the last look, from 0 to 1."),
    (Gauge, TASKS, Unit::Count, "Asynchronous tasks that have not ended."),
    (Gauge, QUEUE, Unit::Count, "Tasks that wait for any worker to take them."),
    (Gauge, BLOCKING, Unit::Count, "Threads for work that blocks, busy or idle."),
    (Gauge, SUGGESTIONS, Unit::Count, "Suggestions that wait for the user's decision."),
    (Gauge, CLAIMS, Unit::Count, "Claims of all memories, by truth level."),
    (Counter, SPANS, Unit::Count, "Spans that ended, by what became of them (sent, failed, dropped)."),
    (Gauge, "cairn_log_position", Unit::Count, "The position of the log's last event."),
    (Counter, "cairn_projection_events_total", Unit::Count, "Events folded, by projection."),
    (Histogram, "cairn_projection_batch_seconds", Unit::Seconds, "Time it took to write a batch, by projection."),
    (
        Gauge,
        "cairn_projection_lag_events",
        Unit::Count,
        "Events of the log that are not folded yet, by projection.",
    ),
    (
        Gauge,
        "cairn_projection_lag_seconds",
        Unit::Seconds,
        "Age of the first event of the log that is not folded yet, by projection.",
    ),
    (Gauge, "cairn_projection_paused", Unit::Count, "Whether a projection is paused, 0 or 1."),
    (
        Histogram,
        "cairn_projection_swap_seconds",
        Unit::Seconds,
        "Time from the end of one generation's run to the next generation serving, by projection.",
    ),
    (Gauge, "cairn_gateway_connections", Unit::Count, "Connections of the gateway that are open."),
    (Counter, "cairn_gateway_appended_events_total", Unit::Count, "Events that clients of the gateway appended."),
    (
        Counter,
        "cairn_gateway_refused_appends_total",
        Unit::Count,
        "Appends through the gateway that came to nothing.",
    ),
    (Counter, "cairn_gateway_sent_messages_total", Unit::Count, "Messages that the gateway answered reads with."),
];

/// Tells the recorder of all of them.
pub(super) fn describe() {
    describe_gauge!("cairn_projection_events_per_second", "Events folded a second, by projection.");
    for (kind, name, unit, text) in DESCRIPTIONS {
        match kind {
            Counter => describe_counter!(*name, *unit, *text),
            Gauge => describe_gauge!(*name, *unit, *text),
            Histogram => describe_histogram!(*name, *unit, *text),
        }
    }
}
