//! A node that was away for a week. `libfaketime` moves the clocks, each by what a file says.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_testkit::{NodeOptions, not_tested};
use cairn_tests::sharing::{add, add_many, create, pair, rename, sees, share, space, title, wait};
use tokio::time::sleep;

use super::{PATIENCE, same, start};

/// Where Debian, Fedora and Arch put it.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];
/// What is known to be late is waited for as long.
const A_WHILE: Duration = Duration::from_secs(3);
/// Longer than a node keeps what its clock says, which is a second.
const CLOCK_READ: Duration = Duration::from_millis(1_500);

/// A clock that can be moved while a node runs by it.
struct Clock(PathBuf);

impl Clock {
    fn new(folder: &Path, name: &str) -> Self {
        let clock = Self(folder.join(name));
        clock.set("+0");
        clock
    }

    /// Moves it by so much, such as `+7d`.
    fn set(&self, by: &str) {
        // Never seen half written.
        let fresh = self.0.with_extension("new");
        fs::write(&fresh, by).and_then(|()| fs::rename(&fresh, &self.0)).expect("the folder can be written to");
    }

    fn options(&self, library: &str, name: &str) -> NodeOptions {
        let file = self.0.display().to_string();
        let environment = [
            ("CAIRN_FEDERATION__NAME", name),
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_CACHE_DURATION", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        NodeOptions { environment, ..NodeOptions::default() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_for_a_week_catches_up_and_what_has_expired_is_over() {
    let Some(library) = LIBRARIES.into_iter().find(|path| Path::new(path).exists()) else {
        return not_tested("a week of simulated time", "there is no libfaketime");
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clocks = ["anna", "bert"].map(|name| Clock::new(folder.path(), name));
    let anna = start(clocks[0].options(library, "anna")).await;
    let mut bert = start(clocks[1].options(library, "bert")).await;
    pair((&anna, "anna"), (&bert, "bert"), PATIENCE).await;
    for (tag, days) in [("garden", 90), ("visit", 3)] {
        create(&anna, tag).await;
        share(&anna, tag, (&bert, "bert"), days, PATIENCE).await;
    }
    let garden = add(&anna, "Garden", "garden").await;
    let visit = add(&anna, "Visit", "visit").await;
    for memory in [&garden, &visit] {
        wait("a memory", PATIENCE, async || title(&bert, memory).await.is_some()).await;
    }
    bert.stop().await;
    let mut written = std::collections::BTreeMap::new();
    for day in 1..=7 {
        clocks[0].set(&format!("+{day}d"));
        sleep(CLOCK_READ).await;
        let titles = (0..30).map(|number| format!("Day {day}, {number}"));
        written.extend(add_many(anna.client(), titles, "garden").await);
    }
    rename(&anna, &garden, "Garden after a week").await;
    rename(&anna, &visit, "Visit that is over").await;
    let grants = space(&anna, "visit").await.expect("it is there")["grants"].clone();
    assert_eq!(grants[0]["revoked"], true, "what has expired is ended: {grants}");

    // His clock has stood still: what is from the future waits.
    bert.launch().await.unwrap_or_else(|error| panic!("{error}"));
    wait("that they meet", PATIENCE, async || sees(&bert, "anna").await).await;
    sleep(A_WHILE).await;
    assert_eq!(title(&bert, &garden).await.as_deref(), Some("Garden"), "a week ahead is too far");
    clocks[1].set("+7d");
    let (_, took) = same(&anna, &bert, "garden", &written).await;
    println!("caught up {took:.1?} after the clock was right");
    assert_eq!(title(&bert, &garden).await.as_deref(), Some("Garden after a week"));
    assert_eq!(title(&bert, &visit).await.as_deref(), Some("Visit"), "it was changed after the end of the grant");
    rename(&bert, &visit, "Bert's visit").await;
    rename(&bert, &garden, "Bert's garden").await;
    let seen = async || title(&anna, &garden).await.as_deref() == Some("Bert's garden");
    wait("what Bert may write", PATIENCE, seen).await;
    sleep(A_WHILE).await;
    assert_eq!(title(&anna, &visit).await.as_deref(), Some("Visit that is over"), "he may not any more");
}
