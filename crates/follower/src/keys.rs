//! The keys of memories, whatever the sealed log they belong to is over.

use async_trait::async_trait;
use cairn_event_store::{EventStore, Keyring, Sealed, StoreError};

/// A sealed log, as far as its keys go.
#[async_trait]
pub(crate) trait Keys: Send + Sync {
    fn keyring(&self) -> &Keyring;

    /// Destroys the keys of whatever the log says is erased.
    async fn complete_erasures(&self) -> Result<(), StoreError>;
}

#[async_trait]
impl<S: EventStore> Keys for Sealed<S> {
    fn keyring(&self) -> &Keyring {
        Sealed::keyring(self)
    }

    async fn complete_erasures(&self) -> Result<(), StoreError> {
        Sealed::complete_erasures(self).await
    }
}
