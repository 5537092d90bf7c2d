//! How changes come into the index.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cairn_domain::id::MemoryId;
use serde_json::Value;
use uuid::Uuid;

use super::engine::Entry;
use super::filter::{Condition, Test};
use super::points::{self, Point, key};
use super::{EMBED_TEXTS, Inner, SearchError, SearchIndex};
use crate::document::Change;
use crate::words;

/// How many ids are read at once while looking for chunks that are no more.
const STALE_IDS: usize = 1_000;

/// How many memories are asked for at once while looking for such chunks.
const STALE_MEMORIES: usize = 1_000;

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
            batch.memories.push(change.memory());
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
        let kept: HashSet<Uuid> = batch.points.iter().map(|point| point.id).collect();
        let (inner, points) = (Arc::clone(&self.inner), batch.points);
        let entries = self.inner.writer.run(move || inner.entries(points, vectors)).await;
        self.inner.engine.upsert(entries.ok_or(SearchError::Stopped("writing"))?).await?;
        for memories in batch.memories.chunks(STALE_MEMORIES) {
            let stale = self.stale(memories, &kept).await?;
            if !stale.is_empty() {
                self.inner.engine.delete(stale, batch.erases).await?;
            }
        }
        Ok(())
    }

    /// The chunks that the index holds of these memories but they have no more.
    async fn stale(&self, memories: &[MemoryId], kept: &HashSet<Uuid>) -> Result<Vec<Uuid>, SearchError> {
        let memories = memories.iter().map(ToString::to_string).collect();
        let filter = [Condition { key: key::MEMORY, test: Test::OneOf(memories) }];
        let mut stale = Vec::new();
        let mut from = None;
        loop {
            let page = self.inner.engine.page(&filter, false, from, STALE_IDS).await?;
            stale.extend(page.points.into_iter().map(|(id, _)| id).filter(|id| !kept.contains(id)));
            from = page.next;
            if from.is_none() {
                return Ok(stale);
            }
        }
    }
}

/// Memories that change, each once, with all the points they have from now on.
#[derive(Default)]
struct Batch {
    memories: Vec<MemoryId>,
    points: Vec<Point>,
    /// Some of the memories are erased.
    erases: bool,
}

impl Inner {
    fn entries(&self, points: Vec<Point>, vectors: Vec<Vec<f32>>) -> Vec<Entry> {
        points.into_iter().zip(vectors).map(|(point, vector)| self.entry(&point, vector)).collect()
    }

    fn entry(&self, point: &Point, dense: Vec<f32>) -> Entry {
        let words = self.bm25.embed_document(&words::spaced(&point.embedded));
        let Ok(Value::Object(payload)) = serde_json::to_value(&point.stored) else {
            unreachable!("what is stored is a JSON object");
        };
        Entry { id: point.id, dense, words, payload }
    }
}
