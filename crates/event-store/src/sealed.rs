//! Encryption of what is personal, around any event store, and its erasure.
//!
//! The `data` of events in streams whose names begin with [`SEALED_PREFIX`] is encrypted with a key of the stream's
//! own; nobody on either side knows of it. Appending an event of type [`ERASED_TYPE`] to such a stream destroys the
//! key: the events stay, their data reads as `null` from then on. See `docs/decisions/0003-sealed-events.md`.
//!
//! An *entry*, an event of type [`ENTRY_TYPE`] in a stream whose name begins with [`CHAIN_PREFIX`], may say something
//! about one memory. Its metadata then names the memory by a top-level member `"memory"`, a UUID, and its data is
//! encrypted with the key of that memory's stream, so that erasing the memory erases it too; its metadata stays. One
//! that names none, or the nil UUID, is not sealed. Three things follow for who appends entries:
//!
//! - The first entry about a memory is appended together with the first sealed event of the memory's stream, or after
//!   it: what is erased is found by that stream, so a key that nothing there names could not be.
//! - Nothing can be said about a memory that was erased.
//! - Snapshots of chain streams are not sealed and must hold nothing of the entries' data.

mod envelope;
mod rule;
mod slots;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

use crate::admission::check_limits;
use crate::event::{
    Appended, Direction, ExpectedRevision, Filter, NewAppend, Page, Position, RecordedEvent, Revision, Snapshot,
};
use crate::keyring::{Keyring, StreamKey};
use crate::port::{AppendError, EventStore, StoreError};
use crate::sqlite::failure::unavailable;
use envelope::{open_event, open_snapshot, seal_event, seal_snapshot, slot_of};
use rule::{Planned, erases, is_entry, is_sealed, plan, sealed_events};
use slots::{Assigned, StreamSlots};

/// How the names of sealed streams begin.
pub const SEALED_PREFIX: &str = "memory-";
/// The type of the event that erases its stream. It is not sealed itself, so that it can be read for ever.
pub const ERASED_TYPE: &str = "memory.erased";
/// How the names of streams begin that may hold entries.
pub const CHAIN_PREFIX: &str = "space-";
/// The type of an entry: where its metadata names a memory, it is sealed with the key of that memory's stream.
pub const ENTRY_TYPE: &str = "space.entry";

/// With more bytes than this, encryption and the reading of metadata go to a blocking thread.
const INLINE_BYTES: usize = 256 * 1024;
/// How long is waited until a key that could not be destroyed is tried again.
const ERASE_PAUSE: Duration = Duration::from_secs(2);
/// The events read at once where a whole stream is looked through.
const LOOK_EVENTS: usize = 1_000;

/// A store whose personal data is encrypted.
pub struct Sealed<S> {
    inner: Arc<Inner<S>>,
}

struct Inner<S> {
    store: S,
    keyring: Keyring,
    slots: StreamSlots,
    /// The log's end when it was opened: what was erased before, no key was ever read of.
    opened_at: Position,
    /// How far the log was looked through for what other processes have erased.
    heeded: Mutex<Position>,
}

/// Whether the log is looked at for what it holds of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// It is.
    Seen,
    /// It is not, because the append says that the stream is new. Where it is not new after all, the append is refused
    /// and the slot it was given is forgotten.
    Unseen,
}

/// Keys by slot; `None` for those destroyed.
type Keys = HashMap<u32, Option<Arc<StreamKey>>>;
/// Slots by the names of the streams that they belong to.
type Slots = HashMap<Arc<str>, Assigned>;

impl<S: EventStore> Sealed<S> {
    /// Puts the encryption around a store, and completes erasures that a crash has cut short.
    ///
    /// # Errors
    /// [`StoreError`] where the log or the keyring cannot be read or an erasure cannot be completed.
    pub async fn open(store: S, keyring: Keyring) -> Result<Self, StoreError> {
        let opened_at = *store.head().borrow();
        let heeded = Mutex::new(opened_at);
        let inner = Arc::new(Inner { store, keyring, slots: StreamSlots::default(), opened_at, heeded });
        inner.mend().await?;
        Ok(Self { inner })
    }

    async fn append_with(&self, append: NewAppend, sight_of_new: Sight) -> Result<Appended, AppendError> {
        let erases = append.streams.iter().any(erases);
        let (append, assigned) = self.inner.seal(append, sight_of_new).await?;
        if !erases && !assigned.iter().any(Assigned::is_fresh) {
            return self.inner.store.append(append).await;
        }
        // A caller who goes must not take with him the erasure, nor the knowledge of a slot in use.
        let inner = self.inner.clone();
        let finishing = tokio::spawn(async move { inner.finish(append, assigned).await });
        finishing.await.map_err(|error| unavailable(format!("an append was cut short ({error}); repeat it")))?
    }

    /// Destroys the keys of whatever the log says is erased: for a log that others append to, as a follower's is.
    ///
    /// # Errors
    /// [`StoreError`] where it could not be completed; doing it again goes on.
    pub async fn complete_erasures(&self) -> Result<(), StoreError> {
        self.inner.mend().await
    }

    /// The keys.
    pub fn keyring(&self) -> &Keyring {
        &self.inner.keyring
    }

    /// The store inside, as it is on disk.
    pub fn store(&self) -> &S {
        &self.inner.store
    }
}

impl<S: EventStore> Inner<S> {
    async fn mend(&self) -> Result<(), StoreError> {
        let head = *self.store.head().borrow();
        let filter = erasures();
        let mut from = Some(self.keyring.mended_to().await?.next());
        while let Some(position) = from.filter(|position| *position <= head) {
            let page = self.store.read_all(position, Direction::Forwards, &filter, LOOK_EVENTS).await?;
            for erased in page.events {
                self.erase(&erased.stream).await?;
            }
            from = page.next;
        }
        self.keyring.set_mended_to(head).await
    }

    /// Destroys every key that anything of the stream is sealed with. Doing it again does nothing.
    async fn erase(&self, stream: &str) -> Result<(), StoreError> {
        self.keyring.destroy(self.slots_of_stream(stream).await?).await?;
        self.store.save_snapshot(stream, None).await
    }

    /// Forgets the keys of what another process has erased, where one may.
    async fn heed(&self, events: &[RecordedEvent]) -> Result<(), StoreError> {
        let erased = |event: &&RecordedEvent| {
            event.position > self.opened_at
                && event.stream.starts_with(SEALED_PREFIX)
                && &*event.event_type == ERASED_TYPE
        };
        if !self.keyring.is_shared() {
            return Ok(());
        }
        for event in events.iter().filter(erased) {
            self.keyring.forget(self.slots_of_stream(&event.stream).await?);
        }
        // Who reads chains alone never meets an erasure, which stands in the stream of the memory.
        if events.iter().any(|event| is_entry(&event.stream, &event.event_type)) {
            self.heed_all().await?;
        }
        Ok(())
    }

    /// Forgets the keys of everything that was erased up to the log's end.
    async fn heed_all(&self) -> Result<(), StoreError> {
        let head = *self.store.head().borrow();
        let mut heeded = self.heeded.lock().await;
        while *heeded < head {
            let page = self.store.read_all(heeded.next(), Direction::Forwards, &erasures(), LOOK_EVENTS).await?;
            for erased in page.events {
                self.keyring.forget(self.slots_of_stream(&erased.stream).await?);
            }
            *heeded = page.next.map_or(head, |next| Position(next.0 - 1));
        }
        Ok(())
    }

    /// Every slot that anything of the stream is sealed with.
    async fn slots_of_stream(&self, stream: &str) -> Result<Vec<u32>, StoreError> {
        let mut slots: Vec<_> = self.slots.get(stream).into_iter().collect();
        let mut from = Revision(0);
        loop {
            let events = self.store.read_stream(stream, from, Direction::Forwards, LOOK_EVENTS).await?;
            let Some(last) = events.last() else { break };
            from = last.revision.next();
            for event in events.iter().filter(|event| is_sealed(&event.stream, &event.event_type)) {
                slots.push(slot_of(&event.data)?);
            }
        }
        if let Some(snapshot) = self.store.load_snapshot(stream).await? {
            slots.push(slot_of(&snapshot.data)?);
        }
        slots.sort_unstable();
        slots.dedup();
        Ok(slots)
    }

    /// The slot of a stream: the one that its events name, or a fresh one if it has none.
    async fn assign(&self, stream: &Arc<str>, sight: Sight) -> Result<Assigned, StoreError> {
        let assigned = self.slots.assigned(stream);
        match (assigned, sight) {
            (Some(assigned), Sight::Unseen) => Ok(assigned),
            (Some(assigned), Sight::Seen) if assigned.is_named() => Ok(assigned),
            (None, Sight::Unseen) => self.fresh(stream, false).await,
            // What nothing in the log names may be the guess of an append that will be refused.
            (assigned, Sight::Seen) => match (self.named(stream).await?, assigned) {
                (Some(slot), _) => Ok(self.slots.learn(stream, slot)),
                (None, Some(assigned)) => Ok(assigned),
                (None, None) => self.fresh(stream, true).await,
            },
        }
    }

    /// The slot of a stream, for sealing what stands in another one: it must be one that the stream's events name, or
    /// erasing the stream would not find it.
    async fn assign_named(&self, stream: &Arc<str>) -> Result<Assigned, AppendError> {
        if let Some(assigned) = self.slots.assigned(stream).filter(Assigned::is_named) {
            return Ok(assigned);
        }
        let slot = self.named(stream).await?.ok_or_else(|| {
            AppendError::Invalid(format!(
                "an entry is about {stream}, in which nothing is sealed yet; append the first of that with it"
            ))
        })?;
        Ok(self.slots.learn(stream, slot))
    }

    /// The slot that the events of a stream name.
    async fn named(&self, stream: &str) -> Result<Option<u32>, StoreError> {
        let mut from = Revision(0);
        loop {
            // The first event tells, unless it is one that is not sealed.
            let limit = if from.0 == 0 { 1 } else { LOOK_EVENTS };
            let events = self.store.read_stream(stream, from, Direction::Forwards, limit).await?;
            let Some(last) = events.last() else { return Ok(None) };
            from = last.revision.next();
            if let Some(first) = events.iter().find(|event| is_sealed(stream, &event.event_type)) {
                return slot_of(&first.data).map(Some);
            }
        }
    }

    async fn fresh(&self, stream: &Arc<str>, certain: bool) -> Result<Assigned, StoreError> {
        let (slot, _) = self.keyring.take().await?;
        Ok(self.slots.offer(stream, slot, certain))
    }

    async fn keys(&self, slots: Vec<u32>) -> Result<Keys, StoreError> {
        let keys = self.keyring.keys(&slots).await?;
        Ok(slots.into_iter().zip(keys).collect())
    }

    /// Encrypts what is to be sealed; also returns what must be kept until the append is over.
    async fn seal(
        &self,
        append: NewAppend,
        sight_of_new: Sight,
    ) -> Result<(NewAppend, Vec<Assigned>), AppendError> {
        let of_entries = append.streams.iter().flat_map(|entry| {
            let entries = entry.events.iter().filter(|event| is_entry(&entry.stream, &event.event_type));
            entries.map(|event| event.metadata.len())
        });
        let planned = compute(of_entries.sum(), move || plan(&append).map(|plan| (append, plan)));
        let (mut append, plan) = planned.await??;
        if plan.is_empty() {
            return Ok((append, Vec::new()));
        }
        let assigned = self.assign_all(&append, &plan, sight_of_new).await?;
        let keys = self.keys(assigned.values().map(Assigned::slot).collect()).await?;
        let mut slots = Vec::with_capacity(plan.len());
        for Planned { place, keyed } in plan {
            let slot = assigned[&keyed].slot();
            if keys[&slot].is_none() {
                return Err(AppendError::Invalid(format!("stream {keyed} was erased")));
            }
            slots.push((place, slot));
        }
        let bytes = append.streams.iter().flat_map(|entry| &entry.events).map(|event| event.data.len()).sum();
        let append = compute(bytes, move || {
            for ((at, index), slot) in slots {
                let entry = &mut append.streams[at];
                let event = &mut entry.events[index];
                if let Some(key) = &keys[&slot] {
                    event.data = seal_event(key, slot, &entry.stream, event);
                }
            }
            append
        });
        Ok((append.await?, assigned.into_values().collect()))
    }

    /// The slots of all streams whose keys an append needs.
    async fn assign_all(
        &self,
        append: &NewAppend,
        plan: &[Planned],
        sight_of_new: Sight,
    ) -> Result<Slots, AppendError> {
        let mut assigned = Slots::new();
        for entry in &append.streams {
            let sight = if entry.expected == ExpectedRevision::NoStream { sight_of_new } else { Sight::Seen };
            if entry.events.iter().any(|event| is_sealed(&entry.stream, &event.event_type)) {
                assigned.insert(Arc::clone(&entry.stream), self.assign(&entry.stream, sight).await?);
            }
        }
        // The others are those of memories of which the append says something in a chain only.
        for Planned { keyed, .. } in plan {
            if !assigned.contains_key(keyed) {
                assigned.insert(Arc::clone(keyed), self.assign_named(keyed).await?);
            }
        }
        Ok(assigned)
    }

    /// Decrypts the data of events.
    async fn open(&self, events: Vec<RecordedEvent>) -> Result<Vec<RecordedEvent>, StoreError> {
        self.heed(&events).await?;
        let of_entries = events.iter().filter(|event| is_entry(&event.stream, &event.event_type));
        let bytes = of_entries.map(|event| event.metadata.len()).sum();
        let found = compute(bytes, move || sealed_events(&events).map(|sealed| (events, sealed)));
        let (mut events, sealed) = found.await??;
        if sealed.is_empty() {
            return Ok(events);
        }
        let mut slots: Vec<_> = sealed.iter().map(|(_, slot)| *slot).collect();
        slots.sort_unstable();
        slots.dedup();
        let keys = self.keys(slots).await?;
        let bytes = sealed.iter().map(|(index, _)| events[*index].data.len()).sum();
        compute(bytes, move || {
            for (index, slot) in sealed {
                let event = &mut events[index];
                match keys.get(&slot).and_then(Option::as_deref) {
                    Some(key) => event.data = open_event(key, event)?,
                    None => (event.data, event.erased) = (Bytes::from_static(b"null"), true),
                }
            }
            Ok(events)
        })
        .await?
    }

    /// Appends what is sealed already, and erases what it says is erased.
    async fn finish(
        self: &Arc<Self>,
        append: NewAppend,
        assigned: Vec<Assigned>,
    ) -> Result<Appended, AppendError> {
        let erased: Vec<_> =
            append.streams.iter().filter(|entry| erases(entry)).map(|e| e.stream.clone()).collect();
        let appended = self.store.append(append).await?;
        assigned.iter().for_each(Assigned::confirm);
        drop(assigned);
        for stream in erased {
            // It is in the log that the stream is erased, and there is no appending that again.
            if let Err(error) = self.erase(&stream).await {
                tracing::error!(%stream, %error, "a key could not be destroyed yet; it is tried until it is");
                tokio::spawn(Arc::clone(self).erase_at_last(stream));
            }
        }
        Ok(appended)
    }

    /// Destroys the keys of a stream as soon as that is possible. After a crash the next start sees to it.
    async fn erase_at_last(self: Arc<Self>, stream: Arc<str>) {
        loop {
            tokio::time::sleep(ERASE_PAUSE).await;
            match self.erase(&stream).await {
                Ok(()) => return,
                Err(error) => tracing::error!(%stream, %error, "a key cannot be destroyed; make room on the disk"),
            }
        }
    }
}

#[async_trait]
impl<S: EventStore> EventStore for Sealed<S> {
    async fn append(&self, append: NewAppend) -> Result<Appended, AppendError> {
        check_limits(&append)?;
        match self.append_with(append.clone(), Sight::Unseen).await {
            // Sealed with the key that the stream has, it may turn out to be a repetition.
            Err(AppendError::EventIdReused { .. }) => self.append_with(append, Sight::Seen).await,
            appended => appended,
        }
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        filter: &Filter,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let Page { events, next } = self.inner.store.read_all(from, direction, filter, limit).await?;
        Ok(Page { events: self.inner.open(events).await?, next })
    }

    async fn read_stream(
        &self,
        stream: &str,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        self.inner.open(self.inner.store.read_stream(stream, from, direction, limit).await?).await
    }

    async fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        let found = self.inner.store.event(id).await?;
        Ok(self.inner.open(found.into_iter().collect()).await?.pop())
    }

    async fn position_at(&self, time: DateTime<Utc>) -> Result<Position, StoreError> {
        self.inner.store.position_at(time).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.inner.store.head()
    }

    async fn tracking(&self, source: &str) -> Result<Option<u64>, StoreError> {
        self.inner.store.tracking(source).await
    }

    async fn load_snapshot(&self, stream: &str) -> Result<Option<Snapshot>, StoreError> {
        let found = self.inner.store.load_snapshot(stream).await?;
        if !stream.starts_with(SEALED_PREFIX) {
            return Ok(found);
        }
        let Some(snapshot) = found else { return Ok(None) };
        let slot = slot_of(&snapshot.data)?;
        match self.inner.keys(vec![slot]).await?.remove(&slot).flatten() {
            Some(key) => open_snapshot(&key, stream, &snapshot).map(Some),
            None => Ok(None),
        }
    }

    async fn save_snapshot(&self, stream: &str, snapshot: Option<Snapshot>) -> Result<(), StoreError> {
        let snapshot = match snapshot {
            Some(snapshot) if stream.starts_with(SEALED_PREFIX) => snapshot,
            plain => return self.inner.store.save_snapshot(stream, plain).await,
        };
        let assigned = self.inner.assign(&stream.into(), Sight::Seen).await?;
        let slot = assigned.slot();
        // One of an erased stream is not kept: losing a snapshot loses nothing.
        let sealed = match self.inner.keys(vec![slot]).await?.remove(&slot).flatten() {
            Some(key) => Some(seal_snapshot(&key, slot, stream, &snapshot)?),
            None => None,
        };
        self.inner.store.save_snapshot(stream, sealed).await
    }
}

/// What erases.
fn erasures() -> Filter {
    Filter { stream_prefixes: vec![SEALED_PREFIX.to_owned()], event_types: vec![ERASED_TYPE.to_owned()] }
}

/// Computes on this thread where it is little, on a blocking one where it would hold others up.
async fn compute<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    if bytes <= INLINE_BYTES {
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| unavailable(format!("encryption was cut short ({error}); repeat the request")))
}
