//! The first behaviour a connection meets: it refuses everybody whom the policy does not let in.

use std::collections::HashMap;
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

use super::limits::{MAX_STRANGERS, STRANGER_TIME};
use super::policy::{Policy, Standing};

/// libp2p's own allow list knows only friends. This one also lets in strangers while the door is open, few at a time,
/// and the relays that were configured.
pub(super) struct Behaviour {
    policy: Arc<Policy>,
    /// Connections whose peer was a stranger when they were made; it may have been allowed since.
    strangers: HashMap<ConnectionId, (PeerId, Instant)>,
}

/// Why the gate refused a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("peer {0} is not allowed")]
    NotAllowed(PeerId),
    #[error("a peer is only dialled by its key")]
    Nameless,
    #[error("{MAX_STRANGERS} strangers are connected already")]
    TooManyStrangers,
}

impl Behaviour {
    pub(super) fn new(policy: Arc<Policy>) -> Self {
        Self { policy, strangers: HashMap::new() }
    }

    /// Peers that are connected and may not be any more, and strangers that have been here for too long.
    pub(super) fn unwelcome(&self, now: Instant) -> Vec<PeerId> {
        let overstayed = |since: Instant| now.duration_since(since) >= STRANGER_TIME;
        let strangers = self.strangers.values().filter(|(peer, since)| match self.policy.standing(peer) {
            Standing::Friend | Standing::Relay => false,
            Standing::Stranger => overstayed(*since),
            Standing::Refused => true,
        });
        strangers.map(|(peer, _)| *peer).collect()
    }

    fn admit_inbound(&self, peer: &PeerId) -> Result<(), Refusal> {
        match self.policy.standing(peer) {
            Standing::Friend | Standing::Relay => Ok(()),
            Standing::Stranger if self.connected_strangers() < MAX_STRANGERS => Ok(()),
            Standing::Stranger => Err(Refusal::TooManyStrangers),
            Standing::Refused => Err(Refusal::NotAllowed(*peer)),
        }
    }

    /// A stranger is never dialled: whoever wants to reach a peer allows it first.
    fn admit_outbound(&self, peer: Option<PeerId>) -> Result<(), Refusal> {
        let peer = peer.ok_or(Refusal::Nameless)?;
        match self.policy.standing(&peer) {
            Standing::Friend | Standing::Relay => Ok(()),
            Standing::Stranger | Standing::Refused => Err(Refusal::NotAllowed(peer)),
        }
    }

    fn connected_strangers(&self) -> usize {
        let is_stranger = |peer: &PeerId| self.policy.standing(peer) == Standing::Stranger;
        self.strangers.values().filter(|(peer, _)| is_stranger(peer)).count()
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit_inbound(&peer).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.admit_outbound(peer).map_err(ConnectionDenied::new)?;
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
        self.admit_outbound(Some(peer)).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(made)
                if self.policy.standing(&made.peer_id) == Standing::Stranger =>
            {
                self.strangers.insert(made.connection_id, (made.peer_id, Instant::now()));
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.strangers.remove(&closed.connection_id);
            }
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
