//! What a node does as a relay, and which relays it uses itself.

use libp2p::Multiaddr;

use super::PeerKey;

/// What a node does as a relay, and by which relays it is reached itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relaying {
    /// Whether it relays between peers that it allows.
    pub relays: bool,
    /// Where it can be reached as a relay: each ends with `/p2p/` and its peer id, and can stand among the
    /// [relays](super::NetworkConfig::relays) of others. None unless it relays and knows that it can be reached.
    pub addresses: Vec<Multiaddr>,
    /// Peers that it keeps reachable.
    pub reservations: usize,
    /// Connections between two others that pass it.
    pub circuits: usize,
    /// The relays that it uses itself.
    pub uses: Vec<UsedRelay>,
}

/// A relay that a node uses, or would use if it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedRelay {
    /// Who relays.
    pub relay: PeerKey,
    /// Where it is.
    pub address: Multiaddr,
    /// Why it is used.
    pub origin: RelayOrigin,
    /// Whether this node can be reached through it now.
    pub reserved: bool,
}

/// Why a relay is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayOrigin {
    /// It was configured.
    Configured,
    /// It is a peer that this node allows, and relays.
    Friend,
}
