//! Builds a SELECT from the filters that were given. Values are always bound, never written into the text.

use rusqlite::types::{ToSqlOutput, Value};
use rusqlite::{Connection, Row, ToSql};

/// A query that grows condition by condition.
#[derive(Debug)]
pub(crate) struct Select {
    text: String,
    bound: Vec<Value>,
    conditions: usize,
}

impl Select {
    /// Begins with everything up to the conditions.
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), bound: Vec::new(), conditions: 0 }
    }

    /// Adds a condition with its values, in the order of its question marks.
    pub(crate) fn and<const N: usize>(&mut self, condition: &str, values: [Value; N]) {
        self.text.push_str(if self.conditions == 0 { " WHERE " } else { " AND " });
        self.text.push_str(condition);
        self.bound.extend(values);
        self.conditions += 1;
    }

    /// Adds a condition where there is a value for it.
    pub(crate) fn and_if(&mut self, condition: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.and(condition, [value.into()]);
        }
    }

    /// Adds that a column is one of some values. None at all add nothing.
    pub(crate) fn and_in(&mut self, column: &str, values: Vec<Value>) {
        if values.is_empty() {
            return;
        }
        let marks = vec!["?"; values.len()].join(", ");
        self.and(&format!("{column} IN ({marks})"), []);
        self.bound.extend(values);
    }

    /// Adds what comes after the conditions: the order and the limit.
    pub(crate) fn end(&mut self, text: &str, limit: usize) {
        self.text.push_str(text);
        self.text.push_str(" LIMIT ?");
        self.bound.push(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
    }

    /// Asks.
    pub(crate) fn rows<T>(
        &self,
        connection: &Connection,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let mut statement = connection.prepare_cached(&self.text)?;
        statement.query_map(rusqlite::params_from_iter(self.bound.iter().map(Bound)), read)?.collect()
    }

    /// The conditions alone, for a query inside another one.
    pub(crate) fn nested(self) -> (String, Vec<Value>) {
        (self.text, self.bound)
    }

    /// Adds that a column is among the answers of another query.
    pub(crate) fn and_among(&mut self, column: &str, inner: Select) {
        let (text, bound) = inner.nested();
        self.and(&format!("{column} IN ({text})"), []);
        self.bound.extend(bound);
    }

    /// Whether it has conditions.
    pub(crate) fn is_conditional(&self) -> bool {
        self.conditions > 0
    }
}

/// Binds without copying.
struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0.into()))
    }
}
