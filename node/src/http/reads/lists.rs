//! Lists of memories: filters, orders and pages.

use axum::extract::State;
use cairn_domain::field::FieldName;
use cairn_domain::kind::Kind;
use cairn_domain::value::Value;
use cairn_read_model::Cursor;
use cairn_read_model::memories::{
    DailyFilter, Direction, EventFilter, ListQuery, MemoryFilter, PersonFilter, PlaceFilter, ProjectFilter, Sort,
    TaskFilter, TypedFilter,
};
use chrono::{DateTime, NaiveDate, Utc};
use serde::Deserialize;

use super::memory::MemoryJson;
use super::{page, parsed, query, split, wait};
use crate::brain::projection::MEMORIES;
use crate::http::App;
use crate::http::envelope::{Page, Reply};
use crate::http::error::ApiError;
use crate::http::extract::{Caller, Query};

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
pub(super) async fn list(
    State(app): State<App>,
    _: Caller,
    Query(params): Query<ListParams>,
) -> Result<Reply<Page<MemoryJson>>, ApiError> {
    let (page, position) = list_of(&app, params, None).await?;
    Ok(Reply::ok(page).at(position))
}
