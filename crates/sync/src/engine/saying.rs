//! What this brain says in spaces: entries that it signs. Whoever drives the engine keeps them, durably and each where the chain has room for it,
//! and gives them back ([`Input::Said`](super::Input::Said)); until then nothing else is to be said in that chain.

use bytes::Bytes;
use cairn_domain::clock::Hlc;
use cairn_domain::id::MemoryId;
use cairn_domain::truth::Truth;
use uuid::Uuid;

use super::Engine;
use crate::chain::{Chain, ChainId};
use crate::control::{Accepted, Control, Decision, MAX_ACCEPTED, Role};
use crate::entry::{Entry, EntryKind, Header, InvalidEntry, Lane, MAX_PUBLICATION_ENTRIES};
use crate::key::{BrainKey, DeviceKey, Hash, SpaceId};
use crate::replica::MAX_CONTROL_ENTRIES;
use crate::shared::{InvalidShared, SharedEvent};
use crate::space::Space;

/// How many entries about a space are kept free for what ends something.
const ROOM_TO_END: u64 = 512;

/// Something said about a memory, by one of this brain's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// The memory.
    pub memory: MemoryId,
    /// When, by this brain's clock.
    pub at: Hlc,
    /// How true it is.
    pub truth: Truth,
    /// What: all events it refers to have their shared names.
    pub event: SharedEvent,
}

/// What a brain is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Whom.
    pub to: BrainKey,
    /// What it may do.
    pub role: Role,
    /// Until when, in milliseconds since 1970; `None` for no end.
    pub expires_at: Option<u64>,
    /// Whether it may pass on what it reads.
    pub reshare: bool,
}

/// What a member wishes that the owner of a space says about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// Which space.
    pub space: SpaceId,
    /// The entry that holds the wish.
    pub id: Hash,
    /// Who wishes it.
    pub by: BrainKey,
    /// What they may do.
    pub role: Role,
    /// What they wish.
    pub control: Control,
}

/// Why something cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum CannotSay {
    /// There is no such space here.
    #[error("there is no such space here")]
    NoSpace,
    /// Only the owner of the space says such things.
    #[error("only the owner of the space can do that")]
    OwnerOnly,
    /// The brain has no other key than its first.
    #[error("that brain has no other key than its first")]
    NoKey,
    /// There is no such grant.
    #[error("there is no such grant")]
    NoGrant,
    /// The role that this brain has does not let it.
    #[error("the role that this brain has in the space does not let it")]
    Role,
    /// The name is empty or too long.
    #[error(transparent)]
    Control(#[from] crate::control::InvalidControl),
    /// What is said does not fit into an entry.
    #[error(transparent)]
    TooLarge(#[from] InvalidEntry),
    /// It cannot be shared.
    #[error("it cannot be shared")]
    Shared(#[from] InvalidShared),
    /// It is more than fits into one publication.
    #[error("a publication holds at most {MAX_PUBLICATION_ENTRIES} entries")]
    TooMany,
    /// So much was said about the space that it cannot go on in this epoch.
    #[error("a space takes {MAX_CONTROL_ENTRIES} decisions about it; begin another one")]
    EpochFull,
    /// Others know more of what this device has said than it does, or what it says about the space counts for nothing.
    #[error(
        "this device was restored, or another one has spoken for the space; it has to begin another epoch first, and does so by itself"
    )]
    EpochLost,
    /// This device has said two things at once.
    #[error("others can prove that this device has said two things at once; it has to begin another epoch first")]
    Forked,
}

impl Engine {
    /// Begins a space.
    ///
    /// # Errors
    /// See [`CannotSay`].
    pub fn create_space(&self, name: &str, at: Hlc) -> Result<Vec<Entry>, CannotSay> {
        let control = Control::SpaceCreated { name: name.trim().to_owned() };
        self.sign(None, Hash::NONE, vec![vec![control_part(&control, at)?]])
    }

    /// Says something about a space that this brain owns.
    ///
    /// # Errors
    /// See [`CannotSay`].
    pub fn control(&self, space: SpaceId, control: &Control, at: Hlc) -> Result<Vec<Entry>, CannotSay> {
        self.controls(space, std::slice::from_ref(control), at)
    }

    /// Says some things about a space that this brain owns.
    fn controls(&self, space: SpaceId, controls: &[Control], at: Hlc) -> Result<Vec<Entry>, CannotSay> {
        if self.replica.space(space).is_none() {
            return Err(CannotSay::NoSpace);
        }
        if !self.speaks_for(space) {
            return Err(CannotSay::OwnerOnly);
        }
        if self.is_passed_over(space) {
            return Err(CannotSay::EpochLost);
        }
        // The first word of an epoch says after which word of the one before it comes.
        let (author, epoch, lane) = (self.brain(), self.own.certificate.epoch(), Lane::Control);
        let chain = self.replica.chain(ChainId { space, author, epoch, lane });
        let number = chain.map_or(0, Chain::number);
        // There is always room to take something back.
        let ends = |control: &Control| {
            matches!(
                control,
                Control::Revoked { .. }
                    | Control::Retired { .. }
                    | Control::Succeeded { .. }
                    | Control::Erased { .. }
                    | Control::Answered { .. }
            )
        };
        let kept_free = if controls.iter().all(ends) { 0 } else { ROOM_TO_END };
        if number + controls.len() as u64 + kept_free >= MAX_CONTROL_ENTRIES {
            return Err(CannotSay::EpochFull);
        }
        let mut said = Vec::new();
        if number == 0 && !matches!(controls, [Control::Resumed { .. }]) {
            let after = self.replica.last_word(space).ok_or(CannotSay::NoSpace)?;
            said.push(vec![control_part(&Control::Resumed { after }, at)?]);
        }
        for control in controls {
            said.push(vec![control_part(control, at)?]);
        }
        self.sign(Some(space), Hash::NONE, said)
    }

    /// Offers a brain a part in a space.
    ///
    /// # Errors
    /// See [`CannotSay`].
    pub fn offer(&self, space: SpaceId, offer: Offer, at: Hlc) -> Result<Vec<Entry>, CannotSay> {
        let Offer { to, role, expires_at, reshare } = offer;
        self.control(space, &Control::Offered { to, role, expires_at, reshare }, at)
    }

    /// Goes on with a space that this brain owns in the epoch that it has begun ([`Engine::renew`]): what it said last about the space in the
    /// epoch before, as far as it is known here, is the last that counts.
    ///
    /// # Errors
    /// See [`CannotSay`].
    pub fn resume(&self, space: SpaceId, at: Hlc) -> Result<Vec<Entry>, CannotSay> {
        let after = self.replica.last_word(space).ok_or(CannotSay::NoSpace)?;
        self.control(space, &Control::Resumed { after }, at)
    }

    /// Ends a grant: what its brain had said by now, as far as it came here, goes on to count.
    ///
    /// # Errors
    /// See [`CannotSay`].
    pub fn revoke(&self, space: SpaceId, grant: Hash, at: Hlc) -> Result<Vec<Entry>, CannotSay> {
        let revoked = self.revoked(space, grant)?;
        self.control(space, &revoked, at)
    }

    fn revoked(&self, space: SpaceId, grant: Hash) -> Result<Control, CannotSay> {
        let rules = self.replica.space(space).ok_or(CannotSay::NoSpace)?;
        let to = rules.grants().get(&grant).ok_or(CannotSay::NoGrant)?.to;
        let chains = self.replica.chains(space);
        let theirs = chains.filter(|chain| (chain.id().author, chain.id().lane) == (to, Lane::Content));
        let accepted =
            theirs.map(|chain| Accepted { epoch: chain.id().epoch, number: chain.complete() }).take(MAX_ACCEPTED);
        Ok(Control::Revoked { grant, accepted: accepted.collect() })
    }

    /// Ends what a device of a brain says in a space: what it had said by now, as far as it came here, goes on to count.
    ///
    /// # Errors
    /// See [`CannotSay`].
    pub fn retire(
        &self,
        space: SpaceId,
        brain: BrainKey,
        device: DeviceKey,
        at: Hlc,
    ) -> Result<Vec<Entry>, CannotSay> {
        self.control(space, &self.retired(space, brain, device), at)
    }

    fn retired(&self, space: SpaceId, brain: BrainKey, device: DeviceKey) -> Control {
        let said = |lane| self.said_by(space, brain, |writer| writer.device == device, lane);
        Control::Retired { brain, device, accepted: said(Lane::Content), decided: said(Lane::Control) }
    }

    /// Wishes that the owner of a space says something about it.
    ///
    /// # Errors
    /// See [`CannotSay`].
    pub fn wish(&self, space: SpaceId, wish: &Control, at: Hlc, now: u64) -> Result<Vec<Entry>, CannotSay> {
        let rules = self.replica.space(space).ok_or(CannotSay::NoSpace)?;
        let grant = match rules.owner() == self.brain() {
            // Another device of the owner's speaks for the space.
            true => Hash::NONE,
            false => self.replica.grant_of(space, self.brain(), now).ok_or(CannotSay::Role)?,
        };
        if !may_wish(rules, grant, wish) {
            return Err(CannotSay::Role);
        }
        let part = Part { kind: EntryKind::Wish, ..control_part(wish, at)? };
        self.sign(Some(space), grant, vec![vec![part]])
    }

    /// What members wish that this brain says about its own spaces, with who wishes it, and has to decide on. What nobody in their role may
    /// wish is not among it.
    pub fn wishes(&self) -> Vec<Wish> {
        let owned = self.replica.spaces().filter(|space| self.speaks_for(space.id()));
        let open = owned.flat_map(|space| self.replica.wishes(space.id()).map(move |entry| (space, entry)));
        let wish = |(space, entry): (&Space, &Entry)| {
            let header = entry.header();
            let control =
                Control::parse(entry.payload()?).ok().filter(|control| may_wish(space, header.grant, control))?;
            let role = space.grants().get(&header.grant).map_or(Role::Admin, |grant| grant.role);
            Some(Wish { space: space.id(), id: entry.hash(), by: header.author, role, control })
        };
        open.filter_map(wish).collect()
    }

    /// Answers a wish: grants it, by saying what was wished, or does not.
    ///
    /// # Errors
    /// See [`CannotSay`].
    pub fn answer(&self, wish: &Wish, granted: bool, at: Hlc) -> Result<Vec<Entry>, CannotSay> {
        let answered = Control::Answered { wish: wish.id, granted };
        let wished = match &wish.control {
            Control::Revoked { grant, .. } => self.revoked(wish.space, *grant)?,
            Control::Retired { brain, device, .. } => self.retired(wish.space, *brain, *device),
            wished => wished.clone(),
        };
        let said = if granted { vec![wished, answered] } else { vec![answered] };
        self.controls(wish.space, &said, at)
    }

    /// Says to an offer whether this brain takes it.
    ///
    /// # Errors
    /// See [`CannotSay`].
    pub fn decide(
        &self,
        space: SpaceId,
        grant: Hash,
        decision: Decision,
        at: Hlc,
    ) -> Result<Vec<Entry>, CannotSay> {
        let rules = self.replica.space(space).ok_or(CannotSay::NoSpace)?;
        rules.grants().get(&grant).filter(|given| given.to == self.brain()).ok_or(CannotSay::NoGrant)?;
        let payload = serde_json::to_vec(&decision).expect("a plain word").into();
        let about = MemoryId::new(Uuid::nil());
        let part = Part { kind: EntryKind::Decision, memory: about, at, truth: Truth::User, payload };
        self.sign(Some(space), grant, vec![vec![part]])
    }

    /// Shares what this brain's own have said: each part is one publication, which readers see whole or not at all.
    ///
    /// # Errors
    /// See [`CannotSay`].
    pub fn publish(&self, space: SpaceId, said: &[Vec<Said>], now: u64) -> Result<Vec<Entry>, CannotSay> {
        let rules = self.replica.space(space).ok_or(CannotSay::NoSpace)?;
        let own = self.brain();
        let grant = match rules.owner() == own {
            true => Hash::NONE,
            false => self.replica.grant_of(space, own, now).ok_or(CannotSay::Role)?,
        };
        if rules.grants().get(&grant).is_some_and(|grant| grant.role < Role::Suggest) {
            return Err(CannotSay::Role);
        }
        let part = |said: &Said| {
            let Said { memory, at, truth, event } = said;
            Ok(Part { kind: event.kind(), memory: *memory, at: *at, truth: *truth, payload: event.to_bytes()? })
        };
        let parts = said.iter().map(|said| said.iter().map(part).collect::<Result<Vec<_>, CannotSay>>());
        self.sign(Some(space), grant, parts.collect::<Result<_, CannotSay>>()?)
    }

    /// Takes note of what this brain has said and kept, so that more can be said; what is to be sent of it follows from
    /// [`Input::Said`](super::Input::Said).
    pub fn take_said(&mut self, entries: &[Entry]) {
        self.absorb(entries.to_vec(), &mut Vec::new());
    }

    /// Signs the entries of some publications, all of one lane: they go on from what this brain has kept.
    fn sign(
        &self,
        space: Option<SpaceId>,
        grant: Hash,
        publications: Vec<Vec<Part>>,
    ) -> Result<Vec<Entry>, CannotSay> {
        let Some(lane) = publications.first().and_then(|parts| parts.first()).map(|part| part.kind.lane()) else {
            return Ok(Vec::new());
        };
        if self.epoch_lost {
            return Err(CannotSay::EpochLost);
        }
        let (author, epoch) = (self.brain(), self.own.certificate.epoch());
        let chain = space.and_then(|space| self.replica.chain(ChainId { space, author, epoch, lane }));
        if chain.is_some_and(|chain| chain.fork().is_some()) {
            return Err(CannotSay::Forked);
        }
        let (mut number, mut previous) = chain.map_or((0, Hash::NONE), |chain| (chain.number(), chain.hash()));
        let mut entries = Vec::with_capacity(publications.len());
        for parts in publications {
            let count = u16::try_from(parts.len()).ok().filter(|count| *count <= MAX_PUBLICATION_ENTRIES);
            let count = count.ok_or(CannotSay::TooMany)?;
            for (preceding, part) in (0..count).zip(parts) {
                number += 1;
                let header = Header {
                    space,
                    author,
                    epoch,
                    number,
                    previous,
                    grant,
                    at: part.at,
                    truth: part.truth,
                    kind: part.kind,
                    memory: part.memory,
                    preceding,
                    following: count - preceding - 1,
                    payload_bytes: 0,
                    payload: Hash::NONE,
                };
                let entry = Entry::sign(header, part.payload, &self.own.device)?;
                previous = entry.hash();
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

/// One entry to be signed.
struct Part {
    kind: EntryKind,
    memory: MemoryId,
    at: Hlc,
    truth: Truth,
    payload: Bytes,
}

/// Whether who has a grant can wish that the owner says something. Only the owner itself makes somebody an admin; who may pass on what it reads,
/// to others who may do no more than itself, and for no longer; and everybody says which devices of their own write no more. A device of the
/// owner's needs no grant.
fn may_wish(space: &Space, grant: Hash, wish: &Control) -> bool {
    if matches!(
        wish,
        Control::SpaceCreated { .. }
            | Control::Answered { .. }
            | Control::Keyed(_)
            | Control::Succeeded { .. }
            | Control::Resumed { .. }
    ) {
        return false;
    }
    let Some(grant) = space.grants().get(&grant) else { return true };
    let role = grant.role;
    match wish {
        Control::Erased { .. } => role >= Role::Write,
        Control::Offered { role: offered, expires_at, reshare: _, to: _ } => match role {
            Role::Admin => *offered < Role::Admin,
            Role::Relay | Role::Read | Role::Suggest | Role::Write => {
                let within = |end: u64| expires_at.is_some_and(|expires_at| expires_at <= end);
                grant.reshare && *offered <= role && grant.expires_at.is_none_or(within)
            }
        },
        Control::Retired { brain, .. } => *brain == grant.to,
        Control::Revoked { .. } | Control::Renamed { .. } => role == Role::Admin,
        Control::SpaceCreated { .. }
        | Control::Answered { .. }
        | Control::Keyed(_)
        | Control::Succeeded { .. }
        | Control::Resumed { .. } => false,
    }
}

fn control_part(control: &Control, at: Hlc) -> Result<Part, CannotSay> {
    let payload = control.to_bytes();
    // What others would refuse is not said.
    Control::parse(&payload)?;
    let memory = MemoryId::new(Uuid::nil());
    Ok(Part { kind: EntryKind::Control, memory, at, truth: Truth::User, payload: payload.into() })
}
