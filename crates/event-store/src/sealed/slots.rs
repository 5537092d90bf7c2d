//! Which stream has which key slot, as far as it is remembered. What is forgotten is learnt from the log.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

/// The streams whose slot is remembered.
const CACHED_STREAMS: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

#[derive(Default)]
pub(super) struct StreamSlots {
    memory: Arc<Mutex<Memory>>,
}

struct Memory {
    known: LruCache<Arc<str>, u32>,
    /// Slots of streams whose first append is under way. The log does not name them yet, so they must not be
    /// forgotten, lest a second append to the same stream takes another slot.
    fresh: HashMap<Arc<str>, Fresh>,
}

struct Fresh {
    slot: u32,
    users: usize,
    /// Whether the stream has no other slot: the log was looked at, or an append to the new stream went through.
    certain: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self { known: LruCache::new(CACHED_STREAMS), fresh: HashMap::new() }
    }
}

/// A stream's slot. While it is fresh, it is remembered for as long as this lives.
pub(super) struct Assigned {
    slot: u32,
    fresh: Option<(Arc<str>, Arc<Mutex<Memory>>)>,
}

impl StreamSlots {
    /// The slot of a stream, for looking only.
    pub(super) fn get(&self, stream: &str) -> Option<u32> {
        let mut memory = lock(&self.memory);
        memory.fresh.get(stream).map(|fresh| fresh.slot).or_else(|| memory.known.get(stream).copied())
    }

    /// The slot of a stream, for sealing.
    pub(super) fn assigned(&self, stream: &Arc<str>) -> Option<Assigned> {
        let mut memory = lock(&self.memory);
        self.join(&mut memory, stream)
    }

    /// Remembers what the log says.
    pub(super) fn learn(&self, stream: &Arc<str>, slot: u32) -> Assigned {
        lock(&self.memory).known.put(stream.clone(), slot);
        Assigned { slot, fresh: None }
    }

    /// Gives a slot to a stream that has none, which is `certain` or else told by [`Assigned::confirm`]. Another one may
    /// have been given meanwhile: then that one counts.
    pub(super) fn offer(&self, stream: &Arc<str>, slot: u32, certain: bool) -> Assigned {
        let mut memory = lock(&self.memory);
        if let Some(assigned) = self.join(&mut memory, stream) {
            return assigned;
        }
        memory.fresh.insert(stream.clone(), Fresh { slot, users: 1, certain });
        Assigned { slot, fresh: Some((stream.clone(), self.memory.clone())) }
    }

    fn join(&self, memory: &mut Memory, stream: &Arc<str>) -> Option<Assigned> {
        if let Some(fresh) = memory.fresh.get_mut(stream) {
            fresh.users += 1;
            return Some(Assigned { slot: fresh.slot, fresh: Some((stream.clone(), self.memory.clone())) });
        }
        memory.known.get(stream).map(|slot| Assigned { slot: *slot, fresh: None })
    }
}

impl Assigned {
    pub(super) fn slot(&self) -> u32 {
        self.slot
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.fresh.is_some()
    }

    /// The append went through: the slot is the stream's.
    pub(super) fn confirm(&self) {
        let Some((stream, memory)) = &self.fresh else { return };
        if let Some(fresh) = lock(memory).fresh.get_mut(stream) {
            fresh.certain = true;
        }
    }
}

impl Drop for Assigned {
    fn drop(&mut self) {
        let Some((stream, memory)) = self.fresh.take() else { return };
        let mut memory = lock(&memory);
        let Some(fresh) = memory.fresh.get_mut(&stream) else { return };
        fresh.users -= 1;
        if fresh.users == 0 {
            let certain = fresh.certain;
            memory.fresh.remove(&stream);
            // Also where the append was refused for another reason: the next one may use the slot as well.
            if certain {
                memory.known.put(stream, self.slot);
            }
        }
    }
}

/// A poisoned lock is taken all the same: nothing behind it is ever half changed.
fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_slot_is_remembered_while_anybody_uses_it() {
        let slots = StreamSlots::default();
        let stream: Arc<str> = "memory-1".into();
        let first = slots.offer(&stream, 7, true);
        let second = slots.offer(&stream, 8, true);
        assert_eq!((second.slot(), second.is_fresh()), (7, true));
        for n in 0..=CACHED_STREAMS.get() {
            slots.learn(&format!("memory-other-{n}").into(), 9);
        }
        drop(first);
        let third = slots.assigned(&stream).expect("still in use");
        assert!(third.is_fresh());
        drop((second, third));
        let known = slots.assigned(&stream).expect("just used");
        assert_eq!((known.slot(), known.is_fresh()), (7, false));
    }

    #[test]
    fn a_slot_given_on_a_guess_is_forgotten_unless_the_append_went_through() {
        let slots = StreamSlots::default();
        let stream: Arc<str> = "memory-1".into();
        drop(slots.offer(&stream, 7, false));
        assert!(slots.assigned(&stream).is_none(), "the stream may have another one");
        let (first, second) = (slots.offer(&stream, 8, false), slots.offer(&stream, 9, false));
        first.confirm();
        drop((first, second));
        assert_eq!(slots.assigned(&stream).map(|known| known.slot()), Some(8));
    }
}
