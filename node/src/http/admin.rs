//! Health, metrics, projections, verification, export: what an admin looks at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cairn_command::CommandError;
use cairn_domain::id::PrincipalId;
use cairn_domain::truth::Truth;
use cairn_event_store::notary::{self, Checkpoint};
use cairn_event_store::verify::Damage;
use cairn_projector::{ProjectionStatus, State as Health};
use cairn_read_model::memories::{Direction, ListQuery, MemoryFilter, Sort, Stats};
use cairn_telemetry::brain;
use chrono::Utc;
use futures::stream;
use serde::Serialize;
use serde_json::{Value as Json, json};
use tokio::sync::{OwnedMutexGuard, mpsc};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::App;
use super::envelope::Reply;
use super::error::ApiError;
use super::extract::Caller;
use super::followers::{Standing, standing};
use crate::brain::projection::MEMORIES;
use crate::kafka::{KafkaStatus, Watched};

/// How far behind the log a read model may be while the node counts as ready, in events.
const READY_LAG: u64 = 10_000;

/// How long what was counted for the metrics is taken for what it is now.
const STATS_FOR: Duration = Duration::from_secs(15);

/// How many lines of a streamed answer may wait for a slow reader.
const STREAM_QUEUE: usize = 16;

/// How often verification reports how far it is.
const VERIFY_REPORT_EVERY: Duration = Duration::from_millis(200);

/// Says that the process runs.
#[utoipa::path(get, path = "/health/live", tag = "admin", security(()), responses((status = 200, description = "It runs", body = Object)))]
async fn live() -> Reply<Json> {
    Reply::ok(json!({ "status": "live" }))
}

/// A read model, as readiness sees it.
#[derive(Debug, Serialize)]
struct Readiness {
    projection: &'static str,
    state: Health,
    lag: u64,
}

/// Says whether the node can take commands and its read models are near the log's end, whichever process folds them.
#[utoipa::path(get, path = "/health/ready", tag = "admin", security(()),
    responses((status = 200, description = "It is ready", body = Object), (status = 503, description = "Not yet", body = super::error::Failure)))]
async fn ready(State(app): State<App>) -> Result<Reply<Json>, ApiError> {
    let status = app.projector.status().await;
    let is_late = |projection: &&ProjectionStatus| {
        // One that was paused is as far on every node, and its readers have been told.
        projection.state != Health::Paused
            && (projection.state == Health::Failed
                || projection.generation.is_none()
                || projection.lag > READY_LAG)
    };
    let late: Vec<&str> = status.iter().filter(is_late).map(|projection| projection.name).collect();
    let projections: Vec<Readiness> = status
        .iter()
        .map(|status| Readiness { projection: status.name, state: status.state, lag: status.lag })
        .collect();
    let head = app.handler.store().head().borrow().0;
    if late.is_empty() {
        return Ok(Reply::ok(json!({ "status": "ready", "projections": projections })).at(head));
    }
    let error = ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "NOT_READY",
        format!("still catching up: {}", late.join(", ")),
    );
    Err(error.with(json!({ "projections": projections })))
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "admin", security(()),
    responses((status = 200, description = "Metrics", content_type = "text/plain", body = String)))]
async fn metrics(State(app): State<App>) -> Response {
    if let Some(stats) = recent_stats(&app).await {
        brain::suggestions_waiting(stats.suggestions);
        for truth in Truth::ALL {
            brain::claims(truth.name(), stats.claims.get(&truth).copied().unwrap_or_default());
        }
    }
    for projection in app.projector.status().await {
        metrics::gauge!("cairn_projection_lag_events", "projection" => projection.name).set(projection.lag as f64);
        if let Some(seconds) = projection.lag_seconds {
            metrics::gauge!("cairn_projection_lag_seconds", "projection" => projection.name).set(seconds);
        }
        let paused = if projection.state == Health::Paused { 1.0 } else { 0.0 };
        metrics::gauge!("cairn_projection_paused", "projection" => projection.name).set(paused);
    }
    metrics::gauge!("cairn_log_position").set(app.handler.store().head().borrow().0 as f64);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render()).into_response()
}

/// What the memories add up to, not older than [`STATS_FOR`]: it is counted, which takes a while in a large brain. None
/// where it cannot be told now.
async fn recent_stats(app: &App) -> Option<Stats> {
    let mut kept = app.counted.lock().await;
    if let Some((at, stats)) = kept.as_ref()
        && at.elapsed() < STATS_FOR
    {
        return Some(stats.clone());
    }
    let reader = app.memories.clone();
    let stats = tokio::task::spawn_blocking(move || reader.stats()).await.ok()?.ok()?;
    *kept = Some((Instant::now(), stats.clone()));
    Some(stats)
}

/// How the node stands.
#[derive(Debug, Serialize)]
struct Status {
    brain: Uuid,
    version: &'static str,
    data: String,
    position: u64,
    memories: u64,
    suggestions: u64,
    conflicts: u64,
    by_kind: Json,
    by_truth: Json,
    uptime_seconds: u64,
    memory_bytes: Option<u64>,
    embedder: String,
    projections: Vec<ProjectionStatus>,
    /// How publishing to Kafka and reading from it fare; none where the configuration asks for neither.
    kafka: Option<KafkaStatus>,
    /// What the node is to its other machines; none where it has none.
    replication: Option<Standing>,
    /// The newest checkpoint the brain has signed.
    signed: Option<Checkpoint>,
    /// Why it signs no more, if so.
    signing_problem: Option<String>,
}

/// Shows how the node stands.
#[utoipa::path(get, path = "/status", tag = "admin", responses((status = 200, description = "How it stands", body = Object)))]
async fn status(State(app): State<App>, _: Caller) -> Result<Reply<Status>, ApiError> {
    let reader = app.memories.clone();
    let stats = tokio::task::spawn_blocking(move || reader.stats())
        .await
        .map_err(|error| ApiError::internal(&error))??;
    let json = |value: serde_json::Result<Json>| value.unwrap_or(Json::Null);
    let position = app.handler.store().head().borrow().0;
    let noted = app.notary.noted.borrow().clone();
    let status = Status {
        brain: app.brain,
        version: env!("CARGO_PKG_VERSION"),
        data: app.folder.path().display().to_string(),
        position,
        signed: noted.checkpoint,
        signing_problem: noted.problem.map(|problem| problem.to_string()),
        memories: stats.memories,
        suggestions: stats.suggestions,
        conflicts: stats.conflicts,
        by_kind: json(serde_json::to_value(&stats.by_kind)),
        by_truth: json(serde_json::to_value(&stats.by_truth)),
        uptime_seconds: app.started.elapsed().as_secs(),
        memory_bytes: cairn_telemetry::ProcessUsage::read().map(|usage| usage.resident_bytes),
        embedder: app.embedder.clone(),
        projections: app.projector.status().await,
        kafka: app.kafka.get().map(Watched::status),
        replication: standing(&app),
    };
    Ok(Reply::ok(status).at(position))
}

/// Checks the whole log: that it is undamaged, and that it is what the brain signed. Answers with a line for each step
/// and the verdict last.
#[utoipa::path(post, path = "/verify", tag = "admin",
    responses((status = 200, description = "JSON lines; the last one has `ok`", content_type = "application/x-ndjson", body = String),
    (status = 409, description = "A verification is under way", body = super::error::Failure)))]
async fn verify(State(app): State<App>, caller: Caller) -> Result<Response, ApiError> {
    caller.owner("verify the log")?;
    let turn = verifying(&app)?;
    let (lines, stream) = mpsc::channel::<Json>(STREAM_QUEUE);
    tokio::spawn(async move {
        let line = match verdict(&app, &lines).await {
            Ok(line) => line,
            Err(error) => json!({ "ok": false, "error": error }),
        };
        let _ = lines.send(line).await;
        drop(turn);
    });
    Ok(json_lines(stream))
}

/// One verification at a time: each reads the whole log, and more would leave no connection for other readers.
pub(super) fn verifying(app: &App) -> Result<OwnedMutexGuard<()>, ApiError> {
    Arc::clone(&app.verifying).try_lock_owned().map_err(|_| {
        let message = "a verification is under way; wait for its end";
        ApiError::new(StatusCode::CONFLICT, "ALREADY_VERIFYING", message)
    })
}

/// What both checks found: the store's own, then the notary's.
async fn verdict(app: &App, lines: &mpsc::Sender<Json>) -> Result<Json, String> {
    let reporter = |step: &'static str| {
        let (lines, mut last) = (lines.clone(), Instant::now());
        move |checked: u64, total: u64| {
            if last.elapsed() >= VERIFY_REPORT_EVERY {
                last = Instant::now();
                // A reader that is too slow for progress misses some of it and nothing else.
                let _ = lines.try_send(json!({ "step": step, "checked": checked, "events": total }));
            }
        }
    };
    let damaged = |events: u64, damage: Damage| {
        let first_bad = damage.position.map(|position| position.0);
        Ok(json!({ "ok": false, "events": events, "first_bad": first_bad, "error": damage.reason }))
    };
    let mut report = reporter("log");
    let log =
        app.log.store().verify(move |at| report(at.events, at.total)).await.map_err(|error| error.to_string())?;
    if let Some(damage) = log.damage {
        return damaged(log.events, damage);
    }
    let mut report = reporter("signatures");
    let (store, folder) = (app.log.store(), app.folder.notary());
    let signed = notary::verify(store, &folder, &app.notary.key, |checked| report(checked, log.events))
        .await
        .map_err(|error| error.to_string())?;
    match signed.damage {
        Some(damage) => damaged(signed.events, damage),
        None => Ok(json!({
            "ok": true,
            "events": log.events,
            "signed_events": signed.events,
            "signed_late": signed.late,
            "checkpoints": signed.checkpoints,
        })),
    }
}

fn json_lines(lines: mpsc::Receiver<Json>) -> Response {
    let body = stream::unfold(lines, |mut lines| async move {
        let line = lines.recv().await?;
        let mut bytes = line.to_string().into_bytes();
        bytes.push(b'\n');
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(bytes)), lines))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], HttpBody::from_stream(body)).into_response()
}

/// Exports every memory, one a line.
#[utoipa::path(get, path = "/export", tag = "imports",
    responses((status = 200, description = "Memories as JSON lines", content_type = "application/x-ndjson", body = String)))]
async fn export(State(app): State<App>, caller: Caller) -> Result<Response, ApiError> {
    caller.owner("export everything")?;
    let head = app.handler.store().head().borrow().0;
    super::reads::wait(&app, MEMORIES, Some(head)).await?;
    let (lines, stream) = mpsc::channel::<Json>(STREAM_QUEUE);
    tokio::spawn(async move {
        if let Err(error) = export_all(&app, caller.0.id, &lines).await {
            let _ = lines.send(json!({ "error": error.message })).await;
        }
    });
    Ok(json_lines(stream))
}

/// Sends every memory, page by page. Ends early when nobody reads any more, or who reads may no longer.
async fn export_all(app: &App, reader: PrincipalId, lines: &mpsc::Sender<Json>) -> Result<(), ApiError> {
    let mut list = ListQuery {
        filter: MemoryFilter { archived: None, ..MemoryFilter::default() },
        sort: Sort::Created,
        direction: Direction::Ascending,
        limit: Some(cairn_read_model::MAX_LIMIT),
        ..ListQuery::default()
    };
    loop {
        app.tokens.check(reader, Utc::now())?;
        let page = {
            let (reader, list) = (app.memories.clone(), list.clone());
            super::reads::query(move || reader.list(&list)).await?
        };
        let mut memories = Vec::with_capacity(page.items.len());
        for summary in &page.items {
            let loaded = app.handler.repository().load(summary.id).await.map_err(CommandError::from)?;
            memories.push(loaded.memory);
        }
        let targets: Vec<_> =
            memories.iter().flat_map(|memory| memory.links().map(|(_, target, _)| target)).collect();
        let reader = app.memories.clone();
        let titles = super::reads::query(move || super::reads::titles(&reader, targets.into_iter())).await?;
        for memory in memories.iter().filter(|memory| memory.is_present()) {
            let line = serde_json::to_value(crate::exporter::exported(memory, &titles));
            if lines.send(line.map_err(|error| ApiError::internal(&error))?).await.is_err() {
                return Ok(());
            }
        }
        match page.next {
            Some(cursor) => list.cursor = Some(cursor),
            None => return Ok(()),
        }
    }
}

/// The routes of a process that only looks after projections.
pub fn projector_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(live))
        .routes(routes!(ready))
        .routes(routes!(metrics))
        .merge(super::projections::routes())
}

/// The routes of admins.
pub fn routes() -> OpenApiRouter<App> {
    projector_routes().routes(routes!(status)).routes(routes!(verify)).routes(routes!(export))
}
