//! Whom the policy lets in, and how many strangers for how long. Each transport has a door of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use super::limits::{MAX_STRANGERS, STRANGER_TIME};
use super::policy::{Policy, Standing};

pub(crate) struct Door {
    policy: Arc<Policy>,
    /// Connections whose peer was a stranger when they were made; it may have been allowed since.
    strangers: HashMap<ConnectionId, (PeerId, Instant)>,
}

/// Why a connection is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("peer {0} is not allowed")]
    NotAllowed(PeerId),
    #[error("a peer is only dialled by its key")]
    Nameless,
    #[error("{MAX_STRANGERS} strangers are connected already")]
    TooManyStrangers,
}

impl Door {
    pub(crate) fn new(policy: Arc<Policy>) -> Self {
        Self { policy, strangers: HashMap::new() }
    }

    /// Peers that are connected and may not be any more, and strangers that have been here for too long.
    pub(crate) fn unwelcome(&self, now: Instant) -> Vec<PeerId> {
        let overstayed = |since: Instant| now.duration_since(since) >= STRANGER_TIME;
        let strangers = self.strangers.values().filter(|(peer, since)| match self.policy.standing(peer) {
            Standing::Friend | Standing::Relay => false,
            Standing::Stranger => overstayed(*since),
            Standing::Refused => true,
        });
        strangers.map(|(peer, _)| *peer).collect()
    }

    pub(crate) fn admit_inbound(&self, peer: &PeerId) -> Result<(), Refusal> {
        match self.policy.standing(peer) {
            Standing::Friend | Standing::Relay => Ok(()),
            Standing::Stranger if self.connected_strangers() < MAX_STRANGERS => Ok(()),
            Standing::Stranger => Err(Refusal::TooManyStrangers),
            Standing::Refused => Err(Refusal::NotAllowed(*peer)),
        }
    }

    /// A stranger is never dialled: whoever wants to reach a peer allows it first.
    pub(crate) fn admit_outbound(&self, peer: Option<PeerId>) -> Result<(), Refusal> {
        let peer = peer.ok_or(Refusal::Nameless)?;
        match self.policy.standing(&peer) {
            Standing::Friend | Standing::Relay => Ok(()),
            Standing::Stranger | Standing::Refused => Err(Refusal::NotAllowed(peer)),
        }
    }

    /// To be called when a connection was made.
    pub(crate) fn entered(&mut self, connection: ConnectionId, peer: PeerId, now: Instant) {
        if self.policy.standing(&peer) == Standing::Stranger {
            self.strangers.insert(connection, (peer, now));
        }
    }

    /// To be called when a connection ended.
    pub(crate) fn left(&mut self, connection: ConnectionId) {
        self.strangers.remove(&connection);
    }

    fn connected_strangers(&self) -> usize {
        let is_stranger = |peer: &PeerId| self.policy.standing(peer) == Standing::Stranger;
        self.strangers.values().filter(|(peer, _)| is_stranger(peer)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PeerKey;

    #[test]
    fn a_stranger_leaves_when_its_time_is_over_unless_it_was_allowed() {
        let policy = Arc::new(Policy::new([], []));
        policy.admit_strangers(true);
        let mut door = Door::new(Arc::clone(&policy));
        let [guest, friend] = [1, 2].map(|byte| PeerKey::from_bytes([byte; 32]).peer_id());
        let now = Instant::now();
        door.entered(ConnectionId::new_unchecked(1), guest, now);
        door.entered(ConnectionId::new_unchecked(2), friend, now);
        policy.allow(friend);
        assert_eq!(door.unwelcome(now), []);
        assert_eq!(door.unwelcome(now + STRANGER_TIME), [guest]);
        policy.admit_strangers(false);
        assert_eq!(door.unwelcome(now), [guest]);
        door.left(ConnectionId::new_unchecked(1));
        assert_eq!(door.unwelcome(now + STRANGER_TIME), []);
    }
}
