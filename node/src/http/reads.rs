//! Reading: memories, lists, links, suggestions, conflicts, history, tags.

mod history;
mod lists;
mod memory;
mod suggestions;
mod tags;

use std::time::Duration;

use axum::http::StatusCode;
use cairn_event_store::Position;
use cairn_read_model::{Paged, QueryError};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::envelope::Page;
use super::error::ApiError;

pub use history::titles;
pub use lists::{ListParams, list_of};
pub use memory::{MemoryJson, one};

/// How long a read waits for the position it asks for.
pub const POSITION_PATIENCE: Duration = Duration::from_secs(5);

/// Splits a list of words at commas.
pub fn split(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn parsed<T: std::str::FromStr>(name: &str, text: Option<&str>) -> Result<Option<T>, ApiError>
where
    T::Err: std::fmt::Display,
{
    text.map(str::parse).transpose().map_err(|error: T::Err| ApiError::validation(name, error.to_string()))
}

/// Waits until a projection has a position.
pub async fn wait(app: &App, projection: &str, position: Option<u64>) -> Result<(), ApiError> {
    let Some(position) = position else { return Ok(()) };
    let head = app.handler.store().head().borrow().0;
    if position > head {
        return Err(ApiError::validation("min_position", format!("the log ends at {head}")));
    }
    Ok(app.projector.wait_for(projection, Position(position), POSITION_PATIENCE).await?)
}

/// Runs a query where blocking is allowed.
pub async fn query<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, QueryError> + Send + 'static,
) -> Result<T, ApiError> {
    let span = cairn_telemetry::spans::query("read model");
    match tokio::task::spawn_blocking(move || span.in_scope(run)).await {
        Ok(answer) => Ok(answer?),
        Err(error) => Err(ApiError::internal(&error)),
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match &error {
            QueryError::NotReady { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "READ_MODEL_NOT_READY", error.to_string())
            }
            QueryError::Unavailable { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "READ_MODEL_UNAVAILABLE", error.to_string())
            }
            QueryError::TooSlow { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "QUERY_TOO_SLOW", error.to_string())
            }
            QueryError::InvalidCursor => Self::validation("cursor", error.to_string()),
            QueryError::InvalidFilter(reason) => Self::validation("query", reason.clone()),
            QueryError::Corrupt { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "READ_MODEL_DAMAGED", error.to_string())
            }
            QueryError::Sqlite { .. } | QueryError::Postgres { .. } => Self::internal(&error),
        }
    }
}

/// A page of a read model as the API shows it, and how far the read model had got.
fn page<T, U>(page: Paged<T>, view: impl FnMut(T) -> U) -> Page<U> {
    Page {
        items: page.items.into_iter().map(view).collect(),
        next_cursor: page.next.map(|cursor| cursor.as_str().to_owned()),
    }
}

/// The position a read must be current to.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct MinPosition {
    /// Wait until the read model has this log position.
    pub min_position: Option<u64>,
}

/// The routes that read.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(lists::list))
        .routes(routes!(memory::show))
        .routes(routes!(memory::relationships))
        .routes(routes!(history::history))
        .routes(routes!(suggestions::suggestions))
        .routes(routes!(suggestions::one_suggestion))
        .routes(routes!(suggestions::conflicts))
        .routes(routes!(history::timeline))
        .routes(routes!(tags::tags))
        .routes(routes!(tags::stats))
}
