//! Reading: memories, lists, links, suggestions, conflicts, history, tags.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use cairn_domain::field::{FieldName, FieldRole};
use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::kind::Kind;
use cairn_domain::memory::Memory;
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use cairn_event_store::Position;
use cairn_read_model::memories::{
    ConflictRow, DailyFilter, Direction, EventFilter, Found, LinkRow, ListQuery, MemoryFilter, MemorySummary,
    MemoryView, PersonFilter, PlaceFilter, ProjectFilter, Sort, Stats, SuggestionFilter, SuggestionRow, TagCount,
    TaskFilter, TypedFilter,
};
use cairn_read_model::timeline::{TimelineFilter, TimelineRow};
use cairn_read_model::{Cursor, Paged, QueryError};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::envelope::{Page, Reply};
use super::error::ApiError;
use super::extract::{Caller, Id, Query};
use super::past::{Moment, load_at};
use crate::brain::projection::{MEMORIES, TIMELINE};

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
    suggestions: Option<Vec<SuggestionJson>>,
    /// How many suggestions wait.
    suggestions_waiting: u64,
    /// How many fields are in conflict.
    conflicts: u64,
    /// The file it was imported from.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

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

    fn of_summary(summary: MemorySummary) -> Self {
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
fn current_values(view: &MemoryView) -> BTreeMap<String, Json> {
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

fn suggestion(row: SuggestionRow, memory_title: String, current: Json) -> SuggestionJson {
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

/// The position a read must be current to.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct MinPosition {
    /// Wait until the read model has this log position.
    pub min_position: Option<u64>,
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
    responses((status = 200, description = "The memory", body = Object), (status = 404, description = "No such memory", body = super::error::Failure),
    (status = 410, description = "It was erased", body = super::error::Failure)))]
async fn show(
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

/// Which memories to list, and in which order.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    /// Only these kinds; several with commas.
    pub kind: Option<String>,
    /// Only memories with all of these tags; several with commas.
    pub tag: Option<String>,
    /// Only memories whose title contains this.
    pub q: Option<String>,
    /// Only memories whose title begins with this.
    pub title_prefix: Option<String>,
    /// `true`, `false` (the default) or `any`.
    pub archived: Option<String>,
    /// Only memories of this truth or a higher one: 1 to 5 or a level's name.
    pub truth: Option<String>,
    /// Only memories changed at or after this time.
    pub updated_after: Option<DateTime<Utc>>,
    /// Only memories changed before this time.
    pub updated_before: Option<DateTime<Utc>>,
    /// Only memories created at or after this time.
    pub created_after: Option<DateTime<Utc>>,
    /// Only memories created before this time.
    pub created_before: Option<DateTime<Utc>>,
    /// Only memories that link to this one.
    pub linked_to: Option<String>,
    /// Only memories that this one links to.
    pub linked_from: Option<String>,
    /// Only memories with suggestions that wait, or without.
    pub has_suggestions: Option<bool>,
    /// Only memories with conflicts, or without.
    pub has_conflicts: Option<bool>,
    /// `updated` (the default), `created`, `title` or `due`.
    pub sort: Option<String>,
    /// `asc` or `desc`.
    pub order: Option<String>,
    /// With whole bodies instead of excerpts.
    #[serde(default)]
    pub bodies: bool,
    /// How many, at most 200.
    pub limit: Option<usize>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Wait until the read model has this log position.
    pub min_position: Option<u64>,
    /// Tasks and projects: only these states; several with commas.
    pub status: Option<String>,
    /// Tasks: only these priorities; several with commas.
    pub priority: Option<String>,
    /// Tasks: only those due on this day or later.
    pub due_after: Option<NaiveDate>,
    /// Tasks: only those due on this day or earlier.
    pub due_before: Option<NaiveDate>,
    /// Tasks: only those of this person.
    pub assigned_to: Option<String>,
    /// People: only this address.
    pub email: Option<String>,
    /// People: only this organisation.
    pub organization: Option<String>,
    /// People: only this role.
    pub role: Option<String>,
    /// Events: only those that start at or after this time.
    pub start_after: Option<DateTime<Utc>>,
    /// Events: only those that start before this time.
    pub start_before: Option<DateTime<Utc>>,
    /// Events: only those at this location.
    pub location: Option<String>,
    /// Places: only these types; several with commas.
    pub place_type: Option<String>,
    /// Daily logs: only of this day or later. Projects: only those running on this day or later.
    pub from: Option<NaiveDate>,
    /// Daily logs: only of this day or earlier. Projects: only those begun by this day.
    pub until: Option<NaiveDate>,
}

impl ListParams {
    fn query(self, fixed: Option<Kind>) -> Result<ListQuery, ApiError> {
        let kinds: Vec<Kind> = match fixed {
            Some(kind) => vec![kind],
            None => split(self.kind.as_deref()).map(str::parse).collect::<Result<_, _>>().map_err(
                |error: cairn_domain::kind::InvalidKind| ApiError::validation("kind", error.to_string()),
            )?,
        };
        let archived = match self.archived.as_deref() {
            None | Some("false") => Some(false),
            Some("true") => Some(true),
            Some("any") => None,
            Some(_) => return Err(ApiError::validation("archived", "takes true, false or any")),
        };
        let sort = match self.sort.as_deref() {
            None | Some("updated") => Sort::Updated,
            Some("created") => Sort::Created,
            Some("title") => Sort::Title,
            Some("due" | "start" | "date" | "about") => Sort::About,
            Some(_) => return Err(ApiError::validation("sort", "takes updated, created, title or due")),
        };
        let direction = match (self.order.as_deref(), sort) {
            (Some("asc"), _) | (None, Sort::Title | Sort::About) => Direction::Ascending,
            (Some("desc"), _) | (None, Sort::Updated | Sort::Created) => Direction::Descending,
            (Some(_), _) => return Err(ApiError::validation("order", "takes asc or desc")),
        };
        if self.limit.is_some_and(|limit| limit == 0 || limit > cairn_read_model::MAX_LIMIT) {
            return Err(ApiError::validation("limit", format!("takes 1 to {}", cairn_read_model::MAX_LIMIT)));
        }
        if self.tag.as_deref().is_some_and(|tag| split(Some(tag)).next().is_none()) {
            return Err(ApiError::validation("tag", "takes a tag"));
        }
        let filter = MemoryFilter {
            tags: split(self.tag.as_deref()).map(|tag| tag.trim_start_matches('#').to_lowercase()).collect(),
            archived,
            truth_at_least: parsed("truth", self.truth.as_deref())?,
            created_from: self.created_after,
            created_before: self.created_before,
            updated_from: self.updated_after,
            updated_before: self.updated_before,
            title_prefix: self.title_prefix.clone(),
            title_contains: self.q.clone(),
            linked_to: parsed("linked_to", self.linked_to.as_deref())?,
            linked_from: parsed("linked_from", self.linked_from.as_deref())?,
            has_suggestions: self.has_suggestions,
            has_conflicts: self.has_conflicts,
            typed: self.typed(&kinds)?,
            kinds,
            ..MemoryFilter::default()
        };
        Ok(ListQuery {
            filter,
            sort,
            direction,
            limit: self.limit,
            cursor: self.cursor.map(Cursor::given),
            bodies: self.bodies,
        })
    }

    /// The filter on typed fields; it needs exactly one kind.
    fn typed(&self, kinds: &[Kind]) -> Result<Option<TypedFilter>, ApiError> {
        let words = |text: &Option<String>| split(text.as_deref()).map(str::to_owned).collect::<Vec<_>>();
        let given: Vec<(&str, &[Kind])> = [
            (self.status.is_some(), "status", &[Kind::Task, Kind::Project][..]),
            (self.priority.is_some(), "priority", &[Kind::Task]),
            (self.due_after.is_some(), "due_after", &[Kind::Task]),
            (self.due_before.is_some(), "due_before", &[Kind::Task]),
            (self.assigned_to.is_some(), "assigned_to", &[Kind::Task]),
            (self.email.is_some(), "email", &[Kind::Person]),
            (self.organization.is_some(), "organization", &[Kind::Person]),
            (self.role.is_some(), "role", &[Kind::Person]),
            (self.start_after.is_some(), "start_after", &[Kind::Event]),
            (self.start_before.is_some(), "start_before", &[Kind::Event]),
            (self.location.is_some(), "location", &[Kind::Event]),
            (self.place_type.is_some(), "place_type", &[Kind::Place]),
            (self.from.is_some(), "from", &[Kind::Daily, Kind::Project]),
            (self.until.is_some(), "until", &[Kind::Daily, Kind::Project]),
        ]
        .into_iter()
        .filter_map(|(given, name, kinds)| given.then_some((name, kinds)))
        .collect();
        let Some((first, _)) = given.first() else { return Ok(None) };
        let [kind] = kinds else {
            return Err(ApiError::validation(first, "goes with exactly one kind, as in `kind=task`"));
        };
        if let Some((name, _)) = given.iter().find(|(_, kinds)| !kinds.contains(kind)) {
            return Err(ApiError::validation(name, format!("is no filter of {kind}")));
        }
        // A word that no memory can have finds nothing, and nobody would see why.
        for (name, words) in
            [("status", &self.status), ("priority", &self.priority), ("place_type", &self.place_type)]
        {
            let field: FieldName = name.parse().expect("the names of typed fields are field names");
            for word in split(words.as_deref()) {
                let checked = kind.check(&field, &Value::Text(word.to_owned()));
                checked.map_err(|error| ApiError::validation(name, error.reason))?;
            }
        }
        Ok(match kind {
            Kind::Task => Some(TypedFilter::Task(TaskFilter {
                status: words(&self.status),
                priority: words(&self.priority),
                due_from: self.due_after,
                due_until: self.due_before,
                assigned_to: self.assigned_to.clone(),
            })),
            Kind::Person => Some(TypedFilter::Person(PersonFilter {
                email: self.email.clone(),
                organization: self.organization.clone(),
                role: self.role.clone(),
            })),
            Kind::Project => Some(TypedFilter::Project(ProjectFilter {
                status: words(&self.status),
                running_from: self.from,
                started_until: self.until,
            })),
            Kind::Event => Some(TypedFilter::Event(EventFilter {
                start_from: self.start_after,
                start_before: self.start_before,
                location: self.location.clone(),
            })),
            Kind::Place => Some(TypedFilter::Place(PlaceFilter {
                place_type: words(&self.place_type),
                ..PlaceFilter::default()
            })),
            Kind::Daily => Some(TypedFilter::Daily(DailyFilter { from: self.from, until: self.until })),
            Kind::Note => None,
        })
    }
}

/// Lists memories, and tells how far the read model has got.
pub async fn list_of(
    app: &App,
    params: ListParams,
    fixed: Option<Kind>,
) -> Result<(Page<MemoryJson>, u64), ApiError> {
    wait(app, MEMORIES, params.min_position).await?;
    let list = params.query(fixed)?;
    let position = app.position(MEMORIES);
    let reader = app.memories.clone();
    let found = query(move || reader.list(&list)).await?;
    Ok((page(found, MemoryJson::of_summary), position))
}

/// Lists memories.
#[utoipa::path(get, path = "/memories", tag = "memories", params(ListParams),
    responses((status = 200, description = "A page of memories", body = Object)))]
async fn list(
    State(app): State<App>,
    _: Caller,
    Query(params): Query<ListParams>,
) -> Result<Reply<Page<MemoryJson>>, ApiError> {
    let (page, position) = list_of(&app, params, None).await?;
    Ok(Reply::ok(page).at(position))
}

/// The links of a memory, in both directions.
#[derive(Debug, Serialize)]
struct Relationships {
    links: Vec<LinkJson>,
    backlinks: Vec<LinkJson>,
}

/// Shows what a memory links to and what links to it.
#[utoipa::path(get, path = "/memories/{id}/relationships", tag = "memories", params(("id" = Uuid, Path, description = "The memory"), MinPosition),
    responses((status = 200, description = "Links and backlinks", body = Object)))]
async fn relationships(
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
async fn suggestions(
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
    responses((status = 200, description = "The suggestion", body = Object), (status = 404, description = "It does not wait", body = super::error::Failure)))]
async fn one_suggestion(
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
struct ConflictJson {
    memory: MemoryId,
    memory_title: String,
    field: String,
    sides: Vec<SideJson>,
}

/// One side of a conflict; accepting its event resolves it.
#[derive(Debug, Serialize)]
struct SideJson {
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
async fn conflicts(
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
async fn timeline(
    State(app): State<App>,
    _: Caller,
    Query(params): Query<TimelineParams>,
) -> Result<Reply<Page<TimelineJson>>, ApiError> {
    timeline_of(&app, None, params).await
}

/// Shows what happened to a memory, the newest first.
#[utoipa::path(get, path = "/memories/{id}/history", tag = "memories", params(("id" = Uuid, Path, description = "The memory"), TimelineParams),
    responses((status = 200, description = "A page of the memory's history", body = Object)))]
async fn history(
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
struct TimelineJson {
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
async fn tags(
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
async fn stats(State(app): State<App>, _: Caller) -> Result<Reply<Stats>, ApiError> {
    let reader = app.memories.clone();
    let stats = query(move || reader.stats()).await?;
    Ok(Reply::ok(stats).at(app.position(MEMORIES)))
}

/// The routes that read.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(relationships))
        .routes(routes!(history))
        .routes(routes!(suggestions))
        .routes(routes!(one_suggestion))
        .routes(routes!(conflicts))
        .routes(routes!(timeline))
        .routes(routes!(tags))
        .routes(routes!(stats))
}
