//! What PostgreSQL's errors mean to the callers of the port.

use sqlx::Error;

use crate::port::StoreError;
use crate::sqlite::failure::{corrupt, unavailable};

/// Puts an error in the terms of the port, with what to do about it. Nothing of the connection's URL is in it.
pub fn store_error(error: &Error) -> StoreError {
    match error {
        Error::ColumnDecode { .. } | Error::Decode(_) => corrupt(format!(
            "a row holds what was never written ({error}); run `cairn verify`, then restore a backup"
        )),
        Error::Configuration(_) => unavailable(format!(
            "the database URL cannot be used ({error}); it looks like postgres://user:password@host/database"
        )),
        Error::PoolTimedOut => unavailable(
            "no connection to PostgreSQL could be had in time; see whether the server runs and has connections left",
        ),
        Error::Database(told) => database(told.code().as_deref(), told.message()),
        _ => unavailable(format!(
            "PostgreSQL cannot be reached ({error}); see whether the server runs, then repeat"
        )),
    }
}

fn database(code: Option<&str>, message: &str) -> StoreError {
    match code {
        // Data corrupted, index corrupted.
        Some("XX001" | "XX002") => corrupt(format!("PostgreSQL says that its files are damaged: {message}")),
        Some("53100") => {
            unavailable(format!("the database's disk is full ({message}); free some space, then repeat"))
        }
        Some("53300") => unavailable(format!(
            "PostgreSQL has no connection left ({message}); raise max_connections, or let the node use fewer"
        )),
        Some("42P01" | "42883" | "3F000") => {
            unavailable(format!("the database lacks a table or function ({message}); run `cairn migrate`"))
        }
        Some("42501") => {
            unavailable(format!("the database role may not do that ({message}); see docs/operations.md"))
        }
        Some("28000" | "28P01") => unavailable(format!("PostgreSQL does not let the role in ({message})")),
        Some(code) => unavailable(format!("PostgreSQL failed with {code} ({message})")),
        None => unavailable(format!("PostgreSQL failed ({message})")),
    }
}

/// Whether the same may succeed a moment later: the server restarts, has no connection left, or has cut this one.
pub(crate) fn is_passing(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::Protocol(_) | Error::PoolTimedOut | Error::WorkerCrashed | Error::Tls(_) => true,
        Error::Database(told) => told.code().is_some_and(|code| {
            // Connection exceptions, rolled back transactions, no resources but a full disk, an operator at work.
            let class = code.get(..2).unwrap_or_default();
            (matches!(class, "08" | "40" | "53" | "57") && code != "53100") || code == "25P03"
        }),
        _ => false,
    }
}
