//! Bad input of every sort: each gets a clear error with a stable code, nothing is lost, and the process goes on.

use cairn_testkit::{Answer, Client, Node, NodeOptions, on_postgres};
use reqwest::Method;
use serde_json::{Value, json};

const NO_SUCH_ID: &str = "01920b5e-7c1a-7d2e-9d3f-4a5b6c7d8e9f";

/// Sends bytes as they are, claiming they are JSON.
async fn send(client: &Client, method: Method, path: &str, body: impl Into<Vec<u8>>) -> Answer {
    let request = client.request(method, path).header("Content-Type", "application/json").body(body.into());
    client.send(request).await.expect("the node answers")
}

/// What answers were not the refusals they should have been.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    /// Expects a refusal with this status and code.
    fn unless(&mut self, answer: &Answer, status: u16, code: &str, what: &str) {
        if answer.status != status || answer.body["error"]["code"] != code {
            let text: String = answer.text.chars().take(300).collect();
            self.0.push(format!("{what}: {status} {code} expected, not {}: {text}", answer.status));
        }
    }

    #[track_caller]
    fn none(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

async fn memory(client: &Client) -> String {
    let made = client.post("/memories", json!({ "title": "Sound", "fields": { "mood": "calm" } })).await;
    made.data(201)["id"].as_str().expect("an id").to_owned()
}

/// The node still takes and shows memories.
async fn goes_on(node: &Node) {
    let client = node.client();
    let made = client.post("/memories", json!({ "title": "Still here" })).await;
    let (id, position) = (made.data(201)["id"].as_str().expect("an id").to_owned(), made.position());
    let shown = client.get(&format!("/memories/{id}?min_position={position}")).await;
    assert_eq!(shown.data(200)["title"], "Still here");
    assert_eq!(client.get("/health/ready").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_requests() {
    let mut wrong = Wrong::default();
    let node = Node::fresh().await;
    let client = node.client();
    let path = format!("/memories/{}", memory(client).await);
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases: Vec<(Vec<u8>, u16, &str)> = vec![
        (b"".to_vec(), 400, "MALFORMED_JSON"),
        (b"{".to_vec(), 400, "MALFORMED_JSON"),
        (b"{} {}".to_vec(), 400, "MALFORMED_JSON"),
        (b"{\"title\": \"\xff\xfe\"}".to_vec(), 400, "MALFORMED_JSON"),
        (b"{\"title\": \"\xed\xa0\x80\"}".to_vec(), 400, "MALFORMED_JSON"),
        (b"{\"title\": \"\\ud800\"}".to_vec(), 400, "MALFORMED_JSON"),
        (deep.clone().into_bytes(), 422, "VALIDATION_ERROR"),
        (format!("{{\"fields\": {{\"a\": {deep}}}}}").into_bytes(), 400, "MALFORMED_JSON"),
        (b"[]".to_vec(), 422, "VALIDATION_ERROR"),
        (b"null".to_vec(), 422, "VALIDATION_ERROR"),
        (vec![b' '; 9 * 1024 * 1024], 413, "BODY_TOO_LARGE"),
    ];
    for (body, status, code) in cases {
        for (method, path) in [(Method::POST, "/memories"), (Method::PATCH, &*path)] {
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            let answer = send(client, method.clone(), path, body.clone()).await;
            wrong.unless(&answer, status, code, &format!("{method} {path} {shown}"));
        }
    }
    let untyped = client.request(Method::POST, "/memories").body("{}");
    let answer = client.send(untyped).await.expect("the node answers");
    assert_eq!(answer.code(415), "UNSUPPORTED_MEDIA_TYPE");
    wrong.none();
    goes_on(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_do_not_fit() {
    let mut wrong = Wrong::default();
    let node = Node::fresh().await;
    let client = node.client();
    let id = memory(client).await;
    let many: serde_json::Map<String, Value> = (0..1_001).map(|n| (format!("field-{n}"), json!(n))).collect();
    let cases = [
        json!({ "titel": "misspelt" }),
        json!({ "title": 7 }),
        json!({ "title": "two\nlines" }),
        json!({ "title": "x".repeat(70_000) }),
        json!({ "body": ["not", "text"] }),
        json!({ "body": "x".repeat(1024 * 1024 + 1) }),
        json!({ "kind": "spaceship" }),
        json!({ "fields": "none" }),
        json!({ "fields": { "": 1 } }),
        json!({ "fields": { "a\u{0}b": 1 } }),
        json!({ "fields": { "a/b": 1 } }),
        json!({ "fields": { "x".repeat(201): 1 } }),
        json!({ "fields": many }),
        json!({ "fields": { "archived": "perhaps" } }),
        json!({ "fields": { "title": 7 } }),
        json!({ "fields": { "body": "not this way" } }),
        json!({ "fields": { "text": "x".repeat(64 * 1024 + 1) } }),
        json!({ "fields": { "list": vec![1; 1_001] } }),
        json!({ "truth": 0 }),
        json!({ "truth": 6 }),
        json!({ "truth": "gospel" }),
        json!({ "origin": "nowhere" }),
        json!({ "origin": format!("user:{}", "x".repeat(300)) }),
    ];
    for case in cases {
        let shown: String = case.to_string().chars().take(80).collect();
        let answer = client.patch(&format!("/memories/{id}"), case.clone()).await;
        wrong.unless(&answer, 422, "VALIDATION_ERROR", &format!("PATCH {shown}"));
        if !answer.body["error"]["details"]["field"].is_string() {
            wrong.0.push(format!("PATCH {shown}: the field is not named: {}", answer.text));
        }
        let answer = client.post("/memories", case).await;
        wrong.unless(&answer, 422, "VALIDATION_ERROR", &format!("POST {shown}"));
    }
    let typed = [
        ("/tasks", json!({ "title": "T", "status": "done" })),
        ("/tasks", json!({ "title": "T", "due_date": "tomorrow" })),
        ("/tasks", json!({ "title": "T", "due_date": "2026-02-30" })),
        ("/tasks", json!({ "title": "T", "colour": "red" })),
        ("/tasks", json!({ "description": "no title" })),
        ("/events", json!({ "title": "no start" })),
        ("/daily", json!({ "log_date": "21.11.2026" })),
        ("/places", json!({ "name": "P", "latitude": 91 })),
    ];
    for (path, body) in typed {
        let answer = client.post(path, body.clone()).await;
        wrong.unless(&answer, 422, "VALIDATION_ERROR", &format!("{path} {body}"));
    }
    let page = client.get("/memories?limit=200").await;
    assert_eq!(page.items().len(), 1, "nothing of this was written: {}", page.text);
    wrong.none();
    goes_on(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_make_no_sense() {
    let mut wrong = Wrong::default();
    let node = Node::fresh().await;
    let client = node.client();
    let id = memory(client).await;
    let questions = [
        "/memories?limit=0",
        "/memories?limit=201",
        "/memories?limit=-1",
        "/memories?limit=many",
        "/memories?cursor=%00",
        "/memories?cursor=bm9uc2Vuc2U",
        "/memories?kind=spaceship",
        "/memories?truth=9",
        "/memories?sort=colour",
        "/memories?order=up",
        "/memories?updated_after=yesterday",
        "/memories?linked_to=me",
        "/memories?colour=red",
        "/memories?archived=perhaps",
        "/search?q=a&limit=0",
        "/search?q=a&limit=100000",
        "/search?q=",
        "/search",
        "/search?q=a&kind=spaceship",
        "/search?q=a&truth=9",
        "/tasks?due_before=soon",
        "/timeline?from=then",
        "/log?from=here",
        "/log?limit=some",
        "/suggestions?memory=mine",
        "/tags?limit=1000",
        "/memories?min_position=now",
    ];
    for path in questions {
        wrong.unless(&client.get(path).await, 422, "VALIDATION_ERROR", path);
    }
    for path in [format!("/memories/{id}?as_of=long-ago"), format!("/memories/{id}/diff?from=here")] {
        wrong.unless(&client.get(&path).await, 422, "VALIDATION_ERROR", &path);
    }
    let long = format!("/search?q={}", "many words ".repeat(500).replace(' ', "%20"));
    assert_eq!(client.get(&long).await.code(422), "VALIDATION_ERROR");
    let ahead = client.get("/memories?min_position=18446744073709551615").await;
    assert_eq!(ahead.code(422), "VALIDATION_ERROR", "the log has not come that far");
    wrong.none();
    goes_on(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_do_not_exist_or_are_none() {
    let node = Node::fresh().await;
    let client = node.client();
    let reads = ["", "/history", "/diff", "/relationships", "/fields/title"];
    for read in reads {
        let answer = client.get(&format!("/memories/{NO_SUCH_ID}{read}")).await;
        assert_eq!(answer.code(404), "NOT_FOUND", "{read}");
        let answer = client.get(&format!("/memories/seven{read}")).await;
        assert_eq!(answer.code(400), "INVALID_ID", "{read}");
    }
    let base = format!("/memories/{NO_SUCH_ID}");
    let writes = [
        (Method::PATCH, base.clone(), json!({ "title": "x" })),
        (Method::DELETE, base.clone(), json!({})),
        (Method::DELETE, format!("{base}?erase=true"), json!({})),
        (Method::POST, format!("{base}/restore"), json!({})),
        (Method::POST, format!("{base}/undo"), json!({})),
        (Method::POST, format!("{base}/links"), json!({ "target": NO_SUCH_ID })),
        (Method::DELETE, format!("{base}/fields/title"), json!({})),
        (Method::PATCH, format!("/tasks/{NO_SUCH_ID}"), json!({ "title": "x" })),
        (Method::POST, format!("/tasks/{NO_SUCH_ID}/complete"), json!({})),
        (Method::POST, format!("/suggestions/{NO_SUCH_ID}/accept"), json!({})),
        (Method::POST, format!("/suggestions/{NO_SUCH_ID}/reject"), json!({})),
        (Method::DELETE, format!("/tokens/{NO_SUCH_ID}"), json!({})),
        (Method::POST, "/projections/nothing/rebuild".into(), json!({})),
        (Method::POST, "/projections/nothing/verify".into(), json!({})),
        (Method::POST, "/projections/nothing/back".into(), json!({})),
        (Method::DELETE, "/projections/nothing/previous".into(), json!({})),
        (Method::POST, "/projections/nothing/pause".into(), json!({})),
        (Method::POST, "/projections/nothing/resume".into(), json!({})),
    ];
    for (method, path, body) in writes {
        let answer = client.send(client.request(method.clone(), &path).json(&body)).await.expect("an answer");
        let code = answer.code(404);
        assert!(code.starts_with("NO"), "{method} {path}: {code}");
    }
    assert_eq!(client.get(&format!("/imports/{NO_SUCH_ID}")).await.code(404), "NOT_FOUND");
    let there = memory(client).await;
    let answer = client.post(&format!("/memories/{there}/links"), json!({ "target": NO_SUCH_ID })).await;
    assert_eq!(answer.code(404), "NOT_FOUND", "a link to nothing");
    assert_eq!(client.get(&format!("/tasks/{there}")).await.code(404), "NOT_FOUND", "it is no task");
    goes_on(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_revisions_and_keys_used_twice() {
    let node = Node::fresh().await;
    let client = node.client();
    let path = format!("/memories/{}", memory(client).await);
    let revision = client.get(&path).await.data(200)["revision"].as_u64().expect("a revision");
    let patch = |tag: String, body: Value| {
        let request = client.request(Method::PATCH, &path).header("If-Match", tag).json(&body);
        client.send(request)
    };
    let first = patch(format!("\"{revision}\""), json!({ "title": "One" })).await.expect("an answer");
    first.data(200);
    let second = patch(format!("\"{revision}\""), json!({ "title": "Two" })).await.expect("an answer");
    assert_eq!(second.code(412), "STALE_REVISION");
    assert_eq!(second.body["error"]["details"]["expected"], revision, "{}", second.text);
    let nonsense = patch("seven".into(), json!({ "title": "Two" })).await.expect("an answer");
    assert_eq!(nonsense.code(422), "VALIDATION_ERROR");

    let keyed = |key: &str, body: Value| {
        client.send(client.request(Method::POST, "/memories").header("Idempotency-Key", key).json(&body))
    };
    let first = keyed("one", json!({ "title": "Keyed" })).await.expect("an answer");
    let again = keyed("one", json!({ "title": "Keyed" })).await.expect("an answer");
    assert_eq!(first.data(201)["id"], again.ok()["id"]);
    assert_eq!(again.ok()["repeated"], true);
    let other = keyed("one", json!({ "title": "Something else" })).await.expect("an answer");
    assert_eq!(other.code(422), "IDEMPOTENCY_KEY_REUSED");
    let long = keyed(&"k".repeat(201), json!({ "title": "Keyed" })).await.expect("an answer");
    assert_eq!(long.code(422), "VALIDATION_ERROR");
    goes_on(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_wrong_revoked_or_expired() {
    let mut node = Node::fresh().await;
    let owner = node.client().clone();
    let refused = async |client: &Client| client.get("/memories").await.code(401).to_owned();
    assert_eq!(refused(&Client::new(node.url(), None)).await, "TOKEN_MISSING");
    assert_eq!(refused(&owner.with_token("cairn_nonsense")).await, "TOKEN_UNKNOWN");
    assert_eq!(refused(&owner.with_token(&"x".repeat(4_000))).await, "TOKEN_UNKNOWN");

    let made = owner.post("/tokens", json!({ "name": "gone", "ceiling": "ai-local" })).await;
    let (id, secret) =
        (made.data(201)["id"].clone(), made.data(201)["token"].as_str().expect("a secret").to_owned());
    let agent = owner.with_token(&secret);
    agent.get("/memories").await.data(200);
    owner.delete(&format!("/tokens/{}", id.as_str().expect("an id"))).await.data(200);
    assert_eq!(refused(&agent).await, "TOKEN_REVOKED");
    let list = owner.get("/tokens").await;
    assert!(!list.text.contains(&secret), "a list shows no secrets");

    if !on_postgres() {
        expired_in_the_file(&mut node).await;
    }
    let log = node.log();
    assert!(!log.contains(&secret) && !log.contains(node.owner_token()), "a log shows no secrets");

    let foreign = node.client().request(Method::GET, "/memories").header("X-Tenant-ID", NO_SUCH_ID);
    let answer = node.client().send(foreign).await.expect("an answer");
    assert_eq!(answer.code(403), "WRONG_TENANT");
    for body in [
        json!({ "name": "", "ceiling": "user" }),
        json!({ "name": "x", "ceiling": "god" }),
        json!({ "name": "x" }),
    ] {
        assert_eq!(node.client().post("/tokens", body).await.code(422), "VALIDATION_ERROR");
    }
    goes_on(&node).await;
}

/// A token of a node that keeps its tokens in a file expires, and the file holds no secret.
async fn expired_in_the_file(node: &mut Node) {
    let owner = node.client().clone();
    let short = json!({ "name": "short", "ceiling": "ai-local", "expires_in_days": 1 });
    let secret = owner.post("/tokens", short).await.data(201)["token"].as_str().expect("a secret").to_owned();
    let file = node.data().join("tokens.json");
    let kept = std::fs::read_to_string(&file).expect("the tokens' file");
    assert!(!kept.contains(&secret) && !kept.contains(node.owner_token()), "only hashes are kept");
    node.stop().await;
    expire(&file);
    node.launch().await.unwrap_or_else(|error| panic!("{error}"));
    let refused = node.client().with_token(&secret).get("/memories").await;
    assert_eq!(refused.code(401), "TOKEN_EXPIRED");
    assert!(!node.log().contains(&secret), "a log shows no secrets");
}

/// Sets every expiry in the tokens' file into the past, as if a day had gone by.
fn expire(file: &std::path::Path) {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    if name == "expires_at" && value.is_string() {
                        *value = json!("2020-01-01T00:00:00Z");
                    } else {
                        walk(value);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    let mut tokens: Value = serde_json::from_slice(&std::fs::read(file).expect("readable")).expect("JSON");
    walk(&mut tokens);
    std::fs::write(file, tokens.to_string()).expect("writable");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_folders_that_cannot_be_used() {
    let node = Node::fresh().await;
    let refused = async |folder: &std::path::Path| {
        let options = NodeOptions { data: Some(folder.to_owned()), ..NodeOptions::default() };
        let refusal = Node::start(options).await.err().expect("the node refuses");
        assert!(refusal.status.is_some_and(|status| !status.success()), "{refusal}");
        refusal.log
    };
    let log = refused(node.data()).await;
    assert!(log.contains("in use by another cairn process"), "{log}");

    let newer = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(newer.path().join("VERSION"), "99\n").expect("writable");
    let log = refused(newer.path()).await;
    assert!(log.contains("version 99") && log.contains("newer"), "{log}");

    let foreign = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(foreign.path().join("thesis.tex"), "").expect("writable");
    let log = refused(foreign.path()).await;
    assert!(log.contains("not a cairn data folder"), "{log}");

    let misspelt = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(misspelt.path().join("cairn.toml"), "lisen = \"127.0.0.1:1\"\n").expect("writable");
    let log = refused(misspelt.path()).await;
    assert!(log.contains("lisen"), "{log}");
    goes_on(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_misbehave() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let node = Node::fresh().await;
    let address = node.url().trim_start_matches("http://").trim_end_matches('/').to_owned();
    let half = format!(
        "POST /memories HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{\"title\"",
        node.owner_token()
    );
    let huge = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Huge: {}\r\n\r\n", "x".repeat(2 * 1024 * 1024));
    for bytes in [half.as_bytes(), huge.as_bytes(), b"\x16\x03\x01\x02\x00\x01\x00", b"NONSENSE\r\n\r\n"] {
        let mut connection = tokio::net::TcpStream::connect(&address).await.expect("it listens");
        // The node may hang up in the middle of this.
        let _ = connection.write_all(bytes).await;
        let mut answer = [0_u8; 512];
        let _ = tokio::time::timeout(std::time::Duration::from_millis(200), connection.read(&mut answer)).await;
    }
    let idle: Vec<_> = open_connections(&address, 200).await;
    goes_on(&node).await;
    drop(idle);
    goes_on(&node).await;
}

async fn open_connections(address: &str, count: usize) -> Vec<tokio::net::TcpStream> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(tokio::net::TcpStream::connect(address).await.expect("it listens"));
    }
    connections
}
