mod network { pub mod node; }
use network::node::*;
use cairn_federation::NetworkEvent;
async fn probe(t: &str) {
    let (mut a, mut b) = (Node::start(listening_on(&[t])), Node::start(listening_on(&[t])));
    connect(&mut a, &mut b).await;
    let mut failed = 0;
    for i in 0..300 {
        b.network.disconnect(a.key()).await;
        a.disconnected_from(&b).await;
        a.dial(&b).await;
        b.disconnected_from(&a).await;
        loop {
            match tokio::time::timeout(std::time::Duration::from_secs(16), a.events.recv()).await {
                Ok(Some(NetworkEvent::DialFailed { .. })) => { failed += 1; a.dial(&b).await }
                Ok(Some(NetworkEvent::Connected { .. })) => break,
                Ok(e) => panic!("round {i}: {e:?}"),
                Err(_) => panic!("round {i}: the dial is lost ({failed} failed before)"),
            }
        }
        b.connected_to(&a).await;
    }
    eprintln!("{failed} dials failed and were repeated");
}
#[tokio::test] async fn quic() { probe(QUIC).await }
#[tokio::test] async fn tcp() { probe(TCP).await }
#[tokio::test(flavor = "multi_thread", worker_threads = 4)] async fn quic_mt() { probe(QUIC).await }
#[tokio::test(flavor = "multi_thread", worker_threads = 4)] async fn tcp_mt() { probe(TCP).await }
