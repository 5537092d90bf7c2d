//! What a search asks for, and what it answers.

use std::ops::Range;

use cairn_domain::id::{EventId, MemoryId};
use cairn_domain::kind::Kind;
use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use chrono::{DateTime, Utc};

use crate::fuse::Place;

/// The longest query, in characters.
pub const MAX_QUERY_CHARS: usize = 1_000;

/// The most memories one search answers with.
pub const MAX_LIMIT: usize = 200;

/// The most kinds, tags or links a filter may name, each.
pub const MAX_FILTER_VALUES: usize = 50;

/// A search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// What is looked for, in words: at least one letter or digit, at most [`MAX_QUERY_CHARS`].
    pub text: String,
    /// Which memories may be found.
    pub filter: Filter,
    /// How many memories are wanted, 1 to [`MAX_LIMIT`].
    pub limit: usize,
}

/// Which memories may be found. The default excludes the archived ones and no others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these kinds; any when empty.
    pub kinds: Vec<Kind>,
    /// All of these tags.
    pub tags: Vec<String>,
    /// Linking to all of these memories.
    pub linked_to: Vec<MemoryId>,
    /// This truth or a higher one.
    pub truth_at_least: Option<Truth>,
    /// When the memory was created.
    pub created: Period,
    /// When it was changed last.
    pub updated: Period,
    /// The time it is about; memories about no time in particular are left out when set.
    pub when: Period,
    /// Whether archived memories are found too.
    pub include_archived: bool,
}

/// A stretch of time, open where an end is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Period {
    /// The first moment in it.
    pub from: Option<DateTime<Utc>>,
    /// The first moment after it.
    pub until: Option<DateTime<Utc>>,
}

impl Period {
    /// Whether it leaves nothing out.
    pub fn is_open(&self) -> bool {
        self.from.is_none() && self.until.is_none()
    }
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The memories, best first.
    pub hits: Vec<Hit>,
    /// Why only words were compared and not meaning, when the embedder was not to be had.
    pub degraded: Option<String>,
}

/// A memory that was found, by its best chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The memory.
    pub memory: MemoryId,
    /// Its title.
    pub title: String,
    /// Its kind.
    pub kind: Kind,
    /// Its tags.
    pub tags: Vec<String>,
    /// The truth of the text that was found.
    pub truth: Truth,
    /// Where that text came from.
    pub origin: Origin,
    /// The event that gave it.
    pub event: EventId,
    /// When the memory was changed last.
    pub updated_at: DateTime<Utc>,
    /// The fused score; comparable only within one answer.
    pub score: f32,
    /// Where the chunk stands among those of similar meaning, if it does; the score is the cosine.
    pub dense: Option<Place>,
    /// Where it stands among those with the same words, if it does; the score is BM25's.
    pub bm25: Option<Place>,
    /// The headings the chunk stands under, outermost first.
    pub headings: Vec<String>,
    /// The part of the chunk that shows best why it was found.
    pub snippet: Snippet,
    /// Where the chunk is in the body, in bytes; none when it was found by its other fields or title.
    pub range: Option<Range<usize>>,
    /// How many other chunks of the memory were found.
    pub others: usize,
}

/// An excerpt on one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snippet {
    /// The excerpt, with runs of white space made one space.
    pub text: String,
    /// The words that match, in bytes of the excerpt, in order and apart.
    pub marks: Vec<Range<usize>>,
}
