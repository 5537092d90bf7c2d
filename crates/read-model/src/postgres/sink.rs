//! Collects what a fold asks for, and writes it at the end of the batch with few statements.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::arrays::Array;
use super::{bind, numbered};
use crate::table::{Cell, Column, Presence, Scope, Sink, Table};

/// When the rows for one statement take so many bytes, the next ones go into another.
const STATEMENT_BYTES: usize = 16 * 1024 * 1024;

/// The writes of a batch.
#[derive(Debug, Default)]
pub(super) struct PgSink {
    rows: BTreeMap<(&'static str, Presence), Pending>,
    deletions: BTreeMap<(&'static str, Scope), Pending>,
    statements: Vec<(&'static str, Vec<Owned>)>,
}

/// Rows or keys of one table.
#[derive(Debug)]
struct Pending {
    table: &'static Table,
    columns: &'static [Column],
    /// Those of one statement each.
    parts: Vec<Vec<Array>>,
}

/// A cell that outlives the fold.
#[derive(Debug)]
enum Owned {
    Text(String),
    Other(Cell<'static>),
}

impl Pending {
    fn new(table: &'static Table, columns: &'static [Column]) -> Self {
        Self { table, columns, parts: Vec::new() }
    }

    fn push(&mut self, cells: &[Cell<'_>]) {
        debug_assert_eq!(cells.len(), self.columns.len(), "{}", self.table.name());
        let full = |part: &Vec<Array>| part.iter().map(Array::len).sum::<usize>() >= STATEMENT_BYTES;
        if self.parts.last().is_none_or(full) {
            self.parts.push(self.columns.iter().copied().map(Array::new).collect());
        }
        let part = self.parts.last_mut().expect("one was just made sure of");
        part.iter_mut().zip(cells).for_each(|(array, cell)| array.push(cell));
    }
}

impl Sink for PgSink {
    fn put(&mut self, table: &'static Table, row: &[Cell<'_>], presence: Presence) {
        let pending = self.rows.entry((table.name(), presence));
        pending.or_insert_with(|| Pending::new(table, table.columns())).push(row);
    }

    fn delete(&mut self, table: &'static Table, scope: Scope, key: &[Cell<'_>]) {
        let pending = self.deletions.entry((table.name(), scope));
        pending.or_insert_with(|| Pending::new(table, table.scope(scope))).push(key);
    }

    fn run(&mut self, statement: &'static str, bound: &[Cell<'_>]) {
        self.statements.push((statement, bound.iter().map(Owned::from).collect()));
    }
}

impl PgSink {
    /// Writes it all: what goes, what comes, what is told in order.
    pub(super) async fn write(&self, connection: &mut PgConnection, tenant: Uuid) -> sqlx::Result<()> {
        for ((_, scope), pending) in &self.deletions {
            for part in &pending.parts {
                let query = sqlx::query(pending.table.delete_all(*scope));
                part.iter().fold(query, |query, array| query.bind(array)).execute(&mut *connection).await?;
            }
        }
        for ((_, presence), pending) in &self.rows {
            for part in &pending.parts {
                let query = sqlx::query(pending.table.put_all(*presence)).bind(tenant);
                part.iter().fold(query, |query, array| query.bind(array)).execute(&mut *connection).await?;
            }
        }
        for (statement, bound) in &self.statements {
            let query = sqlx::query(numbered(statement));
            bound.iter().fold(query, |query, cell| bind(query, &cell.cell())).execute(&mut *connection).await?;
        }
        Ok(())
    }
}

impl From<&Cell<'_>> for Owned {
    fn from(cell: &Cell<'_>) -> Self {
        Self::Other(match *cell {
            Cell::Text(text) => return Self::Text(text.to_owned()),
            Cell::Null => Cell::Null,
            Cell::Id(id) => Cell::Id(id),
            Cell::Number(number) => Cell::Number(number),
            Cell::Truth(level) => Cell::Truth(level),
            Cell::Flag(flag) => Cell::Flag(flag),
            Cell::Time(millis) => Cell::Time(millis),
            Cell::Real(number) => Cell::Real(number),
        })
    }
}

impl Owned {
    fn cell(&self) -> Cell<'_> {
        match self {
            Self::Text(text) => Cell::Text(text),
            Self::Other(cell) => *cell,
        }
    }
}
