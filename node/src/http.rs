//! The HTTP API: routes, and what every request passes through.
//!
//! A request gets an id, is bounded in size and time, is authenticated by its handler's [`extract::Caller`], and is
//! counted. `/entities` answers like `/memories`. The OpenAPI document is collected from the same registrations
//! that make the routes, so it cannot name another set of them.

pub mod admin;
pub mod devices;
mod drain;
pub mod envelope;
pub mod error;
pub mod extract;
pub mod followers;
pub mod forward;
pub mod imports;
pub mod keys;
pub mod log;
pub mod memories;
pub mod past;
pub mod projections;
pub mod reads;
pub mod relay;
pub mod search;
pub mod sharing;
pub mod suggestions;
pub mod tokens;
pub mod typed;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use cairn_telemetry::trace::TraceContext;
use cairn_telemetry::{red, spans, trace};
use futures::FutureExt;
use tracing::{Instrument, debug, error};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use crate::brain::Brain;
use drain::Drainable;
use envelope::REQUEST_ID;
use error::ApiError;

/// What handlers share.
pub type App = Arc<Brain>;

/// The largest request body, in bytes: a body of the largest size with room for escapes.
pub const MAX_REQUEST_BYTES: usize = 8 * 1024 * 1024;

/// How long a request may take until its answer begins.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The one that may take longer: it folds the whole log.
const SLOW_ROUTE: &str = "/projections/{name}/verify";

/// The API as OpenAPI describes it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Cairn",
        description = "A brain node: memories with truth levels and provenance, over an append-only log of events.",
        license(name = "MIT", identifier = "MIT"),
    ),
    security(("token" = [])),
    tags(
        (name = "memories", description = "Capture, read, change, undo"),
        (name = "typed", description = "Notes, tasks, people, projects, calendar events, places and daily logs"),
        (name = "suggestions", description = "What waits for the user's decision"),
        (name = "search", description = "Hybrid search"),
        (name = "log", description = "Replay and live feed of events"),
        (name = "imports", description = "Vaults in, memories out"),
        (name = "tokens", description = "Who may ask"),
        (name = "sharing", description = "Other brains, spaces, and who has received what"),
        (name = "admin", description = "Health, projections, verification"),
    )
)]
struct Api;

/// The routes of sharing: those that a process which meets other brains answers.
fn of_sharing() -> OpenApiRouter<App> {
    sharing::routes().merge(devices::routes()).merge(keys::routes()).merge(relay::routes())
}

/// All routes with what they are documented as.
fn documented(of_sharing: OpenApiRouter<App>) -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Api::openapi())
        .merge(memories::routes())
        .merge(reads::routes())
        .merge(past::routes())
        .merge(suggestions::routes())
        .merge(search::routes())
        .merge(typed::routes())
        .merge(log::routes())
        .merge(imports::routes())
        .merge(tokens::routes())
        .merge(of_sharing)
        .merge(followers::routes())
        .merge(admin::routes())
}

/// The OpenAPI document of the API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let (_, mut api) = documented(of_sharing()).split_for_parts();
    let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    api.components.get_or_insert_default().add_security_scheme("token", scheme);
    api
}

/// The service of a process that only looks after projections.
pub fn projector_service(app: App) -> Router {
    let (routes, _) = admin::projector_routes().split_for_parts();
    layered(routes, app)
}

/// The service of a process that only meets other brains.
pub fn federation_service(app: App) -> Router {
    let (routes, _) = admin::projector_routes().merge(of_sharing()).split_for_parts();
    layered(routes, app)
}

/// The service that answers requests.
pub fn service(app: App) -> Router {
    let forwarded = middleware::from_fn_with_state(Arc::clone(&app), forward::pass_on);
    let (routes, _) = documented(of_sharing().route_layer(forwarded)).split_for_parts();
    let document = serde_json::to_vec(&openapi()).expect("the OpenAPI document is plain data");
    let document: bytes::Bytes = document.into();
    let routes = routes.route(
        "/openapi.json",
        axum::routing::get(move || {
            let document = document.clone();
            async move { ([(header::CONTENT_TYPE, "application/json")], document) }
        }),
    );
    layered(routes, app)
}

/// What every request passes through.
fn layered(routes: Router<App>, app: App) -> Router {
    routes
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), observe))
        .with_state(app)
}

async fn unknown(uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "NO_SUCH_ROUTE",
        format!("there is nothing at {}; see /openapi.json", uri.path().chars().take(120).collect::<String>()),
    )
}

async fn wrong_method() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        "this path does not take that method; see /openapi.json",
    )
}

/// Gives a request its id, bounds its time, catches its panics, and counts it.
async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = Uuid::now_v7();
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let parent = caller_trace(request.headers());
    let span = spans::http(id, method.as_str(), route.as_deref().unwrap_or("unknown"), parent.as_ref());
    spans::tenant(&span, app.brain);
    let (request, body) = drainable(request);
    let answer = REQUEST_ID.scope(id, next.run(request).instrument(span.clone()));
    let answer = std::panic::AssertUnwindSafe(answer).catch_unwind();
    let patience = if route.as_deref() == Some(SLOW_ROUTE) { Duration::MAX } else { REQUEST_TIMEOUT };
    let mut response = match tokio::time::timeout(patience, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            span.in_scope(|| error!(request = %id, "a handler panicked"));
            let error = ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "INTERNAL_ERROR",
                "the node could not answer; its log says why under this request id",
            );
            REQUEST_ID.sync_scope(id, || error.into_response())
        }
        Err(_) => {
            let error = ApiError::new(
                StatusCode::GATEWAY_TIMEOUT,
                "TIMEOUT",
                "the node took too long; a write may have happened, repeat it with the same Idempotency-Key",
            );
            REQUEST_ID.sync_scope(id, || error.into_response())
        }
    };
    if let Some(body) = body
        && !response.status().is_success()
    {
        body.drain().await;
    }
    // What another process has answered bears the id that it is known by there.
    if let Ok(value) = HeaderValue::from_str(id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer())) {
        response.headers_mut().entry("x-request-id").or_insert(value);
    }
    let route = route.unwrap_or_else(|| "unknown".to_owned());
    let status = response.status().as_u16();
    spans::answered(&span, status);
    let own = span.in_scope(|| {
        debug!(%method, %route, status, elapsed_us = started.elapsed().as_micros(), "answered");
        trace::current()
    });
    if let Some(own) = own.and_then(|own| HeaderValue::from_str(&own).ok()) {
        response.headers_mut().insert("traceparent", own);
    }
    red::http(method.as_str(), &route, status, started.elapsed());
    response
}

/// The trace that the caller says the request belongs to.
fn caller_trace(headers: &HeaderMap) -> Option<TraceContext> {
    let values = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
    TraceContext::from_headers(values("traceparent"), values("tracestate"))
}

/// Keeps a handle on the body of a request, where it has one.
fn drainable(request: Request) -> (Request, Option<Drainable>) {
    if request.body().is_end_stream() {
        return (request, None);
    }
    let (parts, body) = request.into_parts();
    let body = Drainable::new(body, &parts.headers);
    (Request::from_parts(parts, Body::new(body.clone())), Some(body))
}
