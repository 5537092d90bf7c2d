//! Which generations of a projection there are, and which one serves.
//!
//! The choice is replaced as a whole, so a kill at any moment leaves either the old one or the new one. A number above the
//! serving one, other than the one that served before, is a build that was not finished.

mod folder;
mod postgres;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::orders::Orders;
pub use folder::FolderGenerations;
pub(crate) use folder::replace;
pub use postgres::PostgresGenerations;
pub(crate) use postgres::transaction;

/// Which generation serves, and which one served before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Serving {
    /// The serving one's number, from 1.
    pub generation: u64,
    /// The one before it, kept as the way back until it is told to go, something is erased, or another swap.
    pub previous: Option<u64>,
    /// The position of the last erasure that was met while a build was under way: a build that has not got there holds
    /// what was erased.
    #[serde(default)]
    pub erased: u64,
}

/// Where a generation is: each projection takes of it what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A folder of its own on this machine. It need not exist.
    pub folder: PathBuf,
    /// Its number among the projection's generations.
    pub number: u64,
}

/// The register of a projection's generations: in a folder of this process's own, or in a database that several share.
///
/// Every method blocks. A number is never used twice.
pub trait Generations: Send + Sync {
    /// Which generation serves; `None` before the first.
    ///
    /// # Errors
    /// When the register cannot be read.
    fn serving(&self) -> io::Result<Option<Serving>>;

    /// Makes the choice, durably and at once.
    ///
    /// # Errors
    /// When it cannot be written; the earlier choice holds then.
    fn choose(&self, serving: Serving) -> io::Result<()>;

    /// The numbers of all generations there are.
    ///
    /// # Errors
    /// When the register cannot be read.
    fn numbers(&self) -> io::Result<Vec<u64>>;

    /// Notes a new generation.
    ///
    /// # Errors
    /// When it cannot be written.
    fn begin(&self) -> io::Result<u64>;

    /// Forgets a generation, with its folder if it has one. One that is not there is no error.
    ///
    /// # Errors
    /// When it is there but cannot be deleted.
    fn delete(&self, generation: u64) -> io::Result<()>;

    /// Where a generation is.
    fn place(&self, generation: u64) -> Place;

    /// Where one can be made that never serves.
    ///
    /// # Errors
    /// When nothing can be made there.
    fn scratch(&self) -> io::Result<Place>;

    /// Takes away what is left of a [`scratch`](Self::scratch).
    ///
    /// # Errors
    /// When it cannot be deleted.
    fn discard(&self, scratch: &Place) -> io::Result<()>;

    /// What was left of each [`scratch`](Self::scratch) when a process was killed. Asked by whoever alone may make one.
    ///
    /// # Errors
    /// When the register cannot be read.
    fn scraps(&self) -> io::Result<Vec<Place>>;

    /// Where orders from other processes are, if there may be others.
    fn orders(&self) -> Option<Orders> {
        None
    }

    /// Whether the projection is paused.
    ///
    /// # Errors
    /// When the register cannot be read.
    fn is_paused(&self) -> io::Result<bool>;

    /// Pauses the projection, durably, or lets it go on. Doing it again does nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    fn set_paused(&self, paused: bool) -> io::Result<()>;

    /// Lets a generation serve from now on.
    ///
    /// # Errors
    /// When it cannot be written; the earlier choice holds then.
    fn serve(&self, generation: u64) -> io::Result<()> {
        let previous = self.serving()?.map(|serving| serving.generation).filter(|earlier| *earlier != generation);
        self.choose(Serving { generation, previous, erased: 0 })
    }

    /// Notes that a generation is gone, should it be the one before the serving one. It is deleted first: were it the other way round, a kill
    /// in between would leave something that looks like a build to go on with.
    ///
    /// # Errors
    /// When it cannot be written.
    fn drop_previous(&self, generation: u64) -> io::Result<()> {
        match self.serving()? {
            Some(serving) if serving.previous == Some(generation) => {
                self.choose(Serving { previous: None, ..serving })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Notes, durably, that something is erased at a position while a build is under way.
    ///
    /// # Errors
    /// When it cannot be written.
    fn note_erasure(&self, position: u64) -> io::Result<()> {
        match self.serving()? {
            Some(serving) => self.choose(Serving { erased: position, ..serving }),
            None => Ok(()),
        }
    }

    /// The number of the build that was not finished, if there is one.
    ///
    /// # Errors
    /// When the register cannot be read.
    fn unfinished(&self) -> io::Result<Option<u64>> {
        let serving = self.serving()?.unwrap_or_default();
        let later = |number: &u64| *number > serving.generation && Some(*number) != serving.previous;
        Ok(self.numbers()?.into_iter().filter(later).max())
    }

    /// Every generation but the serving one and `kept`.
    ///
    /// # Errors
    /// When the register cannot be read.
    fn surplus(&self, kept: &[u64]) -> io::Result<Vec<u64>> {
        let serving = self.serving()?.unwrap_or_default();
        let wanted = |number: &u64| *number == serving.generation || kept.contains(number);
        Ok(self.numbers()?.into_iter().filter(|number| !wanted(number)).collect())
    }

    /// Every generation older than the serving one but `kept`. A newer one belongs to a build that has begun meanwhile.
    ///
    /// # Errors
    /// When the register cannot be read.
    fn older(&self, kept: &[u64]) -> io::Result<Vec<u64>> {
        let serving = self.serving()?.unwrap_or_default().generation;
        let older = |number: &u64| *number < serving && !kept.contains(number);
        Ok(self.numbers()?.into_iter().filter(older).collect())
    }
}
