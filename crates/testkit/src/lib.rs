//! Seeds, clients and private processes for tests.
//!
//! A test that needs a node starts its own: a process with its own data folder, on a port of its own, gone when
//! the test is. Nothing here is shared between tests, so they run beside each other.

pub mod client;
pub mod node;
pub mod omitted;
pub mod postgres;
pub mod program;
pub mod seed;

pub use crate::client::{Answer, Client};
pub use crate::node::{Node, NodeOptions, StartError};
pub use crate::omitted::not_tested;
pub use crate::program::{Ran, cairn, run};
pub use crate::seed::{Seed, fast};
