//! The log in a SQLite file keeps the rules.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use cairn_event_store::conformance::{BRAIN, Fixture};
use cairn_event_store::{SqliteStore, conformance_suite};

async fn sqlite() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("events.db"), BRAIN).unwrap();
    Fixture { store: Arc::new(store), keep: Box::new(folder) }
}

conformance_suite!(sqlite);
