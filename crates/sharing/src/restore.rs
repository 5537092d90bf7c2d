//! What the log holds of what is shared, put together again when a node starts.

use std::collections::BTreeMap;

use cairn_command::read_metadata;
use cairn_domain::event::{
    ChainBegun, DevicesListed, EpochBegun, EpochWanted, Event, ForkProven, InvitationEnded, MemoryEvent,
    PeerEvent, PeerInvited, PeerKnown, SelectionChanged, Shared, SpaceEvent, SpaceReceived,
};
use cairn_domain::id::{MemoryId, memory_of_stream};
use cairn_event_store::{Direction, Filter, Position, RecordedEvent, Revision};
use cairn_sync::certificate::Certificate;
use cairn_sync::chain::{ChainId, Fork};
use cairn_sync::engine::{Engine, Invitation, Peer};
use cairn_sync::entry::Lane;
use cairn_sync::key::{BrainKey, Epoch, SpaceId};
use cairn_sync::roster::Roster;
use cairn_sync::wire::Receipt;

use crate::error::SharingError;
use crate::keeper::Keeper;
use crate::names::{
    brain_of_stream, chain_stream, decode, decode_header, epoch_stream, read_entry, space_of_stream,
};

/// How many events are read at once.
const PAGE: usize = 4_096;

/// Which memories of this brain's own are in which of its spaces.
pub type Selections = BTreeMap<SpaceId, Chosen>;

/// What was chosen for a space last.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Which memories.
    pub selection: SelectionChanged,
    /// Where the log has it.
    pub at: Position,
}

impl Keeper {
    /// This device's latest certificate, if it has one, and the epoch that it wants to go on in, if it has none for that.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn latest_epoch(&self) -> Result<(Option<Certificate>, Option<Epoch>), SharingError> {
        let store = self.handler.store();
        let events = store.read_stream(&epoch_stream(), Revision(u64::MAX), Direction::Backwards, 2).await?;
        let wanted = events.first().and_then(wanted);
        Ok((events.iter().find_map(epoch), wanted))
    }

    /// Tells an engine all that is kept, and gives what this brain has chosen for its spaces.
    ///
    /// # Errors
    /// When the log does not answer, or holds what cannot be read.
    pub async fn restore(&mut self, engine: &mut Engine) -> Result<Selections, SharingError> {
        let mut selections = Selections::new();
        let mut authors: BTreeMap<(SpaceId, BrainKey), Vec<Certificate>> = BTreeMap::new();
        let types = ["space.control", "space.chain_begun", "space.fork_proven", "space.received", "peer."];
        let more = ["space.selection_changed", "space.epoch_begun", "memory.shared", "memory.erased"];
        let event_types = types.iter().chain(&more).map(|name| (*name).to_owned()).collect();
        let filter = Filter { stream_prefixes: Vec::new(), event_types };
        let mut forks = Vec::new();
        let published = self.published().await?;
        let mut from = Some(Position::START.next());
        while let Some(position) = from {
            let page = self.handler.store().read_all(position, Direction::Forwards, &filter, PAGE).await?;
            for event in &page.events {
                if event.position > published && &*event.event_type == "memory.shared" {
                    let memory = memory_of_stream(&event.stream);
                    memory.into_iter().for_each(|memory| self.note_entering(memory, true));
                }
                self.recall(event, engine, &mut selections, &mut authors, &mut forks)?;
            }
            from = page.next;
        }
        let own: Vec<Certificate> = engine.certificates_of(engine.brain()).cloned().collect();
        let spaces: Vec<SpaceId> = engine.replica().spaces().map(cairn_sync::space::Space::id).collect();
        for space in spaces {
            authors.entry((space, engine.brain())).or_default().extend(own.iter().cloned());
        }
        for ((space, author), certificates) in authors {
            for certificate in certificates {
                let chain = ChainId { space, author, epoch: certificate.epoch(), lane: Lane::Content };
                let stream = chain_stream(chain);
                let last = self.handler.store().read_stream(&stream, Revision(u64::MAX), Direction::Backwards, 1);
                if let Some(last) = last.await?.first() {
                    engine.restore_content(&read_entry(last)?);
                }
            }
        }
        forks.iter().for_each(|fork| engine.restore_fork(fork));
        engine.heed_rosters();
        // The node may have stopped between the owner's word and what follows from it.
        let erased = engine.replica().spaces().map(|space| (space.id(), space.erased().keys().copied().collect()));
        let erased: Vec<(SpaceId, Vec<MemoryId>)> = erased.collect();
        for (space, memories) in erased {
            self.erase(space, &memories, engine).await?;
        }
        Ok(selections)
    }

    fn recall(
        &mut self,
        event: &RecordedEvent,
        engine: &mut Engine,
        selections: &mut Selections,
        authors: &mut BTreeMap<(SpaceId, BrainKey), Vec<Certificate>>,
        forks: &mut Vec<Fork>,
    ) -> Result<(), SharingError> {
        let damaged = || SharingError::Damaged { position: event.position };
        if &*event.event_type == "space.control" {
            engine.restore_control(read_entry(event)?);
            return Ok(());
        }
        if &*event.event_type == "memory.erased" {
            let by = read_metadata(event).map_err(|_| damaged())?;
            let memory = memory_of_stream(&event.stream).filter(|_| by.truth == cairn_domain::truth::Truth::User);
            self.erased.extend(memory);
            return Ok(());
        }
        if event.erased {
            return Ok(());
        }
        let space = space_of_stream(&event.stream);
        match Event::decode(&event.event_type, event.schema_version, &event.data).map_err(|_| damaged())? {
            Event::Memory(MemoryEvent::Shared(Shared { space })) => {
                let memory = memory_of_stream(&event.stream).ok_or_else(damaged)?;
                self.note_place(memory, space.and_then(|space| space.parse().ok()));
            }
            Event::Space(SpaceEvent::ChainBegun(ChainBegun { certificate })) => {
                let certificate = read_certificate(&certificate).ok_or_else(damaged)?;
                let place = (space.ok_or_else(damaged)?, certificate.brain());
                engine.restore_certificate(certificate.clone());
                authors.entry(place).or_default().push(certificate);
            }
            Event::Space(SpaceEvent::EpochBegun(EpochBegun { certificate })) => {
                engine.restore_certificate(read_certificate(&certificate).ok_or_else(damaged)?);
            }
            Event::Space(SpaceEvent::ForkProven(ForkProven { known, other })) => {
                let read = |text: &str| decode_header(text).map(Box::new).ok_or_else(damaged);
                forks.push(Fork { known: read(&known)?, other: read(&other)? });
            }
            Event::Space(SpaceEvent::Received(SpaceReceived { by, receipt })) => {
                let by: BrainKey = by.parse().map_err(|_| damaged())?;
                let receipt =
                    decode(&receipt).and_then(|bytes| Receipt::parse(&bytes).ok()).ok_or_else(damaged)?;
                engine.restore_receipt(by, &receipt);
            }
            Event::Space(SpaceEvent::SelectionChanged(selection)) => {
                let chosen = Chosen { selection, at: event.position };
                selections.insert(space.ok_or_else(damaged)?, chosen);
            }
            Event::Peer(PeerEvent::Known(known)) => {
                let brain = brain_of_stream(&event.stream).ok_or_else(damaged)?;
                engine.restore_peer(brain, read_peer(known).ok_or_else(damaged)?);
            }
            Event::Peer(PeerEvent::Invited(PeerInvited { secret, expires_at, device })) => {
                let secret = secret.parse().map_err(|_| damaged())?;
                engine.restore_invitation(secret, Invitation { expires_at, device });
            }
            Event::Peer(PeerEvent::DevicesListed(DevicesListed { roster, certificate, succession })) => {
                if let Some(certificate) = certificate {
                    engine.restore_certificate(read_certificate(&certificate).ok_or_else(damaged)?);
                }
                let succession =
                    succession.map_or(Some(Vec::new()), |steps| decode(&steps)).ok_or_else(damaged)?;
                let roster = decode(&roster).and_then(|bytes| Roster::parse(&bytes, &succession).ok());
                let roster = roster.ok_or_else(damaged)?;
                engine.restore_roster(roster);
            }
            Event::Peer(PeerEvent::InvitationEnded(InvitationEnded { secret })) => {
                engine.forget_invitation(secret.parse().map_err(|_| damaged())?);
            }
            _ => {}
        }
        Ok(())
    }
}

fn epoch(event: &RecordedEvent) -> Option<Certificate> {
    match Event::decode(&event.event_type, event.schema_version, &event.data) {
        Ok(Event::Space(SpaceEvent::EpochBegun(EpochBegun { certificate }))) => read_certificate(&certificate),
        Ok(_) | Err(_) => None,
    }
}

fn wanted(event: &RecordedEvent) -> Option<Epoch> {
    match Event::decode(&event.event_type, event.schema_version, &event.data) {
        Ok(Event::Space(SpaceEvent::EpochWanted(EpochWanted { epoch }))) => {
            hex::decode(epoch).ok()?.try_into().ok().map(Epoch)
        }
        Ok(_) | Err(_) => None,
    }
}

fn read_certificate(text: &str) -> Option<Certificate> {
    Certificate::parse(&decode(text)?).ok()
}

fn read_peer(known: PeerKnown) -> Option<Peer> {
    let devices = known.devices.into_iter().map(|(device, addresses)| Some((device.parse().ok()?, addresses)));
    Some(Peer { name: known.name, devices: devices.collect::<Option<_>>()?, blocked: known.blocked })
}
