//! Messages of a Kafka topic become events of the log, each once, whatever happens to the node that reads them.

use std::time::{Duration, Instant};

use cairn_testkit::postgres::database;
use cairn_testkit::{Client, Node, NodeOptions, Seed, fast};
use cairn_tests::kafka::{TOPIC, brokers, captured, check_once, until_captured, write};
use cairn_tests::projections;
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_secs(60);
/// How often the node is killed.
const KILLS: u32 = 20;
/// How often with short cuts.
const FAST_KILLS: u32 = 5;

/// Makes the token that a source writes with, and gives the node a source.
async fn configure(node: &mut Node, brokers: &str) -> String {
    let token = json!({ "name": "sensors", "ceiling": "automation" });
    let made = node.client().post("/tokens", token).await;
    let id = made.data(201)["id"].as_str().expect("an id").to_owned();
    node.stop().await;
    write_config(node, brokers, "sensors");
    id
}

fn write_config(node: &Node, brokers: &str, principal: &str) {
    let config =
        format!("[[kafka.sources]]\ntopic = \"{TOPIC}\"\nbrokers = \"{brokers}\"\nprincipal = \"{principal}\"\n");
    std::fs::write(node.data().join("cairn.toml"), config).expect("written");
}

async fn launch(node: &mut Node) {
    node.launch().await.unwrap_or_else(|error| panic!("{error}"));
}

async fn source(client: &Client) -> Value {
    client.get("/status").await.ok()["kafka"]["sources"][0].clone()
}

async fn until_source(client: &Client, state: &str) -> Value {
    let began = Instant::now();
    loop {
        let source = source(client).await;
        if source["state"] == state {
            return source;
        }
        assert!(began.elapsed() < PATIENCE, "{source}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_at_random_captures_each_message_once() {
    let mut rng = Seed::take().rng();
    let (_kafka, brokers) = brokers();
    let mut node = Node::fresh().await;
    let principal = configure(&mut node, &brokers).await;
    let mut written = 0;
    for _ in 0..if fast() { FAST_KILLS } else { KILLS } {
        launch(&mut node).await;
        let more = rng.random_range(20..200);
        write(&brokers, written..written + more).await;
        written += more;
        sleep(Duration::from_millis(rng.random_range(0..300))).await;
        node.kill9().await;
    }
    launch(&mut node).await;
    let events = until_captured(node.client(), written).await;
    check_once(&events, written);
    for event in &events {
        assert_eq!(event["metadata"]["principal"], principal.as_str());
        assert_eq!(
            (&event["metadata"]["truth"], &event["metadata"]["origin"]),
            (&json!(2), &json!("automation:kafka/sensors"))
        );
        assert_eq!(event["stream"], format!("capture-{TOPIC}-{}", event["data"]["partition"]));
    }
    let source = until_source(node.client(), "running").await;
    assert_eq!(source["partitions"].as_array().map(Vec::len), Some(3), "{source}");
    // What is captured is no memory, and holds up nothing that folds memories.
    projections::equal_a_fresh_fold(node.client()).await;
    assert_eq!(node.client().get("/status").await.ok()["memories"], 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_nodes_reads_and_another_takes_over() {
    let (_kafka, brokers) = brokers();
    let database = database().await;
    let options = NodeOptions { database: Some(database.url().to_owned()), ..NodeOptions::default() };
    let mut first = Node::start(options.clone()).await.unwrap_or_else(|error| panic!("{error}"));
    configure(&mut first, &brokers).await;
    launch(&mut first).await;
    until_source(first.client(), "running").await;
    let key = first.data().join("brain.key").display().to_string();
    let sources = format!("[{{topic=\"{TOPIC}\",brokers=\"{brokers}\",principal=\"sensors\"}}]");
    let environment = vec![("CAIRN_BRAIN_KEY".to_owned(), key), ("CAIRN_KAFKA__SOURCES".to_owned(), sources)];
    let second =
        Node::start(NodeOptions { environment, ..options }).await.unwrap_or_else(|error| panic!("{error}"));
    write(&brokers, 0..100).await;
    until_captured(first.client(), 100).await;
    assert_eq!(source(second.client()).await["state"], "standby");
    first.kill9().await;
    write(&brokers, 100..200).await;
    let events = until_captured(second.client(), 200).await;
    check_once(&events, 200);
    until_source(second.client(), "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_ends_with_its_token() {
    let (_kafka, brokers) = brokers();
    let mut node = Node::fresh().await;
    let token = configure(&mut node, &brokers).await;
    launch(&mut node).await;
    write(&brokers, 0..10).await;
    until_captured(node.client(), 10).await;
    node.client().delete(&format!("/tokens/{token}")).await.data(200);
    let failed = until_source(node.client(), "failed").await;
    assert!(failed["problem"].as_str().is_some_and(|problem| problem.contains("revoked")), "{failed}");
    write(&brokers, 10..20).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(captured(node.client()).await.len(), 10, "nothing more is taken");
    // The rest of the node starts all the same, and says so again.
    node.stop().await;
    launch(&mut node).await;
    until_source(node.client(), "failed").await;
    assert_eq!(captured(node.client()).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_be_is_refused_at_the_start() {
    let mut node = Node::fresh().await;
    node.stop().await;
    for (principal, words) in [("nobody", "cairn token create --name nobody"), ("owner", "as the user")] {
        write_config(&node, "localhost:1", principal);
        let refused = node.launch().await.expect_err("it is refused");
        assert!(refused.log.contains(words), "{}", refused.log);
    }
}
