//! The envelopes of S0-100 and S0-101: every answer says when it was made, to which request, and how far it has read.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{SecondsFormat, Utc};
use serde::Serialize;
use uuid::Uuid;

tokio::task_local! {
    /// The id of the request that is being answered.
    pub static REQUEST_ID: Uuid;
}

/// What stands beside the data of every answer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Meta {
    /// When the answer was made.
    pub timestamp: String,
    /// The request it answers; also in the header `x-request-id`.
    pub request_id: Uuid,
    /// The log position the answer is current to. A later read with this `min_position` sees at least as much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
}

/// A successful answer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Success<T> {
    /// Always true.
    pub success: bool,
    /// What was asked for.
    pub data: T,
    /// About the answer.
    pub meta: Meta,
}

/// A page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Give it as `cursor` for the next page; none on the last.
    pub next_cursor: Option<String>,
}

/// A successful answer with its status.
pub struct Reply<T> {
    status: StatusCode,
    position: Option<u64>,
    revision: Option<u64>,
    data: T,
}

impl Meta {
    /// About the answer to the request of this task.
    pub fn now(position: Option<u64>) -> Self {
        Self {
            timestamp: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            request_id: REQUEST_ID.try_with(|id| *id).unwrap_or_default(),
            position,
        }
    }
}

impl<T> Reply<T> {
    /// 200 with data.
    pub fn ok(data: T) -> Self {
        Self { status: StatusCode::OK, position: None, revision: None, data }
    }

    /// Another status.
    pub fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The position the data is current to.
    pub fn at(self, position: u64) -> Self {
        Self { position: Some(position), ..self }
    }

    /// The memory's revision, as an `ETag` for `If-Match`.
    pub fn revision(self, revision: Option<u64>) -> Self {
        Self { revision, ..self }
    }
}

impl<T: Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        let body = Success { success: true, data: self.data, meta: Meta::now(self.position) };
        let mut headers = HeaderMap::new();
        if let Some(revision) = self.revision
            && let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\""))
        {
            headers.insert(header::ETAG, tag);
        }
        (self.status, headers, axum::Json(body)).into_response()
    }
}
