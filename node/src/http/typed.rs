//! The typed resources: `/notes`, `/tasks`, `/people`, `/projects`, `/events` (calendar), `/places`, `/daily`.
//!
//! They are views of memories of one kind, with the typed fields flat beside the title. Routes and their
//! documentation are both made from the kinds' field tables, so a new field or kind is served and documented at once.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::routing::{get, post};
use cairn_domain::field::FieldName;
use cairn_domain::id::MemoryId;
use cairn_domain::kind::{FieldType, Kind, TypedField};
use cairn_domain::memory::command::{BodyText, Command};
use cairn_domain::value::Value;
use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value as Json};
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{ContentBuilder, Required, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;

use super::App;
use super::envelope::{Page, Reply};
use super::error::ApiError;
use super::extract::{Body, Caller, Id, Provenance, Query, WriteHeaders, truth};
use super::memories::{Claims, LinkInput, Written, archive, execute, new_id};
use super::reads;

/// A typed resource.
#[derive(Debug, Clone, Copy)]
struct Resource {
    kind: Kind,
    path: &'static str,
    /// What the title is called here.
    title: &'static str,
    /// What the body is called here.
    body: &'static str,
}

const RESOURCES: [Resource; 7] = [
    Resource { kind: Kind::Note, path: "/notes", title: "title", body: "content" },
    Resource { kind: Kind::Task, path: "/tasks", title: "title", body: "description" },
    Resource { kind: Kind::Person, path: "/people", title: "name", body: "notes" },
    Resource { kind: Kind::Project, path: "/projects", title: "name", body: "description" },
    Resource { kind: Kind::Event, path: "/events", title: "title", body: "description" },
    Resource { kind: Kind::Place, path: "/places", title: "name", body: "notes" },
    Resource { kind: Kind::Daily, path: "/daily", title: "title", body: "content" },
];

/// What a request says about a typed memory, taken apart.
struct TypedInput {
    claims: Claims,
    body: Option<String>,
    provenance: Provenance,
}

impl Resource {
    fn parse(self, mut input: Map<String, Json>) -> Result<TypedInput, ApiError> {
        let mut claims = Claims::default();
        let text = |json: Option<Json>, name: &str| match json {
            None => Ok(None),
            Some(Json::Null) => Ok(Some(String::new())),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::validation(name, "takes text")),
        };
        claims.title(text(input.remove(self.title), self.title)?);
        let body = text(input.remove(self.body), self.body)?;
        if let Some(fields) = input.remove("fields") {
            let fields: BTreeMap<String, Json> = read("fields", fields)?;
            claims.fields(fields)?;
        }
        if let Some(tags) = input.remove("tags") {
            claims.tags(&read::<Vec<String>>("tags", tags)?, true)?;
        }
        if let Some(links) = input.remove("links") {
            claims.links(&read::<Vec<LinkInput>>("links", links)?, true)?;
        }
        let provenance = Provenance {
            truth: input.remove("truth").map(truth).transpose().map_err(invalid("truth"))?.flatten(),
            origin: input.remove("origin").map(|json| read("origin", json)).transpose()?,
        };
        let mut typed = BTreeMap::new();
        for (name, json) in input {
            if !self.kind.fields().iter().any(|field| field.name == name) {
                let known: Vec<&str> = self.kind.fields().iter().map(|field| field.name).collect();
                let reason = format!(
                    "is no field of {}; it has {}, {}, {}; put other fields into `fields`",
                    self.path,
                    self.title,
                    self.body,
                    known.join(", ")
                );
                return Err(ApiError::validation(&name, reason));
            }
            typed.insert(name, json);
        }
        claims.fields(typed)?;
        Ok(TypedInput { claims, body, provenance })
    }
}

fn read<T: serde::de::DeserializeOwned>(name: &'static str, json: Json) -> Result<T, ApiError> {
    serde_json::from_value(json).map_err(invalid(name))
}

fn invalid(name: &'static str) -> impl Fn(serde_json::Error) -> ApiError {
    move |error| ApiError::validation(name, error.to_string())
}

async fn create(
    resource: Resource,
    app: App,
    caller: Caller,
    headers: WriteHeaders,
    input: Map<String, Json>,
) -> Result<Reply<Written>, ApiError> {
    let TypedInput { claims, body, provenance } = resource.parse(input)?;
    let kind = resource.kind;
    for required in required(kind) {
        if !claims.0.iter().any(|(name, _)| name.as_str() == *required) {
            return Err(ApiError::validation(required, "is required"));
        }
    }
    let memory = new_id(&app, &caller, &headers, kind, &claims);
    let command = Command::CreateMemory { kind, claims: claims.0, body: body.unwrap_or_default() };
    let done = execute(&app, &caller, &headers, memory, command, provenance).await?;
    Ok(Written::reply(done, true))
}

/// The fields that a new memory of a kind cannot do without.
const fn required(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Event => &["start_time"],
        Kind::Daily => &["log_date"],
        Kind::Task | Kind::Person | Kind::Project | Kind::Place => &["title"],
        Kind::Note => &[],
    }
}

async fn change(
    resource: Resource,
    app: App,
    caller: Caller,
    headers: WriteHeaders,
    memory: MemoryId,
    input: Map<String, Json>,
) -> Result<Reply<Written>, ApiError> {
    expect_kind(resource, &app, memory).await?;
    let TypedInput { claims, body, provenance } = resource.parse(input)?;
    let body = body.map(|text| BodyText { text, base: cairn_domain::body::Base::Effective });
    let command = Command::ChangeMemory { claims: claims.0, body };
    let done = execute(&app, &caller, &headers, memory, command, provenance).await?;
    Ok(Written::reply(done, false))
}

async fn expect_kind(resource: Resource, app: &App, memory: MemoryId) -> Result<(), ApiError> {
    let loaded = app.handler.load(memory).await?;
    if loaded.memory.is_present() && loaded.memory.kind() == resource.kind {
        return Ok(());
    }
    if loaded.memory.is_erased() {
        return Err(cairn_domain::memory::command::Rejection::Erased { memory }.into());
    }
    Err(ApiError::not_found(resource.kind.name(), memory))
}

/// Completes a task: status and time in one command.
async fn complete(
    State(app): State<App>,
    caller: Caller,
    headers: WriteHeaders,
    Id(memory): Id<MemoryId>,
) -> Result<Reply<Written>, ApiError> {
    expect_kind(RESOURCES[1], &app, memory).await?;
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let field = |name: &str| name.parse::<FieldName>().expect("the names of typed fields are valid");
    let claims =
        vec![(field("status"), Value::Text("completed".to_owned())), (field("completed_at"), Value::Text(now))];
    let command = Command::ChangeMemory { claims, body: None };
    let done = execute(&app, &caller, &headers, memory, command, Provenance::default()).await?;
    Ok(Written::reply(done, false))
}

/// A memory of one kind, with its typed fields flat.
fn view(resource: Resource, memory: &reads::MemoryJson) -> Json {
    let mut view = Map::new();
    view.insert("id".into(), Json::String(memory.id.to_string()));
    view.insert(resource.title.into(), Json::String(memory.title.clone()));
    for field in resource.kind.fields() {
        view.insert(field.name.into(), memory.value(field.name));
    }
    let free = memory.free_fields(resource.kind);
    view.insert("fields".into(), Json::Object(free));
    if let Some(body) = &memory.body {
        view.insert(resource.body.into(), Json::String(body.clone()));
    }
    view.insert("tags".into(), Json::from(memory.tags.clone()));
    view.insert("archived".into(), Json::Bool(memory.archived));
    view.insert("truth".into(), Json::from(memory.truth.level()));
    view.insert("created_at".into(), Json::String(memory.created_at.to_rfc3339_opts(SecondsFormat::Millis, true)));
    view.insert("updated_at".into(), Json::String(memory.updated_at.to_rfc3339_opts(SecondsFormat::Millis, true)));
    view.insert("revision".into(), Json::from(memory.revision));
    Json::Object(view)
}

async fn list(resource: Resource, app: App, params: reads::ListParams) -> Result<Reply<Page<Json>>, ApiError> {
    let (page, position) = reads::list_of(&app, params, Some(resource.kind)).await?;
    let items = page.items.iter().map(|memory| view(resource, memory)).collect();
    Ok(Reply::ok(Page { items, next_cursor: page.next_cursor }).at(position))
}

async fn show(resource: Resource, app: App, memory: MemoryId, min: Option<u64>) -> Result<Reply<Json>, ApiError> {
    let (found, position) = reads::one(&app, memory, min).await?;
    if found.kind != resource.kind {
        return Err(ApiError::not_found(resource.kind.name(), memory));
    }
    Ok(Reply::ok(view(resource, &found)).at(position).revision(Some(found.revision)))
}

/// The routes of the typed resources.
pub fn routes() -> OpenApiRouter<App> {
    let mut router = OpenApiRouter::new();
    for resource in RESOURCES {
        let one = format!("{}/{{id}}", resource.path);
        router = router
            .route(
                resource.path,
                get(move |State(app): State<App>, _: Caller, Query(params): Query<reads::ListParams>| async move {
                    list(resource, app, params).await
                })
                .post(
                    move |State(app): State<App>, caller: Caller, headers: WriteHeaders, Body(input): Body<Map<String, Json>>| async move {
                        create(resource, app, caller, headers, input).await
                    },
                ),
            )
            .route(
                &one,
                get(move |State(app): State<App>, _: Caller, Id(id): Id<MemoryId>, Query(query): Query<reads::MinPosition>| async move {
                    show(resource, app, id, query.min_position).await
                })
                .patch(
                    move |State(app): State<App>, caller: Caller, headers: WriteHeaders, Id(id): Id<MemoryId>, Body(input): Body<Map<String, Json>>| async move {
                        change(resource, app, caller, headers, id, input).await
                    },
                )
                .delete(
                    move |State(app): State<App>, caller: Caller, headers: WriteHeaders, Id(id): Id<MemoryId>| async move {
                        expect_kind(resource, &app, id).await?;
                        let done = execute(&app, &caller, &headers, id, archive(true), Provenance::default()).await?;
                        Ok::<_, ApiError>(Written::reply(done, false))
                    },
                ),
            );
        let paths = &mut router.get_openapi_mut().paths.paths;
        paths.insert(resource.path.to_owned(), collection_doc(resource));
        paths.insert(one, item_doc(resource));
    }
    router = router.route("/tasks/{id}/complete", post(complete));
    let doc = PathItem::new(
        HttpMethod::Post,
        operation("Completes a task: status and time in one command").parameter(id_parameter()),
    );
    router.get_openapi_mut().paths.paths.insert("/tasks/{id}/complete".to_owned(), doc);
    router
}

fn operation(summary: &str) -> OperationBuilder {
    let ok = ResponseBuilder::new().description("In the usual envelope").build();
    OperationBuilder::new().tag("typed").summary(Some(summary)).response("200", ok)
}

fn id_parameter() -> utoipa::openapi::path::Parameter {
    ParameterBuilder::new().name("id").parameter_in(ParameterIn::Path).required(Required::True).build()
}

fn schema(resource: Resource) -> ObjectBuilder {
    let text = |meaning: &str| {
        ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).description(Some(meaning))
    };
    let start = ObjectBuilder::new()
        .property(resource.title, text("the title or name"))
        .property(resource.body, text("the text, Markdown"))
        .property("tags", ObjectBuilder::new().schema_type(SchemaType::Type(Type::Array)))
        .property("fields", ObjectBuilder::new().description(Some("free fields")));
    resource.kind.fields().iter().fold(start, |schema, field| schema.property(field.name, field_schema(field)))
}

fn field_schema(field: &TypedField) -> ObjectBuilder {
    let schema = ObjectBuilder::new().description(Some(field.meaning));
    match field.kind {
        FieldType::Text | FieldType::Date | FieldType::Time => schema.schema_type(SchemaType::Type(Type::String)),
        FieldType::Flag => schema.schema_type(SchemaType::Type(Type::Boolean)),
        FieldType::Number { .. } => schema.schema_type(SchemaType::Type(Type::Number)),
        FieldType::Texts => schema.schema_type(SchemaType::Type(Type::Array)),
        FieldType::Choice(words) => {
            schema.schema_type(SchemaType::Type(Type::String)).enum_values(Some(words.iter().copied()))
        }
    }
}

fn body_doc(resource: Resource) -> utoipa::openapi::request_body::RequestBody {
    let content = ContentBuilder::new().schema(Some(schema(resource).build())).build();
    RequestBodyBuilder::new().content("application/json", content).build()
}

fn collection_doc(resource: Resource) -> PathItem {
    let kind = resource.kind;
    let mut item = PathItem::new(HttpMethod::Get, operation(&format!("Lists memories of kind {kind}")));
    let create = operation(&format!("Captures a memory of kind {kind}")).request_body(Some(body_doc(resource)));
    item.post = Some(create.build());
    item
}

fn item_doc(resource: Resource) -> PathItem {
    let kind = resource.kind;
    let mut item = PathItem::new(
        HttpMethod::Get,
        operation(&format!("Shows a memory of kind {kind}")).parameter(id_parameter()),
    );
    let change = operation(&format!("Changes a memory of kind {kind}")).parameter(id_parameter());
    item.patch = Some(change.request_body(Some(body_doc(resource))).build());
    item.delete = Some(operation(&format!("Archives a memory of kind {kind}")).parameter(id_parameter()).build());
    item
}
