//! A space as its owner's control entries make it, and what the entries of others count for in it.

use std::collections::{BTreeMap, BTreeSet};

use cairn_domain::id::MemoryId;

use crate::certificate::Writer;
use crate::control::{Accepted, Control, InvalidControl, Role};
use crate::entry::{Entry, EntryKind, Header, Lane};
use crate::key::{BrainKey, DeviceKey, Epoch, Hash, SpaceId, Tag};
use crate::sealing::Keyed;

/// A space, folded from the owner's control entries in the order of their chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    id: SpaceId,
    owner: BrainKey,
    name: String,
    grants: BTreeMap<Hash, Grant>,
    /// Who was offered something by words of the owner's that do not count.
    offered_in_vain: BTreeSet<BrainKey>,
    erased: BTreeMap<MemoryId, Erased>,
    /// Wishes of members that the owner has answered, and how.
    answered: BTreeMap<Hash, bool>,
    /// Devices that write no more, and up to which number of each epoch and lane that counts what they had said.
    retired: BTreeMap<(BrainKey, DeviceKey), Ends>,
    /// The later keys of brains, in the order of their chain.
    succeeded: BTreeMap<BrainKey, Vec<Succeeded>>,
    /// The keys that readers were told, by their names.
    keys: BTreeMap<Tag, Keyed>,
    /// The one under which payloads are sealed now.
    key: Option<Tag>,
    /// When that was told, by the owner's clock.
    keyed_at: u64,
}

/// Up to which number of each epoch and lane something counts; where none is named, nothing does.
type Ends = BTreeMap<(Epoch, Lane), u64>;

/// A later key of a brain.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Succeeded {
    generation: usize,
    key: BrainKey,
    /// The devices that go on to count, whichever key has certified them.
    devices: Vec<DeviceKey>,
    /// What counts of others that an earlier key has certified.
    ends: Ends,
}

/// What the owner lets a brain do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whom.
    pub to: BrainKey,
    /// What.
    pub role: Role,
    /// Until when, in milliseconds since 1970; `None` for no end.
    pub expires_at: Option<u64>,
    /// Whether it may pass on what it reads.
    pub reshare: bool,
    /// What counts of its entries, once it was revoked.
    pub revoked: Option<Vec<Accepted>>,
}

/// Where the owner has first said that a memory is to be destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Erased {
    /// When, by the owner's clock, in milliseconds since 1970.
    pub at: u64,
    /// In which of the owner's epochs.
    pub epoch: Epoch,
    /// The number of the entry in the chain of control entries.
    pub number: u64,
}

impl Grant {
    /// Whether it has not ended by a moment.
    pub fn holds(&self, now: u64) -> bool {
        self.revoked.is_none() && self.expires_at.is_none_or(|end| now <= end)
    }
}

/// What an entry counts for. It follows from the space and the entry's header alone, so it is the same wherever and whenever it is
/// asked, once the same control entries are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// For what it says, at the level it says.
    Full,
    /// As a suggestion, whatever level it says.
    Suggestion,
    /// For nothing: it is kept and passed on, and not shown.
    Held(Reason),
}

/// Why an entry counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The grant that it names is not known (yet).
    NoGrant,
    /// The grant is another brain's.
    OtherBrain,
    /// The grant lets its brain do less than this.
    Role,
    /// It was said after the end of the grant.
    Expired,
    /// The grant was revoked before the owner had it.
    Revoked,
    /// Its device did not write for its author any more.
    Retired,
    /// The key that has certified its device is not, or not any more, the one that its author signs with, as the owner has said.
    Key,
    /// Only the owner says such things.
    OwnerOnly,
    /// Its author has said two things with one number, here or before it.
    Forked,
}

/// Why an entry does not change the space.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is not the owner's, or not about the space.
    #[error("it is no control entry of the owner's")]
    NotControl,
    /// Its payload is missing: what it says can never be known.
    #[error("its payload is missing")]
    NoPayload,
    /// Its payload says nothing.
    #[error(transparent)]
    Invalid(#[from] InvalidControl),
    /// It begins a space that has begun.
    #[error("the space has begun already")]
    BegunAlready,
    /// It does not begin one.
    #[error("it does not begin a space")]
    NoBeginning,
    /// It ends a grant that there is not.
    #[error("there is no such grant")]
    NoGrant,
}

impl Space {
    /// The space that an entry begins.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn begin(first: &Entry) -> Result<Self, Refused> {
        let header = first.header();
        let is_first = header.space.is_none() && header.number == 1 && header.kind == EntryKind::Control;
        match control(first)? {
            Control::SpaceCreated { name } if is_first => Ok(Self {
                id: first.space(),
                owner: header.author,
                name,
                grants: BTreeMap::new(),
                offered_in_vain: BTreeSet::new(),
                erased: BTreeMap::new(),
                answered: BTreeMap::new(),
                retired: BTreeMap::new(),
                succeeded: BTreeMap::new(),
                keys: BTreeMap::new(),
                key: None,
                keyed_at: 0,
            }),
            _ => Err(Refused::NoBeginning),
        }
    }

    /// Its id.
    pub fn id(&self) -> SpaceId {
        self.id
    }

    /// Whose it is.
    pub fn owner(&self) -> BrainKey {
        self.owner
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its grants, by the hash of the entry that made them; those that have ended too.
    pub fn grants(&self) -> &BTreeMap<Hash, Grant> {
        &self.grants
    }

    /// Whether a brain was ever offered something, also by words of the owner's that do not count: it hears how it ends.
    pub fn has_heard(&self, brain: BrainKey) -> bool {
        self.offered_in_vain.contains(&brain) || self.grants.values().any(|grant| grant.to == brain)
    }

    /// The memories that are to be destroyed wherever they are.
    pub fn erased(&self) -> &BTreeMap<MemoryId, Erased> {
        &self.erased
    }

    /// How the owner has answered a wish, if it was answered.
    pub fn answer(&self, wish: Hash) -> Option<bool> {
        self.answered.get(&wish).copied()
    }

    /// Whether a device writes no more here.
    pub fn has_retired(&self, brain: BrainKey, device: DeviceKey) -> bool {
        self.retired.contains_key(&(brain, device))
    }

    /// Whether the same devices write as in another state of the space.
    pub fn has_the_writers_of(&self, other: &Self) -> bool {
        self.retired.len() == other.retired.len() && self.succeeded == other.succeeded
    }

    /// How many keys of a brain's were before the one that signs for it here.
    pub fn generation(&self, brain: BrainKey) -> usize {
        let keys = self.succeeded.get(&brain);
        keys.into_iter().flatten().map(|later| later.generation).max().unwrap_or(0)
    }

    /// Whether a writer may have said what has a number in an epoch and lane: it writes for the brain here, or did up to that number.
    ///
    /// # Errors
    /// [`Reason::Retired`] or [`Reason::Key`].
    pub fn writes(&self, brain: BrainKey, writer: Writer, at: (Epoch, Lane), number: u64) -> Result<(), Reason> {
        let within = |ends: &Ends| ends.get(&at).is_some_and(|end| number <= *end);
        if self.retired.get(&(brain, writer.device)).is_some_and(|ends| !within(ends)) {
            return Err(Reason::Retired);
        }
        let keys = self.succeeded.get(&brain).map_or(&[][..], Vec::as_slice);
        let is_said = writer.generation == 0 || keys.iter().any(|key| key.key == writer.key);
        let has_later = keys.iter().any(|key| key.generation > writer.generation);
        let holds = (has_later || is_said) && !self.is_cut_off(brain, writer, at, number);
        holds.then_some(()).ok_or(Reason::Key)
    }

    /// Whether a later key of a brain's has put an end to what a writer says, before a number in an epoch and lane.
    pub(crate) fn is_cut_off(&self, brain: BrainKey, writer: Writer, at: (Epoch, Lane), number: u64) -> bool {
        let later =
            self.succeeded.get(&brain).into_iter().flatten().filter(|key| key.generation > writer.generation);
        let ends = |key: &Succeeded| key.ends.get(&at).is_none_or(|end| number > *end);
        later.into_iter().any(|key| !key.devices.contains(&writer.device) && ends(key))
    }

    /// The keys that readers were told, by their names.
    pub fn keys(&self) -> &BTreeMap<Tag, Keyed> {
        &self.keys
    }

    /// When the newest key was told, by the owner's clock, in milliseconds since 1970.
    pub fn keyed_at(&self) -> u64 {
        self.keyed_at
    }

    /// The key under which payloads are sealed for those who may not read them.
    pub fn key(&self) -> Option<&Keyed> {
        self.keys.get(&self.key?)
    }

    /// Takes the owner's next control entry.
    ///
    /// # Errors
    /// See [`Refused`]; the space is as it was then.
    pub fn take(&mut self, entry: &Entry) -> Result<(), Refused> {
        let header = entry.header();
        if header.author != self.owner || header.kind != EntryKind::Control || entry.space() != self.id {
            return Err(Refused::NotControl);
        }
        match control(entry)? {
            Control::SpaceCreated { .. } => return Err(Refused::BegunAlready),
            Control::Renamed { name } => self.name = name,
            Control::Offered { to, role, expires_at, reshare } => {
                self.grants.insert(entry.hash(), Grant { to, role, expires_at, reshare, revoked: None });
            }
            Control::Revoked { grant, accepted } => {
                let grant = self.grants.get_mut(&grant).ok_or(Refused::NoGrant)?;
                // The first revocation holds: a second one must not bring anything back.
                grant.revoked.get_or_insert(accepted);
            }
            Control::Erased { memory } => self.erase(memory, header),
            Control::Answered { wish, granted } => {
                self.answered.entry(wish).or_insert(granted);
            }
            Control::Retired { brain, device, accepted, decided } => {
                // The first word holds: a second one must not bring anything back.
                self.retired.entry((brain, device)).or_insert_with(|| ends(&accepted, &decided));
            }
            Control::Succeeded { brain, key, generation, devices, accepted, decided } => {
                // Keys only follow each other.
                if generation > self.generation(brain) {
                    let ends = ends(&accepted, &decided);
                    self.succeeded.entry(brain).or_default().push(Succeeded { generation, key, devices, ends });
                }
            }
            Control::Keyed(keyed) => {
                (self.key, self.keyed_at) = (Some(keyed.key), header.at.millis);
                self.keys.entry(keyed.key).or_insert(keyed);
            }
            // It is about the order of the owner's chains, which whoever feeds this has put right.
            Control::Resumed { .. } => {}
        }
        Ok(())
    }

    /// Takes only what cannot be taken back, of an entry of the owner's that counts for nothing else: what was destroyed on the owner's word
    /// stays so, also where the owner's node has lost that word and went on without it.
    pub fn take_void(&mut self, entry: &Entry) {
        match control(entry) {
            Ok(Control::Erased { memory }) => self.erase(memory, entry.header()),
            // Where two devices of the owner's spoke at once, whoever one of them has let in may be the way to the other.
            Ok(Control::Offered { to, .. }) => drop(self.offered_in_vain.insert(to)),
            // Something may have been sealed under it.
            Ok(Control::Keyed(keyed)) => drop(self.keys.entry(keyed.key).or_insert(keyed)),
            Ok(_) | Err(_) => {}
        }
    }

    fn erase(&mut self, memory: MemoryId, header: &Header) {
        let place = Erased { at: header.at.millis, epoch: header.epoch, number: header.number };
        self.erased.entry(memory).and_modify(|first| *first = place.min(*first)).or_insert(place);
    }

    /// What an entry counts for, with the writer that its certificate names.
    pub fn standing(&self, header: &Header, writer: Option<Writer>) -> Standing {
        let place = (header.epoch, header.kind.lane());
        let written = writer.map_or(Ok(()), |writer| self.writes(header.author, writer, place, header.number));
        if header.author == self.owner {
            return written.map_or_else(Standing::Held, |()| Standing::Full);
        }
        if header.kind == EntryKind::Control {
            return Standing::Held(Reason::OwnerOnly);
        }
        let Some(grant) = self.grants.get(&header.grant) else { return Standing::Held(Reason::NoGrant) };
        if grant.to != header.author {
            return Standing::Held(Reason::OtherBrain);
        }
        if let Err(reason) = written {
            return Standing::Held(reason);
        }
        if header.kind == EntryKind::Decision {
            return Standing::Full;
        }
        if grant.expires_at.is_some_and(|end| header.at.millis > end) {
            return Standing::Held(Reason::Expired);
        }
        if let Some(accepted) = &grant.revoked
            && !accepted.iter().any(|chain| chain.epoch == header.epoch && header.number <= chain.number)
        {
            return Standing::Held(Reason::Revoked);
        }
        match (header.kind, grant.role) {
            // Whether it is one that may be wished, its owner looks at.
            (EntryKind::Wish, _) => Standing::Full,
            (_, Role::Write | Role::Admin) => Standing::Full,
            (EntryKind::Claim | EntryKind::Change, Role::Suggest) => Standing::Suggestion,
            (_, Role::Suggest | Role::Read | Role::Relay) => Standing::Held(Reason::Role),
        }
    }
}

fn ends(content: &[Accepted], control: &[Accepted]) -> Ends {
    let of =
        |lane, said: &[Accepted]| said.iter().map(|said| ((said.epoch, lane), said.number)).collect::<Vec<_>>();
    of(Lane::Content, content).into_iter().chain(of(Lane::Control, control)).collect()
}

fn control(entry: &Entry) -> Result<Control, Refused> {
    Ok(Control::parse(entry.payload().ok_or(Refused::NoPayload)?)?)
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

    const EPOCH: Epoch = Epoch([3; 16]);

    fn secret(of: u8) -> SigningKey {
        SigningKey::from_bytes(&[of; 32])
    }

    fn brain(of: u8) -> BrainKey {
        BrainKey::of(&secret(of))
    }

    /// A space of brain 1, and what its owner has said.
    struct Owned {
        space: Space,
        number: u64,
        previous: Hash,
    }

    fn header(author: u8, space: Option<SpaceId>, kind: EntryKind) -> Header {
        Header {
            space,
            author: brain(author),
            epoch: EPOCH,
            number: 1,
            previous: Hash::NONE,
            grant: Hash::NONE,
            at: Hlc { millis: 1_000, counter: 0 },
            truth: Truth::User,
            kind,
            memory: MemoryId::new(Uuid::nil()),
            preceding: 0,
            following: 0,
            payload_bytes: 0,
            payload: Hash::NONE,
        }
    }

    fn sign(header: Header, control: &Control) -> Entry {
        Entry::sign(header, Bytes::from(control.to_bytes()), &secret(1)).expect("small")
    }

    impl Owned {
        fn new() -> Self {
            let first =
                sign(header(1, None, EntryKind::Control), &Control::SpaceCreated { name: "Garden".into() });
            Self { space: Space::begin(&first).expect("begins"), number: 1, previous: first.hash() }
        }

        fn says(&mut self, control: &Control) -> Result<Hash, Refused> {
            let header = Header {
                number: self.number + 1,
                previous: self.previous,
                ..header(1, Some(self.space.id()), EntryKind::Control)
            };
            let entry = sign(header, control);
            self.space.take(&entry)?;
            (self.number, self.previous) = (self.number + 1, entry.hash());
            Ok(entry.hash())
        }

        fn grants(&mut self, to: u8, role: Role, expires_at: Option<u64>) -> Hash {
            self.says(&Control::Offered { to: brain(to), role, expires_at, reshare: false }).expect("granted")
        }

        fn header(&self, author: u8, grant: Hash, kind: EntryKind) -> Header {
            Header { grant, ..header(author, Some(self.space.id()), kind) }
        }

        fn standing(&self, author: u8, grant: Hash, kind: EntryKind) -> Standing {
            self.space.standing(&self.header(author, grant, kind), None)
        }
    }

    #[test]
    fn a_role_lets_do_what_it_says() {
        use Standing::{Full, Suggestion};
        let held = Standing::Held(Reason::Role);
        let wanted = [
            (Role::Relay, [held, held, Full, Full]),
            (Role::Read, [held, held, Full, Full]),
            (Role::Suggest, [Suggestion, Suggestion, Full, Full]),
            (Role::Write, [Full; 4]),
            (Role::Admin, [Full; 4]),
        ];
        let mut owned = Owned::new();
        for (role, standings) in wanted {
            let grant = owned.grants(2, role, None);
            let kinds = [EntryKind::Claim, EntryKind::Change, EntryKind::Wish, EntryKind::Decision];
            for (kind, standing) in kinds.into_iter().zip(standings) {
                assert_eq!(owned.standing(2, grant, kind), standing, "{role:?} {kind:?}");
            }
            assert_eq!(owned.standing(2, grant, EntryKind::Control), Standing::Held(Reason::OwnerOnly));
            assert_eq!(owned.standing(3, grant, EntryKind::Claim), Standing::Held(Reason::OtherBrain));
        }
        assert_eq!(owned.standing(2, Hash::of(b"none"), EntryKind::Claim), Standing::Held(Reason::NoGrant));
        assert_eq!(owned.standing(1, Hash::NONE, EntryKind::Claim), Full, "the owner needs no grant");
    }

    #[test]
    fn a_grant_ends_by_the_clock_of_the_entry() {
        let mut owned = Owned::new();
        let grant = owned.grants(2, Role::Write, Some(1_000));
        assert_eq!(owned.standing(2, grant, EntryKind::Claim), Standing::Full);
        let at = Hlc { millis: 1_001, counter: 0 };
        let late = Header { at, ..owned.header(2, grant, EntryKind::Claim) };
        assert_eq!(owned.space.standing(&late, None), Standing::Held(Reason::Expired));
    }

    #[test]
    fn what_was_accepted_before_a_revocation_counts_and_nothing_else_does() {
        let mut owned = Owned::new();
        let grant = owned.grants(2, Role::Write, None);
        let accepted = vec![Accepted { epoch: EPOCH, number: 5 }];
        owned.says(&Control::Revoked { grant, accepted }).expect("revoked");
        let at = |owned: &Owned, epoch, number| {
            owned.space.standing(&Header { epoch, number, ..owned.header(2, grant, EntryKind::Claim) }, None)
        };
        assert_eq!(at(&owned, EPOCH, 5), Standing::Full);
        assert_eq!(at(&owned, EPOCH, 6), Standing::Held(Reason::Revoked));
        assert_eq!(at(&owned, Epoch([4; 16]), 1), Standing::Held(Reason::Revoked), "in an epoch begun since");
        let more = vec![Accepted { epoch: EPOCH, number: 9 }];
        owned.says(&Control::Revoked { grant, accepted: more }).expect("taken");
        assert_eq!(at(&owned, EPOCH, 6), Standing::Held(Reason::Revoked), "a second one brings nothing back");
        let again = owned.grants(2, Role::Write, None);
        assert_eq!(owned.standing(2, again, EntryKind::Claim), Standing::Full, "a new grant is another one");
    }

    #[test]
    fn what_the_key_before_has_certified_counts_for_listed_devices_and_up_to_what_the_owner_had() {
        let mut owned = Owned::new();
        let grant = owned.grants(2, Role::Write, None);
        let [listed, other] = [5, 6].map(|of| DeviceKey::of(&secret(of)));
        let first = |device| Writer { device, key: brain(2), generation: 0 };
        let later = |device, key, generation| Writer { device, key: brain(key), generation };
        let at = |owned: &Owned, writer, epoch, number| {
            let header = Header { epoch, number, ..owned.header(2, grant, EntryKind::Claim) };
            owned.space.standing(&header, Some(writer))
        };
        let held = Standing::Held(Reason::Key);
        assert_eq!(at(&owned, first(other), EPOCH, 9), Standing::Full);
        assert_eq!(at(&owned, later(listed, 7, 1), EPOCH, 1), held, "the owner has not said so yet");
        let succeeded = |key, generation, accepted| Control::Succeeded {
            brain: brain(2),
            key: brain(key),
            generation,
            devices: vec![listed],
            accepted,
            decided: Vec::new(),
        };
        let accepted = vec![Accepted { epoch: EPOCH, number: 5 }];
        owned.says(&succeeded(7, 1, accepted.clone())).expect("taken");
        for (writer, epoch, number, wanted, why) in [
            (first(listed), Epoch([9; 16]), 99, Standing::Full, "a device that is listed goes on"),
            (first(other), EPOCH, 5, Standing::Full, "as far as the owner had it"),
            (first(other), EPOCH, 6, held, "and no further"),
            (first(other), Epoch([9; 16]), 1, held, "nor in another epoch"),
            (later(other, 7, 1), Epoch([9; 16]), 1, Standing::Full, "certified by the new key"),
            (later(listed, 8, 1), Epoch([9; 16]), 1, held, "by a key that the owner has not named"),
            (later(other, 9, 2), Epoch([9; 16]), 1, held, "by one that comes later still"),
        ] {
            assert_eq!(at(&owned, writer, epoch, number), wanted, "{why}");
        }
        // Of two words about one key the first holds; keys only follow each other.
        owned.says(&succeeded(8, 1, accepted)).expect("taken");
        assert_eq!(at(&owned, later(other, 8, 1), EPOCH, 1), held);
        owned.says(&succeeded(9, 3, Vec::new())).expect("taken");
        assert_eq!(owned.space.generation(brain(2)), 3);
        assert_eq!(at(&owned, later(other, 7, 1), EPOCH, 1), held, "nothing of it was accepted");
        assert_eq!(at(&owned, later(listed, 7, 1), EPOCH, 1), Standing::Full);
        assert_eq!(at(&owned, first(other), EPOCH, 5), held, "what counts for one key has to count for all");
        let others = owned.header(3, grant, EntryKind::Claim);
        assert_eq!(
            owned.space.standing(&others, Some(first(other))),
            Standing::Held(Reason::OtherBrain),
            "other brains have keys of their own"
        );
    }

    #[test]
    fn the_owner_alone_changes_the_space() {
        let mut owned = Owned::new();
        owned.says(&Control::Renamed { name: "Orchard".into() }).expect("renamed");
        assert_eq!(owned.space.name(), "Orchard");
        let again = owned.says(&Control::SpaceCreated { name: "Twice".into() });
        assert!(matches!(again, Err(Refused::BegunAlready)));
        let grant = Hash::of(b"none");
        assert!(matches!(owned.says(&Control::Revoked { grant, accepted: Vec::new() }), Err(Refused::NoGrant)));
        let foreign =
            sign(owned.header(2, Hash::NONE, EntryKind::Control), &Control::Renamed { name: "Mine".into() });
        assert!(matches!(owned.space.take(&foreign), Err(Refused::NotControl)));
        let elsewhere = header(1, Some(SpaceId::new(Hash::of(b"cellar"))), EntryKind::Control);
        let elsewhere = sign(elsewhere, &Control::Renamed { name: "Cellar".into() });
        assert!(matches!(owned.space.take(&elsewhere), Err(Refused::NotControl)));
        assert_eq!(owned.space.name(), "Orchard");
    }
}
