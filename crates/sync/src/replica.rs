//! What a brain holds of the spaces it is in: entries go in, and what is to be done about them comes out.
//!
//! The entries themselves are kept elsewhere, durably. Here is only what is needed to tell what may come next: the end of each chain, entries
//! that came too early, and each space as its owner has made it.

mod line;

use std::collections::BTreeMap;

use crate::certificate::Writer;
use crate::chain::{Chain, ChainId, Fork, Offered, chain_of};
use crate::control::{Decision, Role};
use crate::entry::{Entry, EntryKind, Header, Lane};
use crate::key::{BrainKey, Epoch, Hash, SpaceId};
use crate::space::{Reason, Space, Standing};

use line::line;

/// The most entries of one chain that wait for those before them. Further ones are asked for again when it is their turn.
pub const MAX_EARLY_ENTRIES: usize = 1_000;

/// The most offers of which is kept what one author said to them.
pub const MAX_DECISIONS: usize = 1_024;
/// The most wishes of one author, in one epoch, that the owner of a space hears.
pub const MAX_WISHES: usize = 1_024;
/// The most bytes of a wish that the owner of a space hears.
pub const MAX_WISH_BYTES: u32 = 4 * 1_024;
/// The most entries about a space that its owner may say in one epoch. Further ones are not taken: what they make is folded from all of them.
pub const MAX_CONTROL_ENTRIES: u64 = 16_384;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Keep the entry; it has its place now.
    Keep(Entry),
    /// Ask whoever knows the chain for its entries from this number on.
    Ask {
        /// Which chain.
        chain: ChainId,
        /// From where.
        from: u64,
    },
    /// Compare the entry with the one that is kept by its number, and say so ([`Replica::compared`]).
    Compare(Entry),
    /// Keep the proof and show it to everybody.
    Forked(Fork),
    /// The space is another one now: what its entries count for is to be asked again.
    SpaceChanged(SpaceId),
}

/// All spaces that a brain holds.
#[derive(Debug, Clone, Default)]
pub struct Replica {
    spaces: BTreeMap<SpaceId, Holding>,
    writers: Writers,
}

/// Who writes in which epoch of a brain's.
type Writers = BTreeMap<(BrainKey, Epoch), Writer>;

/// What is known of one space.
#[derive(Debug, Clone, Default)]
struct Holding {
    /// None until the owner's first entry is there.
    space: Option<Space>,
    chains: BTreeMap<ChainId, Held>,
    /// The owner's chains that made the space, the last of which goes on.
    line: Vec<ChainId>,
}

#[derive(Debug, Clone)]
struct Held {
    chain: Chain,
    /// Entries that came before those before them, by number and hash: there may be two of one number.
    early: BTreeMap<(u64, Hash), Entry>,
    /// Entries about the space, in their order. They are few, and what they make is folded from all of them.
    control: Vec<Entry>,
    /// What the author said to offers, in order, with the numbers of the entries.
    decisions: Vec<(u64, Hash, Decision)>,
    /// What the author wished.
    wishes: Vec<Entry>,
}

impl Replica {
    /// Takes note of who writes in an epoch. To be given before entries of that epoch. Gives the spaces that are others now.
    pub fn note_writer(&mut self, brain: BrainKey, epoch: Epoch, writer: Writer) -> Vec<SpaceId> {
        if self.writers.insert((brain, epoch), writer).is_none_or(|before| before == writer) {
            return Vec::new();
        }
        let held = |holding: &Holding| holding.chains.keys().any(|id| (id.author, id.epoch) == (brain, epoch));
        let holdings = self.spaces.iter_mut().filter(|(_, holding)| held(holding));
        holdings
            .map(|(space, holding)| {
                holding.fold(&self.writers);
                *space
            })
            .collect()
    }

    /// In which of its epochs the owner of a space spoke about it last.
    pub fn speaking(&self, id: SpaceId) -> Option<Epoch> {
        self.spaces.get(&id)?.line.last().map(|chain| chain.epoch)
    }

    /// Takes note of a chain of which entries up to this one are kept, with which a publication ends. Those about the space itself are to be
    /// given one by one instead ([`Self::receive`]).
    pub fn restore(&mut self, last: &Entry) {
        let id = chain_of(last);
        let held = Held { chain: Chain::up_to(last), ..Held::new(id) };
        self.spaces.entry(id.space).or_default().chains.insert(id, held);
    }

    /// Takes an entry, which was checked alone, from whomever.
    pub fn receive(&mut self, entry: Entry) -> Vec<Effect> {
        self.receive_all(chain_of(&entry), vec![entry])
    }

    /// Takes entries of one chain, which were checked alone. The space is made anew once, however many they are.
    pub fn receive_all(&mut self, id: ChainId, entries: Vec<Entry>) -> Vec<Effect> {
        let holding = self.spaces.entry(id.space).or_default();
        let held = holding.chains.entry(id).or_insert_with(|| Held::new(id));
        let before = held.chain.complete();
        let mut effects = Vec::new();
        entries.into_iter().for_each(|entry| held.offer(entry, &mut effects));
        if held.chain.complete() > before && held.says_more_than(before) {
            effects.extend(holding.go_on(id, before, &self.writers).then_some(Effect::SpaceChanged(id.space)));
        }
        effects
    }

    /// Takes note of how an entry compares with the one that is kept by its number.
    pub fn compared(&mut self, kept: &Entry, other: &Entry) -> Vec<Effect> {
        let space = kept.space();
        let Some(holding) = self.spaces.get_mut(&space) else { return Vec::new() };
        let id = chain_of(kept);
        let held = holding.chains.entry(id).or_insert_with(|| Held::new(id));
        let Some(fork) = held.chain.compare(kept, other) else { return Vec::new() };
        let mut effects = vec![Effect::Forked(fork.clone())];
        effects.extend(holding.fold(&self.writers).then_some(Effect::SpaceChanged(space)));
        effects
    }

    /// A space, once its owner's first entry is there.
    pub fn space(&self, id: SpaceId) -> Option<&Space> {
        self.spaces.get(&id)?.space.as_ref()
    }

    /// The chains of a space, as far as they are known.
    pub fn chains(&self, id: SpaceId) -> impl Iterator<Item = &Chain> {
        self.spaces.get(&id).into_iter().flat_map(|holding| holding.chains.values().map(|held| &held.chain))
    }

    /// One chain, if anything is known of it.
    pub fn chain(&self, id: ChainId) -> Option<&Chain> {
        Some(&self.spaces.get(&id.space)?.chains.get(&id)?.chain)
    }

    /// All spaces that have begun.
    pub fn spaces(&self) -> impl Iterator<Item = &Space> {
        self.spaces.values().filter_map(|holding| holding.space.as_ref())
    }

    /// The owner's last entry about a space that counts.
    pub fn last_word(&self, id: SpaceId) -> Option<Hash> {
        line(&self.spaces.get(&id)?.chains, &self.writers).map(|line| line.last)
    }

    /// What members wish that the owner of a space has not answered, and may wish.
    pub fn wishes(&self, space: SpaceId) -> impl Iterator<Item = &Entry> {
        let holding = self.spaces.get(&space);
        let said = holding.into_iter().flat_map(|holding| holding.chains.values().flat_map(|held| &held.wishes));
        said.filter(move |entry| {
            self.standing(space, entry.header()) == Standing::Full
                && self.space(space).is_some_and(|rules| rules.answer(entry.hash()).is_none())
        })
    }

    /// What the brain that a grant is for has said to it last.
    pub fn decision(&self, space: SpaceId, grant: Hash) -> Option<Decision> {
        let holding = self.spaces.get(&space)?;
        let to = holding.space.as_ref()?.grants().get(&grant)?.to;
        let chains = holding.chains.iter().filter(|(id, _)| id.author == to);
        let rules = holding.space.as_ref()?;
        let last = |(id, held): (&ChainId, &Held)| {
            let writer = self.writers.get(&(id.author, id.epoch)).copied();
            let counts = |number| {
                writer.is_none_or(|writer| rules.writes(id.author, writer, (id.epoch, id.lane), number).is_ok())
            };
            let said = held.decisions.iter().rev().filter(|(number, ..)| counts(*number));
            said.filter(|(_, of, _)| *of == grant).map(|(.., decision)| *decision).next()
        };
        // Whoever has ever declined has to be asked again, by another offer.
        chains.filter_map(last).max_by_key(|decision| *decision == Decision::Declined)
    }

    /// The grant by which a brain may do something in a space at a moment: one that it has accepted, of the highest role. None for the
    /// owner, who needs none.
    pub fn grant_of(&self, space: SpaceId, brain: BrainKey, now: u64) -> Option<Hash> {
        let grants = self.space(space)?.grants().iter();
        let held = grants.filter(|(hash, grant)| {
            grant.to == brain && grant.holds(now) && self.decision(space, **hash) == Some(Decision::Accepted)
        });
        held.max_by_key(|(_, grant)| grant.role).map(|(hash, _)| *hash)
    }

    /// What the grant by which a brain may do something in a space lets it do. None for the owner, who needs none.
    pub fn role_of(&self, space: SpaceId, brain: BrainKey, now: u64) -> Option<Role> {
        // What an owner has offered itself takes nothing from it.
        let rules = self.space(space).filter(|rules| rules.owner() != brain)?;
        let grant = self.grant_of(space, brain, now)?;
        rules.grants().get(&grant).map(|grant| grant.role)
    }

    /// What an entry counts for, as far as the space and its chain are known.
    pub fn standing(&self, space: SpaceId, header: &Header) -> Standing {
        let Some(holding) = self.spaces.get(&space) else { return Standing::Held(Reason::NoGrant) };
        let Some(rules) = &holding.space else { return Standing::Held(Reason::NoGrant) };
        let id = ChainId { space, author: header.author, epoch: header.epoch, lane: header.kind.lane() };
        match holding.chains.get(&id) {
            Some(held) if held.chain.complete() < header.number => Standing::Held(Reason::Forked),
            _ => rules.standing(header, self.writers.get(&(header.author, header.epoch)).copied()),
        }
    }
}

impl Holding {
    /// Makes the space of all that its owner has said; says whether it is another one now.
    fn fold(&mut self, writers: &Writers) -> bool {
        let made = line(&self.chains, writers);
        let space = made.as_ref().map(|line| line.space.clone());
        let changed = space != self.space;
        (self.space, self.line) = (space, made.map_or_else(Vec::new, |line| line.chains));
        changed
    }

    /// Makes the space go on with what is new in a chain after a number; says whether it is another one now. Where what is new goes on from
    /// all that counts so far, and no other chain of the owner's could, nothing is folded again.
    fn go_on(&mut self, id: ChainId, before: u64, writers: &Writers) -> bool {
        let rivals = |id: &&ChainId| id.lane == Lane::Control && !self.line.contains(id);
        let alone = !self.chains.keys().filter(rivals).any(|rival| rival.author == id.author);
        let Some(space) = self.space.as_mut().filter(|_| before > 0 && alone && self.line.last() == Some(&id))
        else {
            return self.fold(writers);
        };
        let new = self.chains[&id].counted().filter(|entry| entry.header().number > before);
        new.filter(|entry| space.take(entry).is_ok()).count() > 0
    }
}

impl Held {
    fn new(id: ChainId) -> Self {
        let (early, decisions) = (BTreeMap::new(), Vec::new());
        Self { chain: Chain::new(id), early, control: Vec::new(), decisions, wishes: Vec::new() }
    }

    fn offer(&mut self, entry: Entry, effects: &mut Vec<Effect>) {
        let mut next = Some(entry);
        while let Some(entry) = next.take() {
            if entry.header().kind == EntryKind::Control && entry.header().number > MAX_CONTROL_ENTRIES {
                return;
            }
            match self.chain.offer(&entry) {
                Offered::Taken => {
                    let (number, hash) = (entry.header().number, entry.hash());
                    self.note(&entry);
                    effects.push(Effect::Keep(entry));
                    // Whatever else came with this number proves a fork.
                    let rivals = self.take_early(number).into_iter().filter(|rival| rival.hash() != hash);
                    effects.extend(rivals.map(Effect::Compare));
                    let mut waiting = self.take_early(number + 1);
                    let fits = waiting.iter().position(|entry| entry.header().previous == hash).unwrap_or(0);
                    next = (fits < waiting.len()).then(|| waiting.swap_remove(fits));
                    self.early.extend(waiting.into_iter().map(|entry| ((number + 1, entry.hash()), entry)));
                }
                Offered::Behind => effects.push(Effect::Compare(entry)),
                Offered::Gap { from } => {
                    if self.early.len() < MAX_EARLY_ENTRIES {
                        self.early.insert((entry.header().number, entry.hash()), entry);
                    }
                    effects.push(Effect::Ask { chain: self.chain.id(), from });
                }
                // What its sender has before it tells whether the chain has forked, and where.
                Offered::Broken => effects.push(Effect::Ask { chain: self.chain.id(), from: 1 }),
                Offered::Frozen => {}
            }
        }
    }

    /// Keeps what is said about the space.
    fn note(&mut self, entry: &Entry) {
        match entry.header().kind {
            EntryKind::Control => self.control.push(entry.clone()),
            EntryKind::Decision if self.decisions.len() < MAX_DECISIONS => {
                let said = entry.payload().and_then(|payload| serde_json::from_slice(payload).ok());
                self.decisions.extend(said.map(|said| (entry.header().number, entry.header().grant, said)));
            }
            EntryKind::Wish
                if self.wishes.len() < MAX_WISHES && entry.header().payload_bytes <= MAX_WISH_BYTES =>
            {
                self.wishes.push(entry.clone());
            }
            EntryKind::Decision
            | EntryKind::Wish
            | EntryKind::Claim
            | EntryKind::Change
            | EntryKind::Unknown(_) => {}
        }
    }

    /// Takes out all that came early with a number.
    fn take_early(&mut self, number: u64) -> Vec<Entry> {
        let places = self.early.range((number, Hash::NONE)..).map(|(place, _)| *place);
        let places: Vec<_> = places.take_while(|(of, _)| *of == number).collect();
        places.iter().filter_map(|place| self.early.remove(place)).collect()
    }

    /// Entries about the space that count.
    fn counted(&self) -> impl Iterator<Item = &Entry> {
        let complete = self.chain.complete();
        self.control.iter().take_while(move |entry| entry.header().number <= complete)
    }

    fn says_more_than(&self, before: u64) -> bool {
        self.counted().last().is_some_and(|entry| entry.header().number > before)
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
    use crate::control::{Control, Role};
    use crate::entry::Header;
    use crate::key::{BrainKey, Epoch};

    fn owner() -> SigningKey {
        SigningKey::from_bytes(&[1; 32])
    }

    /// An entry of the owner's that comes after another one in an epoch.
    fn after(space: Option<SpaceId>, epoch: u8, before: Option<&Entry>, at: u64, control: &Control) -> Entry {
        let header = Header {
            space,
            author: BrainKey::of(&owner()),
            epoch: Epoch([epoch; 16]),
            number: before.map_or(1, |before| before.header().number + 1),
            previous: before.map_or(Hash::NONE, Entry::hash),
            grant: Hash::NONE,
            at: Hlc { millis: at, counter: 0 },
            truth: Truth::User,
            kind: EntryKind::Control,
            memory: MemoryId::new(Uuid::nil()),
            preceding: 0,
            following: 0,
            payload_bytes: 0,
            payload: Hash::NONE,
        };
        Entry::sign(header, Bytes::from(control.to_bytes()), &owner()).expect("small")
    }

    fn created() -> Entry {
        after(None, 0, None, 0, &Control::SpaceCreated { name: "Garden".into() })
    }

    fn offer(role: Role) -> Control {
        Control::Offered {
            to: BrainKey::of(&SigningKey::from_bytes(&[2; 32])),
            role,
            expires_at: None,
            reshare: false,
        }
    }

    /// All orders of some entries.
    fn orders(entries: &[Entry]) -> Vec<Vec<Entry>> {
        let [] = entries else {
            let without = |at: usize| entries.iter().enumerate().filter(move |(other, _)| *other != at);
            return (0..entries.len())
                .flat_map(|at| {
                    let rest: Vec<Entry> = without(at).map(|(_, entry)| entry.clone()).collect();
                    orders(&rest).into_iter().map(move |order| [vec![entries[at].clone()], order].concat())
                })
                .collect();
        };
        vec![Vec::new()]
    }

    #[test]
    fn two_entries_that_came_early_with_one_number_prove_a_fork_when_it_is_their_turn() {
        let first = created();
        let space = Some(first.space());
        let one = after(space, 0, Some(&first), 1, &offer(Role::Read));
        let other = after(space, 0, Some(&first), 1, &offer(Role::Write));
        let mut replica = Replica::default();
        for early in [&one, &other] {
            assert!(matches!(replica.receive(early.clone())[..], [Effect::Ask { from: 1, .. }]));
        }
        let effects = replica.receive(first);
        let compared: Vec<_> = effects.iter().filter(|effect| matches!(effect, Effect::Compare(_))).collect();
        assert_eq!(compared.len(), 1, "{effects:?}");
    }

    #[test]
    fn what_the_owner_said_in_an_epoch_after_another_one_went_on_counts_for_nothing_in_any_order() {
        let first = created();
        let space = Some(first.space());
        let kept = after(space, 0, Some(&first), 1, &offer(Role::Read));
        let void = after(space, 0, Some(&kept), 2, &offer(Role::Write));
        let resumed = after(space, 9, None, 3, &Control::Resumed { after: kept.hash() });
        let renamed = after(space, 9, Some(&resumed), 4, &Control::Renamed { name: "Orchard".into() });
        for order in orders(&[first.clone(), kept.clone(), void, resumed, renamed]) {
            let mut replica = Replica::default();
            order.into_iter().for_each(|entry| drop(replica.receive(entry)));
            let space = replica.space(first.space()).expect("it has begun");
            assert_eq!(space.name(), "Orchard");
            assert_eq!(space.grants().keys().collect::<Vec<_>>(), [&kept.hash()]);
        }
    }

    #[test]
    fn another_device_takes_a_space_over_with_a_later_key_alone_in_any_order() {
        let first = created();
        let space = Some(first.space());
        let kept = after(space, 0, Some(&first), 1, &offer(Role::Read));
        let void = after(space, 0, Some(&kept), 2, &Control::Renamed { name: "Thief's".into() });
        let epoch = |number, at, name: &str| {
            let resumed = after(space, number, None, at, &Control::Resumed { after: kept.hash() });
            let renamed = after(space, number, Some(&resumed), at + 1, &Control::Renamed { name: name.into() });
            [resumed, renamed]
        };
        // One device goes on with the same key, and later by its clock; another one with a later key.
        let ([one, two], [three, four]) = (epoch(8, 90, "Cellar"), epoch(9, 10, "Orchard"));
        let key = BrainKey::of(&owner());
        let device = |of| crate::key::DeviceKey::of(&SigningKey::from_bytes(&[of; 32]));
        let writer = |device, generation| Writer { device, key, generation };
        for (generation, wanted) in [(1, "Orchard"), (0, "Cellar")] {
            for order in
                orders(&[first.clone(), kept.clone(), void.clone(), one.clone(), three.clone(), four.clone()])
            {
                let mut replica = Replica::default();
                for (epoch, writer) in
                    [(0, writer(device(5), 0)), (8, writer(device(5), 0)), (9, writer(device(6), generation))]
                {
                    replica.note_writer(key, Epoch([epoch; 16]), writer);
                }
                order.into_iter().for_each(|entry| drop(replica.receive(entry)));
                replica.receive(two.clone());
                assert_eq!(replica.space(first.space()).expect("it has begun").name(), wanted);
            }
        }
        // It may be known only later that the key was a later one.
        let mut replica = Replica::default();
        for (epoch, device) in [(0, device(5)), (9, device(6))] {
            replica.note_writer(key, Epoch([epoch; 16]), writer(device, 0));
        }
        for entry in [first.clone(), kept, three, four] {
            replica.receive(entry);
        }
        assert_eq!(replica.space(first.space()).expect("it has begun").name(), "Garden");
        assert_eq!(replica.note_writer(key, Epoch([9; 16]), writer(device(6), 1)), [first.space()]);
        assert_eq!(replica.space(first.space()).expect("it has begun").name(), "Orchard");
    }

    #[test]
    fn what_a_later_key_went_on_from_counts_though_an_earlier_key_goes_on_from_before_it_in_any_order() {
        let first = created();
        let space = Some(first.space());
        let resumed =
            |number, at, last: &Entry| after(space, number, None, at, &Control::Resumed { after: last.hash() });
        let one = resumed(7, 10, &first);
        let kept = after(space, 7, Some(&one), 11, &offer(Role::Read));
        let two = resumed(8, 20, &kept);
        let renamed = after(space, 8, Some(&two), 21, &Control::Renamed { name: "Orchard".into() });
        // Another device has the key before, or a thief has it, and has not heard of what followed.
        let other = resumed(9, 90, &first);
        let void = after(space, 9, Some(&other), 91, &Control::Renamed { name: "Thief's".into() });
        let key = BrainKey::of(&owner());
        let device = |of| crate::key::DeviceKey::of(&SigningKey::from_bytes(&[of; 32]));
        for order in orders(&[first.clone(), one, kept.clone(), two, renamed, other, void][1..]) {
            let mut replica = Replica::default();
            for (epoch, of, generation) in [(0, 5, 0), (7, 5, 1), (8, 5, 2), (9, 6, 1)] {
                replica.note_writer(key, Epoch([epoch; 16]), Writer { device: device(of), key, generation });
            }
            replica.receive(first.clone());
            order.into_iter().for_each(|entry| drop(replica.receive(entry)));
            let space = replica.space(first.space()).expect("it has begun");
            assert_eq!(space.name(), "Orchard");
            assert_eq!(space.grants().keys().collect::<Vec<_>>(), [&kept.hash()]);
            assert_eq!(replica.speaking(first.space()), Some(Epoch([8; 16])));
        }
    }

    #[test]
    fn what_a_device_with_a_later_key_destroys_stays_so_though_it_does_not_speak_until_it_is_cut_off() {
        let first = created();
        let space = Some(first.space());
        let resumed = |number, at| after(space, number, None, at, &Control::Resumed { after: first.hash() });
        let memory = MemoryId::new(Uuid::from_u128(7));
        let key = BrainKey::of(&owner());
        let device = |of| crate::key::DeviceKey::of(&SigningKey::from_bytes(&[of; 32]));
        for (devices, wanted) in [(vec![device(5), device(6)], true), (vec![device(5)], false)] {
            let one = resumed(8, 20);
            let (accepted, decided, generation) = (Vec::new(), Vec::new(), 2);
            let succeeded = Control::Succeeded { brain: key, key, generation, devices, accepted, decided };
            let succeeded = after(space, 8, Some(&one), 21, &succeeded);
            let other = resumed(9, 10);
            let erased = after(space, 9, Some(&other), 11, &Control::Erased { memory });
            for order in orders(&[first.clone(), one, succeeded, other, erased]) {
                let mut replica = Replica::default();
                for (epoch, of, generation) in [(0, 5, 0), (8, 5, 2), (9, 6, 1)] {
                    replica.note_writer(key, Epoch([epoch; 16]), Writer { device: device(of), key, generation });
                }
                order.into_iter().for_each(|entry| drop(replica.receive(entry)));
                let space = replica.space(first.space()).expect("it has begun");
                assert_eq!(replica.speaking(first.space()), Some(Epoch([8; 16])));
                assert_eq!(space.erased().contains_key(&memory), wanted);
            }
        }
    }

    #[test]
    fn of_two_epochs_that_go_on_from_one_the_later_counts() {
        let first = created();
        let space = Some(first.space());
        let epoch = |number, at, name: &str| {
            let resumed = after(space, number, None, at, &Control::Resumed { after: first.hash() });
            let renamed = after(space, number, Some(&resumed), at + 1, &Control::Renamed { name: name.into() });
            [resumed, renamed]
        };
        let ([one, two], [three, four]) = (epoch(9, 10, "Cellar"), epoch(8, 20, "Orchard"));
        for order in orders(&[first.clone(), one, two, three, four]) {
            let mut replica = Replica::default();
            order.into_iter().for_each(|entry| drop(replica.receive(entry)));
            assert_eq!(replica.space(first.space()).expect("it has begun").name(), "Orchard");
        }
    }
}
