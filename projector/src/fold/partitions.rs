//! Folding by several workers, each of which has the streams of its own partition.
//!
//! Folding is by memory, and a memory is a stream: no worker needs what another one has. What they make of a page is put
//! together in the order of the log, so a batch is the same whoever folded it, and so are rows, checkpoints and digests.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::thread;

use cairn_domain::id::memory_stream;
use cairn_event_store::{RecordedEvent, SharedStore};
use cairn_read_model::change::Batch;
use tokio::runtime::Handle;

use super::{Fold, FoldError};
use crate::rebuild::Workers;

/// A page with fewer events than this is folded by one thread for all: starting others takes longer.
const LEAST_SHARED_EVENTS: usize = 128;

/// A fold that is shared among workers.
pub struct PartitionedFold {
    partitions: Vec<Fold>,
    handle: Handle,
}

impl PartitionedFold {
    /// A fold with empty caches of `budget` bytes together; `entries` says whether batches list their events too.
    pub fn new(store: &SharedStore, budget: usize, entries: bool, workers: Workers, handle: Handle) -> Self {
        let share = budget / workers.count();
        let partitions = (0..workers.count()).map(|_| Fold::new(SharedStore::clone(store), share, entries));
        Self { partitions: partitions.collect(), handle }
    }

    /// Changes how much the caches may hold together.
    pub fn set_budget(&mut self, budget: usize) {
        let share = budget / self.partitions.len();
        self.partitions.iter_mut().for_each(|fold| fold.set_budget(share));
    }

    /// Changes whether batches list their events too.
    pub(crate) fn set_entries(&mut self, entries: bool) {
        self.partitions.iter_mut().for_each(|fold| fold.set_entries(entries));
    }

    /// Takes in what another fold has made of the next events of the log.
    pub fn adopt(&mut self, batch: &Batch) {
        if let [fold] = self.partitions.as_mut_slice() {
            return fold.adopt(batch);
        }
        let mut parts = vec![Vec::new(); self.partitions.len()];
        for change in &batch.memories {
            parts[partition(&memory_stream(change.memory.id()), self.partitions.len())].push(change);
        }
        self.partitions.iter_mut().zip(parts).for_each(|(fold, part)| fold.adopt_some(&part));
    }

    /// Folds the next events of the log. Blocks the thread while workers fold.
    ///
    /// # Errors
    /// See [`FoldError`]; of several, the one that the log has first. After a transient one the same events may be folded
    /// again.
    pub async fn batch(&mut self, events: &[RecordedEvent]) -> Result<Batch, FoldError> {
        if let [fold] = self.partitions.as_mut_slice() {
            return fold.batch(events).await;
        }
        let parts = split(events, self.partitions.len());
        let shares = self.partitions.iter_mut().zip(&parts);
        let batches = match events.len() {
            ..LEAST_SHARED_EVENTS => {
                let mut shares: Vec<_> = shares.collect();
                for (fold, part) in &mut shares {
                    fold.prepare(part).await?;
                }
                shares.into_iter().map(|(fold, part)| fold.fold(part)).collect()
            }
            _ => {
                let handle = &self.handle;
                // Nobody folds before everybody has read: a page that is tried again must find nothing half folded.
                first_error(at_once(shares, |fold, part| handle.block_on(fold.prepare(part))))?;
                at_once(self.partitions.iter_mut().zip(&parts), |fold, part| fold.fold(part))
            }
        };
        Ok(merge(events, first_error(batches)?))
    }
}

/// Each worker's events, in the order of the log.
fn split(events: &[RecordedEvent], workers: usize) -> Vec<Vec<&RecordedEvent>> {
    let mut parts = vec![Vec::new(); workers];
    for event in events {
        parts[partition(&event.stream, workers)].push(event);
    }
    parts
}

/// The worker of a stream: the same for as long as the process lives, which is all that a cache needs.
fn partition(stream: &str, workers: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    stream.hash(&mut hasher);
    let bucket = hasher.finish() % workers as u64;
    usize::try_from(bucket).expect("it is below the number of workers")
}

/// Does the work of every share, each on a thread of its own.
fn at_once<'a, 'e, T: Send>(
    shares: impl Iterator<Item = (&'a mut Fold, &'a Vec<&'e RecordedEvent>)>,
    work: impl Fn(&mut Fold, &[&'e RecordedEvent]) -> T + Sync,
) -> Vec<T>
where
    'e: 'a,
{
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = shares.map(|(fold, part)| scope.spawn(move || work(fold, part))).collect();
        let ended = threads.into_iter().map(thread::ScopedJoinHandle::join);
        ended.map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// All results, or the error that a fold by one worker would have met.
fn first_error<T>(results: Vec<Result<T, FoldError>>) -> Result<Vec<T>, FoldError> {
    let (mut done, mut failed) = (Vec::with_capacity(results.len()), Vec::new());
    for result in results {
        match result {
            Ok(result) => done.push(result),
            Err(error) => failed.push(error),
        }
    }
    // What the store said comes before everything: it may pass.
    match failed.into_iter().min_by_key(FoldError::position) {
        Some(error) => Err(error),
        None => Ok(done),
    }
}

/// One batch of all, in the order of the log.
fn merge(events: &[RecordedEvent], batches: Vec<Batch>) -> Batch {
    let mut merged = Batch { events: events.len(), ..Batch::default() };
    if let Some(last) = events.last() {
        merged.position = last.position.0;
        merged.recorded_at = last.recorded_at;
    }
    for batch in batches {
        merged.memories.extend(batch.memories);
        merged.principals.extend(batch.principals);
        merged.entries.extend(batch.entries);
    }
    merged.memories.sort_unstable_by_key(|change| change.first_position);
    merged.principals.sort_unstable_by_key(|change| change.position);
    merged.entries.sort_unstable_by_key(|entry| entry.position);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_has_its_share() {
        let mut shares = [0; 4];
        for number in 0..4_000 {
            let stream = format!("memory-{number}");
            let worker = partition(&stream, shares.len());
            assert_eq!(worker, partition(&stream, shares.len()));
            shares[worker] += 1;
        }
        assert!(shares.iter().all(|share| (800..1_200).contains(share)), "{shares:?}");
    }
}
