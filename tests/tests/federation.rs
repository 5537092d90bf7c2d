//! Two nodes, as two people run them: one keeps everything in its data folder, the other in PostgreSQL. They meet on loopback, over QUIC or over
//! gRPC.

#[path = "federation/forward.rs"]
mod forward;

use std::time::{Duration, Instant};

use cairn_testkit::postgres::database;
use cairn_testkit::{Beside, Node, NodeOptions, Ran, run, run_with};
use serde_json::{Value, json};
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_secs(60);
/// How long pairing and sharing the first memory may take.
const FIRST_MEMORY_WITHIN: Duration = Duration::from_secs(10);

async fn node(name: &str, database: Option<String>) -> Node {
    let environment = vec![("CAIRN_FEDERATION__NAME".to_owned(), name.to_owned())];
    let options = NodeOptions { database, environment, ..NodeOptions::default() };
    Node::start(options).await.unwrap_or_else(|error| panic!("{error}"))
}

/// A node that is met over gRPC alone.
async fn over_grpc(name: &str) -> Node {
    let settings = [("NAME", name), ("LIBP2P", "false"), ("GRPC_LISTEN", "[\"127.0.0.1:0\"]")];
    let environment = settings.map(|(key, value)| (format!("CAIRN_FEDERATION__{key}"), value.to_owned())).to_vec();
    Node::start(NodeOptions { environment, ..NodeOptions::default() })
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a command on a node's own machine, which must work.
async fn cairn(node: &Node, arguments: &[&str]) -> Ran {
    let ran = run(node.data(), arguments).await;
    assert_eq!(ran.code, Some(0), "cairn {arguments:?}\n{}\n{}\n{}", ran.stdout, ran.stderr, node.log());
    ran
}

async fn pair(one: &Node, other: &Node) {
    let link = cairn(one, &["peer", "invite"]).await.stdout;
    let met = cairn(other, &["peer", "accept", link.trim()]).await.stdout;
    assert!(met.starts_with("Met "), "{met}\n{}\n{}", one.log(), other.log());
}

async fn add(node: &Node, title: &str, tag: &str, body: &str) -> String {
    let request = json!({ "kind": "note", "title": title, "tags": [tag], "body": body });
    let answer = node.client().post("/memories", request).await;
    answer.body["data"]["id"].as_str().unwrap_or_else(|| panic!("{}", answer.text)).to_owned()
}

/// Waits until a node shows a memory as it is wanted; says how long that took.
async fn until(node: &Node, memory: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Duration {
    let began = Instant::now();
    loop {
        let answer = node.client().get(&format!("/memories/{memory}")).await;
        if answer.status == 200 && wanted(&answer.body["data"]) {
            return began.elapsed();
        }
        assert!(began.elapsed() < PATIENCE, "{what} did not come: {}\n{}", answer.text, node.log());
        sleep(Duration::from_millis(10)).await;
    }
}

async fn share(owner: &Node, with: &Node, name: &str, role: &str) {
    cairn(owner, &["share", "Garden", "--with", name, "--role", role, "--expires", "90d"]).await;
    let began = Instant::now();
    while run(with.data(), &["share", "accept", "Garden"]).await.code != Some(0) {
        assert!(began.elapsed() < PATIENCE, "the offer did not come\n{}", with.log());
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_share_a_garden_over_sqlite_and_postgresql() {
    let kept = database().await;
    let (anna, bert) = (node("anna", None).await, node("bert", Some(kept.url().to_owned())).await);
    let tomatoes = add(&anna, "Tomatoes", "garden", "Water them.").await;
    let diary = add(&anna, "Diary", "private", "Nobody's business.").await;
    let began = Instant::now();
    pair(&anna, &bert).await;
    cairn(&anna, &["space", "create", "Garden", "--tag", "garden"]).await;
    share(&anna, &bert, "bert", "write").await;
    until(&bert, &tomatoes, "the first memory", |memory| memory["title"] == "Tomatoes").await;
    assert!(began.elapsed() < FIRST_MEMORY_WITHIN, "it took {:?}", began.elapsed());
    let seen = bert.client().get(&format!("/memories/{tomatoes}")).await;
    assert_eq!(seen.body["data"]["body"], "Water them.");
    assert!(seen.text.contains("peer:"), "it says where it came from: {}", seen.text);
    cairn(&bert, &["set", "Tomatoes", "--title", "Tomatoes and beans"]).await;
    until(&anna, &tomatoes, "the title", |memory| memory["title"] == "Tomatoes and beans").await;
    assert_eq!(bert.client().get(&format!("/memories/{diary}")).await.status, 404);
    let found = bert.client().get("/search?q=tomatoes").await;
    assert!(found.text.contains(&tomatoes), "what is shared is found: {}", found.text);
    let words = |peers: &str| {
        let page: Value = serde_json::from_str(peers).expect("JSON");
        page["items"][0]["words"].clone()
    };
    let (ours, theirs) = (cairn(&anna, &["--json", "peers"]).await, cairn(&bert, &["--json", "peers"]).await);
    assert_eq!(words(&ours.stdout), words(&theirs.stdout));
    let shares = cairn(&anna, &["shares"]).await.stdout;
    assert!(shares.contains("Garden") && shares.contains("bert may write until"), "{shares}");
    let began = Instant::now();
    while !cairn(&anna, &["receipts"]).await.stdout.contains("bert has") {
        assert!(began.elapsed() < PATIENCE, "no receipt");
        sleep(Duration::from_millis(100)).await;
    }
    cairn(&anna, &["share", "revoke", "Garden", "--with", "bert"]).await;
    let later = add(&anna, "Later", "garden", "").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bert.client().get(&format!("/memories/{later}")).await.status, 404);
    cairn(&anna, &["peer", "block", "bert"]).await;
    let blocked = cairn(&anna, &["peers"]).await.stdout;
    assert!(blocked.contains("blocked"), "{blocked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_go_on_after_one_was_killed_and_conflicts_are_shown_to_both() {
    let (anna, mut bert) = (node("anna", None).await, node("bert", None).await);
    let tomatoes = add(&anna, "Tomatoes", "garden", "One.\nTwo.\nThree.\n").await;
    pair(&anna, &bert).await;
    cairn(&anna, &["space", "create", "Garden", "--tag", "garden"]).await;
    share(&anna, &bert, "bert", "write").await;
    until(&bert, &tomatoes, "the memory", |memory| memory["title"] == "Tomatoes").await;
    bert.kill9().await;
    cairn(&anna, &["set", "Tomatoes", "--title", "Anna's"]).await;
    bert.launch().await.unwrap_or_else(|error| panic!("{error}"));
    // Before it has heard of the other's change, or after: in both cases nothing is lost.
    cairn(&bert, &["set", &tomatoes, "--title", "Bert's"]).await;
    let settled = |memory: &Value| {
        let text = memory.to_string();
        memory["title"] == "Bert's" || text.contains("Anna's") && text.contains("Bert's")
    };
    until(&anna, &tomatoes, "what Bert wrote", settled).await;
    until(&bert, &tomatoes, "what Bert wrote", settled).await;
    // Many changes at once, and a kill in the middle of them.
    let mut last = String::new();
    for number in 0..300 {
        last = add(&anna, &format!("Bed {number}"), "garden", "").await;
        if number == 150 {
            bert.kill9().await;
            bert.launch().await.unwrap_or_else(|error| panic!("{error}"));
        }
    }
    until(&bert, &last, "the last of many", |memory| memory["title"] == "Bed 299").await;
    let count = bert.client().get("/memories?tag=garden&limit=200").await;
    assert_eq!(count.items().len(), 200, "{}", count.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_everywhere_is_gone_from_the_other_node_as_well() {
    const CANARY: &str = "canarybird in the coalmine";
    let kept = database().await;
    let (anna, bert) = (node("anna", None).await, node("bert", Some(kept.url().to_owned())).await);
    let tomatoes = add(&anna, "Tomatoes", "garden", CANARY).await;
    pair(&anna, &bert).await;
    cairn(&anna, &["space", "create", "Garden", "--tag", "garden"]).await;
    share(&anna, &bert, "bert", "write").await;
    until(&bert, &tomatoes, "the memory", |memory| memory["title"] == "Tomatoes").await;
    assert!(bert.client().get("/log").await.text.contains(CANARY), "it is in the log while nobody has erased it");
    let unshared = add(&bert, "Apples", "fruit", "").await;
    let refused = run(bert.data(), &["erase", &unshared, "--everywhere", "--yes"]).await;
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("shared with nobody"), "{}", refused.stderr);
    let refused = run(bert.data(), &["erase", &tomatoes, "--everywhere", "--yes"]).await;
    assert!(refused.stderr.contains("begun by another brain"), "{}", refused.stderr);
    let erased = cairn(&anna, &["erase", "Tomatoes", "--everywhere", "--yes"]).await.stdout;
    assert!(erased.contains("1 who have Garden are told"), "{erased}");
    let began = Instant::now();
    while bert.client().get(&format!("/memories/{tomatoes}")).await.status != 410 {
        assert!(began.elapsed() < PATIENCE, "it is still there\n{}", bert.log());
        sleep(Duration::from_millis(20)).await;
    }
    assert!(!bert.client().get("/log").await.text.contains(CANARY), "the log still says it");
    let found = bert.client().get("/search?q=canarybird").await;
    assert!(!found.text.contains(&tomatoes), "it is still found: {}", found.text);
    let began = Instant::now();
    while !cairn(&anna, &["receipts"]).await.stdout.contains("bert knows since") {
        assert!(began.elapsed() < PATIENCE, "no word of it from bert");
        sleep(Duration::from_millis(50)).await;
    }
    let again = run(anna.data(), &["erase", &tomatoes, "--everywhere", "--yes"]).await;
    assert_ne!(again.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_share_over_grpc_alone() {
    let (anna, mut bert) = (over_grpc("anna").await, over_grpc("bert").await);
    for node in [&anna, &bert] {
        let addresses = node.client().get("/sharing").await.body["data"]["addresses"].clone();
        let addresses = addresses.as_array().expect("a list");
        let is_grpc = |address: &Value| address.as_str().is_some_and(|address| address.ends_with("/tls/http"));
        assert!(!addresses.is_empty() && addresses.iter().all(is_grpc), "{addresses:?}");
    }
    let tomatoes = add(&anna, "Tomatoes", "garden", "Water them.").await;
    pair(&anna, &bert).await;
    cairn(&anna, &["space", "create", "Garden", "--tag", "garden"]).await;
    share(&anna, &bert, "bert", "write").await;
    until(&bert, &tomatoes, "the first memory", |memory| memory["title"] == "Tomatoes").await;
    cairn(&bert, &["set", "Tomatoes", "--title", "Bert's"]).await;
    until(&anna, &tomatoes, "the title", |memory| memory["title"] == "Bert's").await;
    bert.kill9().await;
    let beans = add(&anna, "Beans", "garden", "").await;
    bert.launch().await.unwrap_or_else(|error| panic!("{error}"));
    let took = until(&bert, &beans, "what was added meanwhile", |memory| memory["title"] == "Beans").await;
    println!("met again, and caught up, {took:.1?} after the start");
    cairn(&anna, &["peer", "block", "bert"]).await;
    let later = add(&anna, "Later", "garden", "").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bert.client().get(&format!("/memories/{later}")).await.status, 404);
}

/// Neither relays nor QUIC: one is found over gRPC, the other is not told to listen for it, and dials.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_listen_for_grpc_dials_it() {
    let (anna, bert) = (over_grpc("anna").await, node("bert", None).await);
    let tomatoes = add(&anna, "Tomatoes", "garden", "").await;
    pair(&anna, &bert).await;
    cairn(&anna, &["space", "create", "Garden", "--tag", "garden"]).await;
    share(&anna, &bert, "bert", "read").await;
    until(&bert, &tomatoes, "the memory", |memory| memory["title"] == "Tomatoes").await;
}

/// At scale the node answers, and a process beside it meets other brains; each appends to the same log.
#[tokio::test(flavor = "multi_thread")]
async fn two_who_are_never_there_at_once_share_by_a_third_that_reads_nothing() {
    let (mut anna, mut bert, rita) =
        (node("anna", None).await, node("bert", None).await, node("rita", None).await);
    for (one, other) in [(&anna, &bert), (&anna, &rita), (&bert, &rita)] {
        pair(one, other).await;
    }
    cairn(&anna, &["space", "create", "Garden", "--tag", "garden"]).await;
    share(&anna, &rita, "rita", "relay").await;
    share(&anna, &bert, "bert", "write").await;
    let first = add(&anna, "Tomatoes", "garden", "canary-water").await;
    until(&bert, &first, "the first memory", |memory| memory["title"] == "Tomatoes").await;
    bert.kill9().await;
    let later = add(&anna, "Beans", "garden", "canary-poles").await;
    let began = Instant::now();
    let has = |receipts: &Value, count: u64| {
        let items = receipts["data"]["items"].as_array().cloned().unwrap_or_default();
        items.iter().filter(|receipt| receipt["entries"].as_u64() >= Some(count)).count() > 0
    };
    while !has(&anna.client().get("/receipts").await.body, 8) {
        assert!(began.elapsed() < PATIENCE, "the third node does not say that it has it: {}", anna.log());
        sleep(Duration::from_millis(100)).await;
    }
    anna.kill9().await;
    bert.launch().await.unwrap_or_else(|error| panic!("{error}"));
    until(&bert, &later, "what was said while he was away", |memory| memory["body"] == "canary-poles").await;
    cairn(&bert, &["set", &later, "--title", "Beans and peas"]).await;
    let log = cairn(&rita, &["replay"]).await.stdout;
    assert!(log.contains("sealed") && !log.contains("canary"), "{log}");
    assert_eq!(rita.client().get(&format!("/memories/{later}")).await.status, 404);
    sleep(Duration::from_secs(2)).await;
    bert.kill9().await;
    anna.launch().await.unwrap_or_else(|error| panic!("{error}"));
    until(&anna, &later, "what he said", |memory| memory["title"] == "Beans and peas").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_of_ones_own_writes_in_ones_name_until_it_is_removed() {
    let kept = database().await;
    let (anna, bert) = (node("anna", None).await, node("bert", None).await);
    let laptop = node("laptop", Some(kept.url().to_owned())).await;
    pair(&anna, &bert).await;
    let tomatoes = add(&anna, "Tomatoes", "garden", "").await;
    cairn(&anna, &["space", "create", "Garden", "--tag", "garden"]).await;
    share(&anna, &bert, "bert", "write").await;
    let link = cairn(&anna, &["device", "invite"]).await.stdout;
    assert!(link.starts_with("cairn://device/"), "{link}");
    let joined = cairn(&laptop, &["device", "join", link.trim()]).await.stdout;
    assert!(joined.contains("from now on"), "{joined}\n{}\n{}", anna.log(), laptop.log());
    until(&laptop, &tomatoes, "the memory", |memory| memory["title"] == "Tomatoes").await;
    cairn(&laptop, &["set", "Tomatoes", "--title", "Beans"]).await;
    for node in [&anna, &bert] {
        until(node, &tomatoes, "what the laptop said", |memory| memory["title"] == "Beans").await;
    }
    let devices = cairn(&anna, &["-q", "device", "list"]).await.stdout;
    let own: Value =
        serde_json::from_str(&cairn(&anna, &["--json", "device", "list"]).await.stdout).expect("JSON");
    assert_eq!(own["items"][0]["this"], true);
    let other = devices.lines().last().expect("two devices").to_owned();
    let wrong =
        run(laptop.data(), &["device", "remove", own["items"][0]["device"].as_str().expect("a key")]).await;
    assert!(wrong.stderr.contains("where the brain's key is"), "{}", wrong.stderr);
    cairn(&anna, &["device", "remove", &other]).await;
    sleep(Duration::from_secs(2)).await;
    cairn(&laptop, &["set", &tomatoes, "--title", "Stolen"]).await;
    let marker = add(&anna, "Marker", "garden", "").await;
    until(&bert, &marker, "the marker", |memory| memory["title"] == "Marker").await;
    for node in [&anna, &bert] {
        let seen = node.client().get(&format!("/memories/{tomatoes}")).await;
        assert_eq!(seen.body["data"]["title"], "Beans", "{}", seen.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_is_replaced_by_another_one_with_the_words_of_the_next_key() {
    let (mut anna, bert, laptop) =
        (node("anna", None).await, node("bert", None).await, node("laptop", None).await);
    pair(&anna, &bert).await;
    let tomatoes = add(&anna, "Tomatoes", "garden", "").await;
    cairn(&anna, &["space", "create", "Garden", "--tag", "garden"]).await;
    share(&anna, &bert, "bert", "write").await;
    let link = cairn(&anna, &["device", "invite"]).await.stdout;
    cairn(&laptop, &["device", "join", link.trim()]).await;
    until(&laptop, &tomatoes, "the memory", |memory| memory["title"] == "Tomatoes").await;
    let unasked = run(anna.data(), &["key", "prepare"]).await;
    assert!(unasked.code == Some(2) && unasked.stderr.contains("--yes"), "{unasked:?}");
    let shown = cairn(&anna, &["key", "show"]).await.stdout;
    assert!(shown.contains("the brain's first") && shown.contains("not prepared"), "{shown}");
    let made = cairn(&anna, &["key", "prepare", "--yes", "--json"]).await.stdout;
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let words = made["words"].as_str().expect("the words");
    assert!(!anna.log().contains(words), "a secret is in the log");
    let twice = run(anna.data(), &["key", "prepare", "--yes"]).await;
    assert!(twice.code == Some(6) && twice.stderr.contains("named already"), "{twice:?}");
    let began = Instant::now();
    while !cairn(&laptop, &["key", "show"]).await.stdout.contains("is prepared") {
        assert!(began.elapsed() < PATIENCE, "the laptop does not hear of it\n{}", laptop.log());
        sleep(Duration::from_millis(50)).await;
    }
    let lost = laptop.client().get("/devices").await.body["data"]["items"].clone();
    let lost = lost.as_array().expect("two").iter().find(|device| device["this"] == false).expect("the other one");
    let lost = lost["device"].as_str().expect("a key").to_owned();
    anna.kill9().await;
    let wrong = run_with(laptop.data(), &["key", "change"], "zoo zoo zoo").await;
    assert!(wrong.code == Some(1) && wrong.stderr.contains("24 words"), "{wrong:?}");
    let changed = run_with(laptop.data(), &["key", "change"], &format!("{words}\n")).await;
    assert_eq!(changed.code, Some(0), "{changed:?}\n{}", laptop.log());
    cairn(&laptop, &["device", "remove", &lost]).await;
    cairn(&laptop, &["share", "Garden", "--with", "bert", "--role", "admin"]).await;
    cairn(&laptop, &["set", "Tomatoes", "--title", "Beans"]).await;
    until(&bert, &tomatoes, "what the laptop said", |memory| memory["title"] == "Beans").await;
    while !cairn(&bert, &["shares"]).await.stdout.contains("admin") {
        assert!(began.elapsed() < PATIENCE, "the offer does not come\n{}", bert.log());
        sleep(Duration::from_millis(50)).await;
    }
    let key = cairn(&laptop, &["key", "show"]).await.stdout;
    assert!(key.contains("1 before it, here"), "{key}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_beside_the_node_shares_in_its_place() {
    let kept = database().await;
    let environment = vec![("CAIRN_FEDERATION__ENABLED".to_owned(), "false".to_owned())];
    let options = NodeOptions { database: Some(kept.url().to_owned()), environment, ..NodeOptions::default() };
    let bert = Node::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    let named = [("CAIRN_FEDERATION__NAME", "bert")];
    let beside = Beside::federation(bert.data(), kept.url(), &named).await;
    let anna = node("anna", None).await;
    assert_eq!(bert.client().get("/sharing").await.status, 503, "it leaves that to the other one");
    let invitation = anna.client().post("/peers/invitations", json!({})).await;
    let link = invitation.body["data"]["link"].clone();
    assert_eq!(beside.client().post("/peers", json!({ "link": link })).await.status, 202, "{}", beside.log());
    let tomatoes = add(&anna, "Tomatoes", "garden", "Water them.").await;
    cairn(&anna, &["space", "create", "Garden", "--tag", "garden"]).await;
    let began = Instant::now();
    while anna.client().get("/peers").await.items().is_empty() {
        assert!(began.elapsed() < PATIENCE, "they do not meet\n{}", beside.log());
        sleep(Duration::from_millis(50)).await;
    }
    cairn(&anna, &["share", "Garden", "--with", "bert", "--role", "write", "--expires", "90d"]).await;
    while run(&beside.data(), &["share", "accept", "Garden"]).await.code != Some(0) {
        assert!(began.elapsed() < PATIENCE, "the offer did not come\n{}", beside.log());
        sleep(Duration::from_millis(50)).await;
    }
    until(&bert, &tomatoes, "the memory", |memory| memory["title"] == "Tomatoes").await;
    cairn(&bert, &["set", "Tomatoes", "--title", "Bert's"]).await;
    until(&anna, &tomatoes, "what Bert wrote at his node", |memory| memory["title"] == "Bert's").await;
    beside.kill9().await;
    let beans = add(&anna, "Beans", "garden", "").await;
    let beside = Beside::federation(bert.data(), kept.url(), &named).await;
    until(&bert, &beans, "what was added meanwhile", |memory| memory["title"] == "Beans").await;
    beside.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_with_what_to_do() {
    let anna = node("anna", None).await;
    let nonsense = run(anna.data(), &["peer", "accept", "https://example.org"]).await;
    assert!(nonsense.code != Some(0) && nonsense.stderr.contains("cairn://pair/"), "{nonsense:?}");
    let own = cairn(&anna, &["peer", "invite"]).await.stdout;
    let own = run(anna.data(), &["peer", "accept", own.trim()]).await;
    assert!(own.code != Some(0) && own.stderr.contains("own"), "{own:?}");
    let nobody = run(anna.data(), &["share", "Garden", "--with", "nobody"]).await;
    assert_eq!(nobody.code, Some(4), "{nobody:?}");
    cairn(&anna, &["space", "create", "Garden"]).await;
    let nobody = run(anna.data(), &["share", "Garden", "--with", "nobody"]).await;
    assert!(nobody.code == Some(4) && nobody.stderr.contains("nobody"), "{nobody:?}");
    let agent = cairn(&anna, &["token", "create", "--name", "agent", "--ceiling", "ai-cloud", "-q"]).await.stdout;
    let refused = anna.client().with_token(agent.trim()).get("/sharing").await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    let empty = anna.client().post("/spaces", json!({ "name": " " })).await;
    assert_eq!(empty.status, 422, "{}", empty.text);
}
