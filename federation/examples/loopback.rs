//! Measures two nodes on this machine: the round trip of a frame of 100 bytes, and the throughput of frames of 64 KiB.
//! Run it with `cargo run --release -p cairn-federation --example loopback`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_federation::{Network, NetworkConfig, NetworkEvent, NetworkEvents, PeerKey};

const TRANSPORTS: [(&str, &str); 2] = [("QUIC", "/ip4/127.0.0.1/udp/0/quic-v1"), ("TCP", "/ip4/127.0.0.1/tcp/0")];
const ROUND_TRIPS: usize = 20_000;
const FRAME_BYTES: usize = 64 * 1024;
const FRAMES: usize = 16_384;

type Node = (Network, NetworkEvents);

#[tokio::main]
async fn main() {
    for (name, listen) in TRANSPORTS {
        let (mut a, mut b) = (start(listen), start(listen));
        connect(&mut a, &mut b).await;
        let mut times = round_trips(&mut a, b).await;
        times.sort_unstable();
        let at = |share: f64| times[(times.len() as f64 * share) as usize];
        println!("{name}: round trip of 100 bytes: median {:?}, p99 {:?}", at(0.5), at(0.99));

        let (mut a, mut b) = (start(listen), start(listen));
        connect(&mut a, &mut b).await;
        let took = throughput(&a.0, &mut b).await;
        let megabytes = (FRAMES * FRAME_BYTES) as f64 / 1e6;
        println!("{name}: {megabytes:.0} MB in frames of 64 KiB: {:.0} MB/s", megabytes / took.as_secs_f64());
    }
}

fn start(listen: &str) -> Node {
    let listen = vec![listen.parse().expect("an address")];
    Network::start(rand::random(), NetworkConfig { listen, ..NetworkConfig::default() }).expect("it starts")
}

async fn connect(a: &mut Node, b: &mut Node) {
    a.0.allow(b.0.key()).await;
    b.0.allow(a.0.key()).await;
    let mut addresses = b.0.addresses();
    let addresses = addresses.wait_for(|all| !all.is_empty()).await.expect("it runs").clone();
    a.0.dial(b.0.key(), addresses).await;
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
            echo.send(peer, bytes).await.expect("connected");
        }
        (echo, events)
    });
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    let bytes = Bytes::from(vec![7; 100]);
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        a.0.send(peer, bytes.clone()).await.expect("connected");
        frame(&mut a.1).await;
        times.push(start.elapsed());
    }
    drop(echoing.await.expect("it echoes"));
    times
}

async fn throughput(a: &Network, b: &mut Node) -> Duration {
    let (a, peer) = (a.clone(), b.0.key());
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        let bytes = Bytes::from(vec![7; FRAME_BYTES]);
        for _ in 0..FRAMES {
            a.send(peer, bytes.clone()).await.expect("connected");
        }
    });
    for _ in 0..FRAMES {
        frame(&mut b.1).await;
    }
    let took = start.elapsed();
    sending.await.expect("it sends");
    took
}
