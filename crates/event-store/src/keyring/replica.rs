//! What a follower takes over of a keyring: keys as they are kept, still encrypted, and never one that is gone.

use rusqlite::TransactionBehavior;

use super::database::Database;
use super::{Keyring, Place, in_file};
use crate::port::StoreError;
use crate::sqlite::failure::{corrupt, store_error, unavailable};

/// The most keys that are read at once: those of four blocks, which is about a megabyte.
pub const MAX_WRAPPED_SLOTS: u32 = 4 * super::SLOT_BLOCK;

/// Some keys as they are kept: encrypted with the wrapping key. What is missing among them was destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WrappedSlots {
    /// The slot they begin at.
    pub first: u32,
    /// The slot they end before.
    pub end: u32,
    /// The keys by slot, in order.
    pub slots: Vec<(u32, Vec<u8>)>,
}

impl Keyring {
    /// The keys from a slot on, at most [`MAX_WRAPPED_SLOTS`]; none where there is no such slot yet.
    ///
    /// # Errors
    /// [`StoreError`] where they cannot be read, or are in a database, which is copied by its own means.
    pub async fn wrapped_from(&self, first: u32) -> Result<WrappedSlots, StoreError> {
        in_file(self.file()?, move |database| database.wrapped_from(first)).await
    }

    /// The first slot that no key was ever made for.
    ///
    /// # Errors
    /// As [`wrapped_from`](Self::wrapped_from).
    pub async fn end_slot(&self) -> Result<u32, StoreError> {
        in_file(self.file()?, |database| database.end_slot()).await
    }

    /// Takes keys over; returns when they are durable. A slot that was ever here, and may have been destroyed, is never taken
    /// again.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where they do not go on from the keys that are here.
    pub async fn adopt(&self, wrapped: WrappedSlots) -> Result<(), StoreError> {
        in_file(self.file()?, move |database| database.adopt(&wrapped)).await
    }

    fn file(&self) -> Result<&std::sync::Arc<std::sync::Mutex<Database>>, StoreError> {
        match &self.shared.place {
            Place::File(database) => Ok(database),
            Place::Postgres(_) => Err(unavailable("keys in a database are copied by the database's own means")),
        }
    }
}

impl Database {
    fn end_slot(&self) -> Result<u32, StoreError> {
        self.state("SELECT end_slot FROM state")
    }

    fn wrapped_from(&self, first: u32) -> Result<WrappedSlots, StoreError> {
        let end = self.end_slot()?.min(first.saturating_add(MAX_WRAPPED_SLOTS)).max(first);
        let read = || {
            let sql = "SELECT slot, wrapped FROM slots WHERE slot >= ?1 AND slot < ?2 ORDER BY slot";
            let mut select = self.connection().prepare_cached(sql)?;
            let rows = select.query_map([first, end], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<Vec<_>, rusqlite::Error>>()
        };
        Ok(WrappedSlots { first, end, slots: read().map_err(|error| store_error(&error))? })
    }

    fn adopt(&mut self, wrapped: &WrappedSlots) -> Result<(), StoreError> {
        let here = self.end_slot()?;
        let mut next = wrapped.first;
        let ordered = wrapped.slots.iter().all(|(slot, _)| {
            let fits = *slot >= next;
            next = slot.saturating_add(1);
            fits
        });
        if wrapped.first != here || !ordered || next > wrapped.end {
            let (first, end) = (wrapped.first, wrapped.end);
            return Err(corrupt(format!("keys {first} to {end} come where key {here} is due")));
        }
        let written = |database: &mut Self| {
            let transaction =
                database.connection_mut().transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut insert = transaction.prepare_cached("INSERT INTO slots (slot, wrapped) VALUES (?1, ?2)")?;
            for slot in &wrapped.slots {
                insert.execute((slot.0, &slot.1))?;
            }
            drop(insert);
            transaction.execute("UPDATE state SET end_slot = ?1", [wrapped.end])?;
            transaction.commit()
        };
        written(self).map_err(|error: rusqlite::Error| store_error(&error))
    }
}
