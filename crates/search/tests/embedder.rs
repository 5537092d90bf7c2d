//! One conformance suite for both embedders, and how the one behind HTTP fails.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use cairn_search::embedder::{
    EmbedError, Embedder, HttpEmbedder, HttpEmbedderConfig, REQUEST_ATTEMPTS, REQUEST_TEXTS, StaticEmbedder,
};
use serde_json::{Value, json};

const KEY: &str = "sk-very-secret";

/// How the server behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Well,
    /// Answers 429 and 503 before it answers well.
    TwiceBusy,
    AlwaysBusy,
    Forbidden,
    NotJson,
    TooFew,
    NotFinite,
}

struct Server {
    mood: Mood,
    requests: AtomicUsize,
    largest: AtomicUsize,
    model: StaticEmbedder,
}

async fn embeddings(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    Json(request): Json<Value>,
) -> Response {
    let number = server.requests.fetch_add(1, Ordering::SeqCst);
    let texts: Vec<String> = serde_json::from_value(request["input"].clone()).unwrap();
    server.largest.fetch_max(texts.len(), Ordering::SeqCst);
    assert_eq!(request["model"], "tiny");
    assert_eq!(headers["authorization"], format!("Bearer {KEY}"));
    let mut vectors = server.model.embed(&texts).await.unwrap();
    match server.mood {
        Mood::Well => {}
        Mood::TwiceBusy if number == 0 => {
            return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")]).into_response();
        }
        Mood::TwiceBusy if number == 1 => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Mood::TwiceBusy => {}
        Mood::AlwaysBusy => return (StatusCode::BAD_GATEWAY, [("retry-after", "0")]).into_response(),
        Mood::Forbidden => return StatusCode::UNAUTHORIZED.into_response(),
        Mood::NotJson => return "<html>welcome</html>".into_response(),
        Mood::TooFew => drop(vectors.pop()),
        Mood::NotFinite => vectors[0][0] = f32::MAX,
    }
    // In reverse, because the order of the answer says nothing; the index does.
    let data: Vec<Value> = vectors
        .into_iter()
        .enumerate()
        .map(|(index, embedding)| json!({ "object": "embedding", "index": index, "embedding": embedding }))
        .rev()
        .collect();
    let mut answer = json!({ "object": "list", "data": data, "model": "tiny" }).to_string();
    if server.mood == Mood::NotFinite {
        answer = answer.replace("e38", "e39").replace("e+38", "e+39");
    }
    ([("content-type", "application/json")], answer).into_response()
}

async fn serve(mood: Mood) -> (Arc<Server>, HttpEmbedderConfig) {
    let server = Arc::new(Server {
        mood,
        requests: AtomicUsize::new(0),
        largest: AtomicUsize::new(0),
        model: StaticEmbedder::new(),
    });
    let router = Router::new().route("/v1/embeddings", post(embeddings)).with_state(Arc::clone(&server));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = HttpEmbedderConfig {
        url: format!("http://user:{KEY}@{address}/v1/embeddings?key={KEY}"),
        model: "tiny".to_owned(),
        api_key: Some(KEY.to_owned()),
        dimensions: Some(256),
    };
    (server, config)
}

fn cosine(one: &[f32], other: &[f32]) -> f32 {
    let dot: f32 = one.iter().zip(other).map(|(one, other)| one * other).sum();
    let length = |vector: &[f32]| vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    dot / (length(one) * length(other))
}

async fn conforms(embedder: &dyn Embedder) {
    assert!(!embedder.model().is_empty());
    assert!(embedder.embed(&[]).await.unwrap().is_empty());
    let texts: Vec<String> = (0..REQUEST_TEXTS * 2 + 3).map(|number| format!("text number {number}")).collect();
    let vectors = embedder.embed(&texts).await.unwrap();
    assert_eq!(vectors.len(), texts.len());
    for (text, vector) in texts.iter().zip(&vectors).step_by(17) {
        assert_eq!(vector.len(), embedder.dimensions());
        assert!(vector.iter().all(|number| number.is_finite()));
        let alone = embedder.embed(std::slice::from_ref(text)).await.unwrap().remove(0);
        assert!(cosine(vector, &alone) > 0.9999, "a batch changes {text}");
    }
    let like = ["a dog in the garden", "puppies play outside", "quarterly tax report"].map(str::to_owned);
    let vectors = embedder.embed(&like).await.unwrap();
    assert!(cosine(&vectors[0], &vectors[1]) > cosine(&vectors[0], &vectors[2]));
    for odd in ["", " ", "\u{0}", "😀", &"long ".repeat(20_000)] {
        assert_eq!(embedder.embed(&[odd.to_owned()]).await.unwrap()[0].len(), embedder.dimensions());
    }
}

#[tokio::test]
async fn the_static_embedder_conforms() {
    let embedder = StaticEmbedder::new();
    assert_eq!(embedder.dimensions(), 256);
    conforms(&embedder).await;
}

#[tokio::test]
async fn the_http_embedder_conforms_and_bounds_its_requests() {
    let (server, config) = serve(Mood::Well).await;
    conforms(&HttpEmbedder::connect(config).await.unwrap()).await;
    assert_eq!(server.largest.load(Ordering::SeqCst), REQUEST_TEXTS);
}

#[tokio::test]
async fn unknown_dimensions_are_asked_for() {
    let (_server, config) = serve(Mood::Well).await;
    let embedder = HttpEmbedder::connect(HttpEmbedderConfig { dimensions: None, ..config }).await.unwrap();
    assert_eq!(embedder.dimensions(), 256);
}

#[tokio::test]
async fn a_busy_endpoint_is_asked_again() {
    let (server, config) = serve(Mood::TwiceBusy).await;
    let embedder = HttpEmbedder::connect(config).await.unwrap();
    assert_eq!(embedder.embed(&["tea".to_owned()]).await.unwrap().len(), 1);
    assert_eq!(server.requests.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn failures_say_what_to_do_and_never_the_key() {
    let cases = [
        (Mood::AlwaysBusy, REQUEST_ATTEMPTS as usize, "wait"),
        (Mood::Forbidden, 1, "check the API key"),
        (Mood::NotJson, 1, "OpenAI-compatible"),
        (Mood::TooFew, 1, "fewer vectors"),
        (Mood::NotFinite, 1, "OpenAI-compatible"),
    ];
    for (mood, requests, advice) in cases {
        let (server, config) = serve(mood).await;
        let embedder = HttpEmbedder::connect(config.clone()).await.unwrap();
        let error = embedder.embed(&["tea".to_owned()]).await.unwrap_err();
        assert!(error.to_string().contains(advice), "{mood:?}: {error}");
        assert_eq!(server.requests.load(Ordering::SeqCst), requests, "{mood:?}");
        for shown in [format!("{error:?} {error}"), format!("{config:?}"), format!("{embedder:?}")] {
            assert!(!shown.contains(KEY), "{shown}");
        }
    }
}

#[tokio::test]
async fn nobody_listening_is_told_without_the_key() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (_server, config) = serve(Mood::Well).await;
    let url = format!("http://user:{KEY}@{address}/v1/embeddings?key={KEY}");
    let embedder = HttpEmbedder::connect(HttpEmbedderConfig { url, ..config }).await.unwrap();
    let before = Instant::now();
    let error = embedder.embed(&["tea".to_owned()]).await.unwrap_err();
    assert!(matches!(error, EmbedError::Unreachable { attempts: REQUEST_ATTEMPTS, .. }));
    assert!(before.elapsed() < Duration::from_secs(10));
    assert!(!format!("{error:?} {error}").contains(KEY));
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_once() {
    let (_server, config) = serve(Mood::Well).await;
    for url in ["", "embeddings", "ftp://host/embeddings", "file:///etc/passwd"] {
        let config = HttpEmbedderConfig { url: url.to_owned(), ..config.clone() };
        assert!(matches!(HttpEmbedder::connect(config).await, Err(EmbedError::Config(_))), "{url}");
    }
    let config = HttpEmbedderConfig { api_key: Some("a\nb".to_owned()), ..config };
    assert!(matches!(HttpEmbedder::connect(config).await, Err(EmbedError::Config(_))));
}

#[tokio::test]
async fn vectors_of_another_size_say_which() {
    let (_server, config) = serve(Mood::Well).await;
    let config = HttpEmbedderConfig { dimensions: Some(384), ..config };
    let embedder = HttpEmbedder::connect(config).await.unwrap();
    let error = embedder.embed(&["tea".to_owned()]).await.unwrap_err();
    assert!(matches!(error, EmbedError::Dimensions { expected: 384, found: 256, .. }), "{error}");
}
