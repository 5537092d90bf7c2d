//! Writes what was folded, and takes a generation through its life: filled, made ready, served, kept up.

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use cairn_read_model::change::Batch;
use chrono::Utc;
use tokio::sync::watch;

use super::feeder::Feed;
use super::meter::{Meter, eta};
use super::{Purpose, RETRY_PAUSE, Run, SETTLE_AFTER, pause};
use crate::projection::{Generation, ProjectionError};
use crate::slot::Slot;
use crate::status::{Phase, Progress};

pub(super) struct Writer {
    slot: Arc<Slot>,
    run: Arc<Run>,
    generation: Box<dyn Generation>,
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
    /// It has taken the place of another run, whose readers have seen this position.
    Overtaking(u64),
    /// It serves.
    Serving,
}

/// Why a writer stops.
enum Stop {
    /// It was asked to.
    Asked,
    /// What it has written is written no more: the generation must be opened anew.
    Behind(String),
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
        let stage = if purpose == Purpose::Build { Stage::Filling } else { Stage::Serving };
        Self { slot, run, generation, stage, position, progress, meter: Meter::new() }
    }

    pub(super) fn run(mut self, batches: &Receiver<Feed>) {
        let stop = self.write(batches);
        if let Err(error) = self.generation.close() {
            tracing::warn!(projection = self.name(), error = explain(&error), "a generation is left untidy");
        }
        self.run.cancel.cancel();
        if !self.serves() {
            self.slot.given_up(&self.run, self.position);
        }
        let behind = matches!(stop, Stop::Behind(_));
        let failed = match stop {
            Stop::Asked => None,
            Stop::Behind(reason) => {
                tracing::warn!(
                    projection = self.name(),
                    generation = self.run.generation,
                    reason,
                    "folding again"
                );
                None
            }
            Stop::Failed(reason) => {
                tracing::error!(
                    projection = self.name(),
                    generation = self.run.generation,
                    reason,
                    "a run failed"
                );
                Some(reason)
            }
        };
        self.progress.send_modify(|progress| {
            progress.phase = if failed.is_some() { Phase::Failed } else { Phase::Stopped };
            progress.problem = failed.clone().or(progress.problem.take());
            progress.events_per_second = 0.0;
            progress.eta_seconds = None;
        });
        if behind {
            let purpose = if self.serves() { Purpose::Serve } else { Purpose::Build };
            Slot::go_on(&self.slot, &self.run, purpose);
        }
        // Last, because whoever waits looks at the status next.
        if let Some(reason) = failed {
            self.slot.fail(&self.run, &reason);
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
            Stage::Overtaking(seen) if self.position >= seen => self.serve()?,
            Stage::Overtaking(_) => {}
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
            let seconds = if lag == 0 { 0.0 } else { (Utc::now() - batch.recorded_at).as_seconds_f64().max(0.0) };
            metrics::gauge!("cairn_projection_lag_events", "projection" => name).set(lag as f64);
            metrics::gauge!("cairn_projection_lag_seconds", "projection" => name).set(seconds);
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
                self.stage = Stage::Ready;
                self.phase(Phase::CatchingUp);
                // What came in meanwhile is smaller by far; if it is nothing, nobody will tell again.
                if self.position >= self.slot.head() { self.promote() } else { Ok(()) }
            }
            Stage::Ready => self.promote(),
            Stage::Overtaking(_) => Ok(()),
            Stage::Serving => {
                self.phase(Phase::Live);
                Ok(())
            }
        }
    }

    /// Takes the place of the run that serves. What its readers have seen is never unseen: they are switched over only
    /// when this generation has at least as much.
    fn promote(&mut self) -> Result<(), Stop> {
        if !self.slot.promote(&self.run) {
            return Err(Stop::Asked);
        }
        let seen = self.slot.shown();
        self.stage = Stage::Overtaking(seen);
        if self.position >= seen { self.serve() } else { Ok(()) }
    }

    fn serve(&mut self) -> Result<(), Stop> {
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
        self.slot.show(self.position);
        self.slot.tidy();
        tracing::info!(projection = self.name(), generation = number, position = self.position, "serving");
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
        matches!(self.stage, Stage::Serving | Stage::Overtaking(_))
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
