//! Which generation takes the place of which: swaps, pauses, and the way back to the generation before.

use std::sync::{Arc, MutexGuard, PoisonError};

use super::Slot;
use crate::projector::ProjectorError;
use crate::rebuild::Rebuild;
use crate::run::{Purpose, Run};

/// What a build takes the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// A run that served up to this position.
    Serving(u64),
    /// Nothing that could serve.
    Nothing,
}

impl Slot {
    /// Puts a build in the place of the run that serves, which is stopped. `None` where it must not: a build that was to
    /// end.
    pub(crate) fn promote(&self, run: &Arc<Run>) -> Option<Replaced> {
        let old = {
            let mut runs = self.runs();
            if run.cancel.is_cancelled() {
                return None;
            }
            runs.building = None;
            runs.swapping = true;
            runs.serving.replace(Arc::clone(run))
        };
        // Outside of the lock: the old run may take a moment to end, and asking for the status must not wait for it.
        let Some(old) = old else { return Some(Replaced::Nothing) };
        old.stop();
        Some(Replaced::Serving(self.shown()))
    }

    /// After a switch the generation before is kept as the way back. Gives it instead where it is of no use: it never served
    /// this program, or holds what was erased before the one that serves now had got to `position`.
    pub(crate) fn switched(&self, replaced: Replaced, position: u64) -> Option<u64> {
        let previous = self.generations.serving().ok().flatten().and_then(|serving| serving.previous);
        let is_of_use = match replaced {
            Replaced::Serving(seen) => !self.is_erased_between(seen, position),
            Replaced::Nothing => false,
        };
        *self.kept() = previous.filter(|_| is_of_use);
        self.swap_ended();
        previous.filter(|_| !is_of_use)
    }

    /// Deletes what is left after a swap: what the swap made useless, and everything older than the way back.
    pub(crate) fn tidy(&self, useless: Option<u64>) {
        if let Some(useless) = useless {
            self.forget(useless);
        }
        let kept = *self.kept();
        self.forget_older(kept.as_slice());
    }

    /// A swap is in the register, or will never be.
    pub(crate) fn swap_ended(&self) {
        self.runs().swapping = false;
    }

    /// Lets the generation before serve again, as soon as it has what came in since. Blocks.
    pub(crate) fn back(self: &Arc<Self>) -> Result<Arc<Run>, ProjectorError> {
        self.check_here()?;
        self.check_going()?;
        let projection = self.projection.name();
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.end_earlier_build()?;
        // An erasure that is met meanwhile waits, and finds a run that meets it, too.
        let _returning = self.returning.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.kept().ok_or(ProjectorError::NoPrevious { projection })?;
        let generation = match self.projection.open(&self.generations.place(number)) {
            Ok(generation) if generation.checkpoint() <= self.head() => generation,
            Ok(_) => return Err(ProjectorError::NoPrevious { projection }),
            Err(source) if source.is_unusable() => {
                return Err(ProjectorError::UselessPrevious { projection, source });
            }
            Err(source) => return Err(ProjectorError::Open { projection, source }),
        };
        self.start_build(number, generation, Purpose::build(&Rebuild::default()))
    }

    /// Deletes the generation before: there is no way back then. Blocks.
    pub(crate) fn drop_previous(&self) -> Result<(), ProjectorError> {
        self.check_here()?;
        let projection = self.projection.name();
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.kept().ok_or(ProjectorError::NoPrevious { projection })?;
        let building = self.runs().building.as_ref().map(|run| run.generation);
        if building == Some(number) || self.runs().swapping {
            self.check_settled()?;
        }
        self.delete(number)
    }

    /// Pauses the projection, whoever runs it, or lets it go on. Blocks.
    pub(crate) fn set_paused(&self, paused: bool) -> Result<(), ProjectorError> {
        let projection = self.projection.name();
        self.generations.set_paused(paused).map_err(|source| ProjectorError::Folder { projection, source })?;
        self.note_paused(paused);
        Ok(())
    }

    /// Looks whether another process has paused the projection or let it go on. Blocks.
    pub(crate) fn heed(&self) -> Result<(), ProjectorError> {
        let projection = self.projection.name();
        let paused =
            self.generations.is_paused().map_err(|source| ProjectorError::Folder { projection, source })?;
        self.note_paused(paused);
        Ok(())
    }

    fn note_paused(&self, paused: bool) {
        let changed = self.shown.send_if_modified(|shown| std::mem::replace(&mut shown.paused, paused) != paused);
        if changed {
            let what = if paused { "paused" } else { "resumed" };
            tracing::info!(projection = self.projection.name(), what, "the projection stands still or goes on");
        }
    }

    /// Refuses what would have to fold while nothing may.
    pub(super) fn check_going(&self) -> Result<(), ProjectorError> {
        match self.is_paused() {
            true => Err(ProjectorError::Paused { projection: self.projection.name() }),
            false => Ok(()),
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.shown.borrow().paused
    }

    /// A poisoned lock is taken all the same: it holds a number.
    pub(super) fn kept(&self) -> MutexGuard<'_, Option<u64>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
