//! A brain whose log is in KurrentDB. Another node's gateway stands in for the server.

use std::path::Path;
use std::time::{Duration, Instant};

use cairn_testkit::postgres::database;
use cairn_testkit::{Client, Node, NodeOptions, on_postgres};
use cairn_tests::projections;
use serde_json::{Value, json};
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_secs(60);

/// A node whose gateway is the server.
async fn server() -> (Node, String) {
    // Free a moment ago, and with that many others to choose from free a moment later.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let environment = vec![
        ("CAIRN_GATEWAY__LISTEN".to_owned(), port.to_string()),
        ("CAIRN_GATEWAY__ANONYMOUS".to_owned(), "owner".to_owned()),
    ];
    let node = start(NodeOptions { environment, ..NodeOptions::default() }).await;
    (node, format!("kurrentdb://{port}?tls=false"))
}

async fn start(options: NodeOptions) -> Node {
    Node::start(options).await.unwrap_or_else(|error| panic!("{error}"))
}

fn options(url: &str) -> NodeOptions {
    NodeOptions { environment: vec![("KURRENTDB_URL".to_owned(), url.to_owned())], ..NodeOptions::default() }
}

async fn add(client: &Client, title: &str) -> String {
    let answer = client.post("/memories", json!({ "kind": "task", "title": title, "body": "Of tin." })).await;
    answer.ok()["id"].as_str().expect("an id").to_owned()
}

/// Waits until a question has the answer that it is to have.
async fn until(client: &Client, path: &str, holds: impl Fn(&Value) -> bool) {
    let began = Instant::now();
    loop {
        let answer = client.get(path).await;
        if answer.status == 200 && holds(&answer.body["data"]) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{path}: {}", answer.text);
        sleep(Duration::from_millis(50)).await;
    }
}

async fn use_it(node: &Node) -> String {
    let client = node.client();
    let id = add(client, "Repair the pump").await;
    let path = format!("/memories/{id}");
    client.patch(&path, json!({ "fields": { "priority": "high" } })).await.ok();
    let agent = node.agent("claude", "ai-cloud").await;
    let suggested = agent.patch(&path, json!({ "fields": { "priority": "low" } })).await;
    let suggestion = suggested.data(202)["events"][0].as_str().expect("an event").to_owned();
    let accepted = client.post(&format!("/suggestions/{suggestion}/accept"), json!({})).await;
    let position = accepted.position();
    let seen = client.get(&format!("{path}?min_position={position}")).await;
    assert_eq!(seen.ok()["values"]["priority"], "low", "{}", seen.text);
    until(client, "/search?q=pump", |found| found.to_string().contains(&id)).await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brain_lives_in_kurrentdb() {
    let (server, url) = server().await;
    let mut node = start(options(&url)).await;
    let id = use_it(&node).await;
    let history = node.cli(&["history", &id]).await;
    assert!(history.ok().contains("priority"), "{}", history.stdout);
    node.cli(&["verify"]).await.ok();
    node.stop().await;
    assert!(!node.data().join("log/events.db").exists(), "the log is in the folder as well");
    // Without a node, the copy can be looked at.
    let checked = node.cli(&["verify"]).await;
    assert!(checked.stderr.contains("KurrentDB"), "{}", checked.stderr);
    checked.ok();

    // Neither the copy nor the read models are needed: the server has everything.
    forget_copy(node.data());
    std::fs::remove_dir_all(node.data().join("read")).expect("read models are files, or there are none to remove");
    std::fs::create_dir(node.data().join("read")).expect("made");
    node.launch().await.unwrap_or_else(|error| panic!("{error}"));
    let seen = node.client().get(&format!("/memories/{id}")).await;
    assert_eq!(seen.ok()["values"]["priority"], "low");
    node.kill9().await;
    node.launch().await.unwrap_or_else(|error| panic!("{error}"));
    let another = add(node.client(), "Oil the pump").await;
    until(node.client(), &format!("/memories/{another}"), |seen| seen["title"] == "Oil the pump").await;
    node.cli(&["verify"]).await.ok();
    projections::equal_a_fresh_fold(node.client()).await;
    // To the server's own node it is a stream of another program.
    assert_eq!(server.client().get("/status").await.ok()["memories"], 0);
}

fn forget_copy(data: &Path) {
    let folder = data.join("log");
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.file_name().to_string_lossy().starts_with("kurrentdb.db") {
            std::fs::remove_file(entry.path()).expect("removed");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_share_a_brain_with_their_keys_in_postgresql() {
    let (_server, url) = server().await;
    let database = database().await;
    let shared = |environment: Vec<(String, String)>| NodeOptions {
        database: Some(database.url().to_owned()),
        environment: [options(&url).environment, environment].concat(),
        ..NodeOptions::default()
    };
    let one = start(shared(Vec::new())).await;
    let key = one.data().join("brain.key").display().to_string();
    let other = start(shared(vec![("CAIRN_BRAIN_KEY".to_owned(), key)])).await;
    let (first, second) = (add(one.client(), "From one").await, add(other.client(), "From the other").await);
    until(other.client(), &format!("/memories/{first}"), |seen| seen["title"] == "From one").await;
    until(one.client(), &format!("/memories/{second}"), |seen| seen["title"] == "From the other").await;
    // Each changes what the other has made.
    other.client().patch(&format!("/memories/{first}"), json!({ "title": "From both" })).await.ok();
    until(one.client(), &format!("/memories/{first}"), |seen| seen["title"] == "From both").await;
    for node in [&one, &other] {
        node.cli(&["verify"]).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_with_keys_of_its_own_is_refused() {
    if on_postgres() {
        // The keys are where every node finds them.
        return;
    }
    let (_server, url) = server().await;
    let one = start(options(&url)).await;
    add(one.client(), "Sealed").await;
    let key = one.data().join("brain.key").display().to_string();
    let mut second = options(&url);
    second.environment.push(("CAIRN_BRAIN_KEY".to_owned(), key));
    let Err(refused) = Node::start(second).await else { panic!("it started") };
    assert!(refused.log.contains("other keys") && refused.log.contains("DATABASE_URL"), "{}", refused.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_the_url_is_never_told() {
    for url in ["http://me:rosebud@127.0.0.1:1", "kurrentdb://me:rosebud@127.0.0.1:1?tls=false"] {
        let mut options = options(url);
        options.environment.push(("RUST_LOG".to_owned(), "debug".to_owned()));
        let Err(refused) = Node::start(options).await else { panic!("it started") };
        assert!(refused.log.contains("KurrentDB") || refused.log.contains("KURRENTDB_URL"), "{}", refused.log);
        assert!(!refused.log.contains("rosebud"), "{}", refused.log);
    }
}
