//! One text of each query for both databases, and their rows in the words of the domain.

use std::ops::ControlFlow;
use std::str::FromStr;

use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use rusqlite::ToSql;
use rusqlite::types::{FromSql, ToSqlOutput, ValueRef};
use sqlx::postgres::PgRow;
use sqlx::{Decode, PgConnection, Postgres, Row as _};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::page::QueryError;
use crate::postgres::{bind, numbered};
use crate::table::Cell;

/// Why a query failed, before it is known of which model.
#[derive(Debug)]
pub(crate) enum Failure {
    Sqlite(rusqlite::Error),
    Postgres(sqlx::Error),
    /// A column holds what no version of this program writes.
    Unreadable {
        column: usize,
        reason: String,
    },
}

pub(crate) type Answer<T> = Result<T, Failure>;

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::FromSqlConversionFailure(column, _, reason) => {
                Self::Unreadable { column, reason: reason.to_string() }
            }
            rusqlite::Error::InvalidColumnType(column, name, found) => {
                Self::Unreadable { column, reason: format!("{name} is {found}") }
            }
            other => Self::Sqlite(other),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Postgres(error)
    }
}

impl QueryError {
    /// Tells damage from a failure to read.
    pub(crate) fn of(model: &'static str, failure: Failure) -> Self {
        match failure {
            Failure::Unreadable { column, reason } => {
                Self::Corrupt { model, reason: format!("column {column} of an answer: {reason}") }
            }
            Failure::Sqlite(source) => Self::Sqlite { model, source },
            Failure::Postgres(source) => Self::postgres(model, source),
        }
    }
}

/// A connection inside of a read transaction.
pub(crate) enum Connection<'a> {
    Sqlite(&'a rusqlite::Connection),
    Postgres { handle: &'a Handle, connection: &'a mut PgConnection },
}

/// A row of an answer.
pub(crate) enum Row<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a PgRow),
}

impl Connection<'_> {
    /// All rows of an answer. Parameters are written `?`, or `?1`, `?2` and so on, and are always bound.
    pub(crate) fn query<T>(
        &mut self,
        sql: &str,
        bound: &[Cell<'_>],
        mut read: impl FnMut(&Row<'_>) -> Answer<T>,
    ) -> Answer<Vec<T>> {
        let mut rows = Vec::new();
        self.visit(sql, bound, |row| {
            rows.push(read(row)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }

    /// The first row, if there is one.
    pub(crate) fn first<T>(
        &mut self,
        sql: &str,
        bound: &[Cell<'_>],
        mut read: impl FnMut(&Row<'_>) -> Answer<T>,
    ) -> Answer<Option<T>> {
        let mut found = None;
        self.visit(sql, bound, |row| {
            found = Some(read(row)?);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// Rows until enough are seen.
    pub(crate) fn visit(
        &mut self,
        sql: &str,
        bound: &[Cell<'_>],
        mut see: impl FnMut(&Row<'_>) -> Answer<ControlFlow<()>>,
    ) -> Answer<()> {
        match self {
            Self::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                let mut rows = statement.query(rusqlite::params_from_iter(bound))?;
                while let Some(row) = rows.next()? {
                    if see(&Row::Sqlite(row))?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
            Self::Postgres { handle, connection } => handle.block_on(async {
                let query = bound.iter().fold(sqlx::query(numbered(sql)), |query, cell| bind(query, cell));
                let mut rows = query.fetch(&mut **connection);
                while let Some(row) = rows.try_next().await? {
                    if see(&Row::Postgres(&row))?.is_break() {
                        break;
                    }
                }
                Ok(())
            }),
        }
    }

    /// The number of the day (UTC, from 1970) that a time is in.
    pub(crate) fn day_of(&self, column: &str) -> String {
        match self {
            Self::Sqlite(_) => format!("{column} / 86400000"),
            Self::Postgres { .. } => format!("floor(extract(epoch FROM {column}) / 86400)::bigint"),
        }
    }
}

impl<'r> Row<'r> {
    fn get<T>(&self, column: usize) -> Answer<T>
    where
        T: FromSql + for<'d> Decode<'d, Postgres> + sqlx::Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => Ok(row.get(column)?),
            Self::Postgres(row) => row.try_get(column).map_err(|error| decoding(column, error)),
        }
    }

    pub(crate) fn maybe_uuid(&self, column: usize) -> Answer<Option<Uuid>> {
        match self {
            Self::Sqlite(row) => Ok(row.get::<_, Option<[u8; 16]>>(column)?.map(Uuid::from_bytes)),
            Self::Postgres(row) => row.try_get(column).map_err(|error| decoding(column, error)),
        }
    }

    pub(crate) fn uuid(&self, column: usize) -> Answer<Uuid> {
        self.maybe_uuid(column)?.ok_or_else(|| empty(column))
    }

    pub(crate) fn memory_id(&self, column: usize) -> Answer<MemoryId> {
        self.uuid(column).map(MemoryId::new)
    }

    pub(crate) fn event_id(&self, column: usize) -> Answer<EventId> {
        self.uuid(column).map(EventId::new)
    }

    pub(crate) fn principal_id(&self, column: usize) -> Answer<PrincipalId> {
        self.uuid(column).map(PrincipalId::new)
    }

    pub(crate) fn text(&self, column: usize) -> Answer<String> {
        self.get(column)
    }

    pub(crate) fn maybe_text(&self, column: usize) -> Answer<Option<String>> {
        self.get(column)
    }

    /// The text itself, not a copy.
    fn maybe_str(&self, column: usize) -> Answer<Option<&'r str>> {
        match self {
            Self::Sqlite(row) => row
                .get_ref(column)?
                .as_str_or_null()
                .map_err(|error| Failure::Unreadable { column, reason: error.to_string() }),
            Self::Postgres(row) => row.try_get(column).map_err(|error| decoding(column, error)),
        }
    }

    pub(crate) fn flag(&self, column: usize) -> Answer<bool> {
        self.get(column)
    }

    pub(crate) fn signed(&self, column: usize) -> Answer<i64> {
        self.get(column)
    }

    pub(crate) fn number(&self, column: usize) -> Answer<u64> {
        self.signed(column).map(i64::cast_unsigned)
    }

    pub(crate) fn truth(&self, column: usize) -> Answer<Truth> {
        let level = self.get::<i16>(column)?;
        let level = u8::try_from(level).map_err(|error| unreadable(column, error))?;
        Truth::try_from(level).map_err(|error| unreadable(column, error))
    }

    pub(crate) fn time(&self, column: usize) -> Answer<DateTime<Utc>> {
        self.maybe_time(column)?.ok_or_else(|| empty(column))
    }

    pub(crate) fn maybe_time(&self, column: usize) -> Answer<Option<DateTime<Utc>>> {
        match self {
            Self::Sqlite(row) => Ok(row.get::<_, Option<i64>>(column)?.map(from_millis)),
            Self::Postgres(row) => row.try_get(column).map_err(|error| decoding(column, error)),
        }
    }

    /// A text that the domain reads, such as an origin or a field's name.
    pub(crate) fn parsed<T>(&self, column: usize) -> Answer<T>
    where
        T: FromStr<Err: std::error::Error>,
    {
        self.maybe_parsed(column)?.ok_or_else(|| empty(column))
    }

    pub(crate) fn maybe_parsed<T>(&self, column: usize) -> Answer<Option<T>>
    where
        T: FromStr<Err: std::error::Error>,
    {
        let text = self.maybe_str(column)?;
        text.map(str::parse).transpose().map_err(|error: T::Err| unreadable(column, error))
    }

    /// A value kept as JSON; `None` where the column is empty.
    pub(crate) fn value(&self, column: usize) -> Answer<Option<Value>> {
        let Some(json) = self.maybe_str(column)? else { return Ok(None) };
        serde_json::from_str(json).map(Some).map_err(|error| unreadable(column, error))
    }
}

fn unreadable(column: usize, error: impl std::error::Error) -> Failure {
    Failure::Unreadable { column, reason: error.to_string() }
}

fn empty(column: usize) -> Failure {
    Failure::Unreadable { column, reason: "it is empty".to_owned() }
}

fn decoding(column: usize, error: sqlx::Error) -> Failure {
    match error {
        sqlx::Error::ColumnDecode { source, .. } => Failure::Unreadable { column, reason: source.to_string() },
        other => Failure::Postgres(other),
    }
}

/// Binds without copying.
impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Cell::Null => ValueRef::Null,
            Cell::Id(id) => ValueRef::Blob(id),
            Cell::Text(text) => ValueRef::Text(text.as_bytes()),
            Cell::Number(number) | Cell::Time(number) => ValueRef::Integer(*number),
            Cell::Truth(level) => ValueRef::Integer(i64::from(*level)),
            Cell::Flag(flag) => ValueRef::Integer(i64::from(*flag)),
            Cell::Real(number) => ValueRef::Real(*number),
        }))
    }
}

/// The moment that many milliseconds after 1970; the last one there is when it lies beyond.
pub(crate) fn from_millis(millis: i64) -> DateTime<Utc> {
    let last = DateTime::<Utc>::MAX_UTC.timestamp_millis();
    DateTime::from_timestamp_millis(millis)
        .or_else(|| DateTime::from_timestamp_millis(last))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Milliseconds as the tables keep them.
pub(crate) fn to_millis(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// A number of rows as a query is given it.
pub(crate) fn rows(limit: usize) -> Cell<'static> {
    Cell::Number(i64::try_from(limit).unwrap_or(i64::MAX))
}

/// A value as it is kept.
pub(crate) fn to_json(value: &Value) -> String {
    serde_json::to_string(value).expect("values are plain JSON")
}
