//! What was erased leaves the generations that no run keeps up with them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use cairn_event_store::{Direction, Filter, Position};

use super::Slot;
use crate::projector::ProjectorError;
use crate::run::Run;

/// The type of the event that says of a memory that it is erased.
const ERASED: &str = "memory.erased";

impl Slot {
    /// Deletes the generations that nobody keeps up: they hold what the log is about to tell was erased.
    pub(crate) fn forget_erased(&self, run: &Arc<Run>, position: u64) {
        self.erased.fetch_max(position, Ordering::AcqRel);
        let _returning = self.returning.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: Vec<u64> = {
            let runs = self.runs();
            let live = |run: &&Arc<Run>| !run.progress.borrow().phase.is_over();
            let others = runs.serving.iter().chain(runs.building.iter().filter(live));
            others.map(|run| run.generation).chain([run.generation]).collect()
        };
        self.forget_older(&kept);
        let before = *self.kept();
        if let Some(before) = before.filter(|before| !kept.contains(before)) {
            self.forget(before);
        }
        if kept.iter().any(|number| *number != run.generation)
            && let Err(error) = self.generations.note_erasure(position)
        {
            tracing::warn!(projection = self.projection.name(), %error, "an erasure could not be noted");
        }
        // A build that is just begun meets the erasure itself; one that is just cancelled is looked at there.
        if let Ok(_changing) = self.changing.try_lock()
            && let Ok(Some(number)) = self.generations.unfinished()
            && !kept.contains(&number)
        {
            self.forget(number);
        }
    }

    /// After a build has ended without serving: what it holds of something erased goes with it.
    pub(crate) fn given_up(&self, run: &Arc<Run>, position: u64) {
        if position < self.erased.load(Ordering::Acquire) {
            self.forget(run.generation);
        }
    }

    /// Whether something was erased between two positions. Where the log cannot tell, it may have been.
    pub(super) fn is_erased_between(&self, after: u64, until: u64) -> bool {
        if after >= until {
            return false;
        }
        let filter = Filter { event_types: vec![ERASED.to_owned()], ..Filter::default() };
        let reading = self.store.read_all(Position(after + 1), Direction::Forwards, &filter, 1);
        match self.handle.block_on(reading) {
            Ok(page) => page.events.first().is_some_and(|event| event.position.0 <= until),
            Err(_) => true,
        }
    }

    /// Deletes a generation; one that cannot be deleted now stays in the register, so that it is tried again.
    pub(crate) fn forget(&self, number: u64) {
        if let Err(error) = self.delete(number) {
            let projection = self.projection.name();
            tracing::warn!(projection, number, %error, "a generation could not be deleted");
        }
    }

    pub(super) fn delete(&self, number: u64) -> Result<(), ProjectorError> {
        let projection = self.projection.name();
        let folder = |source| ProjectorError::Folder { projection, source };
        let open = |source| ProjectorError::Open { projection, source };
        self.projection.delete(&self.generations.place(number)).map_err(open)?;
        self.generations.delete(number).map_err(folder)?;
        self.kept().take_if(|kept| *kept == number);
        self.generations.drop_previous(number).map_err(folder)
    }

    pub(super) fn forget_older(&self, kept: &[u64]) {
        match self.generations.older(kept) {
            Ok(older) => older.into_iter().for_each(|number| self.forget(number)),
            Err(error) => {
                tracing::warn!(projection = self.projection.name(), %error, "old generations could not be looked for");
            }
        }
    }
}
