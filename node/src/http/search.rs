//! Hybrid search.

use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use cairn_domain::id::{EventId, MemoryId};
use cairn_domain::kind::Kind;
use cairn_domain::truth::Truth;
use cairn_search::index::SearchError;
use cairn_search::query::{Filter, Hit, MAX_LIMIT, Period, Query as SearchQuery};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::envelope::Reply;
use super::error::ApiError;
use super::extract::{Caller, Query};
use super::reads::{split, wait};
use crate::brain::projection::SEARCH;

/// How many hits a search answers with unless told otherwise.
const DEFAULT_LIMIT: usize = 10;

/// What to look for.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SearchParams {
    /// Words, at most 1,000 characters.
    pub q: String,
    /// Only these kinds; several with commas.
    pub kind: Option<String>,
    /// Only memories with all of these tags; several with commas.
    pub tag: Option<String>,
    /// Only text of this truth or a higher one: 1 to 5 or a level's name.
    pub truth: Option<String>,
    /// Only memories that link to all of these; several with commas.
    pub linked_to: Option<String>,
    /// Only memories changed at or after this time.
    pub updated_after: Option<DateTime<Utc>>,
    /// Only memories changed before this time.
    pub updated_before: Option<DateTime<Utc>>,
    /// Only memories created at or after this time.
    pub created_after: Option<DateTime<Utc>>,
    /// Only memories created before this time.
    pub created_before: Option<DateTime<Utc>>,
    /// Only memories about this time or later: due dates, event starts, days.
    pub about_after: Option<DateTime<Utc>>,
    /// Only memories about a time before this.
    pub about_before: Option<DateTime<Utc>>,
    /// Archived memories too.
    #[serde(default)]
    pub archived: bool,
    /// How many hits, at most 200.
    pub limit: Option<usize>,
    /// Wait until the index has this log position.
    pub min_position: Option<u64>,
}

/// What was found.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Found {
    /// What was looked for.
    pub query: String,
    /// The memories, best first.
    pub hits: Vec<HitView>,
    /// Why only words were compared and not meaning, when the embedder was not to be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// How long the search took, in milliseconds.
    pub took_ms: f64,
}

/// A memory that was found.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct HitView {
    /// The memory.
    #[schema(value_type = Uuid)]
    pub memory: MemoryId,
    /// Its title.
    pub title: String,
    /// Its kind.
    #[schema(value_type = String)]
    pub kind: Kind,
    /// The fused score; comparable only within one answer.
    pub score: f32,
    /// The truth level of the text that was found, 1 to 5.
    #[schema(value_type = u8)]
    pub truth: Truth,
    /// Where that text came from.
    pub origin: String,
    /// The event that gave it.
    #[schema(value_type = Uuid)]
    pub event: EventId,
    /// The headings it stands under, outermost first.
    pub headings: Vec<String>,
    /// The part that shows best why it was found.
    pub snippet: String,
    /// The words that match: start and end in bytes of the snippet.
    pub marks: Vec<[usize; 2]>,
    /// The memory's tags.
    pub tags: Vec<String>,
    /// When the memory changed last.
    pub updated_at: DateTime<Utc>,
    /// Why it was found.
    pub why: Why,
    /// How many other places of the memory were found.
    pub others: usize,
}

/// Why a memory was found: where it stands by meaning and by words.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Why {
    /// Rank and cosine among texts of similar meaning.
    pub dense: Option<Side>,
    /// Rank and score among texts with the same words.
    pub bm25: Option<Side>,
}

/// A place in one of the two rankings.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Side {
    /// 1 is the best.
    pub rank: usize,
    /// The ranking's own score.
    pub score: f32,
}

impl From<Hit> for HitView {
    fn from(hit: Hit) -> Self {
        let side = |place: cairn_search::fuse::Place| Side { rank: place.rank, score: place.score };
        Self {
            memory: hit.memory,
            title: hit.title,
            kind: hit.kind,
            score: hit.score,
            truth: hit.truth,
            origin: hit.origin.to_string(),
            event: hit.event,
            headings: hit.headings,
            snippet: hit.snippet.text,
            marks: hit.snippet.marks.into_iter().map(|mark| [mark.start, mark.end]).collect(),
            tags: hit.tags,
            updated_at: hit.updated_at,
            why: Why { dense: hit.dense.map(side), bm25: hit.bm25.map(side) },
            others: hit.others,
        }
    }
}

impl SearchParams {
    fn query(&self) -> Result<SearchQuery, ApiError> {
        let kinds = split(self.kind.as_deref()).map(|kind| kind.parse()).collect::<Result<_, _>>();
        let kinds = kinds
            .map_err(|error: cairn_domain::kind::InvalidKind| ApiError::validation("kind", error.to_string()))?;
        let linked_to = split(self.linked_to.as_deref()).map(|id| id.parse()).collect::<Result<_, _>>();
        let linked_to = linked_to
            .map_err(|error: cairn_domain::id::InvalidId| ApiError::validation("linked_to", error.to_string()))?;
        let truth_at_least = self.truth.as_deref().map(|text| text.parse()).transpose();
        let truth_at_least = truth_at_least.map_err(|error: cairn_domain::truth::InvalidTruth| {
            ApiError::validation("truth", error.to_string())
        })?;
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if limit == 0 || limit > MAX_LIMIT {
            return Err(ApiError::validation("limit", format!("takes 1 to {MAX_LIMIT}")));
        }
        Ok(SearchQuery {
            text: self.q.clone(),
            filter: Filter {
                kinds,
                tags: split(self.tag.as_deref()).map(|tag| tag.trim_start_matches('#').to_lowercase()).collect(),
                linked_to,
                truth_at_least,
                created: Period { from: self.created_after, until: self.created_before },
                updated: Period { from: self.updated_after, until: self.updated_before },
                when: Period { from: self.about_after, until: self.about_before },
                include_archived: self.archived,
            },
            limit,
        })
    }
}

impl From<SearchError> for ApiError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Query(reason) => Self::validation("q", reason.to_string()),
            other => Self::new(StatusCode::SERVICE_UNAVAILABLE, "SEARCH_UNAVAILABLE", other.to_string()),
        }
    }
}

/// Searches memories by meaning and by words.
#[utoipa::path(get, path = "/search", tag = "search", params(SearchParams),
    responses((status = 200, description = "What was found", body = super::envelope::Success<Found>)))]
async fn search(
    State(app): State<App>,
    _: Caller,
    Query(params): Query<SearchParams>,
) -> Result<Reply<Found>, ApiError> {
    let query = params.query()?;
    wait(&app, SEARCH, params.min_position).await?;
    let started = Instant::now();
    let index = app.search.current().ok_or_else(|| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "SEARCH_NOT_READY",
            "the search index is still being built; ask again",
        )
    })?;
    let answer = index.search(&query).await?;
    let found = Found {
        query: params.q,
        hits: answer.hits.into_iter().map(HitView::from).collect(),
        degraded: answer.degraded,
        took_ms: started.elapsed().as_secs_f64() * 1_000.0,
    };
    Ok(Reply::ok(found))
}

/// The routes of search.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(search))
}
