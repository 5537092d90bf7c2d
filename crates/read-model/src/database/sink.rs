//! Writes to SQLite what a fold asks for, at once.

use rusqlite::Connection;

use crate::table::{Cell, Presence, Scope, Sink, Table};

/// A sink inside of a transaction. After the first failure it writes nothing more.
pub(super) struct SqliteSink<'a> {
    connection: &'a Connection,
    outcome: rusqlite::Result<()>,
}

impl<'a> SqliteSink<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection, outcome: Ok(()) }
    }

    /// What failed, if anything did.
    pub(super) fn finish(self) -> rusqlite::Result<()> {
        self.outcome
    }

    fn execute(&mut self, sql: &str, bound: &[Cell<'_>]) {
        if self.outcome.is_ok() {
            let statement = self.connection.prepare_cached(sql);
            let executed = statement.and_then(|mut it| it.execute(rusqlite::params_from_iter(bound)));
            self.outcome = executed.map(drop);
        }
    }
}

impl Sink for SqliteSink<'_> {
    fn put(&mut self, table: &'static Table, row: &[Cell<'_>], _: Presence) {
        self.execute(table.put(), row);
    }

    fn delete(&mut self, table: &'static Table, scope: Scope, key: &[Cell<'_>]) {
        self.execute(table.delete(scope), key);
    }

    fn run(&mut self, statement: &'static str, bound: &[Cell<'_>]) {
        self.execute(statement, bound);
    }
}
