//! The log in PostgreSQL keeps the rules, also when several processes append to it and the server goes away.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use cairn_event_store::conformance::{BRAIN, Fixture};
use cairn_event_store::{EventStore, PostgresStore, conformance_suite, postgres};
use cairn_testkit::postgres::{Database, database};

async fn open(database: &Database) -> PostgresStore {
    let pool = postgres::connect(database.url(), 8).await.unwrap();
    postgres::migrate(&pool).await.unwrap();
    PostgresStore::open(pool, BRAIN).await.unwrap()
}

async fn on_postgres() -> Fixture {
    let database = database().await;
    let store = open(&database).await;
    Fixture { store: Arc::new(store), keep: Box::new(database) }
}

conformance_suite!(on_postgres);
