//! The key that signs for this brain among others. For the owner only.

use std::fmt;

use axum::extract::State;
use cairn_sharing::KeyView;
use cairn_sync::key::BrainKey;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::envelope::Reply;
use super::error::ApiError;
use super::extract::{Body, Caller};
use super::sharing::owner;

/// The key that comes next.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Prepare {
    /// Its public part: 64 hexadecimal digits of an ed25519 key. Nobody but its owner needs the secret before it is put in place.
    #[schema(value_type = String)]
    pub key: BrainKey,
}

/// The key to be put in place.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Its secret: the 24 English words of BIP 39 for the seed of an ed25519 key.
    pub words: String,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Change")
    }
}

/// Shows the key that signs for this brain.
#[utoipa::path(get, path = "/sharing/key", tag = "sharing",
    responses((status = 200, description = "The key", body = super::envelope::Success<KeyView>)))]
async fn key(State(app): State<App>, caller: Caller) -> Result<Reply<KeyView>, ApiError> {
    Ok(Reply::ok(owner(&app, &caller)?.view().await?.key))
}

/// Names the key that comes after it, to everybody, once and for good.
#[utoipa::path(put, path = "/sharing/key/next", tag = "sharing", request_body = Prepare,
    responses((status = 200, description = "Named", body = super::envelope::Success<KeyView>),
    (status = 409, description = "One is named, or this node does not have the brain's key",
    body = super::error::Failure)))]
async fn prepare(
    State(app): State<App>,
    caller: Caller,
    Body(input): Body<Prepare>,
) -> Result<Reply<KeyView>, ApiError> {
    let sharing = owner(&app, &caller)?;
    sharing.prepare_key(input.key).await?;
    Ok(Reply::ok(sharing.view().await?.key))
}

/// Puts the key in place that was named, on this node; or puts the one that signs now here.
#[utoipa::path(put, path = "/sharing/key", tag = "sharing", request_body = Change,
    responses((status = 200, description = "Put in place", body = super::envelope::Success<KeyView>),
    (status = 409, description = "It is not the one that was named", body = super::error::Failure),
    (status = 422, description = "The words are no key", body = super::error::Failure)))]
async fn change(
    State(app): State<App>,
    caller: Caller,
    Body(input): Body<Change>,
) -> Result<Reply<KeyView>, ApiError> {
    let sharing = owner(&app, &caller)?;
    sharing.change_key(&input.words).await?;
    Ok(Reply::ok(sharing.view().await?.key))
}

/// The routes of the key.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(key, change)).routes(routes!(prepare))
}
