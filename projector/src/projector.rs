//! The handle to all projections of a brain.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_event_store::{Position, SharedStore};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fold::FoldError;
use crate::orders::Order;
use crate::projection::{Projection, ProjectionError};
use crate::rebuild::Rebuild;
use crate::run::{Run, Together};
use crate::slot::Slot;
use crate::status::{Phase, Progress, ProjectionStatus};
use crate::turns::Turns;

/// Keeps the projections of a brain up with its log. Cheap to clone.
///
/// When the last clone is dropped the runs end by themselves, soon; [`shutdown`](Self::shutdown) waits for it.
#[derive(Clone)]
pub struct Projector {
    inner: Arc<Inner>,
}

struct Inner {
    slots: Vec<Arc<Slot>>,
    cancel: CancellationToken,
}

/// Why the projections could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The projection's folder.
    #[error("the folder of projection `{projection}` cannot be used")]
    Folder {
        /// The projection.
        projection: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its serving generation, though it may be sound.
    #[error("the serving generation of projection `{projection}` cannot be opened")]
    Open {
        /// The projection.
        projection: &'static str,
        /// Why not.
        source: ProjectionError,
    },
    /// There is no usable generation and none could be begun.
    #[error("no generation of projection `{projection}` could be begun")]
    Build {
        /// The projection.
        projection: &'static str,
        /// Why not.
        source: Box<ProjectorError>,
    },
    /// The process shuts down.
    #[error("the process is shutting down")]
    ShuttingDown,
}

/// Why something asked of the projector was not done.
#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    /// There is no such projection.
    #[error("there is no projection `{name}`; there are {known}")]
    Unknown {
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A build is under way already.
    #[error("projection `{projection}` is being rebuilt already")]
    AlreadyRebuilding {
        /// The projection.
        projection: &'static str,
    },
    /// No build is under way.
    #[error("projection `{projection}` is not being rebuilt")]
    NotRebuilding {
        /// The projection.
        projection: &'static str,
    },
    /// No generation serves yet.
    #[error("projection `{projection}` serves no generation yet; wait for its first build")]
    NotServing {
        /// The projection.
        projection: &'static str,
    },
    /// The projection is paused.
    #[error("projection `{projection}` is paused; resume it first")]
    Paused {
        /// The projection.
        projection: &'static str,
    },
    /// No generation before the serving one is kept.
    #[error("no generation of projection `{projection}` before the one that serves is kept")]
    NoPrevious {
        /// The projection.
        projection: &'static str,
    },
    /// The one that is kept cannot serve this program.
    #[error("the generation of projection `{projection}` before the one that serves is of no use; drop it")]
    UselessPrevious {
        /// The projection.
        projection: &'static str,
        /// Why.
        source: ProjectionError,
    },
    /// Another process runs the projection.
    #[error(
        "another process runs projection `{projection}` and has to be asked itself, or does not answer; ask the \
         cairn-projector, or stop it and this one takes over"
    )]
    Elsewhere {
        /// The projection.
        projection: &'static str,
    },
    /// The process that runs the projection could not do it.
    #[error("the process that runs projection `{projection}` could not do it: {reason}")]
    Refused {
        /// The projection.
        projection: &'static str,
        /// Why not.
        reason: String,
    },
    /// The build ended without serving.
    #[error("the rebuild of projection `{projection}` ended early: {reason}")]
    Ended {
        /// The projection.
        projection: &'static str,
        /// Why.
        reason: String,
    },
    /// The projection's folder.
    #[error("the folder of projection `{projection}` cannot be used")]
    Folder {
        /// The projection.
        projection: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// One of its generations.
    #[error("a generation of projection `{projection}` cannot be used")]
    Open {
        /// The projection.
        projection: &'static str,
        /// Why not.
        source: ProjectionError,
    },
    /// The log.
    #[error("projection `{projection}` cannot fold the log")]
    Fold {
        /// The projection.
        projection: &'static str,
        /// Why not.
        source: FoldError,
    },
    /// The process shuts down.
    #[error("the process is shutting down")]
    ShuttingDown,
}

/// Why a position did not become visible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// There is no such projection.
    #[error("there is no projection `{name}`")]
    Unknown {
        /// The name given.
        name: String,
    },
    /// It took too long.
    #[error("projection `{projection}` is at position {reached}, not yet at {wanted}; try again soon")]
    Timeout {
        /// The projection.
        projection: &'static str,
        /// The position waited for.
        wanted: u64,
        /// The position reached.
        reached: u64,
    },
    /// The projection is paused and gets no further until it is resumed.
    #[error("projection `{projection}` is paused at position {reached}; resume it to see position {wanted}")]
    Paused {
        /// The projection.
        projection: &'static str,
        /// The position waited for.
        wanted: u64,
        /// The position reached.
        reached: u64,
    },
    /// The projection has failed and will not get there.
    #[error("projection `{projection}` has stopped at position {reached}: {reason}")]
    Failed {
        /// The projection.
        projection: &'static str,
        /// The position reached.
        reached: u64,
        /// Why it stopped.
        reason: String,
    },
}

/// Whether a serving generation is what a fresh fold of the log gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The projection.
    pub projection: &'static str,
    /// The position at which both were digested.
    pub position: u64,
    /// Whether they are the same.
    pub matches: bool,
    /// The digest of the serving generation.
    pub serving: String,
    /// The digest of the fresh fold.
    pub fresh: String,
}

/// A build under way.
pub struct RebuildHandle {
    projection: &'static str,
    run: Arc<Run>,
}

impl Projector {
    /// Starts the projections, with their generations in folders below `root`. Returns as soon as every usable
    /// generation serves; catching up goes on in the background.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        store: SharedStore,
        root: PathBuf,
        projections: Vec<Arc<dyn Projection>>,
    ) -> Result<Self, StartError> {
        Self::start_in_turns(store, root, projections, Turns::Alone).await
    }

    /// Starts as [`start`](Self::start) does, but runs projections that other processes may run too only when it is this
    /// one's turn. Until then it knows how far they are.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_in_turns(
        store: SharedStore,
        root: PathBuf,
        projections: Vec<Arc<dyn Projection>>,
        turns: Turns,
    ) -> Result<Self, StartError> {
        let cancel = CancellationToken::new();
        let handle = Handle::current();
        let started = blocking(move || {
            let mut slots = Vec::new();
            let together = Arc::new(Together::default());
            for projection in projections {
                let (store, handle, token) = (Arc::clone(&store), handle.clone(), cancel.child_token());
                match Slot::start(projection, store, &root, handle, token, &turns, Arc::clone(&together)) {
                    Ok(slot) => slots.push(slot),
                    Err(error) => {
                        slots.iter().for_each(|slot: &Arc<Slot>| slot.stop());
                        return Err(error);
                    }
                }
            }
            Ok(Inner { slots, cancel })
        });
        let inner = started.await.unwrap_or(Err(StartError::ShuttingDown))?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How every projection fares.
    pub async fn status(&self) -> Vec<ProjectionStatus> {
        futures::future::join_all(self.inner.slots.iter().map(|slot| slot.status())).await
    }

    /// The position that queries of a projection see; `None` when there is no such projection.
    pub fn position(&self, name: &str) -> Option<Position> {
        self.inner.slots.iter().find(|slot| slot.projection.name() == name).map(|slot| Position(slot.shown()))
    }

    /// Waits until queries of a projection see a position: so readers see what they wrote. Ends at once where it would
    /// wait in vain: the projection has failed, or is paused.
    ///
    /// # Errors
    /// See [`WaitError`].
    pub async fn wait_for(&self, name: &str, position: Position, timeout: Duration) -> Result<(), WaitError> {
        let slot = self.slot(name).map_err(|_| WaitError::Unknown { name: name.to_owned() })?;
        let projection = slot.projection.name();
        let mut shown = slot.watch();
        let over = shown.wait_for(|shown| shown.position >= position.0 || shown.failed.is_some() || shown.paused);
        let outcome = tokio::time::timeout(timeout, over).await.map(|over| over.map(|shown| shown.clone()));
        match outcome {
            Ok(Ok(shown)) if shown.position >= position.0 => Ok(()),
            Ok(Ok(shown)) if shown.failed.is_none() => {
                Err(WaitError::Paused { projection, wanted: position.0, reached: shown.position })
            }
            Ok(Ok(shown)) => Err(WaitError::Failed {
                projection,
                reached: shown.position,
                reason: shown.failed.map(|reason| reason.to_string()).unwrap_or_default(),
            }),
            // The slot outlives its watchers, so only the time can have run out.
            Ok(Err(_)) | Err(_) => {
                Err(WaitError::Timeout { projection, wanted: position.0, reached: slot.shown() })
            }
        }
    }

    /// Waits until queries of every projection see a position.
    ///
    /// # Errors
    /// See [`WaitError`].
    pub async fn wait_for_all(&self, position: Position, timeout: Duration) -> Result<(), WaitError> {
        let deadline = tokio::time::Instant::now() + timeout;
        for slot in &self.inner.slots {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            self.wait_for(slot.projection.name(), position, left).await?;
        }
        Ok(())
    }

    /// Builds a new generation of a projection beside the serving one and puts it in its place when it has caught up.
    /// A build that was cancelled or killed is gone on with, unless that is not wanted.
    ///
    /// # Errors
    /// See [`ProjectorError`].
    pub async fn rebuild(&self, name: &str, rebuild: Rebuild) -> Result<RebuildHandle, ProjectorError> {
        let slot = Arc::clone(self.slot(name)?);
        let projection = slot.projection.name();
        let run = blocking(move || slot.rebuild(rebuild)).await.unwrap_or(Err(ProjectorError::ShuttingDown))?;
        Ok(RebuildHandle { projection, run })
    }

    /// Stops a build. What it has got is kept for the next one.
    ///
    /// # Errors
    /// See [`ProjectorError`].
    pub async fn cancel_rebuild(&self, name: &str) -> Result<(), ProjectorError> {
        let slot = Arc::clone(self.slot(name)?);
        blocking(move || slot.cancel_build()).await.unwrap_or(Err(ProjectorError::ShuttingDown))
    }

    /// Lets the generation before the serving one serve again, once it has what came in since.
    ///
    /// # Errors
    /// See [`ProjectorError`].
    pub async fn back(&self, name: &str) -> Result<RebuildHandle, ProjectorError> {
        let slot = Arc::clone(self.slot(name)?);
        let projection = slot.projection.name();
        let run = blocking(move || slot.back()).await.unwrap_or(Err(ProjectorError::ShuttingDown))?;
        Ok(RebuildHandle { projection, run })
    }

    /// Deletes the generation before the serving one: there is no way back to it then.
    ///
    /// # Errors
    /// See [`ProjectorError`].
    pub async fn drop_previous(&self, name: &str) -> Result<(), ProjectorError> {
        let slot = Arc::clone(self.slot(name)?);
        blocking(move || slot.drop_previous()).await.unwrap_or(Err(ProjectorError::ShuttingDown))
    }

    /// Has something done by the process that runs the projection, be it this one or another. Returns when it has begun.
    ///
    /// # Errors
    /// See [`ProjectorError`].
    pub async fn order(&self, name: &str, order: Order) -> Result<(), ProjectorError> {
        let slot = Arc::clone(self.slot(name)?);
        blocking(move || slot.order(order)).await.unwrap_or(Err(ProjectorError::ShuttingDown))
    }

    /// Pauses a projection in whatever process: from now on nothing is folded for it, also after a restart. Queries are
    /// answered from what there is.
    ///
    /// # Errors
    /// See [`ProjectorError`].
    pub async fn pause(&self, name: &str) -> Result<(), ProjectorError> {
        self.set_paused(name, true).await
    }

    /// Lets a paused projection go on from where it stands.
    ///
    /// # Errors
    /// See [`ProjectorError`].
    pub async fn resume(&self, name: &str) -> Result<(), ProjectorError> {
        self.set_paused(name, false).await
    }

    async fn set_paused(&self, name: &str, paused: bool) -> Result<(), ProjectorError> {
        let slot = Arc::clone(self.slot(name)?);
        blocking(move || slot.set_paused(paused)).await.unwrap_or(Err(ProjectorError::ShuttingDown))
    }

    /// The digest of what a projection serves, and the position it is of.
    ///
    /// # Errors
    /// See [`ProjectorError`].
    pub async fn digest(&self, name: &str) -> Result<(Position, String), ProjectorError> {
        let slot = Arc::clone(self.slot(name)?);
        let digested = blocking(move || slot.digest()).await.unwrap_or(Err(ProjectorError::ShuttingDown));
        digested.map(|(position, digest)| (Position(position), digest))
    }

    /// Folds the log anew beside what serves, as far as the serving generation has got, and compares the two.
    ///
    /// # Errors
    /// See [`ProjectorError`]. A difference is an answer, not an error.
    pub async fn verify(&self, name: &str) -> Result<Verification, ProjectorError> {
        let slot = Arc::clone(self.slot(name)?);
        let verified = blocking(move || slot.verify());
        verified.await.unwrap_or(Err(ProjectorError::ShuttingDown))
    }

    /// Ends every run after the batch it is writing, and waits for it.
    pub async fn shutdown(&self) {
        self.inner.cancel.cancel();
        let slots = self.inner.slots.clone();
        // A task is lost only where the runtime itself is ending.
        let _ = blocking(move || slots.iter().for_each(|slot| slot.stop())).await;
    }

    fn slot(&self, name: &str) -> Result<&Arc<Slot>, ProjectorError> {
        let slots = &self.inner.slots;
        slots.iter().find(|slot| slot.projection.name() == name).ok_or_else(|| {
            let known: Vec<_> = slots.iter().map(|slot| slot.projection.name()).collect();
            ProjectorError::Unknown { name: name.chars().take(80).collect(), known: known.join(", ") }
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl RebuildHandle {
    /// The generation that is built.
    pub fn generation(&self) -> u64 {
        self.run.generation
    }

    /// How far it has got, and every change of it.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.run.progress.clone()
    }

    /// Waits until the new generation serves.
    ///
    /// # Errors
    /// [`ProjectorError::Ended`] when it was cancelled or cannot be finished.
    pub async fn finished(&self) -> Result<(), ProjectorError> {
        let mut progress = self.progress();
        let over = progress.wait_for(|progress| progress.phase == Phase::Live || progress.phase.is_over()).await;
        let reason = match over {
            Ok(progress) if progress.phase == Phase::Live => return Ok(()),
            Ok(progress) if progress.phase == Phase::Stopped => {
                "it was cancelled; it can be gone on with".to_owned()
            }
            Ok(progress) => progress.problem.clone().unwrap_or_default(),
            Err(_) => "its thread is gone".to_owned(),
        };
        Err(ProjectorError::Ended { projection: self.projection, reason })
    }
}

/// Runs what blocks on a thread that may.
fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}
