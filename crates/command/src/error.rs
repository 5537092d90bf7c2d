//! Why a command was not carried out.

use cairn_domain::memory::command::Rejection;
use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use cairn_event_store::{AppendError, Revision, StoreError};
use uuid::Uuid;

use crate::codec::CodecError;
use crate::repository::LoadError;

/// Why a command was not carried out. Nothing was written, unless the store says that it cannot know.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The rules forbid it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The caller asked for a revision that is not the memory's last.
    #[error("the memory is at revision {actual}, not {expected}; read it again and decide anew")]
    StaleRevision {
        /// What the caller saw.
        expected: Revision,
        /// What it is.
        actual: Revision,
    },
    /// Others wrote to the same memory all the time.
    #[error("others kept writing to this memory; gave up after {attempts} attempts, try again")]
    Contended {
        /// How often it was tried.
        attempts: usize,
    },
    /// The idempotency key was used for another request.
    #[error("this idempotency key was used for a different request; use a new key for each command")]
    KeyReused,
    /// The origin claims another level than the write has (rule T1).
    #[error("origin `{origin}` does not belong to a write at {truth}")]
    ForeignOrigin {
        /// What the caller said.
        origin: Origin,
        /// The level of the write.
        truth: Truth,
    },
    /// The principal is not one that can be changed.
    #[error("principal {principal} {reason}")]
    Principal {
        /// Its id.
        principal: Uuid,
        /// What is wrong.
        reason: &'static str,
    },
    /// The append was refused for its shape.
    #[error("the command is refused: {0}")]
    Invalid(String),
    /// The store cannot answer now.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log holds what cannot be read.
    #[error(transparent)]
    Damaged(#[from] CodecError),
}

impl From<LoadError> for CommandError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Store(error) => Self::Store(error),
            LoadError::Codec(error) => Self::Damaged(error),
            LoadError::Body(error) => Self::Rejected(Rejection::Corrupt(error)),
        }
    }
}

impl CommandError {
    /// An append error that trying again does not mend.
    pub(crate) fn from_append(error: AppendError) -> Self {
        match error {
            AppendError::Store(error) => Self::Store(error),
            AppendError::WrongExpectedRevision { .. } => Self::Contended { attempts: 1 },
            AppendError::EventIdReused { .. } => Self::KeyReused,
            AppendError::TrackingConflict { .. } => Self::Invalid(error.to_string()),
            AppendError::Invalid(reason) => Self::Invalid(reason),
        }
    }
}
