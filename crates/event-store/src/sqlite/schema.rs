//! Opening the log's file: that it is ours, of this brain, and of a version this build knows.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};
use uuid::Uuid;

use crate::port::StoreError;

/// What a file is there for. One is never taken for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is the log.
    Log,
    /// It is a copy of a log that a server keeps, and can be read from there again.
    Copy,
}

impl Kind {
    /// What marks the file: `CRNE` for a Cairn event log, `CRNC` for a copy.
    const fn application_id(self) -> i32 {
        match self {
            Self::Log => 0x4352_4e45,
            Self::Copy => 0x4352_4e43,
        }
    }

    /// The schema's history. The position in this list, from 1, is the version in `user_version`; a migration that was
    /// ever released is never changed.
    const fn migrations(self) -> &'static [&'static str] {
        const LOG: &str = include_str!("../../../../migrations/sqlite/event-store/0001_log.sql");
        const UPSTREAM: &str = include_str!("../../../../migrations/sqlite/event-store/copy/0001_upstream.sql");
        match self {
            Self::Log => &[LOG],
            Self::Copy => &[LOG, UPSTREAM],
        }
    }

    /// A log's commit waits for the disk. What a copy loses with the power is read again.
    const fn synchronous(self) -> &'static str {
        match self {
            Self::Log => "FULL",
            Self::Copy => "NORMAL",
        }
    }
}

/// The pages each connection keeps, in KiB. The writer touches the ends of three trees; a reader walks.
const WRITER_CACHE_KIB: i32 = 64 * 1024;
const READER_CACHE_KIB: i32 = 8 * 1024;
/// How long the write-ahead log's file is made at the start. It is copied and started over at about this length.
const WAL_ROOM_BYTES: u64 = 20 * 1024 * 1024;
/// How long a connection waits for a lock. Only a checkpoint that restarts the write-ahead log ever waits for one,
/// and it must not hold the writer up for longer than this.
const BUSY_TIMEOUT: Duration = Duration::from_millis(100);

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another handle in this one, has it open.
    #[error("{path} is in use by another process; stop that one first")]
    InUse {
        /// The log.
        path: PathBuf,
    },
    /// The file is a database of something else, or no database at all.
    #[error("{path} is not a Cairn event log; nothing in it was changed")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The log belongs to another brain.
    #[error("{path} is the log of brain {found}, not of {expected}")]
    OtherBrain {
        /// The log.
        path: PathBuf,
        /// Whose it is.
        found: Uuid,
        /// Whose it was taken for.
        expected: Uuid,
    },
    /// The log was written by a newer version.
    #[error("{path} has schema {found}, this version knows {known}; use the newer version that wrote it")]
    Newer {
        /// The log.
        path: PathBuf,
        /// Its schema version.
        found: usize,
        /// The newest version this build knows.
        known: usize,
    },
    /// The file could not be locked or created.
    #[error("cannot open {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database engine failed.
    #[error("cannot open {path}")]
    Sqlite {
        /// The log.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// What is in the log could not be read.
    #[error("cannot read {path}")]
    Store {
        /// The log.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
}

/// Takes the log for this handle alone, until the file returned is dropped.
pub(crate) fn lock(path: &Path) -> Result<File, OpenError> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let io = |source| OpenError::Io { path: lock_path.clone(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Opens the connection that writes, and brings the schema up to date.
pub(super) fn open_writer(path: &Path, brain: Uuid, kind: Kind) -> Result<Connection, OpenError> {
    let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let mut connection = Connection::open(path).map_err(sqlite)?;
    let version = match inspect(&connection, kind) {
        Ok(Contents::Empty) => 0,
        Ok(Contents::Log { version }) => version,
        Ok(Contents::Foreign) => return Err(OpenError::Foreign { path: path.to_owned() }),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            return Err(OpenError::Foreign { path: path.to_owned() });
        }
        Err(source) => return Err(sqlite(source)),
    };
    let known = kind.migrations().len();
    if version > known {
        return Err(OpenError::Newer { path: path.to_owned(), found: version, known });
    }
    configure_writer(&connection, kind)
        .and_then(|()| migrate(&mut connection, kind, version, brain))
        .map_err(sqlite)?;
    let found = owner(&connection).map_err(sqlite)?;
    if found != brain {
        return Err(OpenError::OtherBrain { path: path.to_owned(), found, expected: brain });
    }
    if let Err(error) = make_room(path) {
        tracing::debug!(%error, "the write-ahead log has no room made for it; commits take a little longer");
    }
    Ok(connection)
}

/// Fills the rest of the write-ahead log with zeros, which are no frames to the engine. Writing over what is there
/// costs a commit a third less than growing the file does, because only data and no sizes must reach the disk.
fn make_room(path: &Path) -> std::io::Result<()> {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let mut file = OpenOptions::new().append(true).open(wal)?;
    let length = file.metadata()?.len();
    let missing = WAL_ROOM_BYTES.saturating_sub(length);
    let made = std::io::copy(&mut std::io::repeat(0).take(missing), &mut file).and_then(|_| file.sync_all());
    if made.is_err() {
        // The last of the disk belongs to what must be written.
        file.set_len(length)?;
    }
    made
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    Ok(connection)
}

/// Opens a connection that copies the write-ahead log into the database.
pub(super) fn open_checkpointer(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(connection)
}

enum Contents {
    Empty,
    Log { version: usize },
    Foreign,
}

fn inspect(connection: &Connection, kind: Kind) -> Result<Contents, rusqlite::Error> {
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (application, usize::try_from(version)) {
        (0, Ok(0)) if tables == 0 => Contents::Empty,
        (id, Ok(version)) if id == kind.application_id() => Contents::Log { version },
        _ => Contents::Foreign,
    })
}

fn configure_writer(connection: &Connection, kind: Kind) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", kind.synchronous())?;
    // Checkpoints are the business of a thread of their own, lest a commit stall on one.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn migrate(connection: &mut Connection, kind: Kind, version: usize, brain: Uuid) -> Result<(), rusqlite::Error> {
    for (index, migration) in kind.migrations().iter().enumerate().skip(version) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration)?;
        if index == 0 {
            own(&transaction, kind, brain)?;
        }
        transaction.pragma_update(None, "user_version", index as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

fn own(transaction: &Transaction<'_>, kind: Kind, brain: Uuid) -> Result<(), rusqlite::Error> {
    transaction.pragma_update(None, "application_id", kind.application_id())?;
    transaction.execute("INSERT INTO brain (id) VALUES (?1)", [brain.as_bytes()])?;
    Ok(())
}

/// The brain whose log it is.
pub(super) fn owner(connection: &Connection) -> Result<Uuid, rusqlite::Error> {
    let id: Option<[u8; 16]> = connection.query_row("SELECT id FROM brain", [], |row| row.get(0)).optional()?;
    Ok(Uuid::from_bytes(id.ok_or(rusqlite::Error::QueryReturnedNoRows)?))
}
