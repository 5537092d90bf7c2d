//! The rules of truth, claims and memories, as pure functions, and the wire table of events.
//!
//! Nothing here does I/O, reads a clock, makes a random number or an id: all of these come in as arguments.

pub mod body;
pub mod claim;
pub mod clock;
pub mod diff;
pub mod event;
pub mod field;
pub mod id;
pub mod kind;
pub mod memory;
pub mod principal;
pub mod truth;
pub mod value;
mod verdict;

// What the tests share names this crate as they do from outside.
#[cfg(test)]
extern crate self as cairn_domain;

#[cfg(test)]
#[path = "../tests/support/scenario.rs"]
mod scenario;
