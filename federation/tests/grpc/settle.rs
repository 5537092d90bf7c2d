//! One connection with each device, whoever dials.

use bytes::Bytes;
use cairn_federation::grpc::limits::RIVAL_TIME;
use cairn_federation::network::limits::EVENT_QUEUE;
use cairn_federation::{GrpcConfig, NetworkEvent};
use cairn_proto::sync::{Frame, Pair, frame::Body};
use tokio::time::Instant;

use super::node::{Node, connect, in_time};
use super::raw::{beside, call, key_of};

#[tokio::test]
async fn two_devices_that_dial_each_other_at_once_connect_once() {
    for _ in 0..50 {
        let (mut a, mut b) = (Node::start(), Node::start());
        a.network.allow(b.key()).await;
        b.network.allow(a.key()).await;
        tokio::join!(a.dial(&b), b.dial(&a));
        a.connected_to(&b).await;
        b.connected_to(&a).await;
        // Anything but these frames would be an event that does not belong here.
        for number in 0..20u8 {
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

/// After a crossing, both sides stay connected for longer than a held call waits.
#[tokio::test]
async fn what_was_settled_stays() {
    let mut pairs = Vec::new();
    for _ in 0..10 {
        let (mut a, mut b) = (Node::start(), Node::start());
        a.network.allow(b.key()).await;
        b.network.allow(a.key()).await;
        tokio::join!(a.dial(&b), b.dial(&a));
        a.connected_to(&b).await;
        b.connected_to(&a).await;
        pairs.push((a, b));
    }
    tokio::time::sleep(RIVAL_TIME * 3 / 2).await;
    for (mut a, mut b) in pairs {
        a.send(&b, Bytes::from_static(b"still here")).await.expect("connected");
        b.send(&a, Bytes::from_static(b"still here")).await.expect("connected");
        assert_eq!(b.frame_of(&a).await, "still here");
        assert_eq!(a.frame_of(&b).await, "still here");
    }
}

#[tokio::test]
async fn a_peer_that_is_connected_is_not_dialled_again() {
    let (mut a, mut b) = (Node::start(), Node::start());
    connect(&mut a, &mut b).await;
    for _ in 0..3 {
        a.dial(&b).await;
        b.dial(&a).await;
    }
    a.send(&b, Bytes::from_static(b"the only event")).await.expect("connected");
    assert_eq!(b.frame_of(&a).await, "the only event");
    b.send(&a, Bytes::from_static(b"the only event")).await.expect("connected");
    assert_eq!(a.frame_of(&b).await, "the only event");
}

#[tokio::test]
async fn a_restarted_peer_is_connected_anew() {
    let (mut a, mut b) = (Node::start(), Node::start());
    connect(&mut a, &mut b).await;
    let (secret, socket) = (b.secret, b.socket());
    in_time(b.network.shutdown()).await;
    a.disconnected_from(&b).await;
    let mut b = Node::with(secret, GrpcConfig { listen: vec![socket], ..GrpcConfig::default() });
    connect(&mut a, &mut b).await;
}

/// Whoever hears of an end may dial at once: it is not taken for a dial of a peer that is still connected. Several
/// threads, so that the dial can overtake the driver's own news of the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dial_right_after_an_end_is_not_lost() {
    let (mut a, mut b) = (Node::start(), Node::start());
    connect(&mut a, &mut b).await;
    for _ in 0..200 {
        b.network.disconnect(a.key()).await;
        a.disconnected_from(&b).await;
        a.dial(&b).await;
        b.disconnected_from(&a).await;
        while let Some(NetworkEvent::DialFailed { .. }) = a.event().await {
            a.dial(&b).await;
        }
        b.connected_to(&a).await;
    }
}

/// The peer crashed and came back, and the node does not know of it: its old connection still stands.
async fn comes_back(leads: bool) -> std::time::Duration {
    let mut node = Node::start();
    let device = beside(&node, leads);
    let peer = key_of(&device);
    node.network.allow(peer).await;
    let mut before = call(&node, &device).await.expect("it is allowed");
    assert!(matches!(node.event().await, Some(NetworkEvent::Connected { .. })));
    let since = Instant::now();
    let mut after = call(&node, &device).await.expect("it is allowed");
    let took = since.elapsed();
    assert_eq!(node.event().await, Some(NetworkEvent::Disconnected { peer }));
    assert!(matches!(node.event().await, Some(NetworkEvent::Connected { .. })));
    let _ = in_time(before.answers.message()).await;
    in_time(before.closed).await.expect("nothing panicked");
    in_time(node.network.send(peer, Bytes::from_static(&[0x1a, 0]))).await.expect("connected");
    assert!(in_time(after.answers.message()).await.expect("connected").is_some());
    took
}

#[tokio::test]
async fn a_leader_that_comes_back_without_a_goodbye_is_taken_at_once() {
    assert!(comes_back(true).await < RIVAL_TIME);
}

#[tokio::test]
async fn another_one_that_comes_back_without_a_goodbye_waits_a_little() {
    let took = comes_back(false).await;
    assert!(took >= RIVAL_TIME && took < RIVAL_TIME * 2, "{took:?}");
}

#[tokio::test]
async fn a_call_that_is_held_is_taken_as_soon_as_the_other_one_ends() {
    let mut node = Node::start();
    let device = beside(&node, false);
    node.network.allow(key_of(&device)).await;
    let before = call(&node, &device).await.expect("it is allowed");
    assert!(matches!(node.event().await, Some(NetworkEvent::Connected { .. })));
    let since = Instant::now();
    let ending = async {
        tokio::time::sleep(RIVAL_TIME / 4).await;
        drop(before.frames);
    };
    let (after, ()) = tokio::join!(call(&node, &device), ending);
    after.expect("it is allowed");
    assert!(since.elapsed() < RIVAL_TIME, "{:?}", since.elapsed());
}

#[tokio::test]
async fn one_session_waits_for_a_slow_receiver_and_no_more() {
    let mut node = Node::start();
    let device = beside(&node, true);
    let peer = key_of(&device);
    node.network.allow(peer).await;
    let first = call(&node, &device).await.expect("it is allowed");
    assert!(matches!(node.event().await, Some(NetworkEvent::Connected { .. })));
    // More frames than the queue of events has room for, so that the end of this session has to wait.
    for _ in 0..EVENT_QUEUE + 10 {
        let frame = Frame { body: Some(Body::Pair(Pair { secret: Bytes::from_static(b"7") })) };
        first.frames.send(frame).await.expect("connected");
    }
    let _second = call(&node, &device).await.expect("it is allowed");
    let third = call(&node, &device).await.expect("it is agreed to before it is found to be one too many");
    in_time(third.closed).await.expect("nothing panicked");
    let mut frames = 0;
    loop {
        match node.event().await {
            Some(NetworkEvent::Frame { .. }) => frames += 1,
            Some(NetworkEvent::Disconnected { .. }) => break,
            event => panic!("{event:?}"),
        }
    }
    assert!(frames >= EVENT_QUEUE, "{frames}");
    assert!(matches!(node.event().await, Some(NetworkEvent::Connected { .. })));
}
