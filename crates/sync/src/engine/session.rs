//! What is known of a connection, and of what somebody has received.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::chain::ChainId;
use crate::key::{BrainKey, Epoch, SpaceId, Tag};
use crate::wire::{Head, Pull, Receipt};

use super::meeting::Stranger;

/// What somebody has received of a space.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Received {
    /// Their last receipt of each chain.
    pub chains: BTreeMap<Tag, Receipt>,
    pub(super) unkept: BTreeSet<Tag>,
    pub(super) kept_at: u64,
}

/// A connection, and what is known of who is at its other end.
#[derive(Default)]
pub(super) struct Session {
    pub(super) opened_at: u64,
    /// Who is there, once they have said so and are known.
    pub(super) brain: Option<BrainKey>,
    /// Who is there and is not known yet.
    pub(super) stranger: Option<(BrainKey, Stranger)>,
    /// How far the other side has the chains that it has spoken of.
    pub(super) heads: BTreeMap<(SpaceId, Tag), Head>,
    /// How far the other side has chains, by what it said, and by what it was sent.
    pub(super) reached: BTreeMap<ChainId, u64>,
    /// How far the other side has chains, by what it said alone.
    pub(super) told: BTreeMap<ChainId, u64>,
    /// How far the other side was told that this one has chains: it asks for so much by itself.
    pub(super) shown: BTreeMap<ChainId, u64>,
    /// Spaces in which something was said before the other side had told how far it is.
    pub(super) missed: BTreeSet<SpaceId>,
    /// Chains that the other side has asked for, or sent: it is given what is new in them.
    pub(super) following: BTreeSet<ChainId>,
    /// Chains of which the other side can prove that they have forked.
    pub(super) forked: BTreeSet<(SpaceId, Tag)>,
    /// When it was asked for such proofs.
    pub(super) proofs: BTreeMap<(SpaceId, Tag), u64>,
    pub(super) wanted: VecDeque<Pull>,
    /// What was asked for and has not come, and when it was.
    pub(super) pulling: BTreeMap<(SpaceId, Tag), u64>,
    /// When the other side was last told how far this brain is with everything.
    pub(super) told_at: u64,
    /// Chains that were asked for in vain, and when: they are left alone for a while.
    pub(super) stalled: BTreeMap<(SpaceId, Tag), u64>,
    pub(super) serving: usize,
    /// Certificates that the other side was given.
    pub(super) given: BTreeSet<(BrainKey, Epoch)>,
    /// Bytes that were sent without being asked for and of which no receipt came.
    pub(super) unacknowledged: usize,
    /// How far back the search for the place of a fork has gone.
    pub(super) searching: BTreeMap<ChainId, u64>,
}

impl Session {
    /// A connection that was made at a moment, in milliseconds since 1970.
    pub(super) fn new(opened_at: u64) -> Self {
        Self { opened_at, told_at: opened_at, ..Self::default() }
    }
}
