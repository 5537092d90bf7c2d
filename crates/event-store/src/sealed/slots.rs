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
    known: LruCache<Arc<str>, Known>,
    /// Slots of streams whose first append is under way. The log does not name them yet, so they must not be
    /// forgotten, lest a second append to the same stream takes another slot.
    fresh: HashMap<Arc<str>, Fresh>,
}

#[derive(Clone, Copy)]
struct Known {
    slot: u32,
    /// Whether an event of the stream names it: not where the append it was taken for was refused, or it was a
    /// snapshot.
    named: bool,
}

struct Fresh {
    slot: u32,
    users: usize,
    /// Whether the stream has no other slot: the log was looked at, or an append to the new stream went through.
    certain: bool,
    /// Whether an append that names it went through.
    named: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self { known: LruCache::new(CACHED_STREAMS), fresh: HashMap::new() }
    }
}

/// A stream's slot. While it is fresh, it is remembered for as long as this lives.
pub(super) struct Assigned {
    slot: u32,
    named: bool,
    fresh: Option<(Arc<str>, Arc<Mutex<Memory>>)>,
}

impl StreamSlots {
    /// The slot of a stream, for looking only.
    pub(super) fn get(&self, stream: &str) -> Option<u32> {
        let mut memory = lock(&self.memory);
        memory
            .fresh
            .get(stream)
            .map(|fresh| fresh.slot)
            .or_else(|| memory.known.get(stream).map(|known| known.slot))
    }

    /// The slot of a stream, for sealing.
    pub(super) fn assigned(&self, stream: &Arc<str>) -> Option<Assigned> {
        let mut memory = lock(&self.memory);
        self.join(&mut memory, stream)
    }

    /// Remembers what the log says.
    pub(super) fn learn(&self, stream: &Arc<str>, slot: u32) -> Assigned {
        let known = Known { slot, named: true };
        lock(&self.memory).known.put(stream.clone(), known);
        Assigned::known(known)
    }

    /// Gives a slot to a stream that has none, which is `certain` or else told by [`Assigned::confirm`]. Another one may
    /// have been given meanwhile: then that one counts.
    pub(super) fn offer(&self, stream: &Arc<str>, slot: u32, certain: bool) -> Assigned {
        let mut memory = lock(&self.memory);
        if let Some(assigned) = self.join(&mut memory, stream) {
            return assigned;
        }
        let fresh = Fresh { slot, users: 1, certain, named: false };
        let assigned = self.taken(stream, &fresh);
        memory.fresh.insert(stream.clone(), fresh);
        assigned
    }

    fn join(&self, memory: &mut Memory, stream: &Arc<str>) -> Option<Assigned> {
        if let Some(fresh) = memory.fresh.get_mut(stream) {
            fresh.users += 1;
            return Some(self.taken(stream, fresh));
        }
        memory.known.get(stream).copied().map(Assigned::known)
    }

    fn taken(&self, stream: &Arc<str>, fresh: &Fresh) -> Assigned {
        let Fresh { slot, named, .. } = *fresh;
        Assigned { slot, named, fresh: Some((stream.clone(), self.memory.clone())) }
    }
}

impl Assigned {
    fn known(Known { slot, named }: Known) -> Self {
        Self { slot, named, fresh: None }
    }

    pub(super) fn slot(&self) -> u32 {
        self.slot
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.fresh.is_some()
    }

    /// Whether an event in the log named it when this was given.
    pub(super) fn is_named(&self) -> bool {
        self.named
    }

    /// The append went through: the slot is the stream's.
    pub(super) fn confirm(&self) {
        let Some((stream, memory)) = &self.fresh else { return };
        if let Some(fresh) = lock(memory).fresh.get_mut(stream) {
            (fresh.certain, fresh.named) = (true, true);
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
            let Fresh { slot, certain, named, .. } = *fresh;
            memory.fresh.remove(&stream);
            // Also where the append was refused for another reason: the next one may use the slot as well. What was
            // learnt from the log meanwhile counts for more.
            if named || (certain && !memory.known.contains(&stream)) {
                memory.known.put(stream, Known { slot, named });
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

    #[test]
    fn a_slot_is_named_once_an_append_with_it_went_through() {
        let slots = StreamSlots::default();
        let stream: Arc<str> = "memory-1".into();
        drop(slots.offer(&stream, 7, true));
        let refused = slots.assigned(&stream).expect("it may be used still");
        assert_eq!((refused.slot(), refused.is_named()), (7, false));

        let guessed = slots.offer(&"memory-2".into(), 8, false);
        let second = slots.assigned(&"memory-2".into()).expect("under way");
        assert!(!guessed.is_named() && !second.is_named());
        guessed.confirm();
        assert!(slots.assigned(&"memory-2".into()).expect("under way").is_named());
        drop((guessed, second));
        assert!(slots.assigned(&"memory-2".into()).expect("known").is_named());
    }

    #[test]
    fn what_the_log_says_outlives_a_slot_that_nothing_came_of() {
        let slots = StreamSlots::default();
        let stream: Arc<str> = "memory-1".into();
        let fresh = slots.offer(&stream, 7, true);
        let learnt = slots.learn(&stream, 8);
        assert!(learnt.is_named() && !learnt.is_fresh());
        drop(fresh);
        let known = slots.assigned(&stream).expect("known");
        assert_eq!((known.slot(), known.is_named()), (8, true));
    }
}
