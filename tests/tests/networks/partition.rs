//! The link is down for a while, both go on, and then it is up again.

use std::time::Duration;

use cairn_testkit::Node;
use cairn_tests::networks::{Lab, Weather, within};
use cairn_tests::sharing::{add, add_many, rename, rename_many, sees, title, wait};
use tokio::time::sleep;

use super::{By, PATIENCE, same, two};

/// How long nothing passes: longer than either side takes to find out.
const DOWN: Duration = Duration::from_secs(45);
/// How many memories Anna adds meanwhile, and Bert changes.
const ADDED: usize = 100;

/// Whether a node shows both values of a title that two have changed.
async fn shows_both(node: &Node, memory: &str, values: [&str; 2]) -> bool {
    let answer = node.client().get("/conflicts").await;
    answer.items().iter().any(|conflict| {
        let text = conflict.to_string();
        text.contains(memory) && values.iter().all(|value| text.contains(value))
    })
}

async fn both_go_on(lab: Lab, by: By) {
    let two = two(lab, Weather::default(), by).await;
    let memory = add(&two.anna, "Tomatoes", "garden").await;
    wait("the memory", PATIENCE, async || title(&two.bert, &memory).await.is_some()).await;
    let first = add_many(two.anna.client(), (0..ADDED).map(|number| format!("First {number}")), "garden").await;
    same(&two.anna, &two.bert, "garden", &first).await;
    two.wire.set(Weather { cut: true, ..Weather::default() });
    rename(&two.anna, &memory, "Anna's tomatoes").await;
    rename(&two.bert, &memory, "Bert's tomatoes").await;
    let (ours, theirs) = tokio::join!(
        add_many(two.anna.client(), (0..ADDED).map(|number| format!("Anna's {number}")), "garden"),
        rename_many(&two.bert, first.keys(), "Bert's"),
    );
    let gone = wait("that the other is gone", PATIENCE, async || {
        !sees(&two.anna, "bert").await && !sees(&two.bert, "anna").await
    });
    let gone = gone.await;
    sleep(DOWN.saturating_sub(gone)).await;
    assert!(title(&two.bert, ours.keys().next().expect("some")).await.is_none(), "nothing passed");
    two.wire.set(Weather::default());
    let met =
        wait("that they meet", PATIENCE, async || sees(&two.anna, "bert").await && sees(&two.bert, "anna").await);
    let met = met.await;
    let expected = ours.into_iter().chain(theirs).collect();
    let (_, agreed) = same(&two.anna, &two.bert, "garden", &expected).await;
    println!("gone after {gone:.1?}; down for {DOWN:?}; met {met:.1?} after it was up, agreed {agreed:.1?} later");
    for node in [&two.anna, &two.bert] {
        let both = ["Anna's tomatoes", "Bert's tomatoes"];
        wait("the conflict", PATIENCE, async || shows_both(node, &memory, both).await).await;
    }
    // Either side can settle it, and both see that.
    rename(&two.bert, &memory, "Everybody's tomatoes").await;
    for node in [&two.anna, &two.bert] {
        wait("the end of the conflict", PATIENCE, async || {
            title(node, &memory).await.as_deref() == Some("Everybody's tomatoes")
                && node.client().get("/conflicts").await.items().is_empty()
        })
        .await;
    }
}

#[test]
fn both_write_while_the_link_is_down_and_agree_when_it_is_up() {
    within("a partition", async |lab| both_go_on(lab, By::Quic).await);
}

#[test]
fn both_write_while_the_link_is_down_and_agree_when_it_is_up_over_tcp() {
    within("a partition over TCP", async |lab| both_go_on(lab, By::Tcp).await);
}
