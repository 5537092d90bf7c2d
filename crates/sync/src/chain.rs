//! The entries of one author, device and epoch in one space, each of which names the one before it.

use crate::entry::{Entry, Header, Lane, MAX_PUBLICATION_BYTES, MAX_PUBLICATION_ENTRIES};
use crate::key::{BrainKey, Epoch, Hash, SpaceId, Tag};

/// Which chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId {
    /// The space.
    pub space: SpaceId,
    /// The author.
    pub author: BrainKey,
    /// The author's epoch.
    pub epoch: Epoch,
    /// About the space, or about what is in it.
    pub lane: Lane,
}

impl ChainId {
    /// Its name among the chains of its space.
    pub fn tag(&self) -> Tag {
        let lane = match self.lane {
            Lane::Control => 1,
            Lane::Content => 2,
        };
        let name = [b"cairn chain 1\0", self.author.bytes().as_slice(), &self.epoch.0, &[lane]].concat();
        Hash::of(&name).tag()
    }
}

/// How far a chain is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    id: ChainId,
    number: u64,
    hash: Hash,
    /// The number of the last entry with which a publication ended.
    complete: u64,
    /// How many entries the publication at hand has so far; 0 between two.
    begun: u16,
    /// How many entries of the publication at hand are still to come.
    following: u16,
    /// How many bytes the payloads of the publication at hand have so far.
    bytes: usize,
    fork: Option<Fork>,
}

/// Two headers of one chain with one number: the author has said two things at once, and this proves it to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The entry that was known.
    pub known: Box<Entry>,
    /// The other one.
    pub other: Box<Entry>,
}

/// What became of an entry that was offered to its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// It is the next one, and now the last.
    Taken,
    /// It is behind the last one: the chain has that number. Whether with this very entry, who keeps the entries can tell
    /// ([`Chain::compare`]).
    Behind,
    /// Entries between the last one and this one are missing.
    Gap {
        /// The first that is missing.
        from: u64,
    },
    /// It does not go on from the last one. Either its author has no sound program, or the chain has forked before it: the entry
    /// that its sender has before it tells.
    Broken,
    /// The chain has forked, and nothing from the fork on is taken.
    Frozen,
}

impl Chain {
    /// A chain of which nothing is known.
    pub fn new(id: ChainId) -> Self {
        Self { id, number: 0, hash: Hash::NONE, complete: 0, begun: 0, following: 0, bytes: 0, fork: None }
    }

    /// A chain that is known up to an entry, with which a publication ends.
    pub fn up_to(last: &Entry) -> Self {
        let (id, number) = (chain_of(last), last.header().number);
        Self { number, hash: last.hash(), complete: number, ..Self::new(id) }
    }

    /// Which chain it is.
    pub fn id(&self) -> ChainId {
        self.id
    }

    /// The number of the last entry known; 0 for none.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The hash of the last entry known.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The number of the last entry that readers may see: those of a publication that has not come whole wait for the rest, and what
    /// comes with a fork or after it is nobody's word.
    pub fn complete(&self) -> u64 {
        match &self.fork {
            Some(fork) => self.complete.min(fork.sound()),
            None => self.complete,
        }
    }

    /// The proof that the author has forked it, if it has.
    pub fn fork(&self) -> Option<&Fork> {
        self.fork.as_ref()
    }

    /// Takes an entry if it is the next one. It must be one of this chain.
    pub fn offer(&mut self, entry: &Entry) -> Offered {
        debug_assert_eq!(chain_of(entry), self.id);
        let header = entry.header();
        if header.number <= self.number {
            return Offered::Behind;
        }
        // What was said before the fork is the same on both branches.
        if self.fork.as_ref().is_some_and(|fork| header.number >= fork.number()) {
            return Offered::Frozen;
        }
        if header.number > self.number + 1 {
            return Offered::Gap { from: self.number + 1 };
        }
        if header.previous != self.hash || !self.continues(header) {
            return Offered::Broken;
        }
        (self.number, self.hash, self.following) = (header.number, entry.hash(), header.following);
        match self.following {
            0 => (self.begun, self.bytes, self.complete) = (0, 0, self.number),
            _ => {
                self.begun += 1;
                self.bytes += header.payload_bytes as usize;
            }
        }
        Offered::Taken
    }

    /// Within a publication each entry says how many are before it and after it.
    fn continues(&self, header: &Header) -> bool {
        let follows = self.following == 0 || header.following == self.following - 1;
        let entries = u32::from(header.preceding) + u32::from(header.following) + 1;
        let bytes = self.bytes + header.payload_bytes as usize;
        header.preceding == self.begun
            && follows
            && entries <= u32::from(MAX_PUBLICATION_ENTRIES)
            && bytes <= MAX_PUBLICATION_BYTES
    }

    /// Compares an entry with the one that is known by its number; freezes the chain where they differ. Gives the proof where it is
    /// news: the first one, one of an earlier fork, or one of the same that takes more away. So all who have heard of the same proofs
    /// hold the same to count, in whatever order they heard of them.
    pub fn compare(&mut self, known: &Entry, other: &Entry) -> Option<&Fork> {
        debug_assert_eq!(known.header().number, other.header().number);
        if known.hash() == other.hash() {
            return None;
        }
        let proof = Fork { known: Box::new(known.clone()), other: Box::new(other.clone()) };
        let is_news = self.fork.as_ref().is_none_or(|fork| proof.place() < fork.place());
        is_news.then(|| &*self.fork.insert(proof))
    }
}

/// The chain that an entry belongs to.
pub fn chain_of(entry: &Entry) -> ChainId {
    let header = entry.header();
    ChainId { space: entry.space(), author: header.author, epoch: header.epoch, lane: header.kind.lane() }
}

impl Fork {
    /// The number that two entries have.
    pub fn number(&self) -> u64 {
        self.known.header().number
    }

    /// Its number, and that of the last entry that belongs to neither of the two publications.
    fn place(&self) -> (u64, u64) {
        (self.number(), self.sound())
    }

    /// The number of the last entry that does not belong to a publication with a fork in it.
    fn sound(&self) -> u64 {
        let preceding =
            self.known.header().preceding.max(self.other.header().preceding).min(MAX_PUBLICATION_ENTRIES);
        self.number().saturating_sub(1 + u64::from(preceding))
    }

    /// Whether it proves what it says, to somebody who has seen neither entry before: both were checked against a certificate when
    /// they were made ([`Entry::check`]), are of one chain and one number, and differ.
    pub fn is_proof(&self) -> bool {
        let (known, other) = (self.known.header(), self.other.header());
        chain_of(&self.known) == chain_of(&self.other)
            && known.number == other.number
            && self.known.hash() != self.other.hash()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cairn_domain::clock::Hlc;
    use cairn_domain::id::MemoryId;
    use cairn_domain::truth::Truth;
    use ed25519_dalek::SigningKey;
    use uuid::Uuid;

    use super::*;
    use crate::entry::EntryKind;

    fn space() -> SpaceId {
        SpaceId::new(Hash::of(b"garden"))
    }

    fn id() -> ChainId {
        let author = BrainKey::of(&SigningKey::from_bytes(&[1; 32]));
        ChainId { space: space(), author, epoch: Epoch([3; 16]), lane: Lane::Content }
    }

    fn entry(number: u64, previous: Hash, following: u16, says: &'static str) -> Entry {
        part(number, previous, (0, following), says)
    }

    fn part(number: u64, previous: Hash, (preceding, following): (u16, u16), says: &'static str) -> Entry {
        let ChainId { author, epoch, .. } = id();
        let header = Header {
            space: Some(space()),
            author,
            epoch,
            number,
            previous,
            grant: Hash::NONE,
            at: Hlc { millis: number, counter: 0 },
            truth: Truth::User,
            kind: EntryKind::Claim,
            memory: MemoryId::new(Uuid::nil()),
            preceding,
            following,
            payload_bytes: 0,
            payload: Hash::NONE,
        };
        Entry::sign(header, Bytes::from_static(says.as_bytes()), &SigningKey::from_bytes(&[2; 32])).expect("small")
    }

    #[test]
    fn a_chain_takes_what_comes_next_and_nothing_else() {
        let mut chain = Chain::new(id());
        let one = entry(1, Hash::NONE, 0, "one");
        let two = entry(2, one.hash(), 0, "two");
        assert_eq!(chain.offer(&two), Offered::Gap { from: 1 });
        assert_eq!(chain.offer(&one), Offered::Taken);
        assert_eq!(chain.offer(&one), Offered::Behind);
        assert_eq!(chain.offer(&entry(2, Hash::NONE, 0, "of another")), Offered::Broken);
        assert_eq!(chain.offer(&two), Offered::Taken);
        assert_eq!((chain.number(), chain.hash()), (2, two.hash()));
    }

    #[test]
    fn a_publication_is_seen_when_all_of_it_is_there() {
        let mut chain = Chain::new(id());
        let one = entry(1, Hash::NONE, 0, "one");
        let first = part(2, one.hash(), (0, 2), "first of three");
        let second = part(3, first.hash(), (1, 1), "second");
        let third = part(4, second.hash(), (2, 0), "third");
        let mut seen = Vec::new();
        for entry in [&one, &first, &second, &third] {
            assert_eq!(chain.offer(entry), Offered::Taken);
            seen.push(chain.complete());
        }
        assert_eq!(seen, [1, 1, 1, 4]);
        let mut cut = Chain::new(id());
        cut.offer(&one);
        cut.offer(&first);
        assert_eq!(cut.offer(&part(3, first.hash(), (1, 0), "cuts it short")), Offered::Broken);
        assert_eq!(cut.offer(&part(3, first.hash(), (0, 1), "begins another")), Offered::Broken);
        assert_eq!(cut.offer(&part(3, first.hash(), (1, 1), "second")), Offered::Taken);
        let endless = part(1, Hash::NONE, (0, MAX_PUBLICATION_ENTRIES), "first of too many");
        assert_eq!(Chain::new(id()).offer(&endless), Offered::Broken);
    }

    #[test]
    fn a_fork_within_a_publication_takes_all_of_it_away() {
        let mut chain = Chain::new(id());
        let one = entry(1, Hash::NONE, 0, "one");
        let first = part(2, one.hash(), (0, 1), "first of two");
        let second = part(3, first.hash(), (1, 0), "second");
        for entry in [&one, &first, &second] {
            chain.offer(entry);
        }
        assert_eq!(chain.complete(), 3);
        chain.compare(&second, &part(3, first.hash(), (1, 0), "another second"));
        assert_eq!(chain.complete(), 1);
    }

    #[test]
    fn of_several_proofs_the_same_holds_in_any_order() {
        let one = part(1, Hash::NONE, (0, 0), "one");
        let two = part(2, one.hash(), (0, 2), "two of three");
        let three = part(3, two.hash(), (1, 1), "three");
        let (lone, third) = (part(3, Hash::NONE, (0, 0), "of another"), part(3, Hash::NONE, (0, 1), "of a third"));
        let earlier = part(2, one.hash(), (0, 0), "another two");
        let proofs = [(&lone, &third), (&lone, &three), (&third, &three), (&two, &earlier)];
        let complete = |order: &[usize]| {
            let mut chain = Chain::new(id());
            for entry in [&one, &two, &three, &part(4, three.hash(), (2, 0), "four")] {
                chain.offer(entry);
            }
            order.iter().for_each(|at| drop(chain.compare(proofs[*at].0, proofs[*at].1).cloned()));
            chain.complete()
        };
        assert_eq!(complete(&[0]), 2, "as far as two know who have seen neither");
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
            assert_eq!(complete(&order), 1);
        }
        for order in [[3, 0, 1], [0, 3, 1], [1, 0, 3]] {
            assert_eq!(complete(&order), 1, "the earliest");
        }
        assert_eq!(complete(&[3]), 1);
    }

    #[test]
    fn two_entries_with_one_number_freeze_the_chain_and_prove_it() {
        let mut chain = Chain::new(id());
        let one = entry(1, Hash::NONE, 0, "to anna");
        let other = entry(1, Hash::NONE, 0, "to bert");
        chain.offer(&one);
        assert_eq!(chain.offer(&other), Offered::Behind);
        assert_eq!(chain.compare(&one, &one), None);
        assert!(chain.compare(&one, &other).expect("they differ").is_proof());
        assert_eq!(chain.offer(&entry(2, one.hash(), 0, "two")), Offered::Frozen);
        assert_eq!(chain.complete(), 0, "neither of the two is anybody's word");
        let honest = Fork { known: Box::new(one.clone()), other: Box::new(entry(2, one.hash(), 0, "two")) };
        assert!(!honest.is_proof());
    }
}
