//! Between rows and the words of the domain.

use std::str::FromStr;

use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use chrono::{DateTime, Utc};
use rusqlite::types::Type;
use rusqlite::{Error, Row};
use uuid::Uuid;

use crate::page::QueryError;

impl QueryError {
    /// Tells damage from a failure to read.
    pub(crate) fn from_sqlite(model: &'static str, source: Error) -> Self {
        match source {
            Error::FromSqlConversionFailure(column, _, reason) => {
                Self::Corrupt { model, reason: format!("column {column} of an answer: {reason}") }
            }
            Error::InvalidColumnType(column, name, found) => {
                Self::Corrupt { model, reason: format!("column {column} ({name}) of an answer is {found}") }
            }
            source => Self::Sqlite { model, source },
        }
    }
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

pub(crate) fn uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    row.get::<_, [u8; 16]>(column).map(Uuid::from_bytes)
}

pub(crate) fn memory_id(row: &Row<'_>, column: usize) -> rusqlite::Result<MemoryId> {
    uuid(row, column).map(MemoryId::new)
}

pub(crate) fn event_id(row: &Row<'_>, column: usize) -> rusqlite::Result<EventId> {
    uuid(row, column).map(EventId::new)
}

pub(crate) fn principal_id(row: &Row<'_>, column: usize) -> rusqlite::Result<PrincipalId> {
    uuid(row, column).map(PrincipalId::new)
}

pub(crate) fn truth(row: &Row<'_>, column: usize) -> rusqlite::Result<Truth> {
    Truth::try_from(row.get::<_, u8>(column)?).map_err(|error| unreadable(column, error))
}

/// A text that the domain reads, such as an origin or a field's name.
pub(crate) fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    row.get_ref(column)?.as_str()?.parse().map_err(|error| unreadable(column, error))
}

pub(crate) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<DateTime<Utc>> {
    row.get(column).map(from_millis)
}

pub(crate) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// A value kept as JSON; `None` where the column is empty.
pub(crate) fn value(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Value>> {
    let Some(json) = row.get_ref(column)?.as_str_or_null()? else { return Ok(None) };
    serde_json::from_str(json).map(Some).map_err(|error| unreadable(column, error))
}

/// The moment that many milliseconds after 1970; the last one there is when it lies beyond.
pub(crate) fn from_millis(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Milliseconds as SQLite keeps them.
pub(crate) fn to_millis(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// A value as it is kept.
pub(crate) fn to_json(value: &Value) -> String {
    serde_json::to_string(value).expect("values are plain JSON")
}
