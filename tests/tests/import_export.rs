//! Vaults in, memories out, and in again.

use std::collections::BTreeMap;
use std::fs;

use cairn_testkit::Node;
use cairn_tests::files::write;
use cairn_tests::{projections, root, vaults};
use serde_json::{Value, json};

/// What a memory says, without the ids and times of the brain that holds it.
async fn said(node: &Node) -> BTreeMap<(String, String), Value> {
    let mut said = BTreeMap::new();
    for summary in vaults::all(node.client(), "archived=any").await {
        let id = summary["id"].as_str().expect("an id");
        let memory = node.client().get(&format!("/memories/{id}")).await.data(200).clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let links = memory["links"].as_array().cloned().unwrap_or_default();
        let mut links: Vec<_> = links.iter().map(|link| (text(&link["relation"]), text(&link["title"]))).collect();
        links.sort();
        let content = json!({
            "body": memory["body"], "values": memory["values"], "tags": memory["tags"], "archived": memory["archived"],
            "links": links,
        });
        let name = (text(&memory["kind"]), text(&memory["title"]));
        let before = said.insert(name.clone(), content);
        assert_eq!(before, None, "two memories are called {name:?}; compare by something else");
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_vault_comes_in_whole() {
    let node = Node::fresh().await;
    let vault = root().join("examples/vault");
    let report = vaults::import(node.client(), &vault).await;
    assert_eq!((&report["problems"], &report["failures"]), (&json!([]), &json!([])), "{report:#}");
    assert!(report["files"].as_u64().is_some_and(|files| (25..=40).contains(&files)), "{report:#}");
    let status = node.client().get("/status").await.data(200).clone();
    for kind in ["note", "task", "person", "project", "event", "place", "daily"] {
        assert!(status["by_kind"][kind].as_u64().is_some_and(|count| count > 0), "no {kind}: {status:#}");
    }
    projections::equal_a_fresh_fold(node.client()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn importing_again_costs_only_what_changed_and_never_overwrites_the_user() {
    let node = Node::fresh().await;
    let client = node.client();
    let vault = tempfile::tempdir().expect("a temporary folder");
    write(
        vault.path(),
        &[
            ("Plan.md", "---\nstatus: open\ncolour: red\n---\nFirst line.\n\nSecond line.\n\nThird line.\n"),
            ("Same.md", "It stays, and links to [[Later]].\n"),
            ("Gone.md", "It will vanish.\n"),
            ("Later.md", "- [ ] Call Ada 📅 2026-12-01\n- [x] Write to Grace\n"),
        ],
    );
    let first = vaults::import(client, vault.path()).await;
    assert_eq!(first["files"], 4);
    assert!(first["created"].as_u64() >= Some(6), "files and tasks: {first:#}");
    let head = client.get("/status").await.data(200)["position"].clone();
    let again = vaults::import(client, vault.path()).await;
    assert_eq!((&again["created"], &again["changed"]), (&json!(0), &json!(0)), "{again:#}");
    assert_eq!(client.get("/status").await.data(200)["position"], head, "nothing was written");

    let plan = vaults::all(client, "q=Plan").await[0]["id"].as_str().expect("an id").to_owned();
    let path = format!("/memories/{plan}");
    let edit = json!({ "body": "First line, by the user.\n\nSecond line.\n\nThird line.\n", "fields": { "colour": "green" } });
    client.patch(&path, edit).await.data(200);
    write(
        vault.path(),
        &[(
            "Plan.md",
            "---\nstatus: closed\ncolour: blue\n---\nFirst line.\n\nSecond line.\n\nThird line, from the file.\n",
        )],
    );
    fs::remove_file(vault.path().join("Gone.md")).expect("it is there");
    let third = vaults::import(client, vault.path()).await;
    assert_eq!(third["vanished"].as_array().map(Vec::len), Some(1), "{third:#}");
    let now = client.get(&path).await.data(200).clone();
    assert_eq!(now["values"]["colour"], "green", "the user's own word stays");
    assert!(now["body"].as_str().is_some_and(|body| body.contains("by the user")), "{now:#}");
    let gone = &vaults::all(client, "q=Gone&archived=any").await[0];
    assert_eq!(gone["archived"], false, "what vanished is only reported");
    let pruned = vaults::import_with(client, json!({ "path": vault.path(), "prune": true })).await;
    assert_eq!(pruned["pruned"], 1, "{pruned:#}");
    assert_eq!(vaults::all(client, "q=Gone&archived=any").await[0]["archived"], true);

    // A file that cannot be read has not vanished, whatever is pruned.
    fs::write(vault.path().join("Plan.md"), b"\xff\xfe no text").expect("written");
    let broken = vaults::import_with(client, json!({ "path": vault.path(), "prune": true })).await;
    assert_eq!((&broken["vanished"], &broken["pruned"]), (&json!([]), &json!(0)), "{broken:#}");
    assert_eq!(client.get(&path).await.data(200)["archived"], false);
    projections::equal_a_fresh_fold(client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_nothing() {
    let node = Node::fresh().await;
    let head = node.client().get("/status").await.data(200)["position"].clone();
    let request = json!({ "path": root().join("examples/vault"), "dry_run": true });
    let report = vaults::import_with(node.client(), request).await;
    assert!(report["created"].as_u64() > Some(25), "{report:#}");
    assert_eq!(node.client().get("/status").await.data(200)["position"], head);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_vault_imports_to_the_same_memories() {
    let first = Node::fresh().await;
    let client = first.client();
    vaults::import(client, &root().join("examples/vault")).await;
    let odd = [
        json!({ "title": "A name: with/odd \\ characters? \"yes\" #1 [[x]]", "body": "Text.\n" }),
        json!({ "title": "Numbers", "fields": { "count": 7, "ratio": 0.5, "flag": true, "list": ["a", "b, c", "- d"], "text": "yes", "date": "2026-11-21" } }),
        json!({ "title": "Fences", "body": "---\nnot: front matter\n---\n\n```\n[[not a link]] #not-a-tag\n```\n" }),
        json!({ "title": "Spaces", "body": "\n\n  indented\n\ttabbed  \n\n\n", "fields": { "blank": "" } }),
        json!({ "title": "Grüße aus Köln — 日本語 🌱", "body": "é and e\u{301} differ.\n", "tags": ["Überblick", "a/b"] }),
        json!({ "kind": "task", "title": "Paint the hull", "fields": { "status": "in_progress", "due_date": "2026-12-24" } }),
    ];
    for memory in odd {
        client.post("/memories", memory).await.ok();
    }
    let people = vaults::all(client, "kind=person").await;
    let (from, to) = (people[0]["id"].as_str().expect("an id"), people[1]["id"].as_str().expect("an id"));
    client.post(&format!("/memories/{from}/links"), json!({ "relation": "knows", "target": to })).await.ok();
    let away = client.post("/memories", json!({ "title": "Put away", "body": "Old." })).await;
    client.delete(&format!("/memories/{}", away.ok()["id"].as_str().expect("an id"))).await.data(200);
    projections::caught_up(client).await;
    let before = said(&first).await;

    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out");
    let out = out.to_str().expect("a plain path");
    first.cli(&["export", "--format", "markdown", "--out", out]).await.ok();
    let second = Node::fresh().await;
    let report = vaults::import(second.client(), out.as_ref()).await;
    assert_eq!(report["failures"], json!([]), "{report:#}");
    projections::caught_up(second.client()).await;
    let after = said(&second).await;
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, memory) in &before {
        assert_eq!(memory, &after[name], "{name:?} came back changed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_lines_holds_every_memory() {
    let node = Node::fresh().await;
    vaults::import(node.client(), &root().join("examples/vault")).await;
    let count = node.client().get("/status").await.data(200)["memories"].as_u64().expect("a count");
    let lines = node.cli(&["export"]).await.json_lines();
    assert_eq!(lines.len() as u64, count);
    assert!(lines.iter().all(|line| line["id"].is_string() && line["title"].is_string()), "{:#}", lines[0]);
}
