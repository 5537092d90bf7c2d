//! A server that fails, and comes back: the index ends up as though it never had.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_search::document::Change;
use cairn_search::embedder::StaticEmbedder;
use cairn_search::index::{Checkpoint, SearchError, SearchIndex, Server, Settings, Timeouts};
use cairn_testkit::Seed;
use cairn_testkit::qdrant::{Double, Fault};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::stage::{new_brain, server, server_of, settings};
use crate::support::{document, found, memory, put, query};

const FAULTS: [Fault; 7] = [
    Fault::Unavailable,
    Fault::Overloaded,
    Fault::Silence,
    Fault::LostAnswer,
    Fault::LateAnswer,
    Fault::NotYetDone,
    Fault::Half,
];

/// How long a build that is disturbed may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that is given up on soon.
fn impatient(url: &str) -> Server {
    let timeouts = Timeouts { write: Duration::from_millis(500), ..Timeouts::default() };
    Server::new(Settings { timeouts, ..settings(url) }, new_brain()).unwrap()
}

async fn connect(server: &Server, generation: u64) -> SearchIndex {
    let began = Instant::now();
    loop {
        match SearchIndex::connect(server, generation, Arc::new(StaticEmbedder::new())).await {
            Ok(index) => return index,
            Err(error) => passing(&error, began),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Fails the test unless trying again may help.
fn passing(error: &SearchError, began: Instant) {
    assert!(matches!(error, SearchError::Unavailable { .. }), "{error:?}");
    assert!(began.elapsed() < PATIENCE, "{error:?}");
}

/// What fills an index, as a projection does: from its checkpoint on, every batch until it is applied, and only then
/// the checkpoint.
async fn fill(index: &SearchIndex, log: &[Vec<Change>]) -> usize {
    let (began, mut failures) = (Instant::now(), 0);
    let collection = index.collection().unwrap();
    let mut reached: Option<usize> = None;
    while reached != Some(log.len()) {
        let tried = match reached {
            None => collection.load_checkpoint().await.map(|known| known.map_or(0, |known| known.position)),
            Some(at) => step(index, log, at).await,
        };
        match tried {
            Ok(position) => reached = Some(usize::try_from(position).unwrap()),
            Err(error) => {
                failures += 1;
                passing(&error, began);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    failures
}

async fn step(index: &SearchIndex, log: &[Vec<Change>], at: usize) -> Result<u64, SearchError> {
    index.apply(log[at].clone()).await?;
    index.flush().await?;
    let position = at as u64 + 1;
    index.collection().unwrap().save_checkpoint(Checkpoint { version: 1, position }).await?;
    Ok(position)
}

/// Checks that an index is what a build of its own, never disturbed, is.
async fn is_as_fresh(index: &SearchIndex, double: &Double, log: &[Vec<Change>]) {
    double.held().faults.clear();
    let fresh = connect(&server(&double.url()), 1).await;
    assert_eq!(fill(&fresh, log).await, 0);
    assert_eq!(index.digest().await.unwrap(), fresh.digest().await.unwrap());
    assert_eq!(index.stats().await.unwrap(), fresh.stats().await.unwrap());
    let reached = index.collection().unwrap().load_checkpoint().await.unwrap().unwrap();
    assert_eq!(reached.position, log.len() as u64);
}

/// Memories that come, change, shrink and go.
fn random_log(rng: &mut StdRng, batches: usize) -> Vec<Vec<Change>> {
    let mut change = || {
        let number = rng.random_range(1..30u128);
        if rng.random_ratio(1, 5) {
            return Change::Remove(memory(number));
        }
        let words = ["alpha", "omega", "sea", "bread", "garden"];
        let body = format!("The {} and so on, long enough to count. ", words.choose(rng).unwrap());
        put(document(number, &format!("Memory {number}"), &body.repeat(rng.random_range(1..60))))
    };
    (0..batches).map(|_| (0..6).map(|_| change()).collect()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_passes_and_leaves_nothing_skipped_or_doubled() {
    for fault in FAULTS {
        let double = Double::start();
        let index = connect(&impatient(&double.url()), 1).await;
        let long = "A paragraph that is long enough to be cut into several pieces. ".repeat(100);
        index.apply(vec![put(document(1, "One", &long)), put(document(2, "Two", "alpha"))]).await.unwrap();
        let log = vec![vec![put(document(1, "One", "omega")), Change::Remove(memory(2))]];
        // Once where the new text is written, once where the surplus of the old goes, once at the checkpoint.
        for before in 0..3 {
            double.fail([Fault::None, Fault::None].into_iter().take(before).chain([fault]));
            let error = step(&index, &log, 0).await.unwrap_err();
            assert!(matches!(error, SearchError::Unavailable { .. }), "{fault:?}: {error:?}");
            assert!(double.held().faults.is_empty(), "{fault:?} {before}");
            step(&index, &log, 0).await.unwrap();
            assert_eq!(found(&index, "omega").await, [1], "{fault:?} {before}");
            if before < 2 {
                index.apply(vec![put(document(1, "One", &long)), put(document(2, "Two", "alpha"))]).await.unwrap();
            }
        }
        is_as_fresh(&index, &double, &log).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_survives_faults_and_kills_anywhere() {
    let mut rng = Seed::take().rng();
    let double = Double::start();
    let server = impatient(&double.url());
    let log = random_log(&mut rng, 60);
    let mut failures = 0;
    for end in [20, 40, 60] {
        // Those that are waited for in vain are few, for the sake of time.
        let faults = (0..40).map(|_| match rng.random_range(0..40) {
            0 => Fault::Silence,
            1 => Fault::LateAnswer,
            2..5 => Fault::Half,
            5..8 => Fault::LostAnswer,
            8..11 => Fault::NotYetDone,
            11..14 => Fault::Unavailable,
            14..17 => Fault::Overloaded,
            _ => Fault::None,
        });
        double.fail(faults.collect::<Vec<_>>());
        // The process was killed after the batch before; a new one finds its place.
        failures += fill(&connect(&server, 1).await, &log[..end]).await;
    }
    assert!(failures > 5, "{failures}");
    is_as_fresh(&connect(&server, 1).await, &double, &log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_for_a_while_is_caught_up_with() {
    let mut rng = Seed::take().rng();
    let double = Arc::new(Double::start());
    let server = impatient(&double.url());
    let index = connect(&server, 1).await;
    let log = random_log(&mut rng, 150);
    let filled = Arc::new(AtomicBool::new(false));
    let outages = tokio::spawn({
        let (double, filled) = (Arc::clone(&double), Arc::clone(&filled));
        async move {
            let mut outages = 0;
            while !filled.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(150)).await;
                double.stop();
                outages += 1;
                tokio::time::sleep(Duration::from_millis(250)).await;
                double.resume();
            }
            outages
        }
    });
    let failures = fill(&index, &log).await;
    filled.store(true, Ordering::SeqCst);
    let outages = outages.await.unwrap();
    assert!(failures > 0 && outages > 0, "{failures} failures in {outages} outages");
    is_as_fresh(&index, &double, &log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_fail_while_the_server_is_gone_and_answer_when_it_is_back() {
    let double = Double::start();
    let server = server_of(&double.url(), new_brain());
    let index = connect(&server, 1).await;
    index.apply(vec![put(document(1, "One", "alpha"))]).await.unwrap();
    double.stop();
    let began = Instant::now();
    let error = index.search(&query("alpha")).await.unwrap_err();
    assert!(
        matches!(error, SearchError::Unavailable { .. }) && error.to_string().contains("gRPC port"),
        "{error}"
    );
    assert!(server.serve(1).await.is_err() && index.digest().await.is_err() && index.stats().await.is_err());
    assert!(began.elapsed() < Duration::from_secs(30));
    double.resume();
    let began = Instant::now();
    while let Err(error) = index.search(&query("alpha")).await {
        passing(&error, began);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(found(&index, "alpha").await, [1]);
}
