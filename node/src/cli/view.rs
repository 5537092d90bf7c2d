//! Answers as people see them: compact, aligned, and no wider than the terminal.

pub mod diff;
pub mod history;
pub mod memory;
pub mod node;
pub mod review;
pub mod search;
pub mod table;
pub mod text;
