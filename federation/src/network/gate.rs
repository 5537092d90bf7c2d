//! The first behaviour a connection meets: it refuses everybody whom the policy does not let in.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use super::door::{Door, Strangers};
use super::policy::Policy;

/// libp2p's own allow list knows only friends. This one also lets in strangers while the door is open, few at a time,
/// and the relays that were configured.
pub(super) struct Behaviour {
    door: Door,
}

impl Behaviour {
    pub(super) fn new(policy: Arc<Policy>, places: Strangers) -> Self {
        Self { door: Door::new(policy, places) }
    }

    /// See [`Door::unwelcome`].
    pub(super) fn unwelcome(&mut self, now: Instant) -> Vec<PeerId> {
        self.door.unwelcome(now)
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.door.admit_inbound(connection, peer, Instant::now()).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.door.admit_outbound(peer).map_err(ConnectionDenied::new)?;
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.door.admit_outbound(Some(peer)).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionClosed(closed) => self.door.left(closed.connection_id),
            // Another behaviour has refused it.
            FromSwarm::ListenFailure(failure) => self.door.left(failure.connection_id),
            // Everything else is no concern of a gate; libp2p may add more at any time.
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
