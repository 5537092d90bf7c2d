//! Idempotency keys: a command that is sent twice is carried out once.

use uuid::Uuid;

use cairn_domain::id::PrincipalId;

/// A key that the caller chose for one command, and a digest of what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The key, unique among the caller's commands.
    pub key: String,
    /// A digest of the request: a repeat has the same one.
    pub request: String,
}

impl Idempotency {
    /// The id of the command, and of its first event: the log itself then knows a repeat.
    pub(crate) fn command_id(&self, principal: PrincipalId) -> Uuid {
        Uuid::new_v5(&principal.uuid(), self.key.as_bytes())
    }
}
