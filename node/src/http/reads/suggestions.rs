//! What waits for the user's decision: suggestions, and conflicts.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::truth::Truth;
use cairn_read_model::memories::{ConflictRow, Found, SuggestionFilter, SuggestionRow};
use cairn_read_model::{Cursor, QueryError};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::memory::{current_values, one};
use super::{MinPosition, page, parsed, query, wait};
use crate::brain::projection::MEMORIES;
use crate::http::App;
use crate::http::envelope::{Page, Reply};
use crate::http::error::{ApiError, Failure};
use crate::http::extract::{Caller, Id, Query};

/// A suggestion as the API shows it.
#[derive(Debug, Clone, Serialize)]
pub struct SuggestionJson {
    id: EventId,
    memory: MemoryId,
    memory_title: String,
    field: String,
    value: Json,
    current: Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
    truth: Truth,
    origin: String,
    principal: PrincipalId,
    at: DateTime<Utc>,
}

pub(super) fn suggestion(row: SuggestionRow, memory_title: String, current: Json) -> SuggestionJson {
    SuggestionJson {
        id: row.provenance.event,
        memory: row.memory,
        memory_title,
        field: row.field.to_string(),
        value: row.value.as_ref().map_or(Json::Null, Json::from),
        current,
        diff: row.diff,
        truth: row.provenance.truth,
        origin: row.provenance.origin.to_string(),
        principal: row.provenance.principal,
        at: row.provenance.at,
    }
}

/// Which suggestions to list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SuggestionParams {
    /// Only those about this memory.
    pub memory: Option<String>,
    /// Only those about this field; `body` for the text.
    pub field: Option<String>,
    /// Only those made by this principal.
    pub principal: Option<String>,
    /// Only those of this level.
    pub truth: Option<String>,
    /// How many, at most 200.
    pub limit: Option<usize>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Wait until the read model has this log position.
    pub min_position: Option<u64>,
}

/// Lists what waits for the user's decision, the newest first.
#[utoipa::path(get, path = "/suggestions", tag = "suggestions", params(SuggestionParams),
    responses((status = 200, description = "A page of suggestions", body = Object)))]
pub(super) async fn suggestions(
    State(app): State<App>,
    _: Caller,
    Query(params): Query<SuggestionParams>,
) -> Result<Reply<Page<SuggestionJson>>, ApiError> {
    wait(&app, MEMORIES, params.min_position).await?;
    let filter = SuggestionFilter {
        memory: parsed("memory", params.memory.as_deref())?,
        field: params.field,
        principal: parsed("principal", params.principal.as_deref())?,
        truth: parsed("truth", params.truth.as_deref())?,
        ..SuggestionFilter::default()
    };
    let cursor = params.cursor.map(Cursor::given);
    let reader = app.memories.clone();
    let (found, views) = query(move || {
        let found = reader.suggestions(&filter, params.limit, cursor.as_ref())?;
        let views = views_of(&reader, found.items.iter().map(|row| row.memory))?;
        Ok((found, views))
    })
    .await?;
    let page = page(found, |row| with_current(row, &views));
    Ok(Reply::ok(page).at(app.position(MEMORIES)))
}

/// Shows one suggestion beside what stands now.
#[utoipa::path(get, path = "/suggestions/{id}", tag = "suggestions", params(("id" = Uuid, Path, description = "The suggestion, by its event"), MinPosition),
    responses((status = 200, description = "The suggestion", body = Object), (status = 404, description = "It does not wait", body = Failure)))]
pub(super) async fn one_suggestion(
    State(app): State<App>,
    _: Caller,
    Id(id): Id<EventId>,
    Query(params): Query<MinPosition>,
) -> Result<Reply<SuggestionJson>, ApiError> {
    wait(&app, MEMORIES, params.min_position).await?;
    let missing =
        || ApiError::new(StatusCode::NOT_FOUND, "NO_SUCH_SUGGESTION", format!("no suggestion {id} waits"));
    let event = app.handler.store().event(id.uuid()).await?.ok_or_else(missing)?;
    let memory = cairn_domain::id::memory_of_stream(&event.stream).ok_or_else(missing)?;
    let (found, _) = one(&app, memory, None).await?;
    let suggestions = found.suggestions.unwrap_or_default();
    suggestions.into_iter().find(|suggestion| suggestion.id == id).map(Reply::ok).ok_or_else(missing)
}

type Views = BTreeMap<MemoryId, (String, BTreeMap<String, Json>)>;

/// The titles and current values of some memories, each looked up once.
fn views_of(
    reader: &cairn_read_model::Memories,
    memories: impl Iterator<Item = MemoryId>,
) -> Result<Views, QueryError> {
    let mut views = Views::new();
    for memory in memories {
        if views.contains_key(&memory) {
            continue;
        }
        if let Found::Memory(view) = reader.get(memory)? {
            views.insert(memory, (view.summary.title.clone(), current_values(&view)));
        }
    }
    Ok(views)
}

fn with_current(row: SuggestionRow, views: &Views) -> SuggestionJson {
    let view = views.get(&row.memory);
    let title = view.map(|(title, _)| title.clone()).unwrap_or_default();
    let current = view.and_then(|(_, values)| values.get(row.field.as_str()).cloned()).unwrap_or(Json::Null);
    suggestion(row, title, current)
}

/// Which conflicts to list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ConflictParams {
    /// Only those of this memory.
    pub memory: Option<String>,
    /// How many, at most 200.
    pub limit: Option<usize>,
    /// Wait until the read model has this log position.
    pub min_position: Option<u64>,
}

/// A conflict as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct ConflictJson {
    memory: MemoryId,
    memory_title: String,
    field: String,
    sides: Vec<SideJson>,
}

/// One side of a conflict; accepting its event resolves it.
#[derive(Debug, Serialize)]
pub(super) struct SideJson {
    event: EventId,
    value: Json,
    truth: Truth,
    origin: String,
    principal: PrincipalId,
    at: DateTime<Utc>,
}

/// Lists fields whose highest statements disagree. Accepting one side's event resolves the conflict.
#[utoipa::path(get, path = "/conflicts", tag = "suggestions", params(ConflictParams),
    responses((status = 200, description = "Conflicts", body = Object)))]
pub(super) async fn conflicts(
    State(app): State<App>,
    _: Caller,
    Query(params): Query<ConflictParams>,
) -> Result<Reply<Page<ConflictJson>>, ApiError> {
    wait(&app, MEMORIES, params.min_position).await?;
    let memory = parsed("memory", params.memory.as_deref())?;
    let reader = app.memories.clone();
    let (found, views) = query(move || {
        let found = reader.conflicts(memory, params.limit.unwrap_or(cairn_read_model::MAX_LIMIT))?;
        let views = views_of(&reader, found.iter().map(|row| row.memory))?;
        Ok((found, views))
    })
    .await?;
    let items = found.into_iter().map(|row: ConflictRow| ConflictJson {
        memory_title: views.get(&row.memory).map(|(title, _)| title.clone()).unwrap_or_default(),
        memory: row.memory,
        field: row.field.to_string(),
        sides: row
            .sides
            .into_iter()
            .map(|side| SideJson {
                event: side.provenance.event,
                value: Json::from(&side.value),
                truth: side.provenance.truth,
                origin: side.provenance.origin.to_string(),
                principal: side.provenance.principal,
                at: side.provenance.at,
            })
            .collect(),
    });
    Ok(Reply::ok(Page { items: items.collect(), next_cursor: None }).at(app.position(MEMORIES)))
}
