//! Keys of streams: made ahead, kept encrypted, destroyed for good. See `docs/decisions/0003-sealed-events.md`.
//!
//! A key lives in a numbered *slot*. Slots are made durable in blocks before any of them is used, so that taking one
//! costs no fsync. Which stream has which slot is not written here: the stream's own sealed events name it.

mod database;
mod postgres;
mod replica;
mod wrapping;

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
use postgres::PostgresKeys;
pub use replica::{MAX_WRAPPED_SLOTS, WrappedSlots};
pub(crate) use wrapping::random;

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
/// Slots with their keys.
type Slots = Vec<(u32, RawKey)>;

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
    place: Place,
    /// Durable slots that no stream has yet; in a file without a gap up to the last one made.
    free: Mutex<VecDeque<(u32, Arc<StreamKey>)>>,
    /// Keys by slot; `None` for those known to be destroyed.
    keys: Mutex<LruCache<u32, Option<Arc<StreamKey>>>>,
}

/// Where the keys are kept.
enum Place {
    /// In a file of this process's own. Used on blocking threads only.
    File(Arc<Mutex<Database>>),
    /// In a database that several processes may share.
    Postgres(PostgresKeys),
}

impl Keyring {
    /// Opens the keyring in this file, or begins it there. The wrapping key encrypts every key in it.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub fn open(path: impl AsRef<Path>, wrapping_key: [u8; 32]) -> Result<Self, KeyringError> {
        let (database, free) = Database::open(path.as_ref(), &Zeroizing::new(wrapping_key))?;
        Ok(Self::new(Place::File(Arc::new(Mutex::new(database))), free))
    }

    /// Opens the keyring of a brain in a PostgreSQL database, or begins it there. The wrapping key encrypts every key
    /// in it.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub async fn open_postgres(
        pool: sqlx::PgPool,
        brain: uuid::Uuid,
        wrapping_key: [u8; 32],
    ) -> Result<Self, KeyringError> {
        let keys = PostgresKeys::open(pool, brain, &Zeroizing::new(wrapping_key)).await?;
        Ok(Self::new(Place::Postgres(keys), Slots::new()))
    }

    fn new(place: Place, free: Slots) -> Self {
        let free = free.into_iter().map(|(slot, raw)| (slot, Arc::new(StreamKey::new(&raw)))).collect();
        let keys = Mutex::new(LruCache::new(CACHED_KEYS));
        let shared = Shared { place, free: Mutex::new(free), keys };
        Self { shared: Arc::new(shared), filling: Arc::default() }
    }

    /// Gives back the slots that were made and not used. Later uses of the keyring make new ones.
    pub async fn close(&self) {
        // What is being made just now will be unused too.
        let _filling = self.filling.lock().await;
        let unused: Vec<u32> = match &self.shared.place {
            // A file's are noted when it is closed.
            Place::File(_) => return,
            Place::Postgres(_) => lock(&self.shared.free).drain(..).map(|(slot, _)| slot).collect(),
        };
        if let (Place::Postgres(keys), false) = (&self.shared.place, unused.is_empty())
            && let Err(error) = keys.delete(&unused).await
        {
            tracing::warn!(%error, "unused keys stay in the database; they take some room and do no harm");
        }
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
                self.shared.fill().await?;
            }
        }
    }

    fn fill_in_background(&self) {
        let Ok(filling) = self.filling.clone().try_lock_owned() else {
            return;
        };
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let _filling = filling;
            // Whoever finds no slot left tries again, and is told.
            if let Err(error) = shared.fill().await {
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
        self.shared.load(slots).await
    }

    /// Destroys the keys of these slots for good. Doing it again does nothing.
    pub(crate) async fn destroy(&self, slots: Vec<u32>) -> Result<(), StoreError> {
        match &self.shared.place {
            Place::File(database) => {
                let shared = Arc::clone(&self.shared);
                in_file(database, move |database| {
                    database.destroy(&slots)?;
                    // Under the database's lock: nobody can have read a key before and put it here after.
                    shared.forget(slots);
                    Ok(())
                })
                .await
            }
            Place::Postgres(keys) => {
                keys.destroy(&slots).await?;
                self.shared.forget(slots);
                Ok(())
            }
        }
    }

    /// What this keyring is known by: the same wherever it is opened, another one for every other keyring.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be read.
    pub async fn fingerprint(&self) -> Result<String, StoreError> {
        let probe = match &self.shared.place {
            Place::File(database) => in_file(database, |database| database.kept_probe()).await?,
            Place::Postgres(keys) => keys.kept_probe().await?,
        };
        // The probe was encrypted with a random nonce when the keyring was made.
        Ok(blake3::hash(&probe).to_hex()[..32].to_owned())
    }

    /// Whether other processes use the same keys, and may destroy them.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.shared.place, Place::Postgres(_))
    }

    /// Forgets the keys of slots that another process has destroyed.
    pub(crate) fn forget(&self, slots: Vec<u32>) {
        self.shared.forget(slots);
    }

    /// All erasures in the log up to this position are done.
    pub(crate) async fn mended_to(&self) -> Result<Position, StoreError> {
        match &self.shared.place {
            Place::File(database) => in_file(database, |database| database.mended_to()).await,
            Place::Postgres(keys) => keys.mended_to().await,
        }
    }

    /// Records that all erasures in the log up to this position are done.
    pub(crate) async fn set_mended_to(&self, position: Position) -> Result<(), StoreError> {
        match &self.shared.place {
            Place::File(database) => in_file(database, move |database| database.set_mended_to(position)).await,
            Place::Postgres(keys) => keys.set_mended_to(position).await,
        }
    }
}

/// Uses the file on a thread that may block.
async fn in_file<T: Send + 'static>(
    database: &Arc<Mutex<Database>>,
    work: impl FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let database = Arc::clone(database);
    let done = tokio::task::spawn_blocking(move || work(&mut lock(&database))).await;
    done.map_err(|error| unavailable(format!("the keyring was cut short ({error}); repeat the request")))?
}

impl Shared {
    async fn fill(&self) -> Result<(), StoreError> {
        let made = match &self.place {
            Place::File(database) => in_file(database, Database::make_block).await?,
            Place::Postgres(keys) => keys.make_block().await?,
        };
        let made = made.into_iter().map(|(slot, raw)| (slot, Arc::new(StreamKey::new(&raw))));
        lock(&self.free).extend(made);
        Ok(())
    }

    fn cached(&self, slots: &[u32]) -> Option<Vec<Option<Arc<StreamKey>>>> {
        let mut keys = lock(&self.keys);
        slots.iter().map(|slot| keys.get(slot).cloned()).collect()
    }

    fn forget(&self, slots: Vec<u32>) {
        let mut keys = lock(&self.keys);
        for slot in slots {
            keys.put(slot, None);
        }
    }

    /// Reads keys, those that are cached too: few are, or this were not asked.
    async fn load(self: &Arc<Self>, slots: &[u32]) -> Result<Vec<Option<Arc<StreamKey>>>, StoreError> {
        match &self.place {
            Place::File(database) => {
                let (shared, slots) = (Arc::clone(self), slots.to_vec());
                in_file(database, move |database| {
                    let found = slots.iter().map(|slot| database.key(*slot)).collect::<Result<Vec<_>, _>>()?;
                    Ok(shared.remember(&slots, found))
                })
                .await
            }
            Place::Postgres(keys) => {
                let found = keys.keys(slots).await?;
                Ok(self.remember(slots, found))
            }
        }
    }

    /// A key that is known to be destroyed stays so, whatever was read a moment before.
    fn remember(&self, slots: &[u32], found: Vec<Option<RawKey>>) -> Vec<Option<Arc<StreamKey>>> {
        let mut keys = lock(&self.keys);
        let remembered = slots.iter().zip(found).map(|(slot, raw)| match keys.get(slot) {
            Some(known) => known.clone(),
            None => {
                let key = raw.map(|raw| Arc::new(StreamKey::new(&raw)));
                keys.put(*slot, key.clone());
                key
            }
        });
        remembered.collect()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Place::File(database) = &self.place else { return };
        let free = lock(&self.free).front().map(|(slot, _)| *slot);
        // Failing costs the rest of a block of slots, of which there are enough.
        if let Err(error) = lock(database).mark_free(free) {
            tracing::warn!(%error, "the keyring could not note which keys are unused; they will not be used");
        }
    }
}

/// A poisoned lock is taken all the same: no state behind one is ever half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
