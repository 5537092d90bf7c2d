//! Seeds, clients and private processes for tests.
//!
//! A test that needs a node starts its own: a process with its own data folder, on a port of its own, gone when
//! the test is. Nothing here is shared between tests, so they run beside each other.

#[cfg(feature = "clients")]
pub mod beside;
#[cfg(feature = "clients")]
pub mod client;
#[cfg(feature = "clients")]
pub mod node;
pub mod omitted;
pub mod postgres;
#[cfg(feature = "clients")]
pub mod program;
#[cfg(feature = "qdrant")]
pub mod qdrant;
pub mod seed;

#[cfg(feature = "clients")]
pub use crate::beside::Beside;
#[cfg(feature = "clients")]
pub use crate::client::{Answer, Client};
#[cfg(feature = "clients")]
pub use crate::node::{DATABASE_VARIABLE, Node, NodeOptions, StartError, on_postgres};
pub use crate::omitted::not_tested;
#[cfg(feature = "clients")]
pub use crate::program::{Ran, cairn, run, run_with};
pub use crate::seed::{Seed, fast};
