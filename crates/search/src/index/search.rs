//! How queries are answered.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cairn_domain::id::MemoryId;
use chrono::{DateTime, Utc};
use qdrant_edge::{Filter, PointId, ScoredPoint, VectorInternal};
use uuid::Uuid;

use super::points::Stored;
use super::shard::{BM25, DENSE, sparse};
use super::{DEPTH, Inner, MAX_DEPTH, SearchError, SearchIndex, blocking, filter};
use crate::fuse::{self, Fused, Fusion, fuse};
use crate::query::{Answer, Hit, MAX_FILTER_VALUES, MAX_LIMIT, MAX_QUERY_CHARS, Query};
use crate::snippet::snippet;

/// What one side of a search found: a chunk and its score on that side's scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The chunk.
    pub point: Uuid,
    /// The memory it belongs to.
    pub memory: MemoryId,
    /// The cosine, or BM25's score.
    pub score: f32,
}

/// What both sides found, each best first, before they are fused.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Candidates {
    /// By meaning.
    pub dense: Vec<Candidate>,
    /// By words.
    pub bm25: Vec<Candidate>,
}

impl SearchIndex {
    /// Finds the memories that match a query best. When the embedder is not to be had, words alone
    /// are compared and the answer says so.
    ///
    /// # Errors
    /// When the query is out of bounds or the engine fails.
    pub async fn search(&self, query: &Query) -> Result<Answer, SearchError> {
        check(query)?;
        let (vector, degraded) = self.query_vector(&query.text).await;
        let query = query.clone();
        let hits = self.with_turn(move |inner| inner.search(&query, vector.as_deref())).await?;
        Ok(Answer { hits, degraded })
    }

    /// What the two sides find for a query before it is fused, each this many chunks: for measuring.
    ///
    /// # Errors
    /// As [`SearchIndex::search`].
    pub async fn candidates(&self, query: &Query, depth: usize) -> Result<Candidates, SearchError> {
        check(query)?;
        let (vector, _) = self.query_vector(&query.text).await;
        let query = query.clone();
        self.with_turn(move |inner| {
            let found = inner.ask(&query.text, vector.as_deref(), engine_filter(&query).as_ref(), depth)?;
            Ok(Candidates { dense: found.dense, bm25: found.bm25 })
        })
        .await
    }

    async fn with_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, SearchError> + Send + 'static,
    ) -> Result<T, SearchError> {
        let inner = Arc::clone(&self.inner);
        let _turn = self.inner.searching.acquire().await.map_err(|_| SearchError::Stopped("searching"))?;
        blocking("searching", move || work(&inner)).await
    }

    /// The vector of a query; none when the model knows none of its words or cannot be had.
    async fn query_vector(&self, text: &str) -> (Option<Vec<f32>>, Option<String>) {
        match self.inner.embedder.embed(&[text.to_owned()]).await {
            Ok(mut vectors) => (vectors.pop().filter(|vector| vector.iter().any(|number| *number != 0.0)), None),
            Err(error) => {
                tracing::warn!(%error, "a search compares words alone");
                (None, Some(error.to_string()))
            }
        }
    }
}

/// The chunks both sides found, with what is stored beside each.
#[derive(Default)]
struct Found {
    dense: Vec<Candidate>,
    bm25: Vec<Candidate>,
    stored: HashMap<Uuid, Stored>,
}

/// A memory's best chunk, and how many others were found.
struct Group {
    best: Fused<Uuid>,
    others: usize,
}

impl Inner {
    fn search(&self, query: &Query, vector: Option<&[f32]>) -> Result<Vec<Hit>, SearchError> {
        let filter = engine_filter(query);
        let mut depth = DEPTH.max(query.limit * 2);
        loop {
            let found = self.ask(&query.text, vector, filter.as_ref(), depth)?;
            let exhausted = found.dense.len() < depth && found.bm25.len() < depth;
            let groups = grouped(fuse::DEFAULT, &found);
            if groups.len() >= query.limit || exhausted || depth >= MAX_DEPTH {
                return Ok(self.hits(query, groups, found.stored));
            }
            // A few long memories fill the lists; look behind them.
            depth = (depth * 4).min(MAX_DEPTH);
        }
    }

    /// Asks both sides.
    fn ask(
        &self,
        text: &str,
        vector: Option<&[f32]>,
        filter: Option<&Filter>,
        depth: usize,
    ) -> Result<Found, SearchError> {
        let failed = |error| SearchError::engine("searching", error);
        let mut found = Found::default();
        if let Some(vector) = vector {
            let vector = VectorInternal::Dense(vector.to_vec());
            let points = self.shard.nearest(DENSE, vector, filter.cloned(), depth).map_err(failed)?;
            found.dense = keep(points, &mut found.stored);
        }
        let words = self.query_words(text);
        if !words.indices.is_empty() {
            let points = self.shard.nearest(BM25, sparse(words), filter.cloned(), depth).map_err(failed)?;
            found.bm25 = keep(points, &mut found.stored);
        }
        Ok(found)
    }

    fn hits(&self, query: &Query, groups: Vec<Group>, mut stored: HashMap<Uuid, Stored>) -> Vec<Hit> {
        let terms: HashSet<u32> = self.query_words(&query.text).indices.into_iter().collect();
        groups
            .into_iter()
            .take(query.limit)
            .filter_map(|group| {
                let stored = stored.remove(&group.best.id)?;
                Some(self.hit(&group, stored, &terms))
            })
            .collect()
    }

    fn hit(&self, group: &Group, stored: Stored, terms: &HashSet<u32>) -> Hit {
        // A word is marked when its stem is that of a word of the query, as BM25 compares them.
        let term = |word: &str| self.query_words(word).indices.into_iter().find(|index| terms.contains(index));
        Hit {
            memory: stored.memory,
            kind: stored.kind,
            tags: stored.tags,
            truth: stored.truth,
            origin: stored.origin,
            event: stored.event,
            updated_at: DateTime::<Utc>::from_timestamp_millis(stored.updated).unwrap_or_default(),
            score: group.best.score,
            dense: group.best.dense,
            bm25: group.best.bm25,
            headings: stored.headings,
            snippet: snippet(&stored.text, term),
            range: stored.range.map(|(start, end)| start..end),
            others: group.others,
            title: stored.title,
        }
    }
}

/// Fuses chunks and gathers them by memory, best chunk first.
fn grouped(fusion: Fusion, found: &Found) -> Vec<Group> {
    let pairs = |side: &[Candidate]| -> Vec<(Uuid, f32)> {
        side.iter().map(|candidate| (candidate.point, candidate.score)).collect()
    };
    let mut places: HashMap<MemoryId, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for best in fuse(fusion, &pairs(&found.dense), &pairs(&found.bm25)) {
        let Some(stored) = found.stored.get(&best.id) else { continue };
        match places.get(&stored.memory) {
            Some(place) => groups[*place].others += 1,
            None => {
                places.insert(stored.memory, groups.len());
                groups.push(Group { best, others: 0 });
            }
        }
    }
    groups
}

/// Reads what is stored beside points. A point that cannot be read is left out: it was written by
/// a version whose folder would have been refused.
fn keep(points: Vec<ScoredPoint>, stored: &mut HashMap<Uuid, Stored>) -> Vec<Candidate> {
    points
        .into_iter()
        .filter_map(|point| {
            let PointId::Uuid(id) = point.id else { return None };
            let memory = match stored.get(&id) {
                Some(known) => known.memory,
                None => {
                    let value = serde_json::Value::Object(point.payload?.0);
                    let read: Stored = serde_json::from_value(value).ok()?;
                    let memory = read.memory;
                    stored.insert(id, read);
                    memory
                }
            };
            Some(Candidate { point: id, memory, score: point.score })
        })
        .collect()
}

fn engine_filter(query: &Query) -> Option<Filter> {
    let conditions = filter::conditions(&query.filter)?;
    Some(serde_json::from_value(conditions).expect("the filter is one the engine knows"))
}

fn check(query: &Query) -> Result<(), SearchError> {
    let filter = &query.filter;
    if query.text.chars().count() > MAX_QUERY_CHARS {
        Err(SearchError::Query("is longer than 1,000 characters; shorten it"))
    } else if !query.text.chars().any(char::is_alphanumeric) {
        Err(SearchError::Query("holds no word; say what to look for"))
    } else if !(1..=MAX_LIMIT).contains(&query.limit) {
        Err(SearchError::Query("asks for no memories or more than 200; choose a limit from 1 to 200"))
    } else if [filter.kinds.len(), filter.tags.len(), filter.linked_to.len()]
        .into_iter()
        .any(|values| values > MAX_FILTER_VALUES)
    {
        Err(SearchError::Query("filters by more than 50 kinds, tags or links; name fewer"))
    } else {
        Ok(())
    }
}
