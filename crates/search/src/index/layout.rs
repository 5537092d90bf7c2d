//! How points are laid out, the same in a folder and on a server.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::UNINDEXED_POINTS;
use super::points::key;

/// The names of the two vectors of a point. Dense ones are compared by their cosine; the scores of sparse ones are
/// multiplied by how rare their words are (Qdrant's modifier `idf`).
pub(super) const DENSE: &str = "dense";
pub(super) const BM25: &str = "bm25";

/// The version of what stands in a point: the chunker, the BM25 settings, the stored values, the storage settings.
/// Raise it when an index written before must be rebuilt.
pub(super) const FORMAT: u32 = 1;

/// What an index was written by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) format: u32,
    pub(super) model: String,
    pub(super) dimensions: usize,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model {} with {} dimensions, format {}", self.model, self.dimensions, self.format)
    }
}

/// How much may lie outside of the vector graphs before they are built anew, in the engine's unit, KiB of vectors.
pub(super) fn indexing_threshold(dimensions: usize) -> usize {
    (UNINDEXED_POINTS * dimensions * size_of::<f32>()).div_ceil(1024)
}

/// How a stored value is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldIndex {
    /// A UUID: whether it is one of some.
    Id,
    /// A number: whether it is this one.
    Equal,
    /// A number: whether it lies between two.
    Between,
    /// A word: whether it is one of some. Often filtered by, so the vector graphs know it too.
    Word,
    /// A truth value.
    Flag,
}

/// Every value that a search filters by has an index, or each filter would read every point.
pub(super) const FIELDS: [(&str, FieldIndex); 10] = [
    (key::MEMORY, FieldIndex::Id),
    (key::ORDINAL, FieldIndex::Equal),
    (key::KIND, FieldIndex::Word),
    (key::TAGS, FieldIndex::Word),
    (key::LINKS, FieldIndex::Id),
    (key::TRUTH, FieldIndex::Between),
    (key::CREATED, FieldIndex::Between),
    (key::UPDATED, FieldIndex::Between),
    (key::WHEN, FieldIndex::Between),
    (key::ARCHIVED, FieldIndex::Flag),
];
