//! The behaviour that opens one substream for frames with each peer, whatever the number of connections.
//!
//! Of two peers the one with the smaller peer id *leads*: it opens the substream, on the connection of its choice, and
//! the other one takes what comes. So two peers that dial each other at once need not agree on which connection to
//! keep: the second one has no substream and is closed when it was idle for long enough. The leader moves to another
//! connection in two cases: the one in use ended, or it is relayed and a direct one came up.
//!
//! A leader can believe in a connection that the other one has lost, for example because that one was killed and came
//! back. Who does not lead and is left without a substream for [`ASK_AFTER`] therefore asks for one, by opening it. The
//! leader takes that in place of what it has.

mod handler;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, Stream, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::limits::{ASK_AFTER, MAX_LINKS_PER_PEER, OPEN_PATIENCE};
use super::policy::Policy;
use handler::Handler;

pub(super) struct Behaviour {
    local: PeerId,
    policy: Arc<Policy>,
    peers: HashMap<PeerId, Peer>,
    pending: VecDeque<ToSwarm<Event, handler::In>>,
}

/// What the behaviour reports to the driver.
#[derive(Debug)]
pub(super) enum Event {
    /// A substream for frames is open, and takes the place of the one before it.
    Opened { peer: PeerId, link: Link, stream: Stream },
    /// The peer does not exchange frames with this node.
    Declined { peer: PeerId },
}

/// A connection as far as frames are concerned.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) connection: ConnectionId,
    pub(crate) address: Multiaddr,
    pub(crate) relayed: bool,
    /// Whether this node dialled, so that it can dial the address again.
    pub(crate) dialled: bool,
}

struct Peer {
    /// The oldest first.
    links: Vec<Link>,
    /// Links on which the peer declined frames; it may offer them later.
    declined: Vec<ConnectionId>,
    /// The link being asked for a substream, and since when.
    opening: Option<(ConnectionId, Instant)>,
    /// The link whose substream is in use.
    in_use: Option<ConnectionId>,
    /// When it was last that a link came up, or the one in use ended.
    changed: Instant,
}

impl Peer {
    fn new(now: Instant) -> Self {
        Self { links: Vec::new(), declined: Vec::new(), opening: None, in_use: None, changed: now }
    }

    fn link(&self, connection: ConnectionId) -> Option<&Link> {
        self.links.iter().find(|link| link.connection == connection)
    }

    fn forget(&mut self, connection: ConnectionId, now: Instant) {
        self.links.retain(|link| link.connection != connection);
        self.declined.retain(|declined| *declined != connection);
        self.opening.take_if(|(current, _)| *current == connection);
        if self.in_use.take_if(|current| *current == connection).is_some() {
            self.changed = now;
        }
    }

    /// The link to open next: the newest direct one, or else the newest relayed one, unless what there is already is
    /// as good. The newest is the one that is least likely to be dead. Who does not `lead` waits first.
    fn wanted(&self, leads: bool, now: Instant) -> Option<ConnectionId> {
        if !leads && (self.in_use.is_some() || now.duration_since(self.changed) < ASK_AFTER) {
            return None;
        }
        let usable = |link: &&Link| !self.declined.contains(&link.connection);
        let best = self.links.iter().rev().filter(usable).min_by_key(|link| link.relayed)?;
        let as_good = |current: ConnectionId| self.link(current).is_some_and(|link| link.relayed <= best.relayed);
        // An answer that takes so long may never come; but it is not asked for twice on one link.
        let is_under_way = |(current, since): (ConnectionId, Instant)| {
            current == best.connection || as_good(current) && now.duration_since(since) < OPEN_PATIENCE
        };
        let has_it = self.in_use.is_some_and(as_good) || self.opening.is_some_and(is_under_way);
        (!has_it).then_some(best.connection)
    }

    /// The oldest link that is not in use, if there are more than there should be.
    fn superfluous(&self) -> Option<ConnectionId> {
        let unused = |link: &&Link| self.in_use != Some(link.connection);
        let oldest = self.links.iter().find(unused).map(|link| link.connection);
        oldest.filter(|_| self.links.len() > MAX_LINKS_PER_PEER)
    }
}

impl Behaviour {
    pub(super) fn new(local: PeerId, policy: Arc<Policy>) -> Self {
        Self { local, policy, peers: HashMap::new(), pending: VecDeque::new() }
    }

    /// To be called when the standing of a peer changed.
    pub(super) fn standing_changed(&mut self, peer: PeerId) {
        let serves = self.serves(peer);
        let Some(state) = self.peers.get(&peer) else { return };
        for link in &state.links {
            self.pending.push_back(notify(peer, link.connection, handler::In::Serve(serves)));
        }
        self.open_best(peer);
    }

    /// To be called when the substream of a connection is done with, and the connection is about to be closed.
    pub(super) fn ended(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.forget(connection, Instant::now());
        }
        self.open_best(peer);
    }

    /// Asks a peer that is connected once more for a substream, even where it declined one.
    pub(super) fn retry(&mut self, peer: PeerId) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.declined.clear();
        }
        self.open_best(peer);
    }

    /// To be called every now and then: asks those for a substream that have not opened one.
    pub(super) fn on_tick(&mut self) {
        let without = self.peers.iter().filter(|(_, state)| state.in_use.is_none());
        for peer in without.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.open_best(peer);
        }
    }

    /// Whether there is a connection that is not about to be closed.
    pub(super) fn is_linked(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|state| !state.links.is_empty())
    }

    /// Whether there is one that is not relayed.
    pub(super) fn is_linked_directly(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|state| state.links.iter().any(|link| !link.relayed))
    }

    /// Where a peer was dialled, if that was how this connection came about, and it is not relayed.
    pub(super) fn dialled_at(&self, peer: &PeerId, connection: ConnectionId) -> Option<&Multiaddr> {
        let link = self.peers.get(peer)?.link(connection)?;
        (link.dialled && !link.relayed).then_some(&link.address)
    }

    /// Relayed connections that are not in use.
    pub(super) fn relayed_beside(&self, peer: &PeerId) -> Vec<ConnectionId> {
        let Some(state) = self.peers.get(peer) else { return Vec::new() };
        let beside = state.links.iter().filter(|link| link.relayed && state.in_use != Some(link.connection));
        beside.map(|link| link.connection).collect()
    }

    /// All connections but one.
    pub(super) fn beside(&self, peer: &PeerId, but: ConnectionId) -> Vec<ConnectionId> {
        let links = self.peers.get(peer).map_or(&[][..], |state| &state.links);
        links.iter().map(|link| link.connection).filter(|connection| *connection != but).collect()
    }

    /// The connection that has to make room for newer ones of the same peer, if there are too many.
    pub(super) fn superfluous(&self, peer: &PeerId) -> Option<ConnectionId> {
        self.peers.get(peer).and_then(Peer::superfluous)
    }

    fn leads(&self, peer: PeerId) -> bool {
        self.local < peer
    }

    /// Whether substreams of this peer are taken.
    fn serves(&self, peer: PeerId) -> bool {
        self.policy.standing(&peer).has_frames()
    }

    fn open_best(&mut self, peer: PeerId) {
        let (leads, may_open, now) = (self.leads(peer), self.serves(peer), Instant::now());
        let Some(state) = self.peers.get_mut(&peer).filter(|_| may_open) else { return };
        if let Some(connection) = state.wanted(leads, now) {
            state.opening = Some((connection, now));
            self.pending.push_back(notify(peer, connection, handler::In::Open));
        }
    }

    fn connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let address = endpoint.get_remote_address().clone();
        let link = Link { connection, address, relayed: endpoint.is_relayed(), dialled: endpoint.is_dialer() };
        let now = Instant::now();
        let state = self.peers.entry(peer).or_insert_with(|| Peer::new(now));
        state.links.push(link);
        state.changed = now;
        self.open_best(peer);
    }

    fn closed(&mut self, peer: PeerId, connection: ConnectionId, remaining: usize) {
        if remaining == 0 {
            self.peers.remove(&peer);
        } else {
            self.ended(peer, connection);
        }
    }

    /// A substream that this side has opened.
    fn on_opened(&mut self, peer: PeerId, connection: ConnectionId, stream: Stream) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        // What was not waited for any more, or came the other way meanwhile, is dropped.
        let was_wanted = state.opening.take_if(|(opening, _)| *opening == connection).is_some();
        if was_wanted && state.in_use != Some(connection) {
            self.use_stream(peer, connection, stream);
        }
    }

    /// A substream that the other side has opened.
    fn on_asked(&mut self, peer: PeerId, connection: ConnectionId, stream: Stream) {
        let leads = self.leads(peer);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let opens = state.opening.is_some_and(|(opening, _)| opening == connection);
        // A leader's own substream counts, where both were opened at once on one connection.
        if leads && (opens || state.in_use == Some(connection)) {
            return;
        }
        state.opening = None;
        self.use_stream(peer, connection, stream);
    }

    fn use_stream(&mut self, peer: PeerId, connection: ConnectionId, stream: Stream) {
        let Some(state) = self.peers.get_mut(&peer).filter(|_| self.policy.standing(&peer).has_frames()) else {
            return;
        };
        let Some(link) = state.link(connection).cloned() else { return };
        state.in_use = Some(connection);
        self.pending.push_back(ToSwarm::GenerateEvent(Event::Opened { peer, link, stream }));
    }

    fn on_declined(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.opening.take_if(|(opening, _)| *opening == connection);
            state.declined.push(connection);
        }
        self.pending.push_back(ToSwarm::GenerateEvent(Event::Declined { peer }));
        self.open_best(peer);
    }

    fn on_offered(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.declined.retain(|declined| *declined != connection);
        }
        self.open_best(peer);
    }
}

fn notify(peer_id: PeerId, connection: ConnectionId, event: handler::In) -> ToSwarm<Event, handler::In> {
    ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.serves(peer)))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.serves(peer)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(made) => {
                self.connected(made.peer_id, made.connection_id, made.endpoint);
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.closed(closed.peer_id, closed.connection_id, closed.remaining_established);
            }
            // Addresses, listeners and dials concern other behaviours; libp2p may add more at any time.
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            handler::Out::Opened(stream) => self.on_opened(peer, connection, stream),
            handler::Out::Asked(stream) => self.on_asked(peer, connection, stream),
            handler::Out::Declined => self.on_declined(peer, connection),
            handler::Out::Offered => self.on_offered(peer, connection),
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // No waker is kept: whoever changes this state polls the swarm afterwards.
        self.pending.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LEADS: bool = true;

    fn link(id: usize, relayed: bool) -> Link {
        let connection = ConnectionId::new_unchecked(id);
        Link { connection, address: Multiaddr::empty(), relayed, dialled: false }
    }

    fn peer(links: &[(usize, bool)], now: Instant) -> Peer {
        Peer { links: links.iter().map(|(id, relayed)| link(*id, *relayed)).collect(), ..Peer::new(now) }
    }

    fn id(id: usize) -> Option<ConnectionId> {
        Some(ConnectionId::new_unchecked(id))
    }

    #[test]
    fn the_newest_direct_link_is_wanted_and_nothing_else_once_it_is_open() {
        let now = Instant::now();
        let mut state = peer(&[(1, true), (2, false), (3, false), (4, true)], now);
        assert_eq!(state.wanted(LEADS, now), id(3));
        state.opening = id(3).map(|link| (link, now));
        assert_eq!(state.wanted(LEADS, now), None);
        (state.opening, state.in_use) = (None, id(3));
        state.links.push(link(5, false));
        assert_eq!(state.wanted(LEADS, now), None, "another one is no better");
        state.forget(ConnectionId::new_unchecked(3), now);
        assert_eq!(state.wanted(LEADS, now), id(5));
    }

    #[test]
    fn a_link_that_does_not_answer_gives_way_to_a_newer_one() {
        let now = Instant::now();
        let mut state = peer(&[(1, false)], now);
        state.opening = id(1).map(|link| (link, now));
        state.links.push(link(2, false));
        assert_eq!(state.wanted(LEADS, now), None, "both were dialled at once, perhaps");
        assert_eq!(state.wanted(LEADS, now + OPEN_PATIENCE), id(2));
        state.opening = id(2).map(|link| (link, now));
        assert_eq!(state.wanted(LEADS, now + 2 * OPEN_PATIENCE), None, "nothing is asked for twice");
    }

    #[test]
    fn a_relayed_link_gives_way_to_a_direct_one_and_never_the_other_way() {
        let now = Instant::now();
        let mut state = peer(&[(1, true)], now);
        assert_eq!(state.wanted(LEADS, now), id(1));
        state.in_use = id(1);
        assert_eq!(state.wanted(LEADS, now), None);
        state.links.push(link(2, false));
        assert_eq!(state.wanted(LEADS, now), id(2));
        state.in_use = id(2);
        state.links.push(link(3, true));
        assert_eq!(state.wanted(LEADS, now), None);
    }

    #[test]
    fn who_does_not_lead_asks_only_after_waiting_in_vain() {
        let now = Instant::now();
        let mut state = peer(&[(1, true), (2, false)], now);
        assert_eq!(state.wanted(!LEADS, now + ASK_AFTER - Duration::from_millis(1)), None);
        assert_eq!(state.wanted(!LEADS, now + ASK_AFTER), id(2));
        state.in_use = id(1);
        assert_eq!(state.wanted(!LEADS, now + ASK_AFTER), None, "which link is used is for the leader to say");
    }

    #[test]
    fn a_link_that_declined_is_left_alone() {
        let now = Instant::now();
        let mut state = peer(&[(1, false)], now);
        state.declined.extend(id(1));
        assert_eq!(state.wanted(LEADS, now), None);
        state.links.push(link(2, true));
        assert_eq!(state.wanted(LEADS, now), id(2));
    }

    #[test]
    fn the_oldest_link_that_is_not_in_use_makes_room() {
        let now = Instant::now();
        let links: Vec<_> = (1..=MAX_LINKS_PER_PEER).map(|id| (id, false)).collect();
        let mut state = peer(&links, now);
        state.in_use = id(1);
        assert_eq!(state.superfluous(), None);
        state.links.push(link(100, false));
        assert_eq!(state.superfluous(), id(2));
    }
}
