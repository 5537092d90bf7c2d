//! Compares what a generation holds with a fold of its own.

use std::sync::Arc;

use cairn_event_store::{Direction, Filter, Position};
use tokio_util::sync::CancellationToken;

use super::Slot;
use crate::fold::{BUILDING_CACHE_BYTES, Fold};
use crate::generations::Place;
use crate::projector::{ProjectorError, Verification};

/// How many events a reference fold reads at once: other pages than a build has, so that nothing may depend on them.
const REFERENCE_EVENTS: usize = 1_500;

impl Slot {
    /// The digest of the serving generation, and the position it is of. Blocks.
    pub(crate) fn digest(&self) -> Result<(u64, String), ProjectorError> {
        self.check_here()?;
        let projection = self.projection.name();
        let serving = self.runs().serving.clone();
        let run = serving.ok_or(ProjectorError::NotServing { projection })?;
        (run.digester)().map_err(|source| ProjectorError::Open { projection, source })
    }

    /// Compares the serving generation with a fresh fold of the same events. Blocks.
    pub(crate) fn verify(&self) -> Result<Verification, ProjectorError> {
        let (position, serving) = self.digest()?;
        let fresh = self.reference(position, &self.cancel, |_| ())?;
        let projection = self.projection.name();
        Ok(Verification { projection, position, matches: serving == fresh, serving, fresh })
    }

    /// The digest of a fold of the log up to a position: one event after the other, in pages of its own, with nothing
    /// kept from any build. Says now and then how far it is. Blocks.
    pub(crate) fn reference(
        &self,
        position: u64,
        cancel: &CancellationToken,
        report: impl FnMut(u64),
    ) -> Result<String, ProjectorError> {
        let projection = self.projection.name();
        let folder = |source| ProjectorError::Folder { projection, source };
        let scratch = self.generations.scratch().map_err(folder)?;
        let digest = self.reference_in(&scratch, position, cancel, report);
        self.clear(&scratch).unwrap_or_else(|error| {
            tracing::warn!(projection, %error, "what a verification made could not be deleted");
        });
        digest
    }

    fn reference_in(
        &self,
        scratch: &Place,
        position: u64,
        cancel: &CancellationToken,
        mut report: impl FnMut(u64),
    ) -> Result<String, ProjectorError> {
        let projection = self.projection.name();
        let failed = |source| ProjectorError::Open { projection, source };
        let mut generation = self.projection.begin(scratch).map_err(failed)?;
        let mut fold = Fold::new(Arc::clone(&self.store), BUILDING_CACHE_BYTES, self.projection.entries());
        let mut next = 1;
        while next <= position {
            if cancel.is_cancelled() {
                return Err(ProjectorError::ShuttingDown);
            }
            let limit = REFERENCE_EVENTS.min(usize::try_from(position - next + 1).unwrap_or(REFERENCE_EVENTS));
            let batch = self.handle.block_on(async {
                let filter = Filter::default();
                let page = self.store.read_all(Position(next), Direction::Forwards, &filter, limit).await?;
                let upto: Vec<_> = page.events.into_iter().filter(|event| event.position.0 <= position).collect();
                fold.batch(&upto).await
            });
            let batch = batch.map_err(|source| ProjectorError::Fold { projection, source })?;
            if batch.events == 0 {
                break;
            }
            next = batch.position + 1;
            generation.apply(&batch).map_err(failed)?;
            report(batch.position);
        }
        let (_, fresh) = (generation.digester())().map_err(failed)?;
        Ok(fresh)
    }

    /// Deletes what verifications left when a process was killed. Blocks.
    pub(super) fn clear_scraps(&self) -> Result<(), ProjectorError> {
        let projection = self.projection.name();
        let scraps = self.generations.scraps().map_err(|source| ProjectorError::Folder { projection, source })?;
        scraps.iter().try_for_each(|scrap| self.clear(scrap))
    }

    fn clear(&self, scratch: &Place) -> Result<(), ProjectorError> {
        let projection = self.projection.name();
        self.projection.delete(scratch).map_err(|source| ProjectorError::Open { projection, source })?;
        self.generations.discard(scratch).map_err(|source| ProjectorError::Folder { projection, source })
    }
}
