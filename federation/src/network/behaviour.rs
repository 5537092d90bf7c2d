//! What a node speaks, and how its swarm is put together.

use std::sync::Arc;

use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, autonat, connection_limits, dcutr, identify, mdns,
    memory_connection_limits, noise, ping, relay, rendezvous, tcp, yamux,
};

use super::friends::FriendsOnly;
use super::policy::Policy;
use super::{NetworkConfig, NetworkError, PeerKey, frames, gate, limits};

/// What identify says this node speaks.
const PROTOCOL_VERSION: &str = "/cairn/1";

/// In the order in which they judge a connection: those that refuse some come first, because several of the others
/// keep for ever what they note about a connection that one after them refuses.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) gate: gate::Behaviour,
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) rendezvous: rendezvous::client::Behaviour,
    rendezvous_point: Toggle<FriendsOnly<rendezvous::server::Behaviour>>,
    relay: relay::client::Behaviour,
    relay_server: Toggle<FriendsOnly<relay::Behaviour>>,
    dcutr: dcutr::Behaviour,
    reachability: autonat::v2::client::Behaviour,
    reachability_server: FriendsOnly<autonat::v2::server::Behaviour>,
    pub(super) frames: frames::Behaviour,
}

/// The relays with their names.
pub(super) fn named_relays(addresses: &[Multiaddr]) -> Result<Vec<(PeerId, Multiaddr)>, NetworkError> {
    let named = |address: &Multiaddr| match address.iter().last() {
        Some(Protocol::P2p(relay)) if PeerKey::try_from(relay).is_ok() => Ok((relay, address.clone())),
        _ => Err(NetworkError::NamelessRelay(address.clone())),
    };
    addresses.iter().map(named).collect()
}

/// A swarm that listens.
pub(super) fn build(
    secret: [u8; 32],
    config: &NetworkConfig,
    policy: &Arc<Policy>,
) -> Result<Swarm<Behaviour>, NetworkError> {
    let keypair = Keypair::ed25519_from_bytes(secret).map_err(NetworkError::Key)?;
    let mdns = if config.mdns {
        let behaviour = mdns::tokio::Behaviour::new(mdns::Config::default(), keypair.public().to_peer_id());
        Some(behaviour.map_err(|error| failed("multicast DNS", error))?)
    } else {
        None
    };
    let builder = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux_config)
        .map_err(|error| failed("TCP", error))?
        .with_quic_config(quic_config)
        .with_dns()
        .map_err(|error| failed("DNS", error))?
        .with_relay_client(noise::Config::new, yamux_config)
        .map_err(|error| failed("the relay client", error))?;
    let mut swarm = builder
        .with_behaviour(|keypair, relay| Behaviour::new(keypair, relay, mdns, config, policy))
        .map_err(|error| failed("the protocols", error))?
        .with_swarm_config(|swarm| {
            swarm
                .with_smart_dial()
                .with_idle_connection_timeout(limits::IDLE_TIME)
                .with_max_negotiating_inbound_streams(limits::MAX_STREAMS as usize)
        })
        .build();
    for address in &config.listen {
        let listening = swarm.listen_on(address.clone());
        listening.map_err(|source| NetworkError::Listen { address: address.clone(), source })?;
    }
    Ok(swarm)
}

fn failed(part: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> NetworkError {
    NetworkError::Transport { part, source: source.into() }
}

fn yamux_config() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(limits::MAX_STREAMS as usize);
    config
}

fn quic_config(mut config: libp2p::quic::Config) -> libp2p::quic::Config {
    config.max_concurrent_stream_limit = limits::MAX_STREAMS;
    config.max_stream_data = limits::QUIC_STREAM_WINDOW;
    config.max_connection_data = limits::QUIC_CONNECTION_WINDOW;
    config
}

impl Behaviour {
    /// To be called when the standing of a peer changed.
    pub(super) fn standing_changed(&mut self, peer: PeerId) {
        self.rendezvous_point.as_ref().inspect(|point| point.standing_changed(peer));
        self.relay_server.as_ref().inspect(|server| server.standing_changed(peer));
        self.reachability_server.standing_changed(peer);
        // Last, because this wakes the connections.
        self.frames.standing_changed(peer);
    }

    fn new(
        keypair: &Keypair,
        relay: relay::client::Behaviour,
        mdns: Option<mdns::tokio::Behaviour>,
        config: &NetworkConfig,
        policy: &Arc<Policy>,
    ) -> Self {
        let (serves_relay, strangers) = (config.relay_server, config.strangers.clone());
        let local = keypair.public().to_peer_id();
        let ping = ping::Config::new().with_interval(limits::PING_INTERVAL).with_timeout(limits::PING_TIME);
        // Where this node listens inside its network concerns no stranger; friends learn it in other ways.
        let identify = identify::Config::new(PROTOCOL_VERSION.to_owned(), keypair.public())
            .with_agent_version(concat!("cairn/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_hide_listen_addrs(true);
        let rendezvous_point = serves_relay.then(|| {
            FriendsOnly::new(rendezvous::server::Behaviour::new(rendezvous_config()), Arc::clone(policy))
        });
        let relay_server = serves_relay
            .then(|| FriendsOnly::new(relay::Behaviour::new(local, relay_config()), Arc::clone(policy)));
        Self {
            gate: gate::Behaviour::new(Arc::clone(policy), strangers),
            limits: connection_limits::Behaviour::new(connection_limits()),
            memory: memory_connection_limits::Behaviour::with_max_percentage(limits::MEMORY_SHARE),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            mdns: mdns.into(),
            rendezvous: rendezvous::client::Behaviour::new(keypair.clone()),
            rendezvous_point: rendezvous_point.into(),
            relay,
            relay_server: relay_server.into(),
            dcutr: dcutr::Behaviour::new(local),
            reachability: autonat::v2::client::Behaviour::default(),
            reachability_server: FriendsOnly::new(autonat::v2::server::Behaviour::default(), Arc::clone(policy)),
            frames: frames::Behaviour::new(local, Arc::clone(policy)),
        }
    }
}

fn connection_limits() -> connection_limits::ConnectionLimits {
    connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(limits::MAX_PENDING_INCOMING))
        .with_max_pending_outgoing(Some(limits::MAX_PENDING_OUTGOING))
        .with_max_established(Some(limits::MAX_ESTABLISHED))
        .with_max_established_incoming(Some(limits::MAX_ESTABLISHED_INCOMING))
        .with_max_established_per_peer(Some(limits::MAX_ESTABLISHED_PER_PEER))
}

fn rendezvous_config() -> rendezvous::server::Config {
    rendezvous::server::Config::default()
        .with_max_registration_per_peer(limits::REGISTRATIONS_PER_PEER)
        .with_max_registration_total(limits::REGISTRATIONS)
        .with_max_stored_cookies(limits::REGISTRATIONS)
}

/// libp2p's limits on rate stay.
fn relay_config() -> relay::Config {
    relay::Config {
        max_reservations: limits::RELAY_RESERVATIONS,
        max_circuits: limits::RELAY_CIRCUITS,
        max_circuits_per_peer: limits::RELAY_CIRCUITS_PER_PEER,
        max_circuit_duration: limits::RELAY_CIRCUIT_TIME,
        max_circuit_bytes: limits::RELAY_CIRCUIT_BYTES,
        ..relay::Config::default()
    }
}
