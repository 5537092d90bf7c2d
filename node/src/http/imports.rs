//! Importing vaults that lie on the node's machine. For the owner only: the node reads with its own rights.

use std::path::PathBuf;

use axum::extract::State;
use axum::http::StatusCode;
use cairn_domain::id::EventId;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::App;
use super::envelope::Reply;
use super::error::ApiError;
use super::extract::{Body, Caller, Id};
use crate::importer::{self, ImportError, ImportReport, ImportRequest};

/// A vault to be imported.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartImport {
    /// The vault's folder on the node's machine, absolute.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// Archive what has vanished from the vault since the last import.
    #[serde(default)]
    pub prune: bool,
    /// Write nothing, only report.
    #[serde(default)]
    pub dry_run: bool,
}

/// An import that was started.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ImportStarted {
    /// Its id: `GET /imports/{id}` tells how it goes.
    pub id: Uuid,
}

/// Starts importing a vault. It goes on in the background.
#[utoipa::path(post, path = "/imports", tag = "imports", request_body = StartImport,
    responses((status = 202, description = "Started", body = super::envelope::Success<ImportStarted>),
    (status = 409, description = "Another import runs", body = super::error::Failure)))]
async fn start(
    State(app): State<App>,
    caller: Caller,
    Body(input): Body<StartImport>,
) -> Result<Reply<ImportStarted>, ApiError> {
    caller.owner("import a vault")?;
    if !input.path.is_absolute() {
        return Err(ApiError::validation("path", "takes an absolute path on the node's machine"));
    }
    let request = ImportRequest { path: input.path, prune: input.prune, dry_run: input.dry_run };
    let id = importer::start(&app, caller.0, request).map_err(|error| match error {
        ImportError::Running(_) => ApiError::new(StatusCode::CONFLICT, "IMPORT_RUNNING", error.to_string()),
        ImportError::Folder { .. } => ApiError::validation("path", error.to_string()),
    })?;
    Ok(Reply::ok(ImportStarted { id }).status(StatusCode::ACCEPTED))
}

/// Tells how an import goes, and what it did.
#[utoipa::path(get, path = "/imports/{id}", tag = "imports", params(("id" = Uuid, Path, description = "The import")),
    responses((status = 200, description = "How it goes", body = Object), (status = 404, description = "No such import", body = super::error::Failure)))]
async fn report(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<EventId>,
) -> Result<Reply<ImportReport>, ApiError> {
    caller.owner("look at imports")?;
    let report = app.imports.report(id.uuid()).ok_or_else(|| ApiError::not_found("import", id))?;
    Ok(Reply::ok(report))
}

/// The routes of imports.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(report))
}
