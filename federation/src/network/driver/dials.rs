//! Dials whose outcome was not reported yet: at most one for each peer.

use std::collections::HashMap;
use std::time::Instant;

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};

use crate::network::DialFailure;
use crate::network::limits::DIAL_TIME;

#[derive(Default)]
pub(super) struct Dials(HashMap<PeerId, Dial>);

struct Dial {
    /// The connection being made, if there was none to wait for.
    connection: Option<ConnectionId>,
    since: Instant,
}

impl Dials {
    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.0.contains_key(peer)
    }

    pub(super) fn insert(&mut self, peer: PeerId, connection: Option<ConnectionId>, since: Instant) {
        self.0.insert(peer, Dial { connection, since });
    }

    /// Says whether there was one.
    pub(super) fn remove(&mut self, peer: &PeerId) -> bool {
        self.0.remove(peer).is_some()
    }

    /// Says whether the dial failed for good with the end of this connection, made or not. While the peer is linked by
    /// another one, because it dialled too, a substream may still come up.
    pub(super) fn take_failed(&mut self, peer: &PeerId, failed: ConnectionId, is_linked: bool) -> bool {
        let Some(dial) = self.0.get_mut(peer) else { return false };
        // A connection that ends says nothing about one that is still being made.
        dial.connection.take_if(|own| *own == failed);
        dial.connection.is_none() && !is_linked && self.remove(peer)
    }

    /// Takes out those that have lasted for too long.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<PeerId> {
        let is_late = |_: &PeerId, dial: &mut Dial| now.duration_since(dial.since) >= DIAL_TIME;
        self.0.extract_if(is_late).map(|(peer, _)| peer).collect()
    }
}

/// A dial of exactly these addresses, whatever other connections there are.
pub(super) fn options(peer: PeerId, addresses: Vec<Multiaddr>) -> DialOpts {
    DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses).build()
}

pub(super) fn failure(error: &DialError) -> DialFailure {
    match error {
        DialError::NoAddresses => DialFailure::NoAddress,
        DialError::LocalPeerId { address } | DialError::WrongPeerId { address, .. } => {
            DialFailure::WrongPeer(address.clone())
        }
        DialError::Denied { cause } => DialFailure::AtLimit(cause_of(cause)),
        DialError::Aborted => DialFailure::NotAllowed,
        DialError::DialPeerConditionFalse(_) => DialFailure::TimedOut,
        DialError::Transport(errors) => {
            let each = errors.iter().map(|(address, error)| format!("{address}: {}", cause_of(error)));
            DialFailure::Unreachable(each.collect::<Vec<_>>().join("; "))
        }
    }
}

/// The innermost reason, which is the one that says something.
fn cause_of(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_older_connection_is_no_end_of_a_dial() {
        let peer = crate::PeerKey::from_bytes([1; 32]).peer_id();
        let [stale, own] = [1, 2].map(ConnectionId::new_unchecked);
        let mut dials = Dials::default();
        dials.insert(peer, Some(own), Instant::now());
        assert!(!dials.take_failed(&peer, stale, false));
        assert!(!dials.take_failed(&peer, own, true), "another connection is left");
        assert!(dials.take_failed(&peer, stale, false), "that one ended too");
        assert!(!dials.contains(&peer));
    }
}
