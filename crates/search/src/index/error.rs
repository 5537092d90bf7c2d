//! Why the index cannot do what it was asked.

use std::path::{Path, PathBuf};

use qdrant_edge::OperationError;

use crate::embedder::EmbedError;

/// Why the index cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The query itself is at fault.
    #[error("the query {0}")]
    Query(&'static str),
    /// The texts to index could not be embedded. (A query is answered by its words alone then.)
    #[error("the texts to index could not be embedded")]
    Embed(#[from] EmbedError),
    /// The folder was written with another model or by another version.
    #[error("the search index in {folder} was written with {found}, but {expected} is configured; rebuild it")]
    OtherIndex {
        /// The folder.
        folder: PathBuf,
        /// What wrote it.
        found: String,
        /// What is configured.
        expected: String,
    },
    /// The folder holds something else.
    #[error("{folder} holds files but no search index; choose an empty folder or a new one")]
    Foreign {
        /// The folder.
        folder: PathBuf,
    },
    /// Another process has it open.
    #[error("the search index in {folder} is in use by another process; stop that one first")]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder is damaged.
    #[error("the search index in {folder} is damaged ({reason}); rebuild it, nothing else is lost")]
    Corrupt {
        /// The folder.
        folder: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The folder cannot be read or written.
    #[error("{path} cannot be read or written")]
    Io {
        /// Where.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The disk is nearly full. What is in the index can still be searched.
    #[error(
        "the search index in {folder} needs {needed} bytes of free room but there are {free}; make room, then it catches up"
    )]
    NoRoom {
        /// The folder.
        folder: PathBuf,
        /// What there is, in bytes.
        free: u64,
        /// What it takes, in bytes.
        needed: u64,
    },
    /// What was written could not be made durable.
    #[error("the search index in {folder} could not be flushed ({reason}); check that the disk has room")]
    Flush {
        /// The folder.
        folder: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The engine failed.
    #[error("the search engine failed while {doing}")]
    Engine {
        /// What it was doing.
        doing: &'static str,
        /// What it said.
        source: Box<OperationError>,
    },
    /// What is configured for the Qdrant server cannot work.
    #[error("the {0}")]
    Settings(&'static str),
    /// The server cannot be reached, does not answer in time, or cannot do it now.
    #[error(
        "the Qdrant server {server} failed while {doing} ({reason}); check that it runs and that the URL names its gRPC port, usually 6334"
    )]
    Unavailable {
        /// Its URL.
        server: String,
        /// What it was asked to do.
        doing: &'static str,
        /// What it or the connection said.
        reason: String,
    },
    /// The server refused, and would again.
    #[error(
        "the Qdrant server {server} refused {doing} ({reason}); check its API key, its version and its limits"
    )]
    Refused {
        /// Its URL.
        server: String,
        /// What it was asked to do.
        doing: &'static str,
        /// What it said.
        reason: String,
    },
    /// A collection that should be on the server is not.
    #[error("the collection {collection} is not on the Qdrant server {server}; rebuild the search index")]
    Gone {
        /// The server's URL.
        server: String,
        /// The collection or its alias.
        collection: String,
    },
    /// The collection was made with another model or by another version.
    #[error("the collection {collection} was made with {found}, but {expected} is configured; rebuild it")]
    OtherCollection {
        /// The collection or its alias.
        collection: String,
        /// What made it.
        found: String,
        /// What is configured.
        expected: String,
    },
    /// The engine panicked, or the process shuts down.
    #[error("the search engine stopped while {0}")]
    Stopped(&'static str),
}

impl SearchError {
    pub(super) fn engine(doing: &'static str, error: OperationError) -> Self {
        Self::Engine { doing, source: Box::new(error) }
    }

    pub(super) fn corrupt(folder: &Path, reason: &str) -> Self {
        Self::Corrupt { folder: folder.to_owned(), reason: reason.chars().take(300).collect() }
    }

    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}
