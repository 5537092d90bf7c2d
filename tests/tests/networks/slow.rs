//! A round trip of 200 ms, and 3 of 100 packets lost each way.

use std::time::{Duration, Instant};

use cairn_testkit::Node;
use cairn_tests::networks::{Direction, Weather, within};
use cairn_tests::sharing::{add, add_many, quantile, rename, rename_many, title, wait};

use super::{By, PATIENCE, Two, same, two};

/// One way.
const DELAY: Duration = Duration::from_millis(100);
const LOSS: f64 = 0.03;
/// How many memories Anna adds, and how many other ones Bert changes meanwhile.
const ADDED: usize = 500;
/// How many changes are waited for, one after another.
const WATCHED: usize = 100;
/// How soon a change is to be seen over the slow link without loss, at the 99th of 100.
const SEEN_WITHIN: Duration = Duration::from_secs(1);

/// How long each of many changes takes until the other node shows it.
async fn watched(from: &Node, to: &Node, memory: &str, what: &str) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..WATCHED {
        let wanted = format!("{what} {number}");
        let began = Instant::now();
        rename(from, memory, &wanted).await;
        wait("a change", PATIENCE, async || title(to, memory).await.as_ref() == Some(&wanted)).await;
        times.push(began.elapsed());
    }
    times
}

async fn report(two: &Two, memory: &str, what: &str) -> Duration {
    let mut times = watched(&two.anna, &two.bert, memory, what).await;
    let [median, late, latest] = [0.5, 0.99, 1.0].map(|share| quantile(&mut times, share));
    println!(
        "{what}: a change was seen after {median:.0?} at the median, {late:.0?} at p99, {latest:.0?} at most"
    );
    late
}

#[test]
fn they_meet_share_and_agree_over_a_link_that_is_slow_and_loses() {
    within("a slow link that loses packets", async |lab| {
        let two = two(lab, Weather { delay: DELAY, loss: LOSS, cut: false }, By::Both).await;
        let first =
            add_many(two.anna.client(), (0..ADDED).map(|number| format!("First {number}")), "garden").await;
        let (_, after) = same(&two.anna, &two.bert, "garden", &first).await;
        println!("the first {ADDED} memories came {after:.1?} after they were written");
        let memory = add(&two.anna, "Watched", "garden").await;
        let began = Instant::now();
        let (ours, theirs) = tokio::join!(
            add_many(two.anna.client(), (0..ADDED).map(|number| format!("Anna's {number}")), "garden"),
            rename_many(&two.bert, first.keys(), "Bert's"),
        );
        let written = began.elapsed();
        let expected = ours.into_iter().chain(theirs).collect();
        let (_, after) = same(&two.anna, &two.bert, "garden", &expected).await;
        let passed = [Direction::There, Direction::Back].map(|way| two.wire.passed(way) / 1_024);
        println!("{} changes made in {written:.1?}, agreed {after:.1?} later, {passed:?} KiB", 2 * ADDED);
        report(&two, &memory, "200 ms and 3 % loss").await;
    });
}

#[test]
fn a_change_is_seen_within_a_second_over_a_link_of_200_ms() {
    within("a slow link", async |lab| {
        let two = two(lab, Weather { delay: DELAY, ..Weather::default() }, By::Both).await;
        let memory = add(&two.anna, "First", "garden").await;
        wait("the first memory", PATIENCE, async || title(&two.bert, &memory).await.is_some()).await;
        let late = report(&two, &memory, "200 ms").await;
        assert!(late < SEEN_WITHIN, "p99 is {late:?}");
    });
}
