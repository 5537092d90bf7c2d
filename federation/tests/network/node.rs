//! A node of a test, whose events are awaited one by one.

use std::cmp::Ordering;
use std::time::Duration;

use bytes::Bytes;
use cairn_federation::{
    DialFailure, Multiaddr, Network, NetworkConfig, NetworkEvent, NetworkEvents, PeerKey, SendError,
};
use libp2p::identity::Keypair;

pub const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(20);

pub struct Node {
    pub network: Network,
    pub events: NetworkEvents,
    pub secret: [u8; 32],
    listeners: usize,
}

pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it takes less than the limit")
}

pub fn listening_on(addresses: &[&str]) -> NetworkConfig {
    let listen = addresses.iter().map(|address| address.parse().expect("an address")).collect();
    NetworkConfig { listen, ..NetworkConfig::default() }
}

/// A secret key whose peer id compares so to that of `other`: the smaller one opens the substream for frames.
pub fn secret_beside(other: PeerKey, order: Ordering) -> [u8; 32] {
    let peer = |secret: &[u8; 32]| {
        Keypair::ed25519_from_bytes(*secret).expect("any 32 bytes are a secret key").public().to_peer_id()
    };
    let mut secrets = std::iter::repeat_with(rand::random);
    secrets.find(|secret| peer(secret).cmp(&other.peer_id()) == order).expect("every other one does")
}

/// Lets both nodes know each other, and the first dial the second. Returns where the first one is connected to.
pub async fn connect(a: &mut Node, b: &mut Node) -> Multiaddr {
    a.network.allow(b.key()).await;
    b.network.allow(a.key()).await;
    a.dial(b).await;
    let address = a.connected_to(b).await;
    b.connected_to(a).await;
    address
}

impl Node {
    pub fn start(config: NetworkConfig) -> Self {
        Self::with_secret(rand::random(), config)
    }

    pub fn with_secret(secret: [u8; 32], config: NetworkConfig) -> Self {
        // RUST_LOG=libp2p=debug,cairn_federation=debug shows what happens in a test that fails.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let listeners = config.listen.len();
        let (network, events) = Network::start(secret, config).expect("a node can be started");
        Self { network, events, secret, listeners }
    }

    pub fn key(&self) -> PeerKey {
        self.network.key()
    }

    /// Where it listens, once it listens everywhere.
    pub async fn addresses(&self) -> Vec<Multiaddr> {
        let mut addresses = self.network.addresses();
        let all = in_time(addresses.wait_for(|all| all.len() >= self.listeners)).await;
        all.expect("the node runs").clone()
    }

    pub async fn dial(&self, other: &Self) {
        self.network.dial(other.key(), other.addresses().await).await;
    }

    pub async fn send(&self, to: &Self, frame: Bytes) -> Result<(), SendError> {
        in_time(self.network.send(to.key(), frame)).await
    }

    pub async fn event(&mut self) -> Option<NetworkEvent> {
        in_time(self.events.recv()).await
    }

    /// The next event is that this peer connected, directly.
    pub async fn connected_to(&mut self, other: &Self) -> Multiaddr {
        match self.event().await {
            Some(NetworkEvent::Connected { peer, address, relayed: false }) if peer == other.key() => address,
            event => panic!("expected a direct connection, not {event:?}"),
        }
    }

    /// Frames may be left, then the next event is that this peer disconnected.
    pub async fn disconnected_from(&mut self, other: &Self) {
        loop {
            match self.event().await {
                Some(NetworkEvent::Disconnected { peer }) if peer == other.key() => return,
                Some(NetworkEvent::Frame { peer, .. }) if peer == other.key() => {}
                event => panic!("expected the end of a connection, not {event:?}"),
            }
        }
    }

    /// The next event is a frame of this peer.
    pub async fn frame_of(&mut self, other: &Self) -> Bytes {
        match self.event().await {
            Some(NetworkEvent::Frame { peer, bytes }) if peer == other.key() => bytes,
            event => panic!("expected a frame, not {event:?}"),
        }
    }

    /// The next event is that a dial of this peer failed.
    pub async fn dial_failure_of(&mut self, other: &Self) -> DialFailure {
        match self.event().await {
            Some(NetworkEvent::DialFailed { peer, reason }) if peer == other.key() => reason,
            event => panic!("expected a failed dial, not {event:?}"),
        }
    }
}
