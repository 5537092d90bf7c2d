//! The engine in a folder: its calls block, so each runs on a thread that may.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qdrant_edge::{
    Filter, PointId, PointStruct, PointStructPersisted, ScoredPoint, Vector, VectorInternal, Vectors,
};
use serde_json::Value;
use uuid::Uuid;

use super::engine::{Entry, Near, Page, Question, Sides};
use super::filter::{self, Condition, Test};
use super::layout::{BM25, DENSE, Identity};
use super::points::key;
use super::shard::Shard;
use super::{SearchError, Stats, WRITE_POINTS, blocking};
use crate::background::{Worker, give_way};

/// The points of an index in a folder of their own.
#[derive(Debug)]
pub(super) struct Folder {
    inner: Arc<Inner>,
    /// Writes, one batch after the other.
    writer: Arc<Worker>,
}

#[derive(Debug)]
struct Inner {
    shard: Shard,
    optimizing: AtomicBool,
    /// How often something was erased since the folder was opened. Held while something is.
    erasures: Mutex<u64>,
}

impl Folder {
    pub(super) async fn open(folder: &Path, identity: Identity, writer: Arc<Worker>) -> Result<Self, SearchError> {
        let folder = folder.to_owned();
        let shard = blocking("opening the index", move || Shard::open(&folder, &identity)).await?;
        let inner = Inner { shard, optimizing: AtomicBool::new(false), erasures: Mutex::new(0) };
        Ok(Self { inner: Arc::new(inner), writer })
    }

    pub(super) async fn upsert(&self, entries: Vec<Entry>) -> Result<(), SearchError> {
        self.write(move |inner| inner.upsert(entries)).await
    }

    pub(super) async fn delete(&self, ids: Vec<Uuid>, erases: bool) -> Result<(), SearchError> {
        self.write(move |inner| inner.delete(ids, erases)).await
    }

    async fn write(
        &self,
        work: impl FnOnce(&Inner) -> Result<(), SearchError> + Send + 'static,
    ) -> Result<(), SearchError> {
        let inner = Arc::clone(&self.inner);
        let written = self.writer.run(move || work(&inner)).await;
        written.unwrap_or(Err(SearchError::Stopped("writing")))
    }

    pub(super) async fn page(
        &self,
        filter: &[Condition],
        payload: bool,
        from: Option<Uuid>,
        limit: usize,
    ) -> Result<Page, SearchError> {
        let (inner, filter) = (Arc::clone(&self.inner), engine_filter(filter));
        blocking("reading the index", move || inner.page(filter, payload, from, limit)).await
    }

    pub(super) async fn nearest(&self, question: Question) -> Result<Sides, SearchError> {
        let inner = Arc::clone(&self.inner);
        blocking("searching", move || inner.nearest(question)).await
    }

    pub(super) async fn stats(&self) -> Result<Stats, SearchError> {
        let inner = Arc::clone(&self.inner);
        blocking("counting", move || inner.stats()).await
    }

    pub(super) async fn flush(&self) -> Result<(), SearchError> {
        let inner = Arc::clone(&self.inner);
        blocking("flushing", move || inner.shard.flush()).await
    }

    pub(super) async fn optimize(&self) -> Result<bool, SearchError> {
        Ok(self.in_background(|inner| inner.shard.optimize()).await?.unwrap_or(false))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.inner.optimizing.load(Ordering::Acquire)
    }

    pub(super) fn purge_due(&self) -> bool {
        self.inner.shard.purge_due()
    }

    pub(super) async fn purge(&self) -> Result<(), SearchError> {
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
}

impl Inner {
    fn upsert(&self, entries: Vec<Entry>) -> Result<(), SearchError> {
        self.shard.has_room()?;
        let mut points = entries.into_iter().map(engine_point);
        loop {
            let part: Vec<_> = points.by_ref().take(WRITE_POINTS).collect();
            if part.is_empty() {
                return Ok(());
            }
            self.shard.upsert(part).map_err(|error| SearchError::engine("writing", error))?;
        }
    }

    fn delete(&self, ids: Vec<Uuid>, erases: bool) -> Result<(), SearchError> {
        let ids = ids.into_iter().map(PointId::Uuid).collect();
        let delete = |ids| self.shard.delete(ids).map_err(|error| SearchError::engine("writing", error));
        if !erases {
            return delete(ids);
        }
        let mut erasures = self.erasing();
        self.shard.note_erasure()?;
        *erasures += 1;
        delete(ids)
    }

    /// A poisoned lock is taken all the same: the count alone cannot be half written.
    fn erasing(&self) -> MutexGuard<'_, u64> {
        self.erasures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn purge(&self) -> Result<(), SearchError> {
        // What is about to be deleted would be missed and yet counted, so this waits for it.
        let before = *self.erasing();
        self.shard.purge()?;
        // Nothing is erased while the note is taken away, or it would go unnoted.
        let erasures = self.erasing();
        if *erasures == before { self.shard.purged() } else { Ok(()) }
    }

    fn page(
        &self,
        filter: Option<Filter>,
        payload: bool,
        from: Option<Uuid>,
        limit: usize,
    ) -> Result<Page, SearchError> {
        let (records, next) = self
            .shard
            .scroll(filter, payload, from.map(PointId::Uuid), limit)
            .map_err(|error| SearchError::engine("reading the index", error))?;
        let points = records
            .into_iter()
            .filter_map(|record| Some((uuid(&record.id)?, record.payload.unwrap_or_default().0)))
            .collect();
        Ok(Page { points, next: next.as_ref().and_then(uuid) })
    }

    fn nearest(&self, question: Question) -> Result<Sides, SearchError> {
        let filter = engine_filter(&question.filter);
        let ask = |using, vector| {
            let found = self.shard.nearest(using, vector, filter.clone(), question.depth);
            let found = found.map_err(|error| SearchError::engine("searching", error));
            found.map(|found| found.into_iter().filter_map(near).collect())
        };
        let mut sides = Sides::default();
        if let Some(vector) = question.dense {
            sides.dense = ask(DENSE, VectorInternal::Dense(vector))?;
        }
        if let Some(words) = question.words {
            sides.words = ask(BM25, VectorInternal::Sparse(words))?;
        }
        Ok(sides)
    }

    fn stats(&self) -> Result<Stats, SearchError> {
        let count = |filter| self.shard.count(filter).map_err(|error| SearchError::engine("counting", error));
        let (segments, unindexed) = self.shard.segments();
        Ok(Stats {
            memories: count(engine_filter(&[Condition { key: key::ORDINAL, test: Test::Number(0) }]))?,
            points: count(None)?,
            unindexed,
            segments,
        })
    }
}

/// Notes that the optimisation ended, also when it panicked.
struct Optimizing<'a>(&'a AtomicBool);

impl Drop for Optimizing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn engine_filter(conditions: &[Condition]) -> Option<Filter> {
    let json = filter::json(conditions)?;
    Some(serde_json::from_value(json).expect("the filter is one the engine knows"))
}

fn engine_point(entry: Entry) -> PointStructPersisted {
    let vectors = Vectors::from(vec![(DENSE, Vector::from(entry.dense)), (BM25, Vector::from(entry.words))]);
    PointStruct::new(PointId::Uuid(entry.id), vectors, Value::Object(entry.payload)).into()
}

fn near(point: ScoredPoint) -> Option<Near> {
    Some(Near { id: uuid(&point.id)?, score: point.score, payload: point.payload.unwrap_or_default().0 })
}

/// Every point of an index has a UUID; a number would be somebody else's.
fn uuid(id: &PointId) -> Option<Uuid> {
    match id {
        PointId::Uuid(uuid) => Some(*uuid),
        PointId::NumId(_) => None,
    }
}
