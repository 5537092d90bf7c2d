//! Keys kept in PostgreSQL, where several nodes share them.
//!
//! A row that is deleted stays in the server's files until it is vacuumed, and in its write-ahead log and backups for as
//! long as those are kept. There it is encrypted with the brain's key, which is not in the database.

use std::collections::HashMap;

use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::wrapping::{PROBE, Wrapping};
use super::{KeyringError, RawKey, Slots};
use crate::event::Position;
use crate::port::StoreError;
use crate::postgres::begin;
use crate::postgres::failure::store_error;
use crate::sqlite::failure::{corrupt, unavailable};

/// The slots that are made together. Fewer than in a file: each process makes its own, and what it does not use is
/// deleted when it ends.
const BLOCK: u32 = 1_024;

pub(super) struct PostgresKeys {
    pool: PgPool,
    brain: Uuid,
    wrapping: Wrapping,
}

impl PostgresKeys {
    pub(super) async fn open(pool: PgPool, brain: Uuid, wrapping_key: &RawKey) -> Result<Self, KeyringError> {
        let keys = Self { pool, brain, wrapping: Wrapping::new(wrapping_key) };
        let probe = keys.kept_probe().await.map_err(KeyringError::Database)?;
        match keys.wrapping.unwrap(PROBE, &probe) {
            Some(_) => Ok(keys),
            None => Err(KeyringError::ForeignBrain { brain }),
        }
    }

    /// What tells whether a wrapping key is the right one; made where there is none.
    pub(super) async fn kept_probe(&self) -> Result<Vec<u8>, StoreError> {
        let probe = self.wrapping.wrap(PROBE, &[0; 32])?;
        run(async {
            let mut transaction = begin(&self.pool, self.brain).await?;
            let insert = "INSERT INTO cairn.keyrings (brain, probe) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            sqlx::query(insert).bind(self.brain).bind(probe).execute(&mut *transaction).await?;
            let select = sqlx::query_scalar("SELECT probe FROM cairn.keyrings WHERE brain = $1").bind(self.brain);
            let probe = select.fetch_one(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(probe)
        })
        .await
    }

    /// Makes a block of keys that only this process uses.
    pub(super) async fn make_block(&self) -> Result<Slots, StoreError> {
        let mut transaction = begin(&self.pool, self.brain).await.map_err(|error| store_error(&error))?;
        let claim = "UPDATE cairn.keyrings SET end_slot = end_slot + $2 WHERE brain = $1 RETURNING end_slot";
        let claim = sqlx::query_scalar(claim).bind(self.brain).bind(i64::from(BLOCK));
        let end: i64 = run(claim.fetch_one(&mut *transaction)).await?;
        let end = u32::try_from(end).map_err(|_| unavailable("the keyring has used up its slots"))?;
        let (mut slots, mut kept, mut made) = (Vec::new(), Vec::new(), Slots::new());
        for slot in end - BLOCK..end {
            let (key, wrapped) = self.wrapping.make(slot)?;
            slots.push(i64::from(slot));
            kept.push(wrapped);
            made.push((slot, key));
        }
        let insert = "INSERT INTO cairn.key_slots (brain, slot, wrapped)
                      SELECT $1, * FROM unnest($2::bigint[], $3::bytea[])";
        let insert = sqlx::query(insert).bind(self.brain).bind(slots).bind(kept);
        run(insert.execute(&mut *transaction)).await?;
        run(transaction.commit()).await?;
        Ok(made)
    }

    /// The keys of slots; `None` for those destroyed.
    pub(super) async fn keys(&self, slots: &[u32]) -> Result<Vec<Option<RawKey>>, StoreError> {
        let wanted: Vec<i64> = slots.iter().copied().map(i64::from).collect();
        let (found, end) = run(async {
            let mut transaction = begin(&self.pool, self.brain).await?;
            let select = "SELECT slot, wrapped FROM cairn.key_slots WHERE brain = $1 AND slot = ANY ($2)";
            let rows = sqlx::query(select).bind(self.brain).bind(wanted).fetch_all(&mut *transaction).await?;
            let found: HashMap<i64, Vec<u8>> = rows
                .iter()
                .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
                .collect::<Result<_, sqlx::Error>>()?;
            let select =
                sqlx::query_scalar("SELECT end_slot FROM cairn.keyrings WHERE brain = $1").bind(self.brain);
            let end: i64 = select.fetch_one(&mut *transaction).await?;
            Ok((found, end))
        })
        .await?;
        slots.iter().map(|slot| self.key(*slot, &found, end)).collect()
    }

    fn key(&self, slot: u32, found: &HashMap<i64, Vec<u8>>, end: i64) -> Result<Option<RawKey>, StoreError> {
        let Some(wrapped) = found.get(&i64::from(slot)) else {
            let reason = "is older than the log: restore both together";
            return match i64::from(slot) < end {
                true => Ok(None),
                false => Err(corrupt(format!("the keyring ends before key {slot}; it {reason}"))),
            };
        };
        let key = self.wrapping.unwrap(&slot.to_le_bytes(), wrapped);
        key.map(Some)
            .ok_or_else(|| corrupt(format!("key {slot} in the keyring is damaged; restore a backup of it")))
    }

    /// Deletes slots, and has the server take what is left of them out of its table.
    pub(super) async fn destroy(&self, slots: &[u32]) -> Result<(), StoreError> {
        self.delete(slots).await?;
        // Waiting for it would let one slow vacuum hold up every erasure; the server's own comes by in any case.
        if let Err(error) = sqlx::query("VACUUM cairn.key_slots").execute(&self.pool).await {
            tracing::warn!(%error, "deleted keys could not be vacuumed yet; PostgreSQL does so by itself later");
        }
        Ok(())
    }

    /// Deletes slots that nothing was ever sealed with.
    pub(super) async fn delete(&self, slots: &[u32]) -> Result<(), StoreError> {
        let slots: Vec<i64> = slots.iter().copied().map(i64::from).collect();
        run(async {
            let mut transaction = begin(&self.pool, self.brain).await?;
            let delete = "DELETE FROM cairn.key_slots WHERE brain = $1 AND slot = ANY ($2)";
            sqlx::query(delete).bind(self.brain).bind(slots).execute(&mut *transaction).await?;
            transaction.commit().await
        })
        .await
    }

    pub(super) async fn mended_to(&self) -> Result<Position, StoreError> {
        let mended: i64 = run(async {
            let mut transaction = begin(&self.pool, self.brain).await?;
            let select = sqlx::query_scalar("SELECT mended_to FROM cairn.keyrings WHERE brain = $1");
            select.bind(self.brain).fetch_one(&mut *transaction).await
        })
        .await?;
        Ok(Position(mended.cast_unsigned()))
    }

    pub(super) async fn set_mended_to(&self, position: Position) -> Result<(), StoreError> {
        run(async {
            let mut transaction = begin(&self.pool, self.brain).await?;
            let update = "UPDATE cairn.keyrings SET mended_to = greatest(mended_to, $2) WHERE brain = $1";
            let update = sqlx::query(update).bind(self.brain).bind(position.0.cast_signed());
            update.execute(&mut *transaction).await?;
            transaction.commit().await
        })
        .await
    }
}

async fn run<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    work.await.map_err(|error| store_error(&error))
}
