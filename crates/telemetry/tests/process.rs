//! What a whole process does with its logs: each test runs this program again as one.

use std::process::{Command, Output, Stdio};

use cairn_telemetry::receiver::Receiver;
use cairn_telemetry::{Export, LogFormat, Metrics, init, spans};

/// Tells the program that it is the process under test.
const ENDPOINT: &str = "CAIRN_TEST_ENDPOINT";

/// The process under test; not a test by itself.
#[test]
#[ignore = "run by the other tests"]
fn the_process() {
    let endpoint = std::env::var(ENDPOINT).ok();
    let metrics = Metrics::install().expect("the first recorder");
    let guard =
        init(LogFormat::Json, "info", &Export { endpoint, ..Export::default() }).expect("it can be set up");
    for number in 0..3_000 {
        spans::http(number, "GET", "/x", None).in_scope(|| {
            if number == 0 {
                tracing::info!("inside");
            }
        });
    }
    for _ in 0..2 {
        guard.flush();
    }
    println!("{}", metrics.render());
    guard.shutdown();
    assert!(init(LogFormat::Json, "info", &Export::default()).is_err(), "a process has one log");
}

fn run(variables: &[(&str, &str)]) -> (Vec<serde_json::Value>, String) {
    let mut program = Command::new(std::env::current_exe().expect("this program"));
    program.args(["--exact", "the_process", "--include-ignored", "--nocapture"]);
    let variables = variables.iter().copied();
    let Output { status, stdout, stderr } =
        program.envs(variables).stdin(Stdio::null()).output().expect("it can be run");
    let (stdout, stderr) = (String::from_utf8(stdout).expect("UTF-8"), String::from_utf8(stderr).expect("UTF-8"));
    assert!(status.success(), "{stdout}\n{stderr}");
    let lines = stderr.lines().filter(|line| line.starts_with('{'));
    (lines.map(|line| serde_json::from_str(line).expect("JSON")).collect(), stdout)
}

fn count(page: &str, outcome: &str) -> u64 {
    let name = format!("cairn_trace_spans_total{{outcome=\"{outcome}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
}

#[test]
fn a_collector_that_is_gone_is_told_of_once_and_every_lost_span_is_counted() {
    let (lines, page) = run(&[(ENDPOINT, "http://127.0.0.1:1")]);
    let troubles: Vec<_> = lines.iter().filter(|line| line["level"] != "INFO").collect();
    // That spans are not taken, and that the queue is full.
    assert_eq!(troubles.len(), 2, "{lines:#?}");
    assert!(troubles.iter().any(|line| line["reason"].as_str().is_some_and(|text| text.contains("refused"))));
    assert_eq!((count(&page, "sent"), count(&page, "failed") + count(&page, "dropped")), (0, 3_000), "{page}");
    let inside = lines.iter().find(|line| line["message"] == "inside").expect("a line");
    assert_eq!((&inside["request_id"], inside["trace_id"].as_str().map(str::len)), (&"0".into(), Some(32)));
}

#[test]
fn the_environment_names_a_collector_where_the_configuration_does_not() {
    let receiver = Receiver::start().expect("a receiver");
    let (lines, page) = run(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=sesame"),
        ("OTEL_SERVICE_NAME", "somebody"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "4000"),
    ]);
    assert_eq!((count(&page, "sent"), receiver.spans().len()), (3_000, 3_000), "{lines:?}");
    assert_eq!(receiver.spans()[0].service, "somebody");
    assert!(receiver.headers().contains(&("x-key".to_owned(), "sesame".to_owned())));
    let inside = lines.iter().find(|line| line["message"] == "inside").expect("a line");
    let first = &receiver.spans()[0];
    assert_eq!(
        (inside["trace_id"].as_str(), inside["span_id"].as_str()),
        (Some(&*first.trace_id), Some(&*first.span_id))
    );
}

#[test]
fn the_environment_can_turn_it_off() {
    let receiver = Receiver::start().expect("a receiver");
    let (_, page) = run(&[(ENDPOINT, &receiver.endpoint()), ("OTEL_SDK_DISABLED", "true")]);
    assert_eq!((count(&page, "sent"), receiver.spans().len()), (0, 0));
}
