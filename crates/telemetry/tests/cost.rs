//! What a span costs where nothing is sent.

use std::time::{Duration, Instant};

use cairn_telemetry::receiver::Receiver;
use cairn_telemetry::trace::{self, TraceContext};
use cairn_telemetry::{Export, LogFormat, prepare, spans};
use tracing::dispatcher::with_default;

const SPANS: u32 = 10_000;
const ROUNDS: usize = 30;
const LIMIT: Duration = Duration::from_micros(1);

/// The time one call takes in the quickest of several rounds: what else the machine does is not measured.
fn quickest(mut work: impl FnMut()) -> Duration {
    let round = |_| {
        let began = Instant::now();
        (0..SPANS).for_each(|_| work());
        began.elapsed() / SPANS
    };
    (0..ROUNDS).map(round).min().expect("some rounds")
}

#[test]
fn a_span_in_a_json_log_or_on_its_way_to_a_collector_stays_cheap() {
    let receiver = Receiver::start().expect("a receiver");
    for (endpoint, filter, what) in
        [(String::new(), "info", "shown in lines"), (receiver.endpoint(), "off", "sent")]
    {
        let export = Export { endpoint: Some(endpoint), ..Export::default() };
        let (process, _guard) = prepare(LogFormat::Json, filter, &export).expect("it can be set up");
        with_default(&process, || {
            let span = quickest(|| spans::append(1).in_scope(|| ()));
            let request = quickest(|| spans::http(7, "GET", "/memories/{id}", None).in_scope(|| ()));
            eprintln!("{what}: span {span:?}, request {request:?}");
            assert!(request < 20 * LIMIT, "{what}: a request took {request:?}");
        });
    }
}

#[test]
fn a_span_that_is_not_sent_costs_less_than_a_microsecond() {
    let none = Export { endpoint: Some(String::new()), ..Export::default() };
    let (process, _guard) = prepare(LogFormat::Text, "warn", &none).expect("it can be set up");
    with_default(&process, || {
        let span = quickest(|| spans::append(1).in_scope(|| ()));
        let context = spans::http("r", "GET", "/x", None).in_scope(|| quickest(|| drop(TraceContext::current())));
        let text = spans::http("r", "GET", "/x", None).in_scope(|| quickest(|| drop(trace::current())));
        let request = quickest(|| spans::http(7, "GET", "/memories/{id}", None).in_scope(|| ()));
        eprintln!("span {span:?}, context {context:?}, its text {text:?}, request {request:?}");
        assert!(span < LIMIT, "a span took {span:?}");
        assert!(context < LIMIT, "its context took {context:?}");
        assert!(text < LIMIT, "its text took {text:?}");
    });
}
