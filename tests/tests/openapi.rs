//! The OpenAPI document and the routes are the same set.

use std::collections::BTreeSet;

use cairn_testkit::{Client, Node};
use reqwest::Method;
use serde_json::Value;

/// What the API must have, as `method path`: the contract that clients are written against.
const CONTRACT: &[&str] = &[
    "get /memories",
    "post /memories",
    "get /memories/{id}",
    "patch /memories/{id}",
    "delete /memories/{id}",
    "post /memories/{id}/restore",
    "post /memories/{id}/undo",
    "get /memories/{id}/history",
    "get /memories/{id}/fields/{name}",
    "delete /memories/{id}/fields/{name}",
    "get /memories/{id}/diff",
    "get /memories/{id}/relationships",
    "post /memories/{id}/links",
    "delete /memories/{id}/links/{relation}/{target}",
    "get /suggestions",
    "get /suggestions/{id}",
    "post /suggestions/{id}/accept",
    "post /suggestions/{id}/reject",
    "get /conflicts",
    "get /search",
    "get /timeline",
    "get /tags",
    "get /stats",
    "get /log",
    "get /log/stream",
    "get /tokens",
    "get /sharing",
    "post /sharing/erasures",
    "get /sharing/key",
    "put /sharing/key",
    "put /sharing/key/next",
    "get /followers",
    "post /followers/invitations",
    "delete /followers/{key}",
    "get /devices",
    "post /devices",
    "post /devices/invitations",
    "delete /devices/{device}",
    "get /peers",
    "post /peers",
    "post /peers/invitations",
    "patch /peers/{brain}",
    "get /spaces",
    "post /spaces",
    "put /spaces/{space}/selection",
    "post /spaces/{space}/grants",
    "delete /spaces/{space}/grants/{grant}",
    "post /spaces/{space}/decision",
    "post /spaces/{space}/wishes/{wish}",
    "get /receipts",
    "get /relay",
    "post /tokens",
    "delete /tokens/{id}",
    "get /projections",
    "post /projections/{name}/rebuild",
    "delete /projections/{name}/rebuild",
    "post /projections/{name}/verify",
    "post /projections/{name}/back",
    "delete /projections/{name}/previous",
    "post /projections/{name}/pause",
    "post /projections/{name}/resume",
    "post /imports",
    "get /imports/{id}",
    "get /export",
    "get /status",
    "post /verify",
    "post /tasks/{id}/complete",
    "get /health/live",
    "get /health/ready",
    "get /metrics",
];

/// Answers without a token.
const OPEN: [&str; 3] = ["/health/live", "/health/ready", "/metrics"];

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

async fn documented(client: &Client) -> (Value, BTreeSet<String>) {
    let answer = client.get("/openapi.json").await;
    assert_eq!(answer.status, 200);
    let mut operations = BTreeSet::new();
    for (path, item) in answer.body["paths"].as_object().expect("paths") {
        for method in METHODS {
            if item[method].is_object() {
                operations.insert(format!("{method} {path}"));
            }
        }
    }
    (answer.body, operations)
}

fn filled(path: &str) -> String {
    let id = "01920b5e-7c1a-7d2e-9d3f-4a5b6c7d8e9f";
    path.replace("{id}", id).replace("{target}", id).replace("{name}", "title").replace("{relation}", "relates_to")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_holds_the_contract() {
    let node = Node::fresh().await;
    let (document, operations) = documented(&Client::new(node.url(), None)).await;
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{document}");
    let mut contract: BTreeSet<String> = CONTRACT.iter().map(|&operation| operation.to_owned()).collect();
    for resource in ["notes", "tasks", "people", "projects", "events", "places", "daily"] {
        contract.extend(["get", "post"].map(|method| format!("{method} /{resource}")));
        contract.extend(["get", "patch", "delete"].map(|method| format!("{method} /{resource}/{{id}}")));
    }
    let missing: Vec<_> = contract.difference(&operations).collect();
    assert_eq!(missing, Vec::<&String>::new(), "not documented");
    let surprising: Vec<_> =
        operations.difference(&contract).filter(|operation| !operation.contains("/entities")).collect();
    assert_eq!(surprising, Vec::<&String>::new(), "documented, but not in this test's contract: add it");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_operation_is_served_and_asks_for_a_token() {
    let node = Node::fresh().await;
    let stranger = Client::new(node.url(), None);
    let (_, operations) = documented(&stranger).await;
    for operation in &operations {
        let (method, path) = operation.split_once(' ').expect("method and path");
        let method: Method = method.to_uppercase().parse().expect("a method");
        let answer = stranger.send(stranger.request(method, &filled(path))).await.expect("the node answers");
        if OPEN.contains(&path) {
            assert_eq!(answer.status, 200, "{operation}");
        } else {
            assert_eq!(answer.code(401), "TOKEN_MISSING", "{operation}: {}", answer.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_is_not_documented_is_not_served() {
    let node = Node::fresh().await;
    let client = node.client();
    let (document, operations) = documented(client).await;
    for path in document["paths"].as_object().expect("paths").keys() {
        for method in METHODS {
            if operations.contains(&format!("{method} {path}")) {
                continue;
            }
            let verb: Method = method.to_uppercase().parse().expect("a method");
            let answer = client.send(client.request(verb, &filled(path))).await.expect("the node answers");
            assert_eq!(answer.code(405), "METHOD_NOT_ALLOWED", "{method} {path}: {}", answer.text);
        }
    }
    assert_eq!(client.get("/nothing/here").await.code(404), "NO_SUCH_ROUTE");
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_answer_like_memories() {
    let node = Node::fresh().await;
    let client = node.client();
    let made = client.post("/entities", serde_json::json!({ "title": "By another name" })).await;
    let id = made.data(201)["id"].as_str().expect("an id").to_owned();
    let position = made.position();
    for path in ["/memories", "/entities"] {
        let shown = client.get(&format!("{path}/{id}?min_position={position}")).await;
        assert_eq!(shown.data(200)["title"], "By another name", "{path}");
        assert_eq!(client.get(path).await.items().len(), 1, "{path}");
        assert_eq!(client.get(&format!("{path}/{id}/history")).await.status, 200, "{path}");
    }
}
