//! A memory's past: as it was, what changed between two moments, and how a field came to its value.

use axum::extract::{Path, State};
use cairn_command::Loaded;
use cairn_domain::diff::{line_counts, unified};
use cairn_domain::field::FieldName;
use cairn_domain::id::MemoryId;
use cairn_domain::memory::ChainStep;
use cairn_domain::value::Value;
use cairn_event_store::{Position, Revision};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::envelope::Reply;
use super::error::ApiError;
use super::extract::{Caller, Id, Query};
use super::memories::{FieldPath, field_name};

/// A moment in the past of the log or of one memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moment {
    /// A position of the log.
    Position(Position),
    /// A revision of the memory, as `r7`.
    Revision(Revision),
    /// A point in time.
    Time(DateTime<Utc>),
}

impl Moment {
    /// Parses a position (`1200`), a revision (`r7`), a time or a day (its end).
    pub fn parse(name: &str, text: &str) -> Result<Self, ApiError> {
        if let Some(revision) = text.strip_prefix('r').and_then(|digits| digits.parse().ok()) {
            return Ok(Self::Revision(Revision(revision)));
        }
        if let Ok(position) = text.parse() {
            return Ok(Self::Position(Position(position)));
        }
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::Time(time.to_utc()));
        }
        let last = NaiveTime::from_hms_micro_opt(23, 59, 59, 999_999).expect("a valid time of day");
        match text.parse::<NaiveDate>() {
            Ok(day) => Ok(Self::Time(day.and_time(last).and_utc())),
            Err(_) => Err(ApiError::validation(
                name,
                "takes a log position (1200), a revision (r7), a time (2026-11-21T09:30:00Z) or a day (2026-11-21)",
            )),
        }
    }
}

/// Loads a memory as it was at a moment.
pub async fn load_at(app: &App, memory: MemoryId, moment: Moment) -> Result<Loaded, ApiError> {
    let repository = app.handler.repository();
    let loaded = match moment {
        Moment::Position(position) => repository.load_as_of(memory, position).await,
        Moment::Revision(revision) => repository.load_at_revision(memory, revision).await,
        Moment::Time(time) => {
            let position = app.handler.store().position_at(time).await?;
            repository.load_as_of(memory, position).await
        }
    };
    Ok(loaded.map_err(cairn_command::CommandError::from)?)
}

/// Between which moments.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct DiffQuery {
    /// The earlier moment; the revision before the last when left out.
    pub from: Option<String>,
    /// The later moment; now when left out.
    pub to: Option<String>,
}

/// What changed between two moments.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Diff {
    /// The revision it starts from; none when the memory did not exist yet.
    pub from: Option<u64>,
    /// The revision it ends at.
    pub to: Option<u64>,
    /// The fields that differ.
    pub fields: Vec<FieldDiff>,
    /// The change of the body, as a unified diff; empty when there is none.
    pub body: String,
    /// Lines added to the body.
    pub added: usize,
    /// Lines that went from the body.
    pub removed: usize,
}

/// A field that differs.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct FieldDiff {
    /// The field.
    pub name: String,
    /// Its value at the earlier moment; `null` when it had none.
    #[schema(value_type = Object)]
    pub before: Json,
    /// Its value at the later moment.
    #[schema(value_type = Object)]
    pub after: Json,
}

/// Shows what changed between two moments.
#[utoipa::path(get, path = "/memories/{id}/diff", tag = "memories", params(("id" = Uuid, Path, description = "The memory"), DiffQuery),
    responses((status = 200, description = "The difference", body = super::envelope::Success<Diff>)))]
async fn diff(
    State(app): State<App>,
    _: Caller,
    Id(memory): Id<MemoryId>,
    Query(query): Query<DiffQuery>,
) -> Result<Reply<Diff>, ApiError> {
    let now = app.handler.load(memory).await?;
    let Some(last) = now.revision else { return Err(ApiError::not_found("memory", memory)) };
    let to = match &query.to {
        Some(text) => load_at(&app, memory, Moment::parse("to", text)?).await?,
        None => Loaded::clone(&now),
    };
    let from = match &query.from {
        Some(text) => load_at(&app, memory, Moment::parse("from", text)?).await?,
        None => before_last_command(&app, memory, last).await?,
    };
    Ok(Reply::ok(difference(&from, &to)))
}

/// The memory before the command that wrote its last event: one command may write several events.
async fn before_last_command(app: &App, memory: MemoryId, last: Revision) -> Result<Loaded, ApiError> {
    let stream = cairn_domain::id::memory_stream(memory);
    let store = app.handler.store();
    let tail = store.read_stream(&stream, last, cairn_event_store::Direction::Backwards, 1_000).await?;
    let command = |event: &cairn_event_store::RecordedEvent| {
        cairn_command::read_metadata(event).map(|metadata| metadata.correlation_id).ok()
    };
    let newest = tail.first().and_then(command);
    let earlier = tail.iter().find(|event| command(event) != newest).map(|event| event.revision);
    match earlier {
        Some(revision) => load_at(app, memory, Moment::Revision(revision)).await,
        None => load_at(app, memory, Moment::Position(Position::START)).await,
    }
}

fn difference(from: &Loaded, to: &Loaded) -> Diff {
    let names: std::collections::BTreeSet<&FieldName> =
        from.memory.fields().keys().chain(to.memory.fields().keys()).collect();
    let json = |value: Option<&Value>| value.map_or(Json::Null, Json::from);
    let fields = names
        .into_iter()
        .map(|name| (name, json(from.memory.value(name)), json(to.memory.value(name))))
        .filter(|(_, before, after)| before != after)
        .map(|(name, before, after)| FieldDiff { name: name.to_string(), before, after });
    let (before, after) = (from.memory.body().text(), to.memory.body().text());
    let (added, removed) = line_counts(before, after);
    Diff {
        from: from.revision.map(|revision| revision.0),
        to: to.revision.map(|revision| revision.0),
        fields: fields.collect(),
        body: unified(before, after),
        added,
        removed,
    }
}

/// A field with its whole provenance.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct FieldHistory {
    /// The field.
    pub name: String,
    /// Its effective value; `null` when it has none.
    #[schema(value_type = Object)]
    pub value: Json,
    /// The effective claim and everything it superseded or accepted, newest first.
    #[schema(value_type = Vec<Object>)]
    pub chain: Vec<ChainStep>,
    /// Every claim ever made about the field, oldest first.
    #[schema(value_type = Vec<Object>)]
    pub claims: Vec<cairn_domain::claim::Claim>,
}

/// Shows how a field came to its value: its origin chain and all claims.
#[utoipa::path(get, path = "/memories/{id}/fields/{name}", tag = "memories",
    params(("id" = Uuid, Path, description = "The memory"), ("name" = String, Path, description = "The field; `body` for the text")),
    responses((status = 200, description = "The field's history", body = super::envelope::Success<FieldHistory>)))]
async fn field(
    State(app): State<App>,
    _: Caller,
    Id(memory): Id<MemoryId>,
    Path(path): Path<FieldPath>,
) -> Result<Reply<FieldHistory>, ApiError> {
    let name = field_name(&path.name)?;
    let loaded = app.handler.load(memory).await?;
    if !loaded.memory.is_present() {
        return Err(ApiError::not_found("memory", memory));
    }
    let chain = loaded.memory.origin_chain(&name);
    let claims = loaded.memory.field(&name).map(|claims| claims.all().to_vec()).unwrap_or_default();
    if chain.is_empty() && claims.is_empty() {
        return Err(ApiError::not_found("field", name));
    }
    let value = match name.role() {
        cairn_domain::field::FieldRole::Body => Json::from(loaded.memory.body().text()),
        _ => loaded.memory.value(&name).map_or(Json::Null, Json::from),
    };
    Ok(Reply::ok(FieldHistory { name: name.to_string(), value, chain, claims }).at(loaded.position.0))
}

/// The routes into the past.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(diff)).routes(routes!(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_apart() {
        let parse = |text| Moment::parse("as_of", text).ok();
        assert_eq!(parse("1200"), Some(Moment::Position(Position(1200))));
        assert_eq!(parse("r7"), Some(Moment::Revision(Revision(7))));
        assert!(matches!(parse("2026-11-21T09:30:00+01:00"), Some(Moment::Time(_))));
        assert!(matches!(parse("2026-11-21"), Some(Moment::Time(_))));
        assert_eq!(parse("yesterday"), None);
    }
}
