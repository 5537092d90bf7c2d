//! The read models: for each, its writes and its queries together, on SQLite and on PostgreSQL.
//!
//! A read model is a fold over the log that can be thrown away and made again. Each generation lives in a file of its own
//! ([`database`]) or in a schema of its own ([`postgres`]), which holds its rows and the position they stand at, always
//! changed in one transaction. The fold is written once, for a sink that takes its rows; so is each query.
//! [`memories`] is what most readers ask; [`timeline`] is what happened, event by event. [`change`] is what
//! both are fed with. The projector decides what to write and when; queries go to a reader
//! ([`Memories`], [`Timeline`]) that answers from whichever generation serves.
//!
//! Queries block. Call them where blocking is allowed.

pub mod change;
pub mod database;
pub mod memories;
pub mod page;
mod pool;
pub mod postgres;
mod select;
mod sql;
mod table;
pub mod timeline;
mod tombstone;

pub use database::{Database, Model, ModelError};
pub use memories::Memories;
pub use page::{Cursor, DEFAULT_LIMIT, MAX_LIMIT, Paged, QueryError};
pub use pool::READ_CONNECTIONS;
pub use timeline::Timeline;
