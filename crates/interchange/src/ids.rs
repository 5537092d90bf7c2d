//! Stable ids: importing a vault again finds the memories it made the first time.

use cairn_domain::id::MemoryId;
use chrono::NaiveDate;
use uuid::Uuid;

use crate::reading::{MemoryReading, TaskReading};

/// The two namespaces that ids of an import are made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The brain's namespace. The log of a day is one memory for the whole brain, whichever vault speaks of it.
    pub brain: Uuid,
    /// The vault's namespace, see [`vault_id`].
    pub vault: Uuid,
}

/// The namespace of a vault within a brain: UUIDv5 of `vault/<name>` in the brain's namespace.
///
/// `name` is whatever identifies the vault to its owner for good, such as the folder's absolute path or a
/// name given at the first import. Another name gives other memories.
pub fn vault_id(brain: Uuid, name: &str) -> Uuid {
    Uuid::new_v5(&brain, format!("vault/{name}").as_bytes())
}

/// The id of the memory that a vault keeps under a key: UUIDv5 of the key in the vault's namespace.
pub fn memory_id(vault: Uuid, key: &str) -> MemoryId {
    MemoryId::new(Uuid::new_v5(&vault, key.as_bytes()))
}

/// The id of the log of one day: UUIDv5 of `daily/<date>` in the brain's namespace.
pub fn daily_id(brain: Uuid, date: NaiveDate) -> MemoryId {
    MemoryId::new(Uuid::new_v5(&brain, format!("daily/{}", date.format("%Y-%m-%d")).as_bytes()))
}

impl Ids {
    /// The id of a file's memory: the one its front matter states, else the day's, else the key's.
    pub fn of(&self, memory: &MemoryReading) -> MemoryId {
        match (memory.id, memory.log_date) {
            (Some(id), _) => id,
            (None, Some(date)) => daily_id(self.brain, date),
            (None, None) => memory_id(self.vault, &memory.key),
        }
    }

    /// The id of a task found in a file's text.
    pub fn of_task(&self, task: &TaskReading) -> MemoryId {
        memory_id(self.vault, &task.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_is_the_same_memory_in_one_vault_only() {
        let brain = Uuid::from_u128(7);
        let (boats, bees) = (vault_id(brain, "boats"), vault_id(brain, "bees"));
        assert_eq!(memory_id(boats, "Notes/Oak"), memory_id(boats, "Notes/Oak"));
        assert_ne!(memory_id(boats, "Notes/Oak"), memory_id(bees, "Notes/Oak"));
    }

    #[test]
    fn a_day_is_the_same_memory_in_every_vault() {
        let brain = Uuid::from_u128(7);
        let day = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap();
        assert_eq!(daily_id(brain, day), memory_id(brain, "daily/2026-11-21"));
    }
}
