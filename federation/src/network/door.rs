//! Whom the policy lets in, and how many strangers for how long. Each transport has a door of its own, and strangers are
//! counted for all of them together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::{MAX_STRANGERS, STRANGER_TIME};
use super::policy::{Policy, Standing};

/// The places of strangers, [`MAX_STRANGERS`] in all: clones are the same places, so that transports of one node that
/// are given clones let in so many together.
#[derive(Clone, Debug)]
pub struct Strangers(Arc<Semaphore>);

pub(crate) struct Door {
    policy: Arc<Policy>,
    places: Strangers,
    /// Connections of strangers, from when they were let in until they end or their peer is allowed.
    strangers: HashMap<ConnectionId, Stranger>,
}

struct Stranger {
    peer: PeerId,
    since: Instant,
    _place: OwnedSemaphorePermit,
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

impl Default for Strangers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_STRANGERS)))
    }
}

impl Door {
    pub(crate) fn new(policy: Arc<Policy>, places: Strangers) -> Self {
        Self { policy, places, strangers: HashMap::new() }
    }

    /// Peers that are connected and may not be any more, and strangers that have been here for too long.
    pub(crate) fn unwelcome(&mut self, now: Instant) -> Vec<PeerId> {
        self.forget_known();
        let overstayed = |since: Instant| now.duration_since(since) >= STRANGER_TIME;
        let strangers = self.strangers.values().filter(|stranger| match self.policy.standing(&stranger.peer) {
            Standing::Friend | Standing::Relay => false,
            Standing::Stranger => overstayed(stranger.since),
            Standing::Refused => true,
        });
        strangers.map(|stranger| stranger.peer).collect()
    }

    /// To be called when a peer has connected, and [`left`](Self::left) when that connection ends, or is refused for
    /// another reason.
    pub(crate) fn admit_inbound(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        now: Instant,
    ) -> Result<(), Refusal> {
        match self.policy.standing(&peer) {
            Standing::Friend | Standing::Relay => Ok(()),
            Standing::Stranger => {
                self.forget_known();
                let place = Arc::clone(&self.places.0).try_acquire_owned();
                let place = place.map_err(|_| Refusal::TooManyStrangers)?;
                self.strangers.insert(connection, Stranger { peer, since: now, _place: place });
                Ok(())
            }
            Standing::Refused => Err(Refusal::NotAllowed(peer)),
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

    /// To be called when a connection ended.
    pub(crate) fn left(&mut self, connection: ConnectionId) {
        self.strangers.remove(&connection);
    }

    /// Frees the places of those that were allowed since.
    fn forget_known(&mut self) {
        self.strangers.retain(|_, stranger| match self.policy.standing(&stranger.peer) {
            Standing::Friend | Standing::Relay => false,
            Standing::Stranger | Standing::Refused => true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PeerKey;

    fn peer(number: u8) -> PeerId {
        PeerKey::from_bytes([number; 32]).peer_id()
    }

    fn connection(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn a_stranger_leaves_when_its_time_is_over_unless_it_was_allowed() {
        let policy = Arc::new(Policy::new([], []));
        policy.admit_strangers(true);
        let mut door = Door::new(Arc::clone(&policy), Strangers::default());
        let [guest, friend] = [1, 2].map(peer);
        let now = Instant::now();
        door.admit_inbound(connection(1), guest, now).expect("there is a place");
        door.admit_inbound(connection(2), friend, now).expect("there is a place");
        policy.allow(friend);
        assert_eq!(door.unwelcome(now), []);
        assert_eq!(door.unwelcome(now + STRANGER_TIME), [guest]);
        policy.admit_strangers(false);
        assert_eq!(door.unwelcome(now), [guest]);
        door.left(connection(1));
        assert_eq!(door.unwelcome(now + STRANGER_TIME), []);
    }

    #[test]
    fn doors_that_share_their_places_let_in_so_many_together() {
        let places = Strangers::default();
        let policies = [(); 2].map(|()| Arc::new(Policy::new([], [])));
        let mut doors = policies.clone().map(|policy| Door::new(policy, places.clone()));
        let now = Instant::now();
        policies.iter().for_each(|policy| policy.admit_strangers(true));
        for number in 0..MAX_STRANGERS {
            let door = &mut doors[number % 2];
            door.admit_inbound(connection(number), peer(number as u8), now).expect("there is a place");
        }
        let mut late = |door: usize| doors[door].admit_inbound(connection(100), peer(100), now).is_ok();
        assert_eq!([0, 1].map(&mut late), [false; 2]);
        policies[0].allow(peer(0));
        assert!(late(0), "one of them is known now");
        assert!(!late(1));
        doors[0].left(connection(100));
        assert!(doors[1].admit_inbound(connection(100), peer(100), now).is_ok());
    }
}
