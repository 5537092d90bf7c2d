//! What happened, in the whole brain or to one memory.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use cairn_domain::id::MemoryId;
use cairn_read_model::timeline::{TimelineFilter, TimelineRow};
use cairn_read_model::{Cursor, QueryError};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{page, parsed, query, split, wait};
use crate::brain::projection::TIMELINE;
use crate::http::App;
use crate::http::envelope::{Page, Reply};
use crate::http::error::ApiError;
use crate::http::extract::{Caller, Id, Query};

/// Which part of the timeline.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TimelineParams {
    /// At or after this time.
    pub from: Option<DateTime<Utc>>,
    /// Before this time.
    pub to: Option<DateTime<Utc>>,
    /// Only what this principal wrote.
    pub principal: Option<String>,
    /// Only what was written at this level.
    pub truth: Option<String>,
    /// Only events of this type; several with commas.
    pub r#type: Option<String>,
    /// How many, at most 200.
    pub limit: Option<usize>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Wait until the read model has this log position.
    pub min_position: Option<u64>,
}

/// Shows what happened, the newest first.
#[utoipa::path(get, path = "/timeline", tag = "memories", params(TimelineParams),
    responses((status = 200, description = "A page of the timeline", body = Object)))]
pub(super) async fn timeline(
    State(app): State<App>,
    _: Caller,
    Query(params): Query<TimelineParams>,
) -> Result<Reply<Page<TimelineJson>>, ApiError> {
    timeline_of(&app, None, params).await
}

/// Shows what happened to a memory, the newest first.
#[utoipa::path(get, path = "/memories/{id}/history", tag = "memories", params(("id" = Uuid, Path, description = "The memory"), TimelineParams),
    responses((status = 200, description = "A page of the memory's history", body = Object)))]
pub(super) async fn history(
    State(app): State<App>,
    _: Caller,
    Id(memory): Id<MemoryId>,
    Query(params): Query<TimelineParams>,
) -> Result<Reply<Page<TimelineJson>>, ApiError> {
    let loaded = app.handler.load(memory).await?;
    if loaded.memory.created().is_none() {
        return Err(ApiError::not_found("memory", memory));
    }
    timeline_of(&app, Some(memory), params).await
}

/// A step of the timeline as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct TimelineJson {
    #[serde(flatten)]
    row: TimelineRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
}

async fn timeline_of(
    app: &App,
    memory: Option<MemoryId>,
    params: TimelineParams,
) -> Result<Reply<Page<TimelineJson>>, ApiError> {
    wait(app, TIMELINE, params.min_position).await?;
    let filter = TimelineFilter {
        memory,
        from: params.from,
        before: params.to,
        principal: parsed("principal", params.principal.as_deref())?,
        truth: parsed("truth", params.truth.as_deref())?,
        event_types: split(params.r#type.as_deref()).map(str::to_owned).collect(),
        ..TimelineFilter::default()
    };
    let cursor = params.cursor.map(Cursor::given);
    let (timeline, memories) = (app.timeline.clone(), app.memories.clone());
    let (found, titles) = query(move || {
        let found = timeline.list(&filter, params.limit, cursor.as_ref())?;
        let titles = if memory.is_some() {
            BTreeMap::new()
        } else {
            titles(&memories, found.items.iter().map(|row| row.memory))?
        };
        Ok((found, titles))
    })
    .await?;
    let page = page(found, |row: TimelineRow| TimelineJson { title: titles.get(&row.memory).cloned(), row });
    Ok(Reply::ok(page).at(app.position(TIMELINE)))
}

/// The titles of some memories.
pub fn titles(
    reader: &cairn_read_model::Memories,
    memories: impl Iterator<Item = MemoryId>,
) -> Result<BTreeMap<MemoryId, String>, QueryError> {
    let wanted: BTreeSet<MemoryId> = memories.collect();
    let wanted: Vec<MemoryId> = wanted.into_iter().collect();
    let summaries = reader.summaries(&wanted)?;
    Ok(summaries.into_iter().map(|summary| (summary.id, summary.title)).collect())
}
