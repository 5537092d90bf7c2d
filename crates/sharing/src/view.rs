//! What people are shown of what is shared.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cairn_domain::event::SelectionChanged;
use cairn_domain::id::MemoryId;
use cairn_sync::chain::{Chain, ChainId};
use cairn_sync::control::{Control, Decision, Role};
use cairn_sync::engine::{Engine, Wish};
use cairn_sync::entry::Lane;
use cairn_sync::key::{BrainKey, DeviceKey, Hash, SpaceId};
use cairn_sync::space::{Erased, Space};
use serde::Serialize;

use crate::invitation::words;
use crate::restore::Selections;
use crate::service::Choice;

/// Everything about sharing.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct View {
    /// This brain's key.
    #[schema(value_type = String)]
    pub brain: BrainKey,
    /// Where others can connect.
    pub addresses: Vec<String>,
    /// The key that signs for this brain.
    pub key: KeyView,
    /// The devices that write for this brain.
    pub devices: Vec<DeviceView>,
    /// The brains it knows.
    pub peers: Vec<PeerView>,
    /// The spaces it is in, or is offered.
    pub spaces: Vec<SpaceView>,
    /// Who has received what.
    pub receipts: Vec<ReceiptView>,
    /// Memories that this brain has had destroyed everywhere.
    pub erasures: Vec<ErasureView>,
}

/// The key that signs for a brain: which devices write for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct KeyView {
    /// The key.
    #[schema(value_type = String)]
    pub key: BrainKey,
    /// How many were before it.
    pub before: usize,
    /// Whether the one that comes next is named.
    pub prepared: bool,
    /// Whether this node has it.
    pub here: bool,
}

/// A device that writes for this brain.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct DeviceView {
    /// Its key.
    #[schema(value_type = String)]
    pub device: DeviceKey,
    /// Whether it is this one.
    pub this: bool,
    /// Whether it is connected.
    pub online: bool,
    /// Where it was last found.
    pub addresses: Vec<String>,
}

/// A brain that this one knows.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct PeerView {
    /// Its key.
    #[schema(value_type = String)]
    pub brain: BrainKey,
    /// What its owner calls it.
    pub name: String,
    /// Words that both owners see, to be compared over another way.
    #[schema(value_type = Vec<String>)]
    pub words: Vec<&'static str>,
    /// Whether it is connected.
    pub online: bool,
    /// Whether this brain will have nothing to do with it.
    pub blocked: bool,
    /// Where each of its devices was last found.
    pub devices: BTreeMap<String, Vec<String>>,
}

/// A space.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct SpaceView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: SpaceId,
    /// What people call it.
    pub name: String,
    /// Whose it is.
    #[schema(value_type = String)]
    pub owner: BrainKey,
    /// Whether it is this brain's.
    pub own: bool,
    /// Who may do what in it.
    pub grants: Vec<GrantView>,
    /// What this brain's owner has chosen for it.
    #[schema(value_type = Object)]
    pub selection: SelectionChanged,
    /// How many memories are in it here.
    pub memories: usize,
    /// How many memories are still to be looked at, because of what was chosen for it.
    pub pending: usize,
    /// How many entries about memories this brain has of it, its own and those of others.
    pub entries: u64,
    /// What its members wish that this brain says about it, and nobody has answered.
    pub wishes: Vec<WishView>,
    /// Authors who were found to have said two things at once.
    #[schema(value_type = Vec<String>)]
    pub forked: Vec<BrainKey>,
}

/// What somebody may do in a space.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct GrantView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: Hash,
    /// Who.
    #[schema(value_type = String)]
    pub to: BrainKey,
    /// What they are called, where they are known here.
    pub name: Option<String>,
    /// What.
    #[schema(value_type = String, example = "write")]
    pub role: Role,
    /// Until when, in milliseconds since 1970.
    pub expires_at: Option<u64>,
    /// Whether they may pass on what they read.
    pub reshare: bool,
    /// What they have said to it; nothing as long as they have not.
    #[schema(value_type = Option<String>, example = "accepted")]
    pub decision: Option<Decision>,
    /// Whether it was taken back.
    pub revoked: bool,
}

/// What a member of a space wishes that its owner says.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct WishView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: Hash,
    /// Who.
    #[schema(value_type = String)]
    pub by: BrainKey,
    /// What they are called, where they are known here.
    pub name: Option<String>,
    /// What: `erased` with a memory, `offered`, `revoked` or `renamed`.
    #[schema(value_type = Object)]
    pub wish: Control,
}

/// A memory that was destroyed wherever it was, on this brain's word.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ErasureView {
    /// In which space.
    #[schema(value_type = String)]
    pub space: SpaceId,
    /// Which memory.
    #[schema(value_type = String)]
    pub memory: MemoryId,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Who has had the space, and whether their node has the word. What they have copied from it, no node can tell.
    pub members: Vec<AskedView>,
}

/// Whether a node knows that it has to destroy a memory.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct AskedView {
    /// Whose node.
    #[schema(value_type = String)]
    pub brain: BrainKey,
    /// What they are called, where they are known here.
    pub name: Option<String>,
    /// When it said that it knows, by its clock, in milliseconds since 1970; nothing as long as it has not.
    pub acknowledged_at: Option<u64>,
    /// Whether this brain has nothing to do with it, so that it is not told.
    pub blocked: bool,
}

/// What somebody has received.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ReceiptView {
    /// Of which space.
    #[schema(value_type = String)]
    pub space: SpaceId,
    /// Who.
    #[schema(value_type = String)]
    pub by: BrainKey,
    /// When they last said so, by their clock, in milliseconds since 1970.
    pub at: u64,
    /// How many entries about memories they have, of others.
    pub entries: u64,
    /// How many of these this brain has.
    pub of: u64,
}

/// An invitation that was just made.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct InvitationView {
    /// The link to pass on.
    pub link: String,
    /// Until when it can be taken up, in milliseconds since 1970.
    pub expires_at: u64,
}

impl View {
    pub(crate) fn of(
        engine: &Engine,
        (selections, choices): (&Selections, &VecDeque<Choice>),
        places: &BTreeMap<MemoryId, SpaceId>,
        addresses: Vec<String>,
    ) -> Self {
        let own = engine.brain();
        let online: Vec<BrainKey> = engine.online().collect();
        let peers = engine.peers().iter().filter(|(brain, _)| **brain != own).map(|(brain, peer)| PeerView {
            brain: *brain,
            name: peer.name.clone(),
            words: words(own, *brain),
            online: online.contains(brain),
            blocked: peer.blocked,
            devices: peer.devices.iter().map(|(device, at)| (device.to_string(), at.clone())).collect(),
        });
        let receipts =
            engine.receipts().iter().filter(|((_, by), _)| *by != own).map(|((space, by), received)| {
                // What is said about the space itself is no memory.
                let heads = content(engine, *space).map(Chain::id).filter_map(|chain| {
                    let receipt = received.chains.get(&chain.tag())?;
                    receipt.heads.iter().find(|head| head.chain == chain.tag()).map(|head| head.number)
                });
                let at = received.chains.values().map(|receipt| receipt.at).max().unwrap_or(0);
                let others = content(engine, *space).filter(|chain| chain.id().author != *by);
                let of = others.map(Chain::complete).sum();
                ReceiptView { space: *space, by: *by, at, entries: heads.sum(), of }
            });
        let wishes = engine.wishes();
        let spaces = engine.replica().spaces().map(|space| SpaceView {
            id: space.id(),
            name: space.name().to_owned(),
            owner: space.owner(),
            own: space.owner() == own,
            grants: grants(engine, space.id()),
            selection: selections.get(&space.id()).map(|chosen| chosen.selection.clone()).unwrap_or_default(),
            memories: places.values().filter(|place| **place == space.id()).count(),
            pending: choices
                .iter()
                .filter(|choice| choice.space == space.id())
                .map(|choice| choice.memories.len())
                .sum(),
            entries: content(engine, space.id()).map(Chain::complete).sum(),
            wishes: wishes
                .iter()
                .filter(|wish| wish.space == space.id())
                .map(|wish| wished(engine, wish))
                .collect(),
            forked: engine
                .replica()
                .chains(space.id())
                .filter(|chain| chain.fork().is_some())
                .map(|chain| chain.id().author)
                .collect(),
        });
        let keys = engine.succession(own);
        Self {
            brain: own,
            key: KeyView {
                key: keys.current(),
                before: keys.generation(),
                prepared: keys.is_prepared(),
                here: engine.has_the_key(),
            },
            devices: devices(engine, &addresses),
            addresses,
            peers: peers.collect(),
            spaces: spaces.collect(),
            receipts: receipts.collect(),
            erasures: engine
                .replica()
                .spaces()
                .filter(|space| space.owner() == own)
                .flat_map(|space| erasures(engine, space))
                .collect(),
        }
    }
}

fn devices(engine: &Engine, addresses: &[String]) -> Vec<DeviceView> {
    let this = engine.own_device();
    let own = DeviceView { device: this, this: true, online: true, addresses: addresses.to_vec() };
    let known = engine.peers().get(&engine.brain());
    let others = known.into_iter().flat_map(|own| &own.devices).filter(|(device, _)| **device != this);
    let others = others.map(|(device, addresses)| DeviceView {
        device: *device,
        this: false,
        online: engine.is_there(*device),
        addresses: addresses.clone(),
    });
    std::iter::once(own).chain(others).collect()
}

fn called(engine: &Engine, brain: BrainKey) -> Option<String> {
    engine.peers().get(&brain).map(|peer| peer.name.clone())
}

fn wished(engine: &Engine, wish: &Wish) -> WishView {
    WishView { id: wish.id, by: wish.by, name: called(engine, wish.by), wish: wish.control.clone() }
}

fn erasures(engine: &Engine, space: &Space) -> Vec<ErasureView> {
    let decided = space.grants().iter().filter(|(id, _)| engine.replica().decision(space.id(), **id).is_some());
    let members: BTreeSet<BrainKey> = decided.map(|(_, grant)| grant.to).collect();
    let asked = |brain: &BrainKey, erased: &Erased| {
        let chain =
            ChainId { space: space.id(), author: space.owner(), epoch: erased.epoch, lane: Lane::Control }.tag();
        let receipt =
            engine.receipts().get(&(space.id(), *brain)).and_then(|received| received.chains.get(&chain));
        let knows = receipt.filter(|receipt| receipt.reached(chain).is_some_and(|number| number >= erased.number));
        AskedView {
            brain: *brain,
            name: called(engine, *brain),
            acknowledged_at: knows.map(|receipt| receipt.at),
            blocked: engine.peers().get(brain).is_some_and(|peer| peer.blocked),
        }
    };
    let view = |(memory, erased): (&MemoryId, &Erased)| ErasureView {
        space: space.id(),
        memory: *memory,
        at: erased.at,
        members: members.iter().map(|brain| asked(brain, erased)).collect(),
    };
    space.erased().iter().map(view).collect()
}

/// The chains of a space about memories.
fn content(engine: &Engine, space: SpaceId) -> impl Iterator<Item = &Chain> {
    engine.replica().chains(space).filter(|chain| chain.id().lane == Lane::Content)
}

fn grants(engine: &Engine, space: SpaceId) -> Vec<GrantView> {
    let Some(rules) = engine.replica().space(space) else { return Vec::new() };
    let view = |(id, grant): (&Hash, &cairn_sync::space::Grant)| GrantView {
        id: *id,
        to: grant.to,
        name: called(engine, grant.to),
        role: grant.role,
        expires_at: grant.expires_at,
        reshare: grant.reshare,
        decision: engine.replica().decision(space, *id),
        revoked: grant.revoked.is_some(),
    };
    rules.grants().iter().map(view).collect()
}
