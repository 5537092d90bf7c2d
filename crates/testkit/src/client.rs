//! A small HTTP client that knows the envelope of the node's answers.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

/// How long a test waits for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Speaks to one node as one principal.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// An answer of the node.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The content type.
    pub content_type: String,
    /// The body as it came.
    pub text: String,
    /// The body as JSON; null when it is not JSON.
    pub body: Value,
}

impl Client {
    /// A client of the node at `base`, with a token or without.
    ///
    /// # Panics
    /// When the platform cannot make one.
    pub fn new(base: &str, token: Option<&str>) -> Self {
        let http = reqwest::Client::builder()
            .timeout(ANSWER_TIMEOUT)
            .no_proxy()
            .build()
            .expect("a client without certificates of its own can be made");
        Self { http, base: base.trim_end_matches('/').to_owned(), token: token.map(str::to_owned) }
    }

    /// The same client as another principal.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The token it speaks with.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// A request to a path of the node, with the token, to be finished by hand.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When the node does not answer: it is not there, or was killed meanwhile.
    pub async fn send(&self, request: RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let content_type = response
            .headers()
            .get(reqwest::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, content_type, text, body })
    }

    /// Asks for a path, as [`Client::get`] does, but leaves a silent node to the caller.
    ///
    /// # Errors
    /// See [`Client::send`].
    pub async fn try_get(&self, path: &str) -> reqwest::Result<Answer> {
        self.send(self.request(Method::GET, path)).await
    }

    /// Posts JSON, as [`Client::post`] does, but leaves a silent node to the caller.
    ///
    /// # Errors
    /// See [`Client::send`].
    pub async fn try_post(&self, path: &str, body: &Value) -> reqwest::Result<Answer> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// `GET`.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn get(&self, path: &str) -> Answer {
        self.must(self.request(Method::GET, path)).await
    }

    /// `POST` with a JSON body.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.must(self.request(Method::POST, path).json(&body)).await
    }

    /// `PATCH` with a JSON body.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.must(self.request(Method::PATCH, path).json(&body)).await
    }

    /// `DELETE`.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn delete(&self, path: &str) -> Answer {
        self.must(self.request(Method::DELETE, path)).await
    }

    async fn must(&self, request: RequestBuilder) -> Answer {
        self.send(request).await.unwrap_or_else(|error| panic!("the node at {} is silent: {error:?}", self.base))
    }
}

impl Answer {
    /// The data of a success, after making sure that it has this status.
    ///
    /// # Panics
    /// When the status or the envelope is another.
    #[track_caller]
    pub fn data(&self, status: u16) -> &Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.body["success"], Value::Bool(true), "{}", self.text);
        assert!(self.body["meta"]["request_id"].is_string(), "{}", self.text);
        &self.body["data"]
    }

    /// The data of a success of any 2xx status.
    ///
    /// # Panics
    /// When it is an error.
    #[track_caller]
    pub fn ok(&self) -> &Value {
        let status = StatusCode::from_u16(self.status).expect("a status that reqwest has read");
        assert!(status.is_success(), "{}: {}", self.status, self.text);
        self.data(self.status)
    }

    /// The items of a list.
    ///
    /// # Panics
    /// When it is an error or not a list.
    #[track_caller]
    pub fn items(&self) -> &[Value] {
        let data = self.data(200);
        let items = if data.is_array() { data } else { &data["items"] };
        items.as_array().unwrap_or_else(|| panic!("no list: {}", self.text))
    }

    /// The stable code of an error, after making sure that it has this status and says something.
    ///
    /// # Panics
    /// When the status or the envelope is another.
    #[track_caller]
    pub fn code(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.body["success"], Value::Bool(false), "{}", self.text);
        let message = self.body["error"]["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "an error says what to do: {}", self.text);
        self.body["error"]["code"].as_str().unwrap_or_else(|| panic!("no code: {}", self.text))
    }

    /// The position from which reads see what this answer tells.
    ///
    /// # Panics
    /// When the answer has none.
    #[track_caller]
    pub fn position(&self) -> u64 {
        let position = self.body["data"]["position"].as_u64().or_else(|| self.body["meta"]["position"].as_u64());
        position.unwrap_or_else(|| panic!("no position: {}", self.text))
    }
}
