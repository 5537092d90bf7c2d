//! How much others may have this brain keep: so and so much of each author's in a day.

use std::collections::BTreeMap;

use crate::key::BrainKey;

/// How long what was taken is counted, in milliseconds.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// How many bytes are taken of an author in a day unless told otherwise.
pub const BYTES_A_DAY: u64 = 1024 * 1024 * 1024;

/// What was taken of each author.
#[derive(Debug, Clone)]
pub(super) struct Quota {
    a_day: u64,
    taken: BTreeMap<BrainKey, Taken>,
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    since: u64,
    bytes: u64,
    told: bool,
}

impl Quota {
    pub(super) const fn new(a_day: u64) -> Self {
        Self { a_day, taken: BTreeMap::new() }
    }

    /// Whether no more of an author's is taken for now.
    pub(super) fn is_used_up(&self, author: BrainKey, now: u64) -> bool {
        // A clock that was put back begins another day.
        let today = |taken: &&Taken| now.abs_diff(taken.since) < DAY_MS;
        self.taken.get(&author).filter(today).is_some_and(|taken| taken.bytes >= self.a_day)
    }

    /// Takes note of what was taken of an author; says whether that used it up.
    pub(super) fn take(&mut self, author: BrainKey, bytes: usize, now: u64) -> bool {
        let fresh = Taken { since: now, bytes: 0, told: false };
        let taken = self.taken.entry(author).or_insert(fresh);
        if now.abs_diff(taken.since) >= DAY_MS {
            *taken = fresh;
        }
        taken.bytes = taken.bytes.saturating_add(bytes as u64);
        taken.bytes >= self.a_day && !std::mem::replace(&mut taken.told, true)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    #[test]
    fn an_author_has_so_much_a_day_and_the_next_day_again() {
        let [anna, bert] = [1, 2].map(|of| BrainKey::of(&SigningKey::from_bytes(&[of; 32])));
        let mut quota = Quota::new(100);
        assert!(!quota.take(anna, 60, 1_000));
        assert!(!quota.is_used_up(anna, 1_000));
        assert!(quota.take(anna, 60, 2_000), "now it is used up");
        assert!(!quota.take(anna, 60, 3_000), "that is told once");
        assert!(quota.is_used_up(anna, 3_000) && !quota.is_used_up(bert, 3_000));
        assert!(!quota.is_used_up(anna, 1_000 + DAY_MS));
        assert!(!quota.take(anna, 60, 1_000 + DAY_MS));
    }
}
