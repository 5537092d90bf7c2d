//! Errors as HTTP tells them: one exhaustive mapping from every cause to a status and a stable code.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cairn_command::CommandError;
use cairn_domain::memory::command::Rejection;
use cairn_event_store::StoreError;
use serde::Serialize;
use serde_json::{Value as Json, json};
use tracing::error;

use super::envelope::Meta;
use crate::tokens::{Denied, TokenError};

/// An error as a client sees it.
#[derive(Debug)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The code: stable, for programs.
    pub code: &'static str,
    /// What went wrong and what to do next, for people.
    pub message: String,
    /// Particulars, such as the field and the reason.
    pub details: Option<Json>,
}

/// The body of an error answer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Failure {
    /// Always false.
    success: bool,
    /// The error.
    error: FailureDetail,
    /// About the answer.
    meta: Meta,
}

/// The error inside an error answer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct FailureDetail {
    /// The code: stable, for programs.
    #[schema(example = "VALIDATION_ERROR")]
    code: &'static str,
    /// What went wrong and what to do next, for people.
    message: String,
    /// Particulars, such as the field and the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Json>,
}

impl ApiError {
    /// An error with a status, a code and a message.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: None }
    }

    /// With particulars.
    pub fn with(self, details: Json) -> Self {
        Self { details: Some(details), ..self }
    }

    /// Something in the request has the wrong shape.
    pub fn validation(field: &str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION_ERROR", format!("`{field}`: {reason}"))
            .with(json!({ "field": field, "reason": reason }))
    }

    /// There is nothing under this name.
    pub fn not_found(what: &str, id: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", format!("there is no {what} {id}"))
    }

    /// Only the owner may do this.
    pub fn owner_only(action: &str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "USER_ONLY",
            format!("only a token with ceiling `user` may {action}; use the owner's token"),
        )
    }

    /// Something that should not happen. The cause goes to the log, not to the client.
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        let mut chain = cause.to_string();
        let mut next = cause.source();
        while let Some(cause) = next {
            chain.push_str(": ");
            chain.push_str(&cause.to_string());
            next = cause.source();
        }
        error!(cause = %chain, "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL_ERROR",
            "the node could not answer; its log says why under this request id",
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, code, message, details } = self;
        let body =
            Failure { success: false, error: FailureDetail { code, message, details }, meta: Meta::now(None) };
        let mut response = (status, axum::Json(body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = axum::http::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(axum::http::header::WWW_AUTHENTICATE, scheme);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = axum::http::HeaderValue::from_static("1");
            response.headers_mut().insert(axum::http::header::RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let code = match denied {
            Denied::Unknown => "TOKEN_UNKNOWN",
            Denied::Revoked => "TOKEN_REVOKED",
            Denied::Expired => "TOKEN_EXPIRED",
            Denied::Unavailable => {
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, "TOKENS_UNAVAILABLE", denied.to_string());
            }
        };
        Self::new(StatusCode::UNAUTHORIZED, code, denied.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let (status, code) = match &error {
            StoreError::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "STORE_UNAVAILABLE"),
            StoreError::Corrupt { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "STORE_DAMAGED"),
        };
        error!(%error, "the event store failed");
        Self::new(status, code, error.to_string())
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        let message = error.to_string();
        match error {
            CommandError::Rejected(rejection) => Self::from(rejection),
            CommandError::StaleRevision { expected, actual } => {
                Self::new(StatusCode::PRECONDITION_FAILED, "STALE_REVISION", message)
                    .with(json!({ "expected": expected.0, "actual": actual.0 }))
            }
            CommandError::Contended { .. } => Self::new(StatusCode::CONFLICT, "CONTENDED", message),
            CommandError::KeyReused => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "IDEMPOTENCY_KEY_REUSED", message)
            }
            CommandError::ForeignOrigin { .. } => Self::validation("origin", message),
            CommandError::Principal { .. } => Self::new(StatusCode::CONFLICT, "PRINCIPAL_CONFLICT", message),
            CommandError::Invalid(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "COMMAND_REFUSED", message),
            CommandError::Store(error) => Self::from(error),
            CommandError::Damaged(error) => {
                error!(%error, "the log cannot be read");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "STORE_DAMAGED",
                    format!("{message}; run `cairn verify`"),
                )
            }
        }
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        let message = rejection.to_string();
        match rejection {
            Rejection::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message),
            Rejection::AlreadyExists { memory } => {
                Self::new(StatusCode::CONFLICT, "ALREADY_EXISTS", message).with(json!({ "id": memory }))
            }
            Rejection::Erased { .. } => Self::new(StatusCode::GONE, "ERASED", message),
            Rejection::UserOnly { .. } => Self::new(StatusCode::FORBIDDEN, "USER_ONLY", message),
            Rejection::InvalidValue(invalid) => Self::validation(&invalid.field, invalid.reason),
            Rejection::BodyTooLong { .. } => Self::validation("body", message),
            Rejection::TooManyFields { .. } => Self::validation("fields", message),
            Rejection::NothingToRetract { .. } => Self::new(StatusCode::CONFLICT, "NOTHING_TO_RETRACT", message),
            Rejection::NoSuchSuggestion { .. } => Self::new(StatusCode::NOT_FOUND, "NO_SUCH_SUGGESTION", message),
            Rejection::NotImported { .. } => Self::new(StatusCode::CONFLICT, "NOT_IMPORTED", message),
            Rejection::NothingToUndo { .. } => Self::new(StatusCode::CONFLICT, "NOTHING_TO_UNDO", message),
            Rejection::ChangedSince { .. } => Self::new(StatusCode::CONFLICT, "CHANGED_SINCE", message),
            Rejection::UnknownBase { .. } => Self::validation("base", message),
            Rejection::Corrupt(error) => {
                error!(%error, "a memory cannot be read");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "STORE_DAMAGED",
                    format!("{message}; run `cairn verify`"),
                )
            }
        }
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::NotFound(id) => Self::not_found("token", id),
            TokenError::TooMany => Self::new(StatusCode::CONFLICT, "TOO_MANY_TOKENS", error.to_string()),
            TokenError::Denied(denied) => Self::from(denied),
            TokenError::Store(error) => Self::from(error),
            TokenError::Folder(_) | TokenError::Random(_) => Self::internal(&error),
        }
    }
}
