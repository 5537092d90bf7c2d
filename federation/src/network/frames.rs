//! The behaviour that opens one substream for frames with each peer, whatever the number of connections.
//!
//! Of two peers the one with the smaller peer id *leads*: it alone opens the substream, on the connection of its
//! choice, and the other one takes what comes. So two peers that dial each other at once need not agree on which
//! connection to keep: the second one has no substream and is closed when it was idle for long enough. The leader
//! moves to another connection in two cases: the one in use ended, or it is relayed and a direct one came up.

mod handler;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, Stream, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

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
}

#[derive(Default)]
struct Peer {
    links: Vec<Link>,
    /// Links on which the peer declined frames; it may offer them later.
    declined: Vec<ConnectionId>,
    /// The link being asked for a substream. Only a leader has one.
    opening: Option<ConnectionId>,
    /// The link whose substream is in use. Only a leader keeps track of it.
    in_use: Option<ConnectionId>,
}

impl Peer {
    fn link(&self, connection: ConnectionId) -> Option<&Link> {
        self.links.iter().find(|link| link.connection == connection)
    }

    fn forget(&mut self, connection: ConnectionId) {
        self.links.retain(|link| link.connection != connection);
        self.declined.retain(|declined| *declined != connection);
        for slot in [&mut self.opening, &mut self.in_use] {
            slot.take_if(|current| *current == connection);
        }
    }

    /// The link that a leader should open next: the oldest direct one, or else the oldest relayed one, unless what it
    /// has already is as good.
    fn wanted(&self) -> Option<ConnectionId> {
        let usable = |link: &&Link| !self.declined.contains(&link.connection);
        let best = self.links.iter().filter(usable).min_by_key(|link| link.relayed)?;
        let good_enough = |current: Option<ConnectionId>| {
            current.and_then(|current| self.link(current)).is_some_and(|current| current.relayed <= best.relayed)
        };
        (!good_enough(self.in_use) && !good_enough(self.opening)).then_some(best.connection)
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
            state.forget(connection);
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

    fn leads(&self, peer: PeerId) -> bool {
        self.local < peer
    }

    /// Whether substreams of this peer are taken.
    fn serves(&self, peer: PeerId) -> bool {
        !self.leads(peer) && self.policy.standing(&peer).has_frames()
    }

    fn open_best(&mut self, peer: PeerId) {
        let may_open = self.leads(peer) && self.policy.standing(&peer).has_frames();
        let Some(state) = self.peers.get_mut(&peer).filter(|_| may_open) else { return };
        if let Some(connection) = state.wanted() {
            state.opening = Some(connection);
            self.pending.push_back(notify(peer, connection, handler::In::Open));
        }
    }

    fn connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let address = endpoint.get_remote_address().clone();
        let link = Link { connection, address, relayed: endpoint.is_relayed() };
        self.peers.entry(peer).or_default().links.push(link);
        self.open_best(peer);
    }

    fn closed(&mut self, peer: PeerId, connection: ConnectionId, remaining: usize) {
        if remaining == 0 {
            self.peers.remove(&peer);
        } else {
            self.ended(peer, connection);
        }
    }

    fn on_stream(&mut self, peer: PeerId, connection: ConnectionId, stream: Stream) {
        if !self.policy.standing(&peer).has_frames() {
            return;
        }
        let leads = self.leads(peer);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(link) = state.link(connection).cloned() else { return };
        if leads {
            state.opening.take_if(|opening| *opening == connection);
            state.in_use = Some(connection);
        }
        self.pending.push_back(ToSwarm::GenerateEvent(Event::Opened { peer, link, stream }));
    }

    fn on_declined(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.opening.take_if(|opening| *opening == connection);
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
            handler::Out::Opened(stream) => self.on_stream(peer, connection, stream),
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
    use super::*;

    fn peer(links: &[(usize, bool)]) -> Peer {
        let link = |&(id, relayed): &(usize, bool)| Link {
            connection: ConnectionId::new_unchecked(id),
            address: Multiaddr::empty(),
            relayed,
        };
        Peer { links: links.iter().map(link).collect(), ..Peer::default() }
    }

    fn id(id: usize) -> Option<ConnectionId> {
        Some(ConnectionId::new_unchecked(id))
    }

    #[test]
    fn the_oldest_direct_link_is_wanted_and_nothing_else_once_it_is_open() {
        let mut state = peer(&[(1, true), (2, false), (3, false)]);
        assert_eq!(state.wanted(), id(2));
        state.opening = id(2);
        assert_eq!(state.wanted(), None);
        (state.opening, state.in_use) = (None, id(2));
        assert_eq!(state.wanted(), None);
        state.forget(ConnectionId::new_unchecked(2));
        assert_eq!(state.wanted(), id(3));
    }

    #[test]
    fn a_relayed_link_gives_way_to_a_direct_one_and_never_the_other_way() {
        let mut state = peer(&[(1, true)]);
        assert_eq!(state.wanted(), id(1));
        state.in_use = id(1);
        assert_eq!(state.wanted(), None);
        state.links.push(Link {
            connection: ConnectionId::new_unchecked(2),
            address: Multiaddr::empty(),
            relayed: false,
        });
        assert_eq!(state.wanted(), id(2));
        state.in_use = id(2);
        assert_eq!(state.wanted(), None);
    }

    #[test]
    fn a_link_that_declined_is_left_alone() {
        let mut state = peer(&[(1, false)]);
        state.declined.extend(id(1));
        assert_eq!(state.wanted(), None);
        state.links.extend(peer(&[(2, true)]).links);
        assert_eq!(state.wanted(), id(2));
    }
}
