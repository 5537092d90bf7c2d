//! The search index: every chunk's vectors with what is filtered by and shown, in one folder or on a server.

mod engine;
mod error;
mod filter;
mod folder;
mod layout;
mod points;
mod room;
mod search;
mod server;
mod shard;
mod wal;
mod write;

use std::path::Path;
use std::sync::Arc;

use qdrant_edge::bm25_embed::{EdgeBm25, EdgeBm25Config};
use qdrant_edge::external::ordered_float::NotNan;
use qdrant_edge::{SparseVector, TokenizerType};
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore};
use uuid::Uuid;

use crate::background::Worker;
use crate::embedder::Embedder;
use crate::words;
use engine::Engine;
use folder::Folder;
use layout::{FORMAT, Identity};

pub use error::SearchError;
pub use room::LEAST_ROOM;
pub use search::{Candidate, Candidates};
pub use server::{
    ApiKey, Checkpoint, Collection, DELETE_POINTS, MESSAGE_BYTES, SEARCHES, Server, Settings, Timeouts,
    UPSERT_BYTES, UPSERT_POINTS,
};

/// How many points may lie outside of the vector graphs before [`SearchIndex::optimize`] has
/// something to do. Each is compared with every query: 20,000 of 256 dimensions take about 2 ms.
pub const UNINDEXED_POINTS: usize = 20_000;

/// How many results each side is asked for at first; more when too few memories come of them.
pub const DEPTH: usize = 50;

/// The most results each side is ever asked for.
pub const MAX_DEPTH: usize = 2_000;

/// How many texts are embedded at once while documents are applied.
pub const EMBED_TEXTS: usize = 512;

/// How many points are written to the engine in a folder in one operation.
pub const WRITE_POINTS: usize = 128;

/// How many points the digest reads at once.
const DIGEST_POINTS: usize = 1_000;

/// How long a chunk is on average, in words that count, which BM25 measures lengths against.
const AVERAGE_WORDS: f64 = 60.0;

/// How much the index holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Memories.
    pub memories: usize,
    /// Chunks of theirs.
    pub points: usize,
    /// Chunks outside of the vector graphs, which every query is compared with one by one.
    pub unindexed: usize,
    /// Parts the engine keeps them in.
    pub segments: usize,
}

/// The index. Cloning it is cheap and gives another handle to the same one.
///
/// Any number of tasks may search at once, also while documents are applied, flushed or optimised.
/// Changes are applied one batch after the other, in the order of the calls.
#[derive(Debug, Clone)]
pub struct SearchIndex {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    embedder: Arc<dyn Embedder>,
    bm25: EdgeBm25,
    /// Works on what is applied.
    writer: Arc<Worker>,
    /// Keeps batches of changes apart and in order.
    applying: Mutex<()>,
    searching: Semaphore,
}

impl SearchIndex {
    /// Opens the index in a folder of its own, making it if there is none.
    ///
    /// # Errors
    /// When the folder was written with another model or by another version, is damaged, is in use
    /// or holds something else.
    pub async fn open(folder: &Path, embedder: Arc<dyn Embedder>) -> Result<Self, SearchError> {
        let writer = writer()?;
        let folder = Folder::open(folder, identity(&*embedder), Arc::clone(&writer)).await?;
        Ok(Self::new(Engine::Folder(folder), embedder, writer))
    }

    /// Opens a generation of the index on a server, making its collection if there is none. A collection that was not
    /// finished, because whoever made it was stopped, is finished.
    ///
    /// One process at a time may write to a generation; the server does not see to it.
    ///
    /// # Errors
    /// When the server cannot be had, or the collection was made with another model or by another version.
    pub async fn connect(
        server: &Server,
        generation: u64,
        embedder: Arc<dyn Embedder>,
    ) -> Result<Self, SearchError> {
        let collection = Collection::open(server, generation, identity(&*embedder)).await?;
        Ok(Self::new(Engine::Collection(Box::new(collection)), embedder, writer()?))
    }

    /// Opens the generation that serves, for searching: every question goes through the alias, so a later generation
    /// answers as soon as it serves. `None` when none serves yet.
    ///
    /// Open it again from time to time: a later generation made with another model is noticed only then.
    ///
    /// # Errors
    /// As [`SearchIndex::connect`].
    pub async fn connect_serving(
        server: &Server,
        embedder: Arc<dyn Embedder>,
    ) -> Result<Option<Self>, SearchError> {
        let Some(collection) = Collection::open_serving(server, identity(&*embedder)).await? else {
            return Ok(None);
        };
        Ok(Some(Self::new(Engine::Collection(Box::new(collection)), embedder, writer()?)))
    }

    fn new(engine: Engine, embedder: Arc<dyn Embedder>, writer: Arc<Worker>) -> Self {
        let searching = Semaphore::new(engine.searches());
        let inner = Inner { engine, embedder, bm25: bm25(), writer, applying: Mutex::new(()), searching };
        Self { inner: Arc::new(inner) }
    }

    /// The collection that holds the index, which also keeps its checkpoint; `None` for an index in a folder.
    pub fn collection(&self) -> Option<&Collection> {
        match &self.inner.engine {
            Engine::Folder(_) => None,
            Engine::Collection(collection) => Some(collection),
        }
    }

    /// Makes every change applied so far durable. Move a checkpoint only after it. On a server they are by the time
    /// [`SearchIndex::apply`] returns.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub async fn flush(&self) -> Result<(), SearchError> {
        self.inner.engine.flush().await
    }

    /// Builds vector graphs for what was written since, if more than [`UNINDEXED_POINTS`] chunks wait
    /// or much was deleted; says whether it did. Searches and changes go on meanwhile. One runs at a
    /// time: while one does, further calls return at once.
    ///
    /// It runs on a thread of its own that the end of the process does not wait for; dropping the
    /// future lets it finish in the background. Half a graph is never used.
    ///
    /// A server does so by itself, by the same threshold; there it has nothing to do.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub async fn optimize(&self) -> Result<bool, SearchError> {
        self.inner.engine.optimize().await
    }

    /// Whether the index in a folder is being optimised or purged just now.
    pub fn is_busy(&self) -> bool {
        self.inner.engine.is_busy()
    }

    /// Whether files still hold something that was erased; [`SearchIndex::purge`] takes it out. Never for an index on
    /// a server, whose files are out of reach.
    pub fn purge_due(&self) -> bool {
        self.inner.engine.purge_due()
    }

    /// Takes what was erased out of every file, if there is any: deleting alone leaves the bytes where they are. Every
    /// part of the index that held some is written anew, which takes as long as optimising it. As with
    /// [`SearchIndex::optimize`], searches and changes go on meanwhile, and one of the two runs at a time.
    ///
    /// On a server it does nothing. What was erased cannot be found or read there any more, but its bytes stay in the
    /// server's files until its vacuum happens to rewrite the segment (by default once a fifth of at least 1,000
    /// points is deleted) and its log goes on. What takes them out for certain is another generation: build it, have
    /// it serve, and delete the old one ([`Server::delete`]), which removes the collection's files.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub async fn purge(&self) -> Result<(), SearchError> {
        self.inner.engine.purge().await
    }

    /// How much the index holds.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn stats(&self) -> Result<Stats, SearchError> {
        self.inner.engine.stats().await
    }

    /// A digest of everything the index holds but for the vectors, as hexadecimal. Two builds of one
    /// log have the same, in whatever batches they were made, in a folder or on a server.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn digest(&self) -> Result<String, SearchError> {
        let mut hasher = blake3::Hasher::new();
        let mut from: Option<Uuid> = None;
        loop {
            let page = self.inner.engine.page(&[], true, from, DIGEST_POINTS).await?;
            for (id, payload) in page.points {
                // Sorted by name, because no engine promises an order.
                let stored: std::collections::BTreeMap<String, Value> = payload.into_iter().collect();
                let line = json!([id, stored]).to_string();
                hasher.update(&(line.len() as u64).to_be_bytes()).update(line.as_bytes());
            }
            from = page.next;
            if from.is_none() {
                return Ok(hasher.finalize().to_hex().to_string());
            }
        }
    }
}

impl Inner {
    /// The words of a query or of a piece of one, as BM25 numbers them.
    fn query_words(&self, text: &str) -> SparseVector {
        self.bm25.embed_query(&words::spaced(text))
    }
}

fn identity(embedder: &dyn Embedder) -> Identity {
    Identity { format: FORMAT, model: embedder.model().to_owned(), dimensions: embedder.dimensions() }
}

fn writer() -> Result<Arc<Worker>, SearchError> {
    let worker = Worker::start("search-index");
    worker.map(Arc::new).map_err(|source| SearchError::io(Path::new("a thread for the search index"), source))
}

/// BM25 as both engines compare by it: the weights are computed here, also for a server.
fn bm25() -> EdgeBm25 {
    let config = EdgeBm25Config {
        avg_len: NotNan::new(AVERAGE_WORDS).expect("the average is a number"),
        // Words as they stand, numbers included (the multilingual tokenizer drops those); `words`
        // sees to the languages without spaces.
        tokenizer: TokenizerType::Word,
        ascii_folding: Some(true),
        ..EdgeBm25Config::default()
    };
    EdgeBm25::new(config).expect("the settings of BM25 are in range")
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, SearchError> + Send + 'static,
) -> Result<T, SearchError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(SearchError::Stopped(doing)))
}
