//! A projection that is not what it should be.

use std::time::Duration;

use cairn_projector::{Generation, Place, Projection, ProjectionError, SqliteProjection};
use cairn_read_model::Memories;
use cairn_read_model::change::Batch;

/// The model of memories, one generation of which goes wrong.
pub struct Crooked {
    straight: SqliteProjection,
    generation: u64,
    fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It loses the first memory of each batch.
    Loses,
    /// It cannot take in what was erased.
    StuckAtErasures,
}

impl Crooked {
    pub fn losing(reader: &Memories, generation: u64) -> Self {
        Self { straight: SqliteProjection::memories(reader.clone()), generation, fault: Fault::Loses }
    }

    pub fn stuck_at_erasures(generation: u64) -> Self {
        let straight = SqliteProjection::memories(Memories::default());
        Self { straight, generation, fault: Fault::StuckAtErasures }
    }
}

impl Projection for Crooked {
    fn name(&self) -> &'static str {
        self.straight.name()
    }

    fn version(&self) -> u32 {
        self.straight.version()
    }

    fn entries(&self) -> bool {
        self.straight.entries()
    }

    fn pace(&self) -> Duration {
        self.straight.pace()
    }

    fn is_urgent(&self) -> bool {
        true
    }

    fn open(&self, place: &Place) -> Result<Box<dyn Generation>, ProjectionError> {
        let generation = self.straight.open(place)?;
        match place.number == self.generation {
            true => Ok(Box::new(Bent { generation, place: place.clone(), fault: self.fault })),
            false => Ok(generation),
        }
    }
}

struct Bent {
    generation: Box<dyn Generation>,
    place: Place,
    fault: Fault,
}

impl Generation for Bent {
    fn checkpoint(&self) -> u64 {
        self.generation.checkpoint()
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), ProjectionError> {
        match self.fault {
            Fault::Loses => {
                let memories = batch.memories.iter().skip(1).cloned().collect();
                self.generation.apply(&Batch { memories, ..batch.clone() })
            }
            Fault::StuckAtErasures if batch.memories.iter().any(|change| change.memory.is_erased()) => {
                Err(ProjectionError::Unusable { folder: self.place.folder.clone(), reason: "it is bent".into() })
            }
            Fault::StuckAtErasures => self.generation.apply(batch),
        }
    }

    fn make_ready(&mut self) -> Result<(), ProjectionError> {
        self.generation.make_ready()
    }

    fn serve(&self) {
        self.generation.serve();
    }

    fn settle(&mut self) -> Result<bool, ProjectionError> {
        self.generation.settle()
    }

    fn digester(&self) -> cairn_projector::projection::Digester {
        self.generation.digester()
    }
}
