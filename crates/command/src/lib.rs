//! The only code that appends.
//!
//! A command is parsed at the edge (HTTP, command line, importer) into a [`cairn_domain::memory::command::Command`].
//! [`Handler::execute`] loads the memory (cache, else snapshot and tail), lets the domain decide, appends at the
//! revision it saw, and tries again when somebody else was quicker. Nothing happens between deciding and appending.

mod codec;
mod error;
mod handler;
mod idempotency;
mod principals;
mod repository;
mod sharing;

pub use codec::{CodecError, decode_memory_event, envelope, read_metadata};
pub use error::CommandError;
pub use handler::{Done, Execute, Handler};
pub use idempotency::Idempotency;
pub use principals::{RegisterPrincipal, principal_stream};
pub use repository::{LoadError, Loaded, Repository};
