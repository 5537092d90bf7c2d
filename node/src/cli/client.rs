//! The HTTP client: requests with the token, answers out of their envelopes, streams line by line.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use reqwest::header::{ACCEPT, AUTHORIZATION, IF_MATCH};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::args::Global;
use super::error::{ApiFailure, CliError};
use super::locate::{Located, locate};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer that is not a stream may take: longer than the node ever waits by itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// The longest line of a stream: an event with the largest body there may be, escaped, fits well.
const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;

/// The most items a page of the API holds.
pub const MAX_PAGE: usize = 200;

/// A client of one node.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: String,
}

/// A request that is being put together.
#[derive(Debug)]
pub struct Request<'a> {
    client: &'a Client,
    method: Method,
    url: Url,
    body: Option<Json>,
    expected: Option<u64>,
    resume_after: Option<u64>,
    timeout: Option<Duration>,
}

/// A successful answer.
#[derive(Debug)]
pub struct Answer {
    /// What was asked for, exactly as the API gave it.
    pub data: Box<RawValue>,
    url: String,
}

/// A page of a list, its items as the API gave them.
#[derive(Debug, Deserialize)]
pub struct RawPage {
    /// The items.
    pub items: Vec<Box<RawValue>>,
    /// Where the next page begins.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Envelope {
    data: Box<RawValue>,
}

#[derive(Deserialize)]
struct Failure {
    error: FailureDetail,
}

#[derive(Deserialize)]
struct FailureDetail {
    code: String,
    message: String,
    #[serde(default)]
    details: Option<Json>,
}

impl Client {
    /// A client of the node that the options name. Nothing is sent yet.
    ///
    /// # Errors
    /// When no node or no token is found.
    pub fn connect(global: &Global) -> Result<Self, CliError> {
        Ok(Self::to(locate(global)?))
    }

    /// A client of a node that was located.
    pub fn to(located: Located) -> Self {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("cairn/", env!("CARGO_PKG_VERSION")));
        if located.local {
            // A proxy of the environment knows nothing of this machine's loopback.
            builder = builder.no_proxy();
        }
        let http = builder.build().expect("the options above are valid together");
        Self { http, base: located.url, token: located.token }
    }

    /// `GET`, the path as its segments.
    pub fn get(&self, path: &[&str]) -> Request<'_> {
        self.request(Method::GET, path)
    }

    /// `POST`, the path as its segments.
    pub fn post(&self, path: &[&str]) -> Request<'_> {
        self.request(Method::POST, path)
    }

    /// `PUT`, the path as its segments.
    pub fn put(&self, path: &[&str]) -> Request<'_> {
        self.request(Method::PUT, path)
    }

    /// `PATCH`, the path as its segments.
    pub fn patch(&self, path: &[&str]) -> Request<'_> {
        self.request(Method::PATCH, path)
    }

    /// `DELETE`, the path as its segments.
    pub fn delete(&self, path: &[&str]) -> Request<'_> {
        self.request(Method::DELETE, path)
    }

    fn request(&self, method: Method, path: &[&str]) -> Request<'_> {
        let mut url = self.base.clone();
        // Segments are encoded one by one: names of fields and relations may hold anything.
        url.path_segments_mut().expect("http addresses have paths").pop_if_empty().extend(path);
        Request {
            client: self,
            method,
            url,
            body: None,
            expected: None,
            resume_after: None,
            timeout: Some(ANSWER_TIMEOUT),
        }
    }
}

impl Request<'_> {
    /// Adds a query parameter.
    pub fn query(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.url.query_pairs_mut().append_pair(name, value.as_ref());
        self
    }

    /// Adds a query parameter where there is a value.
    pub fn maybe(self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// The JSON body.
    pub fn json(self, body: Json) -> Self {
        Self { body: Some(body), ..self }
    }

    /// Only if the memory is still at this revision.
    pub fn expecting(self, revision: Option<u64>) -> Self {
        Self { expected: revision, ..self }
    }

    /// Takes a live feed up after the position seen last.
    pub fn resume_after(self, position: u64) -> Self {
        Self { resume_after: Some(position), ..self }
    }

    /// The answer may take as long as it does.
    pub fn without_limit(self) -> Self {
        Self { timeout: None, ..self }
    }

    /// Sends it and reads the answer.
    ///
    /// # Errors
    /// When the node cannot be reached, refuses or fails.
    pub async fn send(self) -> Result<Answer, CliError> {
        let url = self.url.to_string();
        let response = self.dispatch().await?;
        let bytes = response.bytes().await.map_err(|source| CliError::Broken { source })?;
        let envelope: Envelope = serde_json::from_slice(&bytes)
            .map_err(|error| CliError::Protocol { url: url.clone(), reason: error.to_string() })?;
        Ok(Answer { data: envelope.data, url })
    }

    /// Sends it and gives the answer as it comes in: a stream without a time limit.
    ///
    /// # Errors
    /// When the node cannot be reached, refuses or fails.
    pub async fn stream(self) -> Result<reqwest::Response, CliError> {
        self.without_limit().dispatch().await
    }

    /// Sends it and gives its answer line by line.
    ///
    /// # Errors
    /// When the node cannot be reached, refuses or fails.
    pub async fn lines(self) -> Result<impl Stream<Item = Result<Bytes, CliError>> + Unpin, CliError> {
        let url = self.url.to_string();
        let response = self.stream().await?;
        Ok(lines(response.bytes_stream(), url))
    }

    /// Asks for a list, page after page, until `limit` items are there or no more come.
    /// The last page's cursor says where to go on.
    ///
    /// # Errors
    /// When the node cannot be reached, refuses or fails.
    pub async fn pages(self, limit: usize, cursor: Option<&str>) -> Result<RawPage, CliError> {
        let mut all = RawPage { items: Vec::new(), next_cursor: cursor.map(str::to_owned) };
        loop {
            let size = (limit - all.items.len()).min(MAX_PAGE);
            let request = Request { url: self.url.clone(), ..self.client.get(&[]) };
            let request = request.query("limit", size.to_string()).maybe("cursor", all.next_cursor.as_deref());
            let page: RawPage = request.send().await?.read()?;
            let empty = page.items.is_empty();
            all.items.extend(page.items);
            all.next_cursor = page.next_cursor;
            if all.next_cursor.is_none() || empty || all.items.len() >= limit {
                return Ok(all);
            }
        }
    }

    async fn dispatch(self) -> Result<reqwest::Response, CliError> {
        let key = Uuid::now_v7().to_string();
        let attempt = || {
            let mut request = self.client.http.request(self.method.clone(), self.url.clone());
            request = request.header(AUTHORIZATION, format!("Bearer {}", self.client.token)).header(ACCEPT, "*/*");
            if let Some(timeout) = self.timeout {
                request = request.timeout(timeout);
            }
            if let Some(revision) = self.expected {
                request = request.header(IF_MATCH, format!("\"{revision}\""));
            }
            if let Some(position) = self.resume_after {
                request = request.header("last-event-id", position.to_string());
            }
            if self.method != Method::GET {
                request = request.header("idempotency-key", &key);
            }
            match &self.body {
                Some(body) => request.json(body),
                None => request,
            }
        };
        let response = match attempt().send().await {
            // The key makes it safe to repeat a write of which nobody knows whether it arrived.
            Err(error) if !error.is_connect() && !error.is_timeout() => attempt().send().await,
            other => other,
        };
        let response =
            response.map_err(|source| CliError::Unreachable { url: self.client.base.to_string(), source })?;
        if response.status().is_success() { Ok(response) } else { Err(failure(response).await) }
    }
}

impl Answer {
    /// Reads the data.
    ///
    /// # Errors
    /// When it does not have the shape expected.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        serde_json::from_str(self.data.get())
            .map_err(|error| CliError::Protocol { url: self.url.clone(), reason: error.to_string() })
    }
}

impl RawPage {
    /// Reads the items.
    ///
    /// # Errors
    /// When one does not have the shape expected.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Vec<T>, CliError> {
        let read = |item: &RawValue| serde_json::from_str(item.get());
        self.items
            .iter()
            .map(|item| read(item))
            .collect::<Result<_, _>>()
            .map_err(|error| CliError::Protocol { url: "the node".to_owned(), reason: error.to_string() })
    }

    /// The page as one document of the API.
    pub fn to_json(&self) -> Box<RawValue> {
        let items: Vec<&str> = self.items.iter().map(|item| item.get()).collect();
        let cursor = serde_json::to_string(&self.next_cursor).expect("texts are JSON");
        let text = format!("{{\"items\":[{}],\"next_cursor\":{cursor}}}", items.join(","));
        RawValue::from_string(text).expect("made of JSON")
    }
}

async fn failure(response: reqwest::Response) -> CliError {
    let (status, url) = (response.status(), response.url().to_string());
    let bytes = response.bytes().await.unwrap_or_default();
    match serde_json::from_slice::<Failure>(&bytes) {
        Ok(Failure { error: FailureDetail { code, message, details } }) => {
            CliError::Api(ApiFailure { status: status.as_u16(), code, message, details })
        }
        Err(_) => unknown_failure(status, url),
    }
}

fn unknown_failure(status: StatusCode, url: String) -> CliError {
    CliError::Protocol { url, reason: format!("status {status} without an error that Cairn writes") }
}

/// Cuts a stream of bytes into lines, without their ends. Empty lines are left out.
pub fn lines<S, E>(stream: S, url: String) -> impl Stream<Item = Result<Bytes, CliError>> + Unpin
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<StreamError>,
{
    struct State<S> {
        stream: S,
        buffer: bytes::BytesMut,
        searched: usize,
        url: String,
        ended: bool,
    }
    let state = State { stream, buffer: bytes::BytesMut::new(), searched: 0, url, ended: false };
    let lines = futures::stream::try_unfold(state, |mut state| async move {
        loop {
            if let Some(end) = state.buffer[state.searched..].iter().position(|byte| *byte == b'\n') {
                let mut line = state.buffer.split_to(state.searched + end + 1).freeze();
                state.searched = 0;
                line.truncate(line.trim_ascii_end().len());
                if line.is_empty() {
                    continue;
                }
                return Ok(Some((line, state)));
            }
            state.searched = state.buffer.len();
            if state.ended {
                let rest = state.buffer.split().freeze();
                state.searched = 0;
                return Ok((!rest.is_empty()).then_some((rest, state)));
            }
            match state.stream.next().await {
                Some(chunk) => state.buffer.extend_from_slice(&chunk.map_err(|error| error.into().0)?),
                None => state.ended = true,
            }
            if state.buffer.len() > MAX_LINE_BYTES {
                let reason = format!("a line is longer than {MAX_LINE_BYTES} bytes");
                return Err(CliError::Protocol { url: state.url, reason });
            }
        }
    });
    Box::pin(lines)
}

/// What breaks a stream.
pub struct StreamError(CliError);

impl From<reqwest::Error> for StreamError {
    fn from(source: reqwest::Error) -> Self {
        Self(CliError::Broken { source })
    }
}

impl From<std::convert::Infallible> for StreamError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    async fn cut(chunks: &[&str]) -> Vec<String> {
        let chunks: Vec<Result<Bytes, Infallible>> =
            chunks.iter().map(|chunk| Ok(Bytes::copy_from_slice(chunk.as_bytes()))).collect();
        let lines = lines(futures::stream::iter(chunks), String::new());
        lines.map(|line| String::from_utf8_lossy(&line.expect("line")).into_owned()).collect().await
    }

    #[tokio::test]
    async fn lines_do_not_depend_on_how_the_bytes_arrive() {
        let expected = vec!["{\"a\":1}", "{\"b\":2}", "last"];
        assert_eq!(cut(&["{\"a\":1}\n{\"b\":2}\r\n\nlast"]).await, expected);
        assert_eq!(cut(&["{\"a\"", ":1}", "\n", "{\"b\":2}\r", "\n\n", "la", "st"]).await, expected);
        assert_eq!(cut(&[]).await, Vec::<String>::new());
    }
}
