//! Relays of this brain's spaces: readers are told the keys under which relays are given what they keep.

use cairn_sync::key::SpaceId;
use tracing::{info, warn};

use super::{Service, now, random};
use crate::error::SharingError;

impl Service {
    /// Tells the readers of this brain's spaces another key where there is a relay and others than before may read.
    pub(super) async fn tell_keys(&mut self) -> Result<(), SharingError> {
        let spaces: Vec<SpaceId> = self.engine.replica().spaces().map(cairn_sync::space::Space::id).collect();
        for space in spaces.into_iter().filter(|space| self.engine.key_is_due(*space, now())).collect::<Vec<_>>() {
            match self.engine.tell_key(space, random()?, self.keeper.stamp().hlc, now()) {
                Ok(entries) => {
                    info!(%space, "its readers are told another key, for what relays keep");
                    self.say(entries).await?;
                }
                Err(error) => {
                    warn!(%space, %error, "its relays are given nothing new: readers cannot be told a key");
                }
            }
        }
        Ok(())
    }
}
