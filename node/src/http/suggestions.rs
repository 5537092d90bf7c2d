//! Deciding on suggestions, and on conflicts by choosing a side.

use axum::extract::State;
use cairn_domain::id::{EventId, MemoryId, memory_of_stream};
use cairn_domain::memory::command::Command;
use cairn_domain::value::Value;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::envelope::Reply;
use super::error::ApiError;
use super::extract::{Body, Caller, Id, Provenance, WriteHeaders};
use super::memories::{Written, execute};

/// How to accept a suggestion.
#[derive(Debug, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptInput {
    /// What to accept instead of what was suggested: a value, or the text the body should have.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub value: Option<Json>,
}

/// The memory that an event is about.
async fn memory_of(app: &App, event: EventId) -> Result<MemoryId, ApiError> {
    let recorded = app.handler.store().event(event.uuid()).await?;
    recorded
        .and_then(|event| memory_of_stream(&event.stream))
        .ok_or_else(|| ApiError::not_found("suggestion", event))
}

/// Accepts a suggestion: it becomes the user's own word.
#[utoipa::path(post, path = "/suggestions/{id}/accept", tag = "suggestions", request_body = AcceptInput,
    params(("id" = Uuid, Path, description = "The suggestion, by its event; or one side of a conflict")),
    responses((status = 200, description = "Accepted", body = super::envelope::Success<Written>),
    (status = 403, description = "Only the user decides", body = super::error::Failure),
    (status = 404, description = "No such suggestion waits", body = super::error::Failure)))]
async fn accept(
    State(app): State<App>,
    caller: Caller,
    headers: WriteHeaders,
    Id(suggestion): Id<EventId>,
    Body(input): Body<AcceptInput>,
) -> Result<Reply<Written>, ApiError> {
    let memory = memory_of(&app, suggestion).await?;
    let edited = input
        .value
        .map(|json| match json {
            // A body may be longer than a field's value.
            Json::String(text) => Ok(Value::Text(text)),
            other => Value::try_from(other),
        })
        .transpose()
        .map_err(|error| ApiError::validation("value", error.to_string()))?;
    let command = Command::AcceptSuggestion { suggestion, edited };
    let done = execute(&app, &caller, &headers, memory, command, Provenance::default()).await?;
    Ok(Written::reply(done, false))
}

/// Rejects a suggestion: the same is not suggested again.
#[utoipa::path(post, path = "/suggestions/{id}/reject", tag = "suggestions",
    params(("id" = Uuid, Path, description = "The suggestion, by its event")),
    responses((status = 200, description = "Rejected", body = super::envelope::Success<Written>),
    (status = 403, description = "Only the user decides", body = super::error::Failure),
    (status = 404, description = "No such suggestion waits", body = super::error::Failure)))]
async fn reject(
    State(app): State<App>,
    caller: Caller,
    headers: WriteHeaders,
    Id(suggestion): Id<EventId>,
) -> Result<Reply<Written>, ApiError> {
    let memory = memory_of(&app, suggestion).await?;
    let command = Command::RejectSuggestion { suggestion };
    let done = execute(&app, &caller, &headers, memory, command, Provenance::default()).await?;
    Ok(Written::reply(done, false))
}

/// The routes that decide on suggestions.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(accept)).routes(routes!(reject))
}
