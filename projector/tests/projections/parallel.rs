//! Several workers fold what one would have folded.

use cairn_domain::id::memory_stream;
use cairn_event_store::{Direction, Filter, Position, RecordedEvent};
use cairn_projector::fold::{Fold, PartitionedFold};
use cairn_projector::{MAX_WORKERS, Rebuild, Workers};
use cairn_read_model::change::Batch;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Handle;

use crate::brain;
use crate::log::Log;
use crate::stage::{Stage, digest_of, models};

pub fn workers(count: usize) -> Workers {
    Workers::try_from(count).expect("so many can work")
}

pub async fn page(log: &Log, from: u64, limit: usize) -> Vec<RecordedEvent> {
    let filter = Filter::default();
    log.store.read_all(Position(from), Direction::Forwards, &filter, limit).await.expect("reads").events
}

pub fn assert_same(one: &Batch, several: &Batch) {
    assert_eq!(
        (one.position, one.events, one.recorded_at),
        (several.position, several.events, several.recorded_at)
    );
    assert_eq!(one.entries, several.entries);
    assert_eq!(one.principals, several.principals);
    assert_eq!(one.memories.len(), several.memories.len());
    for (one, other) in one.memories.iter().zip(&several.memories) {
        assert_eq!((one.memory.id(), one.revision), (other.memory.id(), other.revision));
        assert_eq!((one.first_position, one.position), (other.first_position, other.position));
        assert_eq!(one.touched, other.touched);
        assert_eq!(one.memory.body().text(), other.memory.body().text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_the_same_whoever_folds_them() {
    let mut stage = Stage::on_disk().await;
    brain::write(&mut stage.log, 300, 10, 7).await;
    let head = stage.log.head().0;
    // Caches too small for anything make every page load what came before.
    for (count, budget) in [(2, 1 << 20), (3, 0), (MAX_WORKERS, 1 << 20)] {
        let mut random = StdRng::seed_from_u64(count as u64);
        let mut one = Fold::new(stage.log.store.clone(), budget, true);
        let mut several = PartitionedFold::new(&stage.log.store, budget, true, workers(count), Handle::current());
        let mut next = 1;
        while next <= head {
            let events = page(&stage.log, next, random.random_range(1..600)).await;
            let folded = one.batch(&events).await.expect("folds");
            assert_same(&folded, &several.batch(&events).await.expect("folds"));
            next = folded.position + 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digests_are_the_same_whatever_the_number_of_workers() {
    let mut stage = Stage::on_disk().await;
    brain::write(&mut stage.log, 400, 15, 3).await;
    for model in models() {
        let name = cairn_projector::Projection::name(&model);
        let reference = digest_of(&stage.log, &model, 300, 1 << 20).await;
        for count in [1, 2, 4] {
            let rebuild = Rebuild { workers: workers(count), ..Rebuild::from_scratch() };
            let rebuild = stage.projector.rebuild(name, rebuild).await.expect("begins");
            rebuild.finished().await.expect("finishes");
            // It goes on by as many.
            brain::write(&mut stage.log, 1, 5, 9).await;
            stage.settle().await;
            assert!(stage.projector.verify(name).await.expect("verifies").matches, "{name} by {count}");
        }
        assert_ne!(stage.digest(name).await, reference, "something was added");
        assert_eq!(stage.digest(name).await, digest_of(&stage.log, &model, 300, 1 << 20).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_workers_stop_where_one_would() {
    let mut stage = Stage::on_disk().await;
    let ids = brain::write(&mut stage.log, 100, 10, 3).await;
    let first = stage.log.raw(&memory_stream(ids[0]), "memory.teleported", "{}").await;
    for id in &ids[1..20] {
        stage.log.raw(&memory_stream(*id), "memory.teleported", "{}").await;
    }
    let mut several = PartitionedFold::new(&stage.log.store, 1 << 20, false, workers(4), Handle::current());
    let events = page(&stage.log, 1, 4_096).await;
    assert!(events.len() > 200, "enough for all of them");
    let error = several.batch(&events).await.expect_err("an unknown event");
    assert_eq!(error.position(), Some(first), "{error}");
}
