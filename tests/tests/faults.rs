//! Servers fail under writes, one by one and in turn. Afterwards nothing that was acknowledged is lost, nothing is there twice,
//! and every read model is what a fresh fold of the log gives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cairn_testkit::postgres::{Cluster, Settings};
use cairn_testkit::{Client, Node, NodeOptions, Seed, fast};
use cairn_tests::log::History;
use cairn_tests::{kafka, projections};
use rand::Rng;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long the brokers are away.
const AWAY: Duration = Duration::from_secs(60);
/// How long with short cuts.
const FAST_AWAY: Duration = Duration::from_secs(4);
/// How many faults there are in turn.
const FAULTS: u32 = 24;
/// How many with short cuts.
const FAST_FAULTS: u32 = 8;
const WRITERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(90);

/// Writers that go on whatever happens, each with one memory at a time.
struct Writers {
    /// How the node is reached: at another port after each start.
    client: Arc<Mutex<Client>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Vec<String>>,
}

impl Writers {
    fn start(client: &Client) -> Self {
        let (client, stop) = (Arc::new(Mutex::new(client.clone())), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let (client, stop) = (Arc::clone(&client), Arc::clone(&stop));
            tasks.spawn(async move {
                let mut kept = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let client = client.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    kept.extend(add(&client, &format!("writer {writer} note {}", kept.len())).await);
                    sleep(Duration::from_millis(20)).await;
                }
                kept
            });
        }
        Self { client, stop, tasks }
    }

    fn go_to(&self, client: &Client) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client.clone();
    }

    /// Ends them; gives the ids of all memories that were acknowledged.
    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.into_iter().flatten().collect()
    }
}

async fn add(client: &Client, title: &str) -> Option<String> {
    let answer = client.try_post("/memories", &json!({ "kind": "note", "title": title, "body": "text" })).await;
    let answer = answer.ok().filter(|answer| answer.status < 300)?;
    answer.body["data"]["id"].as_str().map(str::to_owned)
}

/// A node that publishes, and reads a topic, with what it needs.
async fn node(database: Option<&str>, brokers: &str) -> Node {
    let environment = vec![("KAFKA_BROKERS".to_owned(), brokers.to_owned())];
    let database = database.map(str::to_owned);
    let options = NodeOptions { database, environment, ..NodeOptions::default() };
    let mut node = Node::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    node.client().post("/tokens", json!({ "name": "sensors", "ceiling": "automation" })).await.data(201);
    node.stop().await;
    let config = format!("[[kafka.sources]]\ntopic = \"{}\"\nprincipal = \"sensors\"\n", kafka::TOPIC);
    std::fs::write(node.data().join("cairn.toml"), config).expect("written");
    launch(&mut node).await;
    node
}

async fn launch(node: &mut Node) {
    node.launch().await.unwrap_or_else(|error| panic!("{error}"));
}

async fn publisher(client: &Client) -> Value {
    client.get("/status").await.ok()["kafka"]["publisher"].clone()
}

async fn until_publisher(client: &Client, is_so: impl Fn(&Value) -> bool) {
    let began = Instant::now();
    loop {
        let publisher = publisher(client).await;
        if is_so(&publisher) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{publisher}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Checks everything that must hold, whatever has failed meanwhile.
async fn check(client: &Client, kept: &[String], brokers: &str, messages: u64) {
    assert!(kept.len() > 20, "the writers got on: {}", kept.len());
    kafka::check_once(&kafka::until_captured(client, messages).await, messages);
    projections::equal_a_fresh_fold(client).await;
    for id in kept {
        assert_eq!(client.get(&format!("/memories/{id}")).await.status, 200, "{id} was acknowledged");
    }
    let mut history = History::default();
    history.catch_up(client).await;
    let head = history.head();
    until_publisher(client, |publisher| publisher["position"] == head).await;
    let mut positions = kafka::published(brokers, &["memory", "principal", "capture", "space"], head).await;
    // At least once: whoever reads drops repeats.
    positions.dedup();
    assert!(positions.into_iter().eq(1..=head), "something was not published");
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_away_for_a_while_hold_up_nothing_and_miss_nothing() {
    let (cluster, brokers) = kafka::brokers();
    let node = node(None, &brokers).await;
    let writers = Writers::start(node.client());
    kafka::write(&brokers, 0..200).await;
    sleep(Duration::from_millis(500)).await;
    cluster.broker_down(-1).expect("down");
    let began = Instant::now();
    until_publisher(node.client(), |publisher| publisher["state"] == "waiting").await;
    while began.elapsed() < if fast() { FAST_AWAY } else { AWAY } {
        let id = add(node.client(), "written without brokers").await.expect("writes go on");
        assert_eq!(node.client().get(&format!("/memories/{id}")).await.status, 200, "and so do reads");
        sleep(Duration::from_millis(200)).await;
    }
    cluster.broker_up(-1).expect("up");
    kafka::write(&brokers, 200..400).await;
    let kept = writers.end().await;
    check(node.client(), &kept, &brokers, 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_its_database_and_its_brokers_may_fail_in_any_turn() {
    let mut rng = Seed::take().rng();
    let (kafka_cluster, brokers) = kafka::brokers();
    let cluster = Cluster::start(&Settings::default()).expect("a private PostgreSQL");
    let database = cluster.database().await;
    let mut node = node(Some(database.url()), &brokers).await;
    let writers = Writers::start(node.client());
    let mut messages = 0;
    for _ in 0..if fast() { FAST_FAULTS } else { FAULTS } {
        let more = rng.random_range(10..60);
        kafka::write(&brokers, messages..messages + more).await;
        messages += more;
        sleep(Duration::from_millis(rng.random_range(100..900))).await;
        let away = Duration::from_millis(rng.random_range(0..1_200));
        match rng.random_range(0..4) {
            0 => {
                node.kill9().await;
                launch(&mut node).await;
                writers.go_to(node.client());
            }
            1 => {
                kafka_cluster.broker_down(-1).expect("down");
                sleep(away).await;
                kafka_cluster.broker_up(-1).expect("up");
            }
            database => {
                if database == 2 {
                    cluster.stop();
                } else {
                    cluster.kill();
                }
                sleep(away).await;
                cluster.resume().expect("it starts again");
            }
        }
    }
    sleep(Duration::from_secs(1)).await;
    let kept = writers.end().await;
    check(node.client(), &kept, &brokers, messages).await;
}
