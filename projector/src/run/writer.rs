//! Writes what was folded, and takes a generation through its life: filled, made ready, served, kept up.

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use cairn_read_model::change::Batch;
use tokio::sync::watch;

use super::feeder::Feed;
use super::meter::{Meter, eta};
use super::{Purpose, RETRY_PAUSE, Run, SETTLE_AFTER, pause};
use crate::projection::{Generation, ProjectionError};
use crate::projector::ProjectorError;
use crate::slot::{Replaced, Slot};
use crate::status::{Phase, Progress};

pub(super) struct Writer {
    slot: Arc<Slot>,
    run: Arc<Run>,
    generation: Box<dyn Generation>,
    purpose: Purpose,
    stage: Stage,
    position: u64,
    progress: watch::Sender<Progress>,
    meter: Meter,
}

/// Where a generation is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is filled up to the log's end.
    Filling,
    /// It is ready to serve as soon as it has what came in meanwhile.
    Ready,
    /// It has taken the place of what served, up to a position that readers have seen.
    Overtaking { replaced: Replaced, seen: u64, since: Instant },
    /// It serves.
    Serving,
}

/// Why a writer stops.
enum Stop {
    /// It was asked to.
    Asked,
    /// What it has written is written no more: the generation must be opened anew.
    Behind(String),
    /// What it has built is not what the log gives.
    Differs(String),
    /// It cannot go on.
    Failed(String),
}

impl Writer {
    pub(super) fn new(
        slot: Arc<Slot>,
        run: Arc<Run>,
        generation: Box<dyn Generation>,
        purpose: Purpose,
        progress: watch::Sender<Progress>,
    ) -> Self {
        let position = generation.checkpoint();
        let stage = if purpose == Purpose::Serve { Stage::Serving } else { Stage::Filling };
        Self { slot, run, generation, purpose, stage, position, progress, meter: Meter::new() }
    }

    pub(super) fn run(mut self, batches: &Receiver<Feed>) {
        let stop = self.write(batches);
        if let Err(error) = self.generation.close() {
            tracing::warn!(projection = self.name(), error = explain(&error), "a generation is left untidy");
        }
        self.run.cancel.cancel();
        if matches!(self.stage, Stage::Overtaking { .. }) {
            self.slot.swap_ended();
        }
        if matches!(stop, Stop::Differs(_)) {
            // Else the next build would go on with it, and it would serve after all.
            self.slot.forget(self.run.generation);
        } else if !self.serves() {
            self.slot.given_up(&self.run, self.position);
        }
        let behind = matches!(stop, Stop::Behind(_));
        let failed = self.told(stop);
        self.progress.send_modify(|progress| {
            progress.phase = if failed.is_some() { Phase::Failed } else { Phase::Stopped };
            progress.problem = failed.clone().or(progress.problem.take());
            progress.events_per_second = 0.0;
            progress.eta_seconds = None;
        });
        if behind {
            let purpose = if self.serves() { Purpose::Serve } else { self.purpose };
            Slot::go_on(&self.slot, &self.run, purpose);
        }
        // Last, because whoever waits looks at the status next.
        if let Some(reason) = failed {
            self.slot.fail(&self.run, &reason);
        }
    }

    /// Writes down why the run ends; says why it failed, if it did.
    fn told(&self, stop: Stop) -> Option<String> {
        let (projection, generation) = (self.name(), self.run.generation);
        match stop {
            Stop::Asked => None,
            Stop::Behind(reason) => {
                tracing::warn!(projection, generation, reason, "folding again");
                None
            }
            Stop::Differs(reason) | Stop::Failed(reason) => {
                tracing::error!(projection, generation, reason, "a run failed");
                Some(reason)
            }
        }
    }

    fn write(&mut self, batches: &Receiver<Feed>) -> Stop {
        let mut settled = false;
        loop {
            let feed = match settled {
                true => batches.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => batches.recv_timeout(SETTLE_AFTER),
            };
            if self.run.cancel.is_cancelled() {
                return Stop::Asked;
            }
            let done = match feed {
                Ok(feed) => {
                    settled = false;
                    self.take(feed)
                }
                Err(RecvTimeoutError::Disconnected) => return Stop::Asked,
                Err(RecvTimeoutError::Timeout) => {
                    settled = self.settle();
                    Ok(())
                }
            };
            if let Err(stop) = done {
                return stop;
            }
        }
    }

    fn take(&mut self, feed: Feed) -> Result<(), Stop> {
        match feed {
            Feed::Batch { batch, end, span } => {
                let _inside = span.enter();
                self.apply(&batch)?;
                if end { self.caught_up() } else { Ok(()) }
            }
            Feed::End => self.caught_up(),
            Feed::Problem(problem) => {
                tracing::warn!(projection = self.name(), problem, "the log cannot be read for now");
                self.progress.send_modify(|progress| progress.problem = Some(problem));
                Ok(())
            }
            Feed::Failed(error) => Err(Stop::Failed(explain(&error))),
        }
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), Stop> {
        let began = Instant::now();
        if self.serves() && batch.memories.iter().any(|change| change.memory.is_erased()) {
            // Before the checkpoint passes the erasure, so that a kill in between changes nothing.
            self.slot.forget_erased(&self.run, batch.position);
        }
        self.insist(|generation| generation.apply(batch))?;
        self.position = self.position.max(batch.position);
        self.measure(batch, began);
        match self.stage {
            Stage::Filling | Stage::Ready => {}
            Stage::Overtaking { replaced, seen, since } if self.position >= seen => self.serve(replaced, since)?,
            Stage::Overtaking { .. } => {}
            Stage::Serving => self.slot.show(self.position),
        }
        Ok(())
    }

    fn measure(&mut self, batch: &Batch, began: Instant) {
        let name = self.name();
        let head = self.slot.head().max(self.position);
        let lag = head - self.position;
        let rate = self.meter.count(batch.events as u64);
        metrics::counter!("cairn_projection_events_total", "projection" => name).increment(batch.events as u64);
        metrics::histogram!("cairn_projection_batch_seconds", "projection" => name).record(began.elapsed());
        if self.serves() {
            metrics::gauge!("cairn_projection_events_per_second", "projection" => name).set(rate);
        }
        let position = self.position;
        self.progress.send_modify(|progress| {
            progress.position = position;
            progress.target = head;
            progress.events_per_second = rate;
            progress.eta_seconds = eta(lag, rate);
            progress.problem = None;
            progress.tidy = false;
        });
    }

    /// Everything that was in the log a moment ago is written.
    fn caught_up(&mut self) -> Result<(), Stop> {
        match self.stage {
            Stage::Filling => {
                self.phase(Phase::Indexing);
                self.insist(|generation| generation.make_ready())?;
                if matches!(self.purpose, Purpose::Build { verify: true, .. }) {
                    self.compare()?;
                }
                self.stage = Stage::Ready;
                self.phase(Phase::CatchingUp);
                // What came in meanwhile is smaller by far; if it is nothing, nobody will tell again.
                if self.position >= self.slot.head() { self.promote() } else { Ok(()) }
            }
            Stage::Ready => self.promote(),
            Stage::Overtaking { .. } => Ok(()),
            Stage::Serving => {
                self.phase(Phase::Live);
                Ok(())
            }
        }
    }

    /// Takes the place of the run that serves. What its readers have seen is never unseen: they are switched over only
    /// when this generation has at least as much.
    fn promote(&mut self) -> Result<(), Stop> {
        self.going()?;
        let since = Instant::now();
        let replaced = self.slot.promote(&self.run).ok_or(Stop::Asked)?;
        let seen = self.slot.shown();
        self.stage = Stage::Overtaking { replaced, seen, since };
        if self.position >= seen { self.serve(replaced, since) } else { Ok(()) }
    }

    /// Waits while the projection is paused: readers keep what they have.
    fn going(&self) -> Result<(), Stop> {
        let mut shown = self.slot.watch();
        let going = self.run.cancel.run_until_cancelled(shown.wait_for(|shown| !shown.paused));
        match self.slot.handle.block_on(going) {
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => Err(Stop::Asked),
        }
    }

    /// Folds the log once more, up to where the generation stands, and compares.
    fn compare(&mut self) -> Result<(), Stop> {
        self.phase(Phase::Verifying);
        let digester = Arc::clone(&self.run.digester);
        let mut built = None;
        self.insist(|_| {
            built = Some(digester()?);
            Ok(())
        })?;
        let (position, digest) = built.expect("it was insisted on");
        let mut meter = Meter::new();
        let (progress, mut told) = (&self.progress, 0);
        let reference = self.slot.reference(position, &self.run.cancel, |reached| {
            let rate = meter.count(reached - told);
            told = reached;
            progress.send_modify(|progress| {
                (progress.position, progress.target) = (reached, position);
                progress.events_per_second = rate;
                progress.eta_seconds = eta(position - reached, rate);
            });
        });
        let (reached, head) = (self.position, self.slot.head());
        self.progress.send_modify(|progress| (progress.position, progress.target) = (reached, head.max(reached)));
        match reference {
            Ok(reference) if reference == digest => Ok(()),
            Ok(reference) => Err(Stop::Differs(format!(
                "its digest at position {position} is {digest}, a fold of its own gives {reference}; it does not serve, \
                 and is deleted"
            ))),
            Err(ProjectorError::ShuttingDown) => Err(Stop::Asked),
            Err(error) => Err(Stop::Failed(format!("it could not be verified: {}", explain(&error)))),
        }
    }

    fn serve(&mut self, replaced: Replaced, since: Instant) -> Result<(), Stop> {
        let number = self.run.generation;
        let slot = Arc::clone(&self.slot);
        self.insist(|generation| {
            // Named first: after a kill in between, the next start serves the complete new one.
            slot.generations
                .serve(number)
                .map_err(|source| ProjectionError::Register { projection: slot.projection.name(), source })?;
            generation.switch()?;
            generation.serve();
            Ok(())
        })?;
        self.stage = Stage::Serving;
        let useless = self.slot.switched(replaced, self.position);
        self.slot.show(self.position);
        let seconds = since.elapsed().as_secs_f64();
        self.progress.send_modify(|progress| progress.swap_seconds = Some(seconds));
        metrics::histogram!("cairn_projection_swap_seconds", "projection" => self.name()).record(seconds);
        let (projection, position) = (self.name(), self.position);
        tracing::info!(projection, generation = number, position, seconds, "serving");
        self.slot.tidy(useless);
        self.phase(Phase::Live);
        Ok(())
    }

    /// Puts the generation in order; says whether nothing is left to do.
    fn settle(&mut self) -> bool {
        self.meter.rest();
        self.progress.send_if_modified(|progress| std::mem::take(&mut progress.events_per_second) != 0.0);
        let tidy = match self.generation.settle() {
            Ok(left) => !left,
            Err(error) => {
                tracing::warn!(projection = self.name(), error = explain(&error), "a generation is left untidy");
                false
            }
        };
        self.progress.send_if_modified(|progress| std::mem::replace(&mut progress.tidy, tidy) != tidy);
        tidy
    }

    /// Does something until it is done, the run is to end, or it fails for good.
    fn insist(
        &mut self,
        mut work: impl FnMut(&mut dyn Generation) -> Result<(), ProjectionError>,
    ) -> Result<(), Stop> {
        loop {
            let Err(error) = work(self.generation.as_mut()) else { return Ok(()) };
            let problem = explain(&error);
            if error.is_behind() {
                return Err(Stop::Behind(problem));
            }
            if !error.is_transient() {
                return Err(Stop::Failed(problem));
            }
            tracing::warn!(projection = self.name(), problem, "a projection cannot write for now");
            self.progress.send_modify(|progress| progress.problem = Some(problem));
            pause(&self.slot.handle, &self.run.cancel, RETRY_PAUSE);
            if self.run.cancel.is_cancelled() {
                return Err(Stop::Asked);
            }
        }
    }

    fn phase(&self, phase: Phase) {
        self.progress.send_if_modified(|progress| std::mem::replace(&mut progress.phase, phase) != phase);
    }

    fn serves(&self) -> bool {
        matches!(self.stage, Stage::Serving | Stage::Overtaking { .. })
    }

    fn name(&self) -> &'static str {
        self.slot.projection.name()
    }
}

/// An error with everything that caused it, on one line.
fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
