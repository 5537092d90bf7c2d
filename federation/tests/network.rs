//! Nodes on this machine, over real sockets. Every wait is for an event, and bounded.

mod network {
    mod change;
    mod hostile;
    pub mod node;
    mod relay;
}

use bytes::Bytes;
use cairn_federation::network::limits::{EVENT_QUEUE, MAX_FRAME_BYTES, MAX_STRANGERS, STRANGER_FRAME_BYTES};
use cairn_federation::{DialFailure, Network, NetworkConfig, NetworkError, NetworkEvent, SendError};
use network::node::{Node, QUIC, TCP, connect, in_time, listening_on};

#[tokio::test]
async fn frames_go_both_ways_over_quic() {
    exchange(listening_on(&[QUIC]), "quic-v1").await;
}

#[tokio::test]
async fn frames_go_both_ways_over_tcp() {
    exchange(listening_on(&[TCP]), "tcp").await;
}

#[tokio::test]
async fn quic_is_preferred_where_both_are_offered() {
    exchange(NetworkConfig::default(), "quic-v1").await;
}

async fn exchange(config: NetworkConfig, transport: &str) {
    let (mut a, mut b) = (Node::start(config.clone()), Node::start(config));
    let address = connect(&mut a, &mut b).await;
    assert!(address.to_string().contains(transport), "{address}");
    for round in 0..10u8 {
        let (to_b, to_a) = (Bytes::from(vec![round; 100]), Bytes::from(vec![round; 3000]));
        a.send(&b, to_b.clone()).await.expect("connected");
        b.send(&a, to_a.clone()).await.expect("connected");
        assert_eq!(b.frame_of(&a).await, to_b);
        assert_eq!(a.frame_of(&b).await, to_a);
    }
    let empty = Bytes::new();
    a.send(&b, empty.clone()).await.expect("connected");
    assert_eq!(b.frame_of(&a).await, empty);
}

#[tokio::test]
async fn ten_thousand_small_frames_arrive_in_order_over_quic() {
    many_frames(listening_on(&[QUIC])).await;
}

#[tokio::test]
async fn ten_thousand_small_frames_arrive_in_order_over_tcp() {
    many_frames(listening_on(&[TCP])).await;
}

async fn many_frames(config: NetworkConfig) {
    let (mut a, mut b) = (Node::start(config.clone()), Node::start(config));
    connect(&mut a, &mut b).await;
    let frame = |number: u32| Bytes::from(number.to_be_bytes().repeat(1 + number as usize % 7));
    let (network, peer) = (a.network.clone(), b.key());
    let sending = tokio::spawn(async move {
        for number in 0..10_000 {
            network.send(peer, frame(number)).await.expect("connected");
        }
    });
    for number in 0..10_000 {
        assert_eq!(b.frame_of(&a).await, frame(number));
    }
    in_time(sending).await.expect("nothing panicked");
}

#[tokio::test]
async fn a_slow_receiver_holds_back_a_fast_sender_over_quic() {
    slow_receiver(listening_on(&[QUIC])).await;
}

#[tokio::test]
async fn a_slow_receiver_holds_back_a_fast_sender_over_tcp() {
    slow_receiver(listening_on(&[TCP])).await;
}

/// The receiver receives nothing until the sender has to wait; what is between them then is bounded, and arrives.
async fn slow_receiver(config: NetworkConfig) {
    const FRAMES: usize = 64;
    // The sender's queue (4 MiB), the windows of QUIC (4 MiB and as much again in buffers), and what waits to be
    // received (2 MiB), with room to spare. Without those limits it is all of them.
    const BETWEEN: usize = 18;
    let (mut a, mut b) = (Node::start(config.clone()), Node::start(config));
    connect(&mut a, &mut b).await;
    let frame = |number: usize| Bytes::from(vec![number as u8; MAX_FRAME_BYTES]);
    let (queued, mut progress) = tokio::sync::watch::channel(0);
    let (network, peer) = (a.network.clone(), b.key());
    let sending = tokio::spawn(async move {
        for number in 0..FRAMES {
            network.send(peer, frame(number)).await.expect("connected");
            queued.send_replace(number + 1);
        }
    });
    // Until nothing was queued for a while, which is the only way to see that somebody waits.
    let still = std::time::Duration::from_millis(500);
    while let Ok(Ok(())) = tokio::time::timeout(still, progress.changed()).await {}
    let between = *progress.borrow();
    assert!(between <= BETWEEN, "{between} MiB were taken in before anybody received");
    for number in 0..FRAMES {
        assert!(b.frame_of(&a).await == frame(number), "frame {number} is not what was sent");
        tokio::task::yield_now().await;
    }
    in_time(sending).await.expect("nothing panicked");
}

#[tokio::test]
async fn a_frame_that_is_too_long_is_not_sent() {
    let (mut a, mut b) = (Node::start(NetworkConfig::default()), Node::start(NetworkConfig::default()));
    connect(&mut a, &mut b).await;
    let length = MAX_FRAME_BYTES + 1;
    let error = a.send(&b, Bytes::from(vec![0; length])).await.expect_err("too long");
    assert_eq!(error, SendError::TooLong { peer: b.key(), length });
}

#[tokio::test]
async fn nothing_is_sent_to_a_peer_that_is_not_connected() {
    let (a, b) = (Node::start(NetworkConfig::default()), Node::start(NetworkConfig::default()));
    let error = a.send(&b, Bytes::from_static(b"hello")).await.expect_err("not connected");
    assert_eq!(error, SendError::NotConnected { peer: b.key() });
}

#[tokio::test]
async fn a_stranger_is_refused_while_the_door_is_closed() {
    let (mut host, mut guest) = (Node::start(NetworkConfig::default()), Node::start(NetworkConfig::default()));
    guest.network.allow(host.key()).await;
    guest.dial(&host).await;
    let reason = guest.dial_failure_of(&host).await;
    assert!(matches!(reason, DialFailure::Refused | DialFailure::Unreachable(_)), "{reason}");
    // The host never heard of it: what it hears of first is somebody whom it knows.
    let mut friend = Node::start(NetworkConfig::default());
    connect(&mut friend, &mut host).await;
}

#[tokio::test]
async fn a_friend_that_was_named_at_the_start_is_let_in_at_once() {
    let mut guest = Node::start(NetworkConfig::default());
    let friends = vec![guest.key()];
    let mut host = Node::start(NetworkConfig { friends, ..NetworkConfig::default() });
    guest.network.allow(host.key()).await;
    guest.dial(&host).await;
    guest.connected_to(&host).await;
    host.connected_to(&guest).await;
}

#[tokio::test]
async fn a_stranger_enters_by_the_open_door_and_leaves_when_it_closes() {
    let (mut host, mut guest) = (Node::start(NetworkConfig::default()), Node::start(NetworkConfig::default()));
    host.network.admit_strangers(true).await;
    guest.network.allow(host.key()).await;
    guest.dial(&host).await;
    guest.connected_to(&host).await;
    host.connected_to(&guest).await;
    guest.send(&host, Bytes::from_static(b"let me in")).await.expect("connected");
    assert_eq!(host.frame_of(&guest).await, "let me in");
    host.network.admit_strangers(false).await;
    host.disconnected_from(&guest).await;
    guest.disconnected_from(&host).await;
}

#[tokio::test]
async fn a_stranger_that_is_allowed_stays_and_is_free_of_limits() {
    let (mut host, mut guest) = (Node::start(NetworkConfig::default()), Node::start(NetworkConfig::default()));
    host.network.admit_strangers(true).await;
    guest.network.allow(host.key()).await;
    guest.dial(&host).await;
    guest.connected_to(&host).await;
    host.connected_to(&guest).await;
    host.network.allow(guest.key()).await;
    host.network.admit_strangers(false).await;
    let large = Bytes::from(vec![7; STRANGER_FRAME_BYTES + 1]);
    for _ in 0..100 {
        guest.send(&host, large.clone()).await.expect("connected");
        assert_eq!(host.frame_of(&guest).await, large);
    }
}

#[tokio::test]
async fn a_stranger_that_sends_too_much_is_cut_off() {
    let (mut host, mut guest) = (Node::start(NetworkConfig::default()), Node::start(NetworkConfig::default()));
    host.network.admit_strangers(true).await;
    guest.network.allow(host.key()).await;
    guest.dial(&host).await;
    guest.connected_to(&host).await;
    host.connected_to(&guest).await;
    guest.send(&host, Bytes::from(vec![7; STRANGER_FRAME_BYTES + 1])).await.expect("connected");
    host.disconnected_from(&guest).await;
    guest.disconnected_from(&host).await;
}

#[tokio::test]
async fn only_a_few_strangers_enter_at_once() {
    let mut host = Node::start(NetworkConfig::default());
    host.network.admit_strangers(true).await;
    let mut guests = Vec::new();
    for _ in 0..MAX_STRANGERS {
        let mut guest = Node::start(NetworkConfig::default());
        guest.network.allow(host.key()).await;
        guest.dial(&host).await;
        guest.connected_to(&host).await;
        host.connected_to(&guest).await;
        guests.push(guest);
    }
    let mut late = Node::start(NetworkConfig::default());
    late.network.allow(host.key()).await;
    late.dial(&host).await;
    late.dial_failure_of(&host).await;
    // A friend is not in the way of strangers, nor they in its.
    let mut friend = Node::start(NetworkConfig::default());
    connect(&mut friend, &mut host).await;
}

#[tokio::test]
async fn a_blocked_peer_is_cut_off_at_once_and_stays_out() {
    let (mut a, mut b) = (Node::start(NetworkConfig::default()), Node::start(NetworkConfig::default()));
    connect(&mut a, &mut b).await;
    a.network.block(b.key()).await;
    a.disconnected_from(&b).await;
    b.disconnected_from(&a).await;
    let error = a.send(&b, Bytes::from_static(b"still there?")).await.expect_err("cut off");
    assert_eq!(error, SendError::NotConnected { peer: b.key() });

    a.network.admit_strangers(true).await;
    b.dial(&a).await;
    b.dial_failure_of(&a).await;
    a.dial(&b).await;
    assert_eq!(a.dial_failure_of(&b).await, DialFailure::NotAllowed);

    a.network.allow(b.key()).await;
    b.dial(&a).await;
    b.connected_to(&a).await;
    a.connected_to(&b).await;
}

#[tokio::test]
async fn a_blocked_peer_is_cut_off_while_nobody_receives_events() {
    let (mut a, mut b) = (Node::start(NetworkConfig::default()), Node::start(NetworkConfig::default()));
    connect(&mut a, &mut b).await;
    // As in a flood: until the queue of events of the other side is full, and a while longer.
    let (network, peer) = (b.network.clone(), a.key());
    let flood = tokio::spawn(async move {
        let frame = Bytes::from(vec![0; 10_000]);
        while network.send(peer, frame.clone()).await.is_ok() {}
    });
    let some = a.frame_of(&b).await;
    assert_eq!(some.len(), 10_000);
    in_time(a.network.block(b.key())).await;
    b.disconnected_from(&a).await;
    in_time(flood).await.expect("nothing panicked");
}

#[tokio::test]
async fn a_dial_of_a_peer_that_is_not_there_fails() {
    let mut a = Node::start(NetworkConfig::default());
    let gone = Node::start(NetworkConfig::default());
    let addresses = gone.addresses().await;
    in_time(gone.network.shutdown()).await;
    a.network.allow(gone.key()).await;
    a.network.dial(gone.key(), addresses).await;
    let reason = a.dial_failure_of(&gone).await;
    assert!(matches!(reason, DialFailure::Unreachable(_)), "{reason}");
    a.network.dial(gone.key(), Vec::new()).await;
    assert_eq!(a.dial_failure_of(&gone).await, DialFailure::NoAddress);
}

#[tokio::test]
async fn a_dial_of_an_address_where_somebody_else_lives_fails() {
    let mut a = Node::start(listening_on(&[QUIC]));
    let (expected, found) = (Node::start(listening_on(&[QUIC])), Node::start(listening_on(&[QUIC])));
    a.network.allow(expected.key()).await;
    a.network.dial(expected.key(), found.addresses().await).await;
    let reason = a.dial_failure_of(&expected).await;
    assert!(matches!(reason, DialFailure::WrongPeer(_) | DialFailure::Unreachable(_)), "{reason}");
}

#[tokio::test]
async fn two_peers_that_dial_each_other_at_once_connect_once() {
    for round in 0..20 {
        let config = if round % 2 == 0 { NetworkConfig::default() } else { listening_on(&[TCP]) };
        let (mut a, mut b) = (Node::start(config.clone()), Node::start(config));
        a.network.allow(b.key()).await;
        b.network.allow(a.key()).await;
        let (of_a, of_b) = (a.addresses().await, b.addresses().await);
        tokio::join!(a.network.dial(b.key(), of_b), b.network.dial(a.key(), of_a));
        a.connected_to(&b).await;
        b.connected_to(&a).await;
        // Anything but these frames would be an event that does not belong here.
        for number in 0..100u8 {
            a.send(&b, Bytes::from(vec![number])).await.expect("connected");
            b.send(&a, Bytes::from(vec![number])).await.expect("connected");
            assert_eq!(a.frame_of(&b).await, vec![number]);
            assert_eq!(b.frame_of(&a).await, vec![number]);
        }
        in_time(a.network.shutdown()).await;
        assert_eq!(a.event().await, Some(NetworkEvent::Disconnected { peer: b.key() }));
        assert_eq!(a.event().await, None);
    }
}

/// Whoever hears of an end may dial at once: it is not taken for a dial of a peer that is still connected. Several
/// threads, so that the dial can overtake the driver's own news of the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dial_right_after_an_end_is_not_lost() {
    for transport in [QUIC, TCP] {
        let (mut a, mut b) = (Node::start(listening_on(&[transport])), Node::start(listening_on(&[transport])));
        connect(&mut a, &mut b).await;
        for _ in 0..100 {
            b.network.disconnect(a.key()).await;
            a.disconnected_from(&b).await;
            a.dial(&b).await;
            b.disconnected_from(&a).await;
            // The connection that is being closed may still be in the way, which is said.
            while let Some(NetworkEvent::DialFailed { .. }) = a.event().await {
                a.dial(&b).await;
            }
            b.connected_to(&a).await;
        }
    }
}

/// A session that ends while its beginning still waits for room among the events is news all the same.
#[tokio::test]
async fn a_dial_is_answered_though_its_session_ended_before_it_was_reported() {
    for transport in [QUIC, TCP] {
        let (mut a, mut flooding) =
            (Node::start(listening_on(&[transport])), Node::start(listening_on(&[transport])));
        connect(&mut a, &mut flooding).await;
        // Nothing is received, until there is no room for more.
        for _ in 0..2 * EVENT_QUEUE {
            flooding.send(&a, Bytes::from_static(b"flood")).await.expect("connected");
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let mut b = Node::start(listening_on(&[transport]));
        a.network.allow(b.key()).await;
        b.network.allow(a.key()).await;
        a.dial(&b).await;
        b.connected_to(&a).await;
        in_time(b.network.shutdown()).await;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let first = loop {
            match a.event().await.expect("it runs") {
                NetworkEvent::Frame { peer, .. } if peer == flooding.key() => {}
                event => break event,
            }
        };
        assert!(matches!(&first, NetworkEvent::DialFailed { peer, .. } if *peer == b.key()), "{first:?}");
    }
}

#[tokio::test]
async fn disconnecting_writes_what_was_queued_and_lets_the_peer_come_back() {
    for config in [listening_on(&[QUIC]), listening_on(&[TCP])] {
        let (mut a, mut b) = (Node::start(config.clone()), Node::start(config));
        connect(&mut a, &mut b).await;
        for number in 0..200u8 {
            a.send(&b, Bytes::from(vec![number; 1000])).await.expect("connected");
        }
        a.network.disconnect(b.key()).await;
        for number in 0..200u8 {
            assert_eq!(b.frame_of(&a).await, vec![number; 1000]);
        }
        b.disconnected_from(&a).await;
        a.disconnected_from(&b).await;
        connect(&mut b, &mut a).await;
    }
}

#[tokio::test]
async fn shutdown_writes_what_was_queued_then_closes_everything() {
    for config in [listening_on(&[QUIC]), listening_on(&[TCP])] {
        let (mut a, mut b) = (Node::start(config.clone()), Node::start(config));
        connect(&mut a, &mut b).await;
        for number in 0..200u8 {
            a.send(&b, Bytes::from(vec![number; 1000])).await.expect("connected");
        }
        let shutting_down = a.network.clone();
        let shutdown = tokio::spawn(async move { shutting_down.shutdown().await });
        for number in 0..200u8 {
            assert_eq!(b.frame_of(&a).await, vec![number; 1000]);
        }
        b.disconnected_from(&a).await;
        in_time(shutdown).await.expect("nothing panicked");
        a.disconnected_from(&b).await;
        assert_eq!(a.event().await, None);
        // Every call still returns.
        in_time(a.network.shutdown()).await;
        in_time(a.network.allow(b.key())).await;
        let error = a.send(&b, Bytes::from_static(b"gone")).await.expect_err("shut down");
        assert_eq!(error, SendError::NotConnected { peer: b.key() });
    }
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_receiver_that_receives_nothing() {
    let (mut a, mut b) = (Node::start(NetworkConfig::default()), Node::start(NetworkConfig::default()));
    connect(&mut a, &mut b).await;
    let (network, peer) = (b.network.clone(), a.key());
    let flood = tokio::spawn(async move {
        let frame = Bytes::from(vec![0; 10_000]);
        while network.send(peer, frame.clone()).await.is_ok() {}
    });
    assert_eq!(a.frame_of(&b).await.len(), 10_000);
    in_time(a.network.shutdown()).await;
    b.disconnected_from(&a).await;
    in_time(flood).await.expect("nothing panicked");
}

#[tokio::test]
async fn a_node_ends_with_its_last_handle_or_with_its_receiver() {
    let (mut a, mut b) = (Node::start(NetworkConfig::default()), Node::start(NetworkConfig::default()));
    connect(&mut a, &mut b).await;
    let (of_a, network, mut events) = (a.key(), a.network, a.events);
    let clone = network.clone();
    drop(network);
    in_time(clone.send(b.key(), Bytes::from_static(b"still here"))).await.expect("connected");
    drop(clone);
    assert_eq!(
        b.event().await,
        Some(NetworkEvent::Frame { peer: of_a, bytes: Bytes::from_static(b"still here") })
    );
    assert_eq!(b.event().await, Some(NetworkEvent::Disconnected { peer: of_a }));
    assert_eq!(in_time(events.recv()).await, Some(NetworkEvent::Disconnected { peer: b.key() }));
    assert_eq!(in_time(events.recv()).await, None);

    let mut c = Node::start(NetworkConfig::default());
    connect(&mut c, &mut b).await;
    let (of_c, network) = (c.key(), c.network);
    drop(c.events);
    assert_eq!(b.event().await, Some(NetworkEvent::Disconnected { peer: of_c }));
    in_time(network.allow(b.key())).await;
}

#[tokio::test]
async fn a_restarted_peer_is_connected_anew() {
    let (mut a, mut b) = (Node::start(listening_on(&[QUIC])), Node::start(listening_on(&[QUIC])));
    connect(&mut a, &mut b).await;
    let secret = b.secret;
    in_time(b.network.shutdown()).await;
    a.disconnected_from(&b).await;
    let mut b = Node::with_secret(secret, listening_on(&[QUIC]));
    connect(&mut b, &mut a).await;
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_the_start() {
    let start = |config| Network::start([7; 32], config).map(drop).expect_err("it cannot work");
    let memory = start(listening_on(&["/memory/7"]));
    assert!(matches!(memory, NetworkError::Listen { .. }), "{memory:?}");
    let nameless = "/ip4/127.0.0.1/udp/1/quic-v1".parse().expect("an address");
    let relay = start(NetworkConfig { relays: vec![nameless], ..NetworkConfig::default() });
    assert!(matches!(relay, NetworkError::NamelessRelay(_)), "{relay:?}");
    // libp2p sets SO_REUSEPORT on TCP, so that two nodes could listen on one port there.
    let node = Node::start(listening_on(&[QUIC]));
    let taken = node.addresses().await;
    let again = start(NetworkConfig { listen: taken, ..NetworkConfig::default() });
    assert!(matches!(again, NetworkError::Listen { .. }), "{again:?}");
}
