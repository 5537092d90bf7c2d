//! One run of a projection: a thread that reads and folds, and a thread that writes.
//!
//! The two are joined by a short queue. While the log is far ahead, pages are full and both threads are busy; when the
//! run has caught up, each page holds what has come in since the last one. In a quiet log that is read at once; in a
//! busy one a page waits for company for some milliseconds ([`Projection::pace`]), because each costs a transaction.

mod feeder;
mod lately;
mod meter;
mod together;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use cairn_event_store::subscription::subscribe;
use cairn_event_store::{Filter, MAX_PAGE_EVENTS, Position};
use cairn_search::background::give_way;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fold::{BUILDING_CACHE_BYTES, PartitionedFold, SERVING_CACHE_BYTES};
use crate::projection::{Digester, Generation};
use crate::rebuild::{Rebuild, Workers};
use crate::slot::Slot;
use crate::status::{Phase, Progress};
use feeder::Feeder;
use lately::Needs;
pub(crate) use together::Together;
use writer::Writer;

/// The most events that are read, folded and written at once.
pub(crate) const PAGE_EVENTS: usize = MAX_PAGE_EVENTS;
/// How many folded batches may wait to be written.
const QUEUED_BATCHES: usize = 2;
/// How long a run pauses after a failure that may pass, such as a full disk.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long a writer must have had nothing to do before it puts its generation in order.
const SETTLE_AFTER: Duration = Duration::from_millis(500);

/// A run, as the slot holds it.
pub(crate) struct Run {
    /// The generation it writes.
    pub(crate) generation: u64,
    pub(crate) cancel: CancellationToken,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) digester: Digester,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It keeps the serving generation up with the log.
    Serve,
    /// It fills a generation, makes it serve, and keeps it up from then on.
    Build {
        /// Whether it is compared with a fold of its own before it serves.
        verify: bool,
        /// How many workers fold.
        workers: Workers,
    },
}

impl Purpose {
    pub(crate) fn build(rebuild: &Rebuild) -> Self {
        Self::Build { verify: rebuild.verify, workers: rebuild.workers }
    }
}

impl Run {
    /// Starts the threads of a run.
    pub(crate) fn start(
        slot: &Arc<Slot>,
        number: u64,
        generation: Box<dyn Generation>,
        purpose: Purpose,
    ) -> std::io::Result<Arc<Self>> {
        let cancel = slot.cancel.child_token();
        let checkpoint = generation.checkpoint();
        let (progress, watched) = watch::channel(Progress {
            generation: number,
            phase: if purpose == Purpose::Serve { Phase::CatchingUp } else { Phase::Filling },
            position: checkpoint,
            target: slot.head().max(checkpoint),
            events_per_second: 0.0,
            eta_seconds: None,
            tidy: false,
            swap_seconds: None,
            problem: None,
        });
        let run = Arc::new(Self {
            generation: number,
            cancel: cancel.clone(),
            progress: watched,
            digester: generation.digester(),
            threads: Mutex::default(),
        });
        let (sender, batches) = std::sync::mpsc::sync_channel(QUEUED_BATCHES);
        let feeder = Feeder {
            name: slot.projection.name(),
            subscription: subscribe(Arc::clone(&slot.store), Position(checkpoint), Filter::default()),
            complete: checkpoint >= slot.head(),
            pace: slot.projection.pace(),
            fold: fold(slot, purpose),
            entries: slot.projection.entries(),
            member: match purpose {
                Purpose::Serve => None,
                Purpose::Build { .. } => Some(slot.together.join(checkpoint, slot.projection.entries())),
            },
            place: slot
                .together
                .serve(Needs { entries: slot.projection.entries(), urgent: slot.projection.is_urgent() }),
            going: slot.watch(),
            sender,
            cancel: cancel.clone(),
        };
        let writer = Writer::new(Arc::clone(slot), Arc::clone(&run), generation, purpose, progress);
        let name = slot.projection.name();
        let handle = slot.handle.clone();
        let urgent = slot.projection.is_urgent();
        let feeding = spawn(format!("{name}-fold"), urgent, move || feeder.run(&handle))?;
        let writing = match spawn(format!("{name}-write"), urgent, move || writer.run(&batches)) {
            Ok(writing) => writing,
            Err(error) => {
                // The feeder would wait for ever for somebody to take its batches.
                run.cancel.cancel();
                return Err(error);
            }
        };
        run.threads.lock().unwrap_or_else(PoisonError::into_inner).extend([feeding, writing]);
        Ok(run)
    }

    /// Asks the run to end after the batch it is writing, and waits until it has. Blocks.
    pub(crate) fn stop(&self) {
        self.cancel.cancel();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // Its panic, if any, has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// The fold that a run begins with.
fn fold(slot: &Slot, purpose: Purpose) -> PartitionedFold {
    let (budget, workers) = match purpose {
        Purpose::Serve => (SERVING_CACHE_BYTES, Workers::ONE),
        Purpose::Build { workers, .. } => (BUILDING_CACHE_BYTES, workers),
    };
    PartitionedFold::new(&slot.store, budget, slot.projection.entries(), workers, slot.handle.clone())
}

fn spawn(name: String, urgent: bool, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(move || {
        if !urgent {
            give_way();
        }
        work();
    })
}

/// Waits a while, or until the run is to end. Blocks.
pub(crate) fn pause(handle: &Handle, cancel: &CancellationToken, how_long: Duration) {
    let _ = handle.block_on(async { tokio::time::timeout(how_long, cancel.cancelled()).await });
}
