//! What handlers take from a request, with errors that name the field and the reason.

use std::marker::PhantomData;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use cairn_command::Idempotency;
use cairn_domain::memory::import::IMPORT_ORIGIN;
use cairn_domain::principal::{Origin, Principal};
use cairn_domain::truth::Truth;
use cairn_event_store::Revision;
use chrono::Utc;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use super::App;
use super::error::ApiError;

/// The longest idempotency key, in bytes.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 200;

/// Who is asking, by the bearer token of the request.
pub struct Caller(pub Principal);

/// A JSON body.
pub struct Body<T>(pub T);

/// Parameters of the query.
pub struct Query<T>(pub T);

/// An id in the path.
pub struct Id<T>(pub T);

/// What the headers say about a write.
pub struct WriteHeaders {
    /// The revision the caller saw (`If-Match`).
    pub expected: Option<Revision>,
    /// The caller's key for this command (`Idempotency-Key`).
    pub key: Option<String>,
}

/// The level and origin that a write may ask for in its body.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
pub struct Provenance {
    /// The level to write at, 1 to 5 or its name; never above the token's ceiling.
    #[serde(default, deserialize_with = "truth")]
    #[schema(value_type = Option<String>, example = "ai-cloud")]
    pub truth: Option<Truth>,
    /// Where the write comes from, more precisely than the token says.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "ai-cloud:anthropic/claude")]
    pub origin: Option<Origin>,
}

/// Reads a truth level given as a number or a name.
pub fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Truth>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Level {
        Number(u8),
        Name(String),
    }
    match Option::<Level>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Level::Number(level)) => Truth::try_from(level).map(Some).map_err(serde::de::Error::custom),
        Some(Level::Name(name)) => name.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// Refuses the origin by which an import knows what it wrote itself: whoever used it could pass for the file.
pub fn not_an_import(origin: &Origin) -> Result<(), ApiError> {
    let detail = origin.as_str().split_once(':').map_or("", |(_, detail)| detail);
    if detail == IMPORT_ORIGIN {
        return Err(ApiError::validation("origin", "is that of imports; name another"));
    }
    Ok(())
}

impl Caller {
    /// Lets only the user through.
    ///
    /// # Errors
    /// When the token's ceiling is below level 1.
    pub fn owner(&self, action: &str) -> Result<(), ApiError> {
        if self.0.ceiling == Truth::User { Ok(()) } else { Err(ApiError::owner_only(action)) }
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let secret = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, secret)| secret.trim())
            .ok_or_else(|| {
                ApiError::new(
                    StatusCode::UNAUTHORIZED,
                    "TOKEN_MISSING",
                    "send the header `Authorization: Bearer <token>`; the owner's token is in owner.token of the data folder",
                )
            })?;
        let token = app.tokens.authenticate(secret, Utc::now()).await?;
        if writes(parts)
            && let Some(shut) = app.shut()
        {
            return Err(ApiError::new(StatusCode::CONFLICT, "NOT_PRIMARY", shut.reason()));
        }
        if let Some(tenant) = parts.headers.get("x-tenant-id")
            && tenant.to_str().ok().and_then(|text| text.parse::<Uuid>().ok()) != Some(app.brain)
        {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "WRONG_TENANT",
                format!("this node serves the brain {}; leave X-Tenant-ID out or set it to that", app.brain),
            ));
        }
        Ok(Self(token.principal()))
    }
}

/// Whether a request asks for what only a primary does. Read models and proofs are each node's own.
fn writes(parts: &Parts) -> bool {
    let own = |path: &MatchedPath| path.as_str().starts_with("/projections/") || path.as_str() == "/verify";
    !parts.method.is_safe() && !parts.extensions.get::<MatchedPath>().is_some_and(own)
}

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        match axum::Json::<Object<T>>::from_request(request, app).await {
            Ok(axum::Json(Object(body))) => Ok(Self(body)),
            Err(rejection) => Err(body_error(&rejection)),
        }
    }
}

/// A JSON object. Without this, `[]` would pass for an object of which every field is left out.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// A body beyond what a request may have.
pub(super) fn too_large() -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "BODY_TOO_LARGE",
        format!("the request is larger than the {} bytes allowed", super::MAX_REQUEST_BYTES),
    )
}

fn body_error(rejection: &JsonRejection) -> ApiError {
    let text = rejection.body_text();
    match rejection {
        JsonRejection::JsonSyntaxError(_) => ApiError::new(StatusCode::BAD_REQUEST, "MALFORMED_JSON", text),
        JsonRejection::JsonDataError(_) => {
            let reason = text.rsplit_once("target type: ").map_or(text.as_str(), |(_, reason)| reason);
            // What is wrong with the body as a whole names no field: `invalid type: ...`.
            let field = reason.split_once(": ").filter(|(field, _)| !field.contains(' '));
            let (field, reason) = field.unwrap_or(("body", reason));
            ApiError::validation(field, reason)
        }
        JsonRejection::MissingJsonContentType(_) => ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UNSUPPORTED_MEDIA_TYPE",
            "send JSON with the header `Content-Type: application/json`",
        ),
        other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => ApiError::new(StatusCode::BAD_REQUEST, "MALFORMED_REQUEST", text),
    }
}

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match axum::extract::Query::<T>::from_request_parts(parts, app).await {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(query_error(&rejection)),
        }
    }
}

fn query_error(rejection: &QueryRejection) -> ApiError {
    let text = rejection.body_text();
    let reason = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
    match reason.split_once(": ") {
        Some((field, reason)) => ApiError::validation(field, reason),
        None => ApiError::validation("query", reason),
    }
}

impl<T> FromRequestParts<App> for Id<T>
where
    T: std::str::FromStr<Err = cairn_domain::id::InvalidId> + Send,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let params = axum::extract::RawPathParams::from_request_parts(parts, app)
            .await
            .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, "MALFORMED_REQUEST", error.to_string()))?;
        let text = params.iter().find(|(name, _)| *name == "id").map(|(_, value)| value).unwrap_or_default();
        let id = text.parse().map_err(|error: cairn_domain::id::InvalidId| {
            ApiError::new(StatusCode::BAD_REQUEST, "INVALID_ID", error.to_string())
        })?;
        Ok(Self(id))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for WriteHeaders {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self { expected: expected(&parts.headers)?, key: key(&parts.headers)? })
    }
}

fn expected(headers: &HeaderMap) -> Result<Option<Revision>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    text.trim_matches('"')
        .parse()
        .map(|revision| Some(Revision(revision)))
        .map_err(|_| ApiError::validation("If-Match", "takes the memory's revision, such as \"7\""))
}

fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(ApiError::validation(
            "Idempotency-Key",
            format!("takes 1 to {MAX_IDEMPOTENCY_KEY_BYTES} visible characters"),
        )),
    }
}

impl WriteHeaders {
    /// The key with a digest of what is asked for under it.
    pub fn idempotency(&self, request: &str) -> Option<Idempotency> {
        self.key.as_ref().map(|key| Idempotency {
            key: key.clone(),
            request: blake3::hash(request.as_bytes()).to_hex()[..32].to_owned(),
        })
    }
}
