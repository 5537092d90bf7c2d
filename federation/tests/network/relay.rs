//! Nodes that find and reach each other through a third one, over real sockets of this machine.

use std::cmp::Ordering;

use bytes::Bytes;
use cairn_federation::network::limits::RELAYS_WANTED;
use cairn_federation::{DialFailure, Multiaddr, NetworkConfig, NetworkEvent, RelayOrigin, Relaying};

use super::node::{Node, QUIC, TCP, in_time, listening_on, secret_beside};

/// A relay that knows its own address, and the address with its name.
pub async fn relay(listen: &[&str]) -> (Node, Multiaddr) {
    let relay = Node::start(NetworkConfig { relay_server: true, ..listening_on(listen) });
    let address = relay.addresses().await.first().expect("it listens").clone();
    relay.network.announce(address.clone()).await;
    let named = address.with_p2p(relay.key().peer_id()).expect("an address without a name");
    (relay, named)
}

/// A node that is reached by this relay, and by these addresses.
pub async fn guest(listen: &[&str], relay: &Node, address: &Multiaddr) -> Node {
    let guest = Node::start(NetworkConfig { relays: vec![address.clone()], ..listening_on(listen) });
    relay.network.allow(guest.key()).await;
    guest
}

/// The address at which a node is reached through a relay, once it is.
pub async fn circuit(node: &Node) -> Multiaddr {
    let is_circuit = |address: &&Multiaddr| address.to_string().contains("/p2p-circuit");
    let mut addresses = node.network.addresses();
    let all = in_time(addresses.wait_for(|all| all.iter().any(|address| is_circuit(&address)))).await;
    all.expect("the node runs").iter().find(is_circuit).expect("it was waited for").clone()
}

/// The next event about this peer; discoveries are passed over.
async fn event_about(node: &mut Node, peer: &Node) -> NetworkEvent {
    loop {
        match node.event().await.expect("the node runs") {
            NetworkEvent::Discovered { .. } => {}
            event if event.peer() == peer.key() => return event,
            event => panic!("nothing else happens than {event:?}"),
        }
    }
}

async fn frames_over_a_relay(transport: &str) {
    let (relay, address) = relay(&[transport]).await;
    // They listen nowhere, so no direct connection can come up.
    let (mut a, mut b) = (guest(&[], &relay, &address).await, guest(&[], &relay, &address).await);
    a.network.allow(b.key()).await;
    b.network.allow(a.key()).await;
    let circuit = circuit(&a).await;
    b.network.dial(a.key(), vec![circuit]).await;
    let (at_a, at_b) = (event_about(&mut a, &b).await, event_about(&mut b, &a).await);
    assert!(matches!(at_a, NetworkEvent::Connected { relayed: true, .. }), "{at_a:?}");
    assert!(matches!(at_b, NetworkEvent::Connected { relayed: true, .. }), "{at_b:?}");
    // More than the 128 KiB after which libp2p's relays hang up by default.
    let frame = Bytes::from(vec![7; 100_000]);
    for _ in 0..20 {
        a.send(&b, frame.clone()).await.expect("connected");
        b.send(&a, frame.clone()).await.expect("connected");
        assert_eq!(event_about(&mut a, &b).await, NetworkEvent::Frame { peer: b.key(), bytes: frame.clone() });
        assert_eq!(event_about(&mut b, &a).await, NetworkEvent::Frame { peer: a.key(), bytes: frame.clone() });
    }
}

#[tokio::test]
async fn a_relayed_connection_over_quic_carries_frames() {
    frames_over_a_relay(QUIC).await;
}

#[tokio::test]
async fn a_relayed_connection_over_tcp_carries_frames() {
    frames_over_a_relay(TCP).await;
}

#[tokio::test]
async fn a_direct_connection_takes_the_place_of_a_relayed_one() {
    let (relay, address) = relay(&[QUIC]).await;
    let (mut a, mut b) = (guest(&[QUIC], &relay, &address).await, guest(&[QUIC], &relay, &address).await);
    a.network.allow(b.key()).await;
    b.network.allow(a.key()).await;
    let circuit = circuit(&a).await;
    b.network.dial(a.key(), vec![circuit]).await;
    until_direct(&mut a, &b).await;
    until_direct(&mut b, &a).await;
    let frame = Bytes::from_static(b"directly");
    a.send(&b, frame.clone()).await.expect("connected");
    assert_eq!(event_about(&mut b, &a).await, NetworkEvent::Frame { peer: a.key(), bytes: frame });
}

/// A relayed connection may come first; a direct one ends this.
async fn until_direct(node: &mut Node, peer: &Node) {
    loop {
        match event_about(node, peer).await {
            NetworkEvent::Connected { relayed: false, .. } => return,
            NetworkEvent::Connected { relayed: true, .. } | NetworkEvent::Disconnected { .. } => {}
            event => panic!("nobody sent or dialled, but {event:?}"),
        }
    }
}

#[tokio::test]
async fn a_relay_serves_nobody_whom_it_does_not_allow() {
    let (mut relay, address) = relay(&[QUIC]).await;
    relay.network.admit_strangers(true).await;
    let mut stranger = Node::start(NetworkConfig { relays: vec![address.clone()], ..listening_on(&[]) });
    // It gets in by the open door, and may send frames, but gets no reservation and learns of nobody.
    stranger.network.allow(relay.key()).await;
    stranger.network.dial(relay.key(), vec![address.clone()]).await;
    assert!(matches!(event_about(&mut stranger, &relay).await, NetworkEvent::Connected { .. }));
    relay.connected_to(&stranger).await;
    let friend = guest(&[], &relay, &address).await;
    let of_friend = circuit(&friend).await;
    stranger.network.allow(friend.key()).await;
    stranger.network.dial(friend.key(), vec![of_friend]).await;
    assert!(matches!(stranger.dial_failure_of(&friend).await, DialFailure::Unreachable(_)));
    assert!(stranger.network.addresses().borrow().is_empty(), "it has no reservation");
}

#[tokio::test]
async fn peers_find_each_other_at_a_rendezvous_point() {
    let (relay, address) = relay(&[QUIC]).await;
    let a = guest(&[QUIC], &relay, &address).await;
    let of_a = circuit(&a).await;
    let mut b = guest(&[QUIC], &relay, &address).await;
    let found = loop {
        match b.event().await {
            Some(NetworkEvent::Discovered { peer, addresses }) if peer == a.key() => break addresses,
            // It finds itself as well.
            Some(NetworkEvent::Discovered { .. }) => {}
            event => panic!("expected a discovery, not {event:?}"),
        }
    };
    assert!(found.contains(&of_a), "{found:?} lacks {of_a}");
}

/// The relay allows the guest, and so would like to exchange frames; nothing comes of it until both want to.
async fn a_relay_that_is_no_friend(relay_leads: bool) -> DialFailure {
    let (mut relay, address) = relay(&[QUIC]).await;
    let config = NetworkConfig { relays: vec![address], ..listening_on(&[QUIC]) };
    let secret = secret_beside(relay.key(), if relay_leads { Ordering::Greater } else { Ordering::Less });
    let mut guest = Node::with_secret(secret, config);
    relay.network.allow(guest.key()).await;
    circuit(&guest).await;
    relay.dial(&guest).await;
    let reason = relay.dial_failure_of(&guest).await;
    guest.network.allow(relay.key()).await;
    assert!(matches!(event_about(&mut guest, &relay).await, NetworkEvent::Connected { relayed: false, .. }));
    relay.connected_to(&guest).await;
    reason
}

#[tokio::test]
async fn a_relay_that_leads_and_is_no_friend_is_refused_frames() {
    assert_eq!(a_relay_that_is_no_friend(true).await, DialFailure::Refused);
}

#[tokio::test]
async fn a_relay_that_does_not_lead_and_is_no_friend_is_refused_frames_when_it_asks() {
    assert_eq!(a_relay_that_is_no_friend(false).await, DialFailure::Refused);
}

#[tokio::test]
async fn nodes_of_a_local_network_find_each_other() {
    if let Err(reason) = multicast_works() {
        eprintln!("SKIPPED: multicast does not work here: {reason}");
        return;
    }
    let everywhere = |mdns| NetworkConfig { mdns, ..listening_on(&["/ip4/0.0.0.0/udp/0/quic-v1"]) };
    let (a, mut b) = (Node::start(everywhere(true)), Node::start(everywhere(true)));
    let addresses = loop {
        match b.event().await {
            Some(NetworkEvent::Discovered { peer, addresses }) if peer == a.key() => break addresses,
            // Other nodes of this network, if there are any.
            Some(NetworkEvent::Discovered { .. }) => {}
            event => panic!("expected a discovery, not {event:?}"),
        }
    };
    // What was found can be dialled.
    a.network.allow(b.key()).await;
    b.network.allow(a.key()).await;
    b.network.dial(a.key(), addresses).await;
    assert!(matches!(event_about(&mut b, &a).await, NetworkEvent::Connected { relayed: false, .. }));
}

/// Sends a packet to a group of which this machine is a member, and waits for it.
fn multicast_works() -> std::io::Result<()> {
    use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
    const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
    let outward = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    outward.connect((GROUP, 5353))?;
    let SocketAddr::V4(outward) = outward.local_addr()? else {
        return Err(std::io::ErrorKind::Unsupported.into());
    };
    if outward.ip().is_loopback() {
        return Err(std::io::Error::other("there is only the loopback interface"));
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.join_multicast_v4(&GROUP, outward.ip())?;
    socket.set_read_timeout(Some(std::time::Duration::from_secs(1)))?;
    socket.send_to(b"cairn", (GROUP, socket.local_addr()?.port()))?;
    socket.recv(&mut [0; 16]).map(drop)
}

/// What a node says that it relays and uses, once it is so.
async fn relaying(node: &Node, is_so: impl FnMut(&Relaying) -> bool) -> Relaying {
    let mut relaying = node.network.relaying();
    in_time(relaying.wait_for(is_so)).await.expect("the node runs").clone()
}

/// A node without configured relays, which has come to know the relay as a friend: a stranger before, as in pairing.
async fn paired(relay: &mut Node) -> Node {
    let mut friend = Node::start(listening_on(&[]));
    relay.network.admit_strangers(true).await;
    friend.network.allow(relay.key()).await;
    friend.dial(relay).await;
    friend.connected_to(relay).await;
    relay.connected_to(&friend).await;
    relay.network.allow(friend.key()).await;
    friend
}

#[tokio::test]
async fn a_friend_that_relays_is_used_as_soon_as_two_are_friends() {
    let (mut relay, address) = relay(&[QUIC]).await;
    let (mut a, mut b) = (paired(&mut relay).await, paired(&mut relay).await);
    let (of_a, _) = (circuit(&a).await, circuit(&b).await);
    let uses = relaying(&a, |all| all.uses.iter().any(|used| used.reserved)).await.uses;
    assert_eq!(uses.len(), 1);
    assert_eq!((uses[0].relay, uses[0].origin), (relay.key(), RelayOrigin::Friend));
    let shown = relaying(&relay, |all| all.reservations == 2).await;
    assert_eq!((shown.relays, shown.addresses, shown.uses), (true, vec![address], Vec::new()));
    a.network.allow(b.key()).await;
    b.network.allow(a.key()).await;
    b.network.dial(a.key(), vec![of_a]).await;
    for come in [event_about(&mut a, &b).await, event_about(&mut b, &a).await] {
        assert!(matches!(come, NetworkEvent::Connected { relayed: true, .. }), "{come:?}");
    }
    relaying(&relay, |all| all.circuits == 1).await;
    b.network.disconnect(a.key()).await;
    relaying(&relay, |all| all.circuits == 0).await;
}

#[tokio::test]
async fn no_more_friends_are_asked_to_relay_than_are_wanted_and_none_that_is_no_friend() {
    let node = Node::start(listening_on(&[]));
    let mut relays = Vec::new();
    for _ in 0..RELAYS_WANTED + 1 {
        let (relay, _) = relay(&[QUIC]).await;
        relay.network.allow(node.key()).await;
        node.network.allow(relay.key()).await;
        node.dial(&relay).await;
        relays.push(relay);
    }
    let in_use = |all: &Relaying| all.uses.iter().filter(|used| used.reserved).count() == RELAYS_WANTED;
    let used = relaying(&node, in_use).await.uses;
    assert_eq!(used.len(), RELAYS_WANTED);
    let blocked = used[0].relay;
    node.network.block(blocked).await;
    let used = relaying(&node, |all| in_use(all) && all.uses.iter().all(|used| used.relay != blocked)).await.uses;
    assert_eq!(used.len(), RELAYS_WANTED, "the third one took its place");
}

#[tokio::test]
async fn a_node_that_relays_asks_no_friend_to() {
    let (relay_a, _) = relay(&[QUIC]).await;
    let (relay_b, _) = relay(&[QUIC]).await;
    relay_a.network.allow(relay_b.key()).await;
    relay_b.network.allow(relay_a.key()).await;
    relay_a.dial(&relay_b).await;
    let node = Node::start(listening_on(&[]));
    for relay in [&relay_a, &relay_b] {
        relay.network.allow(node.key()).await;
        node.network.allow(relay.key()).await;
        node.dial(relay).await;
    }
    relaying(&node, |all| all.uses.iter().filter(|used| used.reserved).count() == 2).await;
    assert!(relay_a.network.relaying().borrow().uses.is_empty());
}
