//! Where the points of an index live: in a folder, or in a collection on a server.
//!
//! Both hold the same points in the same layout and answer the same few questions. Everything else, from chunking to
//! fusion, is done once, above them.

use qdrant_edge::SparseVector;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::filter::Condition;
use super::folder::Folder;
use super::server::Collection;
use super::{SearchError, Stats};

/// What is stored beside the vectors of a chunk.
pub(super) type Payload = Map<String, Value>;

/// A chunk with its vectors, on its way in.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: Uuid,
    pub(super) dense: Vec<f32>,
    pub(super) words: SparseVector,
    pub(super) payload: Payload,
}

/// What both sides are asked at once.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// Similar meaning; nobody is asked when there is none.
    pub(super) dense: Option<Vec<f32>>,
    /// The same words; nobody is asked when there are none.
    pub(super) words: Option<SparseVector>,
    pub(super) filter: Vec<Condition>,
    /// How many chunks each side answers with at most.
    pub(super) depth: usize,
}

/// What both sides found, each best first.
#[derive(Debug, Default)]
pub(super) struct Sides {
    pub(super) dense: Vec<Near>,
    pub(super) words: Vec<Near>,
}

/// A chunk that was found.
#[derive(Debug)]
pub(super) struct Near {
    pub(super) id: Uuid,
    pub(super) score: f32,
    pub(super) payload: Payload,
}

/// Some points in the order of their ids.
#[derive(Debug)]
pub(super) struct Page {
    /// Their payloads are empty unless they were asked for.
    pub(super) points: Vec<(Uuid, Payload)>,
    /// Where the next page starts; there is none after the last.
    pub(super) next: Option<Uuid>,
}

/// Where the points live.
#[derive(Debug)]
pub(super) enum Engine {
    Folder(Folder),
    Collection(Box<Collection>),
}

impl Engine {
    /// Writes points; each replaces the one with its id. It also checks, even for none, that there is room.
    pub(super) async fn upsert(&self, entries: Vec<Entry>) -> Result<(), SearchError> {
        match self {
            Self::Folder(folder) => folder.upsert(entries).await,
            Self::Collection(collection) => collection.upsert(entries).await,
        }
    }

    /// Deletes points. `erases` says that what they hold must not be left anywhere.
    pub(super) async fn delete(&self, ids: Vec<Uuid>, erases: bool) -> Result<(), SearchError> {
        match self {
            Self::Folder(folder) => folder.delete(ids, erases).await,
            Self::Collection(collection) => collection.delete(&ids).await,
        }
    }

    /// The points that meet every condition, from an id on.
    pub(super) async fn page(
        &self,
        filter: &[Condition],
        payload: bool,
        from: Option<Uuid>,
        limit: usize,
    ) -> Result<Page, SearchError> {
        match self {
            Self::Folder(folder) => folder.page(filter, payload, from, limit).await,
            Self::Collection(collection) => collection.page(filter, payload, from, limit).await,
        }
    }

    pub(super) async fn nearest(&self, question: Question) -> Result<Sides, SearchError> {
        match self {
            Self::Folder(folder) => folder.nearest(question).await,
            Self::Collection(collection) => collection.nearest(question).await,
        }
    }

    pub(super) async fn stats(&self) -> Result<Stats, SearchError> {
        match self {
            Self::Folder(folder) => folder.stats().await,
            Self::Collection(collection) => collection.stats().await,
        }
    }

    pub(super) async fn flush(&self) -> Result<(), SearchError> {
        match self {
            Self::Folder(folder) => folder.flush().await,
            // Every write was waited for, and the server logs a write durably before it applies it.
            Self::Collection(_) => Ok(()),
        }
    }

    pub(super) async fn optimize(&self) -> Result<bool, SearchError> {
        match self {
            Self::Folder(folder) => folder.optimize().await,
            // The server does so by itself, by the thresholds that the collection was made with.
            Self::Collection(_) => Ok(false),
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        match self {
            Self::Folder(folder) => folder.is_busy(),
            Self::Collection(_) => false,
        }
    }

    pub(super) fn purge_due(&self) -> bool {
        match self {
            Self::Folder(folder) => folder.purge_due(),
            Self::Collection(_) => false,
        }
    }

    pub(super) async fn purge(&self) -> Result<(), SearchError> {
        match self {
            Self::Folder(folder) => folder.purge().await,
            Self::Collection(_) => Ok(()),
        }
    }

    /// How many searches are worth running at once.
    pub(super) fn searches(&self) -> usize {
        match self {
            // More than there are processors would only slow each other down.
            Self::Folder(_) => std::thread::available_parallelism().map_or(1, usize::from),
            Self::Collection(_) => super::server::SEARCHES,
        }
    }
}
