//! The log itself: replay of a range as JSON lines, and a live feed over SSE that resumes where it broke off.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cairn_domain::id::PrincipalId;
use cairn_event_store::port::SharedStore;
use cairn_event_store::subscription::{Subscription, subscribe};
use cairn_event_store::{Direction, Filter, Position, RecordedEvent, StoreError};
use chrono::{SecondsFormat, Utc};
use futures::{Stream, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tracing::warn;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::App;
use super::error::ApiError;
use super::extract::{Caller, Query};
use crate::tokens::Denied;

/// How many events are read from the store at a time.
const PAGE: usize = 1_000;

/// How often a silent feed looks whether its reader may still see it.
const READER_CHECK: Duration = Duration::from_secs(1);

/// How often a silent feed shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Which part of the log.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// The first position; the first event is 1.
    pub from: Option<u64>,
    /// The last position; the log's end of the moment when left out.
    pub to: Option<u64>,
    /// Only streams whose name starts with this; several with commas.
    pub stream: Option<String>,
    /// Only events of this type, or of all that start with it if it ends in a dot; several with commas.
    pub r#type: Option<String>,
    /// At most so many events.
    pub limit: Option<u64>,
}

/// An event with its whole envelope.
#[derive(Serialize)]
struct Envelope<'a> {
    position: u64,
    stream: &'a str,
    revision: u64,
    id: Uuid,
    r#type: &'a str,
    schema_version: u16,
    brain: Uuid,
    recorded_at: String,
    data: &'a RawValue,
    metadata: &'a RawValue,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    erased: bool,
}

/// An event as one line of JSON, without the line's end.
pub fn envelope(event: &RecordedEvent) -> Result<Vec<u8>, StoreError> {
    let raw = |bytes: &'_ Bytes| -> Result<Box<RawValue>, StoreError> {
        serde_json::from_slice(bytes).map_err(|error| StoreError::Corrupt {
            reason: format!("the event at position {} is not JSON: {error}", event.position),
        })
    };
    let (data, metadata) = (raw(&event.data)?, raw(&event.metadata)?);
    let envelope = Envelope {
        position: event.position.0,
        stream: &event.stream,
        revision: event.revision.0,
        id: event.id,
        r#type: &event.event_type,
        schema_version: event.schema_version,
        brain: event.brain,
        recorded_at: event.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        data: &data,
        metadata: &metadata,
        erased: event.erased,
    };
    Ok(serde_json::to_vec(&envelope).expect("an envelope holds nothing that JSON cannot"))
}

impl LogQuery {
    fn filter(&self) -> Filter {
        let split = |text: &Option<String>| {
            let text = text.as_deref().unwrap_or_default();
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        Filter { stream_prefixes: split(&self.stream), event_types: split(&self.r#type) }
    }
}

/// Who reads an answer that goes on after its request was let in: it must not outlive the token.
struct Reader {
    principal: PrincipalId,
    app: App,
}

impl Reader {
    fn check(&self) -> Result<(), Denied> {
        self.app.tokens.check(self.principal, Utc::now())
    }
}

/// What is still to be replayed.
struct Replay {
    store: SharedStore,
    reader: Reader,
    filter: Filter,
    next: Option<Position>,
    to: Position,
    left: u64,
}

impl Replay {
    async fn page(&mut self) -> Result<Option<Bytes>, StoreError> {
        let (Some(from), true) = (self.next, self.left > 0) else { return Ok(None) };
        if from > self.to {
            return Ok(None);
        }
        if let Err(denied) = self.reader.check() {
            self.next = None;
            let error = ApiError::from(denied);
            return Ok(Some(error_line(error.code, &error.message)));
        }
        let limit = PAGE.min(usize::try_from(self.left).unwrap_or(PAGE));
        let page = match self.store.read_all(from, Direction::Forwards, &self.filter, limit).await {
            // Up to the damage one by one: what is sound before it is told, and then what is not.
            Err(StoreError::Corrupt { .. }) if limit > 1 => {
                self.store.read_all(from, Direction::Forwards, &self.filter, 1).await
            }
            page => page,
        };
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                self.next = None;
                return Ok(Some(error_line("LOG_UNREADABLE", &error.to_string())));
            }
        };
        self.next = page.next;
        let mut lines = Vec::with_capacity(page.events.len() * 512);
        for event in page.events.iter().take_while(|event| event.position <= self.to) {
            lines.extend(envelope(event)?);
            lines.push(b'\n');
            self.left -= 1;
        }
        Ok(Some(Bytes::from(lines)))
    }
}

fn error_line(code: &str, message: &str) -> Bytes {
    let line = json!({ "error": { "code": code, "message": message } });
    format!("{line}\n").into()
}

/// Replays a range of the log, one event a line. Where the log cannot be read on, or the token works no longer, the last line
/// is an `error` instead.
#[utoipa::path(get, path = "/log", tag = "log", params(LogQuery),
    responses((status = 200, description = "Events as JSON lines, each with its whole envelope", content_type = "application/x-ndjson", body = String)))]
async fn replay(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<LogQuery>,
) -> Result<Response, ApiError> {
    let store = Arc::clone(app.handler.store());
    let head = *store.head().borrow();
    let replay = Replay {
        filter: query.filter(),
        next: Some(Position(query.from.unwrap_or(1).max(1))),
        to: query.to.map_or(head, |to| Position(to).min(head)),
        left: query.limit.unwrap_or(u64::MAX),
        store,
        reader: Reader { principal: caller.0.id, app },
    };
    let lines = stream::try_unfold(replay, |mut replay| async move {
        let page = replay.page().await?;
        Ok::<_, StoreError>(page.map(|lines| (lines, replay)))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], HttpBody::from_stream(lines)).into_response())
}

/// Follows the log live. Resumes after the `Last-Event-ID` a client sends.
#[utoipa::path(get, path = "/log/stream", tag = "log",
    params(LogQuery, ("last-event-id" = Option<u64>, Header, description = "The position seen last")),
    responses((status = 200, description = "Server-sent events: id = position, event = type, data = envelope", content_type = "text/event-stream", body = String)))]
async fn follow(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Query(query): Query<LogQuery>,
) -> Result<Sse<impl Stream<Item = Result<SseEvent, Infallible>>>, ApiError> {
    let store = Arc::clone(app.handler.store());
    let seen = match headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default().parse::<u64>()) {
        Some(Ok(position)) => Some(position),
        Some(Err(_)) => return Err(ApiError::validation("Last-Event-ID", "takes the position seen last")),
        None => query.from.map(|from| from.saturating_sub(1)),
    };
    let after = seen.map_or_else(|| *store.head().borrow(), Position);
    let subscription = subscribe(store, after, query.filter());
    let reader = Reader { principal: caller.0.id, app };
    let feed = Feed { subscription, waiting: VecDeque::new(), reader };
    let events = stream::unfold(feed, |mut feed| async move { feed.next().await.map(|event| (Ok(event), feed)) });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// A live feed: what was read but not yet sent, and the subscription behind it.
struct Feed {
    subscription: Subscription,
    waiting: VecDeque<RecordedEvent>,
    reader: Reader,
}

impl Feed {
    /// The next event. The feed ends when the store does; the client then resumes where it broke off.
    async fn next(&mut self) -> Option<SseEvent> {
        while self.waiting.is_empty() {
            match tokio::time::timeout(READER_CHECK, self.subscription.next_batch(PAGE)).await {
                Ok(Ok(batch)) => self.waiting.extend(batch.events),
                Ok(Err(error)) => {
                    warn!(%error, "a live feed ended");
                    return None;
                }
                Err(_) => self.reader.check().ok()?,
            }
        }
        self.reader.check().ok()?;
        let event = self.waiting.pop_front()?;
        let data = envelope(&event).inspect_err(|error| warn!(%error, "a live feed ended")).ok()?;
        let data = String::from_utf8(data).ok()?;
        Some(SseEvent::default().id(event.position.to_string()).event(&*event.event_type).data(data))
    }
}

/// The routes of the log.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(replay)).routes(routes!(follow))
}
