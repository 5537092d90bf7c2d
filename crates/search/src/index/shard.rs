//! The engine: one embedded Qdrant shard in one folder, with what it leaves to its host.

use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use qdrant_edge::{
    CountRequest, CreateIndex, Distance, EdgeConfig, EdgeOptimizersConfig, EdgeShard, EdgeSparseVectorParams,
    EdgeVectorParams, FieldIndexOperations, Filter, HnswIndexConfig, Modifier, NamedQuery, OperationResult,
    PointId, PointInsertOperations, PointOperations, PointStructPersisted, QueryEnum, Record, ScoredPoint,
    ScrollRequest, SearchRequest, UpdateOperation, VectorInternal, VectorStorageDatatype, WalOptions,
    WithPayloadInterface,
};
use serde_json::json;
use uuid::Uuid;

use super::layout::{BM25, DENSE, FIELDS, FieldIndex, Identity, indexing_threshold};
use super::{SearchError, room, wal};

const IDENTITY_FILE: &str = "cairn-index.json";
const LOCK_FILE: &str = "cairn-index.lock";
/// It is there while files may hold what was erased.
const PURGE_FILE: &str = "cairn-index.purge";

/// How many ids of no point one operation that does nothing names: at least 320 kB of the engine's own log.
const NOBODY: u128 = 20_000;
/// After so many of these operations, four times what it takes, a file of that log should have been full.
const FILLING_OPERATIONS: usize = 100;

/// The size of a file of the engine's own log, in bytes. The open one is mapped into memory.
const WAL_FILE_BYTES: usize = 8 * 1024 * 1024;

/// How often a flush is tried while the engine swaps a segment, and the pause between. The swap
/// takes milliseconds.
const FLUSH_ATTEMPTS: u32 = 50;
const FLUSH_PAUSE: Duration = Duration::from_millis(5);

/// The engine, held so that its panics stay with the caller that caused them.
#[derive(Debug)]
pub(super) struct Shard {
    /// Taken only by `Drop`.
    engine: Option<EdgeShard>,
    /// Held while anything is written or flushed: the engine panics when both happen at once.
    writing: Mutex<()>,
    folder: PathBuf,
    /// Keeps other processes out of the folder; released when dropped, after the engine.
    _lock: File,
}

impl Shard {
    /// Opens the folder, or makes it if there is none or an empty one.
    pub(super) fn open(folder: &Path, identity: &Identity) -> Result<Self, SearchError> {
        if is_vacant(folder).map_err(|source| SearchError::io(folder, source))? {
            create(folder, identity)?;
        }
        let lock = lock(folder)?;
        let found = read_identity(folder)?;
        if found != *identity {
            return Err(SearchError::OtherIndex {
                folder: folder.to_owned(),
                found: format!("{found}"),
                expected: format!("{identity}"),
            });
        }
        wal::delete_old(folder).map_err(|source| SearchError::io(folder, source))?;
        // A damaged folder may make the engine panic as well as fail; both mean to rebuild.
        let config = config(identity.dimensions);
        let engine = catch_unwind(|| EdgeShard::load(folder, Some(config)))
            .map_err(|panic| SearchError::corrupt(folder, &panic_text(&*panic)))?
            .map_err(|error| SearchError::corrupt(folder, &error.to_string()))?;
        Ok(Self { engine: Some(engine), writing: Mutex::new(()), folder: folder.to_owned(), _lock: lock })
    }

    fn engine(&self) -> &EdgeShard {
        self.engine.as_ref().expect("the engine is there until the shard is dropped")
    }

    pub(super) fn upsert(&self, points: Vec<PointStructPersisted>) -> OperationResult<()> {
        self.update(PointOperations::UpsertPoints(PointInsertOperations::PointsList(points)))
    }

    pub(super) fn delete(&self, ids: Vec<PointId>) -> OperationResult<()> {
        self.update(PointOperations::DeletePoints { ids })
    }

    fn update(&self, operation: PointOperations) -> OperationResult<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.engine().update(UpdateOperation::PointOperation(operation))
    }

    /// The points nearest to a vector, best first, with what is stored beside them.
    pub(super) fn nearest(
        &self,
        using: &str,
        vector: VectorInternal,
        filter: Option<Filter>,
        limit: usize,
    ) -> OperationResult<Vec<ScoredPoint>> {
        self.engine().search(SearchRequest {
            query: QueryEnum::Nearest(NamedQuery { query: vector, using: Some(using.into()) }),
            filter,
            params: None,
            limit,
            offset: 0,
            with_payload: Some(WithPayloadInterface::Bool(true)),
            with_vector: None,
            score_threshold: None,
        })
    }

    /// A page of points in the order of their ids, and where the next page starts.
    pub(super) fn scroll(
        &self,
        filter: Option<Filter>,
        payload: bool,
        offset: Option<PointId>,
        limit: usize,
    ) -> OperationResult<(Vec<Record>, Option<PointId>)> {
        self.engine().scroll(ScrollRequest {
            offset,
            limit: Some(limit),
            filter,
            with_payload: Some(WithPayloadInterface::Bool(payload)),
            with_vector: false.into(),
            order_by: None,
        })
    }

    pub(super) fn count(&self, filter: Option<Filter>) -> OperationResult<usize> {
        self.engine().count(CountRequest { filter, exact: true })
    }

    /// How many segments there are, and how many points are not in a vector graph yet.
    pub(super) fn segments(&self) -> (usize, usize) {
        let info = self.engine().info();
        // Every point counts as indexed once for its words, and again when it is in a graph.
        (info.segments_count, (info.points_count * 2).saturating_sub(info.indexed_vectors_count))
    }

    /// Makes everything written so far durable.
    pub(super) fn flush(&self) -> Result<(), SearchError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut attempts = 0;
        loop {
            attempts += 1;
            // The engine panics when the disk is full, and when an optimisation swaps segments just now.
            match catch_unwind(AssertUnwindSafe(|| self.engine().flush())) {
                Ok(()) => break,
                Err(panic) => {
                    let reason = panic_text(&*panic);
                    if attempts == FLUSH_ATTEMPTS || !reason.contains("lock acquired") {
                        return Err(SearchError::Flush { folder: self.folder.clone(), reason });
                    }
                }
            }
            std::thread::sleep(FLUSH_PAUSE);
        }
        wal::release_old(&self.folder);
        Ok(())
    }

    /// Builds the vector graphs that are due. Searches and writes go on meanwhile.
    pub(super) fn optimize(&self) -> Result<bool, SearchError> {
        room::for_optimization(&self.folder)?;
        self.engine().optimize().map_err(|error| SearchError::engine("optimising", error))
    }

    /// Notes, durably, that something is about to be erased: until [`Shard::purge`] is done, files still hold it.
    pub(super) fn note_erasure(&self) -> Result<(), SearchError> {
        let path = self.folder.join(PURGE_FILE);
        File::create(&path)
            .and_then(|file| file.sync_all())
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(|source| SearchError::io(&path, source))
    }

    /// Whether files still hold something that was erased.
    pub(super) fn purge_due(&self) -> bool {
        self.folder.join(PURGE_FILE).exists()
    }

    /// Takes what was deleted out of every file: the engine only marks points as deleted and lets their bytes be.
    /// Searches and writes go on meanwhile; what is deleted meanwhile may be left.
    pub(super) fn purge(&self) -> Result<(), SearchError> {
        room::for_optimization(&self.folder)?;
        self.rewrite_segments()?;
        self.retire_log()?;
        self.flush()
    }

    /// Has every segment written anew that holds deleted points.
    fn rewrite_segments(&self) -> Result<(), SearchError> {
        let failed = |error| SearchError::engine("erasing", error);
        let usual = self.engine().config().optimizers.clone();
        let eager = EdgeOptimizersConfig {
            deleted_threshold: Some(0.0),
            vacuum_min_vector_number: Some(0),
            ..usual.clone()
        };
        self.engine().set_optimizers_config(eager).map_err(failed)?;
        let rewritten = self.engine().optimize();
        self.engine().set_optimizers_config(usual).map_err(failed)?;
        rewritten.map(drop).map_err(failed)
    }

    /// Fills the engine's own log with operations that do nothing, until what was in it lies in files that the next
    /// flush gives back.
    fn retire_log(&self) -> Result<(), SearchError> {
        let newest = || wal::newest_closed(&self.folder).map_err(|source| SearchError::io(&self.folder, source));
        let nobody: Vec<PointId> = (1..=NOBODY).map(|number| PointId::Uuid(Uuid::from_u128(number))).collect();
        for _ in 0..2 {
            let before = newest()?;
            let mut operations = 0;
            while newest()? == before {
                if operations == FILLING_OPERATIONS {
                    return Err(SearchError::corrupt(&self.folder, "its own log does not go on to another file"));
                }
                self.delete(nobody.clone()).map_err(|error| SearchError::engine("erasing", error))?;
                operations += 1;
            }
        }
        Ok(())
    }

    /// Notes that nothing erased is left in any file.
    pub(super) fn purged(&self) -> Result<(), SearchError> {
        let path = self.folder.join(PURGE_FILE);
        fs::remove_file(&path).map_err(|source| SearchError::io(&path, source))
    }

    /// Checks that the disk has room for a batch.
    pub(super) fn has_room(&self) -> Result<(), SearchError> {
        room::for_batch(&self.folder)
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        let engine = self.engine.take();
        // Dropping the engine flushes it, and panics when it cannot. What is lost then was never
        // reported as durable.
        if catch_unwind(AssertUnwindSafe(|| drop(engine))).is_err() {
            tracing::warn!(folder = %self.folder.display(), "the search index could not be flushed while closing");
        }
    }
}

fn is_vacant(folder: &Path) -> io::Result<bool> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Makes the folder beside its place and moves it there, so that it is never seen half made.
fn create(folder: &Path, identity: &Identity) -> Result<(), SearchError> {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = folder.with_file_name(name);
    let io = |source| SearchError::io(&new, source);
    if new.exists() {
        fs::remove_dir_all(&new).map_err(io)?;
    }
    fs::create_dir_all(&new).map_err(io)?;
    room::for_batch(&new)?;
    let failed = |error: qdrant_edge::OperationError| SearchError::engine("making the index", error);
    let engine = EdgeShard::new(&new, config(identity.dimensions)).map_err(failed)?;
    for (name, index) in FIELDS {
        let operation = CreateIndex {
            field_name: name.parse().expect("the name of a stored value is a path"),
            field_schema: Some(serde_json::from_value(schema(index)).expect("the schema is one the engine knows")),
        };
        engine
            .update(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(operation)))
            .map_err(failed)?;
    }
    catch_unwind(AssertUnwindSafe(|| drop(engine)))
        .map_err(|panic| SearchError::Flush { folder: new.clone(), reason: panic_text(&*panic) })?;
    let identity = serde_json::to_vec(identity).expect("an identity is JSON");
    fs::write(new.join(IDENTITY_FILE), identity).map_err(io)?;
    File::create(new.join(LOCK_FILE)).map_err(io)?;
    if folder.exists() {
        fs::remove_dir(folder).map_err(|source| SearchError::io(folder, source))?;
    }
    fs::rename(&new, folder).map_err(|source| SearchError::io(folder, source))
}

fn lock(folder: &Path) -> Result<File, SearchError> {
    let path = folder.join(LOCK_FILE);
    let file = match File::options().write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(SearchError::Foreign { folder: folder.to_owned() });
        }
        Err(source) => return Err(SearchError::io(&path, source)),
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SearchError::InUse { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(SearchError::io(&path, source)),
    }
}

fn read_identity(folder: &Path) -> Result<Identity, SearchError> {
    let bytes =
        fs::read(folder.join(IDENTITY_FILE)).map_err(|_| SearchError::Foreign { folder: folder.to_owned() })?;
    serde_json::from_slice(&bytes).map_err(|error| SearchError::corrupt(folder, &error.to_string()))
}

/// How the shard is laid out.
fn config(dimensions: usize) -> EdgeConfig {
    EdgeConfig {
        on_disk_payload: true,
        vectors: [(
            DENSE.to_owned(),
            EdgeVectorParams {
                size: dimensions,
                distance: Distance::Cosine,
                // Mapped files: what searches touch stays in the page cache, the rest needs no memory.
                on_disk: Some(true),
                multivector_config: None,
                datatype: Some(VectorStorageDatatype::Float32),
                quantization_config: None,
                hnsw_config: None,
            },
        )]
        .into(),
        sparse_vectors: [(
            BM25.to_owned(),
            EdgeSparseVectorParams {
                full_scan_threshold: None,
                on_disk: Some(true),
                modifier: Some(Modifier::Idf),
                datatype: None,
            },
        )]
        .into(),
        hnsw_config: HnswIndexConfig { on_disk: Some(true), ..HnswIndexConfig::default() },
        quantization_config: None,
        optimizers: EdgeOptimizersConfig {
            indexing_threshold: Some(indexing_threshold(dimensions)),
            ..EdgeOptimizersConfig::default()
        },
        wal_options: Some(WalOptions { segment_capacity: WAL_FILE_BYTES, ..WalOptions::default() }),
    }
}

/// How a value's index is spelled.
fn schema(index: FieldIndex) -> serde_json::Value {
    match index {
        FieldIndex::Id => json!({ "type": "uuid", "enable_hnsw": false }),
        FieldIndex::Equal => json!({ "type": "integer", "lookup": true, "range": false, "enable_hnsw": false }),
        FieldIndex::Between => json!({ "type": "integer", "lookup": false, "range": true, "enable_hnsw": false }),
        FieldIndex::Word => json!({ "type": "keyword" }),
        FieldIndex::Flag => json!({ "type": "bool", "enable_hnsw": false }),
    }
}

/// What a panic said.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
        .unwrap_or_else(|| "the engine stopped without a reason".to_owned())
}
