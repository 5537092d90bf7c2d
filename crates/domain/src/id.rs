//! Identifiers as types, so that a memory's id can never stand where an event's is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not a UUID where one was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what} id; expected a UUID such as 01920b5e-7c1a-7d2e-9d3f-4a5b6c7d8e9f")]
pub struct InvalidId {
    /// What the id was meant to name.
    pub what: &'static str,
    /// The text as it was given, cut to 80 characters.
    pub text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that was made elsewhere.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID inside.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId {
                    what: $what,
                    text: text.chars().take(80).collect(),
                })
            }
        }
    };
}

id!(
    /// A memory, the aggregate that claims are made about.
    MemoryId,
    "memory"
);
id!(
    /// An event; a claim is named by the id of the event that made it.
    EventId,
    "event"
);
id!(
    /// Who acts: a user, an automation, an agent or a peer.
    PrincipalId,
    "principal"
);
id!(
    /// One brain: the HTTP API calls it a tenant.
    BrainId,
    "brain"
);

/// The stream that holds the events of one memory.
pub fn memory_stream(memory: MemoryId) -> String {
    format!("{MEMORY_STREAM_PREFIX}{memory}")
}

/// The memory whose events a stream holds, if it is a memory's stream.
pub fn memory_of_stream(stream: &str) -> Option<MemoryId> {
    stream.strip_prefix(MEMORY_STREAM_PREFIX)?.parse().ok()
}

/// What the name of every memory's stream starts with.
pub const MEMORY_STREAM_PREFIX: &str = "memory-";

/// How the names of the streams begin that the rules of this crate govern. All others are other programs' own.
pub const OWNED_STREAM_PREFIXES: [&str; 4] =
    [MEMORY_STREAM_PREFIX, "principal-", SPACE_STREAM_PREFIX, PEER_STREAM_PREFIX];

/// What the names of the streams start with that hold what is shared.
pub const SPACE_STREAM_PREFIX: &str = "space-";

/// What the names of the streams start with that hold what is known of other brains.
pub const PEER_STREAM_PREFIX: &str = "peer-";
