//! The tables that a fold writes, described once for both databases, and the writes it may ask for.

use std::fmt::Write as _;
use std::sync::OnceLock;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Id,
    Text,
    Number,
    Truth,
    Flag,
    Time,
    Real,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whether the first write settles it, so that later ones leave it, and its indexes, alone.
    kept: bool,
    /// How many bytes of a text PostgreSQL keeps. Its index entries have a bound, and what is only filtered by may hold
    /// anything that was once said of a field.
    pub(crate) bound: usize,
}

/// The bound of texts in indexes. Everything that is meant to be in such a column is far shorter.
const INDEXED_BYTES: usize = 512;

impl Column {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, kept: false, bound: usize::MAX }
    }

    /// A text in an index, whose length nothing else bounds.
    pub(crate) const fn indexed(mut self) -> Self {
        self.bound = INDEXED_BYTES;
        self
    }

    pub(crate) const fn kept(mut self) -> Self {
        self.kept = true;
        self
    }
}

pub(crate) const fn id(name: &'static str) -> Column {
    Column::new(name, Kind::Id)
}

pub(crate) const fn text(name: &'static str) -> Column {
    Column::new(name, Kind::Text)
}

pub(crate) const fn number(name: &'static str) -> Column {
    Column::new(name, Kind::Number)
}

pub(crate) const fn truth(name: &'static str) -> Column {
    Column::new(name, Kind::Truth)
}

pub(crate) const fn flag(name: &'static str) -> Column {
    Column::new(name, Kind::Flag)
}

pub(crate) const fn time(name: &'static str) -> Column {
    Column::new(name, Kind::Time)
}

pub(crate) const fn real(name: &'static str) -> Column {
    Column::new(name, Kind::Real)
}

/// How a table looks.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [Column],
    /// How many columns, from the first, are the primary key.
    pub(crate) key: usize,
    /// How many columns, from the first, name the rows that are deleted together.
    pub(crate) part: usize,
    /// Which column names the memory.
    pub(crate) memory: usize,
}

/// A table with the texts of its writes, each made when it is first needed.
#[derive(Debug)]
pub(crate) struct Table {
    shape: Shape,
    put: OnceLock<String>,
    delete: [OnceLock<String>; 2],
    insert_all: OnceLock<String>,
    put_all: OnceLock<String>,
    delete_all: [OnceLock<String>; 2],
}

/// Which rows are deleted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Those whose leading columns hold some values; [`Shape::part`] says how many columns.
    Part,
    /// Those of a memory.
    Memory,
}

/// Whether a row of the same key may be in the table already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Presence {
    Absent,
    Possible,
}

/// One value of a row or of a condition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Id([u8; 16]),
    Text(&'a str),
    Number(i64),
    Truth(u8),
    Flag(bool),
    /// Milliseconds since 1970.
    Time(i64),
    Real(f64),
}

impl<'a> Cell<'a> {
    /// An absent value is null.
    pub(crate) fn maybe(cell: Option<impl Into<Cell<'a>>>) -> Self {
        cell.map_or(Cell::Null, Into::into)
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Cell::Text(text)
    }
}

impl From<[u8; 16]> for Cell<'_> {
    fn from(id: [u8; 16]) -> Self {
        Cell::Id(id)
    }
}

impl From<uuid::Uuid> for Cell<'_> {
    fn from(id: uuid::Uuid) -> Self {
        Cell::Id(id.into_bytes())
    }
}

impl From<f64> for Cell<'_> {
    fn from(number: f64) -> Self {
        Cell::Real(number)
    }
}

/// Takes what a fold writes.
///
/// The writes of one batch are one whole: a sink may do them at once or all at the end. It may do all deletions before
/// all rows, and both before the statements; a fold asks for nothing whose result depends on that, so it puts no two rows
/// of one key and deletes none of the rows it has put. What fails is told when the batch ends.
pub(crate) trait Sink {
    /// Puts a row in the place of the one with its key. Its cells stand in the order of the table's columns.
    fn put(&mut self, table: &'static Table, row: &[Cell<'_>], presence: Presence);

    /// Deletes the rows of a scope.
    fn delete(&mut self, table: &'static Table, scope: Scope, key: &[Cell<'_>]);

    /// Runs a statement in the order in which it is given. For what is rare.
    fn run(&mut self, statement: &'static str, bound: &[Cell<'_>]);
}

impl Table {
    pub(crate) const fn new(shape: Shape) -> Self {
        Self {
            shape,
            put: OnceLock::new(),
            delete: [const { OnceLock::new() }; 2],
            insert_all: OnceLock::new(),
            put_all: OnceLock::new(),
            delete_all: [const { OnceLock::new() }; 2],
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.shape.name
    }

    pub(crate) fn columns(&self) -> &'static [Column] {
        self.shape.columns
    }

    /// The columns that a deletion's key stands for.
    pub(crate) fn scope(&self, scope: Scope) -> &'static [Column] {
        match scope {
            Scope::Part => &self.shape.columns[..self.shape.part],
            Scope::Memory => &self.shape.columns[self.shape.memory..=self.shape.memory],
        }
    }

    /// SQLite's text to put one row.
    pub(crate) fn put(&'static self) -> &'static str {
        self.put.get_or_init(|| {
            let columns = names(self.shape.columns);
            let marks = vec!["?"; self.shape.columns.len()].join(", ");
            format!("INSERT INTO {} ({columns}) VALUES ({marks}){}", self.shape.name, self.on_conflict())
        })
    }

    /// SQLite's text to delete the rows of a scope.
    pub(crate) fn delete(&'static self, scope: Scope) -> &'static str {
        self.delete[scope as usize].get_or_init(|| {
            let columns = self.scope(scope).iter().map(|column| format!("{} = ?", column.name));
            format!("DELETE FROM {} WHERE {}", self.shape.name, columns.collect::<Vec<_>>().join(" AND "))
        })
    }

    /// PostgreSQL's text to put many rows: the tenant, then an array for each column.
    pub(crate) fn put_all(&'static self, presence: Presence) -> &'static str {
        let text = match presence {
            Presence::Absent => &self.insert_all,
            Presence::Possible => &self.put_all,
        };
        text.get_or_init(|| {
            let columns = names(self.shape.columns);
            let arrays = arrays(2, self.shape.columns.len());
            let mut text = format!(
                "INSERT INTO {} (tenant, {columns}) SELECT $1, given.* FROM unnest({arrays}) AS given",
                self.shape.name
            );
            if presence == Presence::Possible {
                text.push_str(&self.on_conflict());
            }
            text
        })
    }

    /// PostgreSQL's text to delete the rows of many keys: an array for each column of the key.
    pub(crate) fn delete_all(&'static self, scope: Scope) -> &'static str {
        self.delete_all[scope as usize].get_or_init(|| {
            let columns = self.scope(scope);
            let same = columns.iter().map(|column| format!("old.{0} = given.{0}", column.name));
            format!(
                "DELETE FROM {} AS old USING unnest({}) AS given ({}) WHERE {}",
                self.shape.name,
                arrays(1, columns.len()),
                names(columns),
                same.collect::<Vec<_>>().join(" AND ")
            )
        })
    }

    /// Both databases read it alike.
    fn on_conflict(&self) -> String {
        let (key, rest) = self.shape.columns.split_at(self.shape.key);
        let changed = rest.iter().filter(|column| !column.kept);
        let changed = changed.map(|column| format!("{0} = excluded.{0}", column.name)).collect::<Vec<_>>();
        format!(" ON CONFLICT ({}) DO UPDATE SET {}", names(key), changed.join(", "))
    }
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
}

/// As many numbered parameters, from the first.
fn arrays(first: usize, count: usize) -> String {
    let mut text = String::new();
    for number in first..first + count {
        let separator = if number == first { "" } else { ", " };
        // Writing to a text cannot fail.
        let _ = write!(text, "{separator}${number}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: Table = Table::new(Shape {
        name: "things",
        columns: &[id("memory"), text("field"), time("at").kept(), text("value")],
        key: 2,
        part: 2,
        memory: 0,
    });

    #[test]
    fn the_texts_of_the_writes() {
        assert_eq!(
            TABLE.put(),
            "INSERT INTO things (memory, field, at, value) VALUES (?, ?, ?, ?) \
             ON CONFLICT (memory, field) DO UPDATE SET value = excluded.value"
        );
        assert_eq!(TABLE.delete(Scope::Memory), "DELETE FROM things WHERE memory = ?");
        assert_eq!(
            TABLE.put_all(Presence::Absent),
            "INSERT INTO things (tenant, memory, field, at, value) \
             SELECT $1, given.* FROM unnest($2, $3, $4, $5) AS given"
        );
        assert_eq!(
            TABLE.delete_all(Scope::Part),
            "DELETE FROM things AS old USING unnest($1, $2) AS given (memory, field) \
             WHERE old.memory = given.memory AND old.field = given.field"
        );
    }
}
