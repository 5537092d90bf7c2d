//! The command line against a stub of the node: what is asked for, and what is made of the answers.

use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use clap::{CommandFactory, Parser};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::args::{ClientCommand, Command, ReplayArgs};
use super::client::Client;
use super::commands::replay;
use super::error::{CliError, ExitCode};
use super::locate::Located;
use super::reference::{self, Prefer};
use super::screen::Screen;
use super::{Cli, Global};

const GARDEN: &str = "0192a3f2-77aa-7000-8000-000000000001";
const OTHER: &str = "0192a3f2-77aa-7000-8000-000000000002";

/// What a request looked like when it arrived.
#[derive(Debug, Clone)]
struct Seen {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Json,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

type Answering = dyn Fn(&Seen) -> (u16, String) + Send + Sync;

#[derive(Clone)]
struct Stub {
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<Answering>,
    url: String,
}

impl Stub {
    /// A node that answers as told.
    async fn start(answer: impl Fn(&Seen) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let stub = Self { seen: Arc::default(), answer: Arc::new(answer), url };
        let service = axum::Router::new().fallback(handle).with_state(stub.clone());
        tokio::spawn(async move { axum::serve(listener, service).await });
        stub
    }

    fn client(&self) -> Client {
        client(&self.url)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("not poisoned").clone()
    }
}

async fn handle(State(stub): State<Stub>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 1_000_000).await.expect("a body");
    let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap_or_default().to_owned())
    };
    let seen = Seen {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers.iter().map(header).collect(),
        body: serde_json::from_slice(&bytes).unwrap_or(Json::Null),
    };
    stub.seen.lock().expect("not poisoned").push(seen.clone());
    let (status, body) = (stub.answer)(&seen);
    (StatusCode::from_u16(status).expect("a status"), body).into_response()
}

fn client(url: &str) -> Client {
    Client::to(Located { url: url.parse().expect("an address"), token: "cairn_secret".into(), local: true })
}

fn ok(data: &Json) -> (u16, String) {
    (200, json!({ "success": true, "data": data, "meta": {} }).to_string())
}

fn failure(status: u16, code: &str) -> (u16, String) {
    let error = json!({ "code": code, "message": "no", "details": { "field": "x" } });
    (status, json!({ "success": false, "error": error, "meta": {} }).to_string())
}

fn summary(id: &str, title: &str, archived: bool) -> Json {
    json!({ "id": id, "kind": "note", "title": title, "archived": archived, "truth": 1, "updated_at": "2026-11-21T11:00:00Z" })
}

fn page(items: &[Json]) -> (u16, String) {
    ok(&json!({ "items": items, "next_cursor": null }))
}

#[test]
fn the_grammar_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn global_options_stand_before_and_after_the_command() {
    for line in [["cairn", "--json", "status"], ["cairn", "status", "--json"]] {
        let cli = Cli::try_parse_from(line).expect("a command line");
        assert!(cli.global.json);
        assert!(matches!(cli.command, Command::Client(ClientCommand::Status)));
    }
    let cli = Cli::try_parse_from(["cairn", "up", "--data", "/x", "--import", "a", "--import", "b"]).expect("up");
    assert_eq!(cli.global.data.as_deref(), Some(std::path::Path::new("/x")));
    let Command::Up(up) = cli.command else { panic!("not up") };
    assert_eq!(up.import.len(), 2);
}

#[test]
fn no_argument_is_taken_for_a_global_option() {
    let globals = ["json", "data", "url", "token", "color", "absolute", "quiet"];
    fn check(command: &clap::Command, globals: &[&str]) {
        for sub in command.get_subcommands() {
            for argument in sub.get_arguments() {
                assert!(
                    !globals.contains(&argument.get_id().as_str()),
                    "{} {}",
                    sub.get_name(),
                    argument.get_id()
                );
            }
            check(sub, globals);
        }
    }
    // Before it is built a command holds its own arguments alone.
    check(&Cli::command(), &globals);
    let cli = Cli::try_parse_from(["cairn", "token", "revoke", "claude"]).expect("revoke");
    assert_eq!(cli.global.token, None);
}

#[test]
fn words_need_no_quotes_and_mistakes_are_refused() {
    let cli =
        Cli::try_parse_from(["cairn", "search", "watering", "the", "garden", "-k", "note,task"]).expect("search");
    let Command::Client(ClientCommand::Search(search)) = cli.command else { panic!("not search") };
    assert_eq!((search.words.len(), search.kind.len()), (3, 2));
    for line in [
        &["cairn"][..],
        &["cairn", "search"],
        &["cairn", "search", "x", "--kind", "vegetable"],
        &["cairn", "list", "--truth", "9"],
        &["cairn", "accept"],
        &["cairn", "accept", "x", "--all"],
        &["cairn", "export", "--format", "markdown"],
        &["cairn", "timeline", "--from", "soon"],
    ] {
        assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
    }
}

#[tokio::test]
async fn a_request_carries_the_token_and_a_write_a_key() {
    let stub = Stub::start(|_| ok(&json!({ "fine": true }))).await;
    let client = stub.client();
    let request = client.patch(&["memories", GARDEN, "fields", "a/b c"]).expecting(Some(7));
    request.json(json!({ "x": 1 })).send().await.expect("an answer");
    stub.client().get(&["tags"]).query("q", "a&b").send().await.expect("an answer");
    let seen = stub.seen();
    assert_eq!(seen[0].method, "PATCH");
    assert_eq!(seen[0].path, format!("/memories/{GARDEN}/fields/a%2Fb%20c"));
    assert_eq!(seen[0].header("authorization"), Some("Bearer cairn_secret"));
    assert_eq!(seen[0].header("if-match"), Some("\"7\""));
    assert!(seen[0].header("idempotency-key").is_some());
    assert_eq!(seen[0].body, json!({ "x": 1 }));
    assert_eq!(seen[1].query, "q=a%26b");
    assert_eq!(seen[1].header("idempotency-key"), None);
}

#[tokio::test]
async fn errors_of_the_node_keep_their_code_and_details() {
    let stub = Stub::start(|_| failure(412, "STALE_REVISION")).await;
    let error = stub.client().get(&["status"]).send().await.expect_err("refused");
    assert_eq!(error.exit_code(), ExitCode::Conflict);
    assert_eq!(error.code(), "STALE_REVISION");
    assert!(error.to_json().contains(r#""details":{"field":"x"}"#));
}

#[tokio::test]
async fn who_is_no_node_is_told_apart_from_no_node() {
    let stub = Stub::start(|_| (502, "<html>".to_owned())).await;
    let error = stub.client().get(&["status"]).send().await.expect_err("not a node");
    assert!(matches!(error, CliError::Protocol { .. }));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let error = client(&url).get(&["status"]).send().await.expect_err("nobody");
    assert_eq!(error.exit_code(), ExitCode::NoNode);
}

#[tokio::test]
async fn a_list_is_asked_for_page_by_page() {
    let stub = Stub::start(|seen| match seen.query.contains("cursor=more") {
        false => ok(&json!({ "items": vec![1; 200], "next_cursor": "more" })),
        true => ok(&json!({ "items": vec![2; 50], "next_cursor": "rest" })),
    })
    .await;
    let page = stub.client().get(&["memories"]).query("sort", "title").pages(250, None).await.expect("a list");
    assert_eq!(page.items.len(), 250);
    assert_eq!(page.next_cursor.as_deref(), Some("rest"));
    let queries: Vec<String> = stub.seen().into_iter().map(|seen| seen.query).collect();
    assert_eq!(queries, ["sort=title&limit=200", "sort=title&limit=50&cursor=more"]);
}

#[tokio::test]
async fn a_write_of_which_nobody_knows_is_repeated_with_the_same_key() {
    // given a node whose first connection breaks before it answers
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let served = tokio::spawn(async move {
        let mut keys = Vec::new();
        for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\n{\"data\":{}}"] {
            let (mut connection, _) = listener.accept().await.expect("a connection");
            let mut request = vec![0; 8_192];
            let length = connection.read(&mut request).await.expect("a request");
            let text = String::from_utf8_lossy(&request[..length]).to_lowercase();
            let key = text.lines().find_map(|line| line.strip_prefix("idempotency-key: ").map(str::to_owned));
            keys.push(key.expect("a key"));
            connection.write_all(answer.as_bytes()).await.expect("an answer");
        }
        keys
    });
    // when something is written
    client(&url).post(&["memories"]).json(json!({})).send().await.expect("an answer");
    // then the second try has the key of the first
    let keys = served.await.expect("served");
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn a_memory_is_named_by_its_title_whatever_the_case() {
    let stub =
        Stub::start(|_| page(&[summary(GARDEN, "Garden plan", false), summary(OTHER, "Garden planning", false)]))
            .await;
    let id = reference::memory(&stub.client(), " garden PLAN ").await.expect("found");
    assert_eq!(id, GARDEN);
}

#[tokio::test]
async fn two_memories_of_one_title_are_ambiguous_unless_one_was_put_away() {
    let stub = Stub::start(|_| page(&[summary(GARDEN, "Plan", false), summary(OTHER, "plan", false)])).await;
    let error = reference::memory(&stub.client(), "Plan").await.expect_err("two");
    assert!(matches!(&error, CliError::Ambiguous { candidates, .. } if candidates.len() == 2));
    let stub = Stub::start(|_| page(&[summary(GARDEN, "Plan", false), summary(OTHER, "plan", true)])).await;
    assert_eq!(reference::memory(&stub.client(), "Plan").await.expect("the present one"), GARDEN);
    let put_away = reference::memory_preferring(&stub.client(), "Plan", Prefer::PutAway).await;
    assert_eq!(put_away.expect("the other one"), OTHER);
}

#[tokio::test]
async fn the_start_of_an_id_is_looked_up_in_the_log() {
    let stub = Stub::start(|seen| match seen.path.as_str() {
        "/log" => (200, json!({ "stream": format!("memory-{GARDEN}") }).to_string()),
        _ => failure(404, "NOT_FOUND"),
    })
    .await;
    assert_eq!(reference::memory(&stub.client(), "0192a3f277").await.expect("found"), GARDEN);
    assert_eq!(stub.seen()[0].query, "stream=memory-0192a3f2-77&type=memory.created&limit=21");
    assert_eq!(reference::memory(&stub.client(), GARDEN).await.expect("itself"), GARDEN);
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_what_comes_close() {
    let stub = Stub::start(|seen| match seen.path.as_str() {
        "/search" => ok(&json!({ "hits": [{ "memory": GARDEN, "title": "Garden plan", "kind": "note", "truth": 1,
            "updated_at": "2026-11-21T11:00:00Z" }] })),
        _ => page(&[]),
    })
    .await;
    let error = reference::memory(&stub.client(), "gardn plan").await.expect_err("unknown");
    assert_eq!(error.exit_code(), ExitCode::NotFound);
    assert!(error.hint().expect("a hint").contains("Garden plan"));
}

#[tokio::test]
async fn a_feed_that_breaks_is_taken_up_after_the_last_event() {
    let event =
        |position: u64| format!("id: {position}\nevent: memory.created\ndata: {{\"position\":{position}}}\n\n");
    let stub = Stub::start(move |seen| match seen.header("last-event-id") {
        Some("4") => (200, format!("{}{}", event(5), event(6))),
        Some("6") => (200, format!(": keep-alive\n\n{}{}", event(9), event(10))),
        _ => failure(500, "INTERNAL_ERROR"),
    })
    .await;
    let args = ReplayArgs {
        from: None,
        to: None,
        stream: None,
        event_type: Some("memory.".into()),
        follow: true,
        limit: Some(3),
    };
    let mut screen = Screen::fixed(80, chrono::DateTime::UNIX_EPOCH);
    screen.quiet = true;
    let mut out = Vec::new();
    replay::follow(&stub.client(), &screen, &args, 5, &mut out).await.expect("followed");
    assert_eq!(String::from_utf8_lossy(&out), "{\"position\":5}\n{\"position\":6}\n{\"position\":9}\n");
    assert_eq!(stub.seen()[1].query, "type=memory.");
}

#[tokio::test]
async fn without_a_node_the_error_says_how_to_start_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let global = Global { data: Some(folder.path().to_owned()), ..Global::default() };
    let error = super::run(&global, ClientCommand::Status).await.expect_err("no node");
    assert_eq!(error.exit_code(), ExitCode::NoNode);
    assert!(error.hint().expect("a hint").contains("cairn up"));
}
