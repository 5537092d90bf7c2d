//! Builds a SELECT from the filters that were given. Values are always bound, never written into the text.

use cairn_domain::truth::Truth;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::sql::{Answer, Connection, Row};
use crate::table::Cell;

/// A value that a condition is bound to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Param {
    Id(Uuid),
    Text(String),
    Number(i64),
    Truth(Truth),
    Flag(bool),
    /// Milliseconds since 1970.
    Time(i64),
    Real(f64),
}

/// A query that grows condition by condition.
#[derive(Debug)]
pub(crate) struct Select {
    text: String,
    bound: Vec<Param>,
    conditions: usize,
}

impl Select {
    /// Begins with everything up to the conditions.
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), bound: Vec::new(), conditions: 0 }
    }

    /// Adds a condition with its values, in the order of its question marks.
    pub(crate) fn and<const N: usize>(&mut self, condition: &str, values: [Param; N]) {
        self.text.push_str(if self.conditions == 0 { " WHERE " } else { " AND " });
        self.text.push_str(condition);
        self.bound.extend(values);
        self.conditions += 1;
    }

    /// Adds a condition where there is a value for it.
    pub(crate) fn and_if(&mut self, condition: &str, value: Option<impl Into<Param>>) {
        if let Some(value) = value {
            self.and(condition, [value.into()]);
        }
    }

    /// Adds that a column is one of some values. None at all add nothing.
    pub(crate) fn and_in(&mut self, column: &str, values: Vec<Param>) {
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
        self.bound.push(Param::Number(i64::try_from(limit).unwrap_or(i64::MAX)));
    }

    /// Asks.
    pub(crate) fn rows<T>(
        &self,
        connection: &mut Connection<'_>,
        read: impl FnMut(&Row<'_>) -> Answer<T>,
    ) -> Answer<Vec<T>> {
        let bound: Vec<_> = self.bound.iter().map(Cell::from).collect();
        connection.query(&self.text, &bound, read)
    }

    /// Adds that a column is among the answers of another query.
    pub(crate) fn and_among(&mut self, column: &str, inner: Select) {
        self.and(&format!("{column} IN ({})", inner.text), []);
        self.bound.extend(inner.bound);
    }

    /// Whether it has conditions.
    pub(crate) fn is_conditional(&self) -> bool {
        self.conditions > 0
    }
}

impl<'a> From<&'a Param> for Cell<'a> {
    fn from(param: &'a Param) -> Self {
        match param {
            Param::Id(id) => Cell::Id(id.into_bytes()),
            Param::Text(text) => Cell::Text(text),
            Param::Number(number) => Cell::Number(*number),
            Param::Truth(truth) => Cell::Truth(truth.level()),
            Param::Flag(flag) => Cell::Flag(*flag),
            Param::Time(millis) => Cell::Time(*millis),
            Param::Real(number) => Cell::Real(*number),
        }
    }
}

impl From<Uuid> for Param {
    fn from(id: Uuid) -> Self {
        Self::Id(id)
    }
}

impl From<String> for Param {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Param {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Truth> for Param {
    fn from(truth: Truth) -> Self {
        Self::Truth(truth)
    }
}

impl From<bool> for Param {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<DateTime<Utc>> for Param {
    fn from(time: DateTime<Utc>) -> Self {
        Self::Time(time.timestamp_millis())
    }
}

impl From<f64> for Param {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}
