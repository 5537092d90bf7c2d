//! What the tests of the index share.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use cairn_domain::id::{EventId, MemoryId};
use cairn_domain::kind::Kind;
use cairn_domain::truth::Truth;
use cairn_search::document::{Change, Document};
use cairn_search::embedder::{EmbedError, Embedder, StaticEmbedder};
use cairn_search::index::SearchIndex;
use cairn_search::query::{Answer, Filter, Query};
use chrono::{DateTime, Utc};
use uuid::Uuid;

pub fn memory(number: u128) -> MemoryId {
    MemoryId::new(Uuid::from_u128(number))
}

pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
}

pub fn document(number: u128, title: &str, body: &str) -> Document {
    Document {
        memory: memory(number),
        kind: Kind::Note,
        title: title.to_owned(),
        body: body.to_owned(),
        extra: String::new(),
        tags: Vec::new(),
        links: Vec::new(),
        truth: Truth::User,
        origin: "user:test".parse().unwrap(),
        event: EventId::new(Uuid::from_u128(number + 1_000_000)),
        created_at: at(0),
        updated_at: at(0),
        when: None,
        archived: false,
    }
}

pub fn put(document: Document) -> Change {
    Change::Put(Box::new(document))
}

pub fn query(text: &str) -> Query {
    Query { text: text.to_owned(), filter: Filter::default(), limit: 10 }
}

pub fn numbers(answer: &Answer) -> Vec<u128> {
    answer.hits.iter().map(|hit| hit.memory.uuid().as_u128()).collect()
}

/// What holds a word of the query, by number.
pub async fn found(index: &SearchIndex, text: &str) -> Vec<u128> {
    let answer = index.search(&query(text)).await.unwrap();
    answer.hits.iter().filter(|hit| hit.bm25.is_some()).map(|hit| hit.memory.uuid().as_u128()).collect()
}

/// A model that never answers.
#[derive(Debug)]
pub struct Broken;

#[async_trait]
impl Embedder for Broken {
    async fn embed(&self, _texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        Err(EmbedError::Interrupted)
    }

    fn dimensions(&self) -> usize {
        256
    }

    fn model(&self) -> &str {
        "another model"
    }
}

/// The default model, which can be told to fail.
#[derive(Debug, Default)]
pub struct Unsteady {
    model: StaticEmbedder,
    failing: AtomicBool,
}

impl Unsteady {
    pub fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }
}

#[async_trait]
impl Embedder for Unsteady {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        if self.failing.load(Ordering::SeqCst) {
            return Err(EmbedError::Interrupted);
        }
        self.model.embed(texts).await
    }

    fn dimensions(&self) -> usize {
        self.model.dimensions()
    }

    fn model(&self) -> &str {
        self.model.model()
    }
}
