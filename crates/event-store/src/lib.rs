//! The event store: a port of few methods, the conformance suite that every adapter passes, and the adapters.
//!
//! Start at [`EventStore`], the port. [`event`] holds what goes in and comes out, [`subscription`] turns any
//! adapter into a feed that catches up and goes live.
//!
//! Invariants that every adapter keeps, and the conformance suite (feature `test-util`) checks:
//!
//! - An append is all or nothing, and durable before it is acknowledged.
//! - Positions are total, strictly increasing and visible in order: once a reader has seen position `p`,
//!   nothing at or below `p` appears later.
//! - The same event ids appended again return the first result; the same id with other content is refused.
//! - Events are never rewritten.

mod admission;
mod clock;
#[cfg(feature = "test-util")]
pub mod conformance;
pub mod event;
pub mod keyring;
pub mod kurrent;
pub mod memory;
pub mod notary;
mod page;
pub mod port;
pub mod postgres;
pub mod sealed;
pub mod sqlite;
pub mod subscription;
mod tail;
pub mod verify;
mod view;

pub use event::{
    Appended, Direction, ExpectedRevision, Filter, NewAppend, NewEvent, Page, Position, RecordedEvent, Revision,
    Snapshot, StreamAppend, Tracking,
};
pub use keyring::Keyring;
pub use kurrent::KurrentStore;
pub use memory::MemoryStore;
pub use page::{MAX_PAGE_BYTES, MAX_PAGE_EVENTS, MAX_PAGE_SCAN};
pub use port::{AppendError, EventStore, SharedStore, StoreError};
pub use postgres::PostgresStore;
pub use sealed::Sealed;
pub use sqlite::SqliteStore;
pub use subscription::{Batch, Subscription, subscribe};
