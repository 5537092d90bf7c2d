//! How changes come into the index.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cairn_domain::id::MemoryId;
use qdrant_edge::{Filter, PointId, PointStruct, PointStructPersisted, Vector, Vectors};
use serde_json::json;

use super::points::{self, Point, key};
use super::shard::{BM25, DENSE};
use super::{EMBED_TEXTS, Inner, SearchError, SearchIndex, WRITE_POINTS};
use crate::document::Change;
use crate::words;

/// How many ids are read at once while looking for chunks that are no more.
const STALE_IDS: usize = 1_000;

impl SearchIndex {
    /// Applies changes; of several to one memory the last counts. Each memory's new chunks are
    /// written before its surplus old ones go, so that a search finds it at every moment. Applying
    /// changes again, in whatever batches, gives the same index.
    ///
    /// The changes are searchable when this returns and durable after [`SearchIndex::flush`].
    ///
    /// # Errors
    /// When texts cannot be embedded or the engine fails. Some of the batch may be applied then;
    /// apply it again.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<(), SearchError> {
        let _applying = self.inner.applying.lock().await;
        let mut last: HashMap<MemoryId, usize> = HashMap::new();
        for (at, change) in changes.iter().enumerate() {
            last.insert(change.memory(), at);
        }
        let mut batch = Batch::default();
        for (at, change) in changes.into_iter().enumerate() {
            if last[&change.memory()] != at {
                continue;
            }
            batch.memories.insert(change.memory());
            match change {
                Change::Put(document) => batch.points.extend(points::points(&document)),
                Change::Remove(_) => batch.erases = true,
            }
            if batch.points.len() >= EMBED_TEXTS {
                self.write(std::mem::take(&mut batch)).await?;
            }
        }
        self.write(batch).await
    }

    async fn write(&self, batch: Batch) -> Result<(), SearchError> {
        if batch.memories.is_empty() {
            return Ok(());
        }
        let mut vectors = Vec::with_capacity(batch.points.len());
        for part in batch.points.chunks(EMBED_TEXTS) {
            let texts: Vec<String> = part.iter().map(|point| point.embedded.clone()).collect();
            vectors.extend(self.inner.embedder.embed(&texts).await?);
        }
        let inner = Arc::clone(&self.inner);
        let written = self.inner.writer.run(move || inner.write(batch, vectors)).await;
        written.unwrap_or(Err(SearchError::Stopped("writing")))
    }
}

/// Memories that change, with all the points they have from now on.
#[derive(Default)]
struct Batch {
    memories: HashSet<MemoryId>,
    points: Vec<Point>,
    /// Some of the memories are erased.
    erases: bool,
}

impl Inner {
    fn write(&self, batch: Batch, vectors: Vec<Vec<f32>>) -> Result<(), SearchError> {
        self.shard.has_room()?;
        let failed = |error| SearchError::engine("writing", error);
        let kept: HashSet<PointId> = batch.points.iter().map(|point| PointId::Uuid(point.id)).collect();
        let mut points =
            batch.points.into_iter().zip(vectors).map(|(point, vector)| self.engine_point(&point, vector));
        loop {
            let part: Vec<_> = points.by_ref().take(WRITE_POINTS).collect();
            if part.is_empty() {
                break;
            }
            self.shard.upsert(part).map_err(failed)?;
        }
        let stale = self.stale(&batch.memories, &kept)?;
        if !stale.is_empty() {
            if batch.erases {
                self.shard.note_erasure()?;
                self.erasures.fetch_add(1, Ordering::AcqRel);
            }
            self.shard.delete(stale).map_err(failed)?;
        }
        Ok(())
    }

    fn engine_point(&self, point: &Point, vector: Vec<f32>) -> PointStructPersisted {
        let words = self.bm25.embed_document(&words::spaced(&point.embedded));
        let vectors = Vectors::from(vec![(DENSE, Vector::from(vector)), (BM25, Vector::from(words))]);
        let stored = serde_json::to_value(&point.stored).expect("what is stored is JSON");
        PointStruct::new(PointId::Uuid(point.id), vectors, stored).into()
    }

    /// The chunks that the index holds of these memories but they have no more.
    fn stale(&self, memories: &HashSet<MemoryId>, kept: &HashSet<PointId>) -> Result<Vec<PointId>, SearchError> {
        let filter = json!({ "must": [{ "key": key::MEMORY, "match": { "any": memories } }] });
        let filter: Filter = serde_json::from_value(filter).expect("the filter is one the engine knows");
        let mut stale = Vec::new();
        let mut offset = None;
        loop {
            let (records, next) = self
                .shard
                .scroll(Some(filter.clone()), false, offset, STALE_IDS)
                .map_err(|error| SearchError::engine("writing", error))?;
            stale.extend(records.into_iter().map(|record| record.id).filter(|id| !kept.contains(id)));
            offset = next;
            if offset.is_none() {
                return Ok(stale);
            }
        }
    }
}
