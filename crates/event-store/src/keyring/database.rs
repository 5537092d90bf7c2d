//! The keyring's file.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::wrapping::{PROBE, Wrapping};
use super::{RawKey, SLOT_BLOCK, Slots};
use crate::event::Position;
use crate::port::StoreError;
use crate::sqlite::failure::{corrupt, store_error, unavailable};
use crate::sqlite::{OpenError, schema};

/// `CRNK`: marks the file as a Cairn keyring.
const APPLICATION_ID: i32 = 0x4352_4e4b;
const SCHEMA_VERSION: i32 = 1;
const SCHEMA: &str = include_str!("../../../../migrations/sqlite/keyring/0001_key_slots.sql");

/// Why a keyring could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file could not be taken for this process alone.
    #[error("the keyring cannot be opened")]
    Open(#[source] OpenError),
    /// The file is not a keyring, or one of a newer version.
    #[error("{path} is not a keyring of this version; nothing in it was changed")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The wrapping key is not the one the keyring was made with.
    #[error("{path} was made with another wrapping key; restore the brain's key that belongs to it")]
    WrongKey {
        /// The keyring.
        path: PathBuf,
    },
    /// The keys of this brain in the database were made with another wrapping key.
    #[error(
        "the database holds keys of brain {brain} made with another brain's key; restore the brain.key that \
             belongs to it"
    )]
    ForeignBrain {
        /// The brain.
        brain: uuid::Uuid,
    },
    /// The database did not answer.
    #[error("the keyring in the database cannot be read or written")]
    Database(#[source] StoreError),
    /// The file or the database engine failed.
    #[error("{path} cannot be read or written")]
    Store {
        /// The keyring.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
}

pub(super) struct Database {
    connection: Connection,
    wrapping: Wrapping,
    /// Held for as long as anything may be written.
    _lock: File,
}

impl Database {
    /// Opens the file; returns the slots that are still free since the last orderly shutdown.
    pub(super) fn open(path: &Path, wrapping_key: &RawKey) -> Result<(Self, Slots), KeyringError> {
        let store = |source| KeyringError::Store { path: path.to_owned(), source };
        let failed = |error: rusqlite::Error| store(store_error(&error));
        let lock = schema::lock(path).map_err(KeyringError::Open)?;
        create_private(path).map_err(|error| store(unavailable(error.to_string())))?;
        let connection = Connection::open(path).map_err(failed)?;
        let is_new = match identify(&connection) {
            Ok(Some(is_new)) => is_new,
            Ok(None) => return Err(KeyringError::Foreign { path: path.to_owned() }),
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
                return Err(KeyringError::Foreign { path: path.to_owned() });
            }
            Err(error) => return Err(failed(error)),
        };
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        connection.pragma_update(None, "secure_delete", "ON").map_err(failed)?;
        let wrapping = Wrapping::new(wrapping_key);
        let mut database = Self { connection, wrapping, _lock: lock };
        if is_new {
            database.create().map_err(store)?;
        }
        if !database.probe().map_err(store)? {
            return Err(KeyringError::WrongKey { path: path.to_owned() });
        }
        let free = database.unmark_free().map_err(store)?;
        Ok((database, free))
    }

    fn create(&mut self) -> Result<(), StoreError> {
        let probe = self.wrapping.wrap(PROBE, &[0; 32])?;
        self.create_tables(&probe).map_err(|error| store_error(&error))
    }

    fn create_tables(&mut self, probe: &[u8]) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(SCHEMA)?;
        transaction.execute("INSERT INTO state (probe, end_slot, mended_to) VALUES (?1, 0, 0)", [probe])?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()
    }

    /// What tells whether a wrapping key is the right one.
    pub(super) fn kept_probe(&self) -> Result<Vec<u8>, StoreError> {
        self.state("SELECT probe FROM state")
    }

    fn probe(&self) -> Result<bool, StoreError> {
        let probe = self.kept_probe()?;
        Ok(self.wrapping.unwrap(PROBE, &probe).is_some())
    }

    /// The slots free since the last orderly shutdown. They are free no more, should this process end without one.
    fn unmark_free(&mut self) -> Result<Slots, StoreError> {
        let Some(first) = self.state::<Option<u32>>("SELECT free_slot FROM state")? else {
            return Ok(Vec::new());
        };
        let end: u32 = self.state("SELECT end_slot FROM state")?;
        let mut free = Vec::new();
        for slot in first..end {
            free.extend(self.key(slot)?.map(|key| (slot, key)));
        }
        self.execute("UPDATE state SET free_slot = NULL", [])?;
        Ok(free)
    }

    /// Notes the first slot that was never handed out; none when all were.
    pub(super) fn mark_free(&mut self, first: Option<u32>) -> Result<(), StoreError> {
        self.execute("UPDATE state SET free_slot = ?1", [first])
    }

    /// Makes the next block of keys durable.
    pub(super) fn make_block(&mut self) -> Result<Slots, StoreError> {
        let first: u32 = self.state("SELECT end_slot FROM state")?;
        let end = first.checked_add(SLOT_BLOCK).ok_or_else(|| unavailable("the keyring has used up its slots"))?;
        let mut made = Vec::with_capacity(SLOT_BLOCK as usize);
        let mut wrapped = Vec::with_capacity(SLOT_BLOCK as usize);
        for slot in first..end {
            let (key, kept) = self.wrapping.make(slot)?;
            wrapped.push((slot, kept));
            made.push((slot, key));
        }
        self.insert(&wrapped, end).map_err(|error| store_error(&error))?;
        Ok(made)
    }

    fn insert(&mut self, wrapped: &[(u32, Vec<u8>)], end: u32) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut insert = transaction.prepare_cached("INSERT INTO slots (slot, wrapped) VALUES (?1, ?2)")?;
        for slot in wrapped {
            insert.execute((slot.0, &slot.1))?;
        }
        drop(insert);
        transaction.execute("UPDATE state SET end_slot = ?1", [end])?;
        transaction.commit()
    }

    /// The key of a slot; `None` when it was destroyed.
    pub(super) fn key(&self, slot: u32) -> Result<Option<RawKey>, StoreError> {
        let wrapped: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT wrapped FROM slots WHERE slot = ?1")
            .and_then(|mut statement| statement.query_row([slot], |row| row.get(0)).optional())
            .map_err(|error| store_error(&error))?;
        let Some(wrapped) = wrapped else {
            // Only a keyring older than the log does not know a slot that the log names.
            let end: u32 = self.state("SELECT end_slot FROM state")?;
            let known = slot < end;
            return known.then_some(None).ok_or_else(|| {
                corrupt(format!(
                    "the keyring ends before key {slot}; it is older than the log: restore both together"
                ))
            });
        };
        let key = self.wrapping.unwrap(&slot.to_le_bytes(), &wrapped);
        key.map(Some)
            .ok_or_else(|| corrupt(format!("key {slot} in the keyring is damaged; restore a backup of it")))
    }

    /// Deletes slots, and every copy of them in this file and its write-ahead log.
    pub(super) fn destroy(&mut self, slots: &[u32]) -> Result<(), StoreError> {
        self.delete(slots).map_err(|error| store_error(&error))?;
        let busy: i64 = self.state("PRAGMA wal_checkpoint(TRUNCATE)")?;
        if busy != 0 {
            return Err(unavailable(
                "a key is deleted, but a copy remains in the keyring's write-ahead log; repeat",
            ));
        }
        Ok(())
    }

    fn delete(&mut self, slots: &[u32]) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for slot in slots {
            transaction.prepare_cached("DELETE FROM slots WHERE slot = ?1")?.execute([slot])?;
        }
        transaction.commit()
    }

    pub(super) fn mended_to(&self) -> Result<Position, StoreError> {
        self.state::<i64>("SELECT mended_to FROM state").map(|position| Position(position.cast_unsigned()))
    }

    pub(super) fn set_mended_to(&self, position: Position) -> Result<(), StoreError> {
        self.execute("UPDATE state SET mended_to = ?1", [position.0.cast_signed()])
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    pub(super) fn state<T: rusqlite::types::FromSql>(&self, sql: &str) -> Result<T, StoreError> {
        self.connection.query_row(sql, [], |row| row.get(0)).map_err(|error| store_error(&error))
    }

    fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<(), StoreError> {
        self.connection.execute(sql, params).map(drop).map_err(|error| store_error(&error))
    }
}

/// Whether the file is new; `None` when it is somebody else's.
fn identify(connection: &Connection) -> Result<Option<bool>, rusqlite::Error> {
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (application, version) {
        (APPLICATION_ID, SCHEMA_VERSION) => Some(false),
        (0, 0) if tables == 0 => Some(true),
        _ => None,
    })
}

/// Makes the file readable by its owner alone before anything is in it. SQLite gives its write-ahead log the same mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}
