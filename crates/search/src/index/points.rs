//! Turns documents into the points of the index, and what is stored back into types.

use cairn_domain::id::{EventId, MemoryId};
use cairn_domain::kind::Kind;
use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::chunk::{Chunk, chunk};
use crate::document::Document;

/// The most of a title that is embedded with each chunk, in bytes.
const TITLE_BYTES: usize = 200;

/// The most of the other fields' text that is searched, in bytes.
const EXTRA_BYTES: usize = 4_000;

/// The names of the stored values, which filters use too.
pub(super) mod key {
    /// The brain; only a server needs it, and it is left out of what is read back.
    pub(crate) const TENANT: &str = "tenant";
    pub(crate) const MEMORY: &str = "memory";
    pub(crate) const ORDINAL: &str = "ordinal";
    pub(crate) const KIND: &str = "kind";
    pub(crate) const TAGS: &str = "tags";
    pub(crate) const LINKS: &str = "links";
    pub(crate) const TRUTH: &str = "truth";
    pub(crate) const CREATED: &str = "created";
    pub(crate) const UPDATED: &str = "updated";
    pub(crate) const WHEN: &str = "when";
    pub(crate) const ARCHIVED: &str = "archived";
}

/// What is stored beside the vectors of a chunk. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) memory: MemoryId,
    /// The chunk's number within the memory, from 0.
    pub(super) ordinal: usize,
    pub(super) kind: Kind,
    pub(super) title: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) links: Vec<MemoryId>,
    pub(super) truth: Truth,
    pub(super) origin: Origin,
    pub(super) event: EventId,
    pub(super) created: i64,
    pub(super) updated: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) when: Option<i64>,
    pub(super) archived: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) headings: Vec<String>,
    pub(super) text: String,
    /// Where the chunk is in the body; none for the title and the other fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) range: Option<(usize, usize)>,
}

/// A chunk on its way into the index.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) id: Uuid,
    /// What both sides of a search compare with: title, headings and text.
    pub(super) embedded: String,
    pub(super) stored: Stored,
}

/// The points of a document: one for each chunk of the body, one for the other fields if they say
/// anything, and at least one, so that a memory with nothing but a title is found too.
pub(super) fn points(document: &Document) -> Vec<Point> {
    let mut points: Vec<Point> = chunk(&document.body)
        .into_iter()
        .enumerate()
        .map(|(ordinal, Chunk { headings, range })| {
            point(document, ordinal, headings, &document.body[range.clone()], Some((range.start, range.end)))
        })
        .collect();
    let extra = floor(document.extra.trim(), EXTRA_BYTES);
    if !extra.is_empty() || points.is_empty() {
        points.push(point(document, points.len(), Vec::new(), extra, None));
    }
    points
}

/// The id of a chunk, the same whenever and wherever the index is built.
fn point_id(memory: MemoryId, ordinal: usize) -> Uuid {
    Uuid::new_v5(&memory.uuid(), &(ordinal as u64).to_be_bytes())
}

fn embedded(title: &str, headings: &[String], text: &str) -> String {
    let mut embedded = floor(title, TITLE_BYTES).to_owned();
    for heading in headings {
        embedded.push('\n');
        embedded.push_str(heading);
    }
    embedded.push('\n');
    embedded.push_str(text);
    embedded
}

fn point(
    document: &Document,
    ordinal: usize,
    headings: Vec<String>,
    text: &str,
    range: Option<(usize, usize)>,
) -> Point {
    let embedded = embedded(&document.title, &headings, text);
    let stored = Stored {
        memory: document.memory,
        ordinal,
        kind: document.kind,
        title: document.title.clone(),
        tags: document.tags.clone(),
        links: document.links.clone(),
        truth: document.truth,
        origin: document.origin.clone(),
        event: document.event,
        created: document.created_at.timestamp_millis(),
        updated: document.updated_at.timestamp_millis(),
        when: document.when.map(|when| when.timestamp_millis()),
        archived: document.archived,
        headings,
        text: text.to_owned(),
        range,
    };
    Point { id: point_id(document.memory, ordinal), embedded, stored }
}

/// The start of a text, at most so many bytes long, cut between characters.
fn floor(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
