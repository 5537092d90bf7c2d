//! Tokens of nodes on one database hold on all of them, and stop working on all of them.

use std::time::{Duration, Instant};

use cairn_testkit::postgres::{Cluster, Settings, database};
use cairn_testkit::{Beside, Client, Node, NodeOptions};
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;

/// What the documents promise: where a token was revoked it is refused everywhere within this time.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);

async fn node(database: &str, environment: &[(&str, &str)]) -> Node {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options = NodeOptions { database: Some(database.to_owned()), environment, ..NodeOptions::default() };
    Node::start(options).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Another node of the same brain.
async fn beside(first: &Node, database: &str) -> Node {
    let key = first.data().join("brain.key").display().to_string();
    node(database, &[("CAIRN_BRAIN_KEY", &key)]).await
}

/// Makes a token; gives its id and its secret.
async fn make(client: &Client, name: &str) -> (String, String) {
    let made = client.post("/tokens", json!({ "name": name, "ceiling": "ai-cloud" })).await;
    let text = |field: &str| made.data(201)[field].as_str().expect("a text").to_owned();
    (text("id"), text("token"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_made_on_one_node_works_on_the_others_until_it_is_revoked_on_any() {
    let database = database().await;
    let first = node(database.url(), &[]).await;
    let second = beside(&first, database.url()).await;
    let projector = Beside::projector(first.data(), database.url(), &[]).await;
    assert_ne!(first.owner_token(), second.owner_token(), "each data folder has an owner's token of its own");
    first.client().with_token(second.owner_token()).get("/status").await.data(200);
    second.client().with_token(first.owner_token()).get("/status").await.data(200);
    for n in 0..10 {
        let (maker, other) = if n % 2 == 0 { (&first, &second) } else { (&second, &first) };
        let (id, secret) = make(maker.client(), "claude").await;
        other.client().with_token(&secret).get("/memories").await.data(200);
        let written = json!({ "kind": "note", "title": "by an agent" });
        other.client().with_token(&secret).post("/memories", written).await.data(201);
        projector.client().with_token(&secret).get("/projections").await.data(200);
        let list = other.client().get("/tokens").await;
        assert!(list.items().iter().any(|token| token["id"] == id.as_str()), "{}", list.text);
        other.client().delete(&format!("/tokens/{id}")).await.data(200);
        assert_eq!(other.client().with_token(&secret).get("/memories").await.code(401), "TOKEN_REVOKED");
        for client in [maker.client(), projector.client()] {
            let began = Instant::now();
            while client.with_token(&secret).get("/projections").await.status == 200 {
                assert!(began.elapsed() < REFUSED_WITHIN);
                sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_ends_with_its_token_wherever_that_was_revoked() {
    let database = database().await;
    let first = node(database.url(), &[]).await;
    let second = beside(&first, database.url()).await;
    let (id, secret) = make(first.client(), "claude").await;
    let reader = second.client().with_token(&secret);
    let mut feed = reader.request(Method::GET, "/log/stream?from=1").send().await.expect("it is answered");
    assert_eq!(feed.status(), 200);
    assert!(feed.chunk().await.expect("it goes on").is_some());
    first.client().delete(&format!("/tokens/{id}")).await.data(200);
    let ends = async { while feed.chunk().await.is_ok_and(|chunk| chunk.is_some()) {} };
    tokio::time::timeout(REFUSED_WITHIN, ends).await.expect("the feed ends with its token");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owners_token_of_a_data_folder_survives_restarts_and_is_made_anew_when_it_works_no_more() {
    let database = database().await;
    let mut node = node(database.url(), &[]).await;
    let before = node.owner_token().to_owned();
    node.stop().await;
    node.launch().await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(node.owner_token(), before);
    assert!(!node.data().join("tokens.json").exists(), "there is one list of tokens");
    // As in a data folder that was in use without the database before.
    node.stop().await;
    std::fs::write(node.data().join("owner.token"), "cairn_of_another_brain\n").expect("written");
    node.launch().await.unwrap_or_else(|error| panic!("{error}"));
    node.client().get("/status").await.data(200);
    node.client().with_token(&before).get("/status").await.data(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_nobody_is_let_in_for_long() {
    let cluster = Cluster::start(&Settings::default()).expect("a private PostgreSQL");
    let database = cluster.database().await;
    let node = node(database.url(), &[]).await;
    node.client().get("/projections").await.data(200);
    cluster.stop();
    // What needs nothing of the database is answered from what is known of the tokens.
    node.client().get("/projections").await.data(200);
    let began = Instant::now();
    loop {
        let answer = node.client().get("/projections").await;
        if answer.status != 200 {
            assert_eq!(answer.code(503), "TOKENS_UNAVAILABLE");
            break;
        }
        assert!(began.elapsed() < REFUSED_WITHIN);
        sleep(Duration::from_millis(100)).await;
    }
    cluster.resume().expect("it starts again");
    let began = Instant::now();
    while node.client().get("/projections").await.status != 200 {
        assert!(began.elapsed() < PATIENCE);
    }
    let note = json!({ "kind": "note", "title": "after" });
    node.client().post("/memories", note).await.data(201);
}
