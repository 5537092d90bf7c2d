//! Tokens: making, listing and revoking them. For the owner only.

use axum::extract::State;
use axum::http::StatusCode;
use cairn_domain::id::PrincipalId;
use cairn_domain::memory::import::IMPORT_ORIGIN;
use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::App;
use super::envelope::{Page, Reply};
use super::error::ApiError;
use super::extract::{Body, Caller, not_an_import};
use crate::tokens::Token;

/// The longest name of a token, in characters.
const MAX_NAME_CHARS: usize = 60;

/// The longest life of a token that expires, in days.
const MAX_LIFE_DAYS: u32 = 3_650;

/// A token to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What people call it.
    #[schema(example = "claude")]
    pub name: String,
    /// The highest truth it may write at: user, automation, ai-local, ai-network or ai-cloud.
    #[schema(example = "ai-cloud")]
    pub ceiling: String,
    /// Where its writes come from; made from ceiling and name when left out.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "ai-cloud:anthropic/claude")]
    pub origin: Option<Origin>,
    /// After how many days it stops working; never when left out.
    #[serde(default)]
    pub expires_in_days: Option<u32>,
}

/// A token, without its secret.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TokenView {
    /// Its id, which is also that of the principal it stands for.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// The highest truth it may write at.
    pub ceiling: &'static str,
    /// Where its writes come from.
    pub origin: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// The secret; only in the answer that makes the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl From<Token> for TokenView {
    fn from(token: Token) -> Self {
        Self {
            id: token.id,
            name: token.name,
            ceiling: token.ceiling.name(),
            origin: token.origin.to_string(),
            created_at: token.created_at,
            expires_at: token.expires_at,
            revoked_at: token.revoked_at,
            token: None,
        }
    }
}

/// Makes a token. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/tokens", tag = "tokens", request_body = CreateToken,
    responses((status = 201, description = "Made; the secret is shown once", body = super::envelope::Success<TokenView>),
    (status = 403, description = "Only the owner may", body = super::error::Failure)))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(input): Body<CreateToken>,
) -> Result<Reply<TokenView>, ApiError> {
    caller.owner("make tokens")?;
    let name = input.name.trim();
    if name == IMPORT_ORIGIN {
        return Err(ApiError::validation("name", "is what imports sign with; choose another"));
    }
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        return Err(ApiError::validation("name", format!("takes 1 to {MAX_NAME_CHARS} visible characters")));
    }
    let ceiling: Truth = input
        .ceiling
        .parse()
        .map_err(|error: cairn_domain::truth::InvalidTruth| ApiError::validation("ceiling", error.to_string()))?;
    if let Some(origin) = &input.origin {
        not_an_import(origin)?;
    }
    if let Some(origin) = &input.origin
        && origin.as_str().split_once(':').and_then(|(class, _)| class.parse::<Truth>().ok()) != Some(ceiling)
    {
        return Err(ApiError::validation("origin", format!("begins with `{}:` for this ceiling", ceiling.name())));
    }
    let expires_at = match input.expires_in_days {
        Some(days @ 1..=MAX_LIFE_DAYS) => Some(Utc::now() + TimeDelta::days(i64::from(days))),
        Some(_) => return Err(ApiError::validation("expires_in_days", format!("takes 1 to {MAX_LIFE_DAYS}"))),
        None => None,
    };
    let made = app.create_token(name, ceiling, input.origin, expires_at, Some(&caller.0)).await;
    let (token, secret) = made.map_err(|error| match error {
        crate::brain::BrainError::Tokens(error) => ApiError::from(error),
        crate::brain::BrainError::Command(error) => ApiError::from(error),
        other => ApiError::internal(&other),
    })?;
    let view = TokenView { token: Some(secret.expose().to_owned()), ..TokenView::from(token) };
    Ok(Reply::ok(view).status(StatusCode::CREATED))
}

/// Lists all tokens, without their secrets.
#[utoipa::path(get, path = "/tokens", tag = "tokens",
    responses((status = 200, description = "All tokens", body = super::envelope::Success<Page<TokenView>>)))]
async fn list(State(app): State<App>, caller: Caller) -> Result<Reply<Page<TokenView>>, ApiError> {
    caller.owner("list tokens")?;
    let items = app.tokens.refreshed().await?.list().into_iter().map(TokenView::from).collect();
    Ok(Reply::ok(Page { items, next_cursor: None }))
}

/// Revokes a token: from now on it is refused; by other nodes of the same database within ten seconds, as a rule at once.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "tokens", params(("id" = Uuid, Path, description = "The token")),
    responses((status = 200, description = "Revoked", body = super::envelope::Success<TokenView>),
    (status = 404, description = "No such token", body = super::error::Failure)))]
async fn revoke(
    State(app): State<App>,
    caller: Caller,
    super::extract::Id(id): super::extract::Id<PrincipalId>,
) -> Result<Reply<TokenView>, ApiError> {
    caller.owner("revoke tokens")?;
    let token = app.tokens.revoke(id.uuid(), Utc::now()).await?;
    app.handler.revoke_principal(id, &caller.0).await?;
    Ok(Reply::ok(TokenView::from(token)))
}

/// The routes of tokens.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(revoke))
}
