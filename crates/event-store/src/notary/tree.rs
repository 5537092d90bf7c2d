//! The Merkle tree over the log: its root changes with any event, and with their order.
//!
//! The shape is that of RFC 6962 (Certificate Transparency): the left part of every node is the largest full tree that
//! fits. So a tree grows by its right edge alone, and the full trees on that edge are all it takes to go on.

use crate::event::RecordedEvent;

/// The hash of an event or of a part of the tree.
pub(super) type Hash = [u8; HASH_BYTES];

/// The bytes of a hash.
pub(super) const HASH_BYTES: usize = 32;

/// What is hashed begins with one of these, so that no event can pass for a node.
const LEAF: u8 = 0;
const NODE: u8 = 1;

/// A tree that grows.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    size: u64,
    /// The full trees on the right edge, the largest first: one for each bit that is set in the size.
    edge: Vec<Hash>,
}

impl Tree {
    /// How many leaves it has.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf.
    pub(super) fn push(&mut self, leaf: Hash) {
        let mut grown = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.edge.pop().expect("there is a full tree for each bit of the size");
            grown = node(&left, &grown);
        }
        self.edge.push(grown);
        self.size += 1;
    }

    /// The hash over all leaves in their order.
    pub(super) fn root(&self) -> Hash {
        let mut edge = self.edge.iter().rev();
        let Some(last) = edge.next() else { return *blake3::hash(&[]).as_bytes() };
        edge.fold(*last, |right, left| node(left, &right))
    }
}

/// The hash of an event as the log holds it: what is personal in it stays encrypted, so that it can be erased without
/// changing the hash.
pub(super) fn leaf(event: &RecordedEvent) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[LEAF]);
    hasher.update(&event.position.0.to_le_bytes());
    hasher.update(&event.revision.0.to_le_bytes());
    hasher.update(&event.recorded_at.timestamp_micros().to_le_bytes());
    hasher.update(&event.schema_version.to_le_bytes());
    hasher.update(event.id.as_bytes());
    for part in [event.stream.as_bytes(), event.event_type.as_bytes(), &event.data, &event.metadata] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut both = [NODE; 1 + 2 * HASH_BYTES];
    both[1..=HASH_BYTES].copy_from_slice(left);
    both[HASH_BYTES + 1..].copy_from_slice(right);
    *blake3::hash(&both).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u8) -> Vec<Hash> {
        (0..count).map(|number| [number; HASH_BYTES]).collect()
    }

    /// The definition of RFC 6962, section 2.1, as it stands there.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => *blake3::hash(&[]).as_bytes(),
            [leaf] => *leaf,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node(&defined(&leaves[..split]), &defined(&leaves[split..]))
            }
        }
    }

    #[test]
    fn every_size_has_the_root_of_the_definition() {
        let mut tree = Tree::default();
        for size in 0..70 {
            assert_eq!((tree.size(), tree.root()), (u64::from(size), defined(&leaves(size))), "{size} leaves");
            tree.push([size; HASH_BYTES]);
        }
    }

    #[test]
    fn the_order_counts() {
        let (mut one, mut other) = (Tree::default(), Tree::default());
        leaves(5).into_iter().for_each(|leaf| one.push(leaf));
        leaves(5).into_iter().rev().for_each(|leaf| other.push(leaf));
        assert_ne!(one.root(), other.root());
    }
}
