//! What comes from other brains, and what is kept of spaces: it was decided elsewhere, and is appended as it is.

use cairn_domain::clock::Hlc;
use cairn_domain::event::Metadata;
use cairn_domain::principal::Principal;
use cairn_event_store::{AppendError, Appended, NewAppend};
use uuid::Uuid;

use crate::handler::Handler;

impl Handler {
    /// What an event says about its making when a principal makes it now, in a command of its own.
    pub fn stamp(&self, by: &Principal) -> Metadata {
        self.metadata(by, by.ceiling, by.origin.clone(), Uuid::now_v7())
    }

    /// Appends what was decided elsewhere. Commands that are under way on the same memories decide anew.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append(&self, append: NewAppend) -> Result<Appended, AppendError> {
        self.store().append(append).await
    }

    /// Takes note of the clock of another brain: what is said here from now on was said after what came from there.
    pub fn observe(&self, at: Hlc) {
        let mut clock = self.clock.lock();
        *clock = (*clock).max(at);
    }
}
