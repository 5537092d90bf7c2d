//! What a projection is, to the runner.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cairn_read_model::change::Batch;
use cairn_read_model::{ModelError, QueryError};
use cairn_search::index::SearchError;

use crate::generations::{FolderGenerations, Generations, Place};

/// A read model that is built from the log and can be built again.
///
/// Two folds of one log up to one position have the same digest, in whatever batches they were made.
pub trait Projection: Send + Sync + 'static {
    /// Its name, which is also the name of its folder.
    fn name(&self) -> &'static str;

    /// Changes whenever the fold or what it writes changes.
    fn version(&self) -> u32;

    /// Whether batches must list their events ([`Batch::entries`]).
    fn entries(&self) -> bool;

    /// The least time between two batches of a busy log, once it has caught up. What queries see lags by about as much.
    fn pace(&self) -> Duration;

    /// Whether somebody who has written waits for it to catch up. The others give way while the processors are busy.
    fn is_urgent(&self) -> bool;

    /// Whether other processes may serve and run the same generations.
    fn is_shared(&self) -> bool {
        false
    }

    /// The position of the generation that serves, whoever runs it; `None` before the first. Blocks. Asked only of
    /// projections that are shared.
    ///
    /// # Errors
    /// It can be tried again.
    fn served(&self) -> Result<Option<u64>, ProjectionError> {
        Ok(None)
    }

    /// Which generations there are, and which one serves. Blocks.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn generations(&self, root: &Path) -> std::io::Result<Arc<dyn Generations>> {
        Ok(Arc::new(FolderGenerations::open(root, self.name())?))
    }

    /// Opens a generation that was begun before. Blocks.
    ///
    /// # Errors
    /// Says also whether another generation must be built instead ([`ProjectionError::is_unusable`]).
    fn open(&self, place: &Place) -> Result<Box<dyn Generation>, ProjectionError>;

    /// Begins an empty generation. Blocks.
    ///
    /// # Errors
    /// It can be tried again with another number.
    fn begin(&self, place: &Place) -> Result<Box<dyn Generation>, ProjectionError> {
        self.open(place)
    }

    /// Deletes what a generation has outside of its folder. One that has nothing is no error. Blocks.
    ///
    /// # Errors
    /// It can be tried again.
    fn delete(&self, _place: &Place) -> Result<(), ProjectionError> {
        Ok(())
    }
}

/// One build of a projection, open for writing. Every method blocks.
pub trait Generation: Send {
    /// The position it would go on from if it were opened again now.
    fn checkpoint(&self) -> u64;

    /// Folds a batch in; queries see it when this returns. What was folded in before changes nothing.
    ///
    /// # Errors
    /// After a transient one the same batch may be applied again.
    fn apply(&mut self, batch: &Batch) -> Result<(), ProjectionError>;

    /// Makes it fit to serve: whatever is better done once than at each batch, and durable. Repeating it is cheap.
    ///
    /// # Errors
    /// It can be tried again.
    fn make_ready(&mut self) -> Result<(), ProjectionError>;

    /// Sends readers of every process to this generation, where they are told elsewhere than by the register.
    ///
    /// # Errors
    /// It can be tried again.
    fn switch(&self) -> Result<(), ProjectionError> {
        Ok(())
    }

    /// From now on queries of this process are answered from this generation.
    fn serve(&self);

    /// For quiet moments: puts things in order that may wait. Says whether something is left
    /// that must be done: a file that holds what was erased, above all.
    ///
    /// # Errors
    /// It can be tried again.
    fn settle(&mut self) -> Result<bool, ProjectionError>;

    /// Before the end: as [`Generation::settle`], but does not leave to the background what is soon done.
    ///
    /// # Errors
    /// What is left is done after the next start.
    fn close(&mut self) -> Result<(), ProjectionError> {
        self.settle().map(drop)
    }

    /// What computes its digest.
    fn digester(&self) -> Digester;
}

/// Computes a generation's digest and the position it is of. Blocks; may be called from any thread while the
/// generation is written.
pub type Digester = Arc<dyn Fn() -> Result<(u64, String), ProjectionError> + Send + Sync>;

/// Why a generation could not be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// A model on SQLite.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The search index.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// A model that serves.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The checkpoint beside the search index.
    #[error("the checkpoint {path} cannot be read or written")]
    Checkpoint {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The register of generations.
    #[error("the register of the generations of projection `{projection}` cannot be read or written")]
    Register {
        /// The projection.
        projection: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The generation is of another version, or what it holds is of no use.
    #[error("the generation in {folder} is of no use: {reason}")]
    Unusable {
        /// Its folder.
        folder: std::path::PathBuf,
        /// Why.
        reason: String,
    },
}

impl ProjectionError {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Model(error) => error.is_transient(),
            Self::Search(error) => match error {
                SearchError::Query(_)
                | SearchError::OtherIndex { .. }
                | SearchError::Foreign { .. }
                | SearchError::Corrupt { .. }
                | SearchError::Settings(_)
                | SearchError::Refused { .. }
                | SearchError::Gone { .. }
                | SearchError::OtherCollection { .. } => false,
                SearchError::Embed(_)
                | SearchError::InUse { .. }
                | SearchError::Io { .. }
                | SearchError::Flush { .. }
                | SearchError::NoRoom { .. }
                | SearchError::Engine { .. }
                | SearchError::Unavailable { .. }
                | SearchError::Stopped(_) => true,
            },
            Self::Query(_) | Self::Checkpoint { .. } | Self::Register { .. } => true,
            Self::Unusable { .. } => false,
        }
    }

    /// Whether what was written is written no more, so that the log must be folded again from an earlier position: the
    /// generation is to be opened anew.
    pub fn is_behind(&self) -> bool {
        matches!(self, Self::Model(ModelError::Behind { .. }))
    }

    /// Whether another generation must be built.
    pub fn is_unusable(&self) -> bool {
        match self {
            Self::Model(error) => error.is_unusable(),
            Self::Search(error) => matches!(
                error,
                SearchError::OtherIndex { .. }
                    | SearchError::Foreign { .. }
                    | SearchError::Corrupt { .. }
                    | SearchError::Gone { .. }
                    | SearchError::OtherCollection { .. }
            ),
            Self::Query(_) | Self::Checkpoint { .. } | Self::Register { .. } => false,
            Self::Unusable { .. } => true,
        }
    }
}
