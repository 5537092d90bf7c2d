//! The drivers of federation: they move frames between the devices of paired brains, and know nothing of what the
//! frames mean.
//!
//! Start at [`Network`], which is libp2p, or [`GrpcNetwork`], which is gRPC between nodes that reach each other plainly.
//! The protocol that the frames belong to is sans-IO and lives elsewhere (`cairn-sync`); it decides when to dial, what to
//! send and whom to trust, and learns from [`NetworkEvent`]s what happened.

pub mod grpc;
pub mod network;

pub use grpc::{GrpcConfig, GrpcError, GrpcNetwork};
pub use libp2p::Multiaddr;
pub use network::{
    DialFailure, Handle, Network, NetworkConfig, NetworkError, NetworkEvent, NetworkEvents, NotEd25519, Outgoing,
    PeerKey, RelayOrigin, Relaying, SendError, Strangers, UsedRelay,
};
