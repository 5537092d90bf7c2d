//! The port that turns texts into vectors, and its two implementations.

mod http;
mod static_model;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub use http::{HttpEmbedder, HttpEmbedderConfig};
pub use static_model::StaticEmbedder;

/// Turns texts into vectors of one space.
///
/// Invariants, which the conformance test checks: there is one vector for each text, in the order of
/// the texts; every vector has [`Embedder::dimensions`] finite numbers; the same text gives the same
/// vector however it is batched; no texts give no vectors. A text without any word the model knows
/// may give the zero vector, which is near nothing.
#[async_trait]
pub trait Embedder: fmt::Debug + Send + Sync {
    /// One vector for each text.
    ///
    /// # Errors
    /// When the model cannot be reached or does not answer as it should; the text says what to do.
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError>;

    /// How many numbers a vector has.
    fn dimensions(&self) -> usize;

    /// The name of the vector space. Vectors of different names cannot be compared, so an index
    /// written under one name is refused under another.
    fn model(&self) -> &str;
}

/// Why texts could not be embedded.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The configuration cannot work.
    #[error("the embedding endpoint is not configured rightly: {0}")]
    Config(String),
    /// Nobody answered, or not in time.
    #[error(
        "the embedding endpoint {url} cannot be reached after {attempts} attempts; check that it runs and that its URL is right"
    )]
    Unreachable {
        /// Where, without credentials.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// What went wrong last.
        source: reqwest::Error,
    },
    /// It answered that it is overloaded or broken, until the attempts ran out.
    #[error(
        "the embedding endpoint {url} answered {status} to {attempts} attempts; wait, or lower the rate it is asked at"
    )]
    Overloaded {
        /// Where, without credentials.
        url: String,
        /// The last status.
        status: u16,
        /// How often it was tried.
        attempts: u32,
    },
    /// It refused, and would again.
    #[error("the embedding endpoint {url} answered {status}; {hint}")]
    Refused {
        /// Where, without credentials.
        url: String,
        /// The status.
        status: u16,
        /// What to do about it.
        hint: &'static str,
    },
    /// It answered something else than vectors.
    #[error("the embedding endpoint {url} does not answer like an OpenAI-compatible one: {reason}")]
    Answer {
        /// Where, without credentials.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The vectors have another size than the index expects.
    #[error(
        "the model {model} gives vectors of {found} numbers where {expected} were configured; set the dimensions to {found} and rebuild the search index"
    )]
    Dimensions {
        /// The model.
        model: String,
        /// What was configured.
        expected: usize,
        /// What came.
        found: usize,
    },
    /// The thread that embeds went away, which happens when the process shuts down.
    #[error("embedding was interrupted by the shutdown of the process")]
    Interrupted,
}

/// How long one request to an embedding endpoint may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The most texts sent to an embedding endpoint in one request.
pub const REQUEST_TEXTS: usize = 64;

/// How often a request is tried before its failure is reported.
pub const REQUEST_ATTEMPTS: u32 = 4;

/// The pause before the second attempt; it doubles with each further one.
pub const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause between attempts, even when the endpoint asks for a longer one.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The largest answer that is read, in bytes: 64 vectors of 4,096 numbers need about 6 MB.
pub const ANSWER_BYTES: usize = 32 * 1024 * 1024;
