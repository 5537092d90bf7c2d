//! What the index is told about a memory.

use cairn_domain::id::{EventId, MemoryId};
use cairn_domain::kind::Kind;
use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use chrono::{DateTime, Utc};

/// The effective text of a memory with everything that searches filter by or show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The memory.
    pub memory: MemoryId,
    /// Its kind.
    pub kind: Kind,
    /// Its title; it is searched together with every chunk of the body.
    pub title: String,
    /// Its effective body, Markdown.
    pub body: String,
    /// What its other fields say in words, such as an address or an organisation; searched, not filtered.
    pub extra: String,
    /// Its tags, as [`cairn_domain::field::FieldName::tag`] spells them.
    pub tags: Vec<String>,
    /// The memories it links to.
    pub links: Vec<MemoryId>,
    /// The truth of the effective text.
    pub truth: Truth,
    /// Where the effective text came from.
    pub origin: Origin,
    /// The event that gave the effective text.
    pub event: EventId,
    /// When the memory was created.
    pub created_at: DateTime<Utc>,
    /// When it was changed last.
    pub updated_at: DateTime<Utc>,
    /// The time it is about, if it has one: the day of a log, the start of an event, a due date.
    pub when: Option<DateTime<Utc>>,
    /// Whether it is put away.
    pub archived: bool,
}

/// A change to the index. Applying one twice is the same as applying it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The memory now reads like this; whatever the index held about it is replaced.
    Put(Box<Document>),
    /// The memory is gone.
    Remove(MemoryId),
}

impl Change {
    /// The memory that changes.
    pub fn memory(&self) -> MemoryId {
        match self {
            Self::Put(document) => document.memory,
            Self::Remove(memory) => *memory,
        }
    }
}
