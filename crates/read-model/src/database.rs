//! One generation of a read model: a SQLite file with its rows and the position they stand at.
//!
//! Rows and position change in one transaction, so a file is always the fold of the log up to some position,
//! whenever the process was killed. Commits do not wait for the disk (`synchronous=NORMAL` in WAL mode): after a
//! power cut the file is an older fold, and what it lacks is folded again.

pub(crate) mod digest;
mod housekeeper;
mod sink;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};

use crate::change::Batch;
use crate::postgres;
use crate::table::Sink;
pub use digest::digest;
use housekeeper::Housekeeper;
use sink::SqliteSink;

/// The file's name in the folder of its generation.
pub const FILE_NAME: &str = "model.db";
/// How long a statement waits for a lock: only housekeeping ever holds one against the writer, and briefly.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// SQLite's page cache while a generation is filled, in KiB.
const FILL_CACHE_KIB: i64 = 64 * 1024;
/// SQLite's page cache of the writer of a generation that serves, in KiB.
const SERVE_CACHE_KIB: i64 = 8 * 1024;
/// While a generation is filled, its write-ahead log is copied back each time it has this many pages (64 MiB).
const FILL_CHECKPOINT_PAGES: i64 = 16 * 1024;
/// What is left of the write-ahead log's file when it starts over.
const WAL_KEPT_BYTES: i64 = 1024 * 1024;
/// The statements kept prepared on the writing connection.
const CACHED_STATEMENTS: usize = 128;

/// What makes a read model: its tables and its fold.
#[derive(Debug)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// Changes whenever the tables or the fold change: a generation of another version is never served.
    pub version: u32,
    /// Whether the fold needs the events one by one ([`Batch::entries`]).
    pub entries: bool,
    /// How SQLite creates it.
    pub(crate) sqlite: Definition,
    /// How PostgreSQL creates it.
    pub(crate) postgres: Definition,
    /// Writes what a batch changed; events at or below the given position were written before.
    pub(crate) fold: fn(&mut dyn Sink, u64, &Batch),
}

/// What a model is created with in one of the databases.
#[derive(Debug)]
pub(crate) struct Definition {
    /// Creates the tables.
    pub(crate) tables: &'static str,
    /// Creates, where they are missing, the indexes that only queries need.
    pub(crate) indexes: &'static str,
}

/// Why a generation could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// It was written by another version of the model. It must be built anew.
    #[error("{place} is of version {found} of the read model `{model}`, this program needs {expected}")]
    OtherVersion {
        /// The file or the schema.
        place: String,
        /// The model.
        model: &'static str,
        /// The version found.
        found: u32,
        /// The version of this program.
        expected: u32,
    },
    /// The file is damaged or no read model. It must be built anew.
    #[error("{path} is damaged: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// SQLite could not do it.
    #[error("{path} could not be read or written")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file could not be made durable.
    #[error("{path} could not be made durable")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The generation has no schema, or not all of it. It must be built anew.
    #[error("there is no generation in the schema {schema}")]
    Missing {
        /// The schema.
        schema: String,
    },
    /// PostgreSQL could not do it.
    #[error("the schema {schema} could not be read or written")]
    Postgres {
        /// The schema.
        schema: String,
        /// What the server said.
        source: sqlx::Error,
    },
    /// The rows stand at an earlier position than this program has written: the server lost commits that were not on
    /// its disk yet. The log must be folded again from there, on a generation opened anew.
    #[error(
        "the schema {schema} stands at position {found}, where {expected} was written; fold it again from there"
    )]
    Behind {
        /// The schema.
        schema: String,
        /// The position that was written.
        expected: u64,
        /// The one that was found.
        found: u64,
    },
}

impl ModelError {
    /// Whether trying again may help: a full disk may be emptied, a lock let go.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Io { .. } => true,
            Self::Sqlite { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(
                    ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::CannotOpen
                        | ErrorCode::OutOfMemory
                )
            ),
            Self::Postgres { source, .. } => postgres::is_transient(source),
            Self::OtherVersion { .. } | Self::Corrupt { .. } | Self::Missing { .. } | Self::Behind { .. } => false,
        }
    }

    /// Whether the generation is of no more use and another one must be built.
    pub fn is_unusable(&self) -> bool {
        matches!(self, Self::OtherVersion { .. } | Self::Corrupt { .. } | Self::Missing { .. })
    }

    fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { path, reason: source.to_string() }
            }
            _ => Self::Sqlite { path, source },
        }
    }
}

/// A generation open for writing. There is one such handle to a file at a time.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    path: PathBuf,
    model: &'static Model,
    checkpoint: u64,
    housekeeper: Option<Housekeeper>,
    /// Whether something was erased whose traces are still in the write-ahead log.
    traces: bool,
}

impl Database {
    /// Opens the generation in a folder, or begins an empty one. It is set up to be filled quickly;
    /// [`make_ready`](Self::make_ready) turns it into one that can serve.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn open(folder: &Path, model: &'static Model) -> Result<Self, ModelError> {
        let path = folder.join(FILE_NAME);
        let failed = |source| ModelError::sqlite(&path, source);
        let connection = Connection::open(&path).map_err(failed)?;
        prepare(&connection).map_err(failed)?;
        let version = version(&connection).map_err(failed)?;
        if version == 0 {
            create(&connection, model).map_err(failed)?;
        } else if version != model.version {
            return Err(ModelError::OtherVersion {
                place: path.display().to_string(),
                model: model.name,
                found: version,
                expected: model.version,
            });
        }
        let checkpoint = checkpoint(&connection).map_err(failed)?;
        Ok(Self { connection, path, model, checkpoint, housekeeper: None, traces: false })
    }

    /// The position the rows stand at.
    pub fn checkpoint(&self) -> u64 {
        self.checkpoint
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what a batch changed, in one transaction. What was written before is not written again.
    ///
    /// # Errors
    /// See [`ModelError`]. Nothing is written then.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), ModelError> {
        if batch.position <= self.checkpoint {
            return Ok(());
        }
        self.write(batch).map_err(|source| ModelError::sqlite(&self.path, source))?;
        self.checkpoint = batch.position;
        self.traces |= batch.memories.iter().any(|change| change.memory.is_erased());
        if let Some(housekeeper) = &mut self.housekeeper {
            housekeeper.committed();
        }
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut sink = SqliteSink::new(&transaction);
        (self.model.fold)(&mut sink, self.checkpoint, batch);
        sink.finish()?;
        transaction.prepare_cached("UPDATE meta SET checkpoint = ?1")?.execute([batch.position.cast_signed()])?;
        transaction.commit()
    }

    /// Makes the generation fit to serve: builds the indexes that queries need and makes everything durable.
    /// Doing it again does nothing.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn make_ready(&mut self) -> Result<(), ModelError> {
        if self.housekeeper.is_some() {
            return Ok(());
        }
        self.index().map_err(|source| ModelError::sqlite(&self.path, source))?;
        let io = |source| ModelError::Io { path: self.path.clone(), source };
        File::open(&self.path).and_then(|file| file.sync_all()).map_err(io)?;
        let folder = self.path.parent().expect("the file is in the generation's folder");
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        self.housekeeper = Some(Housekeeper::start(&self.path).map_err(io)?);
        Ok(())
    }

    fn index(&self) -> rusqlite::Result<()> {
        let connection = &self.connection;
        connection.execute_batch(&format!("BEGIN; {} COMMIT;", self.model.sqlite.indexes))?;
        truncate(connection)?;
        connection.pragma_update(None, "cache_size", -SERVE_CACHE_KIB)?;
        // From now on the housekeeper copies the write-ahead log back, on a thread that nobody waits for.
        connection.pragma_update(None, "wal_autocheckpoint", 0)
    }

    /// For quiet moments: wipes what erasures left in the write-ahead log. Says whether anything is left to do,
    /// because a query still reads there.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn settle(&mut self) -> Result<bool, ModelError> {
        if self.traces {
            self.traces = !truncate(&self.connection).map_err(|source| ModelError::sqlite(&self.path, source))?;
        }
        Ok(self.traces)
    }
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
    connection.pragma_update(None, "wal_autocheckpoint", FILL_CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "cache_size", -FILL_CACHE_KIB)?;
    // What is deleted is overwritten, so that an erased memory cannot be read out of free pages.
    connection.pragma_update(None, "secure_delete", "ON")
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn create(connection: &Connection, model: &Model) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         CREATE TABLE meta (checkpoint INTEGER NOT NULL) STRICT;
         INSERT INTO meta VALUES (0);
         {}
         PRAGMA user_version = {};
         COMMIT;",
        model.sqlite.tables, model.version
    ))
}

/// The position that the rows of an open file stand at.
fn checkpoint(connection: &Connection) -> rusqlite::Result<u64> {
    let position: Option<i64> =
        connection.query_row("SELECT checkpoint FROM meta", [], |row| row.get(0)).optional()?;
    Ok(position.map_or(0, i64::cast_unsigned))
}

/// Copies the whole write-ahead log back and empties it; says whether readers let it.
fn truncate(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0))
}

/// Opens a generation's file for reading alone.
pub(crate) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    Ok(connection)
}
