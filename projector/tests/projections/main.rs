//! Projections over the log: what they write, and how they are run.

mod back;
mod brain;
mod crooked;
mod erasure;
mod log;
mod parallel;
mod pauses;
mod queries;
mod rebuilds;
mod rows;
mod runner;
mod shared;
mod stage;
mod swaps;
mod together;
mod verified;
