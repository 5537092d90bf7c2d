//! A node beside a peer that speaks the protocol and breaks its rules.

use super::node::{Node, QUIC, TCP, in_time, listening_on};
use cairn_federation::network::limits::{EVENT_QUEUE, MAX_FRAME_BYTES};
use cairn_federation::{NetworkEvent, PeerKey};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, StreamProtocol, Swarm, SwarmBuilder};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/cairn/sync/1");

/// A peer whose every byte is decided by the test.
struct Raw {
    key: PeerKey,
    keypair: Keypair,
    control: libp2p_stream::Control,
    /// Ends when the node closed the connection.
    closed: tokio::task::JoinHandle<()>,
    node: PeerId,
}

impl Raw {
    /// Connects to the node. Who has the smaller peer id is the one that opens substreams.
    async fn connect(node: &Node, leads: bool) -> Self {
        let of_node = node.key().peer_id();
        let keypair = std::iter::repeat_with(Keypair::generate_ed25519)
            .find(|pair| (pair.public().to_peer_id() < of_node) == leads)
            .expect("it is one of two");
        Self::connect_as(keypair, node).await
    }

    async fn connect_as(keypair: Keypair, node: &Node) -> Self {
        let of_node = node.key().peer_id();
        let key = PeerKey::try_from(keypair.public().to_peer_id()).expect("an ed25519 key");
        node.network.allow(key).await;
        let address = node.addresses().await.first().expect("it listens").clone();
        let mut swarm = swarm(keypair.clone());
        let control = swarm.behaviour().new_control();
        swarm.dial(address.with_p2p(of_node).expect("an address without a name")).expect("it can be dialled");
        let connected =
            async { while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {} };
        in_time(connected).await;
        let closed = tokio::spawn(async move {
            while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {}
        });
        Self { key, keypair, control, closed, node: of_node }
    }

    /// Waits until the node, which leads, has been refused the substream that it asks for.
    async fn decline(&self) {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }

    async fn open(&mut self) -> Result<libp2p::Stream, libp2p_stream::OpenStreamError> {
        in_time(self.control.open_stream(self.node, PROTOCOL)).await
    }
}

fn swarm(keypair: Keypair) -> Swarm<libp2p_stream::Behaviour> {
    SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(Default::default(), libp2p::noise::Config::new, libp2p::yamux::Config::default)
        .expect("TCP can be set up")
        .with_quic()
        .with_behaviour(|_| libp2p_stream::Behaviour::new())
        .expect("nothing to fail")
        .with_swarm_config(|config| config.with_idle_connection_timeout(std::time::Duration::from_secs(60)))
        .build()
}

async fn connected(node: &mut Node, peer: PeerKey) {
    let event = node.event().await;
    assert!(matches!(&event, Some(NetworkEvent::Connected { peer: of, .. }) if *of == peer), "{event:?}");
}

async fn disconnected(node: &mut Node, peer: PeerKey) {
    assert_eq!(node.event().await, Some(NetworkEvent::Disconnected { peer }));
}

async fn too_long_a_frame(transport: &str) {
    let too_long = u32::try_from(MAX_FRAME_BYTES + 1).expect("small");
    for length in [too_long, u32::MAX] {
        let mut node = Node::start(listening_on(&[transport]));
        let mut raw = Raw::connect(&node, true).await;
        let mut stream = raw.open().await.expect("frames are exchanged");
        connected(&mut node, raw.key).await;
        stream.write_all(&length.to_be_bytes()).await.expect("connected");
        stream.flush().await.expect("connected");
        disconnected(&mut node, raw.key).await;
        in_time(raw.closed).await.expect("nothing panicked");
    }
}

#[tokio::test]
async fn a_length_beyond_the_limit_closes_the_connection_over_quic() {
    too_long_a_frame(QUIC).await;
}

#[tokio::test]
async fn a_length_beyond_the_limit_closes_the_connection_over_tcp() {
    too_long_a_frame(TCP).await;
}

#[tokio::test]
async fn a_frame_that_is_cut_short_is_not_received() {
    let mut node = Node::start(listening_on(&[QUIC]));
    let mut raw = Raw::connect(&node, true).await;
    let mut stream = raw.open().await.expect("frames are exchanged");
    connected(&mut node, raw.key).await;
    stream.write_all(&[0, 0, 0, 2, b'o', b'k', 0, 0, 0, 9, b'n', b'o']).await.expect("connected");
    stream.close().await.expect("connected");
    let event = node.event().await;
    assert!(matches!(&event, Some(NetworkEvent::Frame { bytes, .. }) if bytes == "ok"), "{event:?}");
    disconnected(&mut node, raw.key).await;
}

#[tokio::test]
async fn a_second_substream_on_a_connection_closes_it() {
    let mut node = Node::start(listening_on(&[QUIC]));
    let mut raw = Raw::connect(&node, true).await;
    let _first = raw.open().await.expect("frames are exchanged");
    connected(&mut node, raw.key).await;
    let _second = raw.open().await.expect("the protocol is spoken");
    disconnected(&mut node, raw.key).await;
    in_time(raw.closed).await.expect("nothing panicked");
}

#[tokio::test]
async fn a_peer_that_comes_back_without_a_goodbye_is_connected_anew() {
    let mut node = Node::start(listening_on(&[QUIC]));
    let mut before = Raw::connect(&node, true).await;
    let mut old = before.open().await.expect("frames are exchanged");
    connected(&mut node, before.key).await;
    let mut after = Raw::connect_as(before.keypair.clone(), &node).await;
    let mut new = after.open().await.expect("frames are exchanged");
    // The node waits for nothing more from the old one.
    assert!(matches!(in_time(old.read(&mut [0])).await, Ok(0) | Err(_)));
    disconnected(&mut node, before.key).await;
    connected(&mut node, before.key).await;
    in_time(before.closed).await.expect("nothing panicked");
    new.write_all(&[0, 0, 0, 2, b'o', b'k']).await.expect("connected");
    new.flush().await.expect("connected");
    let event = node.event().await;
    assert!(matches!(&event, Some(NetworkEvent::Frame { bytes, .. }) if bytes == "ok"), "{event:?}");
}

/// The node leads, and still believes in the connection that the peer has lost.
#[tokio::test]
async fn a_peer_that_does_not_lead_asks_for_a_substream_in_place_of_the_one_it_lost() {
    let mut node = Node::start(listening_on(&[QUIC]));
    let mut before = Raw::connect(&node, false).await;
    before.decline().await;
    let mut old = before.open().await.expect("it may ask");
    connected(&mut node, before.key).await;
    let mut after = Raw::connect_as(before.keypair.clone(), &node).await;
    after.decline().await;
    let mut new = after.open().await.expect("it may ask");
    disconnected(&mut node, before.key).await;
    connected(&mut node, before.key).await;
    assert!(matches!(in_time(old.read(&mut [0])).await, Ok(0) | Err(_)));
    in_time(before.closed).await.expect("nothing panicked");
    // On one connection it asks in vain: the one that is there counts.
    let mut again = after.open().await.expect("it may ask");
    assert!(matches!(in_time(again.read(&mut [0])).await, Ok(0) | Err(_)));
    new.write_all(&[0, 0, 0, 2, b'o', b'k']).await.expect("connected");
    new.flush().await.expect("connected");
    let event = node.event().await;
    assert!(matches!(&event, Some(NetworkEvent::Frame { bytes, .. }) if bytes == "ok"), "{event:?}");
}

#[tokio::test]
async fn one_session_waits_for_a_slow_receiver_and_no_more() {
    let mut node = Node::start(listening_on(&[QUIC]));
    let mut first = Raw::connect(&node, true).await;
    let mut flooded = first.open().await.expect("frames are exchanged");
    connected(&mut node, first.key).await;
    // More frames than the queue of events has room for, so that the end of this session has to wait.
    flooded.write_all(&[0, 0, 0, 1, 7].repeat(EVENT_QUEUE + 10)).await.expect("connected");
    flooded.flush().await.expect("connected");
    let mut second = Raw::connect_as(first.keypair.clone(), &node).await;
    let _waiting = second.open().await.expect("the protocol is spoken");
    in_time(first.closed).await.expect("nothing panicked");
    let mut third = Raw::connect_as(first.keypair.clone(), &node).await;
    let _too_many = third.open().await.expect("the protocol is spoken");
    in_time(third.closed).await.expect("nothing panicked");
    for _ in 0..EVENT_QUEUE {
        let event = node.event().await;
        assert!(matches!(event, Some(NetworkEvent::Frame { .. })), "{event:?}");
    }
    // Whether the last frames were read before the session was replaced is not said.
    loop {
        match node.event().await {
            Some(NetworkEvent::Frame { .. }) => {}
            Some(NetworkEvent::Disconnected { .. }) => break,
            event => panic!("{event:?}"),
        }
    }
    connected(&mut node, first.key).await;
}
