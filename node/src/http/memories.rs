//! `/memories`: capture, change, archive, undo, erase.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use cairn_command::{Done, Execute};
use cairn_domain::body::Base;
use cairn_domain::field::FieldName;
use cairn_domain::id::{EventId, MemoryId};
use cairn_domain::kind::Kind;
use cairn_domain::memory::command::{BodyText, Command, Outcome};
use cairn_domain::value::Value;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::App;
use super::envelope::Reply;
use super::error::ApiError;
use super::extract::{Body, Caller, Id, Provenance, Query, WriteHeaders, not_an_import, truth};

/// The relation of a link that names none.
pub const DEFAULT_RELATION: &str = "relates_to";

/// A link to another memory.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkInput {
    /// What the link means.
    #[serde(default = "default_relation")]
    pub relation: String,
    /// The memory it points to.
    #[schema(value_type = Uuid)]
    pub target: MemoryId,
}

fn default_relation() -> String {
    DEFAULT_RELATION.to_owned()
}

/// A memory to be captured.
#[derive(Debug, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateMemory {
    /// Its kind; a note unless told otherwise.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "note")]
    pub kind: Option<Kind>,
    /// Its title.
    #[serde(default)]
    pub title: Option<String>,
    /// Its text, Markdown.
    #[serde(default)]
    pub body: Option<String>,
    /// Typed and free fields.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub fields: BTreeMap<String, Json>,
    /// Tags, with or without `#`.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Links to other memories.
    #[serde(default)]
    pub links: Vec<LinkInput>,
    /// The level to write at; never above the token's ceiling.
    #[serde(default, deserialize_with = "truth")]
    #[schema(value_type = Option<String>, example = "ai-cloud")]
    pub truth: Option<cairn_domain::truth::Truth>,
    /// Where the write comes from, more precisely than the token says.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "ai-cloud:anthropic/claude")]
    pub origin: Option<cairn_domain::principal::Origin>,
}

/// Changes to a memory. What is left out stays as it is.
#[derive(Debug, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeMemory {
    /// Another kind.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub kind: Option<Kind>,
    /// Another title.
    #[serde(default)]
    pub title: Option<String>,
    /// The text as it should read.
    #[serde(default)]
    pub body: Option<String>,
    /// The edit whose text `body` was made from; what others wrote since is then merged in.
    #[serde(default)]
    #[schema(value_type = Option<Uuid>)]
    pub base: Option<EventId>,
    /// Fields to set; `null` clears one.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub fields: BTreeMap<String, Json>,
    /// Tags to add.
    #[serde(default)]
    pub add_tags: Vec<String>,
    /// Tags to take off.
    #[serde(default)]
    pub remove_tags: Vec<String>,
    /// Links to add.
    #[serde(default)]
    pub add_links: Vec<LinkInput>,
    /// Links to take off.
    #[serde(default)]
    pub remove_links: Vec<LinkInput>,
    /// Put away, or take out again.
    #[serde(default)]
    pub archived: Option<bool>,
    /// The level to write at; never above the token's ceiling.
    #[serde(default, deserialize_with = "truth")]
    #[schema(value_type = Option<String>, example = "ai-cloud")]
    pub truth: Option<cairn_domain::truth::Truth>,
    /// Where the write comes from, more precisely than the token says.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub origin: Option<cairn_domain::principal::Origin>,
}

/// What a write did.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Written {
    /// The memory.
    #[schema(value_type = Uuid)]
    pub id: MemoryId,
    /// The command, by which it can be undone.
    pub command: Uuid,
    /// `applied`, `suggested`, `unchanged` or `rejected_before`.
    #[schema(value_type = String, example = "applied")]
    pub outcome: Outcome,
    /// What became of each field.
    pub fields: Vec<FieldWritten>,
    /// The events it wrote.
    #[schema(value_type = Vec<Uuid>)]
    pub events: Vec<EventId>,
    /// A read with this `min_position` sees it.
    pub position: u64,
    /// The memory's revision now.
    pub revision: Option<u64>,
    /// Whether the same command had been carried out before.
    pub repeated: bool,
}

/// What became of a field.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct FieldWritten {
    /// The field.
    pub field: String,
    /// What became of it.
    #[schema(value_type = String, example = "applied")]
    pub outcome: Outcome,
}

/// The name of a field in a path.
#[derive(Debug, Deserialize)]
pub struct FieldPath {
    /// The field.
    pub name: String,
}

/// The other end of a link in a path.
#[derive(Debug, Deserialize)]
struct LinkPath {
    relation: String,
    target: MemoryId,
}

/// Which command to undo.
#[derive(Debug, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UndoInput {
    /// The command; the latest that was not undone when left out.
    #[serde(default)]
    pub command: Option<Uuid>,
}

/// Whether to archive or to destroy.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct DeleteQuery {
    /// Destroy the content for good instead of archiving it.
    #[serde(default)]
    pub erase: bool,
}

impl Written {
    /// The answer to a command: 202 when it waits for the user's decision.
    pub fn reply(done: Done, created: bool) -> Reply<Self> {
        let status = match done.outcome {
            Outcome::Suggested => StatusCode::ACCEPTED,
            _ if created => StatusCode::CREATED,
            _ => StatusCode::OK,
        };
        let (position, revision) = (done.position.0, done.revision.map(|revision| revision.0));
        let fields =
            done.fields.into_iter().map(|(field, outcome)| FieldWritten { field: field.to_string(), outcome });
        let written = Self {
            id: done.memory,
            command: done.command,
            outcome: done.outcome,
            fields: fields.collect(),
            events: done.events,
            position,
            revision,
            repeated: done.repeated,
        };
        Reply::ok(written).status(status).at(position).revision(revision)
    }
}

/// Parses a field's name.
pub fn field_name(name: &str) -> Result<FieldName, ApiError> {
    name.parse()
        .map_err(|error: cairn_domain::field::InvalidFieldName| ApiError::validation(name, error.to_string()))
}

fn value(name: &str, json: Json) -> Result<Value, ApiError> {
    Value::try_from(json).map_err(|error| ApiError::validation(name, error.to_string()))
}

/// Claims from fields, tags and links as a request states them.
#[derive(Default)]
pub struct Claims(pub Vec<(FieldName, Value)>);

impl Claims {
    /// A title.
    pub fn title(&mut self, title: Option<String>) {
        if let Some(title) = title {
            let value = if title.is_empty() { Value::Empty } else { Value::Text(title) };
            self.0.push((FieldName::title(), value));
        }
    }

    /// Typed and free fields.
    pub fn fields(&mut self, fields: BTreeMap<String, Json>) -> Result<(), ApiError> {
        for (name, json) in fields {
            self.0.push((field_name(&name)?, value(&name, json)?));
        }
        Ok(())
    }

    /// Tags that hold, or hold no more.
    pub fn tags(&mut self, tags: &[String], holds: bool) -> Result<(), ApiError> {
        for tag in tags {
            let field = FieldName::tag(tag).map_err(|error| ApiError::validation("tags", error.to_string()))?;
            self.0.push((field, Value::Flag(holds)));
        }
        Ok(())
    }

    /// Links that hold, or hold no more.
    pub fn links(&mut self, links: &[LinkInput], holds: bool) -> Result<(), ApiError> {
        for link in links {
            let field = FieldName::link(&link.relation, link.target)
                .map_err(|error| ApiError::validation("links", error.to_string()))?;
            self.0.push((field, Value::Flag(holds)));
        }
        Ok(())
    }
}

/// Carries a command of a request out.
pub async fn execute(
    app: &App,
    caller: &Caller,
    headers: &WriteHeaders,
    memory: MemoryId,
    command: Command,
    provenance: Provenance,
) -> Result<Done, ApiError> {
    if let Some(origin) = &provenance.origin {
        not_an_import(origin)?;
    }
    let request = headers.key.as_ref().map(|_| format!("{memory} {command:?} {provenance:?}"));
    let execute = Execute {
        memory,
        command,
        principal: &caller.0,
        truth: provenance.truth,
        origin: provenance.origin,
        expected: headers.expected,
        idempotency: request.and_then(|request| headers.idempotency(&request)),
        causation: None,
    };
    Ok(app.handler.execute(execute).await?)
}

/// The id of a memory to be created: named after the idempotency key, so that a repeat names the same one.
/// A daily log is named after its day: there is one for each.
pub fn new_id(app: &App, caller: &Caller, headers: &WriteHeaders, kind: Kind, claims: &Claims) -> MemoryId {
    let day = claims.0.iter().find(|(name, _)| kind == Kind::Daily && name.as_str() == "log_date");
    if let Some(date) = day.and_then(|(_, value)| value.as_text()?.parse().ok()) {
        return cairn_interchange::ids::daily_id(app.brain, date);
    }
    let id = headers
        .key
        .as_ref()
        .map_or_else(Uuid::now_v7, |key| Uuid::new_v5(&caller.0.id.uuid(), format!("memory {key}").as_bytes()));
    MemoryId::new(id)
}

/// Captures a memory.
#[utoipa::path(post, path = "/memories", tag = "memories", request_body = CreateMemory, responses(
    (status = 201, description = "Captured", body = super::envelope::Success<Written>),
    (status = 202, description = "Captured; part of it waits for the user's decision", body = super::envelope::Success<Written>),
    (status = 422, description = "A value does not fit", body = super::error::Failure)))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    headers: WriteHeaders,
    Body(input): Body<CreateMemory>,
) -> Result<Reply<Written>, ApiError> {
    let kind = input.kind.unwrap_or(Kind::Note);
    let mut claims = Claims::default();
    claims.title(input.title);
    claims.fields(input.fields)?;
    claims.tags(&input.tags, true)?;
    claims.links(&input.links, true)?;
    let memory = new_id(&app, &caller, &headers, kind, &claims);
    let command = Command::CreateMemory { kind, claims: claims.0, body: input.body.unwrap_or_default() };
    let provenance = Provenance { truth: input.truth, origin: input.origin };
    let done = execute(&app, &caller, &headers, memory, command, provenance).await?;
    Ok(Written::reply(done, true))
}

/// Changes a memory, or suggests the change where it cannot win.
#[utoipa::path(patch, path = "/memories/{id}", tag = "memories", request_body = ChangeMemory,
    params(("id" = Uuid, Path, description = "The memory")), responses(
    (status = 200, description = "Changed", body = super::envelope::Success<Written>),
    (status = 202, description = "Suggested", body = super::envelope::Success<Written>),
    (status = 404, description = "No such memory", body = super::error::Failure),
    (status = 412, description = "Not the revision in If-Match", body = super::error::Failure)))]
async fn change(
    State(app): State<App>,
    caller: Caller,
    headers: WriteHeaders,
    Id(memory): Id<MemoryId>,
    Body(input): Body<ChangeMemory>,
) -> Result<Reply<Written>, ApiError> {
    let mut claims = Claims::default();
    if let Some(kind) = input.kind {
        claims.0.push((FieldName::kind(), Value::Text(kind.name().to_owned())));
    }
    claims.title(input.title);
    claims.fields(input.fields)?;
    claims.tags(&input.add_tags, true)?;
    claims.tags(&input.remove_tags, false)?;
    claims.links(&input.add_links, true)?;
    claims.links(&input.remove_links, false)?;
    if let Some(archived) = input.archived {
        claims.0.push((FieldName::archived(), Value::Flag(archived)));
    }
    if input.base.is_some() && input.body.is_none() {
        return Err(ApiError::validation("base", "goes with `body`"));
    }
    let base = input.base.map_or(Base::Effective, Base::After);
    let body = input.body.map(|text| BodyText { text, base });
    let provenance = Provenance { truth: input.truth, origin: input.origin };
    let command = Command::ChangeMemory { claims: claims.0, body };
    let done = execute(&app, &caller, &headers, memory, command, provenance).await?;
    Ok(Written::reply(done, false))
}

/// Archives a memory, or destroys its content for good.
#[utoipa::path(delete, path = "/memories/{id}", tag = "memories", params(("id" = Uuid, Path, description = "The memory"), DeleteQuery),
    responses((status = 200, description = "Archived or erased", body = super::envelope::Success<Written>),
    (status = 202, description = "Archiving is suggested", body = super::envelope::Success<Written>)))]
async fn delete(
    State(app): State<App>,
    caller: Caller,
    headers: WriteHeaders,
    Id(memory): Id<MemoryId>,
    Query(query): Query<DeleteQuery>,
) -> Result<Reply<Written>, ApiError> {
    let command = if query.erase { Command::EraseMemory } else { archive(true) };
    let done = execute(&app, &caller, &headers, memory, command, Provenance::default()).await?;
    Ok(Written::reply(done, false))
}

/// The command that puts a memory away, or takes it out again.
pub fn archive(archived: bool) -> Command {
    Command::ChangeMemory { claims: vec![(FieldName::archived(), Value::Flag(archived))], body: None }
}

/// Takes an archived memory out again.
#[utoipa::path(post, path = "/memories/{id}/restore", tag = "memories", params(("id" = Uuid, Path, description = "The memory")),
    responses((status = 200, description = "Restored", body = super::envelope::Success<Written>)))]
async fn restore(
    State(app): State<App>,
    caller: Caller,
    headers: WriteHeaders,
    Id(memory): Id<MemoryId>,
) -> Result<Reply<Written>, ApiError> {
    let done = execute(&app, &caller, &headers, memory, archive(false), Provenance::default()).await?;
    Ok(Written::reply(done, false))
}

/// Undoes what one command did and keeps what came after it.
#[utoipa::path(post, path = "/memories/{id}/undo", tag = "memories", request_body = UndoInput,
    params(("id" = Uuid, Path, description = "The memory")), responses(
    (status = 200, description = "Undone", body = super::envelope::Success<Written>),
    (status = 409, description = "Nothing to undo, or changed since", body = super::error::Failure)))]
async fn undo(
    State(app): State<App>,
    caller: Caller,
    headers: WriteHeaders,
    Id(memory): Id<MemoryId>,
    Body(input): Body<UndoInput>,
) -> Result<Reply<Written>, ApiError> {
    let command = Command::UndoCommand { command: input.command };
    let done = execute(&app, &caller, &headers, memory, command, Provenance::default()).await?;
    Ok(Written::reply(done, false))
}

/// Takes back one's own latest claim about a field, so that the next one shows through.
#[utoipa::path(delete, path = "/memories/{id}/fields/{name}", tag = "memories",
    params(("id" = Uuid, Path, description = "The memory"), ("name" = String, Path, description = "The field")),
    responses((status = 200, description = "Retracted", body = super::envelope::Success<Written>),
    (status = 409, description = "This principal has no claim to take back", body = super::error::Failure)))]
async fn retract(
    State(app): State<App>,
    caller: Caller,
    headers: WriteHeaders,
    Id(memory): Id<MemoryId>,
    Path(field): Path<FieldPath>,
) -> Result<Reply<Written>, ApiError> {
    let command = Command::RetractClaim { field: field_name(&field.name)? };
    let done = execute(&app, &caller, &headers, memory, command, Provenance::default()).await?;
    Ok(Written::reply(done, false))
}

/// Links a memory to another.
#[utoipa::path(post, path = "/memories/{id}/links", tag = "memories", request_body = LinkInput,
    params(("id" = Uuid, Path, description = "The memory")),
    responses((status = 200, description = "Linked", body = super::envelope::Success<Written>)))]
async fn link(
    State(app): State<App>,
    caller: Caller,
    headers: WriteHeaders,
    Id(memory): Id<MemoryId>,
    Body(input): Body<LinkInput>,
) -> Result<Reply<Written>, ApiError> {
    let target = app.handler.load(input.target).await?;
    if !target.memory.is_present() {
        return Err(ApiError::not_found("memory", input.target));
    }
    let mut claims = Claims::default();
    claims.links(&[input], true)?;
    let command = Command::ChangeMemory { claims: claims.0, body: None };
    let done = execute(&app, &caller, &headers, memory, command, Provenance::default()).await?;
    Ok(Written::reply(done, false))
}

/// Takes a link off.
#[utoipa::path(delete, path = "/memories/{id}/links/{relation}/{target}", tag = "memories",
    params(("id" = Uuid, Path, description = "The memory"), ("relation" = String, Path, description = "What the link means"),
    ("target" = Uuid, Path, description = "The memory it points to")),
    responses((status = 200, description = "Unlinked", body = super::envelope::Success<Written>)))]
async fn unlink(
    State(app): State<App>,
    caller: Caller,
    headers: WriteHeaders,
    Id(memory): Id<MemoryId>,
    Path(link): Path<LinkPath>,
) -> Result<Reply<Written>, ApiError> {
    let mut claims = Claims::default();
    claims.links(&[LinkInput { relation: link.relation, target: link.target }], false)?;
    let command = Command::ChangeMemory { claims: claims.0, body: None };
    let done = execute(&app, &caller, &headers, memory, command, Provenance::default()).await?;
    Ok(Written::reply(done, false))
}

/// The routes that write memories.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(change, delete))
        .routes(routes!(restore))
        .routes(routes!(undo))
        .routes(routes!(retract))
        .routes(routes!(link))
        .routes(routes!(unlink))
}
