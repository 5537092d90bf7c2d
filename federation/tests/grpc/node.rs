//! A node of a test, whose events are awaited one by one.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cairn_federation::{
    DialFailure, GrpcConfig, GrpcNetwork, Multiaddr, NetworkEvent, NetworkEvents, PeerKey, SendError,
};
use libp2p::multiaddr::Protocol;
use tokio::task::JoinHandle;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(20);

pub struct Node {
    pub network: GrpcNetwork,
    pub events: NetworkEvents,
    pub secret: [u8; 32],
}

pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it takes less than the limit")
}

pub fn listening(socket: &str) -> GrpcConfig {
    GrpcConfig { listen: vec![socket.parse().expect("a socket")], ..GrpcConfig::default() }
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
    pub fn start() -> Self {
        Self::with(rand::random(), listening("127.0.0.1:0"))
    }

    pub fn with(secret: [u8; 32], config: GrpcConfig) -> Self {
        // RUST_LOG=cairn_federation=debug shows what happens in a test that fails.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let (network, events) = GrpcNetwork::start(secret, config).expect("a node can be started");
        Self { network, events, secret }
    }

    pub fn key(&self) -> PeerKey {
        self.network.key()
    }

    pub fn addresses(&self) -> Vec<Multiaddr> {
        self.network.addresses().borrow().clone()
    }

    pub fn socket(&self) -> SocketAddr {
        let address = self.addresses().first().expect("it listens").clone();
        let mut parts = address.iter();
        match (parts.next(), parts.next()) {
            (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) => SocketAddr::new(ip.into(), port),
            other => panic!("not the address of a socket: {other:?}"),
        }
    }

    pub async fn dial(&self, other: &Self) {
        self.network.dial(other.key(), other.addresses()).await;
    }

    pub async fn send(&self, to: &Self, frame: Bytes) -> Result<(), SendError> {
        in_time(self.network.send(to.key(), frame)).await
    }

    /// Sends frames of 10,000 bytes until the connection ends.
    pub fn flood(&self, to: &Self) -> JoinHandle<()> {
        let (network, peer) = (self.network.clone(), to.key());
        tokio::spawn(async move {
            let frame = Bytes::from(vec![0; 10_000]);
            while network.send(peer, frame.clone()).await.is_ok() {}
        })
    }

    pub async fn event(&mut self) -> Option<NetworkEvent> {
        in_time(self.events.recv()).await
    }

    /// The next event is that this peer connected.
    pub async fn connected_to(&mut self, other: &Self) -> Multiaddr {
        match self.event().await {
            Some(NetworkEvent::Connected { peer, address, relayed: false }) if peer == other.key() => address,
            event => panic!("expected a connection, not {event:?}"),
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
