//! The read models on PostgreSQL.
//!
//! Each generation of a model is a schema of its own with all its tables, and belongs to one tenant. Row-level security
//! is on for every table, for its owner too, so that a transaction that has not said whose rows it wants sees none. Two
//! tables of the database say which generations there are and which one serves ([`MIGRATION`]); readers look there at the
//! beginning of each transaction, so those of all processes follow a swap at once.
//!
//! Everything here blocks on the runtime it was given, and so must be called where blocking is allowed.

mod arrays;
mod database;
mod digest;
mod reader;
mod schema;
mod sink;

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgPool, Postgres};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::database::ModelError;
use crate::page::QueryError;
use crate::table::Cell;
pub use database::PgDatabase;
pub use digest::digest;
pub use reader::QUERY_LIMIT;
pub use schema::{drop_generation, schema_name};

/// Creates the tables that say which generations there are and which one serves each projection, and what queries begin with.
pub const MIGRATION: &str = concat!(
    include_str!("../../../migrations/postgres/0002_read_models.sql"),
    include_str!("../../../migrations/postgres/0006_begin_read.sql")
);

/// A database, and the tenant in it whose read models are meant. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Server {
    pool: PgPool,
    tenant: Uuid,
    handle: Handle,
}

impl Server {
    /// The connections are used on the given runtime, which must have more threads than the calling one.
    pub fn new(pool: PgPool, tenant: Uuid, handle: Handle) -> Self {
        Self { pool, tenant, handle }
    }

    /// The connections.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The tenant.
    pub fn tenant(&self) -> Uuid {
        self.tenant
    }

    /// The runtime.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Why the application must not run as its role.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// Row-level security does not hold for the role.
    #[error(
        "the PostgreSQL role `{role}` passes by row-level security ({why}), which keeps tenants apart; connect as one that \
         cannot: CREATE ROLE cairn LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD '...'; CREATE DATABASE cairn OWNER cairn;"
    )]
    Bypasses {
        /// The role.
        role: String,
        /// By which right.
        why: &'static str,
    },
    /// The server could not be asked.
    #[error("the rights of the PostgreSQL role could not be asked for")]
    Postgres(#[from] sqlx::Error),
}

/// Makes sure that row-level security holds for the role that the pool connects as.
///
/// # Errors
/// See [`RoleError`].
pub async fn check_role(pool: &PgPool) -> Result<(), RoleError> {
    // The session's own role counts too: a session may go back to it.
    let roles: Vec<(String, bool, bool)> = sqlx::query_as(
        "SELECT rolname::text, rolsuper, rolbypassrls FROM pg_roles WHERE rolname IN (current_user, session_user)",
    )
    .fetch_all(pool)
    .await?;
    for (role, superuser, bypasses) in roles {
        if superuser || bypasses {
            let why = if superuser { "it is a superuser" } else { "it has BYPASSRLS" };
            return Err(RoleError::Bypasses { role, why });
        }
    }
    Ok(())
}

impl QueryError {
    pub(crate) fn postgres(model: &'static str, source: sqlx::Error) -> Self {
        match is_transient(&source) {
            _ if is_cancelled(&source) => Self::TooSlow { model },
            true => Self::Unavailable { model, source },
            false => Self::Postgres { model, source },
        }
    }
}

/// Whether trying again may help: the connection broke, the server is busy, full, going down or was in each other's way.
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_transient_code(&code)),
        _ => false,
    }
}

/// The server has cut the statement off: it took longer than it may, or an administrator wanted it so.
fn is_cancelled(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("57014"))
}

/// The codes are those of the appendix "PostgreSQL Error Codes" of its manual.
fn is_transient_code(code: &str) -> bool {
    // Lost connections, and lack of connections, memory or disk.
    let classes = ["08", "53"];
    // Serialization failure, deadlock, no lock in time, read-only (a standby not promoted yet), cancelled, shutdown,
    // crash of another process, not up yet.
    let codes = ["40001", "40P01", "55P03", "25006", "57014", "57P01", "57P02", "57P03"];
    classes.iter().any(|class| code.starts_with(class)) || codes.contains(&code)
}

/// The rows of a generation are gone, or a table of it.
fn is_gone(error: &sqlx::Error) -> bool {
    // Undefined table, invalid schema name.
    matches!(error, sqlx::Error::Database(error) if matches!(error.code().as_deref(), Some("42P01" | "3F000")))
}

fn failed(schema: &str) -> impl Fn(sqlx::Error) -> ModelError {
    move |source| match is_gone(&source) {
        true => ModelError::Missing { schema: schema.to_owned() },
        false => ModelError::Postgres { schema: schema.to_owned(), source },
    }
}

/// A query's text as PostgreSQL reads it: `?` and `?1` become `$1`, `instr` has another name, and the plus that hides a
/// column from SQLite's planner goes away.
pub(crate) fn numbered(sql: &str) -> AssertSqlSafe<String> {
    let mut text = String::with_capacity(sql.len() + 16);
    let (mut number, mut rest) = (0, sql.chars().peekable());
    while let Some(char) = rest.next() {
        match char {
            '?' => {
                text.push('$');
                if !rest.peek().is_some_and(char::is_ascii_digit) {
                    number += 1;
                    // Writing to a text cannot fail.
                    let _ = write!(text, "{number}");
                }
            }
            '+' if rest.peek().is_some_and(char::is_ascii_alphabetic) => {}
            char => text.push(char),
        }
    }
    // Its parameters are bound: the text holds nothing that came from outside.
    AssertSqlSafe(text.replace("instr(", "strpos("))
}

/// Binds a value by the type of the columns that it is compared with.
pub(crate) fn bind<'q>(
    query: Query<'q, Postgres, PgArguments>,
    cell: &Cell<'_>,
) -> Query<'q, Postgres, PgArguments> {
    match *cell {
        Cell::Null => query.bind(None::<String>),
        Cell::Id(id) => query.bind(Uuid::from_bytes(id)),
        Cell::Text(text) => query.bind(arrays::storable(text).into_owned()),
        Cell::Number(number) => query.bind(number),
        Cell::Truth(level) => query.bind(i16::from(level)),
        Cell::Flag(flag) => query.bind(flag),
        Cell::Time(millis) => query.bind(storable_time(millis)),
        Cell::Real(number) => query.bind(number),
    }
}

/// Milliseconds of the first moment that PostgreSQL's `timestamptz` holds: 24 November 4714 BC.
const FIRST_MILLIS: i64 = -210_866_803_200_000;

/// The moment, or the nearest one that both PostgreSQL and this program know.
fn storable_time(millis: i64) -> DateTime<Utc> {
    crate::sql::from_millis(millis.max(FIRST_MILLIS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_by_both() {
        assert_eq!(numbered("a = ? AND +b.c IN (?, ?)").0, "a = $1 AND b.c IN ($2, $3)");
        assert_eq!(numbered("a > ?2 OR a = ?1 AND instr(b, ?1) > 0").0, "a > $2 OR a = $1 AND strpos(b, $1) > 0");
    }

    #[test]
    fn times_out_of_range_are_clamped() {
        assert_eq!(storable_time(i64::MIN).timestamp_millis(), FIRST_MILLIS);
        assert_eq!(storable_time(i64::MAX).timestamp_millis(), DateTime::<Utc>::MAX_UTC.timestamp_millis());
    }

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        for code in ["53300", "57P01", "40001", "08006"] {
            assert!(is_transient_code(code), "{code}");
        }
        for code in ["42P01", "42501", "23505", "22021"] {
            assert!(!is_transient_code(code), "{code}");
        }
    }
}
