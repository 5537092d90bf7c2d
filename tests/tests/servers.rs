//! A brain on PostgreSQL: its processes take turns, and nothing is lost or doubled when they or the server are killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_telemetry::receiver::Receiver;
use cairn_testkit::postgres::{Cluster, Settings, database};
use cairn_testkit::{Beside, Client, Node, NodeOptions, Seed, fast};
use cairn_tests::log::History;
use cairn_tests::{kafka, projections};
use rand::Rng;
use rdkafka::mocking::MockCluster;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How often a projector is killed.
const KILLS: u32 = 100;
/// How often with short cuts.
const FAST_KILLS: u32 = 12;
/// A position so far on that a read model which has next to nothing is too far behind for its node to be ready.
const FAR_BEHIND: u64 = 11_000;
const PATIENCE: Duration = Duration::from_secs(60);

async fn node(database: &str, environment: &[(&str, &str)]) -> Node {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options = NodeOptions { database: Some(database.to_owned()), environment, ..NodeOptions::default() };
    Node::start(options).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn add(client: &Client, title: &str) -> Option<String> {
    let answer = client.try_post("/memories", &json!({ "kind": "note", "title": title, "body": "text" })).await;
    let answer = answer.ok().filter(|answer| answer.status < 300)?;
    answer.body["data"]["id"].as_str().map(str::to_owned)
}

async fn listed(client: &Client, projection: &str) -> Value {
    let projections = client.get("/projections").await.items().to_vec();
    projections.into_iter().find(|found| found["name"] == projection).expect("it is listed")
}

async fn until_live(client: &Client) {
    let began = Instant::now();
    while listed(client, "memories").await["state"] != "live"
        || listed(client, "timeline").await["state"] != "live"
    {
        assert!(began.elapsed() < PATIENCE, "nobody took over");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_processes_projects_and_another_takes_over() {
    let database = database().await;
    let node = node(database.url(), &[("CAIRN_PROJECTIONS", "external")]).await;
    let first = Beside::projector(node.data(), database.url(), &[]).await;
    until_live(first.client()).await;
    let second = Beside::projector(node.data(), database.url(), &[]).await;
    assert_eq!(listed(second.client(), "memories").await["state"], "standby");
    assert!(add(node.client(), "seen through a projector").await.is_some());
    ordered_of_a_node(node.client(), first.client()).await;
    first.kill9().await;
    until_live(second.client()).await;
    let id = add(node.client(), "seen through the other").await.expect("commands go on");
    // A read waits for what its writer wrote, whoever folds it in.
    let began = Instant::now();
    while node.client().get(&format!("/memories/{id}")).await.status != 200 {
        assert!(began.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    }
    projections::equal_a_fresh_fold(second.client()).await;
    second.stop().await;
}

/// What is asked of a node that projects nothing is done by the projector.
async fn ordered_of_a_node(node: &Client, projector: &Client) {
    let rebuild = json!({ "from_scratch": true, "verify": true, "parallel": 2 });
    node.post("/projections/memories/rebuild", rebuild).await.data(202);
    until(node, |memories| memories["generation"] == 2 && memories["rebuild"].is_null()).await;
    until_live(projector).await;
    node.post("/projections/memories/back", json!({})).await.data(202);
    until(node, |memories| memories["generation"] == 1 && memories["previous"] == 2).await;

    node.post("/projections/memories/pause", json!({})).await.ok();
    until(projector, |memories| memories["state"] == "paused").await;
    assert!(add(node, "not seen yet").await.is_some());
    let head = node.get("/status").await.position();
    for client in [node, projector] {
        assert_eq!(listed(client, "memories").await["state"], "paused");
    }
    let waited = node.get(&format!("/memories?min_position={head}")).await;
    assert_eq!(waited.code(503), "READ_MODEL_PAUSED");
    assert_eq!(node.get("/memories").await.status, 200, "it answers from what it has");
    let refused = node.post("/projections/memories/rebuild", json!({})).await;
    assert_eq!(refused.code(409), "PROJECTION_PAUSED");
    node.post("/projections/memories/resume", json!({})).await.ok();
    until(node, |memories| memories["state"] != "paused" && memories["lag"] == 0).await;
    assert_eq!(node.get(&format!("/memories?min_position={head}")).await.status, 200);
}

async fn until(client: &Client, wanted: impl Fn(&Value) -> bool) {
    let began = Instant::now();
    loop {
        let memories = listed(client, "memories").await;
        if wanted(&memories) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{memories:#}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits for an answer of `/health/ready`; gives what it says of the read models.
async fn until_ready(client: &Client, status: u16) -> Vec<Value> {
    let began = Instant::now();
    loop {
        let answer = client.get("/health/ready").await;
        if answer.status == status {
            let told = if status == 200 { &answer.body["data"] } else { &answer.body["error"]["details"] };
            return told["projections"].as_array().unwrap_or_else(|| panic!("{}", answer.text)).clone();
        }
        assert!(began.elapsed() < PATIENCE, "{}", answer.text);
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_ready_only_while_somebody_folds_its_read_models() {
    let database = database().await;
    let node = node(database.url(), &[("CAIRN_PROJECTIONS", "external")]).await;
    let lag = |told: &[Value]| {
        let memories = told.iter().find(|told| told["projection"] == "memories").expect("it is told of");
        assert_eq!(memories["state"], "standby", "another process folds it");
        memories["lag"].as_u64().expect("a number")
    };
    assert!(lag(&until_ready(node.client(), 503).await) > 0, "there is no generation yet");
    let projector = Beside::projector(node.data(), database.url(), &[]).await;
    lag(&until_ready(node.client(), 200).await);
    projector.kill9().await;
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let client = node.client().clone();
        writers.spawn(async move {
            while add(&client, &format!("writer {writer}")).await.is_some()
                && client.get("/projections").await.items()[0]["head"].as_u64().expect("a number") <= FAR_BEHIND
            {
            }
        });
    }
    writers.join_all().await;
    assert!(lag(&until_ready(node.client(), 503).await) > 10_000);
    let _projector = Beside::projector(node.data(), database.url(), &[]).await;
    assert!(lag(&until_ready(node.client(), 200).await) <= 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_killed_at_random_skips_and_doubles_nothing() {
    let mut rng = Seed::take().rng();
    let database = database().await;
    let node = node(database.url(), &[("CAIRN_PROJECTIONS", "external")]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = {
        let (client, stop) = (node.client().clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                written += u32::from(add(&client, &format!("note {written}")).await.is_some());
                sleep(Duration::from_millis(2)).await;
            }
            written
        })
    };
    for _ in 0..if fast() { FAST_KILLS } else { KILLS } {
        let projector = Beside::projector(node.data(), database.url(), &[]).await;
        sleep(Duration::from_millis(rng.random_range(0..300))).await;
        projector.kill9().await;
    }
    stop.store(true, Ordering::Relaxed);
    let written = writing.await.expect("the writer goes on");
    let projector = Beside::projector(node.data(), database.url(), &[]).await;
    until_live(projector.client()).await;
    projections::equal_a_fresh_fold(projector.client()).await;
    assert_eq!(node.client().get("/status").await.ok()["memories"], written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_under_load_costs_nothing_that_was_acknowledged() {
    let cluster = Cluster::start(&Settings::default()).expect("a private PostgreSQL");
    let database = cluster.database().await;
    let node = node(database.url(), &[]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..6 {
        let (client, stop) = (node.client().clone(), Arc::clone(&stop));
        writers.spawn(async move {
            let mut kept = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                kept.extend(add(&client, &format!("writer {writer} note {}", kept.len())).await);
            }
            kept
        });
    }
    for round in 0..4 {
        sleep(Duration::from_millis(1_500)).await;
        if round == 2 {
            cluster.stop();
        } else {
            cluster.kill();
        }
        sleep(Duration::from_millis(400)).await;
        cluster.resume().expect("it starts again");
    }
    sleep(Duration::from_millis(1_500)).await;
    stop.store(true, Ordering::Relaxed);
    let kept: Vec<String> = writers.join_all().await.into_iter().flatten().collect();
    assert!(kept.len() > 100, "the writers got on: {}", kept.len());
    projections::equal_a_fresh_fold(node.client()).await;
    for id in &kept {
        assert_eq!(node.client().get(&format!("/memories/{id}")).await.status, 200, "{id} was acknowledged");
    }
    let mut history = History::default();
    history.catch_up(node.client()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_never_fail_while_a_generation_is_swapped() {
    let database = database().await;
    let node = node(database.url(), &[]).await;
    for n in 0..200 {
        add(node.client(), &format!("note {n}")).await.expect("it is added");
    }
    projections::caught_up(node.client()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let (client, stop) = (node.client().clone(), Arc::clone(&stop));
        readers.spawn(async move {
            let mut reads = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let answer = client.get("/memories?limit=200").await;
                assert_eq!(answer.status, 200, "{}", answer.text);
                assert_eq!(answer.items().len(), 200, "a reader saw half of a generation");
                reads += 1;
            }
            reads
        });
    }
    for _ in 0..5 {
        node.client().post("/projections/memories/rebuild", json!({ "from_scratch": true })).await.data(202);
        projections::caught_up(node.client()).await;
    }
    stop.store(true, Ordering::Relaxed);
    let reads: u32 = readers.join_all().await.into_iter().sum();
    assert!(reads > 20, "{reads}");
    assert_eq!(listed(node.client(), "memories").await["generation"], 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_sound_database_says_what_to_do() {
    let database = database().await;
    let options = |url: &str| NodeOptions { database: Some(url.to_owned()), ..NodeOptions::default() };
    let refused =
        Node::start(options(database.admin_url())).await.err().expect("a superuser passes by row-level security");
    assert!(refused.log.contains("CREATE ROLE cairn"), "{}", refused.log);
    let refused =
        Node::start(options("postgres://cairn:hunter2@127.0.0.1:1/none")).await.err().expect("nobody is there");
    assert!(refused.log.contains("PostgreSQL"), "{}", refused.log);
    assert!(!refused.log.contains("hunter2"), "the password is in the log: {}", refused.log);
    let refused = Node::start(options("nonsense")).await.err().expect("that is no URL");
    assert!(refused.log.contains("postgres://"), "{}", refused.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_goes_from_the_request_into_the_projector() {
    let receiver = Receiver::start().expect("a receiver");
    let endpoint = receiver.endpoint();
    let otlp = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let database = database().await;
    let node = node(database.url(), &[otlp[0], otlp[1], ("CAIRN_PROJECTIONS", "external")]).await;
    let projector = Beside::projector(node.data(), database.url(), &otlp).await;
    until_live(projector.client()).await;
    sleep(Duration::from_millis(300)).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = node.client().request(reqwest::Method::POST, "/memories");
    let request = request.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let request = request.json(&json!({ "kind": "note", "title": "traced" }));
    let answer = node.client().send(request).await.expect("the node answers");
    answer.data(201);
    let wanted = ["command", "append", "projection"];
    let began = Instant::now();
    loop {
        let spans = receiver.spans();
        let own: Vec<String> =
            spans.iter().filter(|span| span.trace_id == trace).map(|span| span.name.clone()).collect();
        let has = |wanted: &str| own.iter().any(|name| name.to_lowercase().contains(wanted));
        if wanted.iter().all(|wanted| has(wanted)) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "the trace holds {own:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_published_to_kafka_in_order_across_restarts() {
    let cluster = MockCluster::new(3).expect("a mock cluster");
    let brokers = cluster.bootstrap_servers();
    let database = database().await;
    let mut node = node(database.url(), &[("KAFKA_BROKERS", &brokers)]).await;
    for n in 0..50 {
        add(node.client(), &format!("note {n}")).await.expect("it is added");
    }
    node.stop().await;
    node.launch().await.unwrap_or_else(|error| panic!("{error}"));
    for n in 50..100 {
        add(node.client(), &format!("note {n}")).await.expect("it is added");
    }
    let head = node.client().get("/status").await.position();
    let positions = kafka::published(&brokers, &["memory", "principal", "space"], head).await;
    assert!(positions.into_iter().eq(1..=head), "something was lost, doubled or out of place");
}
