//! Chunking, embedding, the vector index and hybrid search.
//!
//! A memory's text is cut into [`chunk`]s, each chunk is turned into a dense vector by an
//! [`embedder::Embedder`] and into a sparse BM25 vector, and both live in one embedded Qdrant shard
//! ([`index::SearchIndex`]). A query asks both sides separately and [`fuse`]s what they answer.
//!
//! The index is a read model: it holds nothing that the log does not, and a folder written with
//! another model or by another version is refused so that the caller rebuilds it.

pub mod background;
pub mod chunk;
pub mod document;
pub mod embedder;
pub mod eval;
pub mod fuse;
pub mod index;
pub mod query;
pub mod snippet;
mod words;
