//! Who may connect, and as what. Shared by the handle, which changes it at once, and the behaviours that enforce it.

use std::collections::HashSet;

use libp2p::PeerId;
use parking_lot::Mutex;

use super::PeerKey;

/// What a peer is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its key was allowed.
    Friend,
    /// It is configured as a relay: it may be connected to, and exchanges no frames.
    Relay,
    /// Nobody knows it, and the door is open.
    Stranger,
    /// It may not connect.
    Refused,
}

#[derive(Debug)]
pub(crate) struct Policy {
    rules: Mutex<Rules>,
}

#[derive(Debug, Default)]
struct Rules {
    friends: HashSet<PeerId>,
    blocked: HashSet<PeerId>,
    relays: HashSet<PeerId>,
    door_open: bool,
    closed: bool,
}

impl Standing {
    /// Whether frames are exchanged with such a peer.
    pub(crate) fn has_frames(self) -> bool {
        match self {
            Self::Friend | Self::Stranger => true,
            Self::Relay | Self::Refused => false,
        }
    }
}

impl Policy {
    pub(crate) fn new(
        relays: impl IntoIterator<Item = PeerId>,
        friends: impl IntoIterator<Item = PeerKey>,
    ) -> Self {
        let friends = friends.into_iter().map(PeerId::from).collect();
        let rules = Rules { relays: relays.into_iter().collect(), friends, ..Rules::default() };
        Self { rules: Mutex::new(rules) }
    }

    pub(crate) fn standing(&self, peer: &PeerId) -> Standing {
        let rules = self.rules.lock();
        if rules.closed || rules.blocked.contains(peer) || PeerKey::try_from(*peer).is_err() {
            Standing::Refused
        } else if rules.friends.contains(peer) {
            Standing::Friend
        } else if rules.relays.contains(peer) {
            Standing::Relay
        } else if rules.door_open {
            Standing::Stranger
        } else {
            Standing::Refused
        }
    }

    pub(crate) fn allow(&self, peer: PeerId) {
        let mut rules = self.rules.lock();
        rules.blocked.remove(&peer);
        rules.friends.insert(peer);
    }

    pub(crate) fn block(&self, peer: PeerId) {
        let mut rules = self.rules.lock();
        rules.friends.remove(&peer);
        rules.blocked.insert(peer);
    }

    pub(crate) fn admit_strangers(&self, admit: bool) {
        self.rules.lock().door_open = admit;
    }

    /// Refuses everybody from now on.
    pub(crate) fn close(&self) {
        self.rules.lock().closed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_about_a_peer_counts() {
        let [friend, relay, unknown] = [1, 2, 3].map(|byte| PeerKey::from_bytes([byte; 32]).peer_id());
        let policy = Policy::new([relay], []);
        let all = |policy: &Policy| [friend, relay, unknown].map(|peer| policy.standing(&peer));
        assert_eq!(all(&policy), [Standing::Refused, Standing::Relay, Standing::Refused]);
        policy.allow(friend);
        policy.admit_strangers(true);
        assert_eq!(all(&policy), [Standing::Friend, Standing::Relay, Standing::Stranger]);
        policy.block(friend);
        policy.block(unknown);
        assert_eq!(all(&policy), [Standing::Refused, Standing::Relay, Standing::Refused]);
        policy.allow(friend);
        policy.allow(relay);
        assert_eq!(all(&policy), [Standing::Friend, Standing::Friend, Standing::Refused]);
        policy.close();
        assert_eq!(all(&policy), [Standing::Refused; 3]);
    }
}
