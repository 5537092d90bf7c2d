//! Two machines of one owner: one is the primary, the other stands by and takes over.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cairn_testkit::postgres::database;
use cairn_testkit::{Node, NodeOptions, Seed, on_postgres, run};
use cairn_tests::followers::{Load, Mode, head, in_step, invite, missing, primary, promote, standby, view};
use cairn_tests::log;
use cairn_tests::sharing::{self, pair, peer, rename, sees, share, space, title, wait};
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_secs(60);
/// How long taking over may take, until the new primary takes writes.
const PROMOTED_WITHIN: Duration = Duration::from_secs(10);
/// How far behind a follower may be.
const LAG: Duration = Duration::from_secs(1);

async fn add(node: &Node, title: &str) -> String {
    let answer = node.client().post("/memories", json!({ "kind": "note", "title": title })).await;
    answer.data(201)["id"].as_str().expect("a memory has an id").to_owned()
}

async fn shows(node: &Node, memory: &str, title: &str) -> Duration {
    wait(title, PATIENCE, async || {
        node.client().get(&format!("/memories/{memory}")).await.body["data"]["title"] == title
    })
    .await
}

/// Waits until a node is what it should be.
async fn is(node: &Node, role: &str) {
    wait(role, PATIENCE, async || {
        node.client().try_get("/followers").await.is_ok_and(|answer| answer.body["data"]["role"] == role)
    })
    .await;
}

/// Makes sure that two nodes have the same log, event by event.
async fn same_log(one: &Node, other: &Node) {
    let ((ours, broken), (theirs, also)) = (log::read(one.client(), 1).await, log::read(other.client(), 1).await);
    assert_eq!((broken, also), (None, None));
    assert_eq!(ours.len(), theirs.len());
    assert!(ours == theirs, "the logs differ");
}

fn files_of(folder: &Path) -> String {
    let files = fs::read_dir(folder.join("replication/aside")).expect("a folder").flatten();
    files.map(|file| fs::read_to_string(file.path()).expect("a text")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_has_what_its_primary_has_answers_reads_and_refuses_writes() {
    if on_postgres() {
        return;
    }
    let anna = primary("anna", Mode::Asynchronous).await;
    let first = add(&anna, "Written before").await;
    let claude = anna.agent("claude", "ai-cloud").await;
    let mut bert = standby("bert", Mode::Asynchronous, &anna).await;
    shows(&bert, &first, "Written before").await;
    let live = add(&anna, "Written while it follows").await;
    let took = shows(&bert, &live, "Written while it follows").await;
    assert!(took < LAG, "it took {took:?}");
    assert!(bert.client().get("/search?q=written").await.text.contains(&live));
    assert_eq!(bert.owner_token(), anna.owner_token());
    let refused = bert.client().post("/memories", json!({ "kind": "note", "title": "No" })).await;
    assert_eq!((refused.status, &refused.body["error"]["code"]), (409, &json!("NOT_PRIMARY")), "{}", refused.text);
    assert!(refused.text.contains("follows anna") && refused.text.contains("cairn promote"), "{}", refused.text);
    let told = run(bert.data(), &["add", "No", "--title", "No"]).await;
    assert!(told.failed().contains("follows anna"), "{told:?}");
    // Who asks for nothing but what each node has of its own is served.
    let agent = bert.client().with_token(claude.token().expect("a token"));
    assert_eq!(agent.get("/memories").await.status, 200);
    assert!(run(bert.data(), &["verify"]).await.ok().contains("events"));
    let token = anna.client().get("/tokens").await.items().iter().find(|token| token["name"] == "claude").cloned();
    let token = token.expect("it was made")["id"].as_str().expect("an id").to_owned();
    assert_eq!(anna.client().delete(&format!("/tokens/{token}")).await.status, 200);
    wait("that the token is revoked there too", PATIENCE, async || agent.get("/memories").await.status == 401)
        .await;
    let status = run(bert.data(), &["follow", "status"]).await;
    assert!(status.ok().contains("standby of anna") && status.stdout.contains("connected"), "{status:?}");
    let status = run(bert.data(), &["status"]).await;
    assert!(status.ok().contains("standby of anna: read only"), "{status:?}");
    let status = run(anna.data(), &["follow", "status"]).await;
    assert!(status.ok().contains("bert  connected"), "{status:?}");
    assert_eq!(run(anna.data(), &["--json", "status"]).await.json()["replication"]["connected"], 1);
    // By the same link, which was used: it goes on where it was.
    bert.kill9().await;
    let later = add(&anna, "Written while it was away").await;
    bert.launch().await.unwrap_or_else(|error| panic!("{error}"));
    shows(&bert, &later, "Written while it was away").await;
    in_step(&anna, &bert).await;
    same_log(&anna, &bert).await;
    run(anna.data(), &["follow", "forget", "bert"]).await.ok();
    wait("that it ends and says why", PATIENCE, async || bert.log().contains("does not know this machine")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_a_synchronous_primary_is_killed_and_the_standby_takes_over() {
    if on_postgres() {
        return;
    }
    let mut rng = Seed::take().rng();
    let mut anna = primary("anna", Mode::Synchronous).await;
    add(&anna, "Written alone").await;
    let bert = standby("bert", Mode::Synchronous, &anna).await;
    wait("that they are in step", PATIENCE, async || view(&anna).await["synchrony"]["mode"] == "synchronous")
        .await;
    let load = Load::start(anna.client(), 12, "In time");
    load.until(rng.random_range(400..1_200)).await;
    // What the standby does not have must not be acknowledged: it stands still for the last half second of the primary's life.
    bert.freeze();
    sleep(Duration::from_millis(500)).await;
    anna.kill9().await;
    bert.thaw();
    let written = load.ended().await;
    let began = Instant::now();
    let promoted = promote(&bert, &[]).await.json();
    add(&bert, "The first of the new primary").await;
    let took = began.elapsed();
    println!("{} writes, taken over in {took:.1?}", written.len());
    assert!(took < PROMOTED_WITHIN, "it took {took:?}");
    assert_eq!((&promoted["epoch"], &promoted["known_lost"]), (&json!(1), &json!(0)), "{promoted:#}");
    assert_eq!(promoted["taken_over"]["synchronous"], true, "{promoted:#}");
    assert_eq!(promoted["serving"], bert.url(), "{promoted:#}");
    let lost = missing(bert.client(), &written).await;
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged memories are lost, such as {:?}",
        lost.len(),
        written.len(),
        lost.first()
    );
    assert!(run(bert.data(), &["status"]).await.ok().contains("NOT synchronous"), "nobody follows it yet");
    // The old primary comes back and knows of nothing. Not one write is taken.
    anna.launch().await.unwrap_or_else(|error| panic!("{error}"));
    let refused = anna.client().post("/memories", json!({ "kind": "note", "title": "No" })).await;
    assert_eq!((refused.status, &refused.body["error"]["code"]), (409, &json!("NOT_PRIMARY")), "{}", refused.text);
    assert!(refused.text.contains("replaced by bert"), "{}", refused.text);
    let status = run(anna.data(), &["follow", "status"]).await;
    assert!(status.ok().contains("replaced by bert"), "{status:?}");
    rejoin(&mut anna, &bert).await;
}

/// Makes a primary that was replaced follow the new one; gives what it kept aside.
async fn rejoin(old: &mut Node, new: &Node) -> Value {
    old.stop().await;
    old.follow(&invite(new).await);
    old.launch().await.unwrap_or_else(|error| panic!("{error}"));
    in_step(new, old).await;
    let live = add(new, "Written after they were together again").await;
    shows(old, &live, "Written after they were together again").await;
    in_step(new, old).await;
    same_log(old, new).await;
    run(old.data(), &["--json", "follow", "aside"]).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_asynchronous_primary_had_alone_is_bounded_told_and_kept_aside() {
    if on_postgres() {
        return;
    }
    let mut anna = primary("anna", Mode::Asynchronous).await;
    let bert = standby("bert", Mode::Asynchronous, &anna).await;
    let load = Load::start(anna.client(), 12, "In time");
    load.until(800).await;
    anna.kill9().await;
    let killed = Instant::now();
    let written = load.ended().await;
    let promoted = promote(&bert, &[]).await;
    let promoted = promoted.json();
    let has = promoted["taken_over"]["has"]["position"].as_u64().expect("a position");
    assert_eq!(promoted["taken_over"]["handed_over"], false);
    let lost = missing(bert.client(), &written).await;
    println!("{} writes, {} lost", written.len(), lost.len());
    for one in &lost {
        let before = killed.saturating_duration_since(one.at);
        assert!(before < LAG, "what was acknowledged {before:?} before the end is lost");
    }
    // The standby is cut off from an old primary that lives on: what that takes then is its own alone.
    anna.set("CAIRN_FOLLOWER__LISTEN", "127.0.0.1:0");
    fs::write(anna.data().join("replication/followers.json"), r#"{"followers":[],"invitations":[],"port":null}"#)
        .expect("written");
    anna.launch().await.unwrap_or_else(|error| panic!("{error}"));
    let own = head(&anna).await;
    assert!(own >= has);
    let mine = add(&anna, "Nobody else has this").await;
    let events = head(&anna).await - has;
    // It hears of it only when it wants to follow.
    let kept = rejoin(&mut anna, &bert).await;
    let kept = kept.as_array().expect("a list");
    assert_eq!((kept.len(), &kept[0]["after"], &kept[0]["events"]), (1, &json!(has), &json!(events)), "{kept:?}");
    assert!(anna.log().contains("that bert does not have"), "{}", anna.log());
    let text = files_of(anna.data());
    assert!(text.contains("Nobody else has this") && text.contains(&mine), "{text}");
    for one in &lost {
        assert!(text.contains(&one.title), "{one:?} is neither here nor there");
    }
    let told = run(anna.data(), &["follow", "aside"]).await;
    assert!(told.ok().contains("events after position"), "{told:?}");
    assert_eq!(anna.client().get(&format!("/memories/{mine}")).await.status, 404);
    // And back again, while both are there: nothing is lost.
    let load = Load::start(bert.client(), 4, "Later");
    load.until(100).await;
    let promoted = promote(&anna, &[]).await.json();
    assert_eq!(
        (&promoted["epoch"], &promoted["taken_over"]["handed_over"]),
        (&json!(2), &json!(true)),
        "{promoted:#}"
    );
    let written = load.ended().await;
    is(&bert, "replaced").await;
    let lost = missing(anna.client(), &written).await;
    assert!(lost.is_empty(), "{lost:?}");
    add(&anna, "It goes on").await;
}

/// A machine of somebody's that also meets others.
fn meeting(name: &str, follow: Option<String>) -> NodeOptions {
    let named = ["CAIRN_FOLLOWER__NAME", "CAIRN_FEDERATION__NAME"].map(|key| (key.to_owned(), name.to_owned()));
    NodeOptions { environment: named.to_vec(), follow, ..NodeOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_takes_over_goes_on_sharing_in_its_brains_name() {
    if on_postgres() {
        return;
    }
    let start = async |options| Node::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    let mut anna = start(meeting("anna", None)).await;
    let carl = start(meeting("carl", None)).await;
    pair((&anna, "anna"), (&carl, "carl"), PATIENCE).await;
    let first = sharing::add(&anna, "Tomatoes", "garden").await;
    sharing::create(&anna, "garden").await;
    share(&anna, "garden", (&carl, "carl"), 90, PATIENCE).await;
    shows(&carl, &first, "Tomatoes").await;
    let standby = start(meeting("anna", Some(invite(&anna).await))).await;
    in_step(&anna, &standby).await;
    // The old primary says something that its standby never has.
    standby.freeze();
    let lost = sharing::add(&anna, "Heard by Carl alone", "garden").await;
    shows(&carl, &lost, "Heard by Carl alone").await;
    anna.kill9().await;
    standby.thaw();
    promote(&standby, &[]).await.ok();
    wait("that they meet", PATIENCE, async || sees(&standby, "carl").await && sees(&carl, "anna").await).await;
    shows(&standby, &lost, "Heard by Carl alone").await;
    let later = sharing::add(&standby, "By the other machine", "garden").await;
    shows(&carl, &later, "By the other machine").await;
    rename(&standby, &first, "Roses").await;
    shows(&carl, &first, "Roses").await;
    rename(&carl, &first, "Of Carl").await;
    shows(&standby, &first, "Of Carl").await;
    let there = space(&carl, "garden").await.expect("it is shared");
    assert_eq!(there["forked"], json!([]), "it said nothing in the place of what it had said before");
    assert_eq!(title(&carl, &lost).await.as_deref(), Some("Heard by Carl alone"));
    assert_eq!(
        peer(&carl, "anna").await.expect("a peer")["devices"].as_object().map(serde_json::Map::len),
        Some(1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_while_it_takes_over_it_can_be_done_again() {
    if on_postgres() {
        return;
    }
    let mut rng = Seed::take().rng();
    let mut anna = primary("anna", Mode::Asynchronous).await;
    for number in 0..50 {
        add(&anna, &format!("Memory {number}")).await;
    }
    let mut bert = standby("bert", Mode::Asynchronous, &anna).await;
    anna.kill9().await;
    for round in 0..4 {
        let data = bert.data().to_owned();
        let promoting = tokio::spawn(async move {
            let mut command = tokio::process::Command::new(cairn_testkit::cairn());
            command.args(["promote", "--data"]).arg(data).kill_on_drop(true);
            command.output().await
        });
        sleep(Duration::from_millis(rng.random_range(0..1_500))).await;
        promoting.abort();
        let _ = promoting.await;
        if round % 2 == 1 {
            bert.kill9().await;
            bert.launch().await.unwrap_or_else(|error| panic!("{error}"));
        }
    }
    let promoted = promote(&bert, &[]).await;
    assert!(promoted.code == Some(0) || promoted.stderr.contains("primary's already"), "{promoted:?}");
    is(&bert, "primary").await;
    wait("that it takes writes", PATIENCE, async || {
        let request = json!({ "kind": "note", "title": "It goes on" });
        bert.client().try_post("/memories", &request).await.is_ok_and(|answer| answer.status == 201)
    })
    .await;
    wait("that all of it is there", PATIENCE, async || {
        bert.client().get("/memories?limit=200").await.items().len() > 50
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_with_what_to_do() {
    if on_postgres() {
        return;
    }
    let (anna, carl) = (primary("anna", Mode::Asynchronous).await, primary("carl", Mode::Asynchronous).await);
    let empty = tempfile::tempdir().expect("a folder");
    let folder = empty.path().join("data");
    let nobody = run(&folder, &["follow"]).await;
    assert!(nobody.failed().contains("cairn follow invite"), "{nobody:?}");
    let nonsense = run(&folder, &["follow", "https://example.org"]).await;
    assert!(nonsense.failed().contains("no link to follow"), "{nonsense:?}");
    let own = run(anna.data(), &["promote"]).await;
    assert!(own.failed().contains("primary's already"), "{own:?}");
    let link = invite(&anna).await;
    let busy = run(carl.data(), &["follow", &link]).await;
    assert!(busy.failed().contains("in use"), "{busy:?}");
    let mut carl = carl;
    carl.stop().await;
    let other = run(carl.data(), &["follow", &link]).await;
    assert!(other.failed().contains("another brain"), "{other:?}");
    let unknown = run(anna.data(), &["follow", "forget", "nobody"]).await;
    assert_eq!(unknown.code, Some(4), "{unknown:?}");
    let agent = anna.agent("claude", "ai-cloud").await;
    assert_eq!(agent.get("/followers").await.status, 403);
    let kept = database().await;
    let options = NodeOptions { database: Some(kept.url().to_owned()), ..NodeOptions::default() };
    let served = Node::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    let refused = run(served.data(), &["follow", "invite"]).await;
    assert!(refused.failed().contains("streaming replication"), "{refused:?}");
}
