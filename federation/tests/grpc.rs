//! Nodes on this machine, over gRPC. Every wait is for an event, and bounded.

mod grpc {
    mod hostile;
    pub mod node;
    mod raw;
    mod settle;
}

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cairn_federation::grpc::speaks;
use cairn_federation::network::limits::{
    EVENT_QUEUE, MAX_FRAME_BYTES, MAX_STRANGERS, STRANGER_FRAME_BYTES, STRANGER_FRAMES,
};
use cairn_federation::{DialFailure, GrpcConfig, GrpcError, GrpcNetwork, NetworkEvent, SendError};
use grpc::node::{Node, connect, in_time, listening};

#[tokio::test]
async fn frames_go_both_ways_in_order_whatever_their_size() {
    let (mut a, mut b) = (Node::start(), Node::start());
    let address = connect(&mut a, &mut b).await;
    assert!(speaks(&address), "{address}");
    let sizes = [0, 1, 100, 8191, 8192, 65_536, 300_000, MAX_FRAME_BYTES - 1, MAX_FRAME_BYTES, 3];
    for (round, size) in sizes.into_iter().enumerate() {
        let (to_b, to_a) = (Bytes::from(vec![round as u8; size]), Bytes::from(vec![round as u8 + 100; size]));
        a.send(&b, to_b.clone()).await.expect("connected");
        b.send(&a, to_a.clone()).await.expect("connected");
        assert!(b.frame_of(&a).await == to_b, "round {round}");
        assert!(a.frame_of(&b).await == to_a, "round {round}");
    }
}

#[tokio::test]
async fn ten_thousand_small_frames_arrive_in_order() {
    let (mut a, mut b) = (Node::start(), Node::start());
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
async fn a_slow_receiver_holds_back_a_fast_sender() {
    const FRAMES: usize = 64;
    // The sender's queue (4 MiB), the window and what sockets buffer (4 MiB each on either side), what is encoded and
    // what is decoded (2 frames each), and what waits to be received (2 MiB). Without those limits it is all of them.
    const BETWEEN: usize = 24;
    let (mut a, mut b) = (Node::start(), Node::start());
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
    let still = Duration::from_millis(500);
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
async fn what_cannot_be_sent_is_said() {
    let (mut a, mut b) = (Node::start(), Node::start());
    let error = a.send(&b, Bytes::from_static(b"hello")).await.expect_err("not connected");
    assert_eq!(error, SendError::NotConnected { peer: b.key() });
    connect(&mut a, &mut b).await;
    let length = MAX_FRAME_BYTES + 1;
    let error = a.send(&b, Bytes::from(vec![0; length])).await.expect_err("too long");
    assert_eq!(error, SendError::TooLong { peer: b.key(), length });
}

#[tokio::test]
async fn a_device_with_another_key_is_not_taken_for_the_one_that_was_dialled() {
    let mut a = Node::start();
    let (expected, mut found) = (Node::start(), Node::start());
    a.network.allow(expected.key()).await;
    // The one that answers would let it in.
    found.network.allow(a.key()).await;
    a.network.dial(expected.key(), found.addresses()).await;
    let reason = a.dial_failure_of(&expected).await;
    assert!(matches!(reason, DialFailure::WrongPeer(_)), "{reason}");
    // It never heard of it either.
    let mut friend = Node::start();
    connect(&mut friend, &mut found).await;
}

#[tokio::test]
async fn one_of_several_addresses_is_enough() {
    let (mut a, mut b) = (Node::start(), Node::start());
    let other = Node::start();
    a.network.allow(b.key()).await;
    b.network.allow(a.key()).await;
    let quic = "/ip4/127.0.0.1/udp/1/quic-v1".parse().expect("an address");
    let closed = "/ip4/127.0.0.1/tcp/1/tls/http".parse().expect("an address");
    let addresses = [vec![quic, closed], other.addresses(), b.addresses()].concat();
    a.network.dial(b.key(), addresses).await;
    a.connected_to(&b).await;
    b.connected_to(&a).await;
}

#[tokio::test]
async fn a_name_is_resolved() {
    let (mut a, mut b) = (Node::start(), Node::start());
    a.network.allow(b.key()).await;
    b.network.allow(a.key()).await;
    let address = b.addresses()[0].to_string().replace("/ip4/127.0.0.1/", "/dns4/localhost/");
    a.network.dial(b.key(), vec![address.parse().expect("an address")]).await;
    a.connected_to(&b).await;
    b.connected_to(&a).await;
}

#[tokio::test]
async fn a_dial_of_a_peer_that_is_not_there_fails() {
    let mut a = Node::start();
    let gone = Node::start();
    let addresses = gone.addresses();
    in_time(gone.network.shutdown()).await;
    a.network.dial(gone.key(), addresses.clone()).await;
    assert_eq!(a.dial_failure_of(&gone).await, DialFailure::NotAllowed);
    a.network.allow(gone.key()).await;
    a.network.dial(gone.key(), addresses).await;
    let reason = a.dial_failure_of(&gone).await;
    assert!(matches!(reason, DialFailure::Unreachable(_)), "{reason}");
    a.network.dial(gone.key(), Vec::new()).await;
    assert_eq!(a.dial_failure_of(&gone).await, DialFailure::NoAddress);
    a.network.dial(gone.key(), vec!["/ip4/127.0.0.1/udp/1/quic-v1".parse().expect("an address")]).await;
    let reason = a.dial_failure_of(&gone).await;
    assert!(matches!(reason, DialFailure::Unreachable(_)), "{reason}");
}

#[tokio::test]
async fn a_stranger_is_refused_while_the_door_is_closed() {
    let (mut host, mut guest) = (Node::start(), Node::start());
    guest.network.allow(host.key()).await;
    guest.dial(&host).await;
    assert_eq!(guest.dial_failure_of(&host).await, DialFailure::Refused);
    // The host never heard of it: what it hears of first is somebody whom it knows.
    let mut friend = Node::start();
    connect(&mut friend, &mut host).await;
}

/// Two nodes, the second one a stranger to the first, and connected.
async fn host_and_guest() -> (Node, Node) {
    let (mut host, mut guest) = (Node::start(), Node::start());
    host.network.admit_strangers(true).await;
    guest.network.allow(host.key()).await;
    guest.dial(&host).await;
    guest.connected_to(&host).await;
    host.connected_to(&guest).await;
    (host, guest)
}

#[tokio::test]
async fn a_friend_that_was_named_at_the_start_is_let_in_at_once() {
    let mut guest = Node::start();
    let friends = vec![guest.key()];
    let mut host = Node::with(rand::random(), GrpcConfig { friends, ..listening("127.0.0.1:0") });
    guest.network.allow(host.key()).await;
    guest.dial(&host).await;
    guest.connected_to(&host).await;
    host.connected_to(&guest).await;
}

/// A session that ends while its beginning still waits for room among the events is news all the same.
#[tokio::test]
async fn a_dial_is_answered_though_its_session_ended_before_it_was_reported() {
    let (mut a, mut flooding, mut b) = (Node::start(), Node::start(), Node::start());
    connect(&mut a, &mut flooding).await;
    // Nothing is received, until there is no room for more.
    for _ in 0..2 * EVENT_QUEUE {
        flooding.send(&a, Bytes::from_static(b"flood")).await.expect("connected");
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    a.network.allow(b.key()).await;
    b.network.allow(a.key()).await;
    a.dial(&b).await;
    b.connected_to(&a).await;
    in_time(b.network.shutdown()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let first = loop {
        match a.event().await.expect("it runs") {
            NetworkEvent::Frame { peer, .. } if peer == flooding.key() => {}
            event => break event,
        }
    };
    assert!(matches!(&first, NetworkEvent::DialFailed { peer, .. } if *peer == b.key()), "{first:?}");
}

#[tokio::test]
async fn a_stranger_enters_by_the_open_door_and_leaves_when_it_closes() {
    let (mut host, mut guest) = host_and_guest().await;
    guest.send(&host, Bytes::from_static(b"let me in")).await.expect("connected");
    assert_eq!(host.frame_of(&guest).await, "let me in");
    host.network.admit_strangers(false).await;
    host.disconnected_from(&guest).await;
    guest.disconnected_from(&host).await;
}

#[tokio::test]
async fn a_stranger_that_is_allowed_stays_and_is_free_of_limits() {
    let (mut host, guest) = host_and_guest().await;
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
    let (mut host, mut guest) = host_and_guest().await;
    guest.send(&host, Bytes::from(vec![7; STRANGER_FRAME_BYTES + 1])).await.expect("connected");
    assert_eq!(host.event().await, Some(NetworkEvent::Disconnected { peer: guest.key() }));
    guest.disconnected_from(&host).await;

    let (mut host, mut guest) = host_and_guest().await;
    for _ in 0..=STRANGER_FRAMES {
        // The last ones may come too late.
        let _ = guest.send(&host, Bytes::from_static(b"few")).await;
    }
    for _ in 0..STRANGER_FRAMES {
        assert_eq!(host.frame_of(&guest).await, "few");
    }
    assert_eq!(host.event().await, Some(NetworkEvent::Disconnected { peer: guest.key() }));
    guest.disconnected_from(&host).await;
}

#[tokio::test]
async fn only_a_few_strangers_enter_at_once() {
    let mut host = Node::start();
    host.network.admit_strangers(true).await;
    let mut guests = Vec::new();
    for _ in 0..MAX_STRANGERS {
        let mut guest = Node::start();
        guest.network.allow(host.key()).await;
        guest.dial(&host).await;
        guest.connected_to(&host).await;
        host.connected_to(&guest).await;
        guests.push(guest);
    }
    let mut late = Node::start();
    late.network.allow(host.key()).await;
    late.dial(&host).await;
    assert_eq!(late.dial_failure_of(&host).await, DialFailure::Refused);
    // A friend is not in the way of strangers, nor they in its.
    let mut friend = Node::start();
    connect(&mut friend, &mut host).await;
    // A place that becomes free is free.
    let gone = guests.pop().expect("some entered");
    in_time(gone.network.shutdown()).await;
    host.disconnected_from(&gone).await;
    loop {
        late.dial(&host).await;
        match late.event().await {
            Some(NetworkEvent::Connected { .. }) => break,
            Some(NetworkEvent::DialFailed { .. }) => {}
            event => panic!("{event:?}"),
        }
    }
    host.connected_to(&late).await;
}

#[tokio::test]
async fn a_blocked_peer_is_cut_off_at_once_and_stays_out() {
    let (mut a, mut b) = (Node::start(), Node::start());
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
    let (mut a, mut b) = (Node::start(), Node::start());
    connect(&mut a, &mut b).await;
    let flood = b.flood(&a);
    assert_eq!(a.frame_of(&b).await.len(), 10_000);
    in_time(a.network.block(b.key())).await;
    b.disconnected_from(&a).await;
    in_time(flood).await.expect("nothing panicked");
}

#[tokio::test]
async fn disconnecting_writes_what_was_queued_and_lets_the_peer_come_back() {
    for the_dialler_leaves in [true, false] {
        let (mut a, mut b) = (Node::start(), Node::start());
        if the_dialler_leaves {
            connect(&mut a, &mut b).await
        } else {
            connect(&mut b, &mut a).await
        };
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
    for the_dialler_leaves in [true, false] {
        let (mut a, mut b) = (Node::start(), Node::start());
        if the_dialler_leaves {
            connect(&mut a, &mut b).await
        } else {
            connect(&mut b, &mut a).await
        };
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
async fn shutdown_does_not_wait_for_a_receiver_that_receives_nothing_and_frees_the_port() {
    let (mut a, mut b) = (Node::start(), Node::start());
    connect(&mut b, &mut a).await;
    let flood = b.flood(&a);
    assert_eq!(a.frame_of(&b).await.len(), 10_000);
    let port = a.socket();
    in_time(a.network.shutdown()).await;
    b.disconnected_from(&a).await;
    in_time(flood).await.expect("nothing panicked");
    let again = Node::with(a.secret, GrpcConfig { listen: vec![port], ..GrpcConfig::default() });
    assert_eq!(again.socket(), port);
}

#[tokio::test]
async fn a_node_ends_with_its_last_handle_or_with_its_receiver() {
    let (mut a, mut b) = (Node::start(), Node::start());
    connect(&mut a, &mut b).await;
    let (of_a, network, mut events) = (a.key(), a.network, a.events);
    let clone = network.clone();
    drop(network);
    in_time(clone.send(b.key(), Bytes::from_static(b"still here"))).await.expect("connected");
    drop(clone);
    let still = NetworkEvent::Frame { peer: of_a, bytes: Bytes::from_static(b"still here") };
    assert_eq!(b.event().await, Some(still));
    assert_eq!(b.event().await, Some(NetworkEvent::Disconnected { peer: of_a }));
    assert_eq!(in_time(events.recv()).await, Some(NetworkEvent::Disconnected { peer: b.key() }));
    assert_eq!(in_time(events.recv()).await, None);

    let mut c = Node::start();
    connect(&mut c, &mut b).await;
    let (of_c, network) = (c.key(), c.network);
    drop(c.events);
    assert_eq!(b.event().await, Some(NetworkEvent::Disconnected { peer: of_c }));
    in_time(network.allow(b.key())).await;
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_the_start() {
    let node = Node::start();
    let start = |listen: SocketAddr| {
        GrpcNetwork::start([7; 32], GrpcConfig { listen: vec![listen], ..GrpcConfig::default() })
            .map(drop)
            .expect_err("it cannot work")
    };
    for socket in [node.socket(), "192.0.2.1:0".parse().expect("a socket")] {
        let error = start(socket);
        assert!(matches!(error, GrpcError::Listen { address, .. } if address == socket), "{error:?}");
    }
}

#[tokio::test]
async fn addresses_are_those_that_can_be_dialled() {
    let everywhere = Node::with([7; 32], listening("0.0.0.0:0"));
    assert_eq!(everywhere.addresses(), Vec::new());
    let address: cairn_federation::Multiaddr = "/dns/example.org/tcp/7413/tls/http".parse().expect("an address");
    everywhere.network.announce(address.clone()).await;
    everywhere.network.announce(address.clone()).await;
    assert_eq!(everywhere.addresses(), [address]);
}
