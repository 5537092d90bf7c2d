//! What queries about memories answer.

use std::collections::BTreeMap;

use cairn_domain::field::FieldName;
use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::kind::Kind;
use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

/// A memory as a list shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemorySummary {
    /// Its id.
    pub id: MemoryId,
    /// Its kind.
    pub kind: Kind,
    /// Its title; empty when it has none.
    pub title: String,
    /// The first words of its body.
    pub excerpt: String,
    /// Its whole body, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Whether it is put away.
    pub archived: bool,
    /// The time it is about: a due date, the start of an event or a project, the day of a log.
    pub about_at: Option<DateTime<Utc>>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The values of its typed and free fields, with the defaults of its kind.
    pub fields: BTreeMap<FieldName, Value>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// Who created it.
    pub created_by: PrincipalId,
    /// Where the creation came from.
    pub created_origin: Origin,
    /// The truth it was created at.
    pub created_truth: Truth,
    /// When something of it changed last.
    pub updated_at: DateTime<Utc>,
    /// The revision of its last event.
    pub revision: u64,
    /// The position of its last event.
    pub position: u64,
    /// The truth of what a reader sees first, the title and the body.
    pub truth: Truth,
    /// Where that came from.
    pub origin: Origin,
    /// The event that gave it.
    pub source_event: EventId,
    /// How many suggestions wait.
    pub suggestions: u64,
    /// How many fields are in conflict.
    pub conflicts: u64,
}

/// A memory with everything there is to know about its present.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryView {
    /// What a list shows.
    #[serde(flatten)]
    pub summary: MemorySummary,
    /// Every field but tags and links, with where its value came from; the body among them, without its value.
    pub provenance: Vec<FieldRow>,
    /// Its tags, with their truth.
    pub tag_claims: Vec<TagRow>,
    /// The memories it links to; the first [`LINKS_IN_VIEW`](super::LINKS_IN_VIEW).
    pub links: Vec<LinkRow>,
    /// The memories that link to it; the first [`LINKS_IN_VIEW`](super::LINKS_IN_VIEW).
    pub backlinks: Vec<LinkRow>,
    /// What waits for the user's decision.
    pub waiting: Vec<SuggestionRow>,
    /// The fields in conflict, with every side.
    pub disputed: Vec<ConflictRow>,
    /// The file it was imported from.
    pub file: Option<FileRow>,
}

/// What there is of an id.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Found {
    /// The memory.
    Memory(Box<MemoryView>),
    /// It was erased.
    Erased {
        /// When.
        at: DateTime<Utc>,
        /// The position of the erasure.
        position: u64,
    },
    /// There never was one, as far as this read model has got.
    Nothing,
}

/// Who said something, when and how true.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provenance {
    /// The level it was written at.
    pub truth: Truth,
    /// Where it came from.
    pub origin: Origin,
    /// Who wrote it.
    pub principal: PrincipalId,
    /// The event that says so.
    pub event: EventId,
    /// When, by the writer's clock.
    pub at: DateTime<Utc>,
}

/// A field with where its value came from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldRow {
    /// The field.
    pub field: FieldName,
    /// Its value; `None` for the body.
    pub value: Option<Value>,
    /// Where it came from.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// The suggestion that it accepted.
    pub accepted: Option<Accepted>,
}

/// A suggestion that became the value by the user's decision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Accepted {
    /// The event that suggested it.
    pub event: EventId,
    /// Where the suggestion came from.
    pub origin: Origin,
}

/// A tag of a memory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TagRow {
    /// Its name, without `#`.
    pub tag: String,
    /// How true it is that the memory has it.
    pub truth: Truth,
    /// The event that says so.
    pub event: EventId,
}

/// A tag with how many memories have it, put away ones included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TagCount {
    /// Its name, without `#`.
    pub tag: String,
    /// How many memories have it.
    pub memories: u64,
}

/// A link between two memories, seen from one of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkRow {
    /// What the link means.
    pub relation: String,
    /// The memory at the other end.
    pub memory: MemoryId,
    /// Its title; `None` when there is no such memory (any more).
    pub title: Option<String>,
    /// Its kind.
    pub kind: Option<Kind>,
    /// How true the link is.
    pub truth: Truth,
    /// The event that says so.
    pub event: EventId,
}

/// A statement that waits for the user's decision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SuggestionRow {
    /// The memory.
    pub memory: MemoryId,
    /// The field; `body` for an edit of the body.
    pub field: FieldName,
    /// The value suggested; `None` for an edit of the body.
    pub value: Option<Value>,
    /// What an edit would change in the body, as a unified diff; empty where very many wait.
    pub diff: Option<String>,
    /// Who suggests it; its event is what is accepted or rejected.
    #[serde(flatten)]
    pub provenance: Provenance,
}

/// A field whose highest statements disagree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConflictRow {
    /// The memory.
    pub memory: MemoryId,
    /// The field.
    pub field: FieldName,
    /// The statements, the one that shows for now first.
    pub sides: Vec<ConflictSide>,
}

/// One statement of a conflict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConflictSide {
    /// What it states.
    pub value: Value,
    /// Who states it.
    #[serde(flatten)]
    pub provenance: Provenance,
}

/// A file of a vault, or a part of one, with the memory it became.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileRow {
    /// The memory.
    pub memory: MemoryId,
    /// The vault.
    pub vault: Uuid,
    /// The file's path inside the vault.
    pub path: String,
    /// What inside the file; empty for the file itself.
    pub part: String,
    /// BLAKE3 of the file's bytes when it was imported last, in hexadecimal.
    pub digest: String,
    /// Names it links to that no note of the vault has.
    pub unresolved: Vec<String>,
    /// Whether it is gone from the vault.
    pub vanished: bool,
}

/// Who may act.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PrincipalRow {
    /// The principal.
    pub id: PrincipalId,
    /// What people call it.
    pub name: String,
    /// The highest truth it may write at.
    pub ceiling: Truth,
    /// Where its writes come from unless they say more.
    pub origin: Origin,
    /// Since when it may act.
    pub registered_at: DateTime<Utc>,
    /// Since when it may act no longer.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// How many memories there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// All of them, put away ones included.
    pub memories: u64,
    /// Those put away.
    pub archived: u64,
    /// Those erased.
    pub erased: u64,
    /// By kind.
    pub by_kind: BTreeMap<Kind, u64>,
    /// By the level of what a reader sees first, 1 to 5.
    pub by_truth: BTreeMap<Truth, u64>,
    /// Suggestions that wait.
    pub suggestions: u64,
    /// Fields in conflict.
    pub conflicts: u64,
    /// Links that hold.
    pub links: u64,
    /// Tags in use.
    pub tags: u64,
    /// Claims that hold, by their level: values of fields, tags and links.
    pub claims: BTreeMap<Truth, u64>,
}
