//! Projections: how they stand, and what is asked of them.
//!
//! What is asked is done by the process that runs the projection, whichever process is asked.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use cairn_projector::{Order, ProjectionStatus, ProjectorError, Rebuild, WaitError, Workers};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::admin::verifying;
use super::envelope::{Page, Reply};
use super::error::ApiError;
use super::extract::{Body, Caller};

/// Lists the projections: position, lag, speed, and rebuilds that run.
#[utoipa::path(get, path = "/projections", tag = "admin", responses((status = 200, description = "The projections", body = Object)))]
async fn projections(State(app): State<App>, _: Caller) -> Reply<Page<ProjectionStatus>> {
    Reply::ok(Page { items: app.projector.status().await, next_cursor: None })
}

/// How to rebuild.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct RebuildInput {
    /// Start over instead of going on with an unfinished generation.
    #[serde(default)]
    from_scratch: bool,
    /// Fold the log once more before the new generation serves, and let it serve only if the two are equal.
    #[serde(default)]
    verify: bool,
    /// How many workers fold, each the streams of its own partition.
    #[serde(default)]
    #[schema(value_type = usize, minimum = 1, maximum = 16, default = 1)]
    parallel: Workers,
}

impl From<RebuildInput> for Rebuild {
    fn from(input: RebuildInput) -> Self {
        let RebuildInput { from_scratch, verify, parallel } = input;
        Self { from_scratch, verify, workers: parallel }
    }
}

impl From<ProjectorError> for ApiError {
    fn from(error: ProjectorError) -> Self {
        let (status, code) = match &error {
            ProjectorError::Unknown { .. } => (StatusCode::NOT_FOUND, "NO_SUCH_PROJECTION"),
            ProjectorError::AlreadyRebuilding { .. } => (StatusCode::CONFLICT, "REBUILD_RUNNING"),
            ProjectorError::NotRebuilding { .. } => (StatusCode::CONFLICT, "NO_REBUILD_RUNNING"),
            ProjectorError::Paused { .. } => (StatusCode::CONFLICT, "PROJECTION_PAUSED"),
            ProjectorError::NoPrevious { .. } => (StatusCode::CONFLICT, "NO_PREVIOUS_GENERATION"),
            ProjectorError::UselessPrevious { .. } => (StatusCode::CONFLICT, "PREVIOUS_GENERATION_USELESS"),
            ProjectorError::Elsewhere { .. } => (StatusCode::CONFLICT, "PROJECTED_ELSEWHERE"),
            ProjectorError::Refused { .. } => (StatusCode::CONFLICT, "PROJECTION_ORDER_FAILED"),
            ProjectorError::NotServing { .. } | ProjectorError::ShuttingDown => {
                (StatusCode::SERVICE_UNAVAILABLE, "PROJECTION_UNAVAILABLE")
            }
            ProjectorError::Open { source, .. } if source.is_transient() => {
                (StatusCode::SERVICE_UNAVAILABLE, "PROJECTION_UNAVAILABLE")
            }
            ProjectorError::Ended { .. }
            | ProjectorError::Folder { .. }
            | ProjectorError::Open { .. }
            | ProjectorError::Fold { .. } => return Self::internal(&error),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<WaitError> for ApiError {
    fn from(error: WaitError) -> Self {
        let (code, advice) = match &error {
            WaitError::Paused { .. } => ("READ_MODEL_PAUSED", ""),
            WaitError::Unknown { .. } | WaitError::Timeout { .. } | WaitError::Failed { .. } => {
                ("READ_MODEL_BEHIND", "; ask again")
            }
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, format!("{error}{advice}"))
    }
}

/// Builds a new generation of a projection beside the serving one and swaps it in.
#[utoipa::path(post, path = "/projections/{name}/rebuild", tag = "admin", request_body = RebuildInput,
    params(("name" = String, Path, description = "The projection")),
    responses((status = 202, description = "Started; /projections shows how it goes", body = Object),
    (status = 409, description = "It is being rebuilt already, or paused", body = super::error::Failure)))]
async fn rebuild(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Body(input): Body<RebuildInput>,
) -> Result<Reply<Json>, ApiError> {
    caller.owner("rebuild projections")?;
    app.projector.order(&name, Order::Rebuild(input.into())).await?;
    Ok(Reply::ok(json!({ "projection": name })).status(StatusCode::ACCEPTED))
}

/// Cancels a rebuild, or a way back. What it has built is kept; a later one goes on from there.
#[utoipa::path(delete, path = "/projections/{name}/rebuild", tag = "admin",
    params(("name" = String, Path, description = "The projection")),
    responses((status = 200, description = "Cancelled", body = Object),
    (status = 409, description = "It is not being rebuilt", body = super::error::Failure)))]
async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Reply<Json>, ApiError> {
    caller.owner("cancel rebuilds")?;
    app.projector.order(&name, Order::Cancel).await?;
    Ok(Reply::ok(json!({ "projection": name })))
}

/// Lets the generation that served before the present one serve again, once it has what came in since.
#[utoipa::path(post, path = "/projections/{name}/back", tag = "admin",
    params(("name" = String, Path, description = "The projection")),
    responses((status = 202, description = "Started; /projections shows how it goes", body = Object),
    (status = 409, description = "None is kept, it is being rebuilt, or paused", body = super::error::Failure)))]
async fn back(State(app): State<App>, caller: Caller, Path(name): Path<String>) -> Result<Reply<Json>, ApiError> {
    caller.owner("go back to an earlier generation")?;
    app.projector.order(&name, Order::Back).await?;
    Ok(Reply::ok(json!({ "projection": name })).status(StatusCode::ACCEPTED))
}

/// Deletes the generation that served before the present one.
#[utoipa::path(delete, path = "/projections/{name}/previous", tag = "admin",
    params(("name" = String, Path, description = "The projection")),
    responses((status = 200, description = "Deleted", body = Object),
    (status = 409, description = "None is kept, or it is on its way back", body = super::error::Failure)))]
async fn drop_previous(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Reply<Json>, ApiError> {
    caller.owner("delete generations")?;
    app.projector.order(&name, Order::DropPrevious).await?;
    Ok(Reply::ok(json!({ "projection": name })))
}

/// Pauses a projection: nothing is folded for it until it is resumed, also after a restart. It answers from what it has.
#[utoipa::path(post, path = "/projections/{name}/pause", tag = "admin",
    params(("name" = String, Path, description = "The projection")),
    responses((status = 200, description = "Paused", body = Object)))]
async fn pause(State(app): State<App>, caller: Caller, Path(name): Path<String>) -> Result<Reply<Json>, ApiError> {
    caller.owner("pause projections")?;
    app.projector.pause(&name).await?;
    Ok(Reply::ok(json!({ "projection": name, "position": app.position(&name) })))
}

/// Lets a paused projection go on from where it stands.
#[utoipa::path(post, path = "/projections/{name}/resume", tag = "admin",
    params(("name" = String, Path, description = "The projection")),
    responses((status = 200, description = "It goes on", body = Object)))]
async fn resume(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Reply<Json>, ApiError> {
    caller.owner("resume projections")?;
    app.projector.resume(&name).await?;
    Ok(Reply::ok(json!({ "projection": name, "position": app.position(&name) })))
}

/// Compares a projection with a fresh fold of the log.
#[utoipa::path(post, path = "/projections/{name}/verify", tag = "admin",
    params(("name" = String, Path, description = "The projection")),
    responses((status = 200, description = "Whether the digests agree", body = Object),
    (status = 409, description = "A verification is under way", body = super::error::Failure)))]
async fn verify_projection(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Reply<Json>, ApiError> {
    caller.owner("verify projections")?;
    let _turn = verifying(&app)?;
    let verified = app.projector.verify(&name).await?;
    Ok(Reply::ok(json!({
        "projection": verified.projection,
        "ok": verified.matches,
        "position": verified.position,
        "serving": verified.serving,
        "fresh": verified.fresh,
    })))
}

/// The routes of projections.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(projections))
        .routes(routes!(rebuild, cancel))
        .routes(routes!(back))
        .routes(routes!(drop_previous))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(verify_projection))
}
