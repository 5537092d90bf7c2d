//! Measures how well searches rank, on questions with known answers.
//!
//! Both sides of a search are asked once for each question; then their lists are ranked in every way
//! worth comparing: each side alone, and fused with several weights and normalisations.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use cairn_domain::id::MemoryId;
use serde::{Deserialize, Serialize};

use crate::document::{Change, Document};
use crate::embedder::Embedder;
use crate::fuse::{self, Fusion, Normalisation, fuse};
use crate::index::{Candidate, Candidates, DEPTH, SearchError, SearchIndex};
use crate::query::{Filter, Query};

/// The questions that this crate brings along, over two public vaults (logseq-docs, kepano-vault);
/// they name titles only.
pub const QUESTIONS: &str = include_str!("../eval/questions.jsonl");

/// A question and the memories that answer it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The vault it is about.
    pub vault: String,
    /// `lexical` when it uses the words of the answer, `semantic` when it says it otherwise.
    pub style: String,
    /// As a user would type it.
    pub question: String,
    /// Titles of memories; finding any of them counts.
    pub expect: Vec<String>,
}

/// How one way of ranking did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The way of ranking.
    pub name: String,
    /// The part of the questions with an answer among the first five memories, 0 to 1.
    pub recall_at_5: f64,
    /// The same among the first ten.
    pub recall_at_10: f64,
    /// The mean of 1 / place of the first answer, 0 where it is not among the first ten.
    pub mrr: f64,
}

/// How all of them did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// How many questions were asked.
    pub questions: usize,
    /// How many memories were searched.
    pub memories: usize,
    /// BM25 alone, dense alone, what searches use, and alternatives.
    pub rows: Vec<Row>,
    /// The questions that what searches use leaves without an answer among the first ten.
    pub missed: Vec<String>,
}

/// The name of the row of what searches use.
pub const SHIPPED: &str = "hybrid";
/// The name of the row of BM25 alone.
pub const BM25_ALONE: &str = "bm25";
/// The name of the row of the dense side alone.
pub const DENSE_ALONE: &str = "dense";

/// Reads questions, one JSON object a line.
///
/// # Errors
/// Names what is wrong with the first line that is no question.
pub fn read_questions(lines: &str) -> Result<Vec<Question>, serde_json::Error> {
    lines.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str).collect()
}

/// Indexes the documents in an empty folder and asks the questions. Questions whose answers are not
/// among the documents are left out.
///
/// # Errors
/// As those of [`SearchIndex`].
pub async fn run(
    folder: &Path,
    embedder: Arc<dyn Embedder>,
    documents: Vec<Document>,
    questions: &[Question],
) -> Result<Report, SearchError> {
    let mut titles: HashMap<String, Vec<MemoryId>> = HashMap::new();
    for document in &documents {
        titles.entry(document.title.clone()).or_default().push(document.memory);
    }
    let memories = documents.len();
    let index = SearchIndex::open(folder, embedder).await?;
    index.apply(documents.into_iter().map(|document| Change::Put(Box::new(document))).collect()).await?;
    let mut asked = Vec::new();
    for question in questions {
        let expected: HashSet<MemoryId> =
            question.expect.iter().filter_map(|title| titles.get(title)).flatten().copied().collect();
        if !expected.is_empty() {
            let text = question.question.clone();
            let query = Query { text, filter: Filter::default(), limit: 10 };
            asked.push((question, expected, index.candidates(&query, DEPTH).await?));
        }
    }
    let mut rows = Vec::new();
    let mut missed = Vec::new();
    for (name, way) in ways() {
        let mut places = Vec::with_capacity(asked.len());
        for (question, expected, candidates) in &asked {
            let place = way.rank(candidates).iter().take(10).position(|memory| expected.contains(memory));
            if place.is_none() && name == SHIPPED {
                missed.push(question.question.clone());
            }
            places.push(place);
        }
        rows.push(row(name, &places));
    }
    Ok(Report { questions: asked.len(), memories, rows, missed })
}

/// A way of ranking memories by what the two sides found.
enum Way {
    Dense,
    Bm25,
    /// Chunks are fused, then gathered by memory.
    Chunks(Fusion),
    /// Chunks are gathered by memory, then memories are fused.
    Memories(Fusion),
}

fn ways() -> Vec<(String, Way)> {
    let mut ways = vec![
        (BM25_ALONE.to_owned(), Way::Bm25),
        (DENSE_ALONE.to_owned(), Way::Dense),
        (SHIPPED.to_owned(), Way::Chunks(fuse::DEFAULT)),
    ];
    for (name, normalisation) in [
        ("z-score", Normalisation::ZScore),
        ("min-max", Normalisation::MinMax),
        ("rrf 60", Normalisation::Reciprocal { k: 60.0 }),
    ] {
        for dense_weight in [0.3, 0.5, 0.75, 1.0] {
            let fusion = Fusion { normalisation, dense_weight };
            ways.push((format!("{name}, dense {dense_weight}, by chunk"), Way::Chunks(fusion)));
            ways.push((format!("{name}, dense {dense_weight}, by memory"), Way::Memories(fusion)));
        }
    }
    ways
}

impl Way {
    fn rank(&self, candidates: &Candidates) -> Vec<MemoryId> {
        match self {
            Self::Dense => by_memory(&candidates.dense).into_iter().map(|(memory, _)| memory).collect(),
            Self::Bm25 => by_memory(&candidates.bm25).into_iter().map(|(memory, _)| memory).collect(),
            Self::Chunks(fusion) => {
                let pairs = |side: &[Candidate]| -> Vec<_> {
                    side.iter().map(|found| ((found.point, found.memory), found.score)).collect()
                };
                let fused = fuse(*fusion, &pairs(&candidates.dense), &pairs(&candidates.bm25));
                unique(fused.into_iter().map(|found| found.id.1))
            }
            Self::Memories(fusion) => {
                let fused = fuse(*fusion, &by_memory(&candidates.dense), &by_memory(&candidates.bm25));
                fused.into_iter().map(|found| found.id).collect()
            }
        }
    }
}

/// The best score of each memory, best first.
fn by_memory(side: &[Candidate]) -> Vec<(MemoryId, f32)> {
    let mut seen = HashSet::new();
    side.iter()
        .filter(|candidate| seen.insert(candidate.memory))
        .map(|candidate| (candidate.memory, candidate.score))
        .collect()
}

fn unique(memories: impl Iterator<Item = MemoryId>) -> Vec<MemoryId> {
    let mut seen = HashSet::new();
    memories.filter(|memory| seen.insert(*memory)).collect()
}

fn row(name: String, places: &[Option<usize>]) -> Row {
    let count = places.len().max(1) as f64;
    let within = |k: usize| places.iter().flatten().filter(|place| **place < k).count() as f64 / count;
    Row {
        name,
        recall_at_5: within(5),
        recall_at_10: within(10),
        mrr: places.iter().flatten().map(|place| 1.0 / (*place as f64 + 1.0)).sum::<f64>() / count,
    }
}
