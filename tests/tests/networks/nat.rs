//! Two nodes behind routers of their own, and a third one, which anybody can reach, between them.

use std::time::{Duration, Instant};

use cairn_testkit::Node;
use cairn_tests::networks::{Host, Lab, Ports, Switch, within};
use cairn_tests::sharing::{add_many, create, pair, peer, peer_id, rename_many, share, title, wait};
use tokio::time::sleep;

use super::{By, PATIENCE, listening, same, start};

/// Where the relay is.
const RELAY: &str = "203.0.113.9";

/// How many memories each of the two adds or changes.
const CHANGES: u32 = 100;
/// Fewer bytes than a change has on its way, which are some 550, and more than it takes to keep a connection alive and to make some that are
/// not needed.
const CHANGE_BYTES: u64 = 300;

/// The pause between a few memories while they change from the relay to a direct connection.
const BETWEEN: Duration = Duration::from_millis(50);

/// What passes the relay when what is shared does, and more.
const ENOUGH: u64 = CHANGES as u64 * CHANGE_BYTES;

/// What happens after pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    GoOn,
    /// One of the two starts again.
    MeetAgain,
}

/// A host behind a router of its own, the `number`-th: at 192.168.`number`.2.
fn behind_a_router(lab: &mut Lab, internet: &mut Switch, number: u8) -> [Host; 2] {
    let (host, router) = (lab.host(&format!("inside{number}")), lab.host(&format!("router{number}")));
    let inside = |end: u8| format!("192.168.{number}.{end}/24");
    host.cable(("lan", &inside(2)), (&router, "lan", &inside(1)));
    router.plug(internet, "wan", &format!("203.0.113.{number}/24"));
    host.route_by(&format!("192.168.{number}.1"));
    [host, router]
}

async fn relay(host: &Host) -> Node {
    let mut options = host.options("relay");
    listening(&mut options, RELAY, By::Both);
    let announced = format!("[\"/ip4/{RELAY}/udp/7412/quic-v1\", \"/ip4/{RELAY}/tcp/7412\"]");
    let more = [("CAIRN_FEDERATION__RELAY", "true".to_owned()), ("CAIRN_FEDERATION__ANNOUNCE", announced)];
    options.environment.extend(more.map(|(name, value)| (name.to_owned(), value)));
    start(options).await
}

/// How a node comes to use the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Because {
    /// It is configured.
    Configured,
    /// It is a peer that relays.
    Friend,
}

/// A node behind a router, which knows the relay and keeps itself reachable through it.
async fn behind(host: &Host, number: u8, (name, because): (&str, Because), relay: &Node) -> Node {
    let mut options = host.options(name);
    listening(&mut options, &format!("192.168.{number}.2"), By::Both);
    let mut node = start(options).await;
    pair((relay, "relay"), (&node, name), PATIENCE).await;
    if because == Because::Configured {
        configure(&mut node).await;
    }
    let took = wait("a place at the relay", PATIENCE, async || {
        node.client().get("/sharing").await.text.contains("p2p-circuit")
    });
    println!("{name} has a place at the relay after {:.1?}", took.await);
    node
}

/// Starts a node again that has the relay in its configuration.
async fn configure(node: &mut Node) {
    let known = peer(node, "relay").await.expect("they have met");
    let device = known["devices"].as_object().and_then(|devices| devices.keys().next()).expect("it has a device");
    let address = format!("/ip4/{RELAY}/udp/7412/quic-v1/p2p/{}", peer_id(device));
    node.stop().await;
    node.set("CAIRN_FEDERATION__RELAYS", &format!("[\"{address}\"]"));
    node.launch().await.unwrap_or_else(|error| panic!("{error}"));
}

/// Whether a node has come to speak with another one than the relay without it, in what its log says from a place on.
fn is_direct(node: &Node, from: usize) -> bool {
    let relay = format!("/ip4/{RELAY}/");
    let direct = |line: &str| line.contains("substream for frames is open") && line.contains("relayed=false");
    node.log()[from..].lines().any(|line| direct(line) && !line.contains(&relay))
}

/// What has passed the relay while Anna and Bert made 200 changes, in bytes.
async fn passed_the_relay(mut lab: Lab, ports: Ports, afterwards: Afterwards, because: Because) -> Option<u64> {
    let mut internet = lab.switch("internet");
    let relaying = lab.host("relay");
    relaying.plug(&mut internet, "wan", &format!("{RELAY}/24"));
    let [one, one_router] = behind_a_router(&mut lab, &mut internet, 1);
    let [other, other_router] = behind_a_router(&mut lab, &mut internet, 2);
    for router in [&one_router, &other_router] {
        if let Err(refused) = router.hide_behind("wan", ports) {
            cairn_testkit::not_tested("a relay between routers", &refused.to_string());
            return None;
        }
    }
    let relay = relay(&relaying).await;
    let anna = behind(&one, 1, ("anna", because), &relay).await;
    let mut bert = behind(&other, 2, ("bert", because), &relay).await;
    let took = pair((&anna, "anna"), (&bert, "bert"), PATIENCE).await;
    println!("pairing through the relay took {took:.1?}");
    // What was said before they met again says nothing about the new connection.
    let mut from = [0, 0];
    if afterwards == Afterwards::MeetAgain {
        bert.stop().await;
        from = [anna.log().len(), bert.log().len()];
        bert.launch().await.unwrap_or_else(|error| panic!("{error}"));
    }
    create(&anna, "garden").await;
    share(&anna, "garden", (&bert, "bert"), 90, PATIENCE).await;
    let titles = |what: &'static str| (0..CHANGES).map(move |number| format!("{what} {number}"));
    let mut first = add_many(anna.client(), titles("First"), "garden").await;
    if ports == Ports::Kept {
        // What is said while they change must come as well.
        let began = Instant::now();
        while !(is_direct(&anna, from[0]) && is_direct(&bert, from[1])) {
            assert!(began.elapsed() < PATIENCE, "there is no hole");
            let more = (0..10).map(|number| format!("Meanwhile {} {number}", began.elapsed().as_millis()));
            first.extend(add_many(anna.client(), more, "garden").await);
            sleep(BETWEEN).await;
        }
        println!("direct after {:.1?}, and {} memories", began.elapsed(), first.len());
    }
    let (_, took) = same(&anna, &bert, "garden", &first).await;
    println!("all had come {took:.1?} later");
    let before = relaying.bytes("wan");
    let (ours, theirs) = tokio::join!(
        add_many(anna.client(), titles("Anna's"), "garden"),
        rename_many(&bert, first.keys().take(CHANGES as usize), "Bert's"),
    );
    same(&anna, &bert, "garden", &ours.into_iter().chain(theirs).collect()).await;
    let memory = first.keys().next().expect("some");
    assert_eq!(title(&relay, memory).await, None, "the relay is in no space");
    let (received, sent) = relaying.bytes("wan");
    // What is relayed comes in and goes out. What only comes in is for the relay itself: whoever wants to be dialled back, to find out
    // whether it can be reached, has to send up to 100 KB first.
    let passed = (received - before.0).min(sent - before.1);
    println!("the relay has received {} bytes, and sent {}", received - before.0, sent - before.1);
    if ports == Ports::Kept && passed >= ENOUGH {
        for (node, from) in [(&anna, from[0]), (&bert, from[1])] {
            println!("{}", connections(node, from));
        }
    }
    Some(passed)
}

/// What a node's log says of its connections, from a place on.
fn connections(node: &Node, from: usize) -> String {
    let about = ["substream", "session", "connection", "hole", "directly", "dial", "peer is"];
    let log = &node.log()[from..];
    let lines = log.lines().filter(|line| about.iter().any(|about| line.contains(about)));
    lines.collect::<Vec<_>>().join("\n")
}

async fn become_direct(lab: Lab, afterwards: Afterwards, because: Because) {
    let Some(passed) = passed_the_relay(lab, Ports::Kept, afterwards, because).await else { return };
    println!("{passed} bytes passed the relay after the hole was punched");
    assert!(passed < ENOUGH, "{passed} bytes passed the relay");
}

#[test]
fn two_behind_routers_meet_through_a_relay_and_then_directly() {
    within("a relay between routers", async |lab| {
        become_direct(lab, Afterwards::MeetAgain, Because::Configured).await;
    });
}

#[test]
fn two_behind_routers_are_direct_as_soon_as_they_are_paired() {
    within("a relay between routers", async |lab| become_direct(lab, Afterwards::GoOn, Because::Configured).await);
}

#[test]
fn a_peer_that_relays_is_used_without_being_configured() {
    within("a relay that nobody configured", async |lab| {
        become_direct(lab, Afterwards::GoOn, Because::Friend).await;
    });
}

#[test]
fn two_behind_routers_that_permit_no_hole_go_on_through_the_relay() {
    within("a relay between routers that permit no hole", async |lab| {
        let passed = passed_the_relay(lab, Ports::Random, Afterwards::GoOn, Because::Configured).await;
        let Some(passed) = passed else { return };
        println!("{passed} bytes passed the relay");
        assert!(passed > ENOUGH, "{passed} bytes passed the relay");
    });
}
