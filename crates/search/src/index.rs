//! The search index: one folder that holds every chunk's vectors and what is filtered by and shown.

mod filter;
mod points;
mod room;
mod search;
mod shard;
mod wal;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use qdrant_edge::bm25_embed::{EdgeBm25, EdgeBm25Config};
use qdrant_edge::external::ordered_float::NotNan;
use qdrant_edge::{OperationError, PointId, SparseVector, TokenizerType};
use serde_json::json;
use tokio::sync::{Mutex, Semaphore};

use crate::background::{Worker, give_way};
use crate::embedder::{EmbedError, Embedder};
use crate::words;
use points::key;
use shard::{FORMAT, Identity, Shard};

pub use room::LEAST_ROOM;
pub use search::{Candidate, Candidates};

/// How many points may lie outside of the vector graphs before [`SearchIndex::optimize`] has
/// something to do. Each is compared with every query: 20,000 of 256 dimensions take about 2 ms.
pub const UNINDEXED_POINTS: usize = 20_000;

/// How many results each side is asked for at first; more when too few memories come of them.
pub const DEPTH: usize = 50;

/// The most results each side is ever asked for.
pub const MAX_DEPTH: usize = 2_000;

/// How many texts are embedded at once while documents are applied.
pub const EMBED_TEXTS: usize = 512;

/// How many points are written to the engine in one operation.
pub const WRITE_POINTS: usize = 128;

/// How many points the digest reads at once.
const DIGEST_POINTS: usize = 1_000;

/// How long a chunk is on average, in words that count, which BM25 measures lengths against.
const AVERAGE_WORDS: f64 = 60.0;

/// Why the index cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The query itself is at fault.
    #[error("the query {0}")]
    Query(&'static str),
    /// The texts to index could not be embedded. (A query is answered by its words alone then.)
    #[error("the texts to index could not be embedded")]
    Embed(#[from] EmbedError),
    /// The folder was written with another model or by another version.
    #[error("the search index in {folder} was written with {found}, but {expected} is configured; rebuild it")]
    OtherIndex {
        /// The folder.
        folder: PathBuf,
        /// What wrote it.
        found: String,
        /// What is configured.
        expected: String,
    },
    /// The folder holds something else.
    #[error("{folder} holds files but no search index; choose an empty folder or a new one")]
    Foreign {
        /// The folder.
        folder: PathBuf,
    },
    /// Another process has it open.
    #[error("the search index in {folder} is in use by another process; stop that one first")]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder is damaged.
    #[error("the search index in {folder} is damaged ({reason}); rebuild it, nothing else is lost")]
    Corrupt {
        /// The folder.
        folder: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The folder cannot be read or written.
    #[error("{path} cannot be read or written")]
    Io {
        /// Where.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The disk is nearly full. What is in the index can still be searched.
    #[error(
        "the search index in {folder} needs {needed} bytes of free room but there are {free}; make room, then it catches up"
    )]
    NoRoom {
        /// The folder.
        folder: PathBuf,
        /// What there is, in bytes.
        free: u64,
        /// What it takes, in bytes.
        needed: u64,
    },
    /// What was written could not be made durable.
    #[error("the search index in {folder} could not be flushed ({reason}); check that the disk has room")]
    Flush {
        /// The folder.
        folder: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The engine failed.
    #[error("the search engine failed while {doing}")]
    Engine {
        /// What it was doing.
        doing: &'static str,
        /// What it said.
        source: Box<OperationError>,
    },
    /// The engine panicked, or the process shuts down.
    #[error("the search engine stopped while {0}")]
    Stopped(&'static str),
}

impl SearchError {
    fn engine(doing: &'static str, error: OperationError) -> Self {
        Self::Engine { doing, source: Box::new(error) }
    }

    fn corrupt(folder: &Path, reason: &str) -> Self {
        Self::Corrupt { folder: folder.to_owned(), reason: reason.chars().take(300).collect() }
    }

    fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

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
    shard: Shard,
    embedder: Arc<dyn Embedder>,
    bm25: EdgeBm25,
    /// Writes what is applied.
    writer: Worker,
    /// Keeps batches of changes apart and in order.
    applying: Mutex<()>,
    optimizing: AtomicBool,
    /// How often something was erased since the index was opened.
    erasures: AtomicU64,
    /// As many searches run at once as there are processors; more would only slow each other down.
    searching: Semaphore,
}

impl SearchIndex {
    /// Opens the index in a folder of its own, making it if there is none.
    ///
    /// # Errors
    /// When the folder was written with another model or by another version, is damaged, is in use
    /// or holds something else.
    pub async fn open(folder: &Path, embedder: Arc<dyn Embedder>) -> Result<Self, SearchError> {
        let identity =
            Identity { format: FORMAT, model: embedder.model().to_owned(), dimensions: embedder.dimensions() };
        let folder = folder.to_owned();
        let shard = blocking("opening the index", move || Shard::open(&folder, &identity)).await?;
        let config = EdgeBm25Config {
            avg_len: NotNan::new(AVERAGE_WORDS).expect("the average is a number"),
            // Words as they stand, numbers included (the multilingual tokenizer drops those); `words`
            // sees to the languages without spaces.
            tokenizer: TokenizerType::Word,
            ascii_folding: Some(true),
            ..EdgeBm25Config::default()
        };
        let writer = Worker::start("search-index")
            .map_err(|source| SearchError::io(Path::new("a thread for the search index"), source))?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            inner: Arc::new(Inner {
                shard,
                embedder,
                bm25: EdgeBm25::new(config).expect("the settings of BM25 are in range"),
                writer,
                applying: Mutex::new(()),
                optimizing: AtomicBool::new(false),
                erasures: AtomicU64::new(0),
                searching: Semaphore::new(processors),
            }),
        })
    }

    /// Makes every change applied so far durable. Move a checkpoint only after it.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub async fn flush(&self) -> Result<(), SearchError> {
        let inner = Arc::clone(&self.inner);
        blocking("flushing", move || inner.shard.flush()).await
    }

    /// Builds vector graphs for what was written since, if more than [`UNINDEXED_POINTS`] chunks wait
    /// or much was deleted; says whether it did. Searches and changes go on meanwhile. One runs at a
    /// time: while one does, further calls return at once.
    ///
    /// It runs on a thread of its own that the end of the process does not wait for; dropping the
    /// future lets it finish in the background. Half a graph is never used.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub async fn optimize(&self) -> Result<bool, SearchError> {
        Ok(self.in_background(|inner| inner.shard.optimize()).await?.unwrap_or(false))
    }

    /// Whether the index is being optimised or purged just now.
    pub fn is_busy(&self) -> bool {
        self.inner.optimizing.load(Ordering::Acquire)
    }

    /// Whether files still hold something that was erased; [`SearchIndex::purge`] takes it out.
    pub fn purge_due(&self) -> bool {
        self.inner.shard.purge_due()
    }

    /// Takes what was erased out of every file, if there is any: deleting alone leaves the bytes where they are. Every
    /// part of the index that held some is written anew, which takes as long as optimising it. As with
    /// [`SearchIndex::optimize`], searches and changes go on meanwhile, and one of the two runs at a time.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub async fn purge(&self) -> Result<(), SearchError> {
        if self.purge_due() {
            self.in_background(Inner::purge).await?;
        }
        Ok(())
    }

    /// Does what takes long on a thread of its own; `None` when another such work is under way.
    async fn in_background<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, SearchError> + Send + 'static,
    ) -> Result<Option<T>, SearchError> {
        if self.inner.optimizing.swap(true, Ordering::AcqRel) {
            return Ok(None);
        }
        let inner = Arc::clone(&self.inner);
        let (done, result) = tokio::sync::oneshot::channel();
        let spawned = std::thread::Builder::new().name("search-optimize".to_owned()).spawn(move || {
            give_way();
            let running = Optimizing(&inner.optimizing);
            let result = work(&inner);
            drop(running);
            // Nobody may be waiting any more, which is fine.
            let _ = done.send(result);
        });
        if let Err(source) = spawned {
            self.inner.optimizing.store(false, Ordering::Release);
            return Err(SearchError::io(Path::new("a thread for the optimisation"), source));
        }
        result.await.map_err(|_| SearchError::Stopped("optimising"))?.map(Some)
    }

    /// How much the index holds.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn stats(&self) -> Result<Stats, SearchError> {
        let inner = Arc::clone(&self.inner);
        blocking("counting", move || {
            let failed = |error| SearchError::engine("counting", error);
            let first = json!({ "must": [{ "key": key::ORDINAL, "match": { "value": 0 } }] });
            let first = serde_json::from_value(first).expect("the filter is one the engine knows");
            let (segments, unindexed) = inner.shard.segments();
            Ok(Stats {
                memories: inner.shard.count(Some(first)).map_err(failed)?,
                points: inner.shard.count(None).map_err(failed)?,
                unindexed,
                segments,
            })
        })
        .await
    }

    /// A digest of everything the index holds but for the vectors, as hexadecimal. Two builds of one
    /// log have the same, in whatever batches they were made.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn digest(&self) -> Result<String, SearchError> {
        let inner = Arc::clone(&self.inner);
        blocking("reading the index", move || inner.digest()).await
    }
}

impl Inner {
    fn purge(&self) -> Result<(), SearchError> {
        let before = {
            // What a batch is about to delete would be missed and yet counted.
            let _applying = self.applying.blocking_lock();
            self.erasures.load(Ordering::Acquire)
        };
        self.shard.purge()?;
        // No batch is being written while the note is taken away, or what it erases would go unnoted.
        let _applying = self.applying.blocking_lock();
        if self.erasures.load(Ordering::Acquire) == before { self.shard.purged() } else { Ok(()) }
    }

    /// The words of a query or of a piece of one, as BM25 numbers them.
    fn query_words(&self, text: &str) -> SparseVector {
        self.bm25.embed_query(&words::spaced(text))
    }

    fn digest(&self) -> Result<String, SearchError> {
        let mut hasher = blake3::Hasher::new();
        let mut offset: Option<PointId> = None;
        loop {
            let (records, next) = self
                .shard
                .scroll(None, true, offset, DIGEST_POINTS)
                .map_err(|error| SearchError::engine("reading the index", error))?;
            for record in records {
                // Sorted by name, because the engine promises no order.
                let stored: std::collections::BTreeMap<_, _> =
                    record.payload.unwrap_or_default().0.into_iter().collect();
                let line = json!([record.id, stored]).to_string();
                hasher.update(&(line.len() as u64).to_be_bytes()).update(line.as_bytes());
            }
            offset = next;
            if offset.is_none() {
                return Ok(hasher.finalize().to_hex().to_string());
            }
        }
    }
}

/// Notes that the optimisation ended, also when it panicked.
struct Optimizing<'a>(&'a AtomicBool);

impl Drop for Optimizing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, SearchError> + Send + 'static,
) -> Result<T, SearchError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(SearchError::Stopped(doing)))
}
