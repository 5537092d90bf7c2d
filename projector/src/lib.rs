//! The projection runner: keeps every read model up with the log, and builds new generations of them beside the
//! serving ones.
//!
//! Start at [`Projector`]. A [`projection::Projection`] is a read model that can be opened, fed and served:
//! [`sqlite::SqliteProjection`] runs the models of `cairn-read-model`, [`search::SearchProjection`] the search index.
//! [`fold`] turns events of the log into memories as they stand; each run of a projection has two threads, one that
//! reads and folds and one that writes, so that neither waits for the other. See
//! `docs/decisions/0007-projections-and-generations.md`.

pub mod fold;
pub mod generations;
pub mod lease;
pub mod orders;
pub mod postgres;
pub mod projection;
mod projector;
pub mod rebuild;
mod run;
pub mod search;
mod slot;
pub mod sqlite;
pub mod status;
mod turns;

pub use generations::Place;
pub use lease::Leases;
pub use orders::Order;
pub use postgres::PostgresProjection;
pub use projection::{Generation, Projection, ProjectionError};
pub use projector::{Projector, ProjectorError, RebuildHandle, StartError, Verification, WaitError};
pub use rebuild::{MAX_WORKERS, Rebuild, Workers};
pub use search::{SearchProjection, SearchReader};
pub use sqlite::SqliteProjection;
pub use status::{Phase, Progress, ProjectionStatus, State};
pub use turns::Turns;
