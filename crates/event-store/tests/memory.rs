//! The in-memory log keeps the rules.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use cairn_event_store::conformance::{BRAIN, Fixture};
use cairn_event_store::{MemoryStore, conformance_suite};

async fn memory() -> Fixture {
    Fixture { store: Arc::new(MemoryStore::new(BRAIN)), keep: Box::new(()) }
}

conformance_suite!(memory);
