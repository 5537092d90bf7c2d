//! Keeps a service for friends: to strangers the node does not even say that it speaks the protocol.

mod handler;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::policy::{Policy, Standing};
use handler::Handler;

/// A behaviour that serves friends alone. A stranger that becomes one, because the two have been paired, is served from
/// then on, on the connection that there is.
///
/// What the behaviour asks of others by itself is not held back.
pub(super) struct FriendsOnly<B> {
    inner: B,
    policy: Arc<Policy>,
    /// Whether a connection is served, of each.
    served: HashMap<ConnectionId, (PeerId, Arc<AtomicBool>)>,
}

impl<B: NetworkBehaviour> FriendsOnly<B> {
    pub(super) fn new(inner: B, policy: Arc<Policy>) -> Self {
        Self { inner, policy, served: HashMap::new() }
    }

    /// To be called when the standing of a peer changed. It takes effect with the next thing that its connections do.
    pub(super) fn standing_changed(&self, peer: PeerId) {
        let is_friend = self.is_friend(&peer);
        for (_, served) in self.served.values().filter(|(of, _)| *of == peer) {
            served.store(is_friend, Ordering::Relaxed);
        }
    }

    fn is_friend(&self, peer: &PeerId) -> bool {
        self.policy.standing(peer) == Standing::Friend
    }

    fn guard(&mut self, connection: ConnectionId, peer: PeerId, inner: THandler<B>) -> THandler<Self> {
        let served = Arc::new(AtomicBool::new(self.is_friend(&peer)));
        self.served.insert(connection, (peer, Arc::clone(&served)));
        Handler::new(inner, served)
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for FriendsOnly<B> {
    type ConnectionHandler = Handler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let inner = self.inner.handle_established_inbound_connection(connection, peer, local, remote)?;
        Ok(self.guard(connection, peer, inner))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let inner = self.inner.handle_established_outbound_connection(connection, peer, address, role, port)?;
        Ok(self.guard(connection, peer, inner))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        let gone = match &event {
            FromSwarm::ConnectionClosed(closed) => Some(closed.connection_id),
            FromSwarm::DialFailure(failure) => Some(failure.connection_id),
            FromSwarm::ListenFailure(failure) => Some(failure.connection_id),
            // The rest is about no connection that ends.
            _ => None,
        };
        if let Some(connection) = gone {
            self.served.remove(&connection);
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}
