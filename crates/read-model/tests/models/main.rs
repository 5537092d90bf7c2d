//! One suite over both databases, and what only PostgreSQL has to keep.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
#[allow(dead_code, reason = "the example uses the rest")]
mod brain;
mod server;
mod stage;
mod tenants;
