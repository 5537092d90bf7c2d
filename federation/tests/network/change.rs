//! Two nodes that change from one connection to another while both send: each frame arrives once and in its order, or
//! the session ends on both sides.

use std::time::Duration;

use bytes::Bytes;
use cairn_federation::{Multiaddr, Network, NetworkEvent, NetworkEvents, Outgoing, PeerKey};
use rand::Rng;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::node::{Node, QUIC, TCP, in_time};
use super::relay::{circuit, guest, relay};

/// How often they meet anew. A relay of libp2p's takes no more than 30 requests for a peer in two minutes.
const MEETINGS: usize = 20;
/// How many frames each has to hear of the other in the session that they end up with.
const ENOUGH: u64 = 200;

/// What one of the two sees of the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// How many frames came in the session that there is.
    frames: u64,
    session: Option<Kind>,
    /// How many sessions have ended.
    ended: u64,
    /// How many dials have failed.
    failed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Relayed,
    Direct,
}

/// One of the two, at work: it sends numbered frames as long as there is a session, and checks what comes.
struct Worker {
    network: Network,
    seen: watch::Receiver<Seen>,
    _task: JoinHandle<()>,
    failed: mpsc::Receiver<String>,
}

impl Worker {
    fn start(node: Node, peer: PeerKey) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let (fail, failed) = mpsc::channel(1);
        let (network, events) = (node.network.clone(), node.events);
        let task = tokio::spawn(async move {
            let Err(reason) = work(&node.network, events, peer, &sender).await else { return };
            // Nobody waits for a second one.
            let _ = fail.try_send(reason);
        });
        Self { network, seen, _task: task, failed }
    }

    /// Dials until there is a session: each dial has an outcome that is told.
    async fn reach(&mut self, peer: PeerKey, address: &Multiaddr) {
        while self.seen.borrow().session.is_none() {
            let failed = self.seen.borrow().failed;
            self.network.dial(peer, vec![address.clone()]).await;
            self.until(|seen| seen.session.is_some() || seen.failed > failed).await;
        }
    }

    async fn until(&mut self, what: impl FnMut(&Seen) -> bool) {
        let seen = &mut self.seen;
        tokio::select! {
            biased;
            reason = self.failed.recv() => panic!("{}", reason.unwrap_or_default()),
            seen = in_time(seen.wait_for(what)) => drop(seen.expect("it is at work")),
        }
    }
}

async fn work(
    network: &Network,
    mut events: NetworkEvents,
    peer: PeerKey,
    seen: &watch::Sender<Seen>,
) -> Result<(), String> {
    // Which session of the peer's the frames are from, and how many came of it.
    let mut theirs: Option<(u64, u64)> = None;
    while let Some(event) = events.recv().await {
        match event {
            NetworkEvent::Connected { relayed, .. } => {
                if seen.borrow().session.is_some() {
                    return Err("a second session has begun".to_owned());
                }
                let kind = if relayed { Kind::Relayed } else { Kind::Direct };
                seen.send_modify(|seen| (seen.frames, seen.session) = (0, Some(kind)));
                theirs = None;
                tokio::spawn(send(network.outgoing(peer).expect("it has just connected")));
            }
            NetworkEvent::Disconnected { .. } => seen.send_modify(|seen| {
                (seen.frames, seen.session) = (0, None);
                seen.ended += 1;
            }),
            NetworkEvent::Frame { bytes, .. } => {
                let (session, number) = parse(&bytes);
                let (expected, next) = theirs.unwrap_or((session, 0));
                if (session, number) != (expected, next) {
                    return Err(format!("{number} of {session:x} came in place of {next} of {expected:x}"));
                }
                theirs = Some((session, number + 1));
                seen.send_modify(|seen| seen.frames += 1);
            }
            NetworkEvent::DialFailed { reason, .. } => {
                eprintln!("a dial failed: {reason}");
                seen.send_modify(|seen| seen.failed += 1);
            }
            NetworkEvent::Discovered { .. } => {}
        }
    }
    Ok(())
}

/// Sends frames of many sizes until the session has ended.
async fn send(outgoing: Outgoing) {
    let session = rand::random::<u64>();
    for number in 0_u64.. {
        let length = rand::rng().random_range(0..2_000);
        let mut frame = [session.to_be_bytes(), number.to_be_bytes()].concat();
        frame.resize(16 + length, 7);
        if outgoing.send(Bytes::from(frame)).await.is_err() {
            return;
        }
        if number.is_multiple_of(64) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn parse(frame: &[u8]) -> (u64, u64) {
    let number = |at: usize| u64::from_be_bytes(frame[at..at + 8].try_into().expect("8 bytes"));
    (number(0), number(8))
}

/// They meet through a relay and change to a direct connection, again and again.
async fn change(transport: &str) {
    let (relay, address) = relay(&[QUIC]).await;
    let (a, b) = (guest(&[transport], &relay, &address).await, guest(&[transport], &relay, &address).await);
    a.network.allow(b.key()).await;
    b.network.allow(a.key()).await;
    let (a_key, b_key) = (a.key(), b.key());
    let (circuit, direct) = (circuit(&a).await, direct(&a).await);
    let (mut a, mut b) = (Worker::start(a, b_key), Worker::start(b, a_key));
    let mut changed = 0;
    for _ in 0..MEETINGS {
        b.reach(a_key, &circuit).await;
        changed += usize::from(b.seen.borrow().session == Some(Kind::Relayed));
        // libp2p changes by itself, or is made to, whichever comes first.
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..30))).await;
        b.network.dial(a_key, direct.clone()).await;
        for worker in [&mut a, &mut b] {
            worker.until(|seen| seen.session == Some(Kind::Direct) && seen.frames > ENOUGH).await;
        }
        let ended = [&a, &b].map(|worker| worker.seen.borrow().ended);
        b.network.disconnect(a_key).await;
        // Another one may begin at once: a hole was being punched.
        for (worker, before) in [&mut a, &mut b].into_iter().zip(ended) {
            worker.until(|seen| seen.ended > before).await;
        }
    }
    assert!(changed > MEETINGS / 4, "they changed {changed} times");
}

/// Where it listens itself.
async fn direct(node: &Node) -> Vec<Multiaddr> {
    let all = node.addresses().await;
    all.into_iter().filter(|address| !address.to_string().contains("p2p-circuit")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_frame_is_lost_in_silence_by_a_change_to_quic() {
    change(QUIC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_frame_is_lost_in_silence_by_a_change_to_tcp() {
    change(TCP).await;
}
