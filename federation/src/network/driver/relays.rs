//! Keeps this node reachable through relays, and asks each as a rendezvous point: those that were configured, and
//! friends that relay, where there are fewer than [`RELAYS_WANTED`].

mod offers;

use std::time::Instant;

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::rendezvous::{Cookie, Namespace, client};
use libp2p::{Multiaddr, PeerId, Swarm};

use super::dials;
use super::hints::Hints;
use crate::network::behaviour::Behaviour;
use crate::network::limits::{
    MAX_DISCOVERED, REGISTRATION_SECONDS, RELAY_RETRY, RELAYS_WANTED, RENDEZVOUS_INTERVAL,
};
use crate::network::policy::{Policy, Standing};
use crate::network::relaying::{RelayOrigin, UsedRelay};
use offers::{Addresses, Offers};

/// Where nodes of this kind register themselves.
const NAMESPACE: &str = "cairn";

pub(super) struct Relays {
    used: Vec<Relay>,
    offers: Offers,
    /// Whether friends are asked to relay.
    asks_friends: bool,
}

struct Relay {
    peer: PeerId,
    address: Multiaddr,
    origin: RelayOrigin,
    /// The listener that holds the reservation, or is about to.
    listener: Option<ListenerId>,
    /// Whether the relay has granted one.
    reserved: bool,
    /// How often it was tried in vain since it last had one.
    failures: usize,
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
    /// A node that relays itself can be reached, and asks no friend to relay.
    pub(super) fn new(configured: Vec<(PeerId, Multiaddr)>, asks_friends: bool) -> Self {
        let relay = |(peer, address)| Relay::new(peer, address, RelayOrigin::Configured);
        Self { used: configured.into_iter().map(relay).collect(), offers: Offers::default(), asks_friends }
    }

    /// Takes note that a peer relays for its friends, and where it can be dialled, the best address first.
    pub(super) fn offered(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, now: Instant) {
        if self.asks_friends && !self.uses(&peer) && !addresses.is_empty() {
            self.offers.insert(peer, Addresses::of(addresses), now);
        }
    }

    /// Takes note that a relay has granted a reservation.
    pub(super) fn on_reserved(&mut self, peer: PeerId) {
        if let Some(relay) = self.used.iter_mut().find(|relay| relay.peer == peer) {
            (relay.reserved, relay.failures) = (true, 0);
        }
    }

    /// Those that are used, or would be if they could be.
    pub(super) fn used(&self) -> Vec<UsedRelay> {
        self.used.iter().filter_map(Relay::shown).collect()
    }

    /// Listens where there is no listener, and asks who else is there.
    pub(super) fn on_tick(&mut self, swarm: &mut Swarm<Behaviour>, policy: &Policy, now: Instant) {
        self.give_up(swarm, policy, now);
        self.ask_friends(swarm, policy, now);
        for relay in &mut self.used {
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

    /// Does without friends that do not relay after all, or are friends no more.
    fn give_up(&mut self, swarm: &mut Swarm<Behaviour>, policy: &Policy, now: Instant) {
        let is_over = |relay: &mut Relay| {
            relay.origin == RelayOrigin::Friend
                && (relay.failures >= offers::TRIES || policy.standing(&relay.peer) != Standing::Friend)
        };
        for relay in self.used.extract_if(.., is_over) {
            tracing::debug!(relay = %relay.peer, "a friend does not relay any more");
            if let Some(listener) = relay.listener {
                swarm.remove_listener(listener);
            }
            self.offers.put_off(relay.peer, Addresses::of(vec![relay.address]), now);
        }
    }

    /// Asks friends that relay and are there, until enough do.
    fn ask_friends(&mut self, swarm: &mut Swarm<Behaviour>, policy: &Policy, now: Instant) {
        self.offers.retain(|peer| policy.standing(peer) == Standing::Friend);
        while self.wants_more()
            && let Some((peer, Addresses { best, other })) = self.offers.take(now, |peer| swarm.is_connected(peer))
        {
            tracing::debug!(relay = %peer, address = %best, "a friend is asked to relay");
            // Two behind routers get through to each other by a transport over which both have been seen from outside.
            // Nothing is lost when that fails.
            other.into_iter().for_each(|other| drop(swarm.dial(dials::options(peer, vec![other]))));
            self.used.push(Relay::new(peer, best, RelayOrigin::Friend));
        }
    }

    fn wants_more(&self) -> bool {
        let counts = |relay: &&Relay| match relay.origin {
            RelayOrigin::Configured => relay.reserved,
            RelayOrigin::Friend => true,
        };
        self.used.iter().filter(counts).count() < RELAYS_WANTED
    }

    fn uses(&self, peer: &PeerId) -> bool {
        self.used.iter().any(|relay| relay.peer == *peer)
    }

    /// Does at once what would be done within seconds.
    pub(super) fn on_connected(&mut self, swarm: &mut Swarm<Behaviour>, peer: PeerId) {
        if let Some(relay) = self.used.iter_mut().find(|relay| relay.peer == peer) {
            relay.discover(swarm, Instant::now());
            relay.register(swarm);
        }
    }

    /// To be called when the external addresses of this node changed: they are what is registered.
    pub(super) fn register(&mut self, swarm: &mut Swarm<Behaviour>) {
        for relay in &mut self.used {
            if swarm.is_connected(&relay.peer) {
                relay.register(swarm);
            }
        }
    }

    pub(super) fn on_listener_closed(&mut self, listener: ListenerId, now: Instant) {
        if let Some(relay) = self.used.iter_mut().find(|relay| relay.listener == Some(listener)) {
            (relay.listener, relay.reserved) = (None, false);
            relay.put_off(now);
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
                if let Some(relay) = self.used.iter_mut().find(relay_of(rendezvous_node)) {
                    relay.cookie = Some(cookie);
                }
            }
            client::Event::Registered { rendezvous_node, .. } => {
                if let Some(relay) = self.used.iter_mut().find(relay_of(rendezvous_node)) {
                    relay.registered = Some(Instant::now());
                    relay.asked = None;
                }
            }
            client::Event::DiscoverFailed { rendezvous_node, error, .. } => {
                tracing::debug!(relay = %rendezvous_node, ?error, "a rendezvous point did not answer");
                // The cookie may be one that it has forgotten.
                if let Some(relay) = self.used.iter_mut().find(relay_of(rendezvous_node)) {
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
    fn new(peer: PeerId, address: Multiaddr, origin: RelayOrigin) -> Self {
        let (listener, reserved, failures, retry_at, asked, registered, cookie) = Default::default();
        Self { peer, address, origin, listener, reserved, failures, retry_at, asked, registered, cookie }
    }

    /// `None` for what has no key that is known here, which is not let in.
    fn shown(&self) -> Option<UsedRelay> {
        let relay = self.peer.try_into().ok()?;
        Some(UsedRelay { relay, address: self.address.clone(), origin: self.origin, reserved: self.reserved })
    }

    fn put_off(&mut self, now: Instant) {
        self.failures += 1;
        self.retry_at = Some(now + RELAY_RETRY);
    }

    fn listen(&mut self, swarm: &mut Swarm<Behaviour>, now: Instant) {
        match swarm.listen_on(self.address.clone().with(Protocol::P2pCircuit)) {
            Ok(listener) => self.listener = Some(listener),
            Err(error) => {
                tracing::debug!(relay = %self.address, %error, "cannot listen on a relay");
                self.put_off(now);
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
