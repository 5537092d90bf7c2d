//! Nodes that leave sharing to another process pass on to it what they are asked.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use cairn_testkit::postgres::database;
use cairn_testkit::{Answer, Beside, Client, Node, NodeOptions, run};
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;

use super::{PATIENCE, add, cairn, node, pair, share, until};

const OFF: (&str, &str) = ("CAIRN_FEDERATION__ENABLED", "false");
const ANSWERED_AT: &str = "CAIRN_FEDERATION__ANSWERED_AT";
const ANOTHER_BRAIN: &str = "00000000-0000-0000-0000-000000000000";
/// More than a request may have.
const TOO_MUCH: usize = 9 * 1024 * 1024;

async fn on(database: &str, environment: &[(&str, &str)]) -> Node {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options = NodeOptions { database: Some(database.to_owned()), environment, ..NodeOptions::default() };
    Node::start(options).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Another node of the same brain, with more settings.
async fn another(first: &Node, database: &str, environment: &[(&str, &str)]) -> Node {
    let key = first.data().join("brain.key").display().to_string();
    on(database, &[&[("CAIRN_BRAIN_KEY", key.as_str())], environment].concat()).await
}

/// How many requests a process has answered with a status, for a route of sharing.
async fn answered(client: &Client, route: &str, status: u16) -> f64 {
    let metrics = client.get("/metrics").await.text;
    let counted = metrics.lines().filter(|line| line.starts_with("cairn_http_requests_total{"));
    let counted = counted.filter(|line| {
        line.contains(&format!("route=\"{route}\"")) && line.contains(&format!("status=\"{status}\""))
    });
    counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

async fn asked_by_a_node(client: &Client, path: &str) -> Answer {
    let request = client.request(Method::GET, path).header("via", "1.1 cairn-node");
    client.send(request).await.expect("it is answered")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_passes_on_what_it_is_asked_about_sharing() {
    let kept = database().await;
    let first = on(kept.url(), &[OFF]).await;
    let beside = Beside::federation(first.data(), kept.url(), &[("CAIRN_FEDERATION__NAME", "bert")]).await;
    let bert = another(&first, kept.url(), &[OFF, (ANSWERED_AT, beside.url())]).await;
    let anna = node("anna", None).await;
    // The whole way of two people: each of these commands asks the node, and is answered by the other process.
    pair(&anna, &bert).await;
    let tomatoes = add(&anna, "Tomatoes", "garden", "Water them.").await;
    cairn(&anna, &["space", "create", "Garden", "--tag", "garden"]).await;
    share(&anna, &bert, "bert", "write").await;
    until(&bert, &tomatoes, "the memory", |memory| memory["title"] == "Tomatoes").await;
    assert!(cairn(&bert, &["peer", "list"]).await.stdout.contains("anna"));
    for path in ["/sharing", "/peers", "/spaces", "/receipts", "/devices", "/relay"] {
        let (passed_on, there) = (bert.client().get(path).await, beside.client().get(path).await);
        passed_on.data(200);
        assert_eq!(passed_on.content_type, there.content_type, "{path}");
        assert!(answered(beside.client(), path, 200).await >= 2.0, "{path} was asked there");
    }
    let request = bert.client().request(Method::GET, "/peers").send().await.expect("it is answered");
    let id = request.headers()["x-request-id"].to_str().expect("text").to_owned();
    assert_eq!(request.headers().get_all("x-request-id").iter().count(), 1);
    assert!(request.text().await.expect("a body").contains(&id), "the header and the body name one request");
    cairn(&bert, &["peer", "block", "anna"]).await;
    assert_eq!(beside.client().get("/peers").await.items()[0]["blocked"], true);
    // What is wrong is told as it is told there.
    assert_eq!(bert.client().post("/peers", json!({ "link": "nonsense" })).await.code(422), "VALIDATION_ERROR");
    assert_eq!(bert.client().delete("/devices/nobody").await.code(404), "NOT_FOUND");
    assert_eq!(bert.client().delete("/peers").await.code(405), "METHOD_NOT_ALLOWED");
    let large = json!({ "link": "x".repeat(TOO_MUCH) });
    assert_eq!(bert.client().post("/peers", large).await.code(413), "BODY_TOO_LARGE");
    // Without an address it is said what to do.
    let off = first.client().get("/peers").await;
    assert_eq!(off.code(503), "SHARING_OFF");
    assert!(off.text.contains("answered_at"), "{}", off.text);
    beside.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_may_do_is_decided_where_it_is_answered() {
    let kept = database().await;
    let first = on(kept.url(), &[OFF]).await;
    let beside = Beside::federation(first.data(), kept.url(), &[]).await;
    let node = another(&first, kept.url(), &[OFF, (ANSWERED_AT, beside.url())]).await;
    let made = node.client().post("/tokens", json!({ "name": "agent", "ceiling": "ai-cloud" })).await;
    let agent = node.client().with_token(made.data(201)["token"].as_str().expect("a token"));
    assert_eq!(agent.get("/peers").await.code(403), "USER_ONLY");
    assert_eq!(agent.post("/peers/invitations", json!({})).await.code(403), "USER_ONLY");
    assert_eq!(answered(beside.client(), "/peers", 403).await, 1.0, "it was asked there with the agent's token");
    // Who is nobody here is not passed on.
    assert_eq!(node.client().with_token("nonsense").get("/peers").await.code(401), "TOKEN_UNKNOWN");
    assert_eq!(Client::new(node.url(), None).get("/peers").await.code(401), "TOKEN_MISSING");
    assert_eq!(answered(beside.client(), "/peers", 401).await, 0.0);
    let other = node.client().request(Method::GET, "/peers").header("x-tenant-id", ANOTHER_BRAIN);
    assert_eq!(node.client().send(other).await.expect("it is answered").code(403), "WRONG_TENANT");
    beside.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_passed_on_once() {
    let kept = database().await;
    let first = on(kept.url(), &[OFF]).await;
    let beside = Beside::federation(first.data(), kept.url(), &[]).await;
    let second = another(&first, kept.url(), &[OFF, (ANSWERED_AT, beside.url())]).await;
    let third = another(&first, kept.url(), &[OFF, (ANSWERED_AT, second.url())]).await;
    second.client().get("/peers").await.data(200);
    let before = answered(beside.client(), "/peers", 200).await;
    assert_eq!(asked_by_a_node(second.client(), "/peers").await.code(503), "SHARING_OFF");
    assert_eq!(third.client().get("/peers").await.code(503), "SHARING_OFF");
    assert_eq!(answered(second.client(), "/peers", 503).await, 2.0, "the one that was asked has answered itself");
    assert_eq!(answered(beside.client(), "/peers", 200).await, before);
    // Who meets others answers, whoever asks.
    asked_by_a_node(beside.client(), "/peers").await.data(200);
    beside.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_or_somebody_else_that_is_said_with_what_to_do() {
    let kept = database().await;
    let first = on(kept.url(), &[OFF]).await;
    let beside = Beside::federation(first.data(), kept.url(), &[]).await;
    let node = another(&first, kept.url(), &[OFF, (ANSWERED_AT, beside.url())]).await;
    node.client().get("/peers").await.data(200);
    let url = beside.url().to_owned();
    beside.kill9().await;
    let absent = node.client().get("/peers").await;
    assert_eq!(absent.code(503), "SHARING_UNREACHABLE");
    assert!(absent.text.contains(&url) && absent.text.contains("cairn-federation"), "{}", absent.text);
    let told = run(node.data(), &["peer", "list"]).await;
    assert!(told.code != Some(0) && told.stderr.contains("cairn-federation"), "{told:?}");
    node.client().get("/memories").await.data(200);
    // Something that is not Cairn.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        }
    });
    let lost = another(&first, kept.url(), &[OFF, (ANSWERED_AT, &at)]).await;
    let broken = lost.client().get("/peers").await;
    assert_eq!(broken.code(502), "SHARING_BROKEN");
    assert!(broken.text.contains("no process of Cairn"), "{}", broken.text);
    // A process of Cairn with another task.
    let projector = Beside::projector(first.data(), kept.url(), &[]).await;
    let lost = another(&first, kept.url(), &[OFF, (ANSWERED_AT, projector.url())]).await;
    assert_eq!(lost.client().get("/peers").await.code(502), "SHARING_BROKEN");
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_that_take_turns_the_one_whose_turn_it_is_answers() {
    let kept = database().await;
    let first = on(kept.url(), &[]).await;
    first.client().get("/peers").await.data(200);
    // A node that would do it as well, and waits for its turn.
    let second = another(&first, kept.url(), &[(ANSWERED_AT, first.url())]).await;
    assert_eq!(asked_by_a_node(second.client(), "/peers").await.code(503), "SHARING_OFF");
    second.client().get("/peers").await.data(200);
    let both = format!("{},{}", second.url(), first.url());
    let third = another(&first, kept.url(), &[OFF, (ANSWERED_AT, &both)]).await;
    third.client().get("/peers").await.data(200);
    let mut first = first;
    first.kill9().await;
    let began = Instant::now();
    while third.client().get("/peers").await.status != 200 {
        assert!(began.elapsed() < PATIENCE, "nobody takes over\n{}", second.log());
        sleep(Duration::from_millis(50)).await;
    }
    second.client().get("/peers").await.data(200);
}
