//! Nodes in networks as they are out there: slow, lossy, cut for a while, hidden behind routers; and nodes whose clocks
//! went on without them, or that are killed again and again. Where a machine cannot do one of these, it is said.

#[path = "networks/clocks.rs"]
mod clocks;
#[path = "networks/kills.rs"]
mod kills;
#[path = "networks/nat.rs"]
mod nat;
#[path = "networks/partition.rs"]
mod partition;
#[path = "networks/slow.rs"]
mod slow;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cairn_testkit::{Node, NodeOptions};
use cairn_tests::networks::{Host, Lab, Weather, Wire};
use cairn_tests::sharing::{create, pair, share, titles};
use tokio::time::sleep;

/// How long anything may take. Far more than it needs.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a node listens by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// Both, of which whoever dials takes what answers first.
    Both,
    Quic,
    Tcp,
}

fn listening(options: &mut NodeOptions, address: &str, by: By) {
    let (quic, tcp) = (format!("\"/ip4/{address}/udp/7412/quic-v1\""), format!("\"/ip4/{address}/tcp/7412\""));
    let addresses = match by {
        By::Both => format!("[{quic}, {tcp}]"),
        By::Quic => format!("[{quic}]"),
        By::Tcp => format!("[{tcp}]"),
    };
    options.environment.push(("CAIRN_FEDERATION__LISTEN".to_owned(), addresses));
}

/// Starts a node that logs whom it meets.
async fn start(mut options: NodeOptions) -> Node {
    let log = ("RUST_LOG".to_owned(), "info,cairn_federation=debug,cairn_sharing=debug".to_owned());
    options.environment.push(log);
    Node::start(options).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn node_at(host: &Host, name: &str, address: &str, by: By) -> Node {
    let mut options = host.options(name);
    listening(&mut options, address, by);
    start(options).await
}

/// Anna and Bert with a wire between them, who share what has the tag `garden`. Hosts outlive nodes.
struct Two {
    anna: Node,
    bert: Node,
    wire: Wire,
    _hosts: [Host; 2],
    _lab: Lab,
}

async fn two(mut lab: Lab, weather: Weather, by: By) -> Two {
    let hosts = [lab.host("anna"), lab.host("bert")];
    let wire = lab.wire(&hosts[0], &hosts[1], weather);
    let anna = node_at(&hosts[0], "anna", &wire.address(1), by).await;
    let bert = node_at(&hosts[1], "bert", &wire.address(2), by).await;
    let took = pair((&anna, "anna"), (&bert, "bert"), PATIENCE).await;
    println!("pairing took {took:.1?}");
    create(&anna, "garden").await;
    share(&anna, "garden", (&bert, "bert"), 90, PATIENCE).await;
    Two { anna, bert, wire, _hosts: hosts, _lab: lab }
}

/// Waits until both show the same memories with a tag, among them all that are expected. Gives them, and how long it took.
async fn same(
    one: &Node,
    other: &Node,
    tag: &str,
    expected: &BTreeMap<String, String>,
) -> (BTreeMap<String, String>, Duration) {
    let began = Instant::now();
    loop {
        let (here, there) = (titles(one, tag).await, titles(other, tag).await);
        let is_in =
            |shown: &BTreeMap<String, String>| expected.iter().all(|(id, title)| shown.get(id) == Some(title));
        if here == there && is_in(&here) {
            return (here, began.elapsed());
        }
        let missing = |shown: &BTreeMap<String, String>| {
            expected.iter().filter(|(id, title)| shown.get(*id) != Some(title)).count()
        };
        assert!(
            began.elapsed() < PATIENCE,
            "they do not agree: {} and {} memories, of {} expected {} and {} are missing",
            here.len(),
            there.len(),
            expected.len(),
            missing(&here),
            missing(&there)
        );
        sleep(Duration::from_millis(100)).await;
    }
}
