//! Any endpoint that speaks OpenAI's `/embeddings`.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};

use super::{
    ANSWER_BYTES, EmbedError, Embedder, FIRST_PAUSE, LONGEST_PAUSE, REQUEST_ATTEMPTS, REQUEST_TEXTS,
    REQUEST_TIMEOUT,
};

/// How to reach an embedding endpoint. Its `Debug` never shows the key.
#[derive(Clone)]
pub struct HttpEmbedderConfig {
    /// The whole URL, such as `http://localhost:11434/v1/embeddings`.
    pub url: String,
    /// The model to ask for.
    pub model: String,
    /// Sent as a bearer token, if there is one.
    pub api_key: Option<String>,
    /// How many numbers its vectors have; asked from the endpoint when unknown.
    pub dimensions: Option<usize>,
}

impl fmt::Debug for HttpEmbedderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = Url::parse(&self.url).map_or_else(|_| "invalid".to_owned(), |url| shown(&url));
        f.debug_struct("HttpEmbedderConfig")
            .field("url", &url)
            .field("model", &self.model)
            .field("api_key", &self.api_key.as_ref().map(|_| "hidden"))
            .field("dimensions", &self.dimensions)
            .finish()
    }
}

/// An embedder behind an OpenAI-compatible `/embeddings` URL.
pub struct HttpEmbedder {
    client: Client,
    url: Url,
    requested: String,
    authorization: Option<HeaderValue>,
    /// Names the vector space.
    model: String,
    dimensions: usize,
}

impl fmt::Debug for HttpEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpEmbedder")
            .field("url", &shown(&self.url))
            .field("model", &self.requested)
            .field("dimensions", &self.dimensions)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [String],
    encoding_format: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    embedding: Vec<f32>,
}

impl HttpEmbedder {
    /// Prepares to ask the endpoint. It is contacted only when the dimensions are unknown.
    ///
    /// # Errors
    /// When the URL or the key cannot be used, or the dimensions are unknown and nobody answers.
    pub async fn connect(config: HttpEmbedderConfig) -> Result<Self, EmbedError> {
        let mut url = Url::parse(&config.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| EmbedError::Config("the URL must be a whole http or https one".to_owned()))?;
        if config.model.trim().is_empty() {
            return Err(EmbedError::Config("the model's name is empty".to_owned()));
        }
        if config.api_key.is_some() {
            // A user in the URL would be sent as a second kind of authorization. Neither call can fail:
            // the URL has a host.
            let _ = url.set_username("");
            let _ = url.set_password(None);
        }
        let client = Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(|error| EmbedError::Config(error.to_string()))?;
        let mut embedder = Self {
            client,
            authorization: config.api_key.as_deref().map(bearer).transpose()?,
            // The host belongs to the name because two servers may serve different weights under one name.
            model: format!("{} at {}", config.model, url.host_str().unwrap_or_default()),
            url,
            requested: config.model,
            dimensions: config.dimensions.unwrap_or_default(),
        };
        if embedder.dimensions == 0 {
            embedder.dimensions = embedder.probe().await?;
        }
        Ok(embedder)
    }

    async fn probe(&self) -> Result<usize, EmbedError> {
        let vectors = self.request(&["How long is a vector?".to_owned()]).await?;
        match vectors.first().map(Vec::len) {
            Some(dimensions) if dimensions > 0 => Ok(dimensions),
            _ => Err(self.odd("the vector is empty")),
        }
    }

    async fn request(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let last = attempts == REQUEST_ATTEMPTS;
            match self.send(texts).await {
                Ok(response) if response.status().is_success() => return self.read(response, texts.len()).await,
                Ok(response) if !passing(response.status()) => return Err(self.refused(response.status())),
                Ok(response) if last => {
                    let status = response.status().as_u16();
                    return Err(EmbedError::Overloaded { url: shown(&self.url), status, attempts });
                }
                Ok(response) => pause = asked_pause(&response).unwrap_or(pause),
                Err(error) if last => {
                    // The error's own text would repeat the URL, credentials included.
                    let source = error.without_url();
                    return Err(EmbedError::Unreachable { url: shown(&self.url), attempts, source });
                }
                Err(_) => {}
            }
            tracing::debug!(attempts, ?pause, "the embedding endpoint is asked again");
            tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
            pause = pause.saturating_mul(2);
        }
    }

    async fn send(&self, texts: &[String]) -> reqwest::Result<Response> {
        let body = Request { model: &self.requested, input: texts, encoding_format: "float" };
        let mut request = self.client.post(self.url.clone()).json(&body);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.send().await
    }

    async fn read(&self, mut response: Response, texts: usize) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut bytes = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|_| self.odd("the answer breaks off"))? {
            if bytes.len() + part.len() > ANSWER_BYTES {
                return Err(self.odd("the answer is larger than any batch of vectors"));
            }
            bytes.extend_from_slice(&part);
        }
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|_| self.odd("expected JSON with `data: [{index, embedding}]`"))?;
        let mut vectors = vec![Vec::new(); texts];
        for item in answer.data {
            let vector = vectors
                .get_mut(item.index)
                .filter(|vector| vector.is_empty())
                .ok_or_else(|| self.odd("the indexes do not match the texts"))?;
            *vector = item.embedding;
        }
        if vectors.iter().any(Vec::is_empty) {
            return Err(self.odd("there are fewer vectors than texts"));
        }
        Ok(vectors)
    }

    fn check(&self, vectors: &[Vec<f32>]) -> Result<(), EmbedError> {
        for vector in vectors {
            if vector.len() != self.dimensions {
                return Err(EmbedError::Dimensions {
                    model: self.requested.clone(),
                    expected: self.dimensions,
                    found: vector.len(),
                });
            }
            if !vector.iter().all(|number| number.is_finite()) {
                return Err(self.odd("a vector holds a number that is not finite"));
            }
        }
        Ok(())
    }

    fn refused(&self, status: StatusCode) -> EmbedError {
        let hint = match status.as_u16() {
            401 | 403 => "check the API key",
            404 => "check that the URL ends in /embeddings and that the model exists",
            400 | 413 | 422 => "check that the model takes texts of this length",
            _ => "check the URL and the model",
        };
        EmbedError::Refused { url: shown(&self.url), status: status.as_u16(), hint }
    }

    fn odd(&self, reason: &str) -> EmbedError {
        EmbedError::Answer { url: shown(&self.url), reason: reason.to_owned() }
    }
}

#[async_trait]
impl Embedder for HttpEmbedder {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(REQUEST_TEXTS) {
            vectors.extend(self.request(batch).await?);
        }
        self.check(&vectors)?;
        Ok(vectors)
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn model(&self) -> &str {
        &self.model
    }
}

/// Whether trying again may help.
fn passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

/// The pause the endpoint asks for, in whole seconds.
fn asked_pause(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn bearer(key: &str) -> Result<HeaderValue, EmbedError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
        .map_err(|_| EmbedError::Config("the API key holds characters no header may hold".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The URL as errors and logs may show it: without user, password and query, where keys hide.
fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}
