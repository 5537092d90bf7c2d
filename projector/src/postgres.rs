//! The models of `cairn-read-model` on PostgreSQL, as projections.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cairn_read_model::change::Batch;
use cairn_read_model::database::Model;
use cairn_read_model::postgres::{PgDatabase, Server, digest, drop_generation};
use cairn_read_model::{Memories, QueryError, Timeline, memories, timeline};

use crate::generations::{Generations, Place, PostgresGenerations};
use crate::projection::{Digester, Generation, Projection, ProjectionError};
use crate::sqlite::{PACE, RELAXED_PACE};

/// A read model on PostgreSQL. Readers find the generation that serves in the database.
#[derive(Debug, Clone)]
pub struct PostgresProjection {
    model: &'static Model,
    server: Server,
    position: fn(&Server) -> Result<u64, QueryError>,
}

impl PostgresProjection {
    /// Memories as they stand.
    pub fn memories(server: Server) -> Self {
        Self { model: &memories::MODEL, server, position: |server| Memories::postgres(server.clone()).position() }
    }

    /// What happened.
    pub fn timeline(server: Server) -> Self {
        Self { model: &timeline::MODEL, server, position: |server| Timeline::postgres(server.clone()).position() }
    }

    fn generation(&self, database: PgDatabase, place: &Place) -> Box<dyn Generation> {
        let (server, model, number) = (self.server.clone(), self.model, place.number);
        Box::new(PostgresGeneration { database, server, model, number })
    }
}

impl Projection for PostgresProjection {
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

    fn is_shared(&self) -> bool {
        true
    }

    fn served(&self) -> Result<Option<u64>, ProjectionError> {
        match (self.position)(&self.server) {
            Ok(position) => Ok(Some(position)),
            Err(QueryError::NotReady { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn generations(&self, root: &Path) -> std::io::Result<Arc<dyn Generations>> {
        Ok(Arc::new(PostgresGenerations::new(self.server.clone(), self.model.name, root)))
    }

    fn open(&self, place: &Place) -> Result<Box<dyn Generation>, ProjectionError> {
        Ok(self.generation(PgDatabase::open(&self.server, self.model, place.number)?, place))
    }

    fn begin(&self, place: &Place) -> Result<Box<dyn Generation>, ProjectionError> {
        Ok(self.generation(PgDatabase::create(&self.server, self.model, place.number)?, place))
    }

    fn delete(&self, place: &Place) -> Result<(), ProjectionError> {
        Ok(drop_generation(&self.server, self.model, place.number)?)
    }
}

struct PostgresGeneration {
    database: PgDatabase,
    server: Server,
    model: &'static Model,
    number: u64,
}

impl Generation for PostgresGeneration {
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
        // The readers of every process look for it in the database, where it is named by now.
    }

    fn settle(&mut self) -> Result<bool, ProjectionError> {
        Ok(self.database.settle()?)
    }

    fn digester(&self) -> Digester {
        let (server, model, number) = (self.server.clone(), self.model, self.number);
        Arc::new(move || Ok(digest(&server, model, number)?))
    }
}
