//! Spans on their way to a collector: one trace from a request to the projections, across processes, and no harm done
//! where the collector is gone.

use std::time::{Duration, Instant};

use cairn_telemetry::receiver::{Received, Receiver};
use cairn_telemetry::trace::{self, MAX_LINKS, Origins, TraceContext};
use cairn_telemetry::{Export, LogFormat, SHUTDOWN_PATIENCE, Telemetry, prepare, red, spans};
use tracing::Dispatch;
use tracing::dispatcher::with_default;

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A process that exports, as far as this thread is concerned.
fn process(service: &str, endpoint: &str) -> (Dispatch, Telemetry) {
    let export = Export {
        endpoint: Some(endpoint.to_owned()),
        service_name: Some(service.to_owned()),
        sample_ratio: Some(1.0),
        ..Export::default()
    };
    prepare(LogFormat::Json, "error", &export).expect("it can be set up")
}

fn silent() -> (Dispatch, Telemetry) {
    prepare(LogFormat::Json, "error", &Export { endpoint: Some(String::new()), ..Export::default() })
        .expect("it can be set up")
}

/// A made-up request with its command and append; gives what the events' metadata keep.
fn request(parent: Option<&TraceContext>) -> String {
    let request = spans::http("r-1", "POST", "/memories/{id}", parent);
    let kept = request.in_scope(|| {
        spans::tenant(&request, "b-1");
        let command = spans::command("ClaimField");
        command.in_scope(|| {
            let append = spans::append(2);
            append.in_scope(|| {
                spans::outcome(&append, red::Outcome::Applied, Some(7));
                trace::current().expect("inside a span")
            })
        })
    });
    spans::answered(&request, 202);
    kept
}

fn project(events: &[Option<&str>]) {
    let origins: Origins = events.iter().copied().collect();
    let span = spans::projection("search", events.len(), 7, &origins);
    span.in_scope(|| spans::query("rows").in_scope(|| ()));
}

fn named<'a>(spans: &'a [Received], name: &str) -> &'a Received {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    let [only] = found.as_slice() else { panic!("{name} in {spans:#?}") };
    only
}

#[test]
fn a_request_and_its_projection_in_another_process_are_one_trace() {
    let receiver = Receiver::start().expect("a receiver");
    let caller = TraceContext::parse(CALLER);
    let (node, node_guard) = process("node", &receiver.endpoint());
    let kept = with_default(&node, || request(caller.as_ref()));
    // Nothing but text goes from one to the other.
    let (projector, projector_guard) = process("projector", &receiver.endpoint());
    with_default(&projector, || project(&[Some(&kept), Some(&kept), None]));
    node_guard.shutdown();
    projector_guard.shutdown();

    let spans = receiver.spans();
    assert_eq!(spans.len(), 5, "{spans:#?}");
    let http = named(&spans, "POST /memories/{id}");
    let (command, append) = (named(&spans, "command"), named(&spans, "append"));
    let (projection, query) = (named(&spans, "projection"), named(&spans, "query"));
    assert_eq!((http.trace_id.as_str(), http.parent_id.as_str()), (&CALLER[3..35], &CALLER[36..52]));
    for (child, parent) in [(command, http), (append, command), (projection, append), (query, projection)] {
        assert!(child.is_child_of(parent), "{child:#?} below {parent:#?}");
    }
    assert_eq!(kept, format!("00-{}-{}-01", append.trace_id, append.span_id));
    assert_eq!((http.service.as_str(), projection.service.as_str()), ("node", "projector"));
    for (name, value) in [
        ("request_id", "r-1"),
        ("tenant", "b-1"),
        ("http.route", "/memories/{id}"),
        ("http.response.status_code", "202"),
    ] {
        assert_eq!(http.attribute(name), Some(value), "{http:#?}");
    }
    assert_eq!((append.attribute("outcome"), append.attribute("position")), (Some("applied"), Some("7")));
    assert!(!http.failed && projection.links.is_empty());
}

#[test]
fn a_batch_from_several_traces_has_one_of_its_own_that_is_linked_to_them() {
    let receiver = Receiver::start().expect("a receiver");
    let (process, guard) = process("projector", &receiver.endpoint());
    let events: Vec<String> = (1..=MAX_LINKS + 5).map(|n| format!("00-{n:032x}-{n:016x}-01")).collect();
    let events: Vec<Option<&str>> = events.iter().map(|event| Some(event.as_str())).collect();
    with_default(&process, || {
        project(&events);
        spans::http("r", "GET", "/x", None).in_scope(|| tracing::error!("it broke"));
    });
    guard.shutdown();
    let spans = receiver.spans();
    let projection = named(&spans, "projection");
    assert_eq!(projection.links.len(), MAX_LINKS, "the first ones");
    assert_eq!(projection.links[1], (format!("{:032x}", 2), format!("{:016x}", 2)));
    assert_eq!(projection.parent_id, "");
    assert!(!projection.links.iter().any(|(trace, _)| *trace == projection.trace_id));
    assert_eq!(projection.attribute("traces"), Some("32"));
    let http = named(&spans, "GET /x");
    assert!(http.failed && http.events.len() == 1, "an error makes its span one that failed: {http:#?}");
}

#[test]
fn without_a_collector_ids_are_made_and_passed_on_all_the_same() {
    let (process, guard) = silent();
    assert!(!guard.is_exporting());
    with_default(&process, || {
        assert_eq!(trace::current(), None, "outside every span");
        let caller = TraceContext::from_headers([CALLER.as_bytes()], [&b"vendor=1"[..]]);
        let kept = TraceContext::parse(&request(caller.as_ref())).expect("well-formed");
        assert_eq!(kept.trace_id(), &CALLER[3..35]);
        assert!(kept.is_sampled(), "the caller's decision is passed on");
        assert_ne!(kept.span_id(), &CALLER[36..52]);
        spans::http("r-2", "GET", "/x", caller.as_ref()).in_scope(|| {
            assert_eq!(TraceContext::current().and_then(|own| own.tracestate()).as_deref(), Some("vendor=1"));
        });
        let (one, other) = (request(None), request(None));
        assert_ne!(one[3..35], other[3..35], "requests of their own are traces of their own");
        assert!(one.ends_with("-00"), "nobody records it: {one}");
        // A span joins what its events come from here too.
        let span = spans::projection("search", 1, 1, &[Some(one.as_str())].into_iter().collect());
        span.in_scope(|| assert_eq!(trace::current_trace_id().as_deref(), Some(&one[3..35])));
        // It is too late once it was entered.
        trace::set_parent(&span, caller.as_ref());
        span.in_scope(|| assert_eq!(trace::current_trace_id().as_deref(), Some(&one[3..35])));
    });
}

#[test]
fn spans_left_out_of_order_do_not_confuse_whose_turn_it_is() {
    let (process, _guard) = silent();
    with_default(&process, || {
        let (outer, inner) = (tracing::info_span!("outer"), tracing::info_span!("inner"));
        let in_outer = outer.enter();
        let outer_id = trace::current();
        let in_inner = inner.enter();
        let inner_id = trace::current();
        drop(in_outer);
        assert_eq!(trace::current(), inner_id);
        drop(in_inner);
        assert_eq!(trace::current(), None);
        assert_eq!(outer.in_scope(trace::current), outer_id, "a span keeps its id");
    });
}

#[test]
fn a_trace_that_its_caller_does_not_record_is_not_sent_but_passed_on() {
    let receiver = Receiver::start().expect("a receiver");
    let (process, guard) = process("node", &receiver.endpoint());
    let unsampled = CALLER.replace("-01", "-00");
    let kept = with_default(&process, || request(TraceContext::parse(&unsampled).as_ref()));
    guard.shutdown();
    assert_eq!(receiver.spans(), []);
    assert_eq!((&kept[3..35], &kept[53..]), (&CALLER[3..35], "00"));
}

#[test]
fn the_collector_gets_its_headers_and_nobody_else_does() {
    let receiver = Receiver::start().expect("a receiver");
    let export = Export {
        endpoint: Some(receiver.endpoint()),
        headers: "authorization=Bearer sesame".parse().expect("well-formed"),
        ..Export::default()
    };
    let (process, guard) = prepare(LogFormat::Text, "error", &export).expect("it can be set up");
    with_default(&process, || request(None));
    assert!(guard.flush());
    assert!(receiver.headers().contains(&("authorization".to_owned(), "Bearer sesame".to_owned())));
    let shown = format!("{export:?} {guard:?} {export:#?} {process:?}");
    assert!(!shown.contains("sesame") && shown.contains("authorization"), "{shown}");
    guard.shutdown();
}

/// Nobody answers at all, or nobody even refuses.
fn collectors_that_are_gone() -> [(String, Option<std::net::TcpListener>); 3] {
    let mute = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let refusing = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let refused = format!("http://{}", refusing.local_addr().expect("an address"));
    drop(refusing);
    let unanswered = format!("http://{}", mute.local_addr().expect("an address"));
    // RFC 5737: packets to this network go nowhere.
    [(refused, None), (unanswered, Some(mute)), ("http://192.0.2.1:4317".to_owned(), None)]
}

#[test]
fn a_collector_that_is_gone_delays_neither_requests_nor_the_end() {
    for (endpoint, _open) in collectors_that_are_gone() {
        let (process, guard) = process("node", &endpoint);
        let started = Instant::now();
        // More than the queue takes.
        let slowest = with_default(&process, || {
            let time = |_| {
                let began = Instant::now();
                request(None);
                began.elapsed()
            };
            (0..3_000).map(time).max().expect("some")
        });
        assert!(slowest < Duration::from_millis(500), "{endpoint}: {slowest:?}");
        assert!(started.elapsed() < Duration::from_secs(5), "{endpoint}: {:?}", started.elapsed());
        let stopping = Instant::now();
        guard.shutdown();
        let took = stopping.elapsed();
        assert!(took < SHUTDOWN_PATIENCE + Duration::from_millis(300), "{endpoint}: {took:?}");
        // What ends afterwards goes nowhere, and takes no harm.
        with_default(&process, || request(None));
    }
}

#[test]
fn a_collector_that_comes_back_gets_what_happens_then() {
    let receiver = Receiver::start().expect("a receiver");
    let endpoint = receiver.endpoint();
    let (process, guard) = process("node", &endpoint);
    drop(receiver);
    with_default(&process, || request(None));
    assert!(!guard.flush(), "nobody is there");
    let address = endpoint.strip_prefix("http://").expect("a scheme").parse().expect("an address");
    let receiver = Receiver::start_at(address).expect("the port is free again");
    with_default(&process, || request(None));
    guard.flush();
    let arrived = receiver.wait_for(Duration::from_secs(5), |spans| spans.len() >= 3);
    assert!(arrived.is_some(), "{:?}", receiver.spans());
    guard.shutdown();
}

#[tokio::test]
async fn it_can_be_set_up_and_stopped_within_a_runtime_of_one_thread() {
    let receiver = Receiver::start().expect("a receiver");
    let (process, guard) = process("node", &receiver.endpoint());
    with_default(&process, || request(None));
    guard.shutdown();
    assert_eq!(receiver.spans().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_task_keeps_its_trace_across_threads() {
    use tracing::Instrument;
    use tracing::instrument::WithSubscriber;
    let (process, _guard) = silent();
    let span = with_default(&process, || spans::http("r-1", "GET", "/x", TraceContext::parse(CALLER).as_ref()));
    let task = async {
        for _ in 0..20 {
            assert_eq!(trace::current_trace_id().as_deref(), Some(&CALLER[3..35]));
            tokio::task::yield_now().await;
        }
        // What is spawned takes the span along when it is told to.
        let inner = tokio::spawn(async { trace::current_trace_id() }.in_current_span().with_current_subscriber());
        inner.await.expect("it ends")
    };
    let trace = tokio::spawn(task.instrument(span).with_subscriber(process)).await.expect("it ends");
    assert_eq!(trace.as_deref(), Some(&CALLER[3..35]));
}
