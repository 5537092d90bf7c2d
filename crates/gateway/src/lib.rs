//! The gateway: KurrentDB's gRPC protocol over any event store, so that its clients can replay and follow a brain and
//! keep streams of their own in it.
//!
//! Start at [`Gateway`]. [`Authority`] is what a node brings: who is calling, and at which truth they may write.
//!
//! - Streams that Cairn's own commands write ([`OWNED_PREFIXES`]) and those of the system can be read and followed,
//!   never written. Every other stream takes appends, in the caller's name and at the caller's truth at most.
//! - Nothing leaves the log. A deleted stream is one that readers are told is not there.
//! - The position of an event in the log is both of the positions that the protocol knows.
//!
//! `docs/kurrentdb.md` says what is served and what differs.

mod authority;
mod batch;
mod connections;
mod envelope;
mod failure;
mod filter;
mod follow;
mod ids;
mod lifecycle;
mod meter;
mod names;
mod plan;
mod read;
mod remove;
mod reply;
mod server;
mod service;
mod write;

pub use authority::{Authority, Caller, Credentials, Level, Refusal};
pub use connections::MAX_CONNECTIONS;
pub use filter::{MAX_PATTERN_BYTES, MAX_PREFIXES};
pub use names::OWNED_PREFIXES;
pub use server::{Gateway, MAX_CALLS, MAX_MESSAGE_BYTES, Options, ServeError, Tls};
pub use service::SERVER_VERSION;
pub use write::MAX_APPEND_BYTES;
