//! Tags, and what the memories add up to.

use axum::extract::State;
use cairn_read_model::memories::{Stats, TagCount};
use serde::Deserialize;

use super::{query, wait};
use crate::brain::projection::MEMORIES;
use crate::http::App;
use crate::http::envelope::{Page, Reply};
use crate::http::error::ApiError;
use crate::http::extract::{Caller, Query};

/// Which tags to list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TagParams {
    /// Only tags that begin with this.
    #[serde(default)]
    pub prefix: String,
    /// Wait until the read model has this log position.
    pub min_position: Option<u64>,
}

/// Lists tags with how many memories have them, the most used first.
#[utoipa::path(get, path = "/tags", tag = "memories", params(TagParams),
    responses((status = 200, description = "Tags", body = Object)))]
pub(super) async fn tags(
    State(app): State<App>,
    _: Caller,
    Query(params): Query<TagParams>,
) -> Result<Reply<Page<TagCount>>, ApiError> {
    wait(&app, MEMORIES, params.min_position).await?;
    let reader = app.memories.clone();
    let prefix = params.prefix.trim_start_matches('#').to_lowercase();
    let items = query(move || reader.tags(&prefix)).await?;
    Ok(Reply::ok(Page { items, next_cursor: None }).at(app.position(MEMORIES)))
}

/// Counts memories by kind and by truth level.
#[utoipa::path(get, path = "/stats", tag = "memories",
    responses((status = 200, description = "Counts", body = Object)))]
pub(super) async fn stats(State(app): State<App>, _: Caller) -> Result<Reply<Stats>, ApiError> {
    let reader = app.memories.clone();
    let stats = query(move || reader.stats()).await?;
    Ok(Reply::ok(stats).at(app.position(MEMORIES)))
}
