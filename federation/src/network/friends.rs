//! Keeps a service for friends: to strangers the node does not even say that it speaks the protocol.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::derive_prelude::Either;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use super::policy::{Policy, Standing};

/// A behaviour that learns only of connections whose peer was a friend when they were made. A stranger that was
/// allowed since has to connect again.
///
/// The behaviour must notify handlers by their connection, never [any](libp2p::swarm::NotifyHandler::Any) of a peer's:
/// that one could belong to a connection that it does not know of, which would panic.
pub(super) struct FriendsOnly<B> {
    inner: B,
    policy: Arc<Policy>,
    known: HashMap<ConnectionId, PeerId>,
}

impl<B> FriendsOnly<B> {
    pub(super) fn new(inner: B, policy: Arc<Policy>) -> Self {
        Self { inner, policy, known: HashMap::new() }
    }

    fn admits(&mut self, connection: ConnectionId, peer: PeerId) -> bool {
        let admits = self.policy.standing(&peer) == Standing::Friend;
        if admits {
            self.known.insert(connection, peer);
        }
        admits
    }

    /// How many other connections of this peer the behaviour knows of.
    fn others(&self, connection: ConnectionId, peer: PeerId) -> usize {
        self.known.iter().filter(|(other, of)| **other != connection && **of == peer).count()
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for FriendsOnly<B> {
    type ConnectionHandler = Either<THandler<B>, dummy::ConnectionHandler>;
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
        if !self.admits(connection, peer) {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.inner.handle_established_inbound_connection(connection, peer, local, remote).map(Either::Left)
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
        if !self.admits(connection, peer) {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port).map(Either::Left)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(made) => {
                if self.known.contains_key(&made.connection_id) {
                    let other_established = self.others(made.connection_id, made.peer_id);
                    let made = ConnectionEstablished { other_established, ..made };
                    self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(made));
                }
            }
            FromSwarm::ConnectionClosed(closed) => {
                if self.known.remove(&closed.connection_id).is_some() {
                    let remaining_established = self.others(closed.connection_id, closed.peer_id);
                    let closed = ConnectionClosed { remaining_established, ..closed };
                    self.inner.on_swarm_event(FromSwarm::ConnectionClosed(closed));
                }
            }
            FromSwarm::AddressChange(change) => {
                if self.known.contains_key(&change.connection_id) {
                    self.inner.on_swarm_event(FromSwarm::AddressChange(change));
                }
            }
            FromSwarm::DialFailure(failure) => {
                self.known.remove(&failure.connection_id);
                self.inner.on_swarm_event(FromSwarm::DialFailure(failure));
            }
            FromSwarm::ListenFailure(failure) => {
                self.known.remove(&failure.connection_id);
                self.inner.on_swarm_event(FromSwarm::ListenFailure(failure));
            }
            // The rest is about no connection.
            other => self.inner.on_swarm_event(other),
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            Either::Left(event) => self.inner.on_connection_handler_event(peer, connection, event),
            Either::Right(never) => match never {},
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx).map(|event| event.map_in(Either::Left))
    }
}
