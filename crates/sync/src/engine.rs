//! The engine: what a brain does when something happens between it and others. Inputs go in, effects come out; who drives it keeps what is to be
//! kept, carries frames, and says what time it is. The node and the simulation drive the same code.
//!
//! Effects are to be carried out in their order, each before the next: a receipt is sent after what it says is kept. Where something cannot be
//! kept, the engine is to be made anew from what is.

mod devices;
mod exchange;
mod meeting;
mod quota;
mod receiving;
mod saying;
mod sealing;
mod session;
mod successions;

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_domain::id::MemoryId;
use ed25519_dalek::SigningKey;

use crate::certificate::Certificate;
use crate::chain::{Chain, ChainId, Fork, chain_of};
use crate::control::Role;
use crate::entry::{Entry, Lane};
use crate::key::{BrainKey, DeviceKey, Epoch, Hash, SpaceId, Tag};
use crate::replica::{self, Replica};
use crate::roster::Roster;
use crate::space::Space;
use crate::succession::Succession;
use crate::wire::{Frame, Head, InvalidFrame, Receipt, Refusal};

use meeting::Dialling;
use quota::Quota;
use session::Session;

pub use meeting::{Invitation, Peer, TakenUp};
pub use quota::BYTES_A_DAY;
pub use saying::{CannotSay, Offer, Said, Wish};
pub use session::Received;

/// The most epochs of one author in one space.
pub const MAX_EPOCHS: usize = 64;
/// The most connections at once.
pub const MAX_SESSIONS: usize = 256;
/// The most pulls that are under way on one connection.
pub const MAX_PULLS: usize = 2;
/// The most pulls of the other side that wait to be answered.
pub const MAX_SERVING: usize = 64;
/// How many bytes are sent without being asked for before a receipt comes, and then no more. With the batch that exceeds them, it is what is sent
/// twice when a connection breaks.
pub const PUSH_CREDIT: usize = 112 * 1024;
/// The most spaces that a peer can offer and nobody has decided on.
pub const MAX_OFFERED: usize = 64;
/// The most chains of which is noted how far the other side of a connection has them.
pub const MAX_HEADS: usize = 16 * 1_024;
/// How far ahead of the clock an entry may be, in milliseconds. Further ones wait.
pub const MAX_AHEAD_MS: u64 = 10 * 60 * 1_000;
/// How long who connects has to say who it is, in milliseconds.
pub const HELLO_WITHIN_MS: u64 = 10_000;
/// How often at most it is kept what somebody else has received, in milliseconds.
pub const RECEIPT_EVERY_MS: u64 = 5_000;
/// The first pause before a peer that cannot be reached is dialled again, in milliseconds; it doubles.
pub const FIRST_PAUSE_MS: u64 = 1_000;
/// How long a chain is left alone that was asked for in vain, in milliseconds.
pub const STALLED_MS: u64 = 30_000;
/// After how long it is taken for lost what was asked for, and said again how far this brain is, in milliseconds. A frame that a
/// transport has lost costs that time, and nothing else.
pub const AGAIN_MS: u64 = 60_000;
/// The longest pause, in milliseconds. With what is added so that not all come at once, that is a minute at most.
pub const LONGEST_PAUSE_MS: u64 = 48_000;

/// Who this brain is, on this device.
pub struct Identity {
    /// The device's key.
    pub device: SigningKey,
    /// What makes it the brain's.
    pub certificate: Certificate,
    /// What the owner calls the brain.
    pub name: String,
    /// Where others can find the device.
    pub addresses: Vec<String>,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// A device is at the other end of a new connection: the transport has proven that it has the key.
    Connected {
        /// The device.
        device: DeviceKey,
    },
    /// The connection is gone, or could not be made.
    Disconnected {
        /// The device.
        device: DeviceKey,
    },
    /// A frame came.
    Frame {
        /// From whom.
        device: DeviceKey,
        /// What.
        bytes: Bytes,
    },
    /// A frame came that was read ahead of its turn ([`Frame::read_ahead`]).
    Read {
        /// From whom.
        device: DeviceKey,
        /// What came of reading it.
        frame: Box<Result<Option<Frame>, InvalidFrame>>,
    },
    /// The entries that [`Effect::Load`] asked for, from the first on and without a gap; none where there are none.
    Loaded {
        /// What was asked for.
        load: Load,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// What this brain said ([`Engine::publish`] and its like) is kept, durably.
    Said(Vec<Entry>),
    /// Some time has passed. At least once a second.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send a frame.
    Send {
        /// To whom.
        device: DeviceKey,
        /// What.
        frame: Bytes,
    },
    /// Close the connection.
    Close {
        /// With whom.
        device: DeviceKey,
    },
    /// Connect.
    Dial {
        /// To whom.
        device: DeviceKey,
        /// Where: addresses as the transport spells them.
        addresses: Vec<String>,
    },
    /// Keep entries of one chain, one after the other. They are whole publications.
    Keep(Vec<Entry>),
    /// Keep the certificate of an author before entries of theirs.
    KeepCertificate {
        /// For which space.
        space: SpaceId,
        /// The certificate.
        certificate: Certificate,
    },
    /// Read entries of a chain that are kept, and give them ([`Input::Loaded`]).
    Load(Load),
    /// The space is another one now: what is kept of it counts for something else, perhaps.
    Restand {
        /// What it was; none where it has only begun.
        before: Option<Box<Space>>,
        /// Which.
        space: SpaceId,
    },
    /// Entries of a chain count for something else now, because of a fork.
    Recount {
        /// The chain.
        chain: ChainId,
        /// The number of the first of them.
        from: u64,
        /// The number of the last.
        to: u64,
    },
    /// Destroy memories: the owner of the space has said so. One that was begun here is only taken out of the space.
    Erase {
        /// The space.
        space: SpaceId,
        /// The memories.
        memories: Vec<MemoryId>,
    },
    /// Keep the proof that an author has forked a chain: what comes with the fork or after it counts for nothing.
    KeepFork(Fork),
    /// Keep what somebody has received.
    KeepReceipt {
        /// Who.
        by: BrainKey,
        /// What.
        receipt: Receipt,
    },
    /// Keep a peer.
    KeepPeer {
        /// Who.
        brain: BrainKey,
        /// What is known of them.
        peer: Peer,
        /// The invitation that was taken up, if it was one of this brain's own.
        invitation: Option<Hash>,
    },
    /// Keep who the devices of a brain are.
    KeepRoster(Roster),
    /// Tell people.
    Tell(News),
}

/// What people want to know.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// A peer is there.
    Online(BrainKey),
    /// A peer is gone.
    Offline(BrainKey),
    /// A space is offered to this brain.
    Offered {
        /// Which.
        space: SpaceId,
        /// The grant.
        grant: Hash,
    },
    /// Somebody would not go on.
    Refused {
        /// Who.
        device: DeviceKey,
        /// Why.
        reason: Refusal,
    },
    /// Somebody knows more of what this device has said than the device itself, or has gone on from other words of its own: it was restored from
    /// an old backup, perhaps, and must begin another epoch before it says anything.
    EpochLost,
    /// A device has shown the secret of an invitation to become one of this brain's: it is to be given a certificate ([`Engine::certify`]).
    Joining {
        /// The device.
        device: DeviceKey,
        /// The epoch that it writes in.
        epoch: Epoch,
        /// The invitation, which is used up.
        invitation: Hash,
    },
    /// A device of this brain's wants a certificate for another epoch ([`Engine::certify`]).
    CertificateWanted {
        /// The device.
        device: DeviceKey,
        /// The epoch.
        epoch: Epoch,
    },
    /// This device has the certificate for another epoch that it asked for ([`Engine::ask_for_certificate`]).
    Certified {
        /// The certificate.
        certificate: Certificate,
    },
    /// This device is one of another brain's from here on: the engine is to be made anew.
    Joined {
        /// The certificate.
        certificate: Certificate,
        /// What the brain's owner calls it.
        name: String,
        /// The device that let it in, and where it can be found.
        by: (DeviceKey, Vec<String>),
    },
    /// A brain has another key.
    KeyChanged(BrainKey),
    /// Somebody shows other keys of a brain than those that it is known to have, or to have named.
    OtherKey(BrainKey),
    /// No more of an author's is taken today: it was as much as one may have this brain keep in a day.
    QuotaUsedUp(BrainKey),
    /// A peer has sent what is not sound.
    Unsound {
        /// Who.
        device: DeviceKey,
        /// What was wrong with it.
        why: String,
    },
}

/// Entries that are to be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Of which chain.
    pub chain: ChainId,
    /// From this number on.
    pub from: u64,
    /// How many at most.
    pub limit: usize,
    why: Why,
}

/// What entries are read for.
#[derive(Debug, Clone, PartialEq)]
enum Why {
    /// Somebody asked for them.
    Pulled(DeviceKey),
    /// Somebody lacks them.
    Pushed(DeviceKey),
    /// Others of the same numbers came from somebody.
    Compared(DeviceKey, Vec<Entry>),
    /// Somebody has an entry of this number with this hash.
    Checked(DeviceKey, Head),
}

/// A brain among others.
pub struct Engine {
    own: Identity,
    replica: Replica,
    peers: BTreeMap<BrainKey, Peer>,
    invitations: BTreeMap<Hash, Invitation>,
    /// Invitations of others that this brain has taken up, by the device to be met.
    taken_up: BTreeMap<DeviceKey, (BrainKey, TakenUp)>,
    dialling: BTreeMap<DeviceKey, Dialling>,
    sessions: BTreeMap<DeviceKey, Session>,
    certificates: BTreeMap<(BrainKey, Epoch), Certificate>,
    /// Which chain a tag names.
    tags: BTreeMap<(SpaceId, Tag), ChainId>,
    /// Entries of publications that have not come whole.
    partial: BTreeMap<ChainId, Vec<Entry>>,
    /// The devices of brains, as these have signed them.
    rosters: BTreeMap<BrainKey, Roster>,
    /// The keys of brains that have more than one, or have named the next, as far as they are known.
    successions: BTreeMap<BrainKey, Succession>,
    /// The keys that this device has.
    keys: Vec<BrainKey>,
    /// How far entries are kept.
    heads: BTreeMap<ChainId, Head>,
    /// What was received by whom, and what of that is not kept yet.
    receipts: BTreeMap<(SpaceId, BrainKey), Received>,
    /// How much of each author's was taken.
    quota: Quota,
    /// Who passed on a space of somebody whom this brain does not know.
    passed_on: BTreeMap<SpaceId, BrainKey>,
    /// When the last list of a brain's devices was taken.
    rosters_at: BTreeMap<BrainKey, u64>,
    /// Set when this device has to begin another epoch ([`News::EpochLost`]).
    epoch_lost: bool,
}

impl Engine {
    /// An engine that knows nobody and no space.
    pub fn new(own: Identity) -> Self {
        let certificate = own.certificate.clone();
        let mut engine = Self {
            certificates: BTreeMap::new(),
            own,
            replica: Replica::default(),
            peers: BTreeMap::new(),
            invitations: BTreeMap::new(),
            sessions: BTreeMap::new(),
            tags: BTreeMap::new(),
            partial: BTreeMap::new(),
            rosters: BTreeMap::new(),
            successions: BTreeMap::new(),
            keys: Vec::new(),
            heads: BTreeMap::new(),
            taken_up: BTreeMap::new(),
            dialling: BTreeMap::new(),
            receipts: BTreeMap::new(),
            quota: Quota::new(BYTES_A_DAY),
            passed_on: BTreeMap::new(),
            rosters_at: BTreeMap::new(),
            epoch_lost: false,
        };
        engine.restore_certificate(certificate);
        engine
    }

    /// Takes no more than so many bytes of each author's in a day.
    pub fn set_quota(&mut self, bytes_a_day: u64) {
        self.quota = Quota::new(bytes_a_day);
    }

    /// Which brain it is.
    pub fn brain(&self) -> BrainKey {
        self.own.certificate.brain()
    }

    /// Whether others can prove that this device has said two things at once in its epoch, so that it has to begin another one.
    pub fn is_forked(&self) -> bool {
        let own = (self.brain(), self.own.certificate.epoch());
        let spaces = self.replica.spaces().map(Space::id);
        let mut chains = spaces.flat_map(|space| self.replica.chains(space));
        chains.any(|chain| (chain.id().author, chain.id().epoch) == own && chain.fork().is_some())
    }

    /// Grants in spaces of this brain's that have come to their end and were not ended by its owner yet.
    pub fn expired(&self, now: u64) -> Vec<(SpaceId, Hash)> {
        let owned = self.replica.spaces().filter(|space| self.speaks_for(space.id()));
        let ended = |(hash, grant): (&Hash, &crate::space::Grant)| {
            (grant.revoked.is_none() && grant.expires_at.is_some_and(|end| end < now)).then_some(*hash)
        };
        owned.flat_map(|space| space.grants().iter().filter_map(ended).map(|grant| (space.id(), grant))).collect()
    }

    /// What it knows of spaces.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Whom it knows.
    pub fn peers(&self) -> &BTreeMap<BrainKey, Peer> {
        &self.peers
    }

    /// Who is there.
    pub fn online(&self) -> impl Iterator<Item = BrainKey> {
        self.sessions.values().filter_map(|session| session.brain)
    }

    /// What others have received.
    pub fn receipts(&self) -> &BTreeMap<(SpaceId, BrainKey), Received> {
        &self.receipts
    }

    /// The certificate of an author's epoch.
    pub fn certificate(&self, author: BrainKey, epoch: Epoch) -> Option<&Certificate> {
        self.certificates.get(&(author, epoch))
    }

    /// The certificates of an author that are known.
    pub fn certificates_of(&self, author: BrainKey) -> impl Iterator<Item = &Certificate> {
        self.certificates.values().filter(move |certificate| certificate.brain() == author)
    }

    /// Takes note of a certificate that is kept. Gives the spaces that are others now, because an earlier key had certified the same.
    pub fn restore_certificate(&mut self, certificate: Certificate) -> Vec<SpaceId> {
        let place = (certificate.brain(), certificate.epoch());
        let (writer, known) = (certificate.writer(), self.certificates.get(&place).map(Certificate::writer));
        // An epoch is one device's, for good, and counts as the latest key has certified it.
        if known.is_some_and(|known| known.device != writer.device || known.generation > writer.generation) {
            return Vec::new();
        }
        self.note_succession(certificate.succession());
        self.certificates.insert(place, certificate);
        self.replica.note_writer(place.0, place.1, writer)
    }

    /// Takes note of a kept entry about a space itself. To be given in the order of each chain.
    pub fn restore_control(&mut self, entry: Entry) {
        self.note(&entry);
        self.replica.receive(entry);
    }

    /// Takes note of how far a chain of shared memories is kept.
    pub fn restore_content(&mut self, last: &Entry) {
        self.note(last);
        self.replica.restore(last);
    }

    /// Takes note of the proof of a fork that is kept.
    pub fn restore_fork(&mut self, fork: &Fork) {
        self.replica.compared(&fork.known, &fork.other);
    }

    /// Takes note of what somebody has received, as it is kept.
    pub fn restore_receipt(&mut self, by: BrainKey, receipt: &Receipt) {
        let received = self.receipts.entry((receipt.space, by)).or_default();
        received.chains.extend(receipt.heads.iter().map(|head| (head.chain, receipt.clone())));
    }

    /// Does what follows from an input, at a moment in milliseconds since 1970.
    pub fn handle(&mut self, input: Input, now: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Connected { device } => self.connected(device, now, &mut effects),
            Input::Disconnected { device } => self.disconnected(device, now, &mut effects),
            Input::Frame { device, bytes } => self.frame(device, Frame::parse(bytes), now, &mut effects),
            Input::Read { device, frame } => self.frame(device, *frame, now, &mut effects),
            Input::Loaded { load, entries } => self.loaded(load, entries, now, &mut effects),
            Input::Said(entries) => self.said(entries, now, &mut effects),
            Input::Tick => self.tick(now, &mut effects),
        }
        effects
    }

    /// Takes note that a chain is kept up to an entry.
    fn note(&mut self, last: &Entry) {
        let chain = chain_of(last);
        self.tags.insert((chain.space, chain.tag()), chain);
        let head = Head { chain: chain.tag(), number: last.header().number, hash: last.hash().tag() };
        self.heads.insert(chain, head);
    }

    /// Whether a brain may be given entries of a chain by this one: what is shared in the space only sealed, where it may not read it.
    fn may_have(&self, brain: BrainKey, chain: ChainId, now: u64) -> bool {
        self.may_know(brain, chain, now) && self.has_from(brain, self.brain(), chain, now)
    }

    /// Whether a brain takes entries of a chain from another one: a relay takes what is sealed from nobody but the author and the owner.
    fn has_from(&self, brain: BrainKey, from: BrainKey, chain: ChainId, now: u64) -> bool {
        let owner = self.replica.space(chain.space).map(Space::owner);
        let kept = || self.replica.role_of(chain.space, brain, now) == Some(Role::Relay);
        chain.lane == Lane::Control || from == chain.author || Some(from) == owner || !kept()
    }

    /// Whether a brain may know how far somebody has a chain.
    fn may_know(&self, brain: BrainKey, chain: ChainId, now: u64) -> bool {
        let Some(space) = self.replica.space(chain.space) else { return false };
        if space.owner() == brain {
            return true;
        }
        match chain.lane {
            // Who was let in once hears how it ends.
            Lane::Control => space.has_heard(brain),
            Lane::Content => self.replica.grant_of(chain.space, brain, now).is_some(),
        }
    }

    /// Says nothing more in its epoch: it may have said more than it knows.
    pub fn give_up_epoch(&mut self) {
        self.epoch_lost = true;
    }

    /// What this device says from here on is said in an epoch of its own: it was restored, or it is another device.
    pub fn renew(&mut self, certificate: Certificate) {
        self.restore_certificate(certificate.clone());
        self.own.certificate = certificate;
        self.epoch_lost = false;
    }

    /// Does to the replica what an entry asks for; whatever is to be kept is collected by publication.
    fn absorb(&mut self, entries: Vec<Entry>, effects: &mut Vec<Effect>) {
        let Some(first) = entries.first() else { return };
        let space = first.space();
        let about_space = entries.iter().any(|entry| entry.header().kind.lane() == Lane::Control);
        let before = self.replica.space(space).filter(|_| about_space).cloned().map(Box::new);
        let chain = chain_of(first);
        let mut changed = false;
        let mut taken = self.partial.remove(&chain).unwrap_or_default();
        for effect in self.replica.receive_all(chain, entries) {
            match effect {
                replica::Effect::Keep(entry) => taken.push(entry),
                replica::Effect::SpaceChanged(_) => changed = true,
                // Entries are given one after the other, and those that are known are compared before.
                replica::Effect::Ask { .. } | replica::Effect::Compare(_) | replica::Effect::Forked(_) => {}
            }
        }
        if changed {
            // First, so that a crash in between leaves nothing undone: what is not kept comes again, and does the same again.
            self.changed(space, before, effects);
        }
        let complete = self.replica.chain(chain).map_or(0, Chain::complete);
        let waiting = taken.split_off(taken.partition_point(|entry| entry.header().number <= complete));
        if !waiting.is_empty() {
            self.partial.insert(chain, waiting);
        }
        if let Some(last) = taken.last() {
            self.note(last);
            effects.push(Effect::Keep(taken));
        }
    }

    /// Says what is to be done because a space is another one now.
    fn changed(&self, space: SpaceId, before: Option<Box<Space>>, effects: &mut Vec<Effect>) {
        let Some(now) = self.replica.space(space) else { return };
        let was_erased = |memory| before.as_ref().is_some_and(|before| before.erased().contains_key(memory));
        let memories: Vec<MemoryId> = now.erased().keys().filter(|memory| !was_erased(memory)).copied().collect();
        // Who was told a key may be able to open what it has kept for others.
        let keyed = before.as_ref().is_some_and(|before| before.keys().len() != now.keys().len());
        let kept = now.grants().values().any(|grant| grant.to == self.brain() && grant.role == Role::Relay);
        let differs = |before: &Space| before.grants() != now.grants() || !before.has_the_writers_of(now);
        if before.as_deref().is_none_or(differs) || keyed && kept {
            effects.push(Effect::Restand { before, space });
        }
        if !memories.is_empty() {
            effects.push(Effect::Erase { space, memories });
        }
    }
}
