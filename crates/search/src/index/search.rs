//! How queries are answered.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cairn_domain::id::MemoryId;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::sync::SemaphorePermit;
use uuid::Uuid;

use super::engine::{Near, Question, Sides};
use super::points::Stored;
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
        let _turn = self.turn().await?;
        let mut depth = DEPTH.max(query.limit * 2);
        loop {
            let sides = self.ask(query, vector.clone(), depth).await?;
            let (inner, query) = (Arc::clone(&self.inner), query.clone());
            let hits = blocking("searching", move || Ok(inner.answer(&query, sides, depth))).await?;
            if let Some(hits) = hits {
                return Ok(Answer { hits, degraded });
            }
            // A few long memories fill the lists; look behind them.
            depth = (depth * 4).min(MAX_DEPTH);
        }
    }

    /// What the two sides find for a query before it is fused, each this many chunks: for measuring.
    ///
    /// # Errors
    /// As [`SearchIndex::search`].
    pub async fn candidates(&self, query: &Query, depth: usize) -> Result<Candidates, SearchError> {
        check(query)?;
        let (vector, _) = self.query_vector(&query.text).await;
        let _turn = self.turn().await?;
        let found = Found::read(self.ask(query, vector, depth).await?);
        Ok(Candidates { dense: found.dense, bm25: found.bm25 })
    }

    /// Waits until one more search may run.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, SearchError> {
        self.inner.searching.acquire().await.map_err(|_| SearchError::Stopped("searching"))
    }

    /// Asks both sides.
    async fn ask(&self, query: &Query, dense: Option<Vec<f32>>, depth: usize) -> Result<Sides, SearchError> {
        let words = Some(self.inner.query_words(&query.text)).filter(|words| !words.indices.is_empty());
        let filter = filter::conditions(&query.filter);
        self.inner.engine.nearest(Question { dense, words, filter, depth }).await
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

impl Found {
    /// Reads what is stored beside the points.
    fn read(sides: Sides) -> Self {
        let mut stored = HashMap::new();
        let dense = keep(sides.dense, &mut stored);
        let bm25 = keep(sides.words, &mut stored);
        Self { dense, bm25, stored }
    }
}

impl Inner {
    /// Makes an answer of what was found; `None` when there is more to be had by asking for more.
    fn answer(&self, query: &Query, sides: Sides, depth: usize) -> Option<Vec<Hit>> {
        let exhausted = sides.dense.len() < depth && sides.words.len() < depth;
        let found = Found::read(sides);
        let groups = grouped(fuse::DEFAULT, &found);
        (groups.len() >= query.limit || exhausted || depth >= MAX_DEPTH)
            .then(|| self.hits(query, groups, found.stored))
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
fn keep(points: Vec<Near>, stored: &mut HashMap<Uuid, Stored>) -> Vec<Candidate> {
    points
        .into_iter()
        .filter_map(|Near { id, score, payload }| {
            let memory = match stored.get(&id) {
                Some(known) => known.memory,
                None => {
                    let read: Stored = serde_json::from_value(Value::Object(payload)).ok()?;
                    let memory = read.memory;
                    stored.insert(id, read);
                    memory
                }
            };
            Some(Candidate { point: id, memory, score })
        })
        .collect()
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
