//! Keeps this node reachable through the relays that were configured, and asks each as a rendezvous point.

use std::time::Instant;

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::rendezvous::{Cookie, Namespace, client};
use libp2p::{Multiaddr, PeerId, Swarm};

use super::hints::Hints;
use crate::network::behaviour::Behaviour;
use crate::network::limits::{MAX_DISCOVERED, REGISTRATION_SECONDS, RELAY_RETRY, RENDEZVOUS_INTERVAL};

/// Where nodes of this kind register themselves.
const NAMESPACE: &str = "cairn";

pub(super) struct Relays(Vec<Relay>);

struct Relay {
    peer: PeerId,
    address: Multiaddr,
    /// The listener that holds the reservation, or is about to.
    listener: Option<ListenerId>,
    /// When to listen next, if there is no listener.
    retry_at: Option<Instant>,
    asked: Option<Instant>,
    registered: Option<Instant>,
    cookie: Option<Cookie>,
}

fn namespace() -> Namespace {
    Namespace::from_static(NAMESPACE)
}

impl Relays {
    pub(super) fn new(relays: Vec<(PeerId, Multiaddr)>) -> Self {
        let relay = |(peer, address)| Relay {
            peer,
            address,
            listener: None,
            retry_at: None,
            asked: None,
            registered: None,
            cookie: None,
        };
        Self(relays.into_iter().map(relay).collect())
    }

    /// Listens where there is no listener, and asks who else is there.
    pub(super) fn on_tick(&mut self, swarm: &mut Swarm<Behaviour>, now: Instant) {
        for relay in &mut self.0 {
            if relay.listener.is_none() && relay.retry_at.is_none_or(|at| now >= at) {
                relay.listen(swarm, now);
            }
            if swarm.is_connected(&relay.peer) {
                relay.discover(swarm, now);
                if relay.registered.is_none_or(|at| now.duration_since(at).as_secs() > REGISTRATION_SECONDS / 2) {
                    relay.register(swarm);
                }
            }
        }
    }

    /// Does at once what would be done within seconds.
    pub(super) fn on_connected(&mut self, swarm: &mut Swarm<Behaviour>, peer: PeerId) {
        if let Some(relay) = self.0.iter_mut().find(|relay| relay.peer == peer) {
            relay.discover(swarm, Instant::now());
            relay.register(swarm);
        }
    }

    /// To be called when the external addresses of this node changed: they are what is registered.
    pub(super) fn register(&mut self, swarm: &mut Swarm<Behaviour>) {
        for relay in &mut self.0 {
            if swarm.is_connected(&relay.peer) {
                relay.register(swarm);
            }
        }
    }

    pub(super) fn on_listener_closed(&mut self, listener: ListenerId, now: Instant) {
        if let Some(relay) = self.0.iter_mut().find(|relay| relay.listener == Some(listener)) {
            relay.listener = None;
            relay.retry_at = Some(now + RELAY_RETRY);
        }
    }

    pub(super) fn on_rendezvous(&mut self, event: client::Event, hints: &mut Hints) {
        let relay_of = |peer: PeerId| move |relay: &&mut Relay| relay.peer == peer;
        match event {
            client::Event::Discovered { rendezvous_node, registrations, cookie } => {
                let records = registrations.iter().map(|registration| &registration.record);
                let each = |record: &libp2p::core::PeerRecord| {
                    let peer = record.peer_id();
                    record.addresses().iter().map(move |address| (peer, address.clone())).collect::<Vec<_>>()
                };
                hints.discovered(records.flat_map(each));
                if let Some(relay) = self.0.iter_mut().find(relay_of(rendezvous_node)) {
                    relay.cookie = Some(cookie);
                }
            }
            client::Event::Registered { rendezvous_node, .. } => {
                if let Some(relay) = self.0.iter_mut().find(relay_of(rendezvous_node)) {
                    relay.registered = Some(Instant::now());
                    relay.asked = None;
                }
            }
            client::Event::DiscoverFailed { rendezvous_node, error, .. } => {
                tracing::debug!(relay = %rendezvous_node, ?error, "a rendezvous point did not answer");
                // The cookie may be one that it has forgotten.
                if let Some(relay) = self.0.iter_mut().find(relay_of(rendezvous_node)) {
                    relay.cookie = None;
                }
            }
            client::Event::RegisterFailed { rendezvous_node, error, .. } => {
                tracing::debug!(relay = %rendezvous_node, ?error, "a rendezvous point refused the registration");
            }
            client::Event::Expired { peer } => tracing::debug!(%peer, "a registration expired"),
        }
    }
}

impl Relay {
    fn listen(&mut self, swarm: &mut Swarm<Behaviour>, now: Instant) {
        match swarm.listen_on(self.address.clone().with(Protocol::P2pCircuit)) {
            Ok(listener) => self.listener = Some(listener),
            Err(error) => {
                tracing::debug!(relay = %self.address, %error, "cannot listen on a relay");
                self.retry_at = Some(now + RELAY_RETRY);
            }
        }
    }

    fn discover(&mut self, swarm: &mut Swarm<Behaviour>, now: Instant) {
        if self.asked.is_some_and(|asked| now.duration_since(asked) < RENDEZVOUS_INTERVAL) {
            return;
        }
        self.asked = Some(now);
        let rendezvous = &mut swarm.behaviour_mut().rendezvous;
        rendezvous.discover(Some(namespace()), self.cookie.clone(), Some(MAX_DISCOVERED), self.peer);
    }

    fn register(&mut self, swarm: &mut Swarm<Behaviour>) {
        let rendezvous = &mut swarm.behaviour_mut().rendezvous;
        match rendezvous.register(namespace(), self.peer, Some(REGISTRATION_SECONDS)) {
            Ok(()) => {}
            Err(error) => tracing::debug!(relay = %self.peer, %error, "nothing to register yet"),
        }
    }
}
