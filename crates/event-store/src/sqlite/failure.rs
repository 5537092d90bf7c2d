//! What SQLite's errors mean to the callers of the port.

use rusqlite::{Error, ErrorCode};

use crate::port::StoreError;

/// Puts an error in the terms of the port, with what to do about it.
pub(crate) fn store_error(error: &Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => corrupt(format!(
            "a page of the database is damaged ({error}); run `cairn verify`, then restore a backup"
        )),
        Some(ErrorCode::DiskFull) => {
            unavailable(format!("the disk is full ({error}); free some space, then repeat the request"))
        }
        Some(ErrorCode::SystemIoFailure) => {
            unavailable(format!("the disk failed ({error}); check the device and the system's log, then repeat"))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => unavailable(format!(
            "another program holds the database ({error}); stop what has the file open, then repeat"
        )),
        _ if matches!(error, Error::FromSqlConversionFailure(..) | Error::InvalidColumnType(..)) => corrupt(
            format!("a row holds what was never written ({error}); run `cairn verify`, then restore a backup"),
        ),
        _ => unavailable(format!(
            "the database engine failed ({error}); repeat the request, see the log if it stays"
        )),
    }
}

pub(crate) fn unavailable(reason: impl Into<String>) -> StoreError {
    StoreError::Unavailable { reason: reason.into() }
}

pub(crate) fn corrupt(reason: impl Into<String>) -> StoreError {
    StoreError::Corrupt { reason: reason.into() }
}

/// What every method answers once the store is closed.
pub(crate) fn closed() -> StoreError {
    unavailable("it was closed; open it again")
}
