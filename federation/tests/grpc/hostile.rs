//! A node beside peers that break the rules, of TLS, of HTTP/2 and of gRPC.

use bytes::Bytes;
use cairn_federation::grpc::limits::HANDSHAKE_TIME;
use cairn_federation::network::limits::{MAX_FRAME_BYTES, MAX_PENDING_INCOMING};
use cairn_federation::{NetworkEvent, PeerKey};
use cairn_proto::sync::{Frame, Pair, Paired, frame::Body};
use http::Request;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::node::{Node, connect, in_time};
use super::raw::{self, Shown, call, ed25519, http, key_of, tls};

/// Any RSA key of 2048 bits, as PKCS #8. It protects nothing.
const RSA: &[u8] = include_bytes!("rsa.pk8");

/// What HTTP/2 begins with, and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Nothing that the node decodes or answers comes of such a handshake.
async fn is_refused(node: &mut Node, shown: Shown) {
    let mut stream = tls(node, shown).await;
    // It fails where the node was quicker.
    let _ = stream.write_all(PREFACE).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let _ = in_time(stream.read_to_end(&mut answer)).await;
    assert_eq!(answer, b"", "the node spoke HTTP/2 with somebody whom it does not know");
    // The node never heard of it: what it hears of first is somebody whom it knows.
    let mut friend = Node::start();
    connect(&mut friend, node).await;
    in_time(friend.network.shutdown()).await;
    node.disconnected_from(&friend).await;
}

#[tokio::test]
async fn who_shows_no_ed25519_certificate_is_refused_even_by_the_open_door() {
    let mut node = Node::start();
    node.network.admit_strangers(true).await;
    is_refused(&mut node, Shown::nothing()).await;
    let ecdsa = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key can be made");
    is_refused(&mut node, Shown::of(&ecdsa)).await;
    let rsa = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(RSA), &PKCS_RSA_SHA256);
    is_refused(&mut node, Shown::of(&rsa.expect("an RSA key"))).await;
}

#[tokio::test]
async fn who_shows_the_certificate_of_somebody_else_is_refused() {
    let mut node = Node::start();
    let (friend, attacker) = (ed25519(), ed25519());
    node.network.allow(key_of(&friend)).await;
    is_refused(&mut node, Shown::certificate_of(&friend, &attacker)).await;
}

#[tokio::test]
async fn nothing_is_read_from_a_device_that_is_not_allowed() {
    let mut node = Node::start();
    let device = ed25519();
    is_refused(&mut node, Shown::of(&device)).await;
    // Allowed, the same one is answered.
    node.network.allow(key_of(&device)).await;
    let mut stream = tls(&node, Shown::of(&device)).await;
    stream.write_all(PREFACE).await.expect("connected");
    stream.flush().await.expect("connected");
    assert!(in_time(stream.read(&mut [0; 64])).await.expect("connected") > 0);
}

async fn connected(node: &mut Node, peer: PeerKey) {
    let event = node.event().await;
    assert!(matches!(&event, Some(NetworkEvent::Connected { peer: of, .. }) if *of == peer), "{event:?}");
}

async fn disconnected(node: &mut Node, peer: PeerKey) {
    assert_eq!(node.event().await, Some(NetworkEvent::Disconnected { peer }));
}

#[tokio::test]
async fn any_grpc_client_can_exchange_frames() {
    let mut node = Node::start();
    let device = ed25519();
    let peer = key_of(&device);
    node.network.allow(peer).await;
    let mut call = call(&node, &device).await.expect("it is allowed");
    connected(&mut node, peer).await;
    let frame = Frame { body: Some(Body::Pair(Pair { secret: Bytes::from_static(b"secret") })) };
    call.frames.send(frame).await.expect("connected");
    let bytes = Bytes::from_static(b"\x12\x08\x0a\x06secret");
    assert_eq!(node.event().await, Some(NetworkEvent::Frame { peer, bytes }));
    // As it stands, a frame is what the .proto file says.
    in_time(node.network.send(peer, Bytes::from_static(&[0x1a, 0]))).await.expect("connected");
    let answer = in_time(call.answers.message()).await.expect("connected");
    assert_eq!(answer, Some(Frame { body: Some(Body::Paired(Paired {})) }));
    drop(call.frames);
    disconnected(&mut node, peer).await;
    assert_eq!(in_time(call.answers.message()).await.expect("an orderly end"), None);
    in_time(call.closed).await.expect("nothing panicked");
}

#[tokio::test]
async fn a_frame_beyond_the_limit_closes_the_connection() {
    let mut node = Node::start();
    let device = ed25519();
    node.network.allow(key_of(&device)).await;
    let call = call(&node, &device).await.expect("it is allowed");
    connected(&mut node, key_of(&device)).await;
    let secret = Bytes::from(vec![7; MAX_FRAME_BYTES]);
    call.frames.send(Frame { body: Some(Body::Pair(Pair { secret })) }).await.expect("connected");
    disconnected(&mut node, key_of(&device)).await;
    in_time(call.closed).await.expect("nothing panicked");
}

#[tokio::test]
async fn what_is_no_message_closes_the_connection() {
    // A length of 2 GiB, a message said to be compressed, one of an unknown kind, and one that is cut short.
    for bytes in ["\0\x7f\x7f\x7f\x7f", "\x01\0\0\0\x01x", "\x07\0\0\0\x01x", "\0\0\0\0\x09no"] {
        let mut node = Node::start();
        let device = ed25519();
        node.network.allow(key_of(&device)).await;
        let (mut sender, closed) = http(&node, &device).await;
        let body = tonic::body::Body::new(bytes.to_owned());
        let request = Request::post("https://anybody/cairn.sync.v1.Link/Frames").body(body).expect("a request");
        let answer = in_time(sender.send_request(request)).await.expect("the node answers");
        assert_eq!(answer.status(), 200);
        drop((answer, sender));
        connected(&mut node, key_of(&device)).await;
        disconnected(&mut node, key_of(&device)).await;
        in_time(closed).await.expect("nothing panicked");
    }
}

#[tokio::test]
async fn another_method_is_refused_and_its_connection_is_closed_in_time() {
    let node = Node::start();
    let device = ed25519();
    node.network.allow(key_of(&device)).await;
    let (mut sender, closed) = http(&node, &device).await;
    for path in ["https://anybody/cairn.sync.v1.Link/Other", "https://anybody/"] {
        let request = Request::post(path).body(tonic::body::Body::empty()).expect("a request");
        let answer = in_time(sender.send_request(request)).await.expect("the node answers");
        assert_eq!(answer.headers()["grpc-status"], "12");
    }
    let since = Instant::now();
    in_time(closed).await.expect("nothing panicked");
    assert!(since.elapsed() <= HANDSHAKE_TIME * 3 / 2, "{:?}", since.elapsed());
}

#[tokio::test]
async fn who_says_nothing_is_cut_off_in_time_and_keeps_nobody_out_who_is_in() {
    let (mut node, mut friend) = (Node::start(), Node::start());
    connect(&mut friend, &mut node).await;
    let mut silent = Vec::new();
    for _ in 0..MAX_PENDING_INCOMING {
        silent.push(TcpStream::connect(node.socket()).await.expect("the node listens"));
    }
    let ended = async |mut stream: TcpStream| {
        // Whether it is an error or an end is the system's choice.
        let _ = in_time(stream.read(&mut [0])).await;
    };
    let since = Instant::now();
    ended(TcpStream::connect(node.socket()).await.expect("the system takes it")).await;
    assert!(since.elapsed() < HANDSHAKE_TIME / 2, "one too many is closed at once");
    friend.send(&node, Bytes::from_static(b"still here")).await.expect("connected");
    assert_eq!(node.frame_of(&friend).await, "still here");
    for stream in silent {
        ended(stream).await;
    }
    assert!(since.elapsed() >= HANDSHAKE_TIME / 2, "they had their time");
    let mut late = Node::start();
    connect(&mut late, &mut node).await;
}

#[tokio::test]
async fn a_peer_has_few_connections() {
    let mut node = Node::start();
    let device = raw::beside(&node, true);
    node.network.allow(key_of(&device)).await;
    let mut open = Vec::new();
    for _ in 0..cairn_federation::grpc::limits::MAX_CONNECTIONS_PER_PEER {
        let mut stream = tls(&node, Shown::of(&device)).await;
        stream.write_all(PREFACE).await.expect("connected");
        assert!(in_time(stream.read(&mut [0; 64])).await.expect("connected") > 0);
        open.push(stream);
    }
    is_refused(&mut node, Shown::of(&device)).await;
}
