//! One memory with everything there is to know about it, as it is or as it was.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use cairn_domain::field::{FieldName, FieldRole};
use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::kind::Kind;
use cairn_domain::memory::Memory;
use cairn_domain::truth::Truth;
use cairn_read_model::memories::{Found, LinkRow, MemorySummary, MemoryView};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::suggestions::{SuggestionJson, suggestion};
use super::{MinPosition, query, wait};
use crate::brain::projection::MEMORIES;
use crate::http::App;
use crate::http::envelope::Reply;
use crate::http::error::{ApiError, Failure};
use crate::http::extract::{Caller, Id, Query};
use crate::http::past::{Moment, load_at};

/// A field with where its value came from.
#[derive(Debug, Clone, Serialize)]
pub struct FieldJson {
    name: String,
    value: Json,
    truth: Truth,
    origin: String,
    principal: PrincipalId,
    event: EventId,
    at: DateTime<Utc>,
    conflict: bool,
}

/// A link to or from a memory.
#[derive(Debug, Clone, Serialize)]
pub struct LinkJson {
    relation: String,
    /// The memory at the other end.
    memory: MemoryId,
    title: Option<String>,
    kind: Option<Kind>,
    truth: Truth,
    event: EventId,
}

/// What a reader sees first of a memory came from here.
#[derive(Debug, Clone, Serialize)]
pub struct SourceJson {
    event: EventId,
    truth: Truth,
    origin: String,
}

/// A memory as the API shows it.
#[derive(Debug, Clone, Serialize)]
pub struct MemoryJson {
    /// Its id.
    pub id: MemoryId,
    /// Its kind.
    pub kind: Kind,
    /// Its title.
    pub title: String,
    /// Its body; left out of lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The first words of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    excerpt: Option<String>,
    /// Whether it is put away.
    pub archived: bool,
    /// The highest truth of what a reader sees first.
    pub truth: Truth,
    /// Where that came from.
    source: SourceJson,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When something of it changed last.
    pub updated_at: DateTime<Utc>,
    /// The revision of its last event.
    pub revision: u64,
    /// The log position of its last event.
    position: u64,
    /// The values of its typed and free fields, with the defaults of its kind.
    values: Map<String, Json>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its fields with provenance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<FieldJson>,
    /// The memories it links to.
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Vec<LinkJson>>,
    /// The memories that link to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    backlinks: Option<Vec<LinkJson>>,
    /// What waits for the user's decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) suggestions: Option<Vec<SuggestionJson>>,
    /// How many suggestions wait.
    suggestions_waiting: u64,
    /// How many fields are in conflict.
    conflicts: u64,
    /// The file it was imported from.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

impl MemoryJson {
    /// The value of a field; `null` when it has none.
    pub fn value(&self, field: &str) -> Json {
        self.values.get(field).cloned().unwrap_or(Json::Null)
    }

    /// The fields that are not typed fields of a kind.
    pub fn free_fields(&self, kind: Kind) -> Map<String, Json> {
        let free = |name: &str| !kind.fields().iter().any(|field| field.name == name);
        self.values
            .iter()
            .filter(|(name, _)| free(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    pub(super) fn of_summary(summary: MemorySummary) -> Self {
        let values = summary.fields.iter().map(|(name, value)| (name.to_string(), Json::from(value))).collect();
        Self {
            id: summary.id,
            kind: summary.kind,
            title: summary.title,
            excerpt: Some(summary.excerpt).filter(|_| summary.body.is_none()),
            body: summary.body,
            archived: summary.archived,
            truth: summary.truth,
            source: SourceJson {
                event: summary.source_event,
                truth: summary.truth,
                origin: summary.origin.to_string(),
            },
            created_at: summary.created_at,
            updated_at: summary.updated_at,
            revision: summary.revision,
            position: summary.position,
            values,
            tags: summary.tags,
            fields: Vec::new(),
            links: None,
            backlinks: None,
            suggestions: None,
            suggestions_waiting: summary.suggestions,
            conflicts: summary.conflicts,
            file: None,
        }
    }

    fn of_view(view: MemoryView) -> Self {
        let title = view.summary.title.clone();
        let current = current_values(&view);
        let disputed: Vec<FieldName> = view.disputed.iter().map(|row| row.field.clone()).collect();
        let fields = view.provenance.into_iter().map(|row| FieldJson {
            name: row.field.to_string(),
            value: row.value.as_ref().map_or(Json::Null, Json::from),
            truth: row.provenance.truth,
            origin: row.provenance.origin.to_string(),
            principal: row.provenance.principal,
            event: row.provenance.event,
            at: row.provenance.at,
            conflict: disputed.contains(&row.field),
        });
        let suggestions = view.waiting.into_iter().map(|row| {
            let now = current.get(row.field.as_str()).cloned().unwrap_or(Json::Null);
            suggestion(row, title.clone(), now)
        });
        Self {
            fields: fields.collect(),
            links: Some(view.links.into_iter().map(link).collect()),
            backlinks: Some(view.backlinks.into_iter().map(link).collect()),
            suggestions: Some(suggestions.collect()),
            file: view.file.map(|file| file.path),
            ..Self::of_summary(view.summary)
        }
    }

    /// A memory of the past, told from its events alone.
    fn of_past(loaded: &cairn_command::Loaded) -> Self {
        let memory = &loaded.memory;
        let time = |millis: u64| {
            DateTime::from_timestamp_millis(i64::try_from(millis).unwrap_or(i64::MAX)).unwrap_or_default()
        };
        let (event, author) = memory.source().expect("a memory that exists has a kind, and so a source");
        let created = memory.created().expect("the caller saw that it exists");
        let attributes = attributes(memory);
        Self {
            id: memory.id(),
            kind: memory.kind(),
            title: memory.title().to_owned(),
            body: Some(memory.body().text().to_owned()),
            excerpt: None,
            archived: memory.is_archived(),
            truth: author.truth,
            source: SourceJson { event, truth: author.truth, origin: author.origin.to_string() },
            created_at: time(created.hlc.millis),
            updated_at: time(memory.updated().millis),
            revision: loaded.revision.map_or(0, |revision| revision.0),
            position: loaded.position.0,
            values: attributes.iter().map(|field| (field.name.clone(), field.value.clone())).collect(),
            tags: memory.tags().map(|(tag, _)| tag.to_owned()).collect(),
            fields: attributes,
            links: Some(
                memory
                    .links()
                    .map(|(relation, target, claim)| LinkJson {
                        relation: relation.to_owned(),
                        memory: target,
                        title: None,
                        kind: None,
                        truth: claim.author.truth,
                        event: claim.id,
                    })
                    .collect(),
            ),
            backlinks: None,
            suggestions: None,
            suggestions_waiting: 0,
            conflicts: 0,
            file: memory.file().map(|file| file.path.clone()),
        }
    }
}

fn attributes(memory: &Memory) -> Vec<FieldJson> {
    let shown = |name: &FieldName| matches!(name.role(), FieldRole::Attribute(_));
    let effective = memory.fields().iter().filter(|(name, _)| shown(name)).filter_map(|(name, claims)| {
        let claim = claims.effective()?;
        let millis = i64::try_from(claim.author.hlc.millis).unwrap_or(i64::MAX);
        Some(FieldJson {
            name: name.to_string(),
            value: Json::from(&claim.value),
            truth: claim.author.truth,
            origin: claim.author.origin.to_string(),
            principal: claim.author.principal,
            event: claim.id,
            at: DateTime::from_timestamp_millis(millis).unwrap_or_default(),
            conflict: !claims.conflict().is_empty(),
        })
    });
    effective.collect()
}

/// The value of every field that a suggestion may stand beside.
pub(super) fn current_values(view: &MemoryView) -> BTreeMap<String, Json> {
    let rows =
        view.provenance.iter().filter_map(|row| Some((row.field.to_string(), Json::from(row.value.as_ref()?))));
    let tags = view.summary.tags.iter().map(|tag| (format!("tag/{tag}"), Json::Bool(true)));
    let links =
        view.links.iter().map(|link| (format!("link/{}/{}", link.relation, link.memory), Json::Bool(true)));
    rows.chain(tags).chain(links).collect()
}

fn link(row: LinkRow) -> LinkJson {
    LinkJson {
        relation: row.relation,
        memory: row.memory,
        title: row.title,
        kind: row.kind,
        truth: row.truth,
        event: row.event,
    }
}

/// How to show a memory.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ShowParams {
    /// Wait until the read model has this log position.
    pub min_position: Option<u64>,
    /// As it was: a log position (1200), a revision (r7), a time or a day.
    pub as_of: Option<String>,
}

/// A memory as it is, and how far the read model has got.
pub async fn one(app: &App, memory: MemoryId, min: Option<u64>) -> Result<(MemoryJson, u64), ApiError> {
    wait(app, MEMORIES, min).await?;
    let mut position = app.position(MEMORIES);
    let find = || {
        let reader = app.memories.clone();
        query(move || reader.get(memory))
    };
    let mut found = find().await?;
    let head = app.handler.store().head().borrow().0;
    if matches!(found, Found::Nothing) && position < head {
        // Whoever has just made it, and asks at once, is not told that it does not exist.
        wait(app, MEMORIES, Some(head)).await?;
        position = app.position(MEMORIES);
        found = find().await?;
    }
    match found {
        Found::Memory(view) => Ok((MemoryJson::of_view(*view), position)),
        Found::Erased { at, .. } => Err(ApiError::new(
            StatusCode::GONE,
            "ERASED",
            format!("memory {memory} was erased at {}; what it held is gone", at.to_rfc3339()),
        )),
        Found::Nothing => Err(ApiError::not_found("memory", memory)),
    }
}

/// Shows a memory with everything there is to know about it, as it is or as it was.
#[utoipa::path(get, path = "/memories/{id}", tag = "memories", params(("id" = Uuid, Path, description = "The memory"), ShowParams),
    responses((status = 200, description = "The memory", body = Object), (status = 404, description = "No such memory", body = Failure),
    (status = 410, description = "It was erased", body = Failure)))]
pub(super) async fn show(
    State(app): State<App>,
    _: Caller,
    Id(memory): Id<MemoryId>,
    Query(params): Query<ShowParams>,
) -> Result<Reply<MemoryJson>, ApiError> {
    let (found, position) = match &params.as_of {
        None => one(&app, memory, params.min_position).await?,
        Some(moment) => {
            let loaded = load_at(&app, memory, Moment::parse("as_of", moment)?).await?;
            if !loaded.memory.is_present() {
                return Err(ApiError::not_found("memory", format!("{memory} at {moment}")));
            }
            let position = loaded.position.0;
            (MemoryJson::of_past(&loaded), position)
        }
    };
    let revision = found.revision;
    Ok(Reply::ok(found).at(position).revision(Some(revision)))
}

/// The links of a memory, in both directions.
#[derive(Debug, Serialize)]
pub(super) struct Relationships {
    links: Vec<LinkJson>,
    backlinks: Vec<LinkJson>,
}

/// Shows what a memory links to and what links to it.
#[utoipa::path(get, path = "/memories/{id}/relationships", tag = "memories", params(("id" = Uuid, Path, description = "The memory"), MinPosition),
    responses((status = 200, description = "Links and backlinks", body = Object)))]
pub(super) async fn relationships(
    State(app): State<App>,
    _: Caller,
    Id(memory): Id<MemoryId>,
    Query(params): Query<MinPosition>,
) -> Result<Reply<Relationships>, ApiError> {
    let (found, position) = one(&app, memory, params.min_position).await?;
    let links = found.links.unwrap_or_default();
    let backlinks = found.backlinks.unwrap_or_default();
    Ok(Reply::ok(Relationships { links, backlinks }).at(position))
}
