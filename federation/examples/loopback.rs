//! Measures two nodes on this machine: the round trip of a frame of 100 bytes, and the throughput of frames of 64 KiB.
//! Run it with `cargo run --release -p cairn-federation --example loopback`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_federation::{
    GrpcConfig, GrpcNetwork, Multiaddr, Network, NetworkConfig, NetworkEvent, NetworkEvents, PeerKey,
};

const TRANSPORTS: [(&str, Transport); 3] = [
    ("QUIC", Transport::Libp2p("/ip4/127.0.0.1/udp/0/quic-v1")),
    ("TCP", Transport::Libp2p("/ip4/127.0.0.1/tcp/0")),
    ("gRPC", Transport::Grpc),
];
const ROUND_TRIPS: usize = 20_000;
const FRAME_BYTES: usize = 64 * 1024;
const FRAMES: usize = 16_384;

/// Either driver.
#[derive(Clone, Copy)]
enum Transport {
    Libp2p(&'static str),
    Grpc,
}

#[derive(Clone)]
enum Handle {
    Libp2p(Network),
    Grpc(GrpcNetwork),
}

type Node = (Handle, NetworkEvents);

impl Handle {
    fn key(&self) -> PeerKey {
        match self {
            Self::Libp2p(network) => network.key(),
            Self::Grpc(network) => network.key(),
        }
    }

    async fn addresses(&self) -> Vec<Multiaddr> {
        let mut addresses = match self {
            Self::Libp2p(network) => network.addresses(),
            Self::Grpc(network) => network.addresses(),
        };
        addresses.wait_for(|all| !all.is_empty()).await.expect("it runs").clone()
    }

    async fn allow(&self, peer: PeerKey) {
        match self {
            Self::Libp2p(network) => network.allow(peer).await,
            Self::Grpc(network) => network.allow(peer).await,
        }
    }

    async fn dial(&self, peer: PeerKey, addresses: Vec<Multiaddr>) {
        match self {
            Self::Libp2p(network) => network.dial(peer, addresses).await,
            Self::Grpc(network) => network.dial(peer, addresses).await,
        }
    }

    async fn send(&self, peer: PeerKey, frame: Bytes) {
        let sent = match self {
            Self::Libp2p(network) => network.send(peer, frame).await,
            Self::Grpc(network) => network.send(peer, frame).await,
        };
        sent.expect("connected");
    }
}

#[tokio::main]
async fn main() {
    for (name, transport) in TRANSPORTS {
        let (mut a, mut b) = (start(transport), start(transport));
        connect(&mut a, &mut b).await;
        let mut times = round_trips(&mut a, b).await;
        times.sort_unstable();
        let at = |share: f64| times[(times.len() as f64 * share) as usize];
        println!("{name}: round trip of 100 bytes: median {:?}, p99 {:?}", at(0.5), at(0.99));

        let (mut a, mut b) = (start(transport), start(transport));
        connect(&mut a, &mut b).await;
        let took = throughput(&a.0, &mut b).await;
        let megabytes = (FRAMES * FRAME_BYTES) as f64 / 1e6;
        println!("{name}: {megabytes:.0} MB in frames of 64 KiB: {:.0} MB/s", megabytes / took.as_secs_f64());
    }
}

fn start(transport: Transport) -> Node {
    match transport {
        Transport::Libp2p(listen) => {
            let listen = vec![listen.parse().expect("an address")];
            let config = NetworkConfig { listen, ..NetworkConfig::default() };
            let (network, events) = Network::start(rand::random(), config).expect("it starts");
            (Handle::Libp2p(network), events)
        }
        Transport::Grpc => {
            let config = GrpcConfig { listen: vec![([127, 0, 0, 1], 0).into()], ..GrpcConfig::default() };
            let (network, events) = GrpcNetwork::start(rand::random(), config).expect("it starts");
            (Handle::Grpc(network), events)
        }
    }
}

async fn connect(a: &mut Node, b: &mut Node) {
    a.0.allow(b.0.key()).await;
    b.0.allow(a.0.key()).await;
    a.0.dial(b.0.key(), b.0.addresses().await).await;
    for events in [&mut a.1, &mut b.1] {
        let event = events.recv().await;
        assert!(matches!(event, Some(NetworkEvent::Connected { .. })), "{event:?}");
    }
}

async fn frame(events: &mut NetworkEvents) -> (PeerKey, Bytes) {
    match events.recv().await {
        Some(NetworkEvent::Frame { peer, bytes }) => (peer, bytes),
        event => panic!("{event:?}"),
    }
}

async fn round_trips(a: &mut Node, b: Node) -> Vec<Duration> {
    let (echo, mut events) = b;
    let peer = echo.key();
    let echoing = tokio::spawn(async move {
        for _ in 0..ROUND_TRIPS {
            let (peer, bytes) = frame(&mut events).await;
            echo.send(peer, bytes).await;
        }
        (echo, events)
    });
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    let bytes = Bytes::from(vec![7; 100]);
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        a.0.send(peer, bytes.clone()).await;
        frame(&mut a.1).await;
        times.push(start.elapsed());
    }
    drop(echoing.await.expect("it echoes"));
    times
}

async fn throughput(a: &Handle, b: &mut Node) -> Duration {
    let (a, peer) = (a.clone(), b.0.key());
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        let bytes = Bytes::from(vec![7; FRAME_BYTES]);
        for _ in 0..FRAMES {
            a.send(peer, bytes.clone()).await;
        }
    });
    for _ in 0..FRAMES {
        frame(&mut b.1).await;
    }
    let took = start.elapsed();
    sending.await.expect("it sends");
    took
}
