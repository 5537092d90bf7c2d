//! A node that is killed again and again while it takes in what another one has.

use std::time::Duration;

use cairn_testkit::{Node, NodeOptions, Seed};
use cairn_tests::sharing::{add_many, create, pair, rename, sees, share, title, wait};
use rand::Rng;
use tokio::time::sleep;

use super::{PATIENCE, same, start};

const MEMORIES: usize = 1_500;

async fn node(name: &str) -> Node {
    let environment = vec![("CAIRN_FEDERATION__NAME".to_owned(), name.to_owned())];
    start(NodeOptions { environment, ..NodeOptions::default() }).await
}

/// When a node that was started again is killed once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// When the two have met again.
    Met,
    /// Whenever it may be.
    Anyhow,
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_again_and_again_has_everything_in_the_end() {
    kill_again_and_again(4, Again::Met).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_again_before_they_have_met_has_everything_in_the_end() {
    kill_again_and_again(10, Again::Anyhow).await;
}

async fn kill_again_and_again(kills: usize, again: Again) {
    let mut rng = Seed::take().rng();
    let (anna, mut bert) = (node("anna").await, node("bert").await);
    pair((&anna, "anna"), (&bert, "bert"), PATIENCE).await;
    let titles = (0..MEMORIES).map(|number| format!("Bed {number}"));
    let mut expected = add_many(anna.client(), titles, "garden").await;
    create(&anna, "garden").await;
    share(&anna, "garden", (&bert, "bert"), 90, PATIENCE).await;
    let memories: Vec<String> = expected.keys().cloned().collect();
    for round in 0..kills {
        sleep(Duration::from_millis(rng.random_range(0..400))).await;
        // Each changes memories of its own choice; what was acknowledged must not be lost.
        for (node, half, who) in [(&anna, 0, "Anna"), (&bert, 1, "Bert")] {
            let memory = &memories[2 * rng.random_range(0..MEMORIES / 2) + half];
            if title(node, memory).await.is_some() {
                let title = format!("{who}'s in round {round}");
                rename(node, memory, &title).await;
                expected.insert(memory.clone(), title);
            }
        }
        bert.kill9().await;
        bert.launch().await.unwrap_or_else(|error| panic!("{error}"));
        if again == Again::Met {
            let met = wait("that they meet again", PATIENCE, async || sees(&bert, "anna").await).await;
            println!("met again after {met:.1?}");
        }
    }
    let (_, took) = same(&anna, &bert, "garden", &expected).await;
    println!("{kills} kills, {} memories, agreed {took:.1?} after the last start", expected.len());
}
