//! The libp2p driver of federation: it moves frames between the devices of paired brains, and knows nothing of what
//! they mean.
//!
//! Start at [`Network`]. The protocol that the frames belong to is sans-IO and lives elsewhere (`cairn-sync`); it
//! decides when to dial, what to send and whom to trust, and learns from [`NetworkEvent`]s what happened.

pub mod network;

pub use libp2p::Multiaddr;
pub use network::{
    DialFailure, Network, NetworkConfig, NetworkError, NetworkEvent, NetworkEvents, NotEd25519, PeerKey, SendError,
};
