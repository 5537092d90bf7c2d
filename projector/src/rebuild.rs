//! How a projection is rebuilt.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

/// The most workers that fold for one build: each has a thread, and beyond the processors of a large machine nothing is
/// gained.
pub const MAX_WORKERS: usize = 16;

/// What a rebuild is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rebuild {
    /// Start again instead of going on with a build that was cancelled or killed.
    pub from_scratch: bool,
    /// Compare the new generation with a fold of its own before it serves. It takes about as long as the build.
    pub verify: bool,
    /// How many workers fold.
    pub workers: Workers,
}

impl Rebuild {
    /// One that starts again.
    pub fn from_scratch() -> Self {
        Self { from_scratch: true, ..Self::default() }
    }

    /// The same, compared before it serves.
    #[must_use]
    pub fn verified(self) -> Self {
        Self { verify: true, ..self }
    }
}

/// How many workers fold, each the streams of its own partition: from 1 to [`MAX_WORKERS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "usize", into = "usize")]
pub struct Workers(NonZeroUsize);

/// There cannot be so many workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("from 1 to {MAX_WORKERS} workers can fold, not {0}")]
pub struct WorkersError(usize);

impl Workers {
    /// One alone.
    pub const ONE: Self = Self(NonZeroUsize::MIN);

    /// How many there are.
    pub fn count(self) -> usize {
        self.0.get()
    }
}

impl Default for Workers {
    fn default() -> Self {
        Self::ONE
    }
}

impl TryFrom<usize> for Workers {
    type Error = WorkersError;

    fn try_from(count: usize) -> Result<Self, WorkersError> {
        NonZeroUsize::new(count).filter(|count| count.get() <= MAX_WORKERS).map(Self).ok_or(WorkersError(count))
    }
}

impl From<Workers> for usize {
    fn from(workers: Workers) -> Self {
        workers.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_some_workers_but_not_too_many() {
        assert_eq!(Workers::try_from(0), Err(WorkersError(0)));
        assert_eq!(Workers::try_from(MAX_WORKERS + 1), Err(WorkersError(MAX_WORKERS + 1)));
        assert_eq!(Workers::try_from(MAX_WORKERS).map(Workers::count), Ok(MAX_WORKERS));
        assert!(serde_json::from_str::<Workers>("0").is_err());
    }
}
