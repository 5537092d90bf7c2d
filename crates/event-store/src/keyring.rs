//! Keys of streams: made ahead, kept encrypted, destroyed for good. See `docs/decisions/0003-sealed-events.md`.
//!
//! A key lives in a numbered *slot*. Slots are made durable in blocks before any of them is used, so that taking one
//! costs no fsync. Which stream has which slot is not written here: the stream's own sealed events name it.

mod database;

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use lru::LruCache;
use zeroize::Zeroizing;

use crate::event::Position;
use crate::port::StoreError;
use crate::sqlite::failure::unavailable;
use database::Database;
pub use database::KeyringError;
pub(crate) use database::random;

/// The slots that are made durable together.
pub const SLOT_BLOCK: u32 = 4_096;
/// When fewer free slots are left, the next block is made in the background.
pub const SLOTS_LOW: usize = 1_024;
/// The keys kept unwrapped in memory.
const CACHED_KEYS: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// A stream's key, ready for use. Forgotten without a trace when dropped.
pub(crate) struct StreamKey {
    pub(crate) cipher: XChaCha20Poly1305,
    /// For deriving nonces: another key than the cipher's, so that neither use can weaken the other.
    pub(crate) nonce_key: Zeroizing<[u8; 32]>,
}

/// The 32 bytes that a slot holds.
type RawKey = Zeroizing<[u8; 32]>;

impl StreamKey {
    fn new(raw: &RawKey) -> Self {
        let nonce_key = Zeroizing::new(blake3::derive_key("cairn 2026 sealed event nonce", &raw[..]));
        Self { cipher: XChaCha20Poly1305::new((&**raw).into()), nonce_key }
    }
}

/// The keyring of one brain.
pub struct Keyring {
    shared: Arc<Shared>,
    /// Held while a block is made, so that many who wait make one.
    filling: Arc<tokio::sync::Mutex<()>>,
}

struct Shared {
    /// Used on blocking threads only.
    database: Mutex<Database>,
    /// Durable slots that no stream has yet, without a gap up to the last one made.
    free: Mutex<VecDeque<(u32, Arc<StreamKey>)>>,
    /// Keys by slot; `None` for those known to be destroyed.
    keys: Mutex<LruCache<u32, Option<Arc<StreamKey>>>>,
}

impl Keyring {
    /// Opens the keyring in this file, or begins it there. The wrapping key encrypts every key in it.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub fn open(path: impl AsRef<Path>, wrapping_key: [u8; 32]) -> Result<Self, KeyringError> {
        let (database, free) = Database::open(path.as_ref(), &Zeroizing::new(wrapping_key))?;
        let free = free.into_iter().map(|(slot, raw)| (slot, Arc::new(StreamKey::new(&raw)))).collect();
        let shared = Shared {
            database: Mutex::new(database),
            free: Mutex::new(free),
            keys: Mutex::new(LruCache::new(CACHED_KEYS)),
        };
        Ok(Self { shared: Arc::new(shared), filling: Arc::default() })
    }

    /// A slot that no stream ever had, and its key. It is durable already.
    pub(crate) async fn take(&self) -> Result<(u32, Arc<StreamKey>), StoreError> {
        loop {
            let (taken, left) = {
                let mut free = lock(&self.shared.free);
                (free.pop_front(), free.len())
            };
            if left < SLOTS_LOW && taken.is_some() {
                self.fill_in_background();
            }
            if let Some((slot, key)) = taken {
                lock(&self.shared.keys).put(slot, Some(key.clone()));
                return Ok((slot, key));
            }
            let _filling = self.filling.lock().await;
            if lock(&self.shared.free).is_empty() {
                self.with_database(Shared::fill).await?;
            }
        }
    }

    fn fill_in_background(&self) {
        let Ok(filling) = self.filling.clone().try_lock_owned() else {
            return;
        };
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || {
            let _filling = filling;
            // Whoever finds no slot left tries again, and is told.
            if let Err(error) = shared.fill() {
                tracing::warn!(%error, "no new keys could be made; those at hand are still enough");
            }
        });
    }

    /// The keys of these slots; `None` for those destroyed.
    pub(crate) async fn keys(&self, slots: &[u32]) -> Result<Vec<Option<Arc<StreamKey>>>, StoreError> {
        let cached = self.shared.cached(slots);
        if let Some(keys) = cached {
            return Ok(keys);
        }
        let slots = slots.to_vec();
        self.with_database(move |shared| shared.load(&slots)).await
    }

    /// Destroys the keys of these slots for good. Doing it again does nothing.
    pub(crate) async fn destroy(&self, slots: Vec<u32>) -> Result<(), StoreError> {
        self.with_database(move |shared| {
            let mut database = lock(&shared.database);
            database.destroy(&slots)?;
            // Under the database's lock: nobody can have read a key before and put it here after.
            let mut keys = lock(&shared.keys);
            for slot in slots {
                keys.put(slot, None);
            }
            Ok(())
        })
        .await
    }

    /// All erasures in the log up to this position are done.
    pub(crate) async fn mended_to(&self) -> Result<Position, StoreError> {
        self.with_database(|shared| lock(&shared.database).mended_to()).await
    }

    /// Records that all erasures in the log up to this position are done.
    pub(crate) async fn set_mended_to(&self, position: Position) -> Result<(), StoreError> {
        self.with_database(move |shared| lock(&shared.database).set_mended_to(position)).await
    }

    async fn with_database<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        let done = tokio::task::spawn_blocking(move || work(&shared)).await;
        done.map_err(|error| unavailable(format!("the keyring was cut short ({error}); repeat the request")))?
    }
}

impl Shared {
    fn fill(&self) -> Result<(), StoreError> {
        let made = lock(&self.database).make_block()?;
        let made = made.into_iter().map(|(slot, raw)| (slot, Arc::new(StreamKey::new(&raw))));
        lock(&self.free).extend(made);
        Ok(())
    }

    fn cached(&self, slots: &[u32]) -> Option<Vec<Option<Arc<StreamKey>>>> {
        let mut keys = lock(&self.keys);
        slots.iter().map(|slot| keys.get(slot).cloned()).collect()
    }

    fn load(&self, slots: &[u32]) -> Result<Vec<Option<Arc<StreamKey>>>, StoreError> {
        let database = lock(&self.database);
        let mut loaded = Vec::with_capacity(slots.len());
        for slot in slots {
            let cached = lock(&self.keys).get(slot).cloned();
            let key = match cached {
                Some(key) => key,
                None => database.key(*slot)?.map(|raw| Arc::new(StreamKey::new(&raw))),
            };
            lock(&self.keys).put(*slot, key.clone());
            loaded.push(key);
        }
        Ok(loaded)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let free = lock(&self.free).front().map(|(slot, _)| *slot);
        // Failing costs the rest of a block of slots, of which there are enough.
        if let Err(error) = lock(&self.database).mark_free(free) {
            tracing::warn!(%error, "the keyring could not note which keys are unused; they will not be used");
        }
    }
}

/// A poisoned lock is taken all the same: no state behind one is ever half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
