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

    /// Says whether the dial failed for good with this connection. If the peer is connected, because it dialled too,
    /// a substream may still come up.
    pub(super) fn take_failed(&mut self, peer: &PeerId, failed: ConnectionId, is_connected: bool) -> bool {
        let own = self.0.get(peer).is_some_and(|dial| dial.connection == Some(failed));
        own && !is_connected && self.remove(peer)
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
