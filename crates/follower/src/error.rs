//! What goes wrong between a primary and its followers.

use std::io;
use std::path::PathBuf;

use cairn_event_store::StoreError;

/// Why something about following was not done.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// A file cannot be read or written.
    #[error("{path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} is damaged: {reason}; restore it from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The text is no link of `cairn follow invite`.
    #[error("this is no link to follow: {0}")]
    Link(&'static str),
    /// The link can be used no more.
    #[error("the link has expired; `cairn follow invite` makes another")]
    Expired,
    /// The other machine is not there.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The connection ended.
    #[error("the connection ended: {0}")]
    Cut(String),
    /// The other side would not.
    #[error("{0}")]
    Refused(String),
    /// The other side says what makes no sense, or too much of it.
    #[error("the other side sent what is not sound: {0}")]
    Unsound(&'static str),
    /// This log is not the beginning of the other.
    #[error(
        "this log and the primary's are not the same up to position {position}; make a new link with `cairn follow invite` and \
         follow by it: what only this one holds is kept aside"
    )]
    Diverged {
        /// How far this log goes.
        position: u64,
    },
    /// The log or the keys cannot be read or written.
    #[error("the log or its keys cannot be used")]
    Store(#[from] StoreError),
    /// The network cannot be used at all.
    #[error("the network cannot be used: {0}")]
    Network(String),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

impl FollowError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn cut(error: impl std::fmt::Display) -> Self {
        Self::Cut(error.to_string())
    }

    /// Whether trying again later may help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Cut(_) => true,
            Self::Store(error) => matches!(error, StoreError::Unavailable { .. }),
            Self::File { .. }
            | Self::Damaged { .. }
            | Self::Link(_)
            | Self::Expired
            | Self::Refused(_)
            | Self::Unsound(_)
            | Self::Diverged { .. }
            | Self::Network(_)
            | Self::Random(_) => false,
        }
    }
}
