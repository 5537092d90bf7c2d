//! What the user said stays what the user said: through HTTP, with an agent's token, on every route.

use std::collections::BTreeSet;

use cairn_testkit::{Answer, Client, Node};
use cairn_tests::{files, projections};
use reqwest::Method;
use serde_json::{Value, json};

const BODY: &str = "Water the beds on Tuesdays.\n\nThe pump is in the shed.\n";

/// A task with everything a user can say about it, and another that it links to.
async fn users_task(node: &Node) -> (String, String) {
    let client = node.client();
    let garden = client.post("/memories", json!({ "title": "Garden" })).await;
    let garden = id(&garden);
    let task = json!({
        "kind": "task", "title": "Water the garden", "body": BODY, "tags": ["summer"],
        "fields": { "status": "in_progress", "priority": "high", "mood": "calm" },
        "links": [{ "relation": "part_of", "target": garden }],
    });
    (id(&client.post("/memories", task).await), garden)
}

#[track_caller]
fn id(answer: &Answer) -> String {
    answer.ok()["id"].as_str().unwrap_or_else(|| panic!("no id: {}", answer.text)).to_owned()
}

/// What a reader sees of what the user said about a memory, after everything that was written to it so far.
///
/// What nobody had said anything about is free: an agent may add a tag or a link, and it stands at the agent's level.
async fn seen(node: &Node, memory: &str) -> Value {
    let position = node.client().get("/status").await.data(200)["position"].as_u64().expect("a position");
    let answer = node.client().get(&format!("/memories/{memory}?min_position={position}")).await;
    let mut seen = json!({});
    for part in ["kind", "title", "body", "archived", "values", "tags", "links"] {
        seen[part] = answer.data(200)[part].clone();
    }
    seen["values"].as_object_mut().expect("values").remove("completed_at");
    seen["tags"].as_array_mut().expect("tags").retain(|tag| tag != "mine");
    seen["links"].as_array_mut().expect("links").retain(|link| link["truth"] == 1);
    seen
}

/// Every write that the API has, as an agent would send it: method, path as documented, path as sent, body.
fn writes(task: &str, garden: &str, suggestion: &str) -> Vec<(Method, &'static str, String, Value)> {
    let all = json!({
        "title": "Mine", "body": "Mine.", "kind": "note", "add_tags": ["mine"], "remove_tags": ["summer"],
        "fields": { "status": "cancelled", "priority": "low", "mood": null }, "archived": true,
        "remove_links": [{ "relation": "part_of", "target": garden }], "truth": 1,
    });
    let one = |path: &str| format!("{path}/{task}");
    // The key of a brain, or of a space or a grant, that there is not.
    let key = "3b".repeat(32);
    let mut writes = vec![
        // Before the agent has a command that it may undo: its own suggestions are to be found at the end.
        (Method::POST, "/memories/{id}/undo", format!("/memories/{task}/undo"), json!({})),
        (Method::PATCH, "/memories/{id}", one("/memories"), all.clone()),
        (Method::PATCH, "/memories/{id}", one("/entities"), all),
        (Method::PATCH, "/memories/{id}", one("/memories"), json!({ "body": "", "truth": "user" })),
        (Method::DELETE, "/memories/{id}", one("/memories"), json!({})),
        (Method::DELETE, "/memories/{id}", format!("/memories/{task}?erase=true"), json!({})),
        (Method::POST, "/memories/{id}/restore", format!("/memories/{task}/restore"), json!({})),
        (Method::POST, "/memories/{id}/links", format!("/memories/{task}/links"), json!({ "target": garden })),
        (Method::POST, "/tasks/{id}/complete", format!("/tasks/{task}/complete"), json!({})),
        (Method::POST, "/suggestions/{id}/accept", format!("/suggestions/{suggestion}/accept"), json!({})),
        (Method::POST, "/suggestions/{id}/reject", format!("/suggestions/{suggestion}/reject"), json!({})),
        (Method::POST, "/tokens", "/tokens".into(), json!({ "name": "more", "ceiling": "user" })),
        (Method::DELETE, "/tokens/{id}", format!("/tokens/{task}"), json!({})),
        (Method::POST, "/imports", "/imports".into(), json!({ "path": "/tmp" })),
        (Method::POST, "/projections/{name}/rebuild", "/projections/memories/rebuild".into(), json!({})),
        (Method::DELETE, "/projections/{name}/rebuild", "/projections/memories/rebuild".into(), json!({})),
        (Method::POST, "/projections/{name}/verify", "/projections/memories/verify".into(), json!({})),
        (Method::POST, "/projections/{name}/back", "/projections/memories/back".into(), json!({})),
        (Method::DELETE, "/projections/{name}/previous", "/projections/memories/previous".into(), json!({})),
        (Method::POST, "/projections/{name}/pause", "/projections/memories/pause".into(), json!({})),
        (Method::POST, "/projections/{name}/resume", "/projections/memories/resume".into(), json!({})),
        (Method::POST, "/verify", "/verify".into(), json!({})),
        (Method::POST, "/followers/invitations", "/followers/invitations".into(), json!({})),
        (Method::DELETE, "/followers/{key}", format!("/followers/{key}"), json!({})),
        (Method::POST, "/devices", "/devices".into(), json!({ "link": "cairn://device/AA" })),
        (Method::POST, "/devices/invitations", "/devices/invitations".into(), json!({})),
        (Method::DELETE, "/devices/{device}", format!("/devices/{key}"), json!({})),
        (Method::POST, "/peers", "/peers".into(), json!({ "link": "cairn://pair/AA" })),
        (Method::POST, "/peers/invitations", "/peers/invitations".into(), json!({})),
        (Method::PATCH, "/peers/{brain}", format!("/peers/{key}"), json!({ "blocked": true })),
        (Method::POST, "/spaces", "/spaces".into(), json!({ "name": "All", "memories": [task] })),
        (
            Method::PUT,
            "/spaces/{space}/selection",
            format!("/spaces/{key}/selection"),
            json!({ "memories": [task] }),
        ),
        (
            Method::POST,
            "/spaces/{space}/grants",
            format!("/spaces/{key}/grants"),
            json!({ "with": key, "role": "write" }),
        ),
        (Method::DELETE, "/spaces/{space}/grants/{grant}", format!("/spaces/{key}/grants/{key}"), json!({})),
        (Method::PUT, "/sharing/key", "/sharing/key".into(), json!({ "words": "zoo" })),
        (Method::PUT, "/sharing/key/next", "/sharing/key/next".into(), json!({ "key": key })),
        (Method::POST, "/sharing/erasures", "/sharing/erasures".into(), json!({ "memory": task })),
        (
            Method::POST,
            "/spaces/{space}/wishes/{wish}",
            format!("/spaces/{key}/wishes/{key}"),
            json!({ "granted": true }),
        ),
        (Method::POST, "/spaces/{space}/decision", format!("/spaces/{key}/decision"), json!({ "accepted": true })),
        (Method::POST, "/memories", "/memories".into(), json!({ "title": "Water the garden", "truth": 1 })),
    ];
    let link = format!("/memories/{task}/links/part_of/{garden}");
    writes.push((Method::DELETE, "/memories/{id}/links/{relation}/{target}", link, json!({})));
    for field in ["title", "body", "kind", "status", "mood", "archived", "tag%2Fsummer"] {
        let path = format!("/memories/{task}/fields/{field}");
        // First of all, for the same reason.
        writes.insert(0, (Method::DELETE, "/memories/{id}/fields/{name}", path, json!({})));
    }
    let typed = [
        ("/notes", "/notes/{id}", "title", "content"),
        ("/tasks", "/tasks/{id}", "title", "description"),
        ("/people", "/people/{id}", "name", "notes"),
        ("/projects", "/projects/{id}", "name", "description"),
        ("/events", "/events/{id}", "title", "description"),
        ("/places", "/places/{id}", "name", "notes"),
        ("/daily", "/daily/{id}", "title", "content"),
    ];
    for (list, item, title, body) in typed {
        let mut new = json!({ "truth": 1 });
        new[title] = json!("Mine");
        new[body] = json!("Mine.");
        writes.push((Method::PATCH, item, one(list), new.clone()));
        writes.push((Method::DELETE, item, one(list), json!({})));
        match list {
            "/events" => new["start_time"] = json!("2026-11-21T09:00:00Z"),
            "/daily" => new["log_date"] = json!("2026-11-21"),
            _ => {}
        }
        writes.push((Method::POST, list, list.into(), new));
    }
    writes
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_cannot_change_what_the_user_said_on_any_route() {
    let node = Node::fresh().await;
    let agent = node.agent("claude", "ai-cloud").await;
    let (task, garden) = users_task(&node).await;
    let before = seen(&node, &task).await;
    let suggested = agent.patch(&format!("/memories/{task}"), json!({ "fields": { "priority": "low" } })).await;
    let suggestion = suggested.data(202)["events"][0].as_str().expect("an event").to_owned();

    let writes = writes(&task, &garden, &suggestion);
    let mut tried = BTreeSet::new();
    for (method, documented, path, body) in writes {
        let request = agent.request(method.clone(), &path).json(&body);
        let answer = agent.send(request).await.expect("the node answers");
        assert!(answer.status < 500, "{method} {path}: {}", answer.text);
        tried.insert(format!("{} {documented}", method.as_str().to_lowercase()));
        assert_eq!(
            seen(&node, &task).await,
            before,
            "{method} {path} changed what the user said: {}",
            answer.text
        );
    }
    let known = writes_documented(node.client()).await;
    assert_eq!(known.difference(&tried).collect::<Vec<_>>(), Vec::<&String>::new(), "no agent tried these routes");

    // Nothing the agent wrote claims more than its level, and nothing of it got lost either.
    let made = node.client().get("/memories?q=Mine&truth=5").await;
    assert!(!made.items().is_empty(), "{}", made.text);
    let waiting = node.client().get(&format!("/suggestions?memory={task}&limit=200")).await;
    let fields: BTreeSet<&str> = waiting.items().iter().filter_map(|item| item["field"].as_str()).collect();
    for field in ["title", "body", "status", "priority", "mood", "archived", "tag/summer"] {
        assert!(fields.contains(field), "{field} of {fields:?}");
    }
    assert!(waiting.items().iter().all(|item| item["truth"] == 5), "{}", waiting.text);
    projections::equal_a_fresh_fold(node.client()).await;
}

/// All writes of the OpenAPI document, as `method path`.
async fn writes_documented(client: &Client) -> BTreeSet<String> {
    let document = client.get("/openapi.json").await.body;
    let mut writes = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in ["post", "put", "patch", "delete"] {
            if item[method].is_object() && !path.starts_with("/entities") {
                writes.insert(format!("{method} {path}"));
            }
        }
    }
    writes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suggestion_is_accepted_with_its_origin_and_a_rejection_is_remembered() {
    let node = Node::fresh().await;
    let (owner, agent) = (node.client(), node.agent("claude", "ai-cloud").await);
    let (task, _) = users_task(&node).await;
    let path = format!("/memories/{task}");
    let due = json!({ "fields": { "priority": "urgent" }, "origin": "ai-cloud:anthropic/claude" });
    let answer = agent.patch(&path, due.clone()).await;
    assert_eq!(answer.data(202)["outcome"], "suggested");
    let list = owner.get(&format!("/suggestions?memory={task}&min_position={}", answer.position())).await;
    let suggestion = list.items().first().expect("one waits").clone();
    assert_eq!(suggestion["value"], "urgent");
    assert_eq!(suggestion["current"], "high");
    assert_eq!(suggestion["origin"], "ai-cloud:anthropic/claude");
    let event = suggestion["id"].as_str().expect("an id");

    assert_eq!(agent.post(&format!("/suggestions/{event}/accept"), json!({})).await.code(403), "USER_ONLY");
    let accepted = owner.post(&format!("/suggestions/{event}/accept"), json!({})).await;
    assert_eq!(accepted.data(200)["outcome"], "applied");
    let field = owner.get(&format!("{path}/fields/priority")).await;
    assert_eq!(field.data(200)["value"], "urgent");
    let chain = field.data(200)["chain"].as_array().expect("a chain");
    let levels: Vec<u64> = chain.iter().filter_map(|step| step["truth"].as_u64()).collect();
    assert!(
        levels.first() == Some(&1) && levels.contains(&5),
        "the user's word, and where it came from: {chain:#?}"
    );
    assert!(chain.iter().any(|step| step["origin"] == "ai-cloud:anthropic/claude"), "{chain:#?}");

    let again = json!({ "fields": { "mood": "hectic" } });
    let answer = agent.patch(&path, again.clone()).await;
    let event = answer.data(202)["events"][0].as_str().expect("an event").to_owned();
    owner.post(&format!("/suggestions/{event}/reject"), json!({})).await.data(200);
    let answer = agent.patch(&path, again).await;
    assert_eq!(answer.ok()["outcome"], "rejected_before", "{}", answer.text);
    let list = owner.get(&format!("/suggestions?memory={task}&min_position={}", answer.position())).await;
    assert_eq!(list.items().len(), 0, "{}", list.text);
    assert_eq!(seen(&node, &task).await["values"]["mood"], "calm");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_edit_keeps_what_the_user_typed_meanwhile() {
    let node = Node::fresh().await;
    let (owner, agent) = (node.client(), node.agent("claude", "ai-cloud").await);
    let (task, _) = users_task(&node).await;
    let path = format!("/memories/{task}");
    let edit = BODY.replace("Tuesdays", "Tuesdays and Fridays");
    let answer = agent.patch(&path, json!({ "body": edit })).await;
    let suggestion = answer.data(202)["events"][0].as_str().expect("an event").to_owned();
    let typed = format!("{BODY}\nThe key hangs behind the door.\n");
    owner.patch(&path, json!({ "body": typed })).await.data(200);
    owner.post(&format!("/suggestions/{suggestion}/accept"), json!({})).await.data(200);
    let body = seen(&node, &task).await["body"].as_str().expect("a body").to_owned();
    assert!(body.contains("Tuesdays and Fridays") && body.contains("behind the door"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_can_be_seen_compared_and_brought_back() {
    let node = Node::fresh().await;
    let client = node.client();
    let (task, _) = users_task(&node).await;
    let path = format!("/memories/{task}");
    let position = client.get("/status").await.data(200)["position"].as_u64().expect("a position");
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let time = client.get("/status").await.body["meta"]["timestamp"].as_str().expect("a time").to_owned();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let change = json!({ "title": "Water everything", "body": "All of it.\n", "fields": { "mood": null } });
    client.patch(&path, change).await.data(200);

    for moment in [position.to_string(), time] {
        let then = client.get(&format!("{path}?as_of={moment}")).await;
        assert_eq!(then.data(200)["title"], "Water the garden", "as of {moment}");
        assert_eq!(then.data(200)["body"], BODY);
        assert_eq!(then.data(200)["values"]["mood"], "calm");
    }
    let diff = client.get(&format!("{path}/diff?from={position}")).await;
    let fields = diff.data(200)["fields"].as_array().expect("fields");
    let title = fields.iter().find(|field| field["name"] == "title").expect("the title differs");
    assert_eq!((&title["before"], &title["after"]), (&json!("Water the garden"), &json!("Water everything")));
    let unified = diff.data(200)["body"].as_str().expect("a unified diff");
    assert!(unified.contains("+All of it.") && unified.contains("-Water the beds on Tuesdays."), "{unified}");

    client.patch(&path, json!({ "fields": { "priority": "low" } })).await.data(200);
    client.post(&format!("{path}/undo"), json!({})).await.data(200);
    assert_eq!(seen(&node, &task).await["values"]["priority"], "high", "the last command is undone");
    client.post(&format!("{path}/undo"), json!({})).await.data(200);
    let now = seen(&node, &task).await;
    assert_eq!((&now["title"], &now["body"]), (&json!("Water the garden"), &json!(BODY)), "and the one before");
    assert_eq!(now["values"]["mood"], "calm");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_erased_is_in_no_file_any_more() {
    const SECRETS: [&str; 6] =
        ["Zanzibarquux", "Yttriumfrob", "Xylophonebaz", "wombatgrault", "Vexillumcorge", "Umbragarply"];
    let mut node = Node::fresh().await;
    let (owner, agent) = (node.client().clone(), node.agent("claude", "ai-cloud").await);
    let [title, body, value, tag, suggested, edited] = SECRETS;
    let memory = json!({
        "title": format!("About {title}"), "body": format!("# Heading\n\nThe word is {body}, and only that.\n"),
        "fields": { "codeword": value }, "tags": [tag],
    });
    let memory = id(&owner.post("/memories", memory).await);
    let path = format!("/memories/{memory}");
    agent.patch(&path, json!({ "fields": { "codeword": suggested } })).await.data(202);
    agent.patch(&path, json!({ "body": format!("The word is {edited}.\n") })).await.data(202);
    for number in 0..50 {
        owner
            .post("/memories", json!({ "title": format!("Other {number}"), "body": "Nothing to see." }))
            .await
            .data(201);
    }
    projections::caught_up(&owner).await;
    let found = owner.get(&format!("/search?q={body}")).await;
    assert_eq!(found.data(200)["hits"][0]["memory"], memory.as_str(), "{}", found.text);
    let sealed = files::holding(&node.data().join("log"), &SECRETS);
    assert!(sealed.is_empty(), "in the log in plain text: {sealed:#?}");

    assert_eq!(agent.delete(&format!("{path}?erase=true")).await.code(403), "USER_ONLY");
    owner.delete(&format!("{path}?erase=true")).await.data(200);
    projections::equal_a_fresh_fold(&owner).await;
    assert_eq!(owner.get(&path).await.code(410), "ERASED");
    let past = owner.get(&format!("{path}?as_of=r0")).await;
    assert!([404, 410].contains(&past.status), "not even in the past: {}", past.text);
    for secret in SECRETS {
        let found = owner.get(&format!("/search?q={secret}")).await;
        assert!(!found.text.replace(&format!("\"query\":\"{secret}\""), "").contains(secret), "{}", found.text);
        let log = owner.get("/log").await;
        assert!(!log.text.contains(secret), "{secret} is in the log");
        let timeline = owner.get("/timeline?limit=200").await;
        assert!(!timeline.text.contains(secret), "{secret} is in the timeline");
    }
    projections::tidy(&owner).await;
    let left = files::holding(node.data(), &SECRETS);
    assert!(left.is_empty(), "still there while the node runs: {left:#?}");
    node.stop().await;
    let left = files::holding(node.data(), &SECRETS);
    assert!(left.is_empty(), "still there after a stop: {left:#?}");
    node.launch().await.unwrap_or_else(|error| panic!("{error}"));
    projections::equal_a_fresh_fold(node.client()).await;
    let verdict = node.client().post("/verify", json!({})).await;
    assert!(verdict.text.lines().last().is_some_and(|line| line.contains("\"ok\":true")), "{}", verdict.text);
}
