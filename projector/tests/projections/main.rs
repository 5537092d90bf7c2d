//! Projections over the log: what they write, and how they are run.

mod brain;
mod erasure;
mod log;
mod queries;
mod rebuilds;
mod rows;
mod runner;
mod stage;
