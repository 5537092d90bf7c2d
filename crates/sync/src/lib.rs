//! Spaces that brains share, without I/O: who is who, what an author has signed, what a grant lets an entry count for, and the [`engine`] that
//! does what follows from what happens between brains.
//!
//! Nothing here reads a clock, draws a random number or does I/O. `docs/decisions/0018-spaces-and-signed-chains.md` says why it is
//! as it is.

pub mod certificate;
pub mod chain;
pub mod control;
pub mod engine;
pub mod entry;
pub mod key;
pub mod replica;
pub mod roster;
pub mod sealing;
pub mod shared;
pub mod space;
pub mod succession;
pub mod wire;
