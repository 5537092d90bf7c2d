//! The models of `cairn-read-model` as projections.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cairn_read_model::change::Batch;
use cairn_read_model::database::{Database, Model, digest};
use cairn_read_model::{Memories, Timeline, memories, timeline};

use crate::generations::Place;
use crate::projection::{Digester, Generation, Projection, ProjectionError};

/// A write is seen so much later at most, while many commands come in.
pub(crate) const PACE: Duration = Duration::from_millis(10);
/// The same where nobody waits for it.
pub(crate) const RELAXED_PACE: Duration = Duration::from_millis(50);

/// A read model on SQLite, with the reader that answers from it.
#[derive(Clone)]
pub struct SqliteProjection {
    model: &'static Model,
    serve: Arc<dyn Fn(&Path) + Send + Sync>,
}

impl SqliteProjection {
    /// Memories as they stand.
    pub fn memories(reader: Memories) -> Self {
        Self { model: &memories::MODEL, serve: Arc::new(move |folder| reader.serve(folder)) }
    }

    /// What happened.
    pub fn timeline(reader: Timeline) -> Self {
        Self { model: &timeline::MODEL, serve: Arc::new(move |folder| reader.serve(folder)) }
    }
}

impl Projection for SqliteProjection {
    fn name(&self) -> &'static str {
        self.model.name
    }

    fn version(&self) -> u32 {
        self.model.version
    }

    fn entries(&self) -> bool {
        self.model.entries
    }

    fn pace(&self) -> Duration {
        if self.is_urgent() { PACE } else { RELAXED_PACE }
    }

    fn is_urgent(&self) -> bool {
        // What lists events is read back in time; what shows memories is read right after writing.
        !self.model.entries
    }

    fn open(&self, place: &Place) -> Result<Box<dyn Generation>, ProjectionError> {
        let folder = &place.folder;
        let database = Database::open(folder, self.model)?;
        Ok(Box::new(SqliteGeneration {
            database,
            folder: folder.to_owned(),
            model: self.model,
            serve: Arc::clone(&self.serve),
        }))
    }
}

struct SqliteGeneration {
    database: Database,
    folder: PathBuf,
    model: &'static Model,
    serve: Arc<dyn Fn(&Path) + Send + Sync>,
}

impl Generation for SqliteGeneration {
    fn checkpoint(&self) -> u64 {
        self.database.checkpoint()
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), ProjectionError> {
        Ok(self.database.apply(batch)?)
    }

    fn make_ready(&mut self) -> Result<(), ProjectionError> {
        Ok(self.database.make_ready()?)
    }

    fn serve(&self) {
        (self.serve)(&self.folder);
    }

    fn settle(&mut self) -> Result<bool, ProjectionError> {
        Ok(self.database.settle()?)
    }

    fn digester(&self) -> Digester {
        let (folder, model) = (self.folder.clone(), self.model);
        Arc::new(move || Ok(digest(&folder, model)?))
    }
}
